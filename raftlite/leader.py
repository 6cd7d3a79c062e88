"""What a leader keeps for its own reign: rounds, promises and with them its lease, and the membership's progress.

"Volatile state on leaders, reinitialized after election" (Figure 2); the lease is that of thesis 6.4, the quorum that
commits a membership that of the logless protocol's Reconfig.
"""

from __future__ import annotations

from typing import Dict, List, Optional, Set, Tuple

from raftlite.changes import Change
from raftlite.membership import Membership, MembershipVersion
from raftlite.messages import ChangeResponse, ConfirmLeadership, HeartbeatResponse
from raftlite.timing import Timing

MOST_CONCLUDED = 1_000  # answers kept: each member asks for one change at a time, so that older ones have arrived


class LeaderState:
    """Made when a candidate wins, gone when the leader steps down. Times are the `now` given to the election."""

    def __init__(self, node_id: str, term: int, membership: Membership, timing: Timing, now: float) -> None:
        self.term = term
        self.timing = timing
        self.elected_at = now
        self.heartbeat_at = now
        self.round = 0
        self.lease_expires_at: Optional[float] = None
        self.transfer: Optional[Change] = None  # waits for a first answer of the successor
        self.confirmations: List[Tuple[int, ConfirmLeadership]] = []  # waiting for a majority to answer this round
        self.changes: List[Change] = []  # waiting, in the order they were asked for
        self.changing = False  # the first of them is in the membership, but not committed yet
        self.concluded: Dict[Tuple[str, int], ChangeResponse] = {}  # what was answered to other members
        self.departing: Dict[str, MembershipVersion] = {}  # removed by this version, and not known to have learnt it
        self._node_id = node_id
        self._sent_at: Dict[int, float] = {}  # round -> when it was sent
        self._promised_until: Dict[str, float] = {}  # member -> the end of its longest promise
        self._answered: Dict[str, int] = {}  # member -> the latest round for which it has promised
        self._heard_at: Dict[str, float] = {}  # member -> when it last answered
        self._installed = {node_id: membership.position}  # member -> the version it last answered with
        self._inherited: Optional[float] = None  # the lease that the voters before the last change have promised
        self.membership = membership

    @property
    def leads_until(self) -> float:
        """When to step down unless more is heard: a leader without a lease gets one election timeout to earn it."""
        if self.lease_expires_at is None:
            return self.elected_at + self.timing.election_timeout
        return self.lease_expires_at

    def stamp(self, membership: Membership) -> None:
        """The same nodes, under this leader's term: only now can anybody hold what this leader is to commit."""
        self.membership = membership
        self._installed = {self._node_id: membership.position}

    def adopt(self, membership: Membership) -> None:
        """Count with the voters of `membership` from now on.

        The lease of the voters before stays good: each of their quorums meets each quorum of the new ones.
        """
        self._inherited = self._promised_by_quorum()
        self.membership = membership
        self._installed[self._node_id] = membership.position
        self._update_lease()

    def begin_round(self, now: float) -> None:
        """Number a new round of heartbeats and note when it was sent; its sender is the first to promise."""
        self.round += 1
        self.heartbeat_at = now + self.timing.heartbeat_interval
        # An answer older than an election timeout can prolong no lease.
        useful = now - self.timing.election_timeout
        self._sent_at = {number: at for number, at in self._sent_at.items() if at > useful}
        self._sent_at[self.round] = now
        self._record_promise(self._node_id, self.round, self.timing.election_timeout)

    def record_answer(self, response: HeartbeatResponse, now: float) -> None:
        """Note what a member answered to a heartbeat of this reign."""
        self._heard_at[response.sender_id] = now
        self._installed[response.sender_id] = response.membership_version
        self._record_promise(response.sender_id, response.round, response.promise)

    def hear_departing(self, response: HeartbeatResponse) -> None:
        """Note whether a removed member has learnt it."""
        if response.membership_version >= self.departing[response.sender_id]:
            del self.departing[response.sender_id]

    def _record_promise(self, member: str, round_number: int, promise: float) -> None:
        # The promise counts from when the round was *sent*, because the member made it later than that.
        sent_at = self._sent_at.get(round_number)
        if sent_at is not None:
            until = sent_at + promise * (1 - self.timing.clock_drift)
            self._promised_until[member] = max(until, self._promised_until.get(member, until))
            self._answered[member] = max(round_number, self._answered.get(member, round_number))
            self._update_lease()

    def _update_lease(self) -> None:
        """The lease holds while a quorum of the voters keeps its promise."""
        promised, inherited = self._promised_by_quorum(), self._inherited
        self.lease_expires_at = promised if inherited is None else max(inherited, promised or inherited)

    def _promised_by_quorum(self) -> Optional[float]:
        quorum = self.membership.quorum
        promises = sorted(until for member, until in self._promised_until.items() if member in self.membership.voters)
        return promises[-quorum] if len(promises) >= quorum else None

    def take_confirmed(self) -> List[ConfirmLeadership]:
        """What a majority has confirmed by now: it has answered a round that was begun after it was asked for."""
        if not self.confirmations:
            return []
        rounds = sorted(number for member, number in self._answered.items() if member in self.membership.voters)
        quorum = self.membership.quorum
        latest = rounds[-quorum] if len(rounds) >= quorum else 0
        confirmed = [request for number, request in self.confirmations if number <= latest]
        self.confirmations = [entry for entry in self.confirmations if entry[0] > latest]
        return confirmed

    def holds_lease(self, now: float) -> bool:
        """Whether no other member can win an election at `now`."""
        return self.lease_expires_at is not None and now < self.lease_expires_at

    def needs_membership(self, member: str, now: float) -> bool:
        """Whether `member` is not known to hold the membership, or has been silent and may have lost it.

        Not in the first round, which earns the lease: nobody shall have to save anything before it answers.
        """
        if self.round == 1:
            return False
        is_current = self._installed.get(member) == self.membership.position
        return not is_current or self._promised_until.get(member, now) <= now

    @property
    def is_committed(self) -> bool:
        """Whether a quorum of the voters has answered, in this term, with exactly this membership."""
        if self.membership.term != self.term:
            return False
        position = self.membership.position
        holders = [voter for voter in self.membership.voters if self._installed.get(voter) == position]
        return len(holders) >= self.membership.quorum

    def has_heard(self, member: Optional[str]) -> bool:
        """Whether `member` has answered in this reign; the leader itself need not."""
        return member == self._node_id or member in self._heard_at

    def up(self, now: float) -> Set[str]:
        """Members whose last answer is so recent that they are taken to be up, this one included."""
        return {member for member, until in self._promised_until.items() if now < until}

    def heard_from_last(self, among: Set[str]) -> Optional[str]:
        """The other voter of these that answered last."""
        others = sorted((self.membership.voters & self._heard_at.keys() & among) - {self._node_id})
        return max(others, key=lambda voter: self._heard_at[voter], default=None)

    def remember(self, origin: str, response: ChangeResponse) -> None:
        """Keep an answer for when the request comes again, which it does until the answer has arrived."""
        self.concluded[origin, response.number] = response
        while len(self.concluded) > MOST_CONCLUDED:
            del self.concluded[next(iter(self.concluded))]
