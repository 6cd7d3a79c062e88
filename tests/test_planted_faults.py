"""Wrong rules, planted one at a time into the text of the rules: each is caught, and the table says by what.

A fault that nothing catches would mean that an invariant is missing. Every fault is a piece of the source and what it
is replaced by; the table names the check that catches it and the first seed at which it does, of those at which the
rules as they are pass every check. The checks that stand behind others are asked in test_invariants.py, and what the
exhaustive exploration finds of these faults is in test_exploration.py.

    python tests/test_planted_faults.py        # prints the table anew
"""

from __future__ import annotations

import sys
import types
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, Optional, Tuple

import pytest

import raftlite.election
from raftlite import Timing
from raftlite.simulation import Faults, Network, Simulation, Violation

SOURCES = Path(raftlite.election.__file__).parent


@dataclass(frozen=True)
class Fault:
    """`old` in raftlite/`file` becomes `new`; `check` catches it at `seed`, which is clean without it."""

    name: str
    file: str
    old: str
    new: str
    check: str
    seed: int
    setting: Dict[str, Any] = field(default_factory=dict)


CHURN = {"faults": Faults.churn(), "network": Network.rough()}
CROWDED = {
    "faults": Faults.churn(),
    "network": Network(delay=(0.0005, 0.08), loss=0.05, duplication=0.05, reordering=0.05),
    "timing": Timing.fast(),
}
HASTY = {
    "faults": Faults(every=0.1, lasting=0.1, transfer=8.0),
    "network": Network(delay=(0.0005, 0.03), loss=0.1, reordering=0.3, late=0.5),
    "timing": Timing.fast(),
}
FOUNDING = {"nodes": 4, "min_nodes": 4}
FORGETFUL = {
    "faults": Faults(every=0.2, lasting=0.02, crash=1.0, lost_disk=4.0),
    "network": Network(delay=(0.0005, 0.05), reordering=0.05, late=0.2),
    "timing": Timing.fast(),
}

