"""Members that are real `ElectionThread`s, on a clock that can be stopped.

    conductor thread ─▶ the next thing due ─▶ inbox of a member ─▶ its ElectionThread ─▶ Step ─▶ recorder
           ▲                                                             └─ LabNode ─▶ links ─▶ agenda
           └─ wakes when it is due, and when a member waits for more ◀─────────┘

One thing happens at a time, and the clock goes on only when every member waits for more. Whoever makes something happen
has the baton: the conductor, or a thread that does something to the lab. Members take only the clock's lock.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from typing import Any, Callable, Dict, Iterator, List, Optional

from raftlite.lab.clock import LabClock, LabInbox
from raftlite.lab.links import NEVER, Flight
from raftlite.lab.rules import Vanish
from raftlite.lab.stage import Condition, LabClosed, Plan, Timed, Timeline
from raftlite.lab.thread import LabThread
from raftlite.lab.waiter import Waiters
from raftlite.nodes.base import Node
from raftlite.steps import Step
from raftlite.storage import MemoryStorage

logger = logging.getLogger(__name__)

PATIENCE = 5.0  # real seconds for a thread to end
GRACE = 0.05  # real seconds that the clock waits for a thread which has done something, or waited, to do the next thing


class _Member(Timed):
    """One member: its disk, and while it runs its thread and inbox."""

    def __init__(self, n: str) -> None:
        self.n = n
        self.disk = MemoryStorage()
        self.lives = 0
        self.life: Optional[_Life] = None

    @property
    def due(self) -> float:
        """When its timer runs out."""
        return self.life.inbox.due if self.life is not None and not self.life.inbox.is_frozen else NEVER


class _Life:
    """One run of a member. It is over for the stage as soon as the member has another or none."""

    def __init__(self, stage: ThreadStage, member: _Member) -> None:
        plan, n = stage.plan, member.n
        self.n = n
        self.member = member
        self.stage = stage
        self.has_ended = False
        self.inbox = LabInbox(stage.clock, stage.wake)
        self.thread = LabThread(
            plan.book,
            self.end,
            n,
            [_LabNode(peer, self) for peer in plan.others(n)],
            timing=plan.timing,
            min_nodes=plan.min_nodes,
            storage=member.disk,
            inbox=self.inbox,
            clock=stage.clock,
            rng=plan.draws(n, member.lives),
            steps=_Watcher(self),
        )

    @property
    def is_busy(self) -> bool:
        return not self.has_ended and not self.inbox.is_idle

    @property
    def is_over(self) -> bool:
        return self.member.life is not self

    def end(self, failure: Optional[BaseException]) -> None:
        with self.stage.clock.lock:
            self.has_ended = True
            if not self.is_over:
                self.member.life = None
                self.stage.on_lost(self.n, "stopped" if failure is None else "failed")
            self.stage.wake()


class _LabNode(Node):
    """Hands what a member says to the links."""

    def __init__(self, node_id: str, life: _Life) -> None:
        super().__init__(node_id)
        self._life = life

    def send_message(self, message: Any) -> None:
        life = self._life
        with life.stage.clock.lock:
            if not life.is_over:
                life.stage.links.send(life.n, self.node_id, message)


class _Watcher:
    """Stands where a member has its queue of steps, and writes them down at once."""

    def __init__(self, life: _Life) -> None:
        self._life = life

    def put_nowait(self, step: Step) -> None:
        life = self._life
        with life.stage.clock.lock:
            if not life.is_over:
                life.stage.write_down(life.n, step, life.inbox.take_flight())


class ThreadStage(Timeline[_Member]):
    """Threads of this process."""

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self.clock = LabClock(plan.scale)
        self._members: Dict[str, _Member] = {n: _Member(n) for n in plan.nodes}
        self._lives: List[_Life] = []  # those whose thread may not have ended
        self._changed = threading.Condition(self.clock.lock)
        self._baton = threading.RLock()
        self._wanting = 0  # threads that want the baton: the conductor lets them go first
        self._holders = 0  # bodies of `quiet` that run
        self._has_news = False  # something has happened that waiters have not looked at
        self._waiters = Waiters(self._changed)
        self._expected: Dict[int, float] = {}  # threads whose wait is over, and until when the clock waits for them
        self._is_closed = False
        self._conductor = threading.Thread(target=self._conduct, name="raftlite-lab-conductor", daemon=True)

    # --- Time -------------------------------------------------------------------------------------

    @property
    def now(self) -> float:
        return self.clock()

    @contextlib.contextmanager
    def quiet(self) -> Iterator[None]:
        self._take_baton()
        try:
            with self.clock.lock:
                if self._is_closed:
                    raise LabClosed("the lab is closed")
                self.clock.hold()
                yield
        finally:
            self._pass_baton_on()

    def _take_baton(self) -> None:
        with self.clock.lock:
            self._wanting += 1
            self._expected.pop(threading.get_ident(), None)
        has_it = False
        try:
            has_it = self._baton.acquire()
        finally:  # also where Ctrl-C has ended the wait
            with self.clock.lock:
                self._wanting -= 1
                self._holders += has_it

    def _pass_baton_on(self) -> None:
        with self.clock.lock:
            self._holders -= 1
            self._expect(threading.get_ident())
            self._has_news = True
            self._changed.notify_all()
        self._baton.release()

    def look(self, read: Callable[[], Any]) -> Any:
        with self.clock.lock:
            return read()

    def wait(
        self, seconds: float, condition: Optional[Condition] = None, do: Optional[Callable[[], None]] = None
    ) -> bool:
        with self.clock.lock:
            if self._expected.pop(threading.get_ident(), None) is not None:
                self.clock.forget_lag()
            self._has_news = True
            self._changed.notify_all()
            return self._waiters.wait(self.clock() + seconds, condition, do, lambda: self._is_closed)

    def pause(self) -> None:
        self.clock.pause()

    @property
    def is_stopped(self) -> bool:
        return self.clock.is_paused

    def play(self) -> None:
        self.clock.play()

    def set_scale(self, scale: float) -> None:
        self.clock.set_scale(scale)

    def step(self, seconds: Optional[float]) -> None:
        with self.quiet():
            self._step_on(seconds)

    def _jump(self, now: float) -> None:
        self.clock.jump(now)

    @property
    def _next_due(self) -> float:
        return min(super()._next_due, self._waiters.next_end)

    # --- The conductor ----------------------------------------------------------------------------

    def wake(self) -> None:
        """A member waits for more, or something else has changed. Runs under the clock's lock."""
        self._changed.notify_all()

    def _conduct(self) -> None:
        try:
            while self._await_next():
                with self._baton, self.clock.lock:
                    if not self._is_closed:
                        self._go_on()
        except BaseException:  # whoever waits for this thread must learn that it has ended
            logger.exception("the lab has failed and is closed")
            with self.clock.lock:
                self._is_closed = True
                self._changed.notify_all()
            raise

    def _await_next(self) -> bool:
        """Wait until there is something to do; False once the lab is closed."""
        with self.clock.lock:
            while not self._is_closed and not self._may_go_on():
                self._changed.wait(self._pause_before_next())
            return not self._is_closed

    def _may_go_on(self) -> bool:
        return not self._is_held and (self._has_news or self._pause_before_next() == 0)

    def _pause_before_next(self) -> Optional[float]:
        """Real seconds until something is due; None to wait until something changes."""
        if self._wanting or self._holders:
            return None
        if self._is_held:
            return max(0.001, max(self._expected.values()) - time.monotonic())
        due = self._next_due
        seconds = self.clock.flow(due)
        return None if due == NEVER else seconds

    def _expect(self, thread: int) -> None:
        self._expected[thread] = time.monotonic() + GRACE

    @property
    def _is_held(self) -> bool:
        """Whether somebody does something to the lab, or may be about to: so that a script's next line is in time."""
        now = time.monotonic()
        self._expected = {thread: until for thread, until in self._expected.items() if now < until}
        return bool(self._wanting or self._holders or self._expected)

    def _go_on(self) -> None:
        if self._has_news:
            self._look_at_waiters()
        due = self._next_due
        if not self._is_held and self.clock.flow(due) == 0:
            self._happen(due)

    def _happen(self, due: float) -> None:
        if super()._next_due <= due:
            super()._happen(due)
        else:
            self._jump(due)  # only a waiter's time has come
        self._look_at_waiters()

    def _look_at_waiters(self) -> None:
        self._has_news = False
        for thread in self._waiters.look(self.clock.hold()):
            self._expect(thread)

    def _settle(self) -> None:
        """Wait until every member waits for more. The caller has the baton, and the lock once."""
        self._changed.wait_for(lambda: not any(life.is_busy for life in self._lives))

    # --- Members ----------------------------------------------------------------------------------

    def start(self, names: List[str]) -> None:
        if self._conductor.ident is None:
            self._conductor.start()
        self._lives = [life for life in self._lives if life.thread.is_alive]
        for n in names:
            member = self._members[n]
            member.lives += 1
            member.life = life = _Life(self, member)
            self.recorder.started(n)
            self._lives.append(life)
            try:
                life.thread.start()
            except BaseException as error:  # the system has no threads left
                life.end(error)
                raise
            self._settle()

    def end(self, n: str) -> None:
        life = self._members[n].life
        self._members[n].life = None
        if life is not None:
            life.inbox.end_with(Vanish())

    def write_down(self, n: str, step: Step, flight: Optional[Flight]) -> None:
        """Runs on the thread of `n`, under the clock's lock."""
        try:
            self.recorder.step(n, step, flight)
            if flight is not None:
                self.links.heard(flight)
        except Exception:  # said here, where the member's thread only counts it
            logger.exception("a step of %s could not be recorded: %r", n, step)
            raise

    def forget(self, n: str) -> None:
        self._members[n].disk = MemoryStorage()

    def freeze(self, n: str) -> None:
        life = self._members[n].life
        if life is not None:
            life.inbox.freeze()

    def thaw(self, n: str) -> None:
        life = self._members[n].life
        if life is not None:
            life.inbox.thaw()
            self._settle()

    def deliver(self, flight: Flight) -> bool:
        return self._give(flight.receiver, flight)

    def tell(self, n: str, message: Any) -> None:
        self._give(n, message)

    def _give(self, n: str, item: Any) -> bool:
        life = self._members[n].life
        if life is None:
            return False
        life.inbox.put(item)
        self._settle()
        return True

    def _run_timer(self, member: _Member) -> None:
        if member.life is not None:
            member.life.inbox.ring()
            self._settle()

    def apply_rules(self) -> None:
        """Each looks at its deadline again."""
        for member in self._members.values():
            if member.due < NEVER:
                self._run_timer(member)

    def close(self) -> int:
        with self.clock.lock:
            self._is_closed = True
            for n in self._members:
                self.end(n)
            self._changed.notify_all()
        if self._conductor.ident is not None and threading.current_thread() is not self._conductor:
            self._conductor.join(PATIENCE)
        dropped = 0
        for life in self._lives:
            life.thread.stop(PATIENCE)
            dropped += int(life.thread.metrics()["steps_dropped_total"])
        self._lives.clear()
        return dropped
