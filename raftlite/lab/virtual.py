"""Members on a virtual clock, on the thread of whoever waits: the same seed and the same calls give the same trace.

wait ─▶ the next thing due ─▶ agenda: a message arrives ─▶ Election ─▶ Step ─▶ recorder
                          └─▶ a member's deadline       ─┘     └─▶ links
"""

from __future__ import annotations

import contextlib
from typing import Any, Callable, Dict, Iterator, List, Optional, Type

from raftlite.election import Election, Ready, Role, Saved
from raftlite.lab.links import NEVER, Flight
from raftlite.lab.rules import LabElection
from raftlite.lab.stage import Condition, LabClosed, Plan, Timed, Timeline
from raftlite.steps import Step


class _Member(Timed):
    """One member: its disk, and while it runs its election."""

    def __init__(self, n: str) -> None:
        self.n = n
        self.disk = Saved()
        self.election: Optional[Election] = None
        self.lives = self.steps = 0
        self.is_frozen = False
        self.backlog: List[Any] = []  # flights and control messages that wait for a frozen member
        self._due = NEVER

    @property
    def due(self) -> float:
        """When its timer runs out."""
        return self._due

    def look(self) -> None:
        """Its deadline may have changed. Asking the election each time would take most of the time of a lab."""
        self._due = self.election.deadline if self.election is not None and not self.is_frozen else NEVER


class VirtualStage(Timeline[_Member]):
    """No thread, no process, no real time."""

    election_class: Type[LabElection] = LabElection

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self._now = 0.0
        self._is_closed = False
        self._members: Dict[str, _Member] = {n: _Member(n) for n in plan.nodes}

    # --- Time -------------------------------------------------------------------------------------

    @property
    def now(self) -> float:
        return self._now

    @contextlib.contextmanager
    def quiet(self) -> Iterator[None]:
        if self._is_closed:
            raise LabClosed("the lab is closed")
        yield

    def wait(
        self, seconds: float, condition: Optional[Condition] = None, do: Optional[Callable[[], None]] = None
    ) -> bool:
        with self.quiet():
            holds = self._advance(self._now + seconds, condition or (lambda: False))
            if holds and do is not None:
                do()
            return holds

    def pause(self) -> None:
        """It always stands still, but for those who wait."""

    def play(self) -> None:
        """Whoever waits moves it."""

    def step(self, seconds: Optional[float]) -> None:
        with self.quiet():
            self._step_on(seconds)

    def set_scale(self, scale: float) -> None:
        """Nothing takes any real time."""

    def _jump(self, now: float) -> None:
        self._now = max(self._now, now)

    # --- Members ----------------------------------------------------------------------------------

    def start(self, names: List[str]) -> None:
        for n in names:
            member, plan = self._members[n], self.plan
            member.lives += 1
            member.steps = 0
            member.is_frozen, member.backlog = False, []
            draws = plan.draws(n, member.lives)
            member.election = self.election_class(
                plan.book, n, member.disk, plan.others(n), plan.timing, plan.min_nodes, rng=draws
            )
            self.recorder.started(n)
            self._step(member, member.election.start)

    def end(self, n: str) -> None:
        self._members[n].election = None
        self._members[n].look()

    def forget(self, n: str) -> None:
        self._members[n].disk = Saved()

    def freeze(self, n: str) -> None:
        self._members[n].is_frozen = True
        self._members[n].look()

    def thaw(self, n: str) -> None:
        """It does not know that it is late before it has heard the first message."""
        member = self._members[n]
        backlog, member.backlog = member.backlog, []
        member.is_frozen = is_late = False
        member.look()
        while backlog:
            count = len(backlog) if is_late else 1
            self._turn(member, backlog[:count])
            del backlog[:count]
            is_late = member.due <= self._now

    def deliver(self, flight: Flight) -> bool:
        return self._give(flight.receiver, flight)

    def tell(self, n: str, message: Any) -> None:
        self._give(n, message)

    def _give(self, n: str, item: Any) -> bool:
        member = self._members[n]
        if member.election is None:
            return False
        if member.is_frozen:
            member.backlog.append(item)
        else:
            self._turn(member, [item])
        return True

    def apply_rules(self) -> None:
        """Elections look into the book themselves."""
        for member in self._members.values():
            member.look()

    def close(self) -> int:
        self._is_closed = True
        return 0

    # --- Steps ------------------------------------------------------------------------------------

    def _turn(self, member: _Member, items: List[Any]) -> None:
        """As the thread of a member does it: hear these, then look at the clock."""
        for item in items:
            if member.election is not None:
                self._hear(member, member.election, item)
        if member.due <= self._now:
            self._run_timer(member)

    def _hear(self, member: _Member, election: Election, item: Any) -> None:
        flight = item if isinstance(item, Flight) else None
        heard = item if flight is None else flight.message
        self._step(member, lambda now: election.receive(heard, now), heard, flight)

    def _run_timer(self, member: _Member) -> None:
        assert member.election is not None
        self._step(member, member.election.timeout)

    def _step(
        self, member: _Member, act: Callable[[float], Ready], heard: Any = None, flight: Optional[Flight] = None
    ) -> None:
        election = member.election
        assert election is not None
        ready = act(self._now)
        if ready.saved is not None:
            member.disk = ready.saved
        member.steps += 1
        member.look()
        self.recorder.step(member.n, Step.of(member.steps, self._now, heard, election, ready), flight)
        if flight is not None:
            self.links.heard(flight)
        for receiver, message in ready.outbox:
            self.links.send(member.n, receiver, message)
        if election.role is Role.STOPPED:
            member.election = None
            member.look()
            self.on_lost(member.n, "stopped")
