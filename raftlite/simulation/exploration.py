"""Every interleaving of a small cluster, breadth first, on the same `Election` that the threads run.

Clocks are ignored: any timer may fire at any time, no promise not to vote is kept, and every pre-vote is won, so that
whatever the clocks of a real cluster allow is among what is explored. What is exhausted is therefore the safety that
rests on terms, votes and memberships alone: one leader per term, and memberships that cannot elect past each other.
Leases rest on clocks and are the simulation's subject.

Each step delivers a message (and may keep it, to deliver it again), drops one, starts an election, sends heartbeats,
lets a leader step down, crashes and restarts a member with what it had saved, or asks a leader for a change of the
membership or for a transfer. States that differ by the names of the members alone are one state: no rule depends on
how a name reads, but for the choice of a successor, which is why a transfer names it here.

The published specification of the logless protocol, action by action:

    specification         here                                  difference
    BecomeLeader(i, Q)    _start_election, _count_votes,        one atomic step there; here votes travel as messages
                          _become_leader                        and a saved vote stands for "n is in a lower term"
    its guard on terms    _vote_is_spent                        a vote is refused in an old term, or once it is given
    its guard on configs  _stranger                             the same order of term and version; older is refused
    its config's term     _stamp_membership                     a later step, before the leader tells or changes it
    UpdateTerms(i, j)     _become_follower                      terms travel with heartbeats, votes and their answers
    SendConfig(i, j)      _install                              any message may bring one; here the term rises with
                                                                it and a candidacy ends, which voted_for requires
    Reconfig(i, new)      _change_next, _begin_change           the same, and a valid lease besides
    ConfigQuorumCheck     LeaderState.is_committed              a quorum answered with exactly this term and version
    TermQuorumCheck       the same set                          who answered with (T, v) to the leader of T is in T
    QuorumsOverlap        one voter at a time                   sufficient for an overlap
    i in new              why_not                               a leader neither adds nor removes itself
    OplogCommitment       -                                     there is no log
"""

from __future__ import annotations

import copy
import random
import time
from dataclasses import dataclass, field
from itertools import permutations
from typing import Any, Callable, Dict, FrozenSet, Iterator, List, Optional, Set, Tuple, Type

from raftlite.changes import Change, Requests
from raftlite.election import NEVER, Election, Role, Saved
from raftlite.leader import LeaderState
from raftlite.membership import Membership, NodeInfo
from raftlite.messages import AddNode, RemoveNode, RequestVote, TransferLeadership
from raftlite.simulation.invariants import Violation, disabled_members, overlapping
from raftlite.timing import Timing

_TIMING = Timing(heartbeat_interval=1.0, election_timeout=10.0, clock_drift=0.0)
_FAR = 1e6  # a time that is never reached: promises to a leader hold until then

Local = Tuple[Any, ...]
"""What one member's future depends on: its election without the clock."""

State = Tuple[Tuple[int, ...], FrozenSet[int], Tuple[int, ...], Tuple[int, int, int]]
"""Members, messages in flight, who led in each term, and what is left of crashes, changes and transfers."""


@dataclass
class Bounds:
    """How far to explore. A state with more messages in flight than `in_flight` is not entered."""

    members: int = 3
    terms: int = 2
    in_flight: int = 3
    crashes: int = 1
    changes: int = 1
    transfers: int = 0


@dataclass
class Explored:
    """What was reached: distinct states, steps between them, and how many states show something worth reaching."""

    states: int = 0
    steps: int = 0
    depth: int = 0
    with_leader: int = 0
    with_two_leaders: int = 0  # leaders of successive terms, one after the other
    with_changed_membership: int = 0
    with_committed_change: int = 0
    is_complete: bool = False
    seconds: float = 0.0
    bounds: Bounds = field(default_factory=Bounds)

    def describe(self) -> List[str]:
        """What was reached, in words."""
        bounds = self.bounds
        return [
            f"{bounds.members} members, {bounds.terms} terms, {bounds.in_flight} messages on their way, "
            f"{bounds.crashes} crashes, {bounds.changes} changes of the membership, {bounds.transfers} transfers",
            f"  {self.states} distinct states, {self.steps} steps between them, {self.depth} deep, "
            f"in {self.seconds:.0f} s: {'all of them' if self.is_complete else 'not all'}",
            f"  {self.with_leader} with a leader, {self.with_two_leaders} after two successive leaders, "
            f"{self.with_changed_membership} with a changed membership, {self.with_committed_change} of them committed",
        ]


