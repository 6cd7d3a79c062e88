"""One connection between two members: authenticate first, say who one is, then frames of bytes.

dialler                                   listener
   ◀── challenge ── digest ──▶               both prove that they know the key
   ─── challenge ──▶ ◀── digest ──           before anything else is read
   ─── hello ──▶                             protocol, cluster, who, to whom, incarnation
   ◀── welcome, or why refused ──
   ─── messages ──▶

What is proved: hello and welcome come, unaltered, from holders of the key, who speak on this very connection. They are
sealed over all that was said before, so a stranger who passes frames on between two ends, be it from the address of a
dead member, can only have the one hello refused that was meant for somebody else. The key itself answers no challenge;
one key for each end is derived from it. So a challenge handed back to its sender is in vain, and so is one of another
program with the same key, such as a manager of `multiprocessing`, which unpickles what it is sent.

What is not: the messages that follow are neither sealed nor secret. Whoever carries the packets between the very two
ends that mean each other can read messages, and forge them on that connection from then on. Against that helps only
TLS, or a network without such people.
"""

from __future__ import annotations

import contextlib
import hmac
import secrets
import socket
import time
from dataclasses import dataclass, field
from multiprocessing import AuthenticationError
from multiprocessing.connection import Connection, answer_challenge, deliver_challenge
from typing import Any, Callable, Dict, Iterator, Optional, cast

from raftlite.codec import MAX_MESSAGE_BYTES, dump, load, shorten
from raftlite.errors import MalformedMessage
from raftlite.membership import Membership
from raftlite.nodes import forks

PROTOCOL = 1
SEAL_BYTES = 32

_HANDSHAKE_ERRORS = (AuthenticationError, AssertionError, EOFError, OSError, ValueError)


class Refused(ConnectionError):
    """The other side does not want this connection, or this side does not; the message says why."""


class Disagreed(Refused):
    """The two ends are alive and want different things: no further attempt will help until somebody changes one."""


@dataclass
class Identity:
    """Who speaks at this end. The key is kept out of every `repr`."""

    node_id: str
    authkey: bytes = field(repr=False)
    cluster: str = "raftlite"
    address: Optional[str] = None
    incarnation: str = field(default_factory=lambda: secrets.token_hex(8))
    membership: Callable[[], Optional[Membership]] = field(default=lambda: None, repr=False)

    def hello(self, **more: Any) -> Dict[str, Any]:
        """What this end says of itself."""
        membership = self.membership()
        return {
            "protocol": PROTOCOL,
            "cluster": self.cluster,
            "node_id": self.node_id,
            "incarnation": self.incarnation,
            "address": self.address,
            "membership_version": None if membership is None else list(membership.position),
            **more,
        }


