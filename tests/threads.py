"""What the tests with real threads share: a clock that is assigned, peers that the test plays, waiting for events."""

from __future__ import annotations

import contextlib
import queue
import sys
import threading
import time
from typing import Any, Callable, Iterable, Iterator, List, Optional, Type, TypeVar

from harness import TIMING, Draws

from raftlite.leadership import Leadership
from raftlite.messages import (
    Heartbeat,
    HeartbeatResponse,
    PeerDown,
    RequestVote,
    RequestVoteResponse,
)
from raftlite.nodes import Node
from raftlite.thread import ElectionThread

PATIENCE = 30.0  # seconds; many times what anything here takes

T = TypeVar("T")


def eventually(look: Callable[[], Optional[T]], what: str) -> T:
    """Wait until `look` returns something true, and return it."""
    give_up_at = time.monotonic() + PATIENCE
    while True:
        found = look()
        if found:
            return found
        assert time.monotonic() < give_up_at, f"not {what} within {PATIENCE} s"
        time.sleep(0.001)


def is_inside(thread: threading.Thread, function: str) -> bool:
    """Whether `thread` is in a function of this name, or in one that it has called."""
    frame = sys._current_frames().get(thread.ident or 0)
    while frame is not None and frame.f_code.co_name != function:
        frame = frame.f_back
    return frame is not None


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Follower(Node):
    """A peer that the test plays: it grants every vote and answers every heartbeat, as long as it is told to."""

    def __init__(self, node_id: str, inbox: queue.Queue[Any], *, grants: bool = True, answers: bool = True) -> None:
        super().__init__(node_id)
        self.grants, self.answers = grants, answers
        self.received: queue.Queue[Any] = queue.Queue()
        self.closings = 0
        self._inbox = inbox

    def send_message(self, message: Any) -> None:
        self.received.put(message)
        if isinstance(message, RequestVote) and self.grants:
            self._inbox.put(RequestVoteResponse(message.term, self.node_id, True, message.pre_vote))
        if isinstance(message, Heartbeat) and self.answers:
            self.answer(message)

    def answer(self, message: Heartbeat) -> None:
        """Promise not to vote for an election timeout."""
        position = message.membership_version
        self._inbox.put(HeartbeatResponse(message.term, self.node_id, message.round, position, TIMING.election_timeout))

    def close(self) -> None:
        self.closings += 1

    def expect(self, kind: Type[T]) -> T:
        """Wait for a message of this kind, and drop those before it."""
        while True:
            message = self.received.get(timeout=PATIENCE)
            if isinstance(message, kind):
                return message

    def drain(self, kind: Type[T]) -> List[T]:
        """The messages of this kind that have arrived; drop the others."""
        arrived = [self.received.get_nowait() for _ in range(self.received.qsize())]
        return [message for message in arrived if isinstance(message, kind)]


class Inbox(queue.Queue[Any]):
    """An inbox that knows how much of it has been dealt with: whoever asks for the next is done with the last."""

    def __init__(self) -> None:
        super().__init__()
        self._progress = threading.Condition()
        self._given = self._taken = self._done = 0

    def put(self, item: Any, block: bool = True, timeout: Optional[float] = None) -> None:
        with self._progress:
            self._given += 1
        super().put(item, block, timeout)

    def get(self, block: bool = True, timeout: Optional[float] = None) -> Any:
        with self._progress:
            self._done = self._taken
            self._progress.notify_all()
        item = super().get(block, timeout)
        self._taken += 1
        return item

    def settle(self) -> None:
        self.put(PeerDown("nobody"))
        with self._progress:
            assert self._progress.wait_for(lambda: self._done >= self._given, PATIENCE), "the thread is stuck"


def new_thread(node_id: str = "a", nodes: Iterable[Any] = (), **settings: Any) -> ElectionThread:
    """A member whose election timeout is 1.5 seconds each time."""
    settings.setdefault("timing", TIMING)
    settings.setdefault("rng", Draws(0.5))
    settings.setdefault("inbox", Inbox())
    return ElectionThread(node_id, nodes, **settings)


def wake(*threads: ElectionThread) -> None:
    """Let the threads look at the clock."""
    for thread in threads:
        thread.inbox.put(PeerDown("nobody"))


def settle(thread: ElectionThread) -> None:
    """Wait until the thread has dealt with all that it was told, and with whatever was due by then."""
    assert isinstance(thread.inbox, Inbox)
    thread.inbox.settle()


def unread(thread: ElectionThread, kind: Type[T]) -> List[T]:
    """The events of this kind that nobody has read yet."""
    events = [thread.events.get_nowait() for _ in range(thread.events.qsize())]
    return [event for event in events if isinstance(event, kind)]


class Scene:
    """A member `thread` that leads two followers, played by the test, under an assigned clock."""

    def __init__(self, clock: Clock, followers: List[Follower], thread: ElectionThread) -> None:
        self.clock, self.followers, self.thread = clock, followers, thread

    def pass_time(self, seconds: float) -> None:
        """Let the clock go on by so much, and the thread see it."""
        self.clock.now += seconds
        wake(self.thread)

    def silence(self) -> None:
        """The followers answer no more heartbeats."""
        for follower in self.followers:
            follower.answers = False

    def wake_up(self) -> None:
        """They answer again."""
        for follower in self.followers:
            follower.answers = True

    def win(self) -> Leadership:
        """Let the election timeout pass, and wait for the grant."""
        settle(self.thread)
        self.pass_time(1.5)
        return self.thread.wait_until_leader(PATIENCE)


@contextlib.contextmanager
def a_candidate(**settings: Any) -> Iterator[Scene]:
    """A scene in which the followers are ready, and no time has passed yet."""
    clock = settings.setdefault("clock", Clock())
    inbox = settings.setdefault("inbox", Inbox())
    followers = settings.pop("followers", None) or [Follower(node_id, inbox) for node_id in "bc"]
    with new_thread("a", followers, **settings) as thread:
        yield Scene(clock, followers, thread)


@contextlib.contextmanager
def a_leader(**settings: Any) -> Iterator[Scene]:
    """A scene in which the member leads in term 1, and has nothing left to do at that moment."""
    with a_candidate(**settings) as scene:
        scene.win()
        settle(scene.thread)  # or what it does about its first rounds would come amid what the test does
        yield scene


class Gate:
    """Holds whoever comes to it while it is closed. Also a context manager, at whose end it stands open."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self._open = threading.Event()
        self._open.set()

    def close(self) -> None:
        self.reached.clear()
        self._open.clear()

    def open(self) -> None:
        self._open.set()

    def pass_through(self) -> None:
        if not self._open.is_set():
            self.reached.set()
            assert self._open.wait(PATIENCE), "the gate was left closed"

    def wait_until_reached(self) -> None:
        assert self.reached.wait(PATIENCE), "nobody came to the gate"

    def __enter__(self) -> Gate:
        self.close()
        return self

    def __exit__(self, *_: object) -> None:
        self.open()