class Explorer:
    """Explores the cluster of `bounds` with the rules of `election`, which may have a fault planted in it."""

    def __init__(self, bounds: Bounds, election: Type[Election] = Election) -> None:
        self.bounds = bounds
        self.ids = tuple(f"n{number}" for number in range(1, bounds.members + 1))
        self.spare = f"n{bounds.members + 1}" if bounds.changes else None
        self.all_ids = (*self.ids, self.spare) if self.spare else self.ids
        self.explored = Explored(bounds=bounds)
        self._election = election
        self._locals = _Table()
        self._messages = _Table()
        self._effects: Dict[Tuple[int, int, Any], Tuple[int, Tuple[int, ...]]] = {}
        self._checked: Set[Tuple[int, ...]] = set()
        self._templates = {node_id: self._template(node_id) for node_id in self.all_ids}
        self._renamings = [_Renaming(self, order) for order in permutations(self.ids) if order != self.ids]

    # --- The search -------------------------------------------------------------------------------

    def explore(
        self, most_states: Optional[int] = None, progress: Callable[[Explored], None] = lambda _: None
    ) -> Explored:
        """Visit every state within the bounds, or the first `most_states`; raise `Violation` with the way there."""
        started_at = time.monotonic()
        try:
            self._explore(most_states, progress)
        finally:
            self.explored.seconds = time.monotonic() - started_at
        return self.explored

    def _explore(self, most_states: Optional[int], progress: Callable[[Explored], None]) -> None:
        start = self._initial()
        came_from: Dict[State, Optional[State]] = {start: None}
        frontier = [start]
        explored = self.explored
        while frontier:
            explored.depth += 1
            following: List[State] = []
            for state in frontier:
                for reached in self._steps(state, came_from):
                    explored.steps += 1
                    canonical = self._canonical(reached)
                    if canonical not in came_from:
                        came_from[canonical] = state
                        following.append(canonical)
                        self._enter(canonical, came_from)
                if most_states is not None and len(came_from) >= most_states:
                    explored.states = len(came_from)
                    return
            explored.states = len(came_from)
            progress(explored)
            frontier = following
        explored.is_complete = True

    def _initial(self) -> State:
        members = tuple(self._locals.number(self._freeze(self._templates[node_id])) for node_id in self.all_ids)
        bounds = self.bounds
        return members, frozenset(), (0,) * (bounds.terms + 1), (bounds.crashes, bounds.changes, bounds.transfers)

    def _steps(self, state: State, came_from: Dict[State, Optional[State]]) -> Iterator[State]:
        members, in_flight, _, budgets = state
        crashes, changes, transfers = budgets
        try:
            for message in in_flight:
                yield (members, in_flight - {message}, state[2], budgets)
                to, content = self._messages.value(message)
                index = self.all_ids.index(to)
                delivered = self._apply(state, index, content, in_flight - {message}, budgets)
                if delivered is not None:
                    yield delivered
                repeated = self._apply(state, index, content, in_flight, budgets)
                if repeated is not None:
                    yield repeated
            for index in range(len(members)):
                for action in ("elect", "heartbeat", "step down"):
                    yield from self._try(state, index, action, budgets)
                if crashes:
                    for action in ("restart", "ask and restart"):
                        yield from self._try(state, index, action, (crashes - 1, changes, transfers))
                for other in self.all_ids:
                    if changes:
                        yield from self._try(state, index, ("change", other), (crashes, changes - 1, transfers))
                    if transfers:
                        yield from self._try(state, index, ("transfer", other), (crashes, changes, transfers - 1))
        except Violation as violation:
            raise self._with_way(violation, state, came_from) from None

    def _enter(self, state: State, came_from: Dict[State, Optional[State]]) -> None:
        try:
            self._count(state)
        except Violation as violation:
            raise self._with_way(violation, state, came_from) from None

    def _try(self, state: State, index: int, action: Any, budgets: Tuple[int, int, int]) -> Iterator[State]:
        reached = self._apply(state, index, action, state[1], budgets)
        if reached is not None:
            yield reached

    def _apply(
        self, state: State, index: int, action: Any, in_flight: FrozenSet[int], budgets: Tuple[int, int, int]
    ) -> Optional[State]:
        """The state after one member's step; None where it changes nothing or leaves the bounds."""
        members, _, leaders, _ = state
        key = (index, members[index], action)
        effect = self._effects.get(key)
        if effect is None:
            effect = self._effects[key] = self._take_step(index, members[index], action)
        local, sent = effect
        if local < 0 or (local == members[index] and in_flight.issuperset(sent) and in_flight is state[1]):
            return None
        if sent:
            in_flight = in_flight.union(sent)
            if len(in_flight) > self.bounds.in_flight:
                return None
        members = (*members[:index], local, *members[index + 1 :])
        return members, in_flight, self._with_leader(leaders, index, local), budgets

    def _with_leader(self, leaders: Tuple[int, ...], index: int, local: int) -> Tuple[int, ...]:
        term, _, _, role = self._locals.value(local)[:4]
        if role is not Role.LEADER or leaders[term] == index + 1:
            return leaders
        if leaders[term]:
            what = f"{self.all_ids[leaders[term] - 1]} and {self.all_ids[index]} lead in term {term}"
            raise Violation("one leader per term", what)
        return (*leaders[:term], index + 1, *leaders[term + 1 :])

    def _count(self, state: State) -> None:
        members, _, leaders, _ = state
        if members not in self._checked:
            self._check(members)
            self._checked.add(members)
        led = sum(1 for leader in leaders if leader)
        values = [self._locals.value(number) for number in members]
        self.explored.with_leader += any(value[3] is Role.LEADER for value in values)
        self.explored.with_two_leaders += led > 1
        self.explored.with_changed_membership += any(value[2].version > 1 for value in values)
        self.explored.with_committed_change += any(value[7] for value in values)

    # --- One step of one member -------------------------------------------------------------------

    def _template(self, node_id: str) -> Election:
        others = [other for other in self.ids if other != node_id] if node_id in self.ids else []
        election = self._election(node_id, Saved(), others, _TIMING, None, None, _Middle())
        election.start(-_FAR)
        return election

    def _take_step(self, index: int, local: int, action: Any) -> Tuple[int, Tuple[int, ...]]:
        """The new local state and what is sent, as numbers; a negative state where the action is not possible."""
        node_id = self.all_ids[index]
        before = self._locals.value(local)
        election = self._thaw(node_id, before)
        restarts = action in ("restart", "ask and restart")
        if election.role is Role.STOPPED and action != "restart":
            return -1, ()
        outbox = self._act(election, action)
        if outbox is None or election.current_term > self.bounds.terms:
            return -1, ()
        after = self._freeze(election)
        if not restarts:
            _check_step(node_id, before, after)
        return self._locals.number(after), tuple(self._messages.number(entry) for entry in outbox)

    def _act(self, election: Election, action: Any) -> Optional[List[Tuple[str, Any]]]:
        """Carry out `action`; return what is sent, or None where the action is not possible."""
        if action == "elect":
            if election.role is Role.LEADER or not election._may_campaign:
                return None
            election._start_election(0.0)
            return _sent(election._ready(0.0).outbox)
        if action in ("heartbeat", "step down"):
            if election._leader is None:
                return None
            now = election._leader.heartbeat_at if action == "heartbeat" else election._leader.leads_until
            return _sent(election.timeout(now).outbox)
        if action == "ask and restart":
            return self._ask_and_restart(election)
        if action == "restart":
            saved = Saved(election.current_term, election.voted_for, election.membership)
            fresh = self._templates[election.node_id]
            restarted = self._election(
                election.node_id, saved, fresh.membership.without(election.node_id), _TIMING, None, None, _Middle()
            )
            election.__dict__ = restarted.__dict__
            return []
        if isinstance(action, tuple):
            if election._leader is None:
                return None
            return _sent(election.receive(self._request(election, *action), 0.0).outbox)
        return _sent(election.receive(action, 0.0).outbox)

    def _ask_and_restart(self, election: Election) -> Optional[List[Tuple[str, Any]]]:
        """`Ready.may_ask_first`: its requests are on their way when it goes down, but its own vote is not saved."""
        candidate = self._thaw(election.node_id, self._freeze(election))
        asked = self._act(candidate, "elect")
        self._act(election, "restart")
        if asked is None or candidate.current_term > self.bounds.terms:
            return None
        return [entry for entry in asked if type(entry[1]) is RequestVote]

    def _request(self, election: Election, kind: str, other: str) -> Any:
        if kind == "transfer":
            return TransferLeadership(other)
        return RemoveNode(other) if other in election.membership.ids else AddNode(NodeInfo(other))

    # --- Local states -----------------------------------------------------------------------------

    def _freeze(self, election: Election) -> Local:
        leader = election._leader
        kept: Any = None
        if leader is not None:
            promised = frozenset(member for member in leader._promised_until if member in self.all_ids)
            installed = frozenset(leader._installed.items())
            requests = tuple(change.request for change in leader.changes)
            kept = (promised, installed, requests, leader.changing, frozenset(leader.departing.items()))
        votes = frozenset(election._votes) if election.role is Role.CANDIDATE else frozenset()
        is_committed = leader is not None and election.membership.version > 1 and leader.is_committed
        return (
            election.current_term,
            election.voted_for,
            election.membership,
            election.role,
            election.leader_id,
            votes,
            kept,
            is_committed,
        )

    def _thaw(self, node_id: str, local: Local) -> Election:
        election = copy.copy(self._templates[node_id])
        term, voted_for, membership, role, leader_id, votes, kept, _ = local
        election.current_term, election.voted_for, election.membership = term, voted_for, membership
        election.role, election.leader_id = role, leader_id
        election._votes, election.answers, election.refusals = set(votes), set(), {}
        election._outbox, election._events, election._unsaved = [], [], False
        election._requests, election._transfers, election._declined = Requests(), {}, {}
        election._first_vote, election._reached = NEVER, set()
        election._announced = (leader_id, term if leader_id else 0)
        election._election_at = NEVER
        election._promised_until = election._abstains_until = -NEVER
        election._leader = None if kept is None else self._thaw_leader(election, *kept)
        return election

    def _thaw_leader(
        self, election: Election, promised: Any, installed: Any, changes: Any, changing: bool, departing: Any
    ) -> Any:
        leader = LeaderState(election.node_id, election.current_term, election.membership, _TIMING, 0.0)
        leader.round, leader._sent_at, leader.heartbeat_at = 1, {1: 0.0, 2: 0.0}, 1.0  # later rounds are the second
        leader._promised_until = dict.fromkeys(promised, _FAR)
        leader._heard_at = dict.fromkeys(promised, 0.0)
        leader._installed = dict(installed)
        leader.changes = [Change(election.node_id, number, request) for number, request in enumerate(changes)]
        leader.changing, leader.departing = changing, dict(departing)
        leader._update_lease()
        return leader

    # --- Invariants of whole states ---------------------------------------------------------------

    def _check(self, members: Tuple[int, ...]) -> None:
        held: Dict[str, Membership] = {}
        terms: Dict[str, int] = {}
        nodes_of: Dict[Tuple[int, int], Any] = {}
        for node_id, number in zip(self.all_ids, members):
            term, _, membership = self._locals.value(number)[:3]
            terms[node_id] = term  # also of one that waits to be let in: it may have voted
            if node_id == self.spare and membership.term == 0:
                continue  # it holds no membership of the cluster yet
            held[node_id] = membership
            if term < membership.term:
                raise Violation("a term is as new as its membership", f"{node_id} holds {membership} in term {term}")
            if nodes_of.setdefault(membership.position, membership.nodes) != membership.nodes:
                raise Violation("a membership version means one set of nodes", f"{membership} and another")
        self._check_overlap(held, terms)

    def _check_overlap(self, held: Dict[str, Membership], terms: Dict[str, int]) -> None:
        positions = {node_id: membership.position for node_id, membership in held.items()}
        voters = {node_id: membership.voters for node_id, membership in held.items()}
        active = [node_id for node_id in held if node_id not in disabled_members(positions, voters)]
        for first in active:
            for second in held:
                if second in active and not overlapping(voters[first], voters[second]):
                    what = f"{held[first]} of {first} and {held[second]} of {second} can elect past each other"
                    raise Violation("active memberships overlap", what)
                behind = [voter for voter in voters[first] if terms.get(voter, 0) < held[second].term]
                if len(behind) >= held[first].quorum:
                    what = f"{sorted(behind)} of {held[first]} have not heard of term {held[second].term}"
                    raise Violation("active memberships know newer terms", what)

    # --- Symmetry, and the way to a violation -----------------------------------------------------

    def _canonical(self, state: State) -> State:
        best, best_key = state, (state[0], state[2], sorted(state[1]))
        for renaming in self._renamings:
            members = renaming.members(state[0])
            if members > best_key[0]:
                continue
            other = (members, renaming.messages(state[1]), renaming.leaders(state[2]), state[3])
            key = (other[0], other[2], sorted(other[1]))
            if key < best_key:
                best, best_key = other, key
        return best

    def _with_way(self, violation: Violation, state: State, came_from: Dict[State, Optional[State]]) -> Violation:
        return Violation(violation.check, f"{violation.what}\n{self._way_to(state, came_from)}")

    def _way_to(self, state: Optional[State], came_from: Dict[State, Optional[State]]) -> str:
        way: List[State] = []
        while state is not None:
            way.append(state)
            state = came_from[state]
        return "\n".join(self._describe(number, state) for number, state in enumerate(reversed(way)))

    def _describe(self, number: int, state: State) -> str:
        lines = [f"state {number}"]
        for node_id, local in zip(self.all_ids, state[0]):
            term, voted_for, membership, role = self._locals.value(local)[:4]
            lines.append(f"    {node_id} {role.value} term {term} voted for {voted_for} in {membership}")
        lines += [f"    on its way to {to}: {content}" for to, content in map(self._messages.value, state[1])]
        return "\n".join(lines)


