"""`Simulation`: members, a network and a virtual clock, driven by one source of randomness.

    heap of (time, what) ─▶ deliver a message ─▶ Election ─▶ Ready: save, check invariants, send
                         ─▶ a timer is due    ─┘
                         ─▶ a fault begins or ends

Only `random()` of the generator is used, because what the other methods draw differs between Python versions.
"""

from __future__ import annotations

import heapq
import random
from collections import Counter
from dataclasses import dataclass, field
from itertools import count
from typing import (
    Any,
    Callable,
    Dict,
    FrozenSet,
    Iterable,
    List,
    Optional,
    Sequence,
    Set,
    Tuple,
    Type,
    TypeVar,
    Union,
)

from raftlite.election import Election, Ready, Role, Saved
from raftlite.errors import ConfigError
from raftlite.membership import NodeInfo
from raftlite.messages import (
    AddNode,
    LeaderChanged,
    MembershipChanged,
    PeerDown,
    PeerUp,
    Removed,
    RemoveNode,
    RequestVote,
    Resign,
    Stop,
    TransferLeadership,
)
from raftlite.simulation.faults import Faults
from raftlite.simulation.invariants import Invariants, Violation
from raftlite.simulation.network import Network
from raftlite.timing import Timing

_T = TypeVar("_T")

ROUNDING = 1e-9  # seconds that a timer is late, so that the member's own clock has reached its deadline
MOST_IN_AN_INSTANT = 10_000  # a timer that is due again at once, or after no more than that, would stop the clock
PROOF_TAKES = (0.0005, 0.003)  # seconds until the system has told the peers that a process is gone


