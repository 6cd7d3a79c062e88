"""Ask a member from outside the cluster, as `raftlite status` does."""

from __future__ import annotations

from typing import Any, Dict

from raftlite.errors import MalformedMessage
from raftlite.nodes.address import Address, dial, normalize
from raftlite.nodes.channel import Channel, Identity, Refused


def request_status(address: Address, authkey: bytes, cluster: str, timeout: float) -> Dict[str, Any]:
    """Return the status of the member at `address` as plain data. Raises `OSError` where there is no answer."""
    identity = Identity("raftlite status", authkey, cluster)
    channel = Channel(dial(normalize(address), timeout))
    try:
        with channel.limited(timeout):
            channel.authenticate_as_dialler(authkey)
            return channel.exchange(identity.hello(kind="request", request="status"))
    except MalformedMessage as error:
        raise Refused(f"{address} does not speak raftlite: {error}") from None
    except Refused as error:
        raise Refused(f"{address}: {error}") from None
    finally:
        channel.close()
