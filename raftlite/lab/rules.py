"""The rules that a class may switch off, and the election that obeys the switches.

Everything but these few methods is the library's own `Election`. Outside the classroom nothing can be switched: without
these rules a cluster has leaders that are deposed for nothing, and leaders that do not know that they are none.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

from raftlite.election import TAKEOVER_STEP, Election, Ready, Role
from raftlite.errors import ConfigError
from raftlite.messages import RequestVote
from raftlite.timing import is_number

MOST_JITTER = 10.0


@dataclass(frozen=True)
class Rules:
    """What holds in a lab. Raises `ConfigError` for a value that is none.

    `pre_vote`: before it raises its term, a member asks whether it would be voted for (thesis 9.6).
    `check_quorum`: a leader that a majority does not answer steps down, and a voter that has just heard a leader
    refuses others (thesis 4.2.3, 6.2).
    `jitter`: election timeouts are drawn from `[election_timeout, election_timeout * (1 + jitter))`; with 0 all are
    the same.
    """

    pre_vote: bool = True
    check_quorum: bool = True
    jitter: float = 1.0

    def __post_init__(self) -> None:
        for name in ("pre_vote", "check_quorum"):
            if not isinstance(getattr(self, name), bool):
                raise ConfigError(f"{name} is {getattr(self, name)!r}, but must be True or False")
        if not is_number(self.jitter) or not 0 <= self.jitter <= MOST_JITTER:
            raise ConfigError(f"jitter is {self.jitter!r}, but must be a number from 0 to {MOST_JITTER:g}")


ALL_RULES = Rules()


class RuleBook:
    """The rules as they are now: every member of a lab looks here, so that they can change while it runs."""

    def __init__(self, rules: Rules, takeover_step: float = TAKEOVER_STEP) -> None:
        self.rules = rules
        self.takeover_step = takeover_step  # seconds between the campaigns of two who know that their leader is dead


@dataclass(frozen=True)
class SetTimer:
    """For a member of a lab: its election timer is due `at` this time, whatever it was set to. `why` is shown."""

    at: float
    why: str


@dataclass(frozen=True)
class Vanish:
    """For a member of a lab: end here and now without a word to anybody, as a process does that is killed."""


class LabElection(Election):
    """An election whose rules are those of `book`, and whose timer may be set by hand."""

    def __init__(self, book: RuleBook, *args: Any, **settings: Any) -> None:
        self._book = book
        super().__init__(*args, **settings)

    # --- What only a lab can say to a member ------------------------------------------------------

    def understands(self, message: object) -> bool:
        return type(message) in (SetTimer, Vanish) or super().understands(message)

    def receive(self, message: Any, now: float) -> Ready:
        if type(message) is Vanish:
            self.role, self._leader, self.leader_id = Role.STOPPED, None, None
            return Ready()
        if type(message) is SetTimer:
            if self._leader is None and self.role is not Role.STOPPED:
                self._election_at = message.at
            return Ready()
        return super().receive(message, now)

    # --- Pre-vote ---------------------------------------------------------------------------------

    def _start_pre_vote(self, now: float) -> None:
        if self._book.rules.pre_vote or self._abstains_from_established(now):
            super()._start_pre_vote(now)
        else:
            self._start_election(now)

    # --- Check-quorum, and no vote while a leader is alive ----------------------------------------

    @property
    def deadline(self) -> float:
        if self._leader and not self._book.rules.check_quorum:
            return self._leader.heartbeat_at
        return super().deadline

    def _step_down_without_lease(self, now: float) -> None:
        if self._book.rules.check_quorum:
            super()._step_down_without_lease(now)

    def _leader_is_alive(self, request: RequestVote, now: float) -> str:
        return super()._leader_is_alive(request, now) if self._book.rules.check_quorum else ""

    # --- Fast takeover, among links as slow as those of a lab -------------------------------------

    def _takeover_step(self, round_trip: float) -> float:
        return self._book.takeover_step


class Draws(random.Random):
    """What a member draws its timeouts from: the same seed gives the same, and the rules say how far they spread."""

    def __new__(cls, *args: Any) -> Draws:
        return super().__new__(cls)  # which takes one argument at most before Python 3.11

    def __init__(self, seed: str, book: RuleBook) -> None:
        super().__init__(seed)
        self._book = book

    def random(self) -> float:
        return self._book.rules.jitter * super().random()
