"""`ConnectionNode`: a handle on a member that is another process, perhaps on another machine.

    election thread ─▶ ConnectionNode: bounded queue ─▶ its thread: dial, write ═══▶ ConnectionListener of the peer:
                                                                                     a thread a connection ─▶ inbox

Each member dials each other one and writes on that connection only; what it reads comes over the connections that the
others dialled. Nobody waits for a slow peer: connecting and writing happen on the node's own thread.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import Any, Callable, Deque, Dict, Optional, Tuple

from raftlite.codec import encode, shorten
from raftlite.errors import MalformedMessage
from raftlite.messages import Message
from raftlite.nodes import forks, secure
from raftlite.nodes.address import (
    Address,
    dial,
    is_path,
    nobody_listens,
    normalize,
)
from raftlite.nodes.base import Node
from raftlite.nodes.channel import Channel, Disagreed, Identity, Refused
from raftlite.nodes.quiet import QuietLog
from raftlite.timing import Timing

logger = logging.getLogger(__name__)

QUEUE_LENGTH = 64  # messages kept for a slow peer; the oldest are dropped, since newer ones make up for them
HINT_PATIENCE = 0.05  # seconds
PROBE_PATIENCE = 0.1  # seconds for which to wait for the reset of a dying process, where a live one would say nothing
NOT_YET = "not connected yet"
LONGEST_PAUSE = 1.0  # seconds between two attempts to connect


@dataclass(frozen=True)
class _Answered:
    """Which process answered last, and where, as the system says it: a name may mean several machines."""

    incarnation: str
    place: Tuple[int, Any]


class ConnectionNode(Node, forks.Forkable):
    """Sends to the member that listens at `address`: `host:port`, `[ipv6]:port` or the path of a Unix socket.

    Made by `ConnectionListener.node`, which gives it this member's identity. Connects at once and again whenever the
    connection ends. Messages older than `timing.message_timeout` are dropped rather than sent late.
    """

    def __init__(
        self,
        node_id: str,
        address: Address,
        identity: Identity,
        *,
        timing: Timing = Timing(),
        voter: bool = True,
        on_doubt: Callable[[str], None] = lambda incarnation: None,
        on_reached: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(node_id)
        self.address: str = normalize(address)
        self.voter = voter
        self.round_trip = 0.0  # seconds that the peer took to answer the last hello
        self.peer_incarnation: Optional[str] = None  # of the process at the other end, while connected to it
        self._identity = identity
        self._timing = timing
        self._on_reached = on_reached  # runs on the node's thread
        self._on_doubt = on_doubt  # told which incarnation of the peer may be gone; runs on the node's thread
        self._answered: Optional[_Answered] = None
        self._succeeded: Optional[str] = None  # the incarnation that answered there before this one
        self._queue: Deque[Tuple[float, Message]] = deque(maxlen=QUEUE_LENGTH)
        self._idle: Optional[Channel] = None  # the connection, while the node's thread has nothing to write to it
        self._rest = b""  # of a message that is half written
        self._wake = threading.Condition()
        self._hinted = False
        self._parked = False  # the peer is gone, and what is sent to it wakes nobody
        self._closing = False
        self._channel: Optional[Channel] = None
        self._lost_at: Optional[float] = time.monotonic()
        self._reason = NOT_YET
        self._quiet = QuietLog(logger)
        forks.add(self)
        name = f"raftlite-{identity.node_id}-to-{node_id}"
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    # --- Any thread -------------------------------------------------------------------------------

    def send_message(self, message: Message) -> None:
        with self._wake:
            if self._idle is None or self._queue or not self._write_at_once(self._idle, message):
                self.dropped += len(self._queue) == QUEUE_LENGTH  # the oldest
                self._queue.append((time.monotonic(), message))
                if not self._parked:
                    self._wake.notify()

    def _write_at_once(self, channel: Channel, message: Message) -> bool:
        """Spare the message the way through the node's thread, if the socket takes it without waiting."""
        data = self._encode(message)
        try:
            rest = b"" if data is None else channel.send_at_once(data)
        except OSError:
            return False  # the node's thread will find out what is wrong
        if rest:
            self._idle, self._rest = None, rest
            self._wake.notify()
        return rest is not None

    def hint(self, incarnation: Optional[str] = None) -> None:
        """Something suggests that the peer has gone or come back, as `incarnation`: look now instead of later."""
        with self._wake:
            if incarnation is not None and incarnation == self.peer_incarnation:
                return  # this very connection is to it
            self._hinted, self._parked = True, False
            self._wake.notify()

    def park(self, incarnation: str) -> None:
        """There is proof that this incarnation of the peer is gone: do nothing until the next hint."""
        with self._wake:
            if self.peer_incarnation in (None, incarnation):  # not where its next life has been quicker
                self._idle, self._parked = None, True

    def is_gone(self, incarnation: str) -> bool:
        """Whether there is proof that this incarnation of the peer is gone; dials its address again to find out.

        It must have answered there itself. The proof is that another has answered there since, or that the system
        refuses a connection. Neither is one where addresses may pass to another machine while their members live.
        """
        if not self._timing.trust_refused:
            return False
        answered = self._answered
        if answered is None or answered.incarnation != incarnation:
            return incarnation == self._succeeded
        patience = self._timing.message_timeout
        if self._identity.tls is not None:  # a live listener waits until it is spoken to
            patience = min(patience / 4, PROBE_PATIENCE)
        return nobody_listens(*answered.place, patience)

    def may_be(self, incarnation: object) -> bool:
        """Whether no other process than this one answers at the address; looks again, as a restart takes a moment."""
        give_up_at = time.monotonic() + 4 * HINT_PATIENCE
        while self.peer_incarnation not in (None, incarnation) and time.monotonic() < give_up_at:
            self.hint()
            time.sleep(0.005)
        return self.peer_incarnation in (None, incarnation)

    @property
    def trouble(self) -> str:  # type: ignore[override]  # a plain attribute where there is nothing to work out
        """Since when the peer cannot be reached, and why; empty while it is connected."""
        lost_at = self._lost_at
        if lost_at is None:
            return ""
        return f"unreachable since {time.monotonic() - lost_at:.0f} s ({self._reason})"

    def close(self) -> None:
        """Send what is queued if connected, then end the connection and the thread.

        Waits for at most 1.5 times `message_timeout`. A thread that dials, or looks a name up, may end later than that,
        and says nothing to whom it reaches then.
        """
        with self._wake:
            self._closing = True
            self._wake.notify()
        if self._channel is not None:
            self._thread.join(self._timing.message_timeout / 2)
            self._shut_down()
        self._thread.join(self._timing.message_timeout)

    def abandon_after_fork(self) -> None:
        self._wake = threading.Condition()
        self._idle = None

    def _shut_down(self) -> None:
        channel = self._channel
        if channel is not None:
            channel.shut_down()

    # --- The node's thread ------------------------------------------------------------------------

    def _run(self) -> None:
        failures = 0
        while not self._closing:
            try:
                channel = self._connect()
            except (OSError, MalformedMessage) as error:  # Refused is an OSError too
                reason = getattr(error, "strerror", None) or str(error)
                self._note_loss(reason, logging.WARNING if isinstance(error, Disagreed) else logging.INFO)
                if isinstance(error, (ConnectionRefusedError, ConnectionResetError)) and self._answered:
                    self._on_doubt(self._answered.incarnation)
                failures += 1
                self._pause(failures)
                continue
            connected_at = time.monotonic()
            try:
                self._write(channel)
            except OSError as error:
                self._note_loss(f"connection lost: {error.strerror or error}")
            finally:
                self.peer_incarnation = None
                self._channel = None
                self._rest = b""
                channel.close()
            lasted = time.monotonic() - connected_at > LONGEST_PAUSE
            failures = 0 if lasted else failures + 1
            if failures > 1:  # connected and ended, again and again: do not spin
                self._pause(failures)

    def _connect(self) -> Channel:
        self._channel = channel = self._dial()
        try:
            if self._closing:
                raise ConnectionAbortedError("the handle was closed meanwhile")
            with channel.limited(self._timing.message_timeout):
                channel.authenticate_as_dialler(self._identity.authkey)
                introduced_at = time.monotonic()
                welcome = self._introduce(channel)
                self.round_trip = time.monotonic() - introduced_at
            self._check(welcome)
            self._note_answer(channel, welcome["incarnation"])
        except BaseException:  # whatever it was, the next attempt has a connection of its own
            self._channel = None
            channel.close()
            raise
        with self._wake:
            self.peer_incarnation = welcome["incarnation"]
            self._hinted, self._parked = False, False
        self._lost_at = None
        self._quiet.reset()
        logger.debug("%s: connected to %s at %s", self._identity.node_id, self.node_id, self.address)
        self._on_reached()
        return channel

    def _introduce(self, channel: Channel) -> Dict[str, Any]:
        """Return the welcome of the peer, if it is who is meant; else tell it why not, so that its log says so too."""
        why_not = channel.why_not(self.node_id)
        welcome = channel.exchange(self._identity.hello(kind="peer", to=self.node_id, refused=why_not))
        if why_not:
            raise Disagreed(why_not)
        return welcome

    def _note_answer(self, channel: Channel, incarnation: str) -> None:
        family, place = channel.peer_address
        if is_path(self.address):
            place = self.address  # the peer's own name for it may be relative to another folder
        former, self._answered = self._answered, _Answered(incarnation, (family, place))
        if former is not None and former.incarnation != incarnation:
            self._succeeded = former.incarnation
            self._on_doubt(former.incarnation)

    def _dial(self) -> Channel:
        mark = object()
        with forks.lock:
            forks.marks.add(mark)
        try:
            sock = dial(self.address, self._timing.message_timeout)
            with forks.lock:
                channel = secure.dialled(sock, self._identity.tls)
                if mark in forks.marks:
                    return channel
        finally:
            forks.marks.discard(mark)
        # A child may have a copy that it does not know of. What is shut down here is of no use there either.
        channel.shut_down()
        channel.close()
        raise ConnectionError("this process was forked meanwhile; it is tried again")

    def _check(self, welcome: Dict[str, Any]) -> None:
        for name, expected in (("cluster", self._identity.cluster), ("node_id", self.node_id)):
            if welcome.get(name) != expected:
                raise Disagreed(f"{name} is {shorten(welcome.get(name))} there, but {expected!r} is meant")
        check_incarnation(welcome)

    def _write(self, channel: Channel) -> None:
        while True:
            message, is_hinted = self._next(channel)
            # The system ends a dead process's connections one after the other: after a hint, give it a moment.
            if channel.has_input(HINT_PATIENCE if is_hinted else 0.0):
                raise ConnectionError("the peer ended it")
            rest, self._rest = self._rest, b""
            if rest:
                channel.send_rest(rest)
            data = None if message is None else self._encode(message)
            if data is not None:
                channel.send_bytes(data)
            elif self._closing and message is None:
                return

    def _next(self, channel: Channel) -> Tuple[Optional[Message], bool]:
        """The next message that is not too old, or None for whatever else is to do; and whether there was a hint."""
        with self._wake:
            self._idle = channel
            while not (self._queue or self._rest or self._closing or self._hinted):
                self._wake.wait()
            self._idle = None
            is_hinted, self._hinted = self._hinted, False
            while self._queue:
                sent_at, message = self._queue.popleft()
                if time.monotonic() - sent_at < self._timing.message_timeout:
                    return message, is_hinted
                self.dropped += 1
            return None, is_hinted

    def _encode(self, message: Message) -> Optional[bytes]:
        try:
            return encode(message)
        except MalformedMessage:
            logger.exception("%s: a message for %s cannot be sent", self._identity.node_id, self.node_id)
            self.dropped += 1
            return None

    def _note_loss(self, reason: str, level: int = logging.INFO) -> None:
        self._reason = reason
        if self._lost_at is None:
            self._lost_at = time.monotonic()
        if not self._closing:
            self._quiet.log(level, f"{self._identity.node_id}: {self.node_id} cannot be reached: {reason}")

    def _pause(self, failures: int) -> None:
        """At once after the first failure, then with growing, jittered pauses; a hint ends the pause."""
        longest = min(LONGEST_PAUSE, 0.01 * 2 ** min(failures, 10))
        with self._wake:
            if not (self._closing or self._hinted):
                self._wake.wait(random.uniform(longest / 2, longest))
            self._hinted = False

    def __repr__(self) -> str:
        return f"ConnectionNode({self.node_id!r}, {self.address!r})"


def check_incarnation(hello: Dict[str, Any]) -> None:
    """Raise `Refused` for a hello or welcome that does not say which process speaks."""
    if not isinstance(hello.get("incarnation"), str):
        raise Refused(f"incarnation is {shorten(hello.get('incarnation'))}, but must be a text")
