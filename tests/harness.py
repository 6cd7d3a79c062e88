"""What the tests of the rules share: one election to question, or a few of them that talk. Time is assigned."""

from __future__ import annotations

import ast
import random
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Set, Tuple, Type, TypeVar

import pytest

from raftlite.election import Election, Ready, Role, Saved
from raftlite.membership import Membership, NodeInfo
from raftlite.messages import Heartbeat, HeartbeatResponse, RequestVote, RequestVoteResponse
from raftlite.simulation import Violation
from raftlite.timing import Timing

# Sums and differences of these numbers are exact, so that a test may speak of the very moment at which a lease ends.
TIMING = Timing(heartbeat_interval=0.125, election_timeout=1.0, clock_drift=0.0625)
LEASE = 0.9375  # what a promise of one election timeout is worth to a leader: 1.0 * (1 - 0.0625)

T = TypeVar("T")


class Draws(random.Random):
    """Draws the given numbers in turn, and the last one for ever: after 0.5 an election timeout is 1.5 seconds."""

    def __new__(cls, *numbers: float) -> Draws:
        return super().__new__(cls)  # which takes one argument at most before Python 3.11

    def __init__(self, *numbers: float) -> None:
        super().__init__()
        self._numbers = list(numbers)

    def random(self) -> float:
        return self._numbers.pop(0) if len(self._numbers) > 1 else self._numbers[0]


# --- One election --------------------------------------------------------------------------------------------------


def members(term: int, version: int, ids: str = "abc", observers: str = "") -> Membership:
    """The membership `(term, version)` of the voters in `ids`, one letter each, and of `observers`."""
    nodes = (*(NodeInfo(i) for i in ids), *(NodeInfo(i, voter=False) for i in observers))
    return Membership(term, version, nodes)


def new_member(node_id: str = "a", ids: str = "abc", draw: float = 0.5, now: float = 0.0, **settings: Any) -> Election:
    """A member of a cluster that has not elected anybody yet, started."""
    election = Election(node_id, nodes=ids, timing=settings.pop("timing", TIMING), rng=Draws(draw), **settings)
    election.start(now)
    return election


def old_member(
    node_id: str = "a", term: int = 3, voted_for: Optional[str] = None, membership: Any = None, **settings: Any
) -> Election:
    """A member of an established cluster, started again at 0.0: it remembers, and its promise ends at 1.0."""
    saved = Saved(term, voted_for, membership or members(3, 1))
    election = Election(node_id, saved, timing=settings.pop("timing", TIMING), rng=Draws(0.5), **settings)
    election.start(0.0)
    return election


def become_candidate(election: Election, now: float = 2.0) -> Ready:
    """Let the election timeout pass, grant every pre-vote, and return what the candidate then owes."""
    ready = election.timeout(now)
    for voter in sent(ready, RequestVote):
        if election.role is Role.PRE_CANDIDATE:
            ready = election.receive(vote(election, voter, pre_vote=True), now)
    assert election.role is not Role.PRE_CANDIDATE, "no election started"
    return ready


def become_leader(election: Election, now: float = 2.0) -> Ready:
    """Make it win, and return what it owes: the first round of heartbeats, not answered yet."""
    ready = become_candidate(election, now)
    for voter in sent(ready, RequestVote):
        if election.role is Role.CANDIDATE:
            ready = election.receive(vote(election, voter), now)
    assert election.role is Role.LEADER, "not elected"
    return ready


def lead(election: Election, now: float = 2.0) -> Ready:
    """Make it win, hold a lease, and stamp its membership: every member has answered two rounds."""
    answer_all(election, become_leader(election, now), now)
    ready = election.timeout(now)
    answer_all(election, ready, now)
    return ready


def seeds(quick: int, every: int) -> List[Any]:
    """Parameters from 0 to `every` - 1, of which make test takes the first ones."""
    return [pytest.param(seed, marks=[pytest.mark.slow] if seed >= quick else []) for seed in range(every)]


def beat(election: Election, now: float) -> Ready:
    """Let the leader send its next round of heartbeats, and every member answer it."""
    ready = election.timeout(now)
    assert sent(ready, Heartbeat), "no heartbeat was due"
    answer_all(election, ready, now)
    return ready


def answer_all(election: Election, ready: Ready, now: float) -> None:
    for member, message in sent(ready, Heartbeat).items():
        election.receive(answer(message, member), now)


# --- Messages for it -----------------------------------------------------------------------------------------------


def request_vote(election: Election, sender_id: str = "b", term: Optional[int] = None, **fields: Any) -> RequestVote:
    """A request that `election` has nothing against: of the next term, with its own membership."""
    fields.setdefault("membership_version", election.membership.position)
    fields.setdefault("member_ids", tuple(sorted(election.membership.voters)))
    return RequestVote(election.current_term + 1 if term is None else term, sender_id, **fields)


def vote(election: Election, sender_id: str = "b", term: Optional[int] = None, **fields: Any) -> RequestVoteResponse:
    """The vote that `election` hopes for, or another answer to its request."""
    asked = election.current_term + (1 if fields.get("pre_vote") else 0)
    return RequestVoteResponse(asked if term is None else term, sender_id, fields.pop("vote_granted", True), **fields)


def heartbeat(election: Election, sender_id: str = "b", term: Optional[int] = None, **fields: Any) -> Heartbeat:
    """A heartbeat of the current term, or of the first one."""
    membership = fields.get("membership") or election.membership
    fields.setdefault("membership_version", membership.position)
    fields.setdefault("round", 1)
    return Heartbeat(max(1, election.current_term) if term is None else term, sender_id, **fields)


