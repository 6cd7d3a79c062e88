"""`Step`: what a member has heard and what came of it, for whoever watches an election without taking part.

    ElectionThread ─ Step ─▶ steps.put_nowait ─▶ a recorder, a debugger, a test

An `ElectionThread` or `Member` that is given a queue as `steps` puts one into it after each input. What does not fit
is lost and counted (`steps_dropped_total` in `metrics()`): watching never holds a member up.
"""

from __future__ import annotations

import queue
from dataclasses import dataclass
from typing import Any, Optional, Tuple, Union

from raftlite.election import NEVER, Election, Ready, Role, Saved
from raftlite.errors import ConfigError
from raftlite.membership import Membership
from raftlite.messages import ControlMessage, Event, Message


@dataclass(frozen=True)
class Step:
    """One input of an election and the state after it; a value that never changes.

    `number` counts the steps of one `ElectionThread` from 1, which is its start: a gap shows that steps were lost.
    `heard` is the message that came in, or None where a timer ran out (and for the start). `sent` are the messages that
    go out next, each with its receiver, `saved` is what had to be saved before, `events` is what the program hears.

    Times are seconds of the member's own clock: `at` is when the input came, `deadline` when its timer is due (None:
    only a message can bring news), `lease_expires_at` until when it may lead (None while it holds no lease). `votes`
    are those that it has been given, or promised before it stands, its own included.
    """

    number: int
    at: float
    node_id: str
    heard: Optional[Union[Message, ControlMessage]]
    role: Role
    current_term: int
    voted_for: Optional[str]
    votes: Tuple[str, ...]
    leader_id: Optional[str]
    deadline: Optional[float]
    lease_expires_at: Optional[float]
    membership: Membership
    saved: Optional[Saved] = None
    sent: Tuple[Tuple[str, Message], ...] = ()
    events: Tuple[Event, ...] = ()

    @classmethod
    def of(cls, number: int, at: float, heard: Any, election: Election, ready: Ready) -> Step:
        """The step that `election` has just taken, and whose outcome is `ready`."""
        deadline = election.deadline
        return cls(
            number=number,
            at=at,
            node_id=election.node_id,
            heard=heard,
            role=election.role,
            current_term=election.current_term,
            voted_for=election.voted_for,
            votes=election.votes,
            leader_id=election.leader_id,
            deadline=None if deadline == NEVER else deadline,
            lease_expires_at=election.lease_expires_at,
            membership=election.membership,
            saved=ready.saved,
            sent=ready.outbox,
            events=ready.events,
        )


class Steps:
    """A member's own end of the queue that it was given: numbers the steps and never waits. One thread calls it."""

    def __init__(self, steps: Optional[queue.Queue[Step]]) -> None:
        self.dropped = 0
        self._queue = check_steps(steps)
        self._number = 0

    def tell(self, at: float, heard: Any, election: Election, ready: Ready) -> None:
        """Put the step that `election` has just taken, if anybody watches."""
        if self._queue is None:
            return
        self._number += 1
        try:
            self._queue.put_nowait(Step.of(self._number, at, heard, election, ready))
        except Exception:  # full, shut down, or of the user's own making: none of it is the election's affair
            self.dropped += 1


def check_steps(steps: Optional[queue.Queue[Step]]) -> Optional[queue.Queue[Step]]:
    """Return `steps`. Raises `ConfigError` for what is no queue."""
    if steps is not None and not callable(getattr(steps, "put_nowait", None)):
        raise ConfigError(f"steps is {steps!r:.100}, but must be a queue, such as queue.Queue(10_000)")
    return steps