FAULTS = [
    # --- Votes -----------------------------------------------------------------------------------
    Fault(
        "votes twice in a term",
        "election.py",
        "self.voted_for not in (None, request.sender_id)",
        "False",
        "one vote per term",
        1,
    ),
    Fault(
        "does not save the vote it gives",
        "election.py",
        "self.voted_for = candidate_id\n            self._unsaved = True",
        "self.voted_for = candidate_id",
        "saved before sent",
        0,
        CROWDED,
    ),
    Fault(
        "does not save the vote for itself",
        "election.py",
        "self._begin_term(self.current_term + 1, voted_for=self.node_id)",
        "self.current_term, self.voted_for = self.current_term + 1, self.node_id",
        "saved before use",
        0,
    ),
    Fault(
        "does not save a newer term",
        "election.py",
        "self._begin_term(term, voted_for=None)",
        "self.current_term, self.voted_for = term, None",
        "saved before use",
        0,
        CROWDED,
    ),
    Fault(
        "keeps its vote in a newer term",
        "election.py",
        "self._begin_term(term, voted_for=None)",
        "self._begin_term(term, voted_for=self.voted_for)",
        "a leader appears",
        0,
    ),
    Fault(
        "votes in a term that is over",
        "election.py",
        "if request.term < self.current_term:\n            return f",
        "if False:\n            return f",
        "one vote per term",
        0,
        CROWDED,
    ),
    Fault(
        "wins one vote short",
        "election.py",
        "< self._votes_needed:",
        "< self._votes_needed - 1:",
        "a majority elects",
        0,
    ),
    Fault(
        "counts a voter twice",
        "election.py",
        "self._votes.add(response.sender_id)",
        "self._votes.add(f'{response.sender_id} {len(self._votes)}')",
        "a majority elects",
        3,
        CROWDED,
    ),
    Fault(
        "counts the votes of an earlier term",
        "election.py",
        "and response.term == term:",
        "and True:",
        "a majority elects",
        0,
        CROWDED,
    ),
    Fault(
        "counts pre-votes as votes",
        "election.py",
        "response.pre_vote is asked_for_pre_vote",
        "True",
        "a majority elects",
        0,
        CROWDED,
    ),
    Fault(
        "raises its term for a pre-vote",
        "election.py",
        "and not request.pre_vote:\n                self._become",
        "and True:\n                self._become",
        "a pre-vote changes nothing",
        0,
    ),
    Fault(
        "a refusal resets the timer",
        "election.py",
        "        granted = not refusal\n",
        "        granted = not refusal\n        self._reset_election_timer(self._election_at)\n",
        "a pre-vote changes nothing",
        0,
    ),
    # --- Promises and leases ---------------------------------------------------------------------
    Fault(
        "votes while a leader is alive",
        "election.py",
        "self._stranger(request) or self._leader_is_alive(request, now)",
        "self._stranger(request)",
        "a promise not to vote is kept",
        0,
    ),
    Fault(
        "forgets its promise at a restart",
        "election.py",
        "self._promised_until = now + self.timing.election_timeout\n        else",
        "pass\n        else",
        "a promise not to vote is kept",
        0,
        HASTY,
    ),
    Fault(
        "promises without keeping it",
        "election.py",
        "        self._promised_until = now + self.timing.election_timeout\n        self._reset",
        "        self._reset",
        "a promise not to vote is kept",
        0,
    ),
    Fault(
        "keeps half of its promise",
        "election.py",
        "if now < self._promised_until:",
        "if now < self._promised_until - self.timing.election_timeout / 2:",
        "a promise not to vote is kept",
        6,
    ),
    Fault("releases a promise on a broken connection", "election.py", "", "", "one lease at a time", 0),
    Fault(
        "releases its promise when any member dies",
        "election.py",
        "if self.leader_id is None or request.node_id != self.leader_id or self._leader:",
        "if self._leader:",
        "one lease at a time",
        0,
    ),
    Fault(
        "counts the lease from the latest round",
        "leader.py",
        "sent_at = self._sent_at.get(round_number)",
        "sent_at = self._sent_at.get(self.round)",
        "a lease rests on promises",
        0,
        CROWDED,
    ),
    Fault(
        "leaves the drift of clocks out",
        "leader.py",
        " * (1 - self.timing.clock_drift)",
        "",
        "a lease rests on promises",
        0,
    ),
    Fault(
        "takes a lease from too few",
        "leader.py",
        "promises[-quorum] if len(promises) >= quorum",
        "promises[-1] if promises",
        "a lease rests on promises",
        0,
    ),
    Fault(
        "counts the promises of observers",
        "leader.py",
        " if member in self.membership.voters)",
        ")",
        "a lease rests on promises",
        0,
        CHURN,
    ),
    Fault(
        "leads on without a lease",
        "election.py",
        "if self._leader and now >= self._leader.leads_until:",
        "if False:",
        "a leader without a lease steps down",
        0,
    ),
    Fault(
        "takes votes for a lease",
        "election.py",
        "if leader and not leader.holds_lease(now):",
        "if False:",
        "leadership begins with a lease",
        0,
    ),
    Fault(
        "keeps its lease while it hands over",
        "election.py",
        "        self._become_follower(self.current_term, now)\n        self._handover = change",
        "        self._handover = change",
        "leadership is given up before it is handed over",
        0,
    ),
    Fault(
        "obeys an old order to take over",
        "election.py",
        "is_rival or request.term < self.current_term or",
        "is_rival or",
        "only a leader lifts the promises made to it",
        1,
        HASTY,
    ),
    Fault(
        "obeys an old leader",
        "election.py",
        "if heartbeat.term < self.current_term:",
        "if False:",
        "the followed leader won its term",
        23,
    ),
    Fault(
        "never prolongs its lease",
        "leader.py",
        "max(until, self._promised_until.get(member, until))",
        "self._promised_until.get(member, until)",
        "a leader stays",
        0,
    ),
    # --- Pauses ----------------------------------------------------------------------------------
    Fault(
        "asks for votes without a pause",
        "election.py",
        "        self._set_retry_timer(now)\n        if abstains:",
        "        if abstains:",
        "time goes on",
        0,
    ),
    Fault(
        "beats without a pause",
        "leader.py",
        "self.heartbeat_at = now + self.timing.heartbeat_interval",
        "self.heartbeat_at = now",
        "time goes on",
        0,
    ),
    # --- Memberships -----------------------------------------------------------------------------
    Fault(
        "never stamps its membership",
        "election.py",
        "if self.membership.term != self.current_term:\n            stamped",
        "if False:\n            stamped",
        "a leader stamps its membership",
        0,
    ),
    Fault(
        "changes the membership without a commit",
        "election.py",
        "and leader.is_committed and",
        "and",
        "what is done is held by a quorum",
        0,
        CHURN,
    ),
    Fault(
        "removes two at once",
        "changes.py",
        "return membership.without(request.node_id)",
        "return membership.without(request.node_id)[1:]",
        "one voter changes at a time",
        0,
        CHURN,
    ),
    Fault(
        "exchanges one voter for another",
        "changes.py",
        "return membership.with_node(NodeInfo.of(request.node))",
        "return membership.with_node(NodeInfo.of(request.node))[1:]",
        "one voter changes at a time",
        0,
        CHURN,
    ),
    Fault(
        "does not stamp its membership",
        "election.py",
        ".stamped(self.current_term)",
        "",
        "a leader stamps its membership",
        0,
    ),
    Fault(
        "votes for an older membership",
        "election.py",
        "if request.membership_version < own.position:",
        "if False:",
        "votes go to memberships as new as one's own",
        6,
        CHURN,
    ),
    Fault(
        "does not raise its term with a membership",
        "election.py",
        "max(membership.term, self.current_term)",
        "self.current_term",
        "a term is as new as its membership",
        9,
        CHURN,
    ),
    Fault(
        "stays a candidate with a newer membership",
        "election.py",
        "        self._become_follower(max(membership.term, self.current_term), now)\n        self._note",
        "        if membership.term > self.current_term:\n"
        "            self._become_follower(membership.term, now)\n        self._note",
        "a candidate keeps its membership",
        88,
    ),
    Fault(
        "installs an older membership",
        "election.py",
        "if membership.position <= self.membership.position:",
        "if membership.position == self.membership.position:",
        "memberships only get newer",
        0,
        CHURN,
    ),
    Fault(
        "an observer campaigns",
        "election.py",
        "self.node_id in self.membership.voters and self.node_id not in self.witnesses",
        "knows_enough",
        "only voters campaign",
        0,
        CHURN,
    ),
    Fault(
        "a first leader with too few votes",
        "election.py",
        "else max(quorum, self.min_nodes)",
        "else quorum",
        "a majority elects",
        3,
        FOUNDING,
    ),
    Fault(
        "believes the terms of strangers",
        "election.py",
        "self._stranger(request) or self._leader_is_alive(request, now)",
        "self._leader_is_alive(request, now)",
        "votes go to memberships as new as one's own",
        6,
        CHURN,
    ),
    Fault(
        "gives a vote it cannot remember",
        "election.py",
        "now < self._abstains_until and not self._took_part(established_in):",
        "False:",
        "one vote per term",
        3,
        FORGETFUL,
    ),
    # --- A first election that does not wait --------------------------------------------------------
    Fault(
        "hurries with a majority",
        "election.py",
        "if self._is_hurried and self.role is Role.PRE_CANDIDATE:",
        "if False:",
        "a promise not to vote is kept",
        0,
        FORGETFUL,
    ),
    Fault(
        "knows votes that it has not given",
        "election.py",
        "self._first_vote <= established_in",
        "True",
        "a promise not to vote is kept",
        0,
        FORGETFUL,
    ),
]


