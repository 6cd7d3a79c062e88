"""`PollingInbox`: an inbox whose reader reads the connections of peers itself, so that no message waits for a thread.

    peer ═══▶ socket ───────────────┐
                                    ├─▶ get(), on the election thread: waits for both, reads what has come
    program, listener ─▶ put() ─────┘

A wake-up of a thread costs a takeover 0.1 ms, and each of its four messages would need one more. The thread of each
connection only waits for its end, and then reads what is left, so that the news of it comes last.
"""

from __future__ import annotations

import contextlib
import queue
import select
import socket
import threading
import time
from typing import Any, Callable, Dict, NamedTuple, Optional

from raftlite.errors import MalformedMessage
from raftlite.nodes import forks
from raftlite.nodes.channel import Channel

CAN_POLL = hasattr(select, "epoll")
NEVER = float("inf")
LONGEST_WAIT = 86_400.0  # seconds: epoll can be told no more than 2**31 milliseconds
MOST_WAKES = 4_096

Hear = Callable[[bytes], Any]


class _Lent(NamedTuple):
    """A connection that the reader of the inbox reads, and what makes a message of a frame of it."""

    channel: Channel
    hear: Hear


class PollingInbox(queue.Queue, forks.Forkable):  # type: ignore[type-arg]  # Python 3.9 cannot subclass Queue[Any]
    """A `queue.Queue` for one reader, who is woken by sockets as well. Only where the system has `epoll`."""

    def __init__(self) -> None:
        super().__init__()
        self._lent: Dict[int, _Lent] = {}
        self._failures: Dict[Channel, Exception] = {}  # what the reader found wrong, for the connection's thread
        self._reading = threading.Lock()  # held by whoever reads from sockets, or says which are to be read
        self._waiting = threading.Lock()  # held by the reader while it waits
        self._is_asleep = False
        self._is_closed = False
        self.has_reader = False  # until somebody has waited for a message, each connection's thread reads for itself
        with forks.lock:
            self._epoll = select.epoll()
            self._wakee, self._waker = socket.socketpair()
            self._wakee.setblocking(False)
            self._waker.setblocking(False)
            self._epoll.register(self._wakee, select.EPOLLIN)
            forks.add(self)
        self._wakee_fd = self._wakee.fileno()

    # --- The reader -------------------------------------------------------------------------------

    def get(self, block: bool = True, timeout: Optional[float] = None) -> Any:
        """As `queue.Queue.get`; what peers have sent is read here."""
        if not block:
            timeout = 0.0
        self.has_reader = self.has_reader or block
        give_up_at = NEVER if timeout is None else time.monotonic() + timeout
        while not self._is_closed:
            if not self.queue:
                with self._waiting:
                    self._poll(max(0.0, give_up_at - time.monotonic()))
            if self.queue:
                return self.queue.popleft()  # nobody else reads, and nobody waits for room
            if time.monotonic() >= give_up_at:
                break
        return super().get(block and self._is_closed, timeout)

    def _poll(self, seconds: float) -> None:
        """Read what has come within `seconds`, or until somebody puts something in."""
        if self._is_closed:
            return
        self._is_asleep = True  # before the look: whoever puts something in between sees one or the other
        try:
            ready = self._epoll.poll(0 if self.queue else min(seconds, LONGEST_WAIT))
        finally:
            self._is_asleep = False
        with self._reading:
            for fd, _ in ready:
                if fd == self._wakee_fd:
                    self._wakee.recv(MOST_WAKES)
                else:
                    self._read(fd)

    def qsize(self) -> int:
        """As `queue.Queue.qsize`; what peers have sent and nobody has read counts."""
        if self._waiting.acquire(blocking=False):  # else the reader is about to read it
            try:
                self._poll(0.0)
            finally:
                self._waiting.release()
        return self._qsize()

    def empty(self) -> bool:
        """As `queue.Queue.empty`; see `qsize`."""
        return not self.qsize()

    def _read(self, fd: int) -> None:
        lent = self._lent.get(fd)
        if lent is None:
            return
        try:
            for data in lent.channel.recv_at_once():
                self.queue.append(lent.hear(data))  # whoever calls this wakes the reader if it has to be woken
        except (EOFError, OSError, MalformedMessage) as error:
            if isinstance(error, MalformedMessage):
                self._failures[lent.channel] = error
            self._give_back(fd)
            lent.channel.shut_down()  # wakes its thread, if the end itself has not

    # --- Any thread -------------------------------------------------------------------------------

    def _put(self, item: Any) -> None:
        super()._put(item)
        self._wake_if_asleep()

    def read_to_the_end(self, channel: Channel, hear: Hear) -> None:
        """Let the reader read `channel` and make messages of its frames by `hear`, until the peer ends it.

        What comes last may be left for the caller to read. Raises `MalformedMessage` that `hear` has raised.
        """
        self._lend(channel, hear)
        try:
            channel.wait_for_end()
        finally:
            failure = self._take_back(channel)
        if failure is not None:
            raise failure

    def close(self) -> None:
        """Read sockets no more; what is in the queue can still be had. Twice is fine."""
        self._is_closed = True
        self._wake()
        with self._waiting, self._reading:
            self._close_files()

    def abandon_after_fork(self) -> None:
        """In a forked child, where nobody reads."""
        self._is_closed = True
        self._reading, self._waiting = threading.Lock(), threading.Lock()
        self._close_files()

    def _lend(self, channel: Channel, hear: Hear) -> None:
        with self._reading:
            fd = channel.fileno()
            if fd >= 0 and not self._is_closed:
                self._lent[fd] = _Lent(channel, hear)
                self._epoll.register(fd, select.EPOLLIN)
                self._read(fd)  # what came together with the end of the handshake wakes nobody any more
                self._wake_if_asleep()

    def _take_back(self, channel: Channel) -> Optional[Exception]:
        with self._reading:
            fd = channel.fileno()
            if fd in self._lent and self._lent[fd].channel is channel:
                self._give_back(fd)
            return self._failures.pop(channel, None)

    def _give_back(self, fd: int) -> None:
        del self._lent[fd]
        with contextlib.suppress(OSError, ValueError):  # it was closed, or this inbox was
            self._epoll.unregister(fd)

    def _wake_if_asleep(self) -> None:
        if self._is_asleep:
            self._is_asleep = False
            self._wake()

    def _wake(self) -> None:
        with contextlib.suppress(OSError):  # it is full of wake-ups, or closed
            self._waker.send(b"x")

    def _close_files(self) -> None:
        with forks.lock:
            for file in (self._epoll, self._wakee, self._waker):
                file.close()


def new_inbox() -> queue.Queue[Any]:
    """The best that this system has for connections."""
    return PollingInbox() if CAN_POLL else queue.Queue()
