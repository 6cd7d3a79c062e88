"""Faults, planted one at a time: each check of each contract has been seen to fail, and the table says at what.

Some are planted into what members or the lab do; the scene is then played as always. Others are planted into the trace
of a scene that went well, where no rule that one could break would show exactly this.

    python tests/test_scene_faults.py        # prints which check is caught by which fault
"""

from __future__ import annotations

import copy
import sys
from dataclasses import dataclass, replace
from typing import Any, Callable, Dict, List, Optional, Tuple

import pytest

from raftlite.election import Role
from raftlite.fencing import FencingGate
from raftlite.lab import Lab, Rules
from raftlite.lab.rules import LabElection
from raftlite.lab.scenes import SCENES, Play, play
from raftlite.lab.trace import Record, Trace
from raftlite.membership import Membership

Test = Callable[[Record], Any]
Doctor = Callable[[List[Record]], List[Record]]


# --- What may be planted into members and lab -------------------------------------------------------------------------


def ignored(name: str) -> Callable[[pytest.MonkeyPatch], None]:
    """The lab does nothing when it is asked for this."""
    return lambda patch: patch.setattr(Lab, name, lambda *_, **__: None)


def votes_twice(patch: pytest.MonkeyPatch) -> None:
    is_spent = LabElection._vote_is_spent

    def is_spent_for_candidates(self: LabElection, request: Any) -> str:
        return "" if self.role is Role.FOLLOWER and request.term == self.current_term else is_spent(self, request)

    patch.setattr(LabElection, "_vote_is_spent", is_spent_for_candidates)


def two_are_a_majority(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Membership, "quorum", property(lambda self: 2))