class Channel(forks.Forkable):
    """A socket as a `multiprocessing.connection.Connection`, of which only bytes are read and nothing is unpickled.

    One thread reads, one writes; `shut_down`, from any thread, ends what they are doing.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._connection: Connection = Connection(sock.detach())
        self._deadline: Optional[float] = None
        self._handshake: _Handshake  # from authentication on
        forks.add(self)

    def send_bytes(self, data: bytes) -> None:
        """Write one frame; blocks while the peer does not read. Raises `OSError`, for a limit `TimeoutError`."""
        try:
            self._connection.send_bytes(data)
        except BlockingIOError:
            raise TimeoutError("the peer does not read") from None

    def recv_bytes(self, maxlength: int = MAX_MESSAGE_BYTES) -> bytes:
        """Read one frame. Raises `EOFError` at the end, `OSError` for a late one, `MalformedMessage` for a long one."""
        if self._deadline is not None and not self._connection.poll(max(0.0, self._deadline - time.monotonic())):
            raise TimeoutError("no answer in time")
        try:
            return self._connection.recv_bytes(maxlength)
        except BlockingIOError:  # a part of the frame came, and then no more
            raise TimeoutError("no answer in time") from None
        except OSError as error:
            if str(error) == "bad message length":
                raise MalformedMessage(f"a frame is longer than {maxlength} bytes") from None
            raise

    def has_input(self, seconds: float = 0.0) -> bool:
        """Whether a read would not block after `seconds`: on a channel that only writes, the peer has gone."""
        try:
            return self._connection.poll(seconds)
        except (OSError, EOFError):
            return True

    @contextlib.contextmanager
    def limited(self, seconds: float) -> Iterator[None]:
        """Let the reads in the body take no more than `seconds` altogether."""
        self._deadline = time.monotonic() + seconds
        try:
            yield
        finally:
            self._deadline = None

    def shut_down(self) -> None:
        """End the connection, so that whoever is blocked on it is woken. Never raises."""
        with forks.lock, contextlib.suppress(OSError):
            if not self._connection.closed:
                sock = socket.socket(fileno=self._connection.fileno())
                try:
                    sock.shutdown(socket.SHUT_RDWR)
                finally:
                    sock.detach()  # the connection goes on owning the descriptor

    def close(self) -> None:
        """Give the descriptor back. Only for the thread that reads or writes."""
        with forks.lock, contextlib.suppress(OSError):
            self._connection.close()

    def abandon_after_fork(self) -> None:
        self.close()

    def authenticate_as_dialler(self, authkey: bytes) -> None:
        """Raise `Refused` unless both ends know the key."""
        self._handshake = _Handshake(self, authkey)
        with _refusing("authentication failed"):
            answer_challenge(cast(Any, self._handshake), _derive(authkey, "dialler"))
            deliver_challenge(cast(Any, self._handshake), _derive(authkey, "listener"))

    def authenticate_as_listener(self, authkey: bytes) -> None:
        """Raise `Refused` unless both ends know the key."""
        self._handshake = _Handshake(self, authkey)
        with _refusing("authentication failed"):
            deliver_challenge(cast(Any, self._handshake), _derive(authkey, "dialler"))
            answer_challenge(cast(Any, self._handshake), _derive(authkey, "listener"))

    def send_json(self, content: Dict[str, Any]) -> None:
        """Send one JSON object, sealed; only after authentication. Raises `OSError`."""
        data = dump(content)
        self.send_bytes(self._handshake.seal(data) + data)

    def recv_hello(self) -> Dict[str, Any]:
        """Read one JSON object. Raises `Refused` for one that is late, lacking or altered, `MalformedMessage`."""
        with _refusing("the connection ended during the handshake"):
            frame = self.recv_bytes(SEAL_BYTES + MAX_MESSAGE_BYTES)
        seal, data = frame[:SEAL_BYTES], frame[SEAL_BYTES:]
        if not hmac.compare_digest(seal, self._handshake.seal(data)):
            raise Refused("authentication failed: what was said was altered on its way")
        return load(data)

    def exchange(self, content: Dict[str, Any]) -> Dict[str, Any]:
        """Send one JSON object and return the one that answers it. Raises `Refused`, `OSError`, `MalformedMessage`."""
        self.send_json(content)
        answer = self.recv_hello()
        refusal = answer.get("refused")
        if refusal:
            raise Disagreed(refusal[:500] if isinstance(refusal, str) else shorten(refusal))
        return answer


class _Handshake:
    """Stands between `multiprocessing` and a channel, and takes down what is said, for the seals."""

    def __init__(self, channel: Channel, authkey: bytes) -> None:
        self._channel = channel
        self._said = hmac.new(_derive(authkey, "seal"), digestmod="sha256")

    def send_bytes(self, data: bytes) -> None:
        self._channel.send_bytes(data)
        self.seal(data)

    def recv_bytes(self, maxlength: int) -> bytes:
        data = self._channel.recv_bytes(maxlength)
        self.seal(data)
        return data

    def seal(self, data: bytes) -> bytes:
        """What only a holder of the key can say beside `data`, and only at this point of this handshake."""
        self._said.update(len(data).to_bytes(4, "big") + data)
        return self._said.digest()


def _derive(authkey: bytes, purpose: str) -> bytes:
    return hmac.new(authkey, f"raftlite {PROTOCOL} {purpose}".encode(), "sha256").digest()


@contextlib.contextmanager
def _refusing(what: str) -> Iterator[None]:
    try:
        yield
    except _HANDSHAKE_ERRORS as error:
        kind = Disagreed if isinstance(error, AuthenticationError) else Refused
        raise kind(f"{what}: {_in_words(error)}") from None


def _in_words(error: BaseException) -> str:
    if isinstance(error, AuthenticationError):
        return "the keys differ"
    if isinstance(error, EOFError):
        return "the connection ended"
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return str(error) if isinstance(error, MalformedMessage) else "the other side speaks another protocol"
