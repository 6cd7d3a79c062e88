"""The rules of the election: Figure 2 of the Raft paper without the log, then what lies beyond Figure 2.

`Election` is a deterministic machine without clock, I/O, thread or lock. It is given the time and says what it owes:

    message, now ──▶ receive ─┐
                              ├──▶ Ready: 1 save `saved`   2 publish `events`   3 send `outbox`
                now ──▶ timeout ┘

Sections are those of Ongaro and Ousterhout, "In Search of an Understandable Consensus Algorithm" (2014); "thesis" is
Ongaro's "Consensus: Bridging Theory and Practice" (2014). Membership follows the logless protocol of Schultz, Dardik
and Tripakis (OPODIS 2021).
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, Callable, Collection, Dict, FrozenSet, Iterable, List, Optional, Set, Tuple, Type, Union

from raftlite.changes import (
    PATIENCE,
    Change,
    MembershipRequest,
    Requests,
    from_wire,
    newcomer,
    nodes_after,
    to_wire,
    what_stays,
    why_not,
)
from raftlite.leader import LeaderState
from raftlite.membership import (
    Membership,
    check_bounds,
    check_node_id,
    check_witnesses,
    founding_membership,
)
from raftlite.messages import (
    AddNode,
    ChangeRefused,
    ChangeRequest,
    ChangeResponse,
    ConfirmLeadership,
    ControlMessage,
    Event,
    Heartbeat,
    HeartbeatResponse,
    LeaderChanged,
    LeadershipConfirmed,
    MembershipChanged,
    Message,
    PeerDown,
    PeerUp,
    Removed,
    RemoveNode,
    RequestVote,
    RequestVoteResponse,
    Resign,
    Stop,
    TimeoutNow,
    TransferLeadership,
)
from raftlite.timing import Timing

TAKEOVER_STEP = 0.005  # seconds at least between the campaigns of two survivors who know that their leader is dead
NEVER = float("inf")
LONG_AGO = float("-inf")
UNKNOWN_OUTCOME = "the leader changed before the change was committed; its outcome is unknown"


class Role(Enum):
    """The "state" of a server in Figure 4, with the pre-candidate of thesis 9.6 and a last one for the stopped."""

    FOLLOWER = "follower"
    PRE_CANDIDATE = "pre-candidate"
    CANDIDATE = "candidate"
    LEADER = "leader"
    STOPPED = "stopped"


@dataclass(frozen=True)
class Saved:
    """Persistent state (Figure 2): what must be on stable storage before anything that follows from it is sent."""

    current_term: int = 0
    voted_for: Optional[str] = None
    membership: Optional[Membership] = None


@dataclass(frozen=True)
class Ready:
    """What the caller owes after one input, in this order: save, publish, send.

    With `may_ask_first` the requests for votes in `outbox` may go before `saved` is saved, which spares a takeover the
    time for that. A candidate's own vote counts nowhere until the next input, and one that goes down before it is saved
    has not voted: nobody can have been elected by it.
    """

    saved: Optional[Saved] = None
    outbox: Tuple[Tuple[str, Message], ...] = ()
    events: Tuple[Event, ...] = ()
    may_ask_first: bool = False


class Election:
    """One member's part in the election.

    Call `start(now)` once, then `receive(message, now)` for whatever arrives and `timeout(now)` when `now` reaches
    `deadline`; carry out each `Ready` before the next call. `now` is in seconds of any clock that never goes back.

    `saved` is what the storage loaded; `nodes` are the other members (`Node`, `NodeInfo` or id). No election starts
    before `min_nodes` voters are known, this one included (default: a majority of the nodes given, at least 2), and
    the cluster never grows beyond `max_nodes` voters. `keeps_votes` says that `saved` outlives the process: then a
    member that has none has never voted, and need not wait before a first election. `witnesses` are voters that never
    campaign, this member or others. Raises `ConfigError` for a setting that is out of bounds.
    """

    def __init__(
        self,
        node_id: str,
        saved: Saved = Saved(),
        nodes: Iterable[Any] = (),
        timing: Timing = Timing(),
        min_nodes: Optional[int] = None,
        max_nodes: Optional[int] = None,
        rng: Optional[random.Random] = None,
        keeps_votes: bool = False,
        witnesses: Collection[str] = (),
    ) -> None:
        check_node_id(node_id)
        founding = founding_membership(node_id, nodes)
        self.node_id = node_id
        self.timing = timing
        self.min_nodes = check_bounds(founding, min_nodes, max_nodes)
        self.max_nodes = max_nodes
        self.witnesses = check_witnesses(founding, witnesses)
        self._rng = rng if rng is not None else random.Random()

        # Persistent state on all servers (Figure 2), with the membership in the place of the log.
        self.current_term = saved.current_term
        self.voted_for = saved.voted_for
        self.membership = saved.membership if saved.current_term and saved.membership else founding
        self._unsaved = False

        # Volatile state on all servers.
        self.role = Role.FOLLOWER
        self.leader_id: Optional[str] = None
        self.answers: Set[str] = set()  # voters that answered the last (pre-)vote asked for, this member included
        self.refusals: Dict[str, str] = {}  # and why some of them refused
        self._announced: Tuple[Optional[str], int] = (None, 0)  # the leader last told to the program, and its term
        self._election_at = NEVER
        self._votes: Set[str] = set()
        self._gives_way = False  # to a lower id, which has asked for pre-votes since it did so itself
        self._promised_until = LONG_AGO  # until then a leader may count on this member's refusal to vote for others
        self._abstains_until = LONG_AGO  # until then an earlier vote may be in flight that this member cannot know
        self._remembers = saved.current_term > 0
        self._keeps_votes = keeps_votes
        self._first_vote = NEVER  # the term of its first vote before its cluster had a leader, as far as it knows
        self._reached: Set[str] = set()  # members that the transport has reached before the first election
        self._hurries_until = LONG_AGO  # when it would have begun if it had not reached all of them
        self._is_hurried = False  # whether the pre-vote that it has asked for came before that
        self._leader_died = False  # there is proof, and this member has not campaigned since
        self._retry_after: Optional[float] = None  # seconds until the next campaign, while it takes over
        self._held_back: Tuple[float, Optional[RequestVote]] = (LONG_AGO, None)  # what its promise forbade
        self._leader: Optional[LeaderState] = None
        self._declined: Dict[str, Tuple[float, float]] = {}  # who could not take over -> not asked until, for so long
        self._requests = Requests()  # changes that the own program has asked for
        self._transfers: Dict[int, TransferLeadership] = {}  # what it asked the leader of this term for
        self._numbered = 0  # how the last of them was numbered
        self._handover: Optional[Change] = None  # a transfer that this member has begun in this term as its leader
        self._resigned_in = self._handed_back_in = 0  # the last terms in which it did
        self.resigned_until = LONG_AGO  # until then it leaves the others to lead

        self._outbox: List[Tuple[str, Message]] = []
        self._events: List[Event] = []
        self._may_ask_first = False

    # --- What goes in, and what comes out ---------------------------------------------------------

    def start(self, now: float) -> Ready:
        """Begin as a follower (section 5.2). A cluster of one voter leads at once."""
        if self._remembers:
            # It may have answered a heartbeat just before it went down: the promise survives the restart.
            self._promised_until = now + self.timing.election_timeout
        else:
            self._abstains_until = now + 2 * self.timing.election_timeout
        self._reset_election_timer(now)
        if self._may_campaign and self.membership.voters == {self.node_id}:
            self._start_election(now)
        return self._ready(now)

    def receive(self, message: Union[Message, ControlMessage], now: float) -> Ready:
        """Handle one message, from a peer or from this member's own program. Raises `TypeError` for anything else."""
        rule = _RULES.get(type(message))
        if rule is None:
            raise TypeError(f"{message!r} is neither a wire message nor a control message")
        if self.role is Role.STOPPED or getattr(message, "sender_id", None) == self.node_id:
            return _NOTHING
        self._step_down_without_lease(now)
        rule(self, message, now)
        return self._ready(now)

    def timeout(self, now: float) -> Ready:
        """Handle the passing of `deadline`. Calling it early does nothing."""
        self._step_down_without_lease(now)
        if now >= self.deadline:
            if self._leader:
                self._stamp_membership(self._leader)
                self._send_heartbeats(self._leader, now)
                self._pass_requests_on(now)
                self._change_next(now)
                self._resume_transfer(now)
            elif self._may_campaign:
                self._start_pre_vote(now)
            else:
                self.leader_id = None  # it is silent, and that is all that there is to say
        return self._ready(now)

    @property
    def deadline(self) -> float:
        """When `timeout` is due; infinity where only a message can bring news."""
        if self._leader:
            return min(self._leader.heartbeat_at, self._leader.leads_until)
        return self._election_at if self._may_campaign or self.leader_id is not None else NEVER

    def understands(self, message: object) -> bool:
        """Whether `receive` takes `message`."""
        return type(message) in _RULES

    @property
    def votes(self) -> Tuple[str, ...]:
        """The members that have voted for this one, or promised to before it stands; this one included."""
        return tuple(sorted(self._votes))

    @property
    def departing(self) -> Set[str]:
        """Members that this leader has removed and still sends to, until they have learnt it."""
        return set(self._leader.departing) if self._leader else set()

    @property
    def lease_expires_at(self) -> Optional[float]:
        """Until when no other member can win an election; None while this member holds no lease (thesis 6.4)."""
        return self._leader.lease_expires_at if self._leader else None

    def _ready(self, now: float) -> Ready:
        self._announce_leader(now)
        if not (self._unsaved or self._outbox or self._events):
            return _NOTHING
        saved = Saved(self.current_term, self.voted_for, self.membership) if self._unsaved else None
        ready = Ready(saved, tuple(self._outbox), tuple(self._events), self._may_ask_first)
        self._unsaved = self._may_ask_first = False
        self._outbox.clear()
        self._events.clear()
        return ready

    def _announce_leader(self, now: float) -> None:
        leader = self._leader
        if leader and not leader.holds_lease(now):
            return  # for the program, leadership begins when a quorum has answered the first round
        known = (self.leader_id, self.current_term if self.leader_id else 0)
        if known != self._announced:
            self._announced = known
            self._events.append(LeaderChanged(self.leader_id, self.current_term))

    # --- Figure 2, rules for all servers ----------------------------------------------------------

    def _become_follower(self, term: int, now: float) -> None:
        """If RPC request or response contains term T > currentTerm: set currentTerm = T, convert to follower."""
        if self._leader:
            self._abdicate(now)
        self.role = Role.FOLLOWER
        self._votes.clear()
        if term > self.current_term:
            self._begin_term(term, voted_for=None)
            self.leader_id = None

    def _begin_term(self, term: int, voted_for: Optional[str]) -> None:
        self.current_term = term
        self.voted_for = voted_for
        self._unsaved = True
        self._handover = None
        self._transfers.clear()

    def _reset_election_timer(self, now: float) -> None:
        """Raft uses randomized election timeouts, chosen from a fixed interval (section 5.2)."""
        self._leader_died, self._retry_after = False, None
        self._election_at = now + self.timing.election_timeout * (1 + self._rng.random())

    # --- Figure 2, RequestVote RPC ----------------------------------------------------------------

    def _receive_request_vote(self, request: RequestVote, now: float) -> None:
        refusal = self._stranger(request) or self._leader_is_alive(request, now)
        if not refusal:
            if request.term > self.current_term and not request.pre_vote:
                self._become_follower(request.term, now)
            refusal = self._vote_is_spent(request) or self._abstains(request, now)
        if not refusal and not request.pre_vote:
            self._grant_vote(request.sender_id, now)
        elif not refusal and self.membership.quorum == 2:
            # Where two are a majority, two that ask at the same time would each keep the vote that the other needs.
            self._gives_way = self._gives_way or request.sender_id < self.node_id
        self._answer_vote(request, refusal)

    def _vote_is_spent(self, request: RequestVote) -> str:
        # 1. Reply false if term < currentTerm (section 5.1)
        if request.term < self.current_term:
            return f"term {request.term} is over, this is term {self.current_term}"
        # 2. If votedFor is null or candidateId, grant vote (section 5.2)
        if request.term == self.current_term and self.voted_for not in (None, request.sender_id):
            return f"voted for {self.voted_for} in term {request.term}"
        return ""

    def _grant_vote(self, candidate_id: str, now: float) -> None:
        if self.voted_for != candidate_id:
            self.voted_for = candidate_id
            self._unsaved = True
        self._note_vote()
        self._become_follower(self.current_term, now)
        self._reset_election_timer(now)

    def _answer_vote(self, request: RequestVote, refusal: str) -> None:
        granted = not refusal
        is_behind = request.membership_version < self.membership.position
        # A granted pre-vote speaks of the term asked about; everything else carries the voter's own.
        term = request.term if granted and request.pre_vote else self.current_term
        membership = self.membership if is_behind else None
        self._send(
            request.sender_id,
            RequestVoteResponse(term, self.node_id, granted, request.pre_vote, refusal, membership),
        )

    # --- Figure 2, rules for candidates -----------------------------------------------------------

    def _start_election(self, now: float, transfer: bool = False) -> None:
        """Increment currentTerm, vote for self, reset election timer, send RequestVote RPCs to all other servers."""
        self.role = Role.CANDIDATE
        is_awaited = transfer or self._retry_after is not None  # the others know that there is no leader
        self._may_ask_first = is_awaited and not self._unsaved
        self._begin_term(self.current_term + 1, voted_for=self.node_id)
        self._note_vote()
        self._is_hurried = False
        self._set_retry_timer(now)
        self._ask_for_votes(pre_vote=False, transfer=transfer)
        self._count_votes(now)

    def _ask_for_votes(self, pre_vote: bool, transfer: bool = False) -> None:
        self.leader_id = None
        self._votes = {self.node_id}
        self.answers = {self.node_id}
        self.refusals = {}
        self._gives_way = False
        term = self.current_term + 1 if pre_vote else self.current_term
        voters = tuple(sorted(self.membership.voters))
        request = RequestVote(term, self.node_id, self.membership.position, voters, pre_vote, transfer)
        for voter in voters:
            if voter != self.node_id:
                self._send(voter, request)

    def _receive_request_vote_response(self, response: RequestVoteResponse, now: float) -> None:
        if response.sender_id not in self.membership.voters:
            return
        self.answers.add(response.sender_id)
        if response.membership and not self._install(response.membership, now):
            return
        if response.vote_granted:
            self._receive_vote(response, now)
        else:
            self.refusals[response.sender_id] = response.reason
            if response.term > self.current_term:
                self._become_follower(response.term, now)

    def _receive_vote(self, response: RequestVoteResponse, now: float) -> None:
        asked_for_pre_vote = self.role is Role.PRE_CANDIDATE
        term = self.current_term + 1 if asked_for_pre_vote else self.current_term
        if self._is_candidate and response.pre_vote is asked_for_pre_vote and response.term == term:
            self._votes.add(response.sender_id)
            self._count_votes(now)

    def _count_votes(self, now: float) -> None:
        """If votes received from majority of servers: become leader."""
        if len(self._votes) < self._votes_needed:
            return
        if self.role is Role.PRE_CANDIDATE:
            if not self._gives_way:
                self._start_election(now)
        else:
            self._become_leader(now)

    # --- Figure 2, rules for leaders, and AppendEntries RPC without entries -----------------------

    def _become_leader(self, now: float) -> None:
        """Upon election: send heartbeat to each server; repeat to prevent election timeouts (section 5.2)."""
        self.role = Role.LEADER
        self.leader_id = self.node_id
        self._leader = LeaderState(self.node_id, self.current_term, self.membership, self.timing, now)
        self._send_heartbeats(self._leader, now)
        self._hasten_second_round(self._leader, now)
        self._pass_requests_on(now)

    def _stamp_membership(self, leader: LeaderState) -> None:
        """A leader's membership bears its term from the second round on; the first, to be fast, needs nothing saved."""
        if self.membership.term != self.current_term:
            stamped = self.membership.stamped(self.current_term)
            self._note_first_election(stamped)
            self.membership = stamped
            self._unsaved = True
            leader.stamp(stamped)

    def _hasten_second_round(self, leader: LeaderState, now: float) -> None:
        if leader.round == 1 and leader.holds_lease(now):
            leader.heartbeat_at = now

    def _send_heartbeats(self, leader: LeaderState, now: float) -> None:
        leader.begin_round(now)
        self._announce_confirmed(leader)  # where this member alone is a majority
        heartbeat = self._heartbeat(leader)
        for member in sorted((self.membership.ids | leader.departing.keys()) - {self.node_id}):
            self._beat(leader, member, heartbeat, now)

    def _beat(self, leader: LeaderState, member: str, heartbeat: Heartbeat, now: float) -> None:
        # Whoever learns that it was removed stops; until the others have committed that, its vote may be needed.
        may_know = member in self.membership.ids or leader.is_committed
        if may_know and leader.needs_membership(member, now):
            heartbeat = self._heartbeat(leader, self.membership)
        self._send(member, heartbeat)

    def _heartbeat(self, leader: LeaderState, membership: Optional[Membership] = None) -> Heartbeat:
        return Heartbeat(self.current_term, self.node_id, leader.round, self.membership.position, membership)

    def _receive_heartbeat(self, heartbeat: Heartbeat, now: float) -> None:
        is_rival = self._leader is not None and heartbeat.term == self.current_term
        if is_rival or not self._listens_to_leader(heartbeat):
            return
        # 1. Reply false if term < currentTerm (section 5.1)
        if heartbeat.term < self.current_term:
            self._answer_heartbeat(heartbeat, promise=0.0)
            return
        # If AppendEntries RPC received from new leader: convert to follower
        self._become_follower(heartbeat.term, now)
        if heartbeat.membership and not self._install(heartbeat.membership, now, is_committed_if_removed=True):
            self._answer_heartbeat(heartbeat, promise=0.0)
            return
        self.leader_id = heartbeat.sender_id
        self._pass_requests_on(now)
        self._promised_until = now + self.timing.election_timeout
        self._reset_election_timer(now)
        self._answer_heartbeat(heartbeat, promise=self.timing.election_timeout)

    def _answer_heartbeat(self, heartbeat: Heartbeat, promise: float) -> None:
        position = self.membership.position
        response = HeartbeatResponse(self.current_term, self.node_id, heartbeat.round, position, promise)
        self._send(heartbeat.sender_id, response)

    def _receive_heartbeat_response(self, response: HeartbeatResponse, now: float) -> None:
        leader = self._leader
        if leader and response.sender_id in leader.departing:
            leader.hear_departing(response)
        if response.sender_id not in self.membership.ids:
            return
        if response.term > self.current_term:
            self._become_follower(response.term, now)
        elif leader and response.term == self.current_term:
            leader.record_answer(response, now)
            self._announce_confirmed(leader)
            self._hasten_second_round(leader, now)
            self._change_next(now)
            self._resume_transfer(now)

    # === Beyond Figure 2 ==========================================================================

    # --- Is it still the leader? (thesis 6.4, without the log's part of a read) ---------------------

    def _confirm(self, request: ConfirmLeadership, now: float) -> None:
        """A lease rests on clocks; what a majority answers to a heartbeat sent after the question rests on nothing."""
        leader = self._leader
        if not leader or not leader.holds_lease(now):
            self._refuse(request, f"{self.node_id} does not lead")
            return
        leader.confirmations.append((leader.round + 1, request))
        leader.heartbeat_at = now

    def _announce_confirmed(self, leader: LeaderState) -> None:
        for request in leader.take_confirmed():
            self._events.append(LeadershipConfirmed(leader.term, request))

    # --- Pre-vote (thesis 9.6), and no vote while a leader is alive (thesis 4.2.3, 6.4) -----------

    def _start_pre_vote(self, now: float) -> None:
        """Before raising its term a follower asks whether it would be voted for; not if it knows that nobody leads."""
        abstains = self._abstains_from_established(now)
        if self._leader_died and not abstains:
            self._start_election(now)
            return
        self._is_hurried = self._is_founding and now < self._hurries_until
        self._set_retry_timer(now)
        if abstains:
            self.leader_id = None
            return
        self.role = Role.PRE_CANDIDATE
        self._ask_for_votes(pre_vote=True)
        self._count_votes(now)

    def _leader_is_alive(self, request: RequestVote, now: float) -> str:
        if request.transfer:
            return ""  # the leader itself asked for this election, having given up its lease
        if self._leader and self._leader.holds_lease(now):
            return f"{self.node_id} leads"
        if now < self._promised_until:
            self._held_back = (now, request)
            return f"{self.leader_id or 'a leader'} was heard from less than an election timeout ago"
        return ""

    # --- Votes that may be forgotten --------------------------------------------------------------

    def _abstains(self, request: RequestVote, now: float) -> str:
        """A member without saved votes votes at once only in a first election."""
        if self.node_id not in request.member_ids:
            return f"{self.node_id} is no voter"
        established_in = request.membership_version[0]
        if established_in > 0 and now < self._abstains_until and not self._took_part(established_in):
            return f"{self.node_id} cannot know how it voted, and abstains for two election timeouts after its start"
        return ""

    def _note_vote(self) -> None:
        if self.membership.term == 0:
            self._first_vote = min(self._first_vote, self.current_term)

    def _note_first_election(self, membership: Membership) -> None:
        if self._took_part(membership.term):
            self._abstains_until = LONG_AGO

    def _took_part(self, established_in: int) -> bool:
        """Whoever has voted by the first leader's term, as it learns now, knows all its votes, those since included."""
        return self.membership.term == 0 and self._first_vote <= established_in

    def _abstains_from_established(self, now: float) -> bool:
        return self.membership.term > 0 and now < self._abstains_until

    # --- Leader lease and check-quorum (thesis 6.2, 6.4) ------------------------------------------

    def _step_down_without_lease(self, now: float) -> None:
        if self._leader and now >= self._leader.leads_until:
            self._become_follower(self.current_term, now)

    def _abdicate(self, now: float) -> None:
        """Stop leading: no lease, no role, a fresh timer; what was not begun is for the next leader."""
        leader, self._leader = self._leader, None
        assert leader is not None
        if leader.lease_expires_at is not None:
            # The lease counted on its own refusal, too, and its on_lost may take as long as the lease would have run.
            self._promised_until = max(self._promised_until, leader.lease_expires_at)
        self.role = Role.FOLLOWER
        self.leader_id = None
        self._reset_election_timer(now)
        if leader.changing:
            self._conclude(leader, leader.changes.pop(0), "refused", UNKNOWN_OUTCOME)
        for change in leader.changes:
            self._conclude(leader, change, "again")
        if leader.transfer:
            self._answer_request(leader.transfer, "refused", f"{self.node_id} has ceased to lead")
        for _, request in leader.confirmations:
            self._refuse(request, f"{self.node_id} has ceased to lead")

    # --- Leadership transfer (thesis 3.10) and fast takeover --------------------------------------

    def _request_transfer(self, request: TransferLeadership, now: float) -> None:
        """What a program asks of its own member: the leader hands over, any other member asks the leader to."""
        number = self._next_number(now)
        if self._leader:
            self._transfers[number] = request
            self._transfer_leadership(self._leader, Change(self.node_id, number, request), now)
        elif self.leader_id is None:
            self._refuse(request, f"{self.node_id} does not lead and knows of nobody who does")
        else:
            self._transfers[number] = request
            self._send(self.leader_id, to_wire(self.current_term, self.node_id, number, request))

    def _transfer_leadership(self, leader: LeaderState, change: Change, now: float) -> None:
        """The leader first drops its lease and its role, for its term for ever, then tells its successor."""
        assert isinstance(change.request, TransferLeadership)
        successor = change.request.to or self._successor(leader, now)
        if self._may_yet_answer(leader, successor, now) and not leader.transfer:
            leader.transfer = change
            return
        refusal = self._why_not_successor(leader, successor, now)
        if refusal:
            self._answer_request(change, "refused", refusal)
            return
        assert successor is not None
        if leader.needs_membership(successor, now):
            self._send(successor, self._heartbeat(leader, self.membership))  # or nobody would vote for it
        self._become_follower(self.current_term, now)
        self._handover = change
        self._send(successor, TimeoutNow(self.current_term, self.node_id))

    def _may_yet_answer(self, leader: LeaderState, successor: Optional[str], now: float) -> bool:
        """In the first moments of a reign nobody can tell who is slow from who is down."""
        is_young = now < leader.elected_at + self.timing.election_timeout
        return is_young and successor in self.membership.voters and not leader.has_heard(successor)

    def _resume_transfer(self, now: float) -> None:
        leader = self._leader
        if leader and leader.transfer:
            change, leader.transfer = leader.transfer, None
            self._transfer_leadership(leader, change, now)

    def _why_not_successor(self, leader: LeaderState, successor: Optional[str], now: float) -> str:
        if successor is None:
            return self._why_no_successor(leader, now)
        if successor == self.node_id or successor not in self.membership.voters:
            return f"{successor} is no other voter of {self.membership}"
        if successor in self.witnesses:
            return f"{successor} is a witness, which votes and never leads"
        return "" if successor in leader.up(now) else f"{successor} does not answer"

    def _successor(self, leader: LeaderState, now: float) -> Optional[str]:
        """Who was heard from last, but nobody who never leads, has declined a short while ago, or answers no more."""
        declined = {voter for voter, (until, _) in self._declined.items() if now < until}
        return leader.heard_from_last(among=leader.up(now) - declined - self.witnesses)

    def _why_no_successor(self, leader: LeaderState, now: float) -> str:
        silent = sorted(self._campaigners - leader.up(now))
        no_answer = f"no answer from {', '.join(silent)}, and " if silent else ""
        return f"{no_answer}no other voter may lead now"

    def _hand_over(self, leader: LeaderState, now: float) -> bool:
        """Hand over without being asked for it by a transfer; False where there is nobody to hand over to."""
        if self._successor(leader, now) is None:
            return False
        self._transfer_leadership(leader, Change(self.node_id, 0, TransferLeadership()), now)
        return True

    def _resign(self, request: Resign, now: float) -> None:
        if not self._leader or request.term not in (None, self.current_term):
            in_term = "" if request.term is None else f" in term {request.term}"
            self._refuse(request, f"{self.node_id} does not lead{in_term}")
            return
        if not self._hand_over(self._leader, now):
            self._become_follower(self.current_term, now)
        self._election_at += 2 * self.timing.election_timeout
        self._resigned_in = self.current_term
        self.resigned_until = now + 2 * self.timing.election_timeout

    def _receive_timeout_now(self, request: TimeoutNow, now: float) -> None:
        is_rival = self._leader is not None and request.term == self.current_term
        if is_rival or request.term < self.current_term or request.sender_id not in self.membership.voters:
            return
        self._become_follower(request.term, now)
        if request.term == self._resigned_in:
            return
        if not self._may_campaign or self._abstains_from_established(now) or now < self.resigned_until:
            self._hand_back(request)
        else:
            self._note_decline(request.sender_id, now)
            self._start_election(now, transfer=True)

    def _hand_back(self, request: TimeoutNow) -> None:
        """A successor that may not campaign sends the request back, so that nobody waits for an election timeout."""
        if self._handed_back_in != request.term:  # once, or two that may not would go on for ever
            self._handed_back_in = request.term
            self._send(request.sender_id, TimeoutNow(request.term, self.node_id))

    def _note_decline(self, successor: str, now: float) -> None:
        """Where this member has handed over in this term, its successor has handed back."""
        if self._handover:
            _, pause = self._declined.get(successor, (LONG_AGO, self.timing.election_timeout))
            # Whoever declines for good is at last not asked for longer than a change waits.
            pause = min(2 * pause, 2 * PATIENCE * self.timing.election_timeout)
            self._declined[successor] = (now + pause, pause)
            reason = f"{successor} may not campaign: it has no vote, never leads, abstains or has resigned"
            self._answer_request(self._handover, "refused", reason)

    # --- What the transport knows of the others ----------------------------------------------------

    def _peer_up(self, request: PeerUp, now: float) -> None:
        """A leader makes itself known to whoever comes. In a first election there is no silence to wait for."""
        if self._leader and request.node_id in self.membership.ids:
            self._beat(self._leader, request.node_id, self._heartbeat(self._leader), now)
        elif self._is_founding:
            self._reached.add(request.node_id)
            is_complete = self.membership.voters <= self._reached | {self.node_id}
            if is_complete and self._keeps_votes and self._may_campaign:
                self._hurry(self._takeover_step(request.round_trip), now)

    def _hurry(self, step: float, now: float) -> None:
        """Begin in turn, with pre-votes to which all must agree; when the timer would have run out, a majority will do.

        Members that lose their votes with their processes may have promised a leader an election timeout just before;
        that leader does not agree.
        """
        if self._hurries_until == LONG_AGO:
            self._hurries_until = self._election_at
        if now < self._hurries_until:
            self._campaign_in_turn(sorted(self._campaigners), step, now)
            self._election_at = min(self._election_at, self._hurries_until)

    def _peer_down(self, request: PeerDown, now: float) -> None:
        """The leader's process is gone, and with it its lease: the promise not to vote is void."""
        if self.leader_id is None or request.node_id != self.leader_id or self._leader:
            return
        self.leader_id = None
        self._promised_until = LONG_AGO
        step = self._takeover_step(request.round_trip)
        self._take_over_from(request.node_id, step, now)
        held_at, held_back = self._held_back
        if held_back and now - held_at <= step:  # another survivor had the proof first, and waits
            self._receive_request_vote(held_back, now)
        if self._leader_died and now >= self._election_at:
            self._start_pre_vote(now)

    def _takeover_step(self, round_trip: float) -> float:
        """Time enough for a vote to be asked for and given; a round trip that is long may be one with a lost packet."""
        on_one_machine = min(TAKEOVER_STEP, self.timing.election_timeout / 20)
        return max(on_one_machine, min(2 * round_trip, self.timing.election_timeout / 5))

    def _take_over_from(self, dead: str, step: float, now: float) -> None:
        """Campaign within milliseconds, beginning with the voter after the dead one."""
        campaigners = sorted(self._campaigners - {dead}, key=lambda voter: (voter < dead, voter))
        if self.node_id in campaigners:
            self._leader_died = True
            self._campaign_in_turn(campaigners, step, now)

    def _campaign_in_turn(self, campaigners: List[str], step: float, now: float) -> None:
        """One after the other, so that two of them rarely collide; until somebody leads, again and again."""
        self._retry_after = step
        self._election_at = now + step * campaigners.index(self.node_id)

    def _set_retry_timer(self, now: float) -> None:
        """An election timeout; while it takes over, milliseconds, and twice as many after each attempt."""
        pause = self._retry_after
        self._reset_election_timer(now)
        if pause and pause < self.timing.election_timeout:
            self._retry_after = 2 * pause
            self._election_at = now + pause * (1 + self._rng.random())
        if self._is_hurried:
            self._election_at = min(self._election_at, self._hurries_until)

    def _stop(self, request: Stop, now: float) -> None:
        if self._leader:
            self._hand_over(self._leader, now)
        self._end(now)

    def _end(self, now: float) -> None:
        self._become_follower(self.current_term, now)
        self.leader_id = None
        self.role = Role.STOPPED
        for request in self._requests.take_all():
            self._refuse(request, f"{self.node_id} has stopped before it was answered; the outcome is unknown")
        self._election_at = NEVER

    # --- Membership: who is listened to -----------------------------------------------------------

    @property
    def _is_founding(self) -> bool:
        """Until the first vote or term, a node's membership is its own list, and its program may change it."""
        return self.current_term == 0

    @property
    def _is_candidate(self) -> bool:
        return self.role in (Role.CANDIDATE, Role.PRE_CANDIDATE)

    @property
    def _may_campaign(self) -> bool:
        knows_enough = self.membership.term > 0 or len(self.membership.voters) >= self.min_nodes
        is_campaigner = self.node_id in self.membership.voters and self.node_id not in self.witnesses
        return self.role is not Role.STOPPED and knows_enough and is_campaigner

    @property
    def _campaigners(self) -> FrozenSet[str]:
        """The voters that may lead."""
        return self.membership.voters - self.witnesses

    @property
    def _votes_needed(self) -> int:
        if self._is_hurried and self.role is Role.PRE_CANDIDATE:
            return len(self.membership.voters)
        quorum = self.membership.quorum
        return quorum if self.membership.term else max(quorum, self.min_nodes)

    def _stranger(self, request: RequestVote) -> str:
        """A request is judged by its membership first: what is refused here does not get its term adopted."""
        own = self.membership
        if request.membership_version < own.position:
            return f"its membership {request.membership_version} is older than {own}"
        if request.membership_version > own.position:
            return ""  # it may know what this member does not know yet, whoever it is
        if own.term == 0 and set(request.member_ids) != own.voters:
            theirs, ours = ", ".join(request.member_ids), ", ".join(sorted(own.voters))
            return f"{request.sender_id} was started with {theirs}, but {self.node_id} with {ours}"
        return "" if request.sender_id in own.voters else f"{request.sender_id} is no voter of {own}"

    def _listens_to_leader(self, heartbeat: Heartbeat) -> bool:
        if heartbeat.sender_id in self.membership.ids:
            return True
        brought = heartbeat.membership
        if brought is None or brought.position <= self.membership.position:
            return False
        return {heartbeat.sender_id, self.node_id} <= brought.ids

    def _install(self, membership: Membership, now: float, is_committed_if_removed: bool = False) -> bool:
        """Adopt a newer membership, whoever brings it; False if this member does not belong to it.

        First the term rises to the membership's and a candidacy is given up, even in the same term: without these
        two rules, two leaders in one term can be reached in ten steps.
        """
        if membership.position <= self.membership.position:
            return True
        if self.node_id not in membership.ids and self.membership.term == 0:
            return False  # it never belonged; it waits until a leader lets it in
        self._become_follower(max(membership.term, self.current_term), now)
        self._note_first_election(membership)
        self.membership = membership
        self._unsaved = True
        self._events.append(MembershipChanged(membership))
        if self.node_id not in membership.ids:
            if is_committed_if_removed:
                self._answer_own_removal(membership)
            self._events.append(Removed())
            self._end(now)
            return False
        return True

    # --- Membership: changing it (Reconfig of the logless protocol) ---------------------------------

    def _change_founding(self, request: MembershipRequest, now: float) -> None:
        own_removal = f"{self.node_id} cannot remove itself" if request == RemoveNode(self.node_id) else ""
        refusal = own_removal or self._why_not(request)
        if refusal:
            self._refuse(request, refusal)
            return
        self._become_follower(self.current_term, now)
        self.membership = Membership(0, 1, nodes_after(self.membership, request))
        self._events.append(MembershipChanged(self.membership, request))
        self._reset_election_timer(now)

    def _change_next(self, now: float) -> None:
        """Only under a valid lease, and only once a quorum has answered with the current membership."""
        leader = self._leader
        while leader and leader.changes and leader.is_committed and leader.holds_lease(now):
            leader.changing = False  # what was begun is committed
            if not self._advance(leader, leader.changes[0], now):
                return

    def _advance(self, leader: LeaderState, change: Change, now: float) -> bool:
        """Take the next step of a change, or end it; False where it has to wait."""
        request = change.request
        assert not isinstance(request, TransferLeadership)
        lacking = self._lacks_voters(leader, request, now) or self._lacks_successor(leader, request, now)
        joining = newcomer(self.membership, request)
        if nodes_after(self.membership, request) == self.membership.nodes:
            leader.heartbeat_at = now  # whoever was removed may learn it now
            self._conclude(leader, leader.changes.pop(0), "done")
        elif self._why_not(request):
            self._conclude(leader, leader.changes.pop(0), "refused", self._why_not(request))
        elif lacking and joining:
            change.begun_with = replace(joining, voter=False)  # it follows without a vote first (thesis 4.2.1)
            self._begin_change(leader, AddNode(change.begun_with), now)
        elif lacking:
            return self._give_up_waiting(leader, change, lacking, now)
        elif request == RemoveNode(self.node_id):
            self._hand_over(leader, now)  # the next leader removes this one
            return False
        else:
            self._begin_change(leader, request, now)
        return True

    def _lacks_voters(self, leader: LeaderState, request: MembershipRequest, now: float) -> str:
        """Why the voters that `request` leaves may be no quorum: a change must not cost the cluster its leader."""
        after = self.membership.changed(nodes_after(self.membership, request))
        silent = after.voters - leader.up(now)
        up = len(after.voters) - len(silent)
        if after.voters == self.membership.voters or up >= after.quorum:
            return ""
        return f"no answer from {', '.join(sorted(silent))}, and {up} of {len(after.voters)} voters is no majority"

    def _lacks_successor(self, leader: LeaderState, request: MembershipRequest, now: float) -> str:
        """Why nobody can take over from a leader that `request` removes."""
        is_needed = request == RemoveNode(self.node_id) and self._successor(leader, now) is None
        return self._why_no_successor(leader, now) if is_needed else ""

    def _give_up_waiting(self, leader: LeaderState, change: Change, lacking: str, now: float) -> bool:
        if change.since is None:
            change.since = now
        if now < change.since + PATIENCE * self.timing.election_timeout:
            return False
        leader.changes.pop(0)
        if change.begun_with:
            leader.changes.insert(0, Change(self.node_id, 0, RemoveNode(change.begun_with.node_id)))
        else:  # a leader before this one, or the program, may have let it in without a vote: who is to know which?
            lacking += what_stays(self.membership, change.request)
        self._conclude(leader, change, "refused", lacking)
        return True

    def _begin_change(self, leader: LeaderState, request: MembershipRequest, now: float) -> None:
        before = self.membership
        self.membership = before.changed(nodes_after(before, request))
        self._unsaved = True
        leader.adopt(self.membership)
        leader.changing = True
        leader.departing.update(dict.fromkeys(before.ids - self.membership.ids, self.membership.position))
        for member in self.membership.ids:
            leader.departing.pop(member, None)
        self._send_heartbeats(leader, now)

    def _why_not(self, request: MembershipRequest) -> str:
        known = len(self.membership.voters)
        least = 1 if self._is_founding and known < self.min_nodes else self.min_nodes  # a short list may be corrected
        return why_not(self.membership, request, self.node_id, least, self.max_nodes, self.witnesses)

    # --- Membership: passing requests on to the leader ----------------------------------------------

    def _request_change(self, request: MembershipRequest, now: float) -> None:
        """What a program asks of its own member is answered once, by an event."""
        nodes_after(self.membership, request)  # raises `ConfigError` for what is no node, before anything is changed
        if self._is_founding:
            self._change_founding(request, now)
            return
        self._requests.add(self._next_number(now), request)
        self._pass_requests_on(now)

    def _next_number(self, now: float) -> int:
        # By the clock, because a restarted member must not use the numbers of its former life again.
        self._numbered = max(self._numbered + 1, int(now * 1_000_000))
        return self._numbered

    def _pass_requests_on(self, now: float) -> None:
        """Ask the leader, with every heartbeat again until it answers: it takes each number up once."""
        if self.leader_id is None or not self._requests:
            return
        for lost in self._requests.take_overdue(self.current_term, now, self.timing.election_timeout):
            self._refuse(lost, UNKNOWN_OUTCOME)
        for number, request in self._requests.to_ask(self.current_term, most=None if self._leader else 1):
            if self._leader:
                self._take_up(self._leader, Change(self.node_id, number, request), now)
            else:
                self._send(self.leader_id, to_wire(self.current_term, self.node_id, number, request))

    def _receive_change_request(self, message: ChangeRequest, now: float) -> None:
        leader, request = self._leader, from_wire(message)
        if not leader or message.term != self.current_term or message.sender_id not in self.membership.ids:
            return
        if request is None:
            return
        change = Change(message.sender_id, message.number, request)
        if isinstance(request, TransferLeadership):
            self._transfer_leadership(leader, change, now)
        elif (change.origin, change.number) in leader.concluded:
            self._send(change.origin, leader.concluded[change.origin, change.number])
        else:
            self._take_up(leader, change, now)

    def _take_up(self, leader: LeaderState, change: Change, now: float) -> None:
        if change not in leader.changes:
            leader.changes.append(change)
            self._change_next(now)

    def _conclude(self, leader: LeaderState, change: Change, outcome: str, reason: str = "") -> None:
        response = self._answer_request(change, outcome, reason)
        if change.origin != self.node_id:
            leader.remember(change.origin, response)
            if response.membership:
                self._events.append(MembershipChanged(response.membership))

    def _answer_request(self, change: Change, outcome: str, reason: str = "") -> ChangeResponse:
        membership = self.membership if outcome == "done" else None
        response = ChangeResponse(self.current_term, self.node_id, change.number, outcome, reason, membership)
        if change.origin == self.node_id:
            self._hear_outcome(response)
        else:
            self._send(change.origin, response)
        return response

    def _receive_change_response(self, response: ChangeResponse, now: float) -> None:
        """True whatever the term: what was done in an earlier one was committed, what was refused will not be."""
        if response.sender_id not in self.membership.ids:
            return
        self._hear_outcome(response)
        if response.membership:
            self._install(response.membership, now)
        self._pass_requests_on(now)

    def _hear_outcome(self, response: ChangeResponse) -> None:
        if response.outcome == "again":
            self._requests.ask_again(response.number, response.term)
            return
        request = self._requests.take(response.number) or self._transfers.pop(response.number, None)
        if request is not None and response.outcome == "done":
            self._events.append(MembershipChanged(response.membership or self.membership, request))
        elif request is not None:
            self._refuse(request, response.reason)

    def _answer_own_removal(self, membership: Membership) -> None:
        for request in self._requests.take_equal(RemoveNode(self.node_id)):
            self._events.append(MembershipChanged(membership, request))

    # --- Helpers ----------------------------------------------------------------------------------

    def _send(self, node_id: str, message: Message) -> None:
        self._outbox.append((node_id, message))

    def _refuse(self, request: ControlMessage, reason: str) -> None:
        self._events.append(ChangeRefused(request, reason))


_NOTHING = Ready()

_RULES: Dict[Type[Any], Callable[[Election, Any, float], None]] = {
    RequestVote: Election._receive_request_vote,
    RequestVoteResponse: Election._receive_request_vote_response,
    Heartbeat: Election._receive_heartbeat,
    HeartbeatResponse: Election._receive_heartbeat_response,
    TimeoutNow: Election._receive_timeout_now,
    ChangeRequest: Election._receive_change_request,
    ChangeResponse: Election._receive_change_response,
    AddNode: Election._request_change,
    RemoveNode: Election._request_change,
    TransferLeadership: Election._request_transfer,
    Resign: Election._resign,
    ConfirmLeadership: Election._confirm,
    PeerUp: Election._peer_up,
    PeerDown: Election._peer_down,
    Stop: Election._stop,
}