class _Table:
    """Gives each distinct value a number, so that states are small and quick to compare."""

    def __init__(self) -> None:
        self._numbers: Dict[Any, int] = {}
        self._values: List[Any] = []

    def number(self, value: Any) -> int:
        known = self._numbers.get(value)
        if known is None:
            known = self._numbers[value] = len(self._values)
            self._values.append(value)
        return known

    def value(self, number: int) -> Any:
        return self._values[number]


class _Renaming:
    """Exchanges the names of the founding members in states; the spare one keeps its own."""

    def __init__(self, explorer: Explorer, order: Tuple[str, ...]) -> None:
        self._explorer = explorer
        self._names = dict(zip(explorer.ids, order))
        if explorer.spare:
            self._names[explorer.spare] = explorer.spare
        #: where each member's state goes
        self._places = [explorer.all_ids.index(self._names[node_id]) for node_id in explorer.all_ids]
        self._local: Dict[int, int] = {}
        self._message: Dict[int, int] = {}

    def members(self, members: Tuple[int, ...]) -> Tuple[int, ...]:
        renamed = [0] * len(members)
        for place, number in zip(self._places, members):
            new = self._local.get(number)
            if new is None:
                value = self._rename(self._explorer._locals.value(number))
                new = self._local[number] = self._explorer._locals.number(value)
            renamed[place] = new
        return tuple(renamed)

    def messages(self, messages: FrozenSet[int]) -> FrozenSet[int]:
        return frozenset(map(self._rename_message, messages))

    def _rename_message(self, number: int) -> int:
        new = self._message.get(number)
        if new is None:
            value = self._rename(self._explorer._messages.value(number))
            new = self._message[number] = self._explorer._messages.number(value)
        return new

    def leaders(self, leaders: Tuple[int, ...]) -> Tuple[int, ...]:
        return tuple(self._places[leader - 1] + 1 if leader else 0 for leader in leaders)

    def _rename(self, value: Any) -> Any:
        if isinstance(value, str):
            return self._names.get(value, value)
        if isinstance(value, tuple):
            return tuple(map(self._rename, value))
        if isinstance(value, frozenset):
            return frozenset(map(self._rename, value))
        if isinstance(value, Membership):
            return Membership(value.term, value.version, self._rename(value.nodes))
        if hasattr(value, "__dataclass_fields__"):
            renamed = copy.copy(value)
            for name in value.__dataclass_fields__:
                content = self._rename(getattr(value, name))
                object.__setattr__(renamed, name, tuple(sorted(content)) if name == "member_ids" else content)
            return renamed
        return value


