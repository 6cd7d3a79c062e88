"""Steps of members and what happens to their messages, as records of a trace.

    Step, Flight ─▶ Recorder ─▶ Trace.append ─▶ View.apply

Whoever calls holds the lab's lock, so the order of the records is the order of what happened.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, Optional, Tuple

from raftlite.election import Role
from raftlite.lab import wording
from raftlite.lab.links import Flight
from raftlite.lab.trace import Record, Trace, View
from raftlite.messages import PeerDown
from raftlite.steps import Step


class Recorder:
    """Writes the trace of one lab, and keeps `view`, what it adds up to."""

    def __init__(self, trace: Trace, now: Callable[[], float]) -> None:
        self.trace = trace
        self.view = View(trace.header)
        self.tokens: Dict[str, int] = {}  # member -> the token of the grant that its program was given last
        self._now = now
        self._latest: Dict[str, Step] = {}  # of each member that runs
        self._spans: Dict[str, Optional[float]] = {}
        self._held: Dict[str, int] = {}  # member -> the token of the grant that it holds

    def record(self, kind: str, n: Optional[str] = None, at: Optional[float] = None, /, **fields: Any) -> Record:
        record = self.trace.append(kind, n, self._now() if at is None else at, **fields)
        self.view.apply(record)
        return record

    # --- Lives ------------------------------------------------------------------------------------

    def started(self, n: str, **more: Any) -> None:
        """`more` is its `pid`, where it has a process of its own."""
        self._forget(n)
        self.record("start", n, inc=self.view.nodes[n].inc + 1, **more)

    def stopped(self, n: str, why: str) -> None:
        self._forget(n)
        self.record("stop", n, inc=self.view.nodes[n].inc, why=why)

    def latest(self, n: str) -> Optional[Step]:
        """The last step of a member that runs."""
        return self._latest.get(n)

    def _forget(self, n: str) -> None:
        for memory in (self._latest, self._spans, self._held, self.tokens):
            memory.pop(n, None)

    # --- Messages ---------------------------------------------------------------------------------

    def sent(self, flight: Flight, at: float, eta: Optional[float]) -> None:
        message = flight.message
        self.record(
            "send",
            flight.sender,
            at,
            m=flight.m,
            to=flight.receiver,
            type=wording.type_of(message),
            term=message.term,
            eta=eta,
            **wording.details_of(message),
            text=wording.text_of(flight.receiver, message),
        )

    def lost(self, flight: Flight, why: str) -> None:
        self.record("lost", flight.receiver, to=flight.receiver, **self._marks(flight), why=why)

    def _heard(self, n: str, at: float, flight: Flight, before: Step, step: Step) -> None:
        result, why = wording.result_of(before, step)
        self.record("recv", n, at, **self._marks(flight), result=result, why=why)

    def _marks(self, flight: Flight) -> Dict[str, Any]:
        message, copy = flight.message, {"copy": flight.copy} if flight.copy else {}
        marks = {"m": flight.m, "from": flight.sender, "type": wording.type_of(message), "term": message.term}
        return {**marks, **copy}

    # --- Steps ------------------------------------------------------------------------------------

    def step(self, n: str, step: Step, flight: Optional[Flight] = None) -> None:
        """What a member has heard and done. `flight` is what brought the message, if it was one of a peer."""
        before = self._latest.get(n)
        self._latest[n] = step
        timer = wording.timer_of(before, step)
        if timer is not None:
            self.record("timer", n, step.at, timer=timer)
        if flight is not None and before is not None:
            self._heard(n, step.at, flight, before, step)
        if isinstance(step.heard, PeerDown):
            self.record("proof", n, step.at, of=step.heard.node_id)
        if before is None or _shown(before) != _shown(step):
            self._state(n, before, step)
        self._tell_events(n, step)

    def _state(self, n: str, before: Optional[Step], step: Step) -> None:
        if before is None or before.deadline != step.deadline:
            self._spans[n] = None if step.deadline is None else max(0.0, step.deadline - step.at)
        self.record(
            "state",
            n,
            step.at,
            role=step.role.value,
            term=step.current_term,
            vote=step.voted_for,
            votes=step.votes if step.role is not Role.FOLLOWER else (),
            leader=step.leader_id,
            deadline=step.deadline,
            span=self._spans.get(n),
            lease=step.lease_expires_at,
            why=wording.cause_of(before, step),
        )

    def _tell_events(self, n: str, step: Step) -> None:
        for event, leader, token in wording.events_of(n, self._held.get(n), step):
            self.record("event", n, step.at, event=event, leader=leader, token=token)
            if event == "elected":
                self._held[n] = self.tokens[n] = token
            elif event == "lost":
                self._held.pop(n, None)


def _shown(step: Step) -> Tuple[Any, ...]:
    """What of a step a `state` record shows."""
    return (
        step.role,
        step.current_term,
        step.voted_for,
        step.votes,
        step.leader_id,
        step.deadline,
        step.lease_expires_at,
    )