@dataclass
class Coverage:
    """What a simulation has reached. A run in which nobody was elected proves nothing."""

    seconds: float = 0.0
    steps: int = 0
    messages: int = 0
    elections: int = 0
    leaders: int = 0
    grants: int = 0
    memberships: int = 0
    faults: Counter[str] = field(default_factory=Counter)

    def add(self, other: Coverage) -> None:
        """Count `other` in."""
        for name in ("seconds", "steps", "messages", "elections", "leaders", "grants", "memberships"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.faults.update(other.faults)


class _Member:
    """One simulated process: its election, its disk, its clock."""

    def __init__(self, node_id: str, rate: float, timing: Timing) -> None:
        self.node_id = node_id
        self.rate = rate
        self.timing = timing
        self.disk = Saved()
        self.election: Optional[Election] = None  # None while the process is down
        self.is_paused = False
        self.is_gone = False  # removed from the cluster, or told to stop for good
        self.save_fails = False
        self.backlog: List[Any] = []
        self.timer_at = float("inf")  # the earliest timer event in the heap, in real time
        self.nodes: Tuple[NodeInfo, ...] = ()


class Simulation:
    """A cluster of `nodes` members named n1, n2 and so on, in virtual seconds.

    The same arguments give the same trace, byte for byte. Of several `timing`s the members take theirs in turn, while
    `simulation.timing` is the slowest. `election` may be another class with the interface of
    `Election`, for instance one with a fault planted in it. Control it by hand with `crash`, `restart`, `pause`,
    `partition` and so on, or let `faults` do so. Every method that moves time raises `Violation`.
    """

    def __init__(
        self,
        nodes: int = 3,
        seed: int = 0,
        *,
        network: Network = Network(),
        faults: Optional[Faults] = None,
        timing: Union[Timing, Sequence[Timing]] = Timing(),
        min_nodes: Optional[int] = None,
        max_nodes: Optional[int] = None,
        election: Type[Election] = Election,
        keep_trace: bool = False,
    ) -> None:
        if nodes < 1:
            raise ConfigError(f"nodes is {nodes!r}, but must be 1 or more")
        self.now = 0.0
        self.seed = seed
        self.network = network
        self.faults = faults if faults is not None else Faults.none()
        self.timings = (timing,) if isinstance(timing, Timing) else tuple(timing)
        self.timing = max(self.timings, key=lambda each: each.election_timeout)
        self.min_nodes = min_nodes
        self.max_nodes = max_nodes
        self.coverage = Coverage()
        self.invariants = Invariants()
        self.trace: List[str] = []
        self.members: Dict[str, _Member] = {}
        self._election = election
        self._keep_trace = keep_trace
        self._random = random.Random(seed).random
        self._rng = random.Random(seed + 1)  # handed to the elections, which only call random()
        self._heap: List[Tuple[float, int, Callable[..., None], Any, Any]] = []
        self._sequence = count()
        self._blocked: Set[Tuple[str, str]] = set()
        self._founders = [f"n{number}" for number in range(1, nodes + 1)]
        for node_id in self._founders:
            self._create(node_id, tuple(NodeInfo(other) for other in self._founders if other != node_id))
        for node_id in self._founders:
            self.restart(node_id)

    # --- Moving time ------------------------------------------------------------------------------

    def run(self, seconds: float) -> Coverage:
        """Let faults happen for most of `seconds`, end them, demand a lasting leader; return what happened."""
        calm = min(seconds / 2, self.time_to_elect + 5 * self.timing.election_timeout)
        end = self.now + seconds
        self._schedule_faults(end - calm)
        self.advance(end - calm - self.now)
        self.heal()
        # What was cut off just before may still cost the leader its lease: that is the faults' work, not a new one.
        self.advance(2 * self.timing.election_timeout)
        if not self._founders_disagree():
            self.demand_leader()
            self.demand_calm(end - self.now)
        return self.coverage

    def _founders_disagree(self) -> bool:
        """Whether changes asked of single members before there was a leader have left it without a majority for good.

        So it must be: any two lists may have majorities that do not meet.
        """
        founders = [self.members[node_id].election for node_id in self._founders]
        held = [election.membership for election in founders if election is not None]
        return all(membership.term == 0 for membership in held) and len({membership.voters for membership in held}) > 1

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass."""
        self._advance(self.now + seconds, lambda: False)

    def run_until(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Let time pass until `condition()` or for `seconds`; return whether it came true."""
        return condition() or self._advance(self.now + seconds, condition)

    def _advance(self, end: float, condition: Callable[[], bool]) -> bool:
        heap, started_at = self._heap, self.now
        in_this_instant = 0
        while heap and heap[0][0] <= end:
            at, _, action, first, second = heapq.heappop(heap)
            in_this_instant = in_this_instant + 1 if at < self.now + 2 * ROUNDING else 0
            if in_this_instant > MOST_IN_AN_INSTANT:
                raise Violation("time goes on", f"more than {MOST_IN_AN_INSTANT} steps at {at:.6f}")
            self.now = at
            action(first, second)
            if condition():
                self.coverage.seconds += self.now - started_at
                return True
        self.now = max(self.now, end)
        self.coverage.seconds += self.now - started_at
        return False

    def _at(self, when: float, action: Callable[..., None], first: Any = None, second: Any = None) -> None:
        heapq.heappush(self._heap, (when, next(self._sequence), action, first, second))

    # --- What is to be seen -----------------------------------------------------------------------

    @property
    def leader(self) -> Optional[str]:
        """The member that holds a lease now, or None."""
        for node_id, member in self.members.items():
            election = member.election
            if election is not None and election.role is Role.LEADER and not member.is_paused:
                lease = election.lease_expires_at
                if lease is not None and self.now * member.rate < lease:
                    return node_id
        return None

    def election_of(self, node_id: str) -> Election:
        """The election of a member that is up."""
        election = self.members[node_id].election
        assert election is not None, f"{node_id} is down"
        return election

    @property
    def time_to_elect(self) -> float:
        """Within so many seconds a healthy cluster has a leader, unless chance is against it to an absurd degree."""
        return 20 * self.timing.election_timeout

    def demand_leader(self) -> str:
        """Let time pass until all that are up follow one leader; raise `Violation` if none comes in time."""
        if not self.run_until(self._is_settled, self.time_to_elect):
            roles = {node_id: m.election and m.election.role.value for node_id, m in self.members.items()}
            raise Violation("a leader appears", f"nobody is followed {self.time_to_elect} s after the faults: {roles}")
        leader = self.leader
        assert leader is not None
        return leader

    def demand_calm(self, seconds: float) -> None:
        """Let `seconds` pass in which nothing may change; raise `Violation` if the leader or its term does."""
        leader = self.demand_leader()
        term = self.election_of(leader).current_term
        self.advance(seconds)
        if self.leader != leader or self.election_of(leader).current_term != term:
            if self._was_removed(leader):  # which it was asked for during the faults, and had waited for a quorum
                return self.demand_calm(seconds)
            raise Violation("a leader stays", f"{leader} led in term {term}, but {self.leader} leads after {seconds} s")

    def _was_removed(self, node_id: str) -> bool:
        return self.leader is not None and node_id not in self.election_of(self.leader).membership.ids

    def _is_settled(self) -> bool:
        leader = self.leader
        if leader is None:
            return False
        membership = self.election_of(leader).membership
        views = [self.members[node_id].election for node_id in membership.ids if node_id in self.members]
        return all(view is None or view.role is Role.STOPPED or view.leader_id == leader for view in views)

    # --- Faults by hand ---------------------------------------------------------------------------

    def restart(self, node_id: str, lost_disk: bool = False) -> None:
        """Start the member's process (again), with what it had saved unless its disk is lost."""
        member = self.members[node_id]
        if member.election is not None:
            return
        if lost_disk:
            member.disk = Saved()
            self.invariants.forget_member(node_id, lost_disk=True)
        self._note(node_id, "starts with a new disk" if lost_disk else "starts")
        settings = (member.timing, self.min_nodes, self.max_nodes, self._rng)
        member.election = self._election(node_id, member.disk, member.nodes, *settings, keeps_votes=True)
        member.is_paused = member.is_gone = member.save_fails = False
        member.backlog = []
        member.timer_at = float("inf")
        self._step(member, None, lambda local: self._up(member).start(local))
        for peer in self.members:
            if peer != node_id:
                takes = self._between(*PROOF_TAKES)
                self._at(self.now + takes, self._connect, (node_id, peer), takes)

    def _connect(self, pair: Tuple[str, str], round_trip: float) -> None:
        """The transport tells two members that they have reached each other, if they have."""
        one, other = pair
        is_cut = pair in self._blocked or (other, one) in self._blocked
        if not is_cut and all(self.members[node_id].election for node_id in pair):
            self.tell(one, PeerUp(other, round_trip))
            self.tell(other, PeerUp(one, round_trip))

    def crash(self, node_id: str, proof: bool = True) -> None:
        """`kill -9`: what was not saved is lost. With `proof`, the system tells the peers that the process is gone."""
        member = self.members[node_id]
        if member.election is None:
            return
        self._note(node_id, "crashes")
        member.election = None
        self.invariants.forget_member(node_id, lost_disk=False)
        if proof:
            for peer in self.members:
                if peer != node_id and (node_id, peer) not in self._blocked:
                    takes = self._between(*PROOF_TAKES)
                    self._at(self.now + takes, self._prove_death, peer, PeerDown(node_id, takes))

    def _prove_death(self, peer: str, proof: PeerDown) -> None:
        if self.members[proof.node_id].election is None:  # else it is back, and only its new incarnation could tell
            self.tell(peer, proof)

    def pause(self, node_id: str) -> None:
        """SIGSTOP: the member does nothing, and its messages pile up."""
        if not self.members[node_id].is_paused:
            self._note(node_id, "is paused")
            self.members[node_id].is_paused = True

    def resume(self, node_id: str) -> None:
        """SIGCONT: it hears what has piled up, then looks at its clock."""
        member = self.members[node_id]
        if not member.is_paused:
            return
        self._note(node_id, "goes on")
        member.is_paused = False
        backlog, member.backlog = member.backlog, []
        for message in backlog:
            self._receive(node_id, message)
        if member.election is not None:
            self._set_timer(member)

    def partition(self, groups: Iterable[Iterable[str]]) -> None:
        """Members of different groups hear nothing of each other; replaces what was cut before."""
        group_of: Dict[str, int] = {}
        for number, group in enumerate(groups):
            for node_id in group:
                group_of[node_id] = number
        self._note("network", f"partition {group_of}")
        self._blocked = {(a, b) for a in self.members for b in self.members if group_of.get(a) != group_of.get(b)}

    def cut(self, sender: str, receiver: str) -> None:
        """What `sender` sends does not reach `receiver`; the other way is untouched."""
        self._note("network", f"cut {sender} -> {receiver}")
        self._blocked.add((sender, receiver))

    def mend_network(self) -> None:
        """Undo every cut and partition."""
        if self._blocked:
            self._note("network", "is whole")
        self._blocked = set()

    def heal(self) -> None:
        """End every fault: everybody up and awake, no loss, short delays. Members that were removed stay away."""
        self.mend_network()
        longest = self.timing.election_timeout / 20  # "broadcast time << electionTimeout" (section 5.6)
        self.network = Network((min(self.network.delay[0], longest), min(self.network.delay[1], longest)))
        for node_id, member in list(self.members.items()):
            member.save_fails = False
            self.resume(node_id)
            if not member.is_gone:
                self.restart(node_id)

    def tell(self, node_id: str, message: Any) -> None:
        """Put a control message into the member's inbox."""
        self._receive(node_id, message)

    def join(self, voter: bool = True) -> str:
        """Start a new member that knows nobody, and ask some member to add it; return its id."""
        node_id = f"n{len(self.members) + 1}"
        self._create(node_id, () if voter else (NodeInfo(node_id, voter=False),))
        self.restart(node_id)
        asked = self.leader or self._pick([other for other in self.members if other != node_id])
        self.tell(asked, AddNode(NodeInfo(node_id, voter)))
        return node_id

    # --- Steps of members -------------------------------------------------------------------------

    def _create(self, node_id: str, nodes: Tuple[NodeInfo, ...]) -> None:
        timing = self.timings[len(self.members) % len(self.timings)]
        drift = timing.clock_drift if self.faults.clock_drift is None else self.faults.clock_drift
        member = _Member(node_id, 1.0 + drift * (self._random() - 0.5), timing)
        member.nodes = nodes
        self.members[node_id] = member

    def _up(self, member: _Member) -> Election:
        assert member.election is not None
        return member.election

    def _receive(self, node_id: str, message: Any) -> None:
        member = self.members[node_id]
        if member.election is None:
            return
        if member.is_paused:
            member.backlog.append(message)
            return
        self.coverage.messages += 1
        if type(message) is PeerDown:
            self.invariants.peer_proved_dead(node_id, message.node_id)
        election = member.election
        self._step(member, message, lambda local: election.receive(message, local))

    def _timer(self, member: _Member, election: Election) -> None:
        if self.now != member.timer_at:
            return  # an earlier event has taken the place of this one
        member.timer_at = float("inf")
        if member.election is not election or member.is_paused:
            return
        if self.now * member.rate < election.deadline:
            self._set_timer(member)
        else:
            self._step(member, None, election.timeout)

    def _set_timer(self, member: _Member) -> None:
        election = self._up(member)
        due = max(self.now, election.deadline / member.rate + ROUNDING)
        if due < member.timer_at:
            member.timer_at = due
            self._at(member.timer_at, self._timer, member, election)

    def _step(self, member: _Member, message: Any, act: Callable[[float], Ready]) -> None:
        election = self._up(member)
        before = self.invariants.before_step(election)
        ready = act(self.now * member.rate)
        self.coverage.steps += 1
        if ready.saved is not None:
            if member.save_fails:
                self._note(member.node_id, "cannot save and fails")
                if ready.may_ask_first:
                    self._send_all(member, [entry for entry in ready.outbox if type(entry[1]) is RequestVote])
                self.crash(member.node_id)
                return
            member.disk = ready.saved
        if self._keep_trace and (message is not None or ready is not _NOTHING):
            self._note_step(election, message, ready)
        self.invariants.after_step(election, message, before, ready, self.now, member.rate)
        if election.role is not before[2]:
            self._count_role(election.role)
        for event in ready.events:
            self._hear(member, event)
        self._send_all(member, ready.outbox)
        if election.role is Role.STOPPED:
            member.election = None
            self.invariants.forget_member(member.node_id, lost_disk=False)
        else:
            self._set_timer(member)

    def _send_all(self, member: _Member, outbox: Iterable[Tuple[str, Any]]) -> None:
        for to, sent in outbox:
            self._send(member.node_id, to, sent)

    def _count_role(self, role: Role) -> None:
        if role is Role.CANDIDATE:
            self.coverage.elections += 1
        elif role is Role.LEADER:
            self.coverage.leaders += 1

    def _hear(self, member: _Member, event: Any) -> None:
        if type(event) is LeaderChanged and event.leader_id == member.node_id:
            self.coverage.grants += 1
        elif type(event) is MembershipChanged and event.control_message is not None:
            self.coverage.memberships += 1
        elif type(event) is Removed:
            member.is_gone = True

    def _send(self, sender: str, receiver: str, message: Any) -> None:
        if receiver not in self.members or (sender, receiver) in self._blocked:
            return
        network, draw = self.network, self._random
        if network.loss and draw() < network.loss:
            return
        shortest, longest = network.delay
        delay = shortest + (longest - shortest) * draw()
        if network.reordering and draw() < network.reordering:
            delay += network.late * draw()
        self._at(self.now + delay, self._receive, receiver, message)
        if network.duplication and draw() < network.duplication:
            self._at(self.now + delay + network.late * draw(), self._receive, receiver, message)

    # --- Faults by chance -------------------------------------------------------------------------

    def _between(self, least: float, most: float) -> float:
        return least + (most - least) * self._random()

    def _pick(self, items: Sequence[_T]) -> _T:
        return items[int(self._random() * len(items))]

    def _pick_weighted(self, kinds: List[Tuple[str, float]]) -> str:
        point = self._random() * sum(weight for _, weight in kinds)
        for kind, weight in kinds:
            point -= weight
            if point < 0:
                return kind
        return kinds[-1][0]

    def _schedule_faults(self, end: float) -> None:
        kinds = [(kind, weight) for kind, weight in self.faults.weights().items() if weight > 0]
        if kinds:
            self._at(self.now + self._between(0, 2 * self.faults.every), self._next_fault, kinds, end)

    def _next_fault(self, kinds: List[Tuple[str, float]], end: float) -> None:
        if self.now >= end:
            return
        kind = self._pick_weighted(kinds)
        self.coverage.faults[kind] += 1
        getattr(self, f"_fault_{kind}")(self._between(0, 2 * self.faults.lasting))
        self._at(self.now + self._between(0, 2 * self.faults.every), self._next_fault, kinds, end)

    def _victim(self) -> str:
        """Leaders are hit more often than chance would: that is where it hurts."""
        leader = self.leader
        return leader if leader is not None and self._random() < 0.4 else self._pick(list(self.members))

    def _fault_crash(self, lasting: float) -> None:
        victim = self._victim()
        self.crash(victim)
        self._at(self.now + lasting, self._end_crash, victim, False)

    def _fault_lost_disk(self, lasting: float) -> None:
        victim = self._victim()
        self.crash(victim)
        self._at(self.now + lasting, self._end_crash, victim, True)

    def _end_crash(self, victim: str, lost_disk: bool) -> None:
        if not self.members[victim].is_gone:
            self.restart(victim, lost_disk)

    def _fault_failed_save(self, lasting: float) -> None:
        victim = self._victim()
        self.members[victim].save_fails = True
        self._at(self.now + lasting, self._end_crash, victim, False)

    def _fault_pause(self, lasting: float) -> None:
        victim = self._victim()
        self.pause(victim)
        self._at(self.now + lasting, lambda node_id, _: self.resume(node_id), victim)

    def _fault_partition(self, lasting: float) -> None:
        sides: Tuple[List[str], List[str]] = ([], [])
        for node_id in self.members:
            sides[int(self._random() * 2)].append(node_id)
        self.partition(sides)
        self._end_cuts_after(lasting)

    def _fault_cut(self, lasting: float) -> None:
        for _ in range(1 + int(self._random() * len(self.members))):
            self.cut(self._victim(), self._pick(list(self.members)))
        self._end_cuts_after(lasting)

    def _fault_isolate_leader(self, lasting: float) -> None:
        victim = self._victim()
        self.partition([[victim], [node_id for node_id in self.members if node_id != victim]])
        self._end_cuts_after(lasting)

    def _end_cuts_after(self, lasting: float) -> None:
        blocked: FrozenSet[Tuple[str, str]] = frozenset(self._blocked)
        self._at(self.now + lasting, self._end_cuts, blocked)

    def _end_cuts(self, blocked: FrozenSet[Tuple[str, str]], _: Any) -> None:
        self._blocked -= blocked

    def _fault_transfer(self, lasting: float) -> None:
        leader = self.leader
        if leader is not None:
            self.tell(leader, TransferLeadership(self._pick([None, *self.members])))

    def _fault_resign(self, lasting: float) -> None:
        leader = self.leader
        if leader is not None:
            self.tell(leader, Resign())

    def _fault_stop(self, lasting: float) -> None:
        victim = self._victim()
        self.tell(victim, Stop())
        self._at(self.now + lasting, self._end_crash, victim, False)

    def _fault_add(self, lasting: float) -> None:
        if len(self.members) < 12:
            self.join()

    def _fault_add_observer(self, lasting: float) -> None:
        if len(self.members) < 12:
            self.join(voter=False)

    def _fault_remove(self, lasting: float) -> None:
        asked = self.leader or self._pick(list(self.members))
        self.tell(asked, RemoveNode(self._pick(list(self.members))))

    # --- The trace --------------------------------------------------------------------------------

    def _note(self, who: str, what: str) -> None:
        if self._keep_trace:
            self.trace.append(f"{self.now:10.6f} {who}: {what}")

    def _note_step(self, election: Election, message: Any, ready: Ready) -> None:
        state = f"{election.role.value} term {election.current_term}"
        self._note(election.node_id, f"{state} on {message if message is not None else 'its timer'}")
        for name, things in (("events", ready.events), ("sends", ready.outbox)):
            for thing in things:
                self._note(election.node_id, f"    {name} {thing}")


_NOTHING = Ready()
