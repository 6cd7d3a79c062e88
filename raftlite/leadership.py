"""One grant of leadership, and the thread on which a program hears of it.

election thread ──▶ Leadership (token, lease, lost) ──▶ read by any thread
       └──────────▶ Callbacks' queue and thread ──▶ on_elected / on_lost / on_leader_changed, one at a time, in order
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import queue
import threading
import time
from dataclasses import dataclass
from typing import Any, Callable, Iterator, List, Optional

from raftlite.errors import ConfigError, LeadershipLost

logger = logging.getLogger(__name__)

SHORTEST_WAIT = 0.01  # seconds until a lease is looked at again; the clock that it ends by may stand still
LATE = 5.0  # seconds that a callback may go on after the loss of leadership before the log says what waits for it


class Lost(threading.Event):
    """Set when a grant is over. It asks the lease itself as well: nobody who looks or waits is told so too late.

    A process that was suspended may run the program's threads again before it runs the one that would set it, and that
    one may be waiting for the disk. `remaining` says for how many seconds the grant holds, if nothing more is heard.
    """

    def __init__(self, remaining: Callable[[], float]) -> None:
        super().__init__()
        self._remaining = remaining

    def is_set(self) -> bool:
        return self.was_set or self._remaining() <= 0

    def wait(self, timeout: Optional[float] = None) -> bool:
        give_up_at = math.inf if timeout is None else time.monotonic() + timeout
        while not self.is_set():
            patience = give_up_at - time.monotonic()
            if patience <= 0:
                return False
            super().wait(min(patience, max(self._remaining(), SHORTEST_WAIT), threading.TIMEOUT_MAX))
        return True

    @property
    def was_set(self) -> bool:
        """Whether `set` was called."""
        return super().is_set()


class Leadership:
    """One grant of leadership. It ends once and never comes back to life; a later grant has a higher `token`.

    Every attribute may be read from any thread, also in a signal handler. `token` is the term (paper, section 5.1):
    hand it to the resource that you write to, and let the resource refuse a token lower than the highest it has seen.
    `lost` is set when the grant is over, before `on_lost` runs and before anybody else can lead.
    """

    def __init__(self, node_id: str, token: int, lease_expires_at: float, clock: Callable[[], float]) -> None:
        self.node_id = node_id
        self.token = token
        self.lost = Lost(lambda: self.remaining)
        self._lease_expires_at = lease_expires_at
        self._clock = clock
        self._was_over = False  # when somebody looked
        self._lock = threading.RLock()  # a signal handler may look while its thread does

    @property
    def remaining(self) -> float:
        """For how many seconds nobody else can lead, if nothing more is heard; 0.0 once the grant is over."""
        with self._lock:
            seconds = self._lease_expires_at - self._clock()
            self._was_over = self._was_over or seconds <= 0  # found here first, perhaps: this process was suspended
            return 0.0 if self._was_over or self.lost.was_set else seconds

    @property
    def valid(self) -> bool:
        """Whether this member leads at this instant, under this token."""
        return self.remaining > 0

    def check(self) -> None:
        """Raise `LeadershipLost` unless the grant is valid at this instant."""
        if not self.valid:
            raise LeadershipLost(f"{self.node_id} no longer leads with token {self.token}")

    def _renew(self, lease_expires_at: float) -> bool:
        """Prolong the lease; False if the program has seen it run out already. Runs on the election thread."""
        with self._lock:
            self._was_over = self._was_over or self._clock() >= self._lease_expires_at
            self._lease_expires_at = lease_expires_at
            return not (self._was_over or self.lost.was_set)

    def __repr__(self) -> str:
        return f"Leadership({self.node_id!r}, token={self.token}, {'lost' if self.lost.is_set() else 'held'})"

    def _abandon_after_fork(self) -> None:
        # Another thread may have held the old lock, and the event's, when this process was forked.
        self._lock, self.lost = threading.RLock(), Lost(lambda: 0.0)
        self.lost.set()


Callback = Callable[..., Any]


def check_callback(name: str, callback: object) -> None:
    """Raise `ConfigError` for what cannot be called: it would only be found out by each election, which it undoes."""
    if not callable(callback):
        raise ConfigError(f"{name} is {callback!r}, but must be callable")


def _look_again() -> None:
    """In the queue of callbacks: there is another lease to look at. It is nothing that anybody waits for."""


def _name_of(callback: Callback) -> str:
    return getattr(callback, "__qualname__", "") or repr(callback)


@dataclass(eq=False)
class _Hold:
    """A body that runs in this process, on this thread, while its member leads."""

    process: int
    thread: int


class Callbacks:
    """Runs a program's callbacks on a thread of their own, one at a time and in order.

    A slow one delays later callbacks and nothing else. Every `on_elected` is followed by one `on_lost` with the same
    grant before the next `on_elected`. One that is registered while this member leads is called for that grant too.
    """

    def __init__(self, name: str, resign: Callable[[int], None]) -> None:
        self._resign = resign  # is given the token of the grant
        self._elected: List[Callback] = []
        self._lost: List[Callback] = []
        self._leader_changed: List[Callback] = []
        self._held: Optional[Leadership] = None
        self._running: Optional[Callback] = None
        self._watch: Optional[threading.Timer] = None  # of the one that runs while leadership is lost
        self._lock = threading.Lock()
        self._queue: queue.SimpleQueue[Optional[Callable[[], Any]]] = queue.SimpleQueue()
        self._due = 0  # calls that were submitted and have not finished, and holds
        self._holds: List[_Hold] = []
        self._waiting: List[Callable[[], Any]] = []  # to be called when nothing is due
        self._idle = threading.Condition()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    # --- Registering: any thread ------------------------------------------------------------------

    def on_elected(self, callback: Callback) -> None:
        with self._lock:
            self._elected.append(callback)
            if self._held is not None:
                self._submit_elected(callback, self._held)

    def on_lost(self, callback: Callback) -> None:
        with self._lock:
            self._lost.append(callback)

    def on_leader_changed(self, callback: Callback) -> None:
        with self._lock:
            self._leader_changed.append(callback)

    # --- Calling: the election thread -------------------------------------------------------------

    def grant(self, node_id: str, token: int, lease_expires_at: float, clock: Callable[[], float]) -> Leadership:
        """Make what `elected` then tells the program of."""
        return Leadership(node_id, token, lease_expires_at, clock)

    def elected(self, leadership: Leadership) -> None:
        """A grant begins."""
        with self._lock:
            self._held = leadership
            for callback in self._elected:
                self._submit_elected(callback, leadership)
            self._queue.put(_look_again)

    def lost(self) -> None:
        """The grant, if there is one, is over: `lost` is set first, then the program is told."""
        with self._lock:
            if self._held is not None:
                self._lose(self._held)

    def _lose(self, leadership: Leadership) -> None:
        """Holding the lock."""
        self._held = None
        leadership.lost.set()
        for callback in self._lost:
            self._submit(callback, leadership)
        self._watch_what_runs()

    def _watch_what_runs(self) -> None:
        """Holding the lock. A callback that does the leader's work itself, and never looks, is not found otherwise."""
        if self._running is not None and self._watch is None:
            self._watch = threading.Timer(LATE, self._tell_what_runs, [self._running])
            self._watch.name, self._watch.daemon = f"{self._thread.name}-watch", True
            with contextlib.suppress(RuntimeError):  # the system has no threads left
                self._watch.start()

    def _tell_what_runs(self, callback: Callback) -> None:
        logger.warning(
            "%s: %s still runs, %g s after leadership was lost, and on_lost waits for it: let it end when "
            "leadership.lost is set",
            *(self._thread.name, _name_of(callback), LATE),
        )

    def leader_changed(self, leader_id: Optional[str], term: int) -> None:
        """Another leader, or none."""
        with self._lock:
            for callback in self._leader_changed:
                self._submit(callback, leader_id, term)

    def start(self) -> None:
        self._thread.start()

    @property
    def is_idle(self) -> bool:
        """Whether every call that was due has finished."""
        return self._due == 0

    @property
    def due(self) -> int:
        """How many calls have not finished, and bodies that hold leadership."""
        return self._due

    @property
    def busy(self) -> str:
        """Which callback runs, in words."""
        callback = self._running
        return "a callback, a handle or the disk" if callback is None else f"the callback {_name_of(callback)}"

    @property
    def is_alive(self) -> bool:
        """Whether a callback runs or may yet run."""
        return self._thread.is_alive()

    @property
    def is_current_thread(self) -> bool:
        """Whether the caller is a callback."""
        return threading.current_thread() is self._thread

    def then(self, call: Callable[[], Any]) -> None:
        """Make `call` as soon as nothing is due, on the thread that has finished last."""
        with self._idle:
            if self._due:
                self._waiting.append(call)
                return
        call()

    @contextlib.contextmanager
    def holding(self, leadership: Leadership) -> Iterator[Leadership]:
        """Wait for the body as for a callback, and resign `leadership` at its end. Runs on the program's threads."""
        hold = _Hold(os.getpid(), threading.get_ident())
        with self._idle:
            self._holds.append(hold)
            self._due += 1
        try:
            yield leadership
        finally:
            if hold.process == os.getpid():  # in a fork of it, the grant is the parent's
                self._release([hold])
                if leadership.valid:
                    self._resign(leadership.token)
                    leadership.lost.wait(leadership.remaining)

    def release_current_thread(self) -> None:
        """The caller is about to wait for the election thread, which therefore must not wait for the caller."""
        here = threading.get_ident()
        self._release([hold for hold in self._holds if hold.thread == here])

    def _release(self, holds: List[_Hold]) -> None:
        for hold in holds:
            with self._idle:
                if hold not in self._holds:
                    continue  # the body has stopped the member itself
                self._holds.remove(hold)
            self._finish_one()

    def wait(self, timeout: float) -> None:
        """Wait until nothing is due, or for `timeout` seconds."""
        with self._idle:
            self._idle.wait_for(lambda: self._due == 0, timeout)

    def finish(self) -> None:
        """Nothing more will be due: the thread ends after what is."""
        self._queue.put(None)

    def join(self, timeout: Optional[float]) -> bool:
        """Wait for the thread to end. False if it has not after `timeout` seconds; True at once from a callback."""
        if self.is_current_thread:
            return True
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _submit(self, callback: Callback, *args: Any) -> None:
        self._put(lambda: self._call(callback, *args))

    def _submit_elected(self, callback: Callback, leadership: Leadership) -> None:
        self._put(lambda: self._call(callback, leadership, on_error=lambda: self._resign(leadership.token)))

    def _put(self, call: Callable[[], Any]) -> None:
        with self._idle:
            self._due += 1
        self._queue.put(call)

    def _call(self, callback: Callback, *args: Any, on_error: Optional[Callable[[], None]] = None) -> None:
        self._running = callback
        try:
            callback(*args)
        except BaseException:  # whatever the program raises, sys.exit() too: its other callbacks need this thread
            logger.exception("%s: %r failed", self._thread.name, callback)
            if on_error is not None:
                on_error()
        finally:
            self._stop_watching()

    def _stop_watching(self) -> None:
        with self._lock:
            self._running, watch, self._watch = None, self._watch, None
        if watch is not None:
            watch.cancel()

    def _run(self) -> None:
        for call in iter(self._next, None):
            call()
            self._finish_one()

    def _next(self) -> Optional[Callable[[], Any]]:
        """What is to be called next. A lease that runs out is noticed here, too: the election may wait for its disk."""
        while True:
            held = self._held
            try:
                call = self._queue.get(timeout=None if held is None else max(held.remaining, SHORTEST_WAIT))
            except queue.Empty:
                self._lose_if_over(held)
            else:
                if call is not _look_again:
                    return call

    def _lose_if_over(self, leadership: Optional[Leadership]) -> None:
        with self._lock:
            if leadership is not None and leadership is self._held and not leadership.valid:
                self._lose(leadership)

    def _finish_one(self) -> None:
        with self._idle:
            self._due -= 1
            self._idle.notify_all()
            calls = [] if self._due else self._waiting
            if calls:
                self._waiting = []
        for call in calls:
            call()