class _Middle(random.Random):
    """No chance: timers are the explorer's to fire."""

    def random(self) -> float:
        return 0.5


def _sent(outbox: Tuple[Tuple[str, Any], ...]) -> List[Tuple[str, Any]]:
    """What is sent, without the words of a refusal, which no rule reads."""
    return [(to, copy_without_reason(message)) for to, message in outbox]


def copy_without_reason(message: Any) -> Any:
    """`message` with an empty `reason`, where it has one."""
    if not getattr(message, "reason", ""):
        return message
    plain = copy.copy(message)
    object.__setattr__(plain, "reason", "")
    return plain


def _check_step(node_id: str, before: Local, after: Local) -> None:
    if after[0] < before[0]:
        raise Violation("terms only grow", f"{node_id} went from term {before[0]} to {after[0]}")
    if after[0] == before[0] and before[1] not in (None, after[1]):
        raise Violation("one vote per term", f"{node_id} voted for {before[1]}, then {after[1]} in term {after[0]}")
    if before[3] is after[3] is Role.CANDIDATE and after[0] == before[0] and after[2] != before[2]:
        raise Violation("a candidate keeps its membership", f"{node_id} went on with {after[2]} instead of {before[2]}")
    if after[2].position < before[2].position:
        raise Violation("memberships only get newer", f"{node_id} went from {before[2]} to {after[2]}")
