"""What must hold after every step, checked on the whole history of a simulation.

Each check has a name that a violation carries, so that a planted fault can be said to be caught by it. The sources are
the paper (Figure 3, sections 5.1 and 5.2), the thesis (3.10, 6.4, 9.6) and the invariants of the logless protocol.
"""

from __future__ import annotations

from typing import Any, Dict, FrozenSet, Set, Tuple

from raftlite.election import Election, Ready, Role, Saved
from raftlite.membership import Membership, MembershipVersion, NodeInfo
from raftlite.messages import (
    Heartbeat,
    HeartbeatResponse,
    LeaderChanged,
    MembershipChanged,
    RequestVote,
    RequestVoteResponse,
    TimeoutNow,
)


class Violation(AssertionError):
    """An invariant does not hold. `check` is its name, `what` is what was seen instead."""

    def __init__(self, check: str, what: str) -> None:
        super().__init__(f"{check}: {what}")
        self.check = check
        self.what = what


class Invariants:
    """The history of one simulation. `rate` turns a member's clock into real time: real = local / rate."""

    def __init__(self) -> None:
        self.leader_of: Dict[int, str] = {}  # term -> who became its leader
        self.vote_of: Dict[Tuple[str, int], str] = {}  # (voter, term) -> candidate
        self.saved: Dict[str, Saved] = {}  # member -> what is on its disk
        self.nodes_of: Dict[MembershipVersion, Tuple[NodeInfo, ...]] = {}
        self.committed: Dict[MembershipVersion, int] = {}  # membership committed -> in which term
        self.lease_of: Dict[str, Tuple[float, int]] = {}  # member -> real end of its lease, its term
        self.promise_of: Dict[str, Tuple[float, str, int]] = {}  # voter -> real end, to whom, in which term
        self.holders: Dict[MembershipVersion, Set[str]] = {}  # membership -> members that have answered with it
        self.answered: Dict[int, Any] = {}  # the identity of a request -> its answer, which keeps the request alive
        self.last_token = 0

    # --- Called by the simulation -----------------------------------------------------------------

    def before_step(self, election: Election) -> Tuple[Any, ...]:
        """What `after_step` compares with."""
        return (
            election.current_term,
            election.voted_for,
            election.role,
            election.leader_id,
            election.deadline,
            election.membership,
        )

    def after_step(
        self, election: Election, message: Any, before: Tuple[Any, ...], ready: Ready, real: float, rate: float
    ) -> None:
        """Check one step of one member at the real time `real`; `ready.saved` is on its disk."""
        if ready.saved is not None:
            self._check_save(election.node_id, ready.saved)
        term, _, role, leader_id, _, membership = before
        if message is not None:
            self._check_stranger(election, message, before)
        changed = ready.saved is not None or election.role is not role or election.leader_id != leader_id
        if changed or election.current_term != term or election.membership is not membership:
            self._check_state(election, before)
        if type(message) is RequestVote:
            self._check_request(election, message, before, ready, real)
        for to, sent in ready.outbox:
            if not _is_handed_back(message, to, sent):
                self._check_message(election, to, sent, real, rate)
            if type(sent) is RequestVote and sent.transfer:
                self._check_order(message, sent)
        for event in ready.events:
            self._check_event(election, event, real, rate)
        if election.role is Role.LEADER:
            self._check_stepped_down(election, real)
            self._check_lease(election, real, rate)
        elif election.node_id in self.lease_of:
            del self.lease_of[election.node_id]
        if type(message) not in (RequestVote, Heartbeat):
            self._check_timer(election, message, before)

    def forget_member(self, node_id: str, lost_disk: bool) -> None:
        """The member's process is gone: with it its lease, and with its disk what it had saved."""
        self.lease_of.pop(node_id, None)
        if lost_disk:
            self.saved.pop(node_id, None)

    def peer_proved_dead(self, voter: str, leader_id: str) -> None:
        """A promise to a leader whose process is gone binds nobody."""
        if self.promise_of.get(voter, (0.0, "", 0))[1] == leader_id:
            del self.promise_of[voter]

    # --- One check each ---------------------------------------------------------------------------

    def _check_save(self, node_id: str, saved: Saved) -> None:
        before = self.saved.get(node_id, Saved())
        if saved.current_term < before.current_term:
            raise Violation("terms only grow", f"{node_id} saved term {saved.current_term} after {before.current_term}")
        if saved.current_term == before.current_term and before.voted_for not in (None, saved.voted_for):
            what = f"{node_id} voted for {before.voted_for}, then {saved.voted_for} in term {saved.current_term}"
            raise Violation("one vote per term", what)
        self.saved[node_id] = saved

    def _check_state(self, election: Election, before: Tuple[Any, ...]) -> None:
        node_id, term, membership = election.node_id, election.current_term, election.membership
        saved = self.saved.get(node_id, Saved())
        if (saved.current_term, saved.voted_for) != (term, election.voted_for):
            raise Violation("saved before use", f"{node_id} is in term {term}, but saved {saved}")
        if term < before[0]:
            raise Violation("terms only grow", f"{node_id} went from term {before[0]} to {term}")
        if membership.position < before[5].position:
            raise Violation("memberships only get newer", f"{node_id} went from {before[5]} to {membership}")
        if term and saved.membership != membership:
            raise Violation("saved before use", f"{node_id} acts on {membership}, but saved {saved.membership}")
        if term < membership.term:
            raise Violation("a term is as new as its membership", f"{node_id} holds {membership} in term {term}")
        if membership.term:
            self._check_nodes(membership)
        if election.role is before[2] is Role.CANDIDATE and term == before[0] and membership != before[5]:
            what = f"{node_id} went on in term {term} with {membership} instead of {before[5]}"
            raise Violation("a candidate keeps its membership", what)
        if election.role in (Role.PRE_CANDIDATE, Role.CANDIDATE) and node_id not in membership.voters:
            raise Violation("only voters campaign", f"{node_id} campaigns in {membership}")
        if election.role is Role.LEADER:
            self._check_leader(election)
            if before[2] is not Role.LEADER:
                self._check_victory(election, before[5])
            elif membership not in (before[5], before[5].stamped(term)):
                self._check_committed(node_id, before[5].stamped(term))
        if election.leader_id is not None and self.leader_of.get(term) != election.leader_id:
            raise Violation(
                "the followed leader won its term", f"{node_id} follows {election.leader_id} in term {term}"
            )

    def _check_nodes(self, membership: Membership) -> None:
        if self.nodes_of.setdefault(membership.position, membership.nodes) != membership.nodes:
            raise Violation("a membership version means one set of nodes", f"there are two of {membership}")
        before = self.nodes_of.get((membership.term, membership.version - 1))
        if before is not None:
            voters = {node.node_id for node in before if node.voter}
            if len(voters ^ membership.voters) > 1:
                raise Violation("one voter changes at a time", f"{sorted(voters)} became {membership}")

    def _check_stranger(self, election: Election, message: Any, before: Tuple[Any, ...]) -> None:
        """Who is no member, and brings nothing newer, changes nothing."""
        sender, held = getattr(message, "sender_id", None), before[5]
        if sender is None or sender in held.ids:
            return
        position = getattr(message, "membership_version", None)
        brought = getattr(message, "membership", None)
        if type(message) is RequestVote and position > held.position:
            return
        if brought is not None and brought.position > held.position:
            return
        lease_ran_out = before[2] is Role.LEADER and election.role is Role.FOLLOWER
        if self.before_step(election) != before and not lease_ran_out:
            raise Violation("strangers change nothing", f"{election.node_id} changed when {sender} sent {message}")

    def _check_stepped_down(self, election: Election, real: float) -> None:
        end, term = self.lease_of.get(election.node_id, (real, 0))
        if end < real - 1e-6 and term == election.current_term:
            raise Violation("a leader without a lease steps down", f"{election.node_id} leads on at {real:.6f}")

    def _check_leader(self, election: Election) -> None:
        node_id, term, membership = election.node_id, election.current_term, election.membership
        if self.leader_of.setdefault(term, node_id) != node_id:
            raise Violation("one leader per term", f"{self.leader_of[term]} and {node_id} lead in term {term}")
        if election.voted_for != node_id:
            raise Violation("a leader voted for itself", f"{node_id} leads, but voted for {election.voted_for}")
        if node_id not in membership.voters:
            raise Violation("a leader is a voter", f"{node_id} leads {membership}")

    def _check_victory(self, election: Election, held: Membership) -> None:
        node_id, term, membership = election.node_id, election.current_term, election.membership
        voters = {voter for voter in membership.voters if self.vote_of.get((voter, term)) == node_id} | {node_id}
        needed = membership.quorum if held.term else max(membership.quorum, election.min_nodes)
        if len(voters) < needed:
            what = f"{node_id} leads in term {term} with the votes of {sorted(voters)}, but needs {needed}"
            raise Violation("a majority elects", what)
        newer = [at for at, committed_in in self.committed.items() if committed_in < term and at > held.position]
        if newer:
            what = f"{node_id} was elected with {held}, but {newer} had been committed"
            raise Violation("a committed membership is known to later leaders", what)

    def _check_committed(self, leader_id: str, membership: Membership) -> None:
        holders = self.holders.get(membership.position, set()) | {leader_id}
        if len(holders & membership.voters) < membership.quorum:
            what = f"{leader_id} changed {membership}, which only {sorted(holders)} hold"
            raise Violation("a change waits for the one before", what)

    def _check_request(
        self, election: Election, request: RequestVote, before: Tuple[Any, ...], ready: Ready, real: float
    ) -> None:
        lease_ran_out = before[2] is Role.LEADER and election.role is Role.FOLLOWER
        if request.pre_vote and self.before_step(election) != before and not lease_ran_out:
            raise Violation("a pre-vote changes nothing", f"{election.node_id} changed when asked {request}")
        granted = any(type(sent) is RequestVoteResponse and sent.vote_granted for _, sent in ready.outbox)
        if not granted:
            self._check_timer(election, request, before)
            return
        end, leader_id, _ = self.promise_of.get(election.node_id, (0.0, "", 0))
        # Who has lost its disk may agree to a first election, as all must: a leader that still leads does not.
        is_harmless = request.pre_vote and election.current_term == 0 and leader_id not in self.lease_of
        if real < end - 1e-9 and not request.transfer and not is_harmless:
            what = f"{election.node_id} grants {request} while it is bound to {leader_id} for {end - real:.3f} s"
            raise Violation("a promise not to vote is kept", what)
        if request.membership_version < election.membership.position:
            raise Violation("votes go to memberships as new as one's own", f"{election.node_id} granted {request}")

    def _check_message(self, election: Election, to: str, sent: Any, real: float, rate: float) -> None:
        node_id = election.node_id
        saved = self.saved.get(node_id, Saved())
        if type(sent) is HeartbeatResponse:
            self.holders.setdefault(sent.membership_version, set()).add(node_id)
            if sent.promise:
                end = real + sent.promise / rate
                self.promise_of[node_id] = (end, to, sent.term)
        elif type(sent) is RequestVoteResponse and sent.vote_granted and not sent.pre_vote:
            if (saved.current_term, saved.voted_for) != (sent.term, to):
                raise Violation("saved before sent", f"{node_id} grants {to} term {sent.term}, but saved {saved}")
            self._note_vote(node_id, sent.term, to)
        elif type(sent) is RequestVote and not sent.pre_vote:
            if (saved.current_term, saved.voted_for) != (sent.term, node_id):
                raise Violation("saved before sent", f"{node_id} asks for votes in {sent.term}, but saved {saved}")
            self._note_vote(node_id, sent.term, node_id)
        elif type(sent) is Heartbeat and sent.round > 1 and sent.membership_version[0] != sent.term:
            raise Violation("a leader stamps its membership", f"{node_id} sent {sent}")
        elif type(sent) is TimeoutNow and election.role is Role.LEADER:
            raise Violation("leadership is given up before it is handed over", f"{node_id} leads on after {sent}")
        elif type(sent) in (Heartbeat, TimeoutNow) and self.leader_of.get(sent.term) != node_id:
            raise Violation("only leaders send heartbeats", f"{node_id} sent {sent}")
        elif type(sent) is RequestVoteResponse and sent.vote_granted:
            return  # a granted pre-vote speaks of the candidate's next term, not of the voter's
        if sent.term > saved.current_term + (type(sent) is RequestVote and sent.pre_vote):
            raise Violation("saved before sent", f"{node_id} sent {sent}, but saved {saved}")

    def _check_order(self, order: Any, request: RequestVote) -> None:
        """A request that lifts promises follows from an order of the leader of the term before, and from none older."""
        if type(order) is not TimeoutNow or request.term != order.term + 1:
            raise Violation("only a leader lifts the promises made to it", f"{request} followed from {order}")

    def _note_vote(self, voter: str, term: int, candidate: str) -> None:
        if self.vote_of.setdefault((voter, term), candidate) != candidate:
            what = f"{voter} voted for {self.vote_of[(voter, term)]} and {candidate} in term {term}"
            raise Violation("one vote per term", what)

    def _check_event(self, election: Election, event: Any, real: float, rate: float) -> None:
        if type(event) is LeaderChanged and event.leader_id == election.node_id:
            if election.role is not Role.LEADER or election.lease_expires_at is None:
                raise Violation("leadership begins with a lease", f"{election.node_id} announced itself without one")
            if event.term <= self.last_token:
                raise Violation("tokens only grow", f"{event.term} was granted after {self.last_token}")
            self.last_token = event.term
        elif type(event) is MembershipChanged and event.control_message is not None and event.membership.term:
            self._check_done(election.node_id, event.membership)
            self.committed.setdefault(event.membership.position, event.membership.term)
        request = getattr(event, "control_message", None)
        if request is not None and self.answered.setdefault(id(request), event) is not event:
            raise Violation("a request is answered once", f"{election.node_id} answered {request} again: {event}")

    def _check_done(self, node_id: str, membership: Membership) -> None:
        saved = {voter: self.saved.get(voter, Saved()).membership for voter in membership.voters}
        holders = [voter for voter, held in saved.items() if held and held.position >= membership.position]
        if len(holders) < membership.quorum:
            what = f"{node_id} says that {membership} is done, but only {sorted(holders)} have it on disk"
            raise Violation("what is done is held by a quorum", what)

    def _check_lease(self, election: Election, real: float, rate: float) -> None:
        lease = election.lease_expires_at
        if lease is None:
            return
        node_id, end = election.node_id, lease / rate
        known = self.lease_of.get(node_id)
        if known is not None and known[0] == end:
            return
        self.lease_of[node_id] = (end, election.current_term)
        if end <= real:
            return
        for other, (other_end, _) in self.lease_of.items():
            if other != node_id and other_end > real:
                raise Violation("one lease at a time", f"{node_id} and {other} both hold a lease at {real:.6f}")
        self._check_backing(election, end)

    def _check_backing(self, election: Election, end: float) -> None:
        """A quorum, of the voters now or before the last change, is bound for as long as the lease claims."""
        membership, reign = election.membership, (election.node_id, election.current_term)
        bound = {voter for voter, (until, *to) in self.promise_of.items() if until >= end - 1e-9 and (*to,) == reign}
        before = self.nodes_of.get((membership.term, membership.version - 1), membership.nodes)
        for voters in (membership.voters, {node.node_id for node in before if node.voter}):
            if len(voters & (bound | {election.node_id})) > len(voters) // 2:
                return
        what = f"{election.node_id} claims a lease until {end:.6f}, but only {sorted(bound)} are bound so long"
        raise Violation("a lease rests on promises", what)

    def _check_timer(self, election: Election, message: Any, before: Tuple[Any, ...]) -> None:
        """The timer is reset by a heartbeat, by granting a vote and by an own candidacy, by nothing else."""
        if message is None or election.role is not before[2] or election.membership is not before[5]:
            return
        is_mute = type(message) in (RequestVote, RequestVoteResponse, HeartbeatResponse)
        if is_mute and election.role is Role.FOLLOWER and election.deadline > before[4]:
            raise Violation("only heartbeats and votes reset the timer", f"{election.node_id} on {message}")


def disabled_members(positions: Dict[str, MembershipVersion], voters: Dict[str, FrozenSet[str]]) -> Set[str]:
    """Members whose membership can no longer elect: each of its quorums has a member that holds a newer one."""
    disabled: Set[str] = set()
    for member, position in positions.items():
        own = voters[member]
        older = [voter for voter in own if positions.get(voter, (0, 0)) <= position]
        if len(older) < len(own) // 2 + 1:
            disabled.add(member)
    return disabled


def overlapping(first: FrozenSet[str], second: FrozenSet[str]) -> bool:
    """Whether every quorum of `first` meets every quorum of `second`."""
    shared = len(first & second)
    least_first, least_second = len(first) // 2 + 1, len(second) // 2 + 1
    outside_first, outside_second = len(first) - shared, len(second) - shared
    needed = max(0, least_first - outside_first) + max(0, least_second - outside_second)
    return needed > shared


def _is_handed_back(order: Any, to: str, sent: Any) -> bool:
    """Whether a member that may not campaign returns the order to do so to whoever gave it."""
    return type(sent) is type(order) is TimeoutNow and (sent.term, to) == (order.term, order.sender_id)
