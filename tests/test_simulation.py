"""The simulation itself: the same seed is the same day, every fault happens, limits are shown, and seeds run clean."""

from __future__ import annotations

import hashlib
import json
from dataclasses import fields
from typing import Any, Dict, Set

import pytest
from harness import seeds

from raftlite import AddNode, ConfigError, RemoveNode, Role, Stop, Timing, TransferLeadership
from raftlite.cli import main
from raftlite.election import Election
from raftlite.simulation import Faults, Invariants, Network, Simulation, Violation, exploration
from raftlite.simulation.runs import SETTINGS, simulation_of

DIGEST = "661d82dd9883de87a6254b136bb2f78e3be0d8491640e7f84e3b2bef3b67cd6b"

ROUGH: Dict[str, Any] = {"network": Network.rough(), "faults": Faults.churn()}


def settled(nodes: int = 3, seed: int = 1, **options: Any) -> Simulation:
    simulation = Simulation(nodes, seed, **options)
    simulation.demand_leader()
    return simulation


# --- The same seed is the same day -----------------------------------------------------------------------------


def trace_of(seed: int) -> str:
    simulation = Simulation(5, seed, keep_trace=True, **ROUGH)
    simulation.run(30.0)
    return "\n".join(simulation.trace)


def test_the_same_seed_gives_the_same_trace() -> None:
    assert trace_of(7) == trace_of(7)
    assert trace_of(7) != trace_of(8)


def test_the_trace_is_the_same_on_every_python() -> None:
    """Byte for byte. A change of the rules changes it too: then put in the new digest, from two versions of Python."""
    assert hashlib.sha256(trace_of(7).encode()).hexdigest() == DIGEST


# --- Seeds ----------------------------------------------------------------------------------------------------


class WithWitness(Election):
    """Of a cluster whose n1 votes and never leads."""

    def __init__(self, *settings: Any, **more: Any) -> None:
        super().__init__(*settings, witnesses=["n1"], **more)

    def _become_leader(self, now: float) -> None:
        assert self.node_id != "n1"
        super()._become_leader(now)


@pytest.mark.parametrize("nodes", [2, 3, 4, 5])
@pytest.mark.parametrize("seed", seeds(1, 20))
def test_every_invariant_holds_where_one_voter_never_leads(nodes: int, seed: int) -> None:
    coverage = Simulation(nodes, seed, election=WithWitness, **ROUGH).run(60.0)
    assert coverage.leaders > 0


def test_a_quiet_cluster_with_a_witness_elects_and_replaces_its_leader() -> None:
    simulation = settled(3, election=WithWitness)
    simulation.advance(1.0)
    first = simulation.leader
    assert first is not None and first != "n1"
    simulation.tell(first, Stop())
    assert simulation.run_until(lambda: simulation.leader is not None, 0.1)
    assert {first, simulation.leader} == {"n2", "n3"}


@pytest.mark.parametrize("seed", seeds(5, 50))
def test_every_invariant_holds_after_every_step(seed: int) -> None:
    coverage = simulation_of(seed, 5).run(60.0)
    assert coverage.leaders > 0, "a run in which nobody is elected proves nothing"


@pytest.mark.slow
def test_every_kind_of_fault_happens() -> None:
    happened: Dict[str, int] = {}
    for seed in range(len(SETTINGS)):
        for kind, number in simulation_of(seed, 5).run(60.0).faults.items():
            happened[kind] = happened.get(kind, 0) + number
    assert happened.keys() == {kind for kind, weight in Faults.churn().weights().items() if weight}


def test_a_leader_whose_removal_had_to_wait_may_go_after_the_faults() -> None:
    """At the end of seed 6478 of former days: it is no sign of a leader that does not stay."""
    assert Simulation(5, 6478, **ROUGH).run(60.0).grants > 0


def test_founders_that_were_told_differently_elect_nobody_rather_than_two() -> None:
    """Design, 4.1. The run ends without a leader, which is no fault of the rules, and their answers say why."""
    simulation = Simulation(3)
    simulation.tell("n1", RemoveNode("n3"))
    simulation.tell("n2", AddNode("n4"))
    simulation.tell("n3", AddNode("n5"))
    assert simulation.run(60.0).leaders == 0
    assert "n1 was started with n1, n2, but n2 with" in simulation.election_of("n1").refusals["n2"]


def test_several_timings_are_taken_in_turn() -> None:
    slow = Timing(0.15, 1.5)
    simulation = Simulation(3, timing=(Timing(), slow))
    assert [simulation.election_of(node_id).timing for node_id in simulation.members] == [Timing(), slow, Timing()]
    assert simulation.timing == slow


@pytest.mark.parametrize("nodes", [1, 2, 3, 4, 7])
def test_clusters_of_every_size_elect(nodes: int) -> None:
    for seed in range(2):
        min_nodes = 1 if nodes == 1 else None
        simulation = Simulation(nodes, seed, faults=Faults(), min_nodes=min_nodes)
        assert simulation.run(60.0).grants > 0