def answer(message: Heartbeat, sender_id: str, **fields: Any) -> HeartbeatResponse:
    """What a follower with the same timing and the newest membership answers."""
    fields.setdefault("term", message.term)
    fields.setdefault("round", message.round)
    fields.setdefault("membership_version", message.membership_version)
    fields.setdefault("promise", TIMING.election_timeout)
    return HeartbeatResponse(sender_id=sender_id, **fields)


# --- What came out ---------------------------------------------------------------------------------------------------


def sent(ready: Ready, kind: Type[T]) -> Dict[str, T]:
    """The messages of this kind, by receiver."""
    return {receiver: message for receiver, message in ready.outbox if isinstance(message, kind)}


def only(ready: Ready) -> Any:
    """The one message that was sent."""
    ((_, message),) = ready.outbox
    return message


def events(ready: Ready, kind: Type[T]) -> List[T]:
    """The events of this kind, in order."""
    return [event for event in ready.events if isinstance(event, kind)]


# --- What the checks of the simulation see ---------------------------------------------------------------------------


@contextmanager
def violation(check: str) -> Iterator[Any]:
    """What is done in here violates this check, and none that looks earlier."""
    with pytest.raises(Violation) as found:
        yield found
    assert found.value.check == check


def checks_in(path: Path, function: str) -> Set[str]:
    """The checks that a file names itself, as the first argument of calls of `function`."""
    calls = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
    named = [call.args[0] for call in calls if isinstance(call.func, ast.Name) and call.func.id == function]
    return {name.value for name in named if isinstance(name, ast.Constant)}


# --- Several of them -----------------------------------------------------------------------------------------------


class Cluster:
    """Elections that talk through one list of messages. Assign `now` and `settle`, or `run_until` a moment.

    The first of `ids` draws the shortest election timeouts, and so leads first.
    """

    def __init__(self, ids: str = "abc", **settings: Any) -> None:
        self.now = 0.0
        self.elections: Dict[str, Election] = {}
        self.saved: Dict[str, Saved] = {}
        self.events: Dict[str, List[Any]] = {}
        self.mail: List[Tuple[str, str, Any]] = []  # sender, receiver, message
        self.cut: Set[str] = set()  # whoever is in here neither reaches nor hears the others
        self.winners: Dict[int, Set[str]] = {}  # term -> whoever led in it
        for number, node_id in enumerate(ids):
            self.start(node_id, ids, draw=number / len(ids), **settings)

    def start(self, node_id: str, nodes: str = "", draw: float = 0.5, **settings: Any) -> Election:
        """Start a member, or start it again with what it has saved."""
        saved = self.saved.get(node_id, Saved())
        settings.setdefault("timing", TIMING)
        election = Election(node_id, saved, nodes, rng=settings.pop("rng", Draws(draw)), **settings)
        self.elections[node_id] = election
        self.carry_out(node_id, election.start(self.now))
        return election

    def carry_out(self, node_id: str, ready: Ready) -> None:
        """Save, publish, send."""
        if ready.saved:
            self.saved[node_id] = ready.saved
        self.events.setdefault(node_id, []).extend(ready.events)
        self.mail.extend((node_id, receiver, message) for receiver, message in ready.outbox)
        election = self.elections[node_id]
        if election.role is Role.LEADER:
            self.winners.setdefault(election.current_term, set()).add(node_id)

    def tell(self, node_id: str, message: Any) -> None:
        """Give `node_id` a message, and let everybody react."""
        self.carry_out(node_id, self.elections[node_id].receive(message, self.now))
        self.settle()

    def pass_on(self, sender: str, receiver: str) -> None:
        """Deliver the oldest message from `sender` to `receiver`, and no other."""
        message = next(entry for entry in self.mail if entry[:2] == (sender, receiver))
        self.mail.remove(message)
        self.deliver(*message)

    def deliver(self, sender: str, receiver: str, message: Any) -> None:
        """Hand over one message, unless one of the two is cut off or gone."""
        if receiver in self.elections and not {sender, receiver} & self.cut:
            self.carry_out(receiver, self.elections[receiver].receive(message, self.now))

    def settle(self) -> None:
        """Deliver every message and let every timeout pass that is due, until all is quiet."""
        for _ in range(2_000):
            due = [node_id for node_id, election in self.elections.items() if election.deadline <= self.now]
            if self.mail:
                self.deliver(*self.mail.pop(0))
            elif due:
                self.carry_out(due[0], self.elections[due[0]].timeout(self.now))
            else:
                return
        raise AssertionError(f"never quiet at {self.now}: {self.roles()}")

    def run_until(self, moment: float) -> None:
        """Let time pass until `moment`, stopping wherever something is due."""
        self.settle()
        while min(election.deadline for election in self.elections.values()) <= moment:
            self.now = min(election.deadline for election in self.elections.values())
            self.settle()
        self.now = moment

    @property
    def leases(self) -> List[str]:
        """Whoever holds a lease now."""
        ends = {node_id: election.lease_expires_at for node_id, election in self.elections.items()}
        return [node_id for node_id, end in ends.items() if end is not None and self.now < end]

    def roles(self) -> Dict[str, Role]:
        return {node_id: election.role for node_id, election in self.elections.items()}
