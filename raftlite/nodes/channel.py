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
ends that mean each other can read messages, and forge them on that connection from then on. Against that helps TLS
(`tls.py`), through which all of the above goes then, or a network without such people.
"""

from __future__ import annotations

import contextlib
import hmac
import secrets
import select
import selectors
import socket
import struct
import time
from dataclasses import dataclass, field
from multiprocessing import AuthenticationError
from multiprocessing.connection import answer_challenge, deliver_challenge
from typing import TYPE_CHECKING, Any, Callable, Dict, Iterator, List, Optional, cast

from raftlite.codec import MAX_MESSAGE_BYTES, dump, load, printable, shorten
from raftlite.errors import MalformedMessage
from raftlite.membership import Membership
from raftlite.nodes import forks

if TYPE_CHECKING:
    from raftlite.nodes.tls import TlsContext

PROTOCOL = 1
SEAL_BYTES = 32
_LENGTH = struct.Struct("!i")
MOST_AT_ONCE = 8_192  # bytes
TLS_ONLY = b"#TLS#"  # what a listener that speaks TLS says without it, to whoever waits for it to begin
_TLS_BEGINS = b"\x16\x03"  # a handshake (RFC 8446, 5.1)
_Selector = getattr(selectors, "PollSelector", selectors.SelectSelector)  # needs no descriptor: there may be none left
_DONT_WAIT: Optional[int] = getattr(socket, "MSG_DONTWAIT", None)
_LOOK: Optional[int] = None if _DONT_WAIT is None else int(socket.MSG_PEEK | _DONT_WAIT)  # made once: it is an enum

_HANDSHAKE_ERRORS = (AuthenticationError, AssertionError, EOFError, OSError, ValueError)


class Refused(ConnectionError):
    """The other side does not want this connection, or this side does not; the message says why."""


class BrokenOff(Refused):
    """The other side has ended the connection amid the handshake: it has died, or has waited for too long."""


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
    tls: Optional[TlsContext] = field(default=None, repr=False)  # None: connections are not encrypted

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
    """A socket that carries frames of bytes, as a `multiprocessing.connection.Connection` does; nothing is unpickled.

    One thread reads at a time, one writes; `shut_down`, from any thread, ends what they are doing.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._received = b""  # and not used yet
        self._deadline: Optional[float] = None
        self.ended_unheard = False  # the peer has ended it without saying anything
        self.was_shut_down = False  # this side has ended it
        self._is_heard = False
        self._handshake: _Handshake  # from authentication on
        forks.add(self)

    def send_bytes(self, data: bytes) -> None:
        """Write one frame; blocks while the peer does not read. Raises `OSError`, for a limit `TimeoutError`."""
        self.send_rest(self._wire(data))

    def send_rest(self, rest: bytes) -> None:
        """Write what `send_at_once` has left over."""
        try:
            self._socket.sendall(rest)
        except BlockingIOError:
            raise TimeoutError("the peer does not read") from None

    def send_at_once(self, data: bytes) -> Optional[bytes]:
        """Write what can be written without waiting and return the rest, which is for `send_rest` before anything else.

        None where this system cannot do so; nothing is written then.
        Raises `OSError` where the peer has ended the connection.
        """
        if _DONT_WAIT is None:
            return None
        if self.has_input():
            raise ConnectionError("the peer ended it")
        wire = self._wire(data)
        try:
            return wire[self._socket.send(wire, _DONT_WAIT) :]
        except BlockingIOError:
            return wire  # not None: what is encrypted once must be sent, and in this order

    def recv_bytes(self, maxlength: int = MAX_MESSAGE_BYTES) -> bytes:
        """Read one frame. Raises `EOFError` at the end, `OSError` for a late one, `MalformedMessage` for a long one."""
        return self._recv_exactly(self._length_of_frame(self._recv_exactly(_LENGTH.size), maxlength))

    def _length_of_frame(self, head: bytes, maxlength: int = MAX_MESSAGE_BYTES) -> int:
        (length,) = _LENGTH.unpack(head)
        if not 0 <= length <= maxlength:
            if head.startswith(_TLS_BEGINS):
                raise MalformedMessage("TLS is spoken there, but not here")
            raise MalformedMessage(f"a frame is longer than {maxlength} bytes")
        return int(length)

    def recv_at_once(self) -> List[bytes]:
        """The frames that are whole by now, without waiting. Raises as `recv_bytes` does, for nobody but its thread."""
        self._received += self._read_at_once()
        frames, begin, end = [], 0, len(self._received)
        while end - begin >= _LENGTH.size:
            after = begin + _LENGTH.size + self._length_of_frame(self._received[begin : begin + _LENGTH.size])
            if after > end:
                break
            frames.append(self._received[begin + _LENGTH.size : after])
            begin = after
        self._received = self._received[begin:]
        return frames

    def wait_for_end(self) -> None:
        """Wait until the peer has ended the connection, or `shut_down` has; what was sent before may be unread."""
        poller = select.poll()
        poller.register(self._socket, select.POLLRDHUP)
        poller.poll()

    def _recv_exactly(self, length: int) -> bytes:
        while len(self._received) < length:
            self._received += self._read()
        data, self._received = self._received[:length], self._received[length:]
        return data

    def _receive(self) -> bytes:
        """Some bytes from the socket. Raises `EOFError` at the end, `TimeoutError` when they are late."""
        if self._deadline is not None:
            remaining = self._deadline - time.monotonic()
            if remaining <= 0:  # where bytes trickle in without end, no single one of them is late
                raise TimeoutError("no answer in time")
            self._socket.settimeout(remaining)
        try:
            part = self._socket.recv(MOST_AT_ONCE)
        except (BlockingIOError, socket.timeout):
            raise TimeoutError("no answer in time") from None
        except ConnectionError:
            self.ended_unheard = not self._is_heard
            raise
        if not part:
            self.ended_unheard = not self._is_heard
            raise EOFError
        self._is_heard = True
        return part

    # --- What a channel that encrypts does otherwise ----------------------------------------------

    def shake_hands(self) -> None:
        """Come to an agreement before anything is said. Raises `Refused`."""

    def why_not(self, node_id: str) -> str:
        """Why the other end cannot be `node_id`, by what it has shown so far; empty if it can."""
        return ""

    def _wire(self, data: bytes) -> bytes:
        """What is to be written for a frame of `data`."""
        return frame(data)

    def _read(self) -> bytes:
        """Some bytes of the frames that come in."""
        return self._receive()

    def _read_at_once(self) -> bytes:
        """Some bytes of the frames that have come in, perhaps none. Raises `EOFError` at the end."""
        try:
            part = self._socket.recv(MOST_AT_ONCE, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return b""
        if not part:
            raise EOFError
        return part

    def has_input(self, seconds: float = 0.0) -> bool:
        """Whether a read would not block after `seconds`: on a channel that only writes, the peer has gone."""
        try:
            if seconds or _LOOK is None:
                with _Selector() as selector:
                    selector.register(self._socket, selectors.EVENT_READ)
                    return bool(selector.select(seconds))
            self._socket.recv(1, _LOOK)
        except BlockingIOError:
            return False
        except (OSError, ValueError):  # it is closed
            return True
        return True

    @contextlib.contextmanager
    def limited(self, seconds: float) -> Iterator[None]:
        """Let the reads in the body take no more than `seconds` altogether."""
        self._deadline = time.monotonic() + seconds
        try:
            yield
        finally:
            self._deadline = None
            with contextlib.suppress(OSError):  # it is closed
                self._socket.settimeout(None)

    def fileno(self) -> int:
        """The descriptor of the socket; -1 when it is closed."""
        return self._socket.fileno()

    @property
    def peer_address(self) -> Any:
        """Where the other end is, as the system says it; for a dialled connection, where it listens."""
        return self._socket.family, self._socket.getpeername()

    def shut_down(self) -> None:
        """End the connection, so that whoever is blocked on it is woken. Never raises."""
        self.was_shut_down = True
        with forks.lock, contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Give the descriptor back. Only for the thread that reads or writes."""
        with forks.lock, contextlib.suppress(OSError):
            self._socket.close()

    def abandon_after_fork(self) -> None:
        self.close()

    def authenticate_as_dialler(self, authkey: bytes) -> None:
        """Raise `Refused` unless both ends know the key."""
        self.shake_hands()
        self._handshake = _Handshake(self, authkey)
        with refusing():
            answer_challenge(cast(Any, self._handshake), _derive(authkey, "dialler"))
            deliver_challenge(cast(Any, self._handshake), _derive(authkey, "listener"))

    def authenticate_as_listener(self, authkey: bytes) -> None:
        """Raise `Refused` unless both ends know the key."""
        self.shake_hands()
        self._handshake = _Handshake(self, authkey)
        with refusing():
            deliver_challenge(cast(Any, self._handshake), _derive(authkey, "dialler"))
            answer_challenge(cast(Any, self._handshake), _derive(authkey, "listener"))

    def send_json(self, content: Dict[str, Any]) -> None:
        """Send one JSON object, sealed; only after authentication. Raises `OSError`."""
        data = dump(content)
        self.send_bytes(self._handshake.seal(data) + data)

    def recv_hello(self) -> Dict[str, Any]:
        """Read one JSON object. Raises `Refused` for one that is late, lacking or altered, `MalformedMessage`."""
        with refusing():
            frame = self.recv_bytes(SEAL_BYTES + MAX_MESSAGE_BYTES)
        seal, data = frame[:SEAL_BYTES], frame[SEAL_BYTES:]
        if not hmac.compare_digest(seal, self._handshake.seal(data)):
            raise Refused("authentication failed: what was said was altered on its way")
        return load(data)

    def exchange(self, content: Dict[str, Any]) -> Dict[str, Any]:
        """Send one JSON object and return the one that answers it. Raises `Refused`, `OSError`, `MalformedMessage`."""
        self.send_json(content)
        answer = self.recv_hello()
        refusal = quoted(answer.get("refused"))
        if refusal:
            raise Disagreed(refusal)
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
        if data == TLS_ONLY:
            raise Disagreed("TLS is spoken there, but not here")
        self.seal(data)
        return data

    def seal(self, data: bytes) -> bytes:
        """What only a holder of the key can say beside `data`, and only at this point of this handshake."""
        self._said.update(len(data).to_bytes(4, "big") + data)
        return self._said.digest()


def frame(data: bytes) -> bytes:
    """`data` with its length before it."""
    return _LENGTH.pack(len(data)) + data


def quoted(reason: Any) -> str:
    """A reason that the other side has given, fit for a log line; empty if there is none."""
    if not reason:
        return ""
    return printable(reason[:500]) if isinstance(reason, str) else shorten(reason)


def _derive(authkey: bytes, purpose: str) -> bytes:
    return hmac.new(authkey, f"raftlite {PROTOCOL} {purpose}".encode(), "sha256").digest()


@contextlib.contextmanager
def refusing(what: str = "") -> Iterator[None]:
    """Turn whatever goes wrong in the body into `Refused`, with `what` before the reason where it has none yet."""
    try:
        yield
    except Refused:
        raise
    except _HANDSHAKE_ERRORS as error:
        kinds = {AuthenticationError: Disagreed, EOFError: BrokenOff, ConnectionError: BrokenOff}
        kind = next((kinds[each] for each in kinds if isinstance(error, each)), Refused)
        raise kind(f"{what}: {_in_words(error)}" if what else _in_words(error)) from None


def _in_words(error: BaseException) -> str:
    if isinstance(error, AuthenticationError):
        return "authentication failed: the keys differ"
    if isinstance(error, EOFError):
        return "the connection ended during the handshake"
    if isinstance(error, ConnectionError):
        return f"the connection ended during the handshake: {error.strerror or error}"
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return str(error) if isinstance(error, MalformedMessage) else "the other side speaks another protocol"