def test_a_quiet_cluster_stays_quiet() -> None:
    """No fault for ten election timeouts: no change of term, nothing sent but heartbeats and answers."""
    simulation = settled(5, keep_trace=True)
    simulation.advance(2.0)
    simulation.trace.clear()
    simulation.demand_calm(10.0)
    assert not [line for line in simulation.trace if "RequestVote" in line]


# --- Faults by hand ----------------------------------------------------------------------------------------------


def test_a_crashed_leader_is_replaced_and_comes_back_as_a_follower() -> None:
    simulation = settled()
    first = simulation.demand_leader()
    simulation.crash(first)
    second = simulation.demand_leader()
    simulation.restart(first)
    simulation.advance(3.0)
    assert second != first
    assert simulation.leader == second
    assert simulation.election_of(first).leader_id == second


def test_a_leader_that_is_cut_off_steps_down_before_another_can_lead() -> None:
    """6.4: its lease runs out; after the heal it follows."""
    simulation = settled(5)
    first = simulation.demand_leader()
    others = [node_id for node_id in simulation.members if node_id != first]
    simulation.partition([[first], others])
    assert simulation.run_until(lambda: simulation.leader not in (None, first), 10.0)
    assert simulation.election_of(first).role is not Role.LEADER
    simulation.mend_network()
    simulation.advance(1.0)
    assert simulation.election_of(first).leader_id == simulation.leader


def test_an_even_split_elects_nobody_until_it_heals() -> None:
    simulation = settled(4)
    first = simulation.demand_leader()
    partner = next(node_id for node_id in simulation.members if node_id != first)
    rest = [node_id for node_id in simulation.members if node_id not in (first, partner)]
    simulation.partition([[first, partner], rest])
    simulation.advance(2.0)
    assert simulation.leader is None
    simulation.advance(20.0)
    assert simulation.leader is None
    simulation.mend_network()
    simulation.demand_leader()


def test_a_member_that_hears_but_is_not_heard_disturbs_nobody() -> None:
    """Thesis 9.6: with pre-vote, whoever comes back after any absence raises no term."""
    simulation = settled(3)
    leader = simulation.demand_leader()
    lonely = next(node_id for node_id in simulation.members if node_id != leader)
    for other in simulation.members:
        simulation.cut(other, lonely)
    simulation.advance(20.0)
    simulation.mend_network()
    simulation.demand_calm(5.0)
    assert simulation.leader == leader


def test_a_paused_leader_does_not_believe_in_its_lease_when_it_goes_on() -> None:
    simulation = settled()
    first = simulation.demand_leader()
    simulation.pause(first)
    assert simulation.run_until(lambda: simulation.leader not in (None, first), 10.0)
    simulation.resume(first)
    assert simulation.election_of(first).role is Role.FOLLOWER
    simulation.demand_leader()


def test_a_transfer_reaches_the_one_that_was_named() -> None:
    simulation = settled(5)
    simulation.advance(3.0)
    leader = simulation.demand_leader()
    successor = next(node_id for node_id in simulation.members if node_id != leader)
    simulation.tell(leader, TransferLeadership(successor))
    assert simulation.run_until(lambda: simulation.leader == successor, 0.5)


def test_a_joiner_is_let_in_and_the_leader_itself_can_be_removed() -> None:
    simulation = settled(3)
    joiner = simulation.join()
    assert simulation.run_until(lambda: simulation.election_of(joiner).membership.term > 0, 5.0)
    simulation.advance(3.0)
    leader = simulation.demand_leader()
    simulation.tell(joiner, RemoveNode(leader))
    assert simulation.run_until(lambda: simulation.members[leader].is_gone, 10.0)
    assert leader not in simulation.election_of(simulation.demand_leader()).membership.ids


# --- Limits, shown ---------------------------------------------------------------------------------------------


def violations(count: int, **options: Any) -> Set[str]:
    """The checks that fail at any of so many seeds."""
    found = set()
    for seed in range(count):
        try:
            Simulation(5, seed, **options).run(60.0)
        except Violation as violation:
            found.add(violation.check)
    return found


WRONG_CLOCKS: Dict[str, Any] = {
    "faults": Faults(isolate_leader=10.0, clock_drift=0.8),
    "timing": Timing(clock_drift=0.0),
}


def test_clocks_that_differ_by_more_than_the_drift_break_leases() -> None:
    """F8: beyond the declared bound two leases may overlap."""
    found = violations(40, **WRONG_CLOCKS)
    assert found
    assert found <= {"one lease at a time", "a lease rests on promises", "a promise not to vote is kept"}


class WithoutLeases(Invariants):
    """Looks at everything but leases and the promises that they rest on, and so beyond the first that is broken."""

    def after_step(self, *step: Any) -> None:
        self.promise_of.clear()
        super().after_step(*step)

    def _check_lease(self, *step: Any) -> None:
        pass