def plant(fault: Fault) -> Any:
    """The class `Election` with the fault in it; the rest of the package is untouched."""
    source = (SOURCES / fault.file).read_text()
    assert fault.old in source, f"{fault.name}: raftlite/{fault.file} no longer has {fault.old!r}"
    planted = _execute(fault.file, source.replace(fault.old, fault.new))
    if fault.file == "election.py":
        election = planted
    else:
        election = _execute("election.py", (SOURCES / "election.py").read_text())
        for name in ("LeaderState", "nodes_after", "why_not"):
            setattr(election, name, getattr(planted, name, getattr(election, name)))
    for shared in ("Role", "Saved", "Ready"):
        setattr(election, shared, getattr(raftlite.election, shared))
    return election.Election


def _execute(name: str, source: str) -> Any:
    module = types.ModuleType(f"planted_{name[:-3]}")
    sys.modules[module.__name__] = module  # dataclasses look their module up
    exec(compile(source, name, "exec"), module.__dict__)
    return module


class TrustsBrokenConnections(Simulation):
    """A transport that takes a cut for a death: the one fault that is not in the rules but beside them."""

    def cut(self, sender: str, receiver: str) -> None:
        super().cut(sender, receiver)
        self.tell(receiver, raftlite.PeerDown(sender))

    def partition(self, groups: Any) -> None:
        super().partition(groups)
        for sender, receiver in sorted(self._blocked):
            self.tell(receiver, raftlite.PeerDown(sender))


def setting_of(fault: Fault) -> Dict[str, Any]:
    return {"nodes": 5, "faults": Faults(), **fault.setting}


def run(fault: Fault, seed: int) -> Optional[Violation]:
    """Run one seed with the fault planted; return what was found."""
    cluster = TrustsBrokenConnections if fault.name.startswith("releases") else Simulation
    election = raftlite.election.Election if fault.name.startswith("releases") else plant(fault)
    try:
        cluster(seed=seed, election=election, **setting_of(fault)).run(60.0)
    except Violation as violation:
        return violation
    return None


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name.replace(" ", "_"))
def test_a_planted_fault_is_caught(fault: Fault) -> None:
    violation = run(fault, fault.seed)
    assert violation is not None, f"seed {fault.seed} no longer catches it: print the table anew"
    assert violation.check == fault.check


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name.replace(" ", "_"))
def test_the_same_seed_is_clean_without_the_fault(fault: Fault) -> None:
    """Members that lose their disks at once may break any rule at other seeds: here, it is the fault that does."""
    Simulation(seed=fault.seed, **setting_of(fault)).run(60.0)


def is_clean(seed: int, setting: Dict[str, Any]) -> bool:
    try:
        Simulation(seed=seed, **setting).run(60.0)
    except Violation:
        return False
    return True


def first_caught(fault: Fault, seeds: int) -> Tuple[Optional[int], str]:
    """The first seed that is clean without the fault and not with it, and what is seen there."""
    for seed in range(seeds):
        violation = run(fault, seed)
        if violation is not None and is_clean(seed, setting_of(fault)):
            return seed, violation.check
    return None, ""


if __name__ == "__main__":
    for planted_fault in FAULTS:
        found = first_caught(planted_fault, 200)
        print(f"{planted_fault.name:50} {found[0]!s:>5}  {found[1]}", flush=True)