def never_abstains(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(LabElection, "_abstains", lambda *_: "")
    patch.setattr(LabElection, "_abstains_from_established", lambda *_: False)


def keeps_no_votes(patch: pytest.MonkeyPatch) -> None:
    start = Lab.start

    def start_without_disk(lab: Lab, n: str, **by: Any) -> None:
        lab.wipe(n, **by)
        start(lab, n, **by)

    patch.setattr(Lab, "start", start_without_disk)


def admits_any_token(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(FencingGate, "check", lambda *_: None)


def forgets_to_reset_its_timer(patch: pytest.MonkeyPatch) -> None:
    reset = LabElection._reset_election_timer

    def reset_unless_it_follows(self: LabElection, now: float) -> None:
        due = self._election_at
        reset(self, now)
        if self.leader_id not in (None, self.node_id):
            self._election_at = due

    patch.setattr(LabElection, "_reset_election_timer", reset_unless_it_follows)


def rules_are_only_said(patch: pytest.MonkeyPatch) -> None:
    """The change is in the trace, and nowhere else."""
    set_rules = Lab.set_rules

    def say(lab: Lab, rules: Rules, **by: Any) -> None:
        before = lab.rules
        set_rules(lab, rules, **by)
        lab._book.rules = before

    patch.setattr(Lab, "set_rules", say)


def dies_instead_of_resigning(patch: pytest.MonkeyPatch) -> None:
    resign = Lab.resign

    def die(lab: Lab, n: str, **by: Any) -> None:
        lab._stage.end(n)
        resign(lab, n, **by)
        lab._recorder.stopped(n, "killed")

    patch.setattr(Lab, "resign", die)


def does_not_wait(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Play, "wait", lambda *_: None)


def delays_are_only_said(patch: pytest.MonkeyPatch) -> None:
    delay = Lab.delay

    def say(lab: Lab, seconds: Any, **by: Any) -> None:
        before = lab._links.delay
        delay(lab, seconds, **by)
        lab._links.delay = before

    patch.setattr(Lab, "delay", say)


def cuts_everybody_off(patch: pytest.MonkeyPatch) -> None:
    partition = Lab.partition
    patch.setattr(Lab, "partition", lambda lab, *groups, **by: partition(lab, *([n] for n in lab.nodes), **by))


# --- What may be planted into a trace ---------------------------------------------------------------------------------


def where(kind: str, **fields: Any) -> Test:
    return lambda record: record["k"] == kind and all(record.get(name) == value for name, value in fields.items())


def up_to(test: Test, which: int = 0) -> Doctor:
    """The recording ends before the record that `test` finds: what was to come is missing."""

    def cut(records: List[Record]) -> List[Record]:
        found = [record["i"] for record in records if test(record)]
        return records[: found[which] - 1]

    return cut


def changed(test: Test, which: int = -1, **fields: Any) -> Doctor:
    """One of the records that `test` finds says something else."""

    def change(records: List[Record]) -> List[Record]:
        [record for record in records if test(record)][which].update(fields)
        return records

    return change


def all_changed(test: Test, **fields: Any) -> Doctor:
    def change(records: List[Record]) -> List[Record]:
        for record in records:
            if test(record):
                record.update(fields)
        return records

    return change


def without(test: Test) -> Doctor:
    return lambda records: [record for record in records if not test(record)]


def without_one(test: Test, which: int) -> Doctor:
    def drop(records: List[Record]) -> List[Record]:
        dropped = [record for record in records if test(record)][which]
        return [record for record in records if record is not dropped]

    return drop


def slower(records: List[Record]) -> List[Record]:
    """Everything took ten times as long."""
    for record in records:
        record["t"] *= 10
    return records


def at_last_nobody_follows(records: List[Record]) -> List[Record]:
    for record in records[-200:]:
        if record["k"] == "state" and record["role"] != "leader":
            record["leader"] = None
    return records


def repeated(test: Test) -> Doctor:
    """What `test` finds last has happened twice."""

    def repeat(records: List[Record]) -> List[Record]:
        last = [record["i"] for record in records if test(record)][-1]
        return [*records[:last], dict(records[last - 1]), *records[last:]]

    return repeat


def a_second_leader(records: List[Record]) -> List[Record]:
    """Somebody else, too, says that it leads in the term of the last leader."""
    leader = next(record for record in reversed(records) if where("state", role="leader")(record))
    follower = next(r for r in reversed(records) if where("state", role="follower")(r) and r["n"] != leader["n"])
    follower.update(role="leader", term=leader["term"])
    return records


def after(test: Test, doctor: Doctor, which: int = 0) -> Doctor:
    """What comes after one of the records that `test` finds is doctored."""

    def split(records: List[Record]) -> List[Record]:
        at = [record["i"] for record in records if test(record)][which]
        return records[:at] + renumbered(doctor(renumbered(records[at:])))

    return split


def renumbered(records: List[Record]) -> List[Record]:
    for i, record in enumerate(records, 1):
        record["i"] = i
    return records


# --- The table --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fault:
    """In `scene`, at `seed`, the fault `name` makes (at least) these checks fail."""

    name: str
    scene: str
    checks: Tuple[str, ...]
    plant: Optional[Callable[[pytest.MonkeyPatch], None]] = None
    doctor: Optional[Doctor] = None
    rules: Optional[Rules] = None
    seed: int = 0


KILL, START, HEAL, RULES, CUT, DELAY = (
    where("fault", op=op) for op in ("kill", "start", "heal", "rules", "cut", "delay")
)
PARTITION, THAW, FREEZE, RESIGN, WIPE = (
    where("fault", op=op) for op in ("partition", "thaw", "freeze", "resign", "wipe")
)
LEADS, FOLLOWS = where("state", role="leader"), where("state", role="follower")

FAULTS = [
    # 1 Cold start
    Fault("the leader comes too late", "cold-start", ("leader-in-time",), doctor=slower),
    Fault("one does not follow", "cold-start", ("all-follow",), doctor=changed(FOLLOWS, leader=None)),
    Fault("two members that vote twice", "cold-start", ("one-leader-per-term",), votes_twice, seed=1),
    # 2 Heartbeats
    Fault("a term changes", "heartbeats", ("same-term",), doctor=changed(FOLLOWS, term=2)),
    Fault("timers go on", "heartbeats", ("timer-reset",), forgets_to_reset_its_timer),
    Fault(
        "one heartbeat is heard in vain",
        "heartbeats",
        ("timer-reset",),
        doctor=without_one(where("state", role="follower"), -9),
    ),
    Fault("only a few heartbeats", "heartbeats", ("ten-rounds",), does_not_wait),
    # 3 The leader dies
    Fault("nobody takes over", "leader-dies", ("new-leader", "gap", "old-follows"), doctor=after(KILL, up_to(LEADS))),
    Fault("the term stays", "leader-dies", ("new-leader",), doctor=after(KILL, all_changed(LEADS, term=1))),
    Fault("it takes too long", "leader-dies", ("gap",), doctor=slower),
    Fault("the old one does not follow", "leader-dies", ("old-follows",), doctor=at_last_nobody_follows),
    Fault(
        "the old one leads again",
        "leader-dies",
        ("old-follows",),
        doctor=after(START, changed(FOLLOWS, 0, role="leader")),
    ),
    # 4 Split vote
    Fault("links are not shaped", "split-vote", ("split", "then-a-leader"), ignored("shape"), seed=1),
    Fault("voters vote twice", "split-vote", ("split", "one-leader-per-term"), votes_twice),
    Fault("no leader after it", "split-vote", ("then-a-leader",), doctor=up_to(HEAL)),
    # 4b Why timeouts are random
    Fault("timeouts stay random", "no-jitter", ("leaderless",), rules_are_only_said),
    Fault("timeouts stay equal", "no-jitter", ("then-random",), doctor=after(KILL, up_to(LEADS))),
    # 5 A leader in the minority
    Fault(
        "it counts its answers",
        "minority-leader",
        ("majority-elects", "terms-differ", "steps-down-on-heal"),
        rules=Rules(),
    ),
    Fault("it never counts them", "minority-leader", ("steps-down-before",), rules_are_only_said),
    Fault("one term for two leaders", "minority-leader", ("terms-differ",), doctor=all_changed(LEADS, term=1)),
    Fault("it never steps down", "minority-leader", ("steps-down-on-heal",), doctor=after(HEAL, without(FOLLOWS))),
    # 6 No quorum
    Fault("three are tried only", "no-quorum", ("three-are-enough", "nobody-leads"), does_not_wait),
    Fault("two are enough", "no-quorum", ("steps-down",), two_are_a_majority),
    Fault("it needs nobody", "no-quorum", ("steps-down",), rules=Rules(check_quorum=False)),
    Fault("no pre-vote", "no-quorum", ("terms-stay",), rules=Rules(pre_vote=False)),
    Fault(
        "one of two leads",
        "no-quorum",
        ("nobody-leads",),
        doctor=after(KILL, changed(where("state", role="pre-candidate"), 0, role="leader"), 2),
    ),
    Fault("no leader again", "no-quorum", ("leads-again",), doctor=up_to(START)),
    # 7 The disruptive follower
    Fault("pre-vote is on", "disruptive-follower", ("term-ran-ahead", "deposed"), rules=Rules()),
    Fault("the leader is cut off, too", "disruptive-follower", ("undisturbed",), cuts_everybody_off),
    Fault("no new leader", "disruptive-follower", ("new-term",), doctor=after(HEAL, up_to(LEADS))),
    Fault("it is not deposed", "disruptive-follower", ("deposed",), doctor=after(HEAL, without(FOLLOWS))),
    # 8 The pre-vote
    Fault("pre-vote is off", "pre-vote", ("term-stayed", "same-leader", "refused"), rules=Rules(pre_vote=False)),
    Fault("a refusal without a reason", "pre-vote", ("refused",), doctor=changed(where("send", granted=False), why="")),
    Fault("voters do not hear the leader", "pre-vote", ("same-leader",), rules=Rules(check_quorum=False)),
    # 9 The paused leader
    Fault("it does not sleep", "paused-leader", ("second-leader", "acts-once", "refused"), ignored("freeze")),
    Fault("it writes twice", "paused-leader", ("acts-once",), doctor=repeated(where("act", ok=False))),
    Fault("any token is good", "paused-leader", ("refused",), admits_any_token),
    Fault("the new token is refused", "paused-leader", ("new-may-write",), doctor=all_changed(where("act"), ok=False)),
    Fault("it does not follow", "paused-leader", ("old-follows",), doctor=at_last_nobody_follows),
    # 10 Amnesia
    Fault("no vote is kept", "amnesia", ("kept-one-leader",), keeps_no_votes),
    Fault("no vote is lost", "amnesia", ("lost-two-leaders",), ignored("wipe")),
    Fault("it votes at once", "amnesia", ("abstains",), never_abstains),
    Fault("no leader in the end", "amnesia", ("then-a-leader",), doctor=after(KILL, up_to(LEADS))),
    # 11 A one-way link
    Fault("it counts its answers", "one-way", ("leads-on",), rules=Rules()),
    Fault("it never counts them", "one-way", ("steps-down", "follows"), rules_are_only_said),
    Fault("it does not follow", "one-way", ("follows",), doctor=at_last_nobody_follows),
    # 12 A slow network
    Fault("it is not slow", "slow-network", ("stepped-down", "nobody-leads"), delays_are_only_said),
    Fault(
        "somebody leads",
        "slow-network",
        ("nobody-leads",),
        doctor=after(DELAY, changed(where("state", role="candidate"), 0, role="leader")),
    ),
    Fault("no leader when it is fast", "slow-network", ("then-a-leader",), doctor=up_to(DELAY, 1)),
    # 13 Even or odd?
    Fault("two are enough", "even-or-odd", ("majority-leads", "losses"), two_are_a_majority, seed=2),
    Fault("no leader again", "even-or-odd", ("leads-again",), doctor=after(START, without(LEADS))),
    # 14 Handing over
    Fault("it dies instead", "resign", ("no-timeout", "in-time"), dies_instead_of_resigning),
    Fault("a term is left out", "resign", ("next-term",), doctor=after(RESIGN, all_changed(LEADS, term=3))),
    # 15 Chaos
    Fault("nobody leads in a round", "chaos", ("leader-each-round",), doctor=after(PARTITION, up_to(PARTITION, 5))),
    Fault("the links stay cut", "chaos", ("leader-each-heal",), ignored("heal")),
]
FAULTS += [
    Fault("somebody else says so, too", scene, ("one-leader-per-term",), doctor=a_second_leader)
    for scene in SCENES
    if "one-leader-per-term" in SCENES[scene].contract.names
]


def failed_checks(fault: Fault) -> Dict[str, str]:
    """The checks that fail, with their reasons."""
    scene = SCENES[fault.scene]
    if fault.rules is not None:
        scene = replace(scene, rules=fault.rules)
    with pytest.MonkeyPatch.context() as patch, Lab(**scene.settings(), backend="virtual", seed=fault.seed) as lab:
        if fault.plant is not None:
            fault.plant(patch)
        play(scene, lab)
    trace = lab.trace if fault.doctor is None else doctored(lab.trace, fault.doctor)
    return {finding.name: finding.why for finding in scene.contract(trace) if not finding.ok}


def doctored(trace: Trace, doctor: Doctor) -> Trace:
    other = Trace(trace.header)
    other.records = renumbered(doctor(copy.deepcopy(trace.records)))
    return other


def one_of_each_scene_and_then_the_others():
    seen = set()
    for fault in FAULTS:
        marks = [pytest.mark.slow] if fault.scene in seen else []
        seen.add(fault.scene)
        yield pytest.param(fault, marks=marks, id=f"{fault.scene}: {fault.name}")


@pytest.mark.parametrize("fault", list(one_of_each_scene_and_then_the_others()))
def test_a_planted_fault_is_caught(fault):
    assert set(fault.checks) <= set(failed_checks(fault))


def test_each_check_has_been_seen_to_fail():
    planted = {(fault.scene, check) for fault in FAULTS for check in fault.checks}
    assert planted == {(name, check) for name, scene in SCENES.items() for check in scene.contract.names}


@pytest.mark.parametrize("name", SCENES)
def test_an_empty_trace_keeps_no_contract_and_breaks_none_of_the_code(name):
    """A scene may be left after its first stop."""
    with Lab(**SCENES[name].settings(), backend="virtual") as lab:
        pass
    findings = SCENES[name].contract(lab.trace)
    assert {finding.name for finding in findings if finding.ok} <= {"one-leader-per-term"}


if __name__ == "__main__":
    only_missing = "--missing" in sys.argv
    for each in FAULTS:
        found = failed_checks(each)
        mark = "" if set(each.checks) <= set(found) else "   NOT CAUGHT"
        if only_missing and not mark:
            continue
        print(f"{each.scene:20} {each.name:32} {', '.join(each.checks)} | {found}{mark}")