@pytest.mark.parametrize("seed", seeds(5, 40))
def test_clocks_that_differ_by_more_than_the_drift_break_nothing_else(seed: int) -> None:
    """F8: votes and terms hold whatever the clocks do."""
    simulation = Simulation(5, seed, **WRONG_CLOCKS)
    simulation.invariants = WithoutLeases()
    assert simulation.run(60.0).leaders > 0


@pytest.mark.slow
def test_members_that_lose_their_disks_break_safety_unless_they_abstain() -> None:
    """The fault without the cure is in test_planted_faults.py: "gives a vote it cannot remember"."""
    faults = Faults(every=3.0, lasting=0.5, lost_disk=3.0, crash=1.0, failed_save=0.0)
    assert violations(40, faults=faults) == set()


# --- Settings -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [
        lambda: Network(delay=(0.2, 0.1)),
        lambda: Network(loss=1.5),
        lambda: Faults(every=0),
        lambda: Faults(crash=-1),
        lambda: Simulation(0),
    ],
)
def test_settings_out_of_bounds_are_refused(make: Any) -> None:
    with pytest.raises(ConfigError):
        make()


def test_no_faults_are_none() -> None:
    assert not any(Faults.none().weights().values())
    assert {item.name for item in fields(Faults)} > Faults.none().weights().keys()


# --- raftlite simulate ---------------------------------------------------------------------------------


def test_simulate_says_what_it_covered(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", "--seeds", "4", "--seconds", "20", "--jobs", "1", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["seeds"] == 4
    assert result["covered"]["seconds"] >= 80
    assert result["covered"]["leaders"] > 0
    assert result["failures"] == {}


def test_simulate_names_the_seed_of_a_failure(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Simulation, seconds: float) -> None:
        raise Violation("one leader per term", "a and b lead in term 3")

    monkeypatch.setattr(Simulation, "run", fail)
    assert main(["simulate", "--seeds", "1", "--jobs", "1"]) == 1
    printed = capsys.readouterr().out
    assert "one leader per term: a and b lead in term 3" in printed
    assert "raftlite simulate --seed 0 --nodes 5" in printed
    assert main(["simulate", "--seed", "0"]) == 1
    assert capsys.readouterr().out.rstrip().endswith("a and b lead in term 3")


@pytest.mark.parametrize("given", ["--seed 1 --json", "--seed 1 --exhaustive", "--trace"])
def test_simulate_refuses_options_that_it_would_leave_aside(given: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["simulate", *given.split()])
    assert end.value.code == 64
    assert capsys.readouterr().err.splitlines()[-1].startswith("raftlite simulate: --")


def test_simulate_shows_a_trace(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", "--seed", "3", "--seconds", "5", "--trace"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert any("Heartbeat(" in line for line in printed)
    assert printed[-1].endswith("every invariant held after every step")


EXHAUSTIVE = ["simulate", "--exhaustive", "--members", "2", "--in-flight", "2", "--crashes", "1", "--changes", "0"]


def test_simulate_explores_every_interleaving(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*EXHAUSTIVE, "--transfers", "1"]) == 0
    bounds, reached, shown = capsys.readouterr().out.splitlines()
    assert bounds.startswith("2 members, 2 terms, 2 messages on their way, 1 crashes, 0 changes of the membership, 1 ")
    assert reached.endswith("all of them")
    assert " 0 after two successive leaders" not in shown


def test_simulate_shows_the_way_to_what_an_exploration_finds(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exploration, "overlapping", lambda *_: False)
    assert main(EXHAUSTIVE) == 1
    printed = capsys.readouterr().out
    assert "not all" in printed
    assert "\nactive memberships overlap: " in printed
    assert "\nstate 0\n" in printed
    assert main([*EXHAUSTIVE, "--json"]) == 1
    (failure,) = json.loads(capsys.readouterr().out)["failures"]
    assert failure in printed


@pytest.mark.parametrize(
    "option, value, bound",
    [
        ("--nodes", "1", "must be a whole number from 2"),
        ("--nodes", "0", "must be a whole number from 2"),
        ("--seeds", "0", "must be a whole number from 1"),
        ("--jobs", "-3", "must be a whole number from 1"),
        ("--jobs", "0", "must be a whole number from 1"),
        ("--members", "0", "must be a whole number from 1"),
        ("--terms", "-1", "must be a whole number from 1"),
        ("--in-flight", "0", "must be a whole number from 1"),
        ("--crashes", "-1", "must be a whole number from 0"),
        ("--changes", "-2", "must be a whole number from 0"),
        ("--transfers", "-1", "must be a whole number from 0"),
        ("--seconds", "0.0", "must be a number from 0.001 to 86400"),
        ("--seconds", "-5.0", "must be a number from 0.001 to 86400"),
        ("--seconds", "inf", "must be a number from 0.001 to 86400"),
        ("--seconds", "nan", "must be a number from 0.001 to 86400"),
    ],
)
def test_simulate_refuses_what_is_out_of_bounds(
    capsys: pytest.CaptureFixture[str], option: str, value: str, bound: str
) -> None:
    assert main(["simulate", "--seeds", "1", option, value]) == 78
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", f"raftlite simulate: {option} is {value}, but {bound}\n")
