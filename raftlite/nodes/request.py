"""Ask a member from outside the cluster, as the command line does."""

from __future__ import annotations

from typing import Any, Dict, Optional

from raftlite.errors import MalformedMessage
from raftlite.nodes import secure
from raftlite.nodes.address import Address, dial, normalize
from raftlite.nodes.channel import Identity, Refused


def ask_member(
    address: Address,
    authkey: bytes,
    cluster: str,
    timeout: float,
    request: str,
    ssl_context: Optional[secure.AnyContext] = None,
    **details: Any,
) -> Dict[str, Any]:
    """Return the status of the member at `address`, once it has carried out `request`.

    Raises `OSError` where nobody answers within `timeout` seconds, and `Refused` with the member's reason.
    """
    hello = Identity("raftlite", authkey, cluster).hello(kind="request", request=request, timeout=timeout, **details)
    tls = secure.checked(ssl_context)
    channel = secure.dialled(dial(normalize(address), timeout), tls)
    patience = timeout if request == "status" else timeout + 1.0  # the member waits itself, and then says why
    try:
        with channel.limited(patience):
            channel.authenticate_as_dialler(authkey)
            return channel.exchange(hello)
    except MalformedMessage as error:
        raise Refused(f"{address} does not speak raftlite: {error}") from None
    except Refused as error:
        raise Refused(f"{address}: {error}") from None
    finally:
        channel.close()
