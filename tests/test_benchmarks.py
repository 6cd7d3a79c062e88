"""The benchmark's arithmetic: percentiles, tables, and what counts as having moved. Nothing is measured here."""

from __future__ import annotations

import argparse
import importlib
import io
import itertools
import math
import os
import random
import sys
import types

import pytest
from benchmarks import __main__ as everything
from benchmarks import figures, idle, paper, paper_processes, quick, scale, virtual
from benchmarks.peers import cluster, compare, systems

from raftlite.messages import Heartbeat


def test_percentile_is_the_value_that_so_many_do_not_exceed():
    ordered = list(range(1, 101))
    assert [figures.percentile(ordered, share) for share in (0.5, 0.9, 0.99, 1.0)] == [50, 90, 99, 100]
    assert figures.percentile([7], 0.01) == 7


def test_summary_counts_and_sorts():
    assert figures.summary([3.0, 1.0, 2.0]) == {"n": 3, "median": 2.0, "p90": 3.0, "p99": 3.0, "max": 3.0}


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (1234.5, "1234"), (167.04, "167"), (2.1, "2.10"), (0.01234, "0.0123"), (0.99996, "1.00")],
)
def test_three_digits_are_shown(value, text):
    assert figures.significant(value) == text


def test_table_is_markdown_with_numbers_on_the_right():
    assert figures.table(("", "ms"), [["raftlite", 2.5], ["etcd", 167.0]]) == [
        "|          |   ms |",
        "|----------|-----:|",
        "| raftlite | 2.50 |",
        "| etcd     |  167 |",
    ]


def test_ratio_without_noise_has_no_range():
    assert figures.ratio_with_noise([6.0, 6.0, 6.0], [2.0, 2.0]) == (3.0, 3.0, 3.0)


def test_range_of_a_ratio_contains_it_and_is_the_same_each_time():
    above, below = [5.0, 6.0, 7.0, 6.5, 5.5], [2.0, 2.1, 1.9]
    value, least, most = figures.ratio_with_noise(above, below)
    assert least < value < most
    assert figures.ratio_with_noise(above, below) == (value, least, most)


def test_ratio_moves_only_beyond_the_noise_of_both():
    before = (2.0, 1.8, 2.2)
    assert figures.movement(before, (2.3, 2.1, 2.5)) is None
    assert figures.movement(before, (3.0, 2.5, 3.5)) == "rose by 50 %"
    assert figures.movement(before, (1.0, 0.9, 1.1)) == "fell by 50 %"


def test_a_ratio_that_differs_as_from_one_day_to_the_next_has_not_moved():
    """However narrow the ranges are: within a run the same code is measured on the same day."""
    assert figures.movement((2.0, 1.99, 2.01), (2.28, 2.27, 2.29)) is None
    assert figures.movement((2.0, 1.99, 2.01), (1.72, 1.71, 1.73)) is None
    assert figures.movement((2.0, 1.99, 2.01), (2.34, 2.33, 2.35)) == "rose by 17 %"


def test_comparison_counts_what_became_slower():
    before = {"a": (1.0, 0.9, 1.1), "b": (1.0, 0.9, 1.1)}
    lines, slower = quick.compare(before, {"a": (2.0, 1.9, 2.1), "b": (0.5, 0.4, 0.6), "c": (1.0, 1.0, 1.0)})
    assert slower == 1
    assert ["rose by 100 %" in lines[2], "fell by 50 %" in lines[3], "new" in lines[4]] == [True, True, True]


def test_every_ratio_is_of_things_that_are_measured():
    measured = {name: [2.0, 2.0] for pair in quick.RATIOS.values() for name in pair}
    assert set(quick.ratios(measured).values()) == {(1.0, 1.0, 1.0)}
    assert quick.WORK.keys() <= measured.keys()


def test_a_cold_start_is_read_before_the_first_fault(monkeypatch):
    """Afterwards it would be how long a member that has come back takes to hear of the leader."""

    class Cluster:
        def __init__(self, system, count, pace, stack):
            self.cold_start = 0.2

        def seconds_without_leader(self, fault):
            self.cold_start = 0.001
            return 0.005

    for name, stub in {"Cluster": Cluster, "WORK": {}, "_run": lambda source: 0.01}.items():
        monkeypatch.setattr(quick, name, stub)
    assert set(quick.measure(lambda text: None)["cold start"]) == {0.2}


def test_a_peer_that_cannot_be_measured_says_why_in_its_row():
    kind = compare.Kind(systems.KILL, systems.FAST, 3, "pyraft")
    row = {**kind._asdict(), **compare.no_figures(), "left_out": compare.why_left_out(kind)}
    result = {"machine": figures.machine(), "rows": [row], "ended_early": False}
    line = next(line for line in compare.describe(result) if line.startswith("| pyraft"))
    assert "whole seconds" in line and "| 0" in line


def test_ctrl_c_keeps_the_figures_of_the_turns_that_were_taken(monkeypatch):
    kinds = [compare.Kind(systems.KILL, systems.DEFAULTS, 3, name) for name in ("raftlite", "floor")]

    def take_turn(kind, faults, row):
        if kind.system == "floor":
            raise KeyboardInterrupt
        row["seconds"] += [0.008] * faults

    monkeypatch.setattr(compare, "take_turn", take_turn)
    said = []
    result = compare.measure(kinds, 200, said.append)
    assert [len(row["seconds"]) for row in result["rows"]] == [compare.TURN, 0]
    assert result["ended_early"] and said[-1] == "ended early: these are the figures so far"
    lines = compare.describe(result)
    assert lines[-1].endswith("; ended early")
    assert [line.split("|")[2].strip() for line in lines if line.startswith(("| raftlite", "| floor"))] == ["5", "0"]


@pytest.mark.parametrize(("count", "shown"), [(9, (False, False)), (10, (True, False)), (100, (True, True))])
def test_a_percentile_is_shown_where_there_are_enough_to_have_one(count, shown):
    """Of 25 faults, 99 % is the worst one, which has a column of its own."""
    row = {"system": "raftlite", "pace": systems.FAST, "fault": systems.KILL, "stuck": [], "in_vain": 0, "left_out": ""}
    cells = compare._fault_row({**row, "seconds": [0.001] * count})
    assert tuple(cell != compare.NONE for cell in cells[3:5]) == shown


def test_a_row_says_what_ended_its_turns():
    row = {"system": "raftlite", "pace": systems.FAST, "fault": systems.KILL, "seconds": [0.001], "left_out": ""}
    stuck = {**row, "stuck": ["rare", "why", "why", "why"]}
    assert compare._fault_row({**stuck, "in_vain": 2})[-1] == "3 x why, 1 x rare"
    assert compare._fault_row({**stuck, "in_vain": 3})[-1] == "3 x why, 1 x rare; it had no more turns"


def turns_of(monkeypatch, kind, kills, outcomes):
    """How many figures the row of `kind` has in the end, and how often it had none, if its turns end in `outcomes`."""

    class Cluster:
        cold_start = 0.001

        def __init__(self, *arguments):
            self._lasts = next(outcomes)

        def seconds_without_leader(self, fault):
            self._lasts -= 1
            if self._lasts < 0:
                raise compare.Stuck("no leader")
            return 0.005

    monkeypatch.setattr(compare, "Cluster", Cluster)
    monkeypatch.setattr(compare, "why_left_out", lambda kind: "")
    row = compare.measure([kind], kills, lambda text: None)["rows"][0]
    return len(row["seconds"]), len(row["stuck"])


def test_a_system_that_is_stuck_now_and_then_has_turns_until_it_has_all_its_faults(monkeypatch):
    kind = compare.Kind(systems.KILL, systems.DEFAULTS, 5, "raftos")
    assert turns_of(monkeypatch, kind, 12, itertools.cycle([2, 0, 0])) == (12, 15)


def test_a_system_that_only_gets_stuck_has_no_more_turns(monkeypatch):
    kind = compare.Kind(systems.KILL, systems.DEFAULTS, 5, "raftos")
    assert turns_of(monkeypatch, kind, 12, itertools.chain([5, 1], itertools.repeat(0))) == (6, 4)


def test_a_slow_system_has_a_fifth_of_the_faults(monkeypatch):
    kind = compare.Kind(systems.KILL, systems.DEFAULTS, 3, "pyraft")
    assert turns_of(monkeypatch, kind, 41, itertools.repeat(5)) == (9, 0)


def test_the_papers_medians_stand_beside_those_of_all_rules():
    place = paper.LABORATORY
    lines = [
        {"place": place, "variant": variant, "timeouts": [12, 24], "milliseconds": [first, 50.0, last]}
        for first, last, variant in zip((10.0, 20.0, 30.0, 40.0), (60.0, 60.0, 60.0, None), paper.VARIANTS)
    ]
    header, _, row = paper.medians(place, lines)[-3:]
    assert [cell.strip() for cell in header.split("|")[1:-1]] == ["timeouts", "the paper", *paper.VARIANTS]
    assert [cell.strip() for cell in row.split("|")[1:-1]] == ["12-24 ms", "30.0", "50.0", "50.0", "50.0", "50.0"]


def test_silence_is_told_in_election_timeouts_and_a_kill_in_milliseconds():
    row = {"system": "raftlite", "pace": systems.FAST, "seconds": [0.3], "stuck": [], "left_out": ""}
    assert compare._fault_row({**row, "fault": systems.SILENCE})[2] == pytest.approx(2.0)
    assert compare._fault_row({**row, "fault": systems.KILL})[2] == pytest.approx(300.0)


@pytest.mark.parametrize("place", paper.PLACES)
@pytest.mark.parametrize("variant", paper.VARIANTS)
def test_trial_of_the_papers_experiment_ends_and_repeats(place, variant):
    milliseconds = paper.trial(place, variant, (150, 300), seed=1)
    assert milliseconds is not None and 0 < milliseconds < 5_000
    assert paper.trial(place, variant, (150, 300), seed=1) == milliseconds


@pytest.mark.parametrize("timeouts", [(150, 175), (150, 200), *paper.FAMILIES["how long timeouts are"]])
def test_the_papers_rules_have_the_papers_medians_in_its_laboratory(timeouts):
    """Section 9.3, Figure 16: all lines but those whose timeouts are nearly the same."""
    times = sorted(paper.trial(paper.LABORATORY, "paper's rules, paper's logs", timeouts, seed) for seed in range(100))
    assert times[50] == pytest.approx(paper.PUBLISHED[timeouts]["median"], rel=0.15)
    assert times[90] < 1.25 * paper.PUBLISHED[timeouts]["p90"]


def test_curve_is_the_power_in_which_it_grows():
    rows = [
        {"kind": "threads", "members": n, "elect": 1.0, "replace": 1.5, "messages": 20.0 * n, "busy": 0.01 * n * n}
        for n in (3, 9, 27)
        for _ in range(2)
    ]
    medians = scale.medians(rows)
    assert [row["n"] for row in medians] == [2, 2, 2]
    assert [round(scale.exponent(medians, name), 6) for name in scale.NAMES] == [0.0, 0.0, 1.0, 2.0]
    assert scale.curves(medians).endswith("It takes more than 25% of a core from 9 members on.")


def test_proof_of_death_is_worth_its_while_on_a_slow_network_too():
    """Ten to fifteen milliseconds a round trip: three or four of them, and no survivor competes with another."""
    takeovers = sorted(
        paper.trial(paper.SLOW_NETWORK, "raftlite, process killed", (150, 300), seed) for seed in range(50)
    )
    assert takeovers[25] < 55 and takeovers[-1] < 100


def test_members_with_short_logs_are_not_elected_under_the_papers_rules():
    elected = set()
    for seed in range(20):
        line = (paper.LABORATORY, "paper's rules, paper's logs", (150, 300))
        cluster, leader = paper._cluster_before_crash(*line, seed)
        assert leader == "n0004"
        cluster.crash(leader, proof=False)
        assert cluster.run_until(cluster.all_follow, 60.0)
        elected.add(cluster.leader)
    assert elected == {"n0002", "n0003"}


def test_virtual_cluster_of_a_hundred_and_one_elects_within_two_timeouts():
    cluster = virtual.VirtualCluster(101, seed=1)
    assert cluster.run_until(lambda: cluster.leader is not None and cluster.all_follow(), 4.0)


def test_a_silent_leader_of_three_is_replaced_within_two_and_a_half_timeouts():
    """Also where messages take a hundredth of one, and the timers of the two survivors often run out together."""
    taken = sorted(map(timeouts_of_silence, range(500)))
    assert taken[250] < 1.35
    assert taken[-1] < 2.5


def timeouts_of_silence(seed):
    members = virtual.VirtualCluster(3, seed, times=virtual.Times(message=(0.005, 0.010)))
    members.run_until(members.all_follow, 60.0)
    members.run_until(lambda: False, 2.0 + random.Random(seed).random())
    silent_at = members.now
    members.crash(members.leader, proof=False)
    members.run_until(lambda: any(member.lease_expires_at for member in members.members.values()), 60.0)
    return (members.now - silent_at) / scale.TIMEOUT


@pytest.mark.parametrize("timeouts", [(25, 50), (150, 300)])
def test_leader_of_the_papers_experiment_crashes_before_its_next_heartbeats(timeouts):
    """One that is sent, and not to all at the same time, would set the clocks of the others anew."""
    for seed in range(40):
        members, leader = paper._cluster_before_crash(paper.SLOW_NETWORK, "paper's rules", timeouts, seed)
        arrivals = {when for when, _, to, sent in members._heap if type(sent) is Heartbeat and to != leader}
        assert len(arrivals) <= 1


def test_a_fault_comes_at_any_moment_between_two_heartbeats(monkeypatch):
    """A member is taken for whole when it hears one: after a constant pause all faults would come as long after one."""
    pauses = []
    subject = cluster.Cluster.__new__(cluster.Cluster)
    subject.leader = -1
    monkeypatch.setattr(subject, "_take_until", lambda condition, seconds: pauses.append(seconds), raising=False)
    for _ in range(100):
        with pytest.raises(cluster.Stuck, match="nobody leads"):
            subject.seconds_without_leader(systems.SILENCE)
    assert max(pauses) - min(pauses) > 0.2


def test_a_member_that_is_whole_already_is_not_waited_for(monkeypatch):
    """The one that was killed first is back, and says so only once, when the next one is killed."""
    subject = cluster.Cluster.__new__(cluster.Cluster)
    monkeypatch.setattr(subject, "_seen", {"whole": {0: 1.0}}, raising=False)
    monkeypatch.setattr(subject, "_take_until", None, raising=False)
    subject._wait_for("whole", {0})


def test_the_next_leader_is_killed_once_the_first_one_has_started_again(monkeypatch):
    done, subject = [], cluster.Cluster.__new__(cluster.Cluster)

    def take_until(condition, seconds=cluster.PATIENCE):
        if seconds != cluster.PATIENCE:
            done.append(("rest", round(seconds, 1) if seconds == cluster.RESTARTED else None))
            return None
        subject.leader = 1 - subject.leader
        return cluster.Event("leader", subject.leader, 7.0)

    def say(word, returned=None):
        return lambda node, *more: done.append((word, node, *more)) or returned

    stubs = {"_take_until": take_until, "_kill": say("kill", 5.0), "_start_again": say("start")}
    stubs.update({"_put_back": say("back"), "_wait_for": say("wait")})
    for name, stub in {"leader": 0, **stubs}.items():
        monkeypatch.setattr(subject, name, stub, raising=False)
    assert subject.seconds_without_leader(systems.AGAIN) == 2.0
    expected = [("rest", None), ("kill", 0), ("start", 0), ("wait", "started", {0}), ("rest", 0.2), ("kill", 1)]
    assert done == [*expected, ("back", 1), ("wait", "whole", {0})]


@pytest.mark.parametrize(("codes", "words"), [([0, None, -9], ", 1 of the others have ended"), ([None, None, 0], "")])
def test_a_fault_after_which_nobody_leads_says_which_members_are_left(monkeypatch, codes, words):
    """A member that something else has killed leaves no majority, which is not what is measured."""
    subject = cluster.Cluster.__new__(cluster.Cluster)
    processes = {node: types.SimpleNamespace(poll=lambda code=code: code) for node, code in enumerate(codes)}
    monkeypatch.setattr(subject, "_processes", processes, raising=False)
    monkeypatch.setattr(subject, "_take_until", lambda condition: None, raising=False)
    with pytest.raises(cluster.Stuck, match=f"^no leader 60 s after the fault{words}$"):
        subject._wait_for_successor(2 if words == "" else 0, 5.0)


@pytest.mark.parametrize(("at", "is_successor"), [(4.9, False), (5.0, False), (5.1, True)])
def test_a_fault_that_came_to_one_that_led_no_more_is_none(monkeypatch, at, is_successor):
    """The next election would never come, and a minute later the system would be said to have no leader."""
    subject = cluster.Cluster.__new__(cluster.Cluster)
    events = [cluster.Event("whole", 1, 4.0), cluster.Event("leader", 0, 4.5), cluster.Event("leader", 1, at)]
    monkeypatch.setattr(subject, "_take_until", lambda is_it: next(filter(is_it, events), None), raising=False)
    if is_successor:
        assert subject._wait_for_successor(0, 5.0) == at
    else:
        monkeypatch.setattr(subject, "_processes", {}, raising=False)
        with pytest.raises(cluster.Stuck, match="another one led already"):
            subject._wait_for_successor(0, 5.0)


def test_an_import_is_timed_with_what_was_compiled_before(monkeypatch):
    """Where nothing compiled is kept, most of it is compiling: one shell's result would not compare with another's."""
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    seen = []
    monkeypatch.setattr(quick.subprocess, "run", lambda command, env=os.environ, **settings: seen.append(env))
    quick._run("pass")
    assert "PYTHONDONTWRITEBYTECODE" not in seen[0]


def test_a_cold_start_is_divided_by_that_of_the_floor(monkeypatch):
    """Both take milliseconds of the processor: divided by a timeout, a slower machine would be a slower raftlite."""

    class Cluster:
        def __init__(self, system, count, pace, stack):
            self.cold_start = 0.03 if system.name == "raftlite" else 0.01

        def seconds_without_leader(self, fault):
            return 0.005

    for name, stub in {"Cluster": Cluster, "WORK": {}, "_run": lambda source: 0.01}.items():
        monkeypatch.setattr(quick, name, stub)
    measured = quick.measure(lambda text: None)
    assert {name: set(measured[name]) for name in quick.RATIOS["cold start, to the floor's"]} == {
        "cold start": {0.03}, "the floor's cold start": {0.01},
    }  # fmt: skip


def test_a_turn_that_fails_costs_no_other_turn(monkeypatch):
    """A process that has died by itself breaks a pipe, and network namespaces may be refused: hours are at stake."""

    def fails(*arguments):
        raise BrokenPipeError("nobody reads")

    monkeypatch.setattr(compare, "Cluster", fails)
    monkeypatch.setattr(paper_processes, "Cluster", fails)
    row = {"seconds": [0.1], "cold_starts": [], "stuck": [], "in_vain": 0}
    compare.take_turn(compare.Kind(systems.KILL, systems.FAST, 3, "raftlite"), 5, row)
    assert row == {"seconds": [0.1], "cold_starts": [], "stuck": ["BrokenPipeError('nobody reads')"], "in_vain": 1}
    line = {"variant": "no proof", "timeouts": [150, 300], "seconds": [], "stuck": []}
    paper_processes.take_turn(line, 5)
    assert line["stuck"] == ["BrokenPipeError('nobody reads')"]


def test_what_cannot_be_watched_at_rest_says_why_in_its_row(monkeypatch):
    def watch(system, pace, seconds):
        raise KeyError(-1)  # nobody leads

    monkeypatch.setattr(compare, "watch", watch)
    result = {"rows": [], "ended_early": False, "machine": figures.machine()}
    compare.add_rest(result, ["raftlite"], 1.0, lambda text: None)
    assert any(line.startswith("| raftlite") and "KeyError(-1)" in line for line in compare.describe(result))


def test_ctrl_c_at_rest_keeps_what_was_measured_before(monkeypatch):
    watched = {"leader_percent": 1.0, "follower_percent": 0.5, "megabytes": 20.0, "threads": 8, "server_megabytes": 0}

    def watch(system, pace, seconds):
        if system.name == "floor":
            raise KeyboardInterrupt
        return watched

    monkeypatch.setattr(compare, "watch", watch)
    result = {"rows": [], "ended_early": False, "machine": figures.machine()}
    compare.add_rest(result, ["raftlite", "floor", "PySyncObj"], 1.0, lambda text: None)
    assert [row["system"] for row in result["rest"]] == ["raftlite"]
    assert compare.describe(result)[-1].endswith("; ended early")


def test_etcd_at_rest_beats_as_often_as_the_others(monkeypatch):
    """It refuses timeouts below five heartbeats; nothing is timed at rest, so they may be longer."""
    seen = []

    def watch(system, pace, seconds):
        command = systems.etcd_command(0, ["127.0.0.1"], 1, "/", pace)
        seen.append(command[command.index("--heartbeat-interval") + 1])
        return {}

    monkeypatch.setattr(compare, "watch", watch)
    monkeypatch.setattr(systems, "etcd", lambda: "etcd")
    compare.add_rest({"ended_early": False}, ["etcd"], 1.0, lambda text: None)
    assert seen == ["50"]


def test_a_part_that_fails_leaves_the_tables_of_those_before_it(monkeypatch, tmp_path):
    def fails(options):
        raise OSError("no more processes")

    monkeypatch.setattr(everything, "PARTS", {"paper": lambda options: ([], ["| a table |"]), "scale": fails})
    with pytest.raises(OSError, match="no more processes"):
        everything.everything(argparse.Namespace(folder=tmp_path, json=False))
    assert (tmp_path / "tables.md").read_text(encoding="utf-8") == "| a table |\n"


def test_cold_starts_are_not_those_in_network_namespaces():
    def row(fault, seconds):
        return {"pace": systems.FAST, "size": 3, "system": "raftlite", "fault": fault, "cold_starts": [seconds]}

    lines = compare._cold_start_lines([row(systems.KILL, 0.01), row(systems.CUT, 0.5)])
    assert [each.strip() for each in lines[-1].split("|")[2:6]] == ["1", "10.0", "10.0", "10.0"]


def test_one_size_has_no_curve():
    assert math.isnan(scale.exponent([{"members": 3, "busy": 0.1}], "busy"))


def test_a_size_that_gets_stuck_does_not_cost_the_others(monkeypatch):
    def processes(count, seconds):
        if count == 5:
            raise cluster.Stuck("2 of 5 not whole")
        return scale._row(count, 0.01, 0.01, None, 0.02)

    monkeypatch.setitem(scale.KINDS, "processes", ("processes", processes))
    monkeypatch.setattr(scale, "speeds", lambda: {})
    lines = scale.describe(scale.measure({"processes": [3, 5, 9]}, 1.0, 1, lambda text: None))
    assert "- not measured: 5 processes: Stuck('2 of 5 not whole')" in lines
    first_cells = [line.split("|")[1].strip() for line in lines if line.startswith("|")]
    assert [each for each in first_cells if each.isdigit()] == ["3", "9"]


def test_imports_are_timed_for_all_that_are_here(monkeypatch):
    monkeypatch.setattr(everything.idle, "import_milliseconds", {"import pysyncobj": 30.0}.get)
    monkeypatch.setattr(everything.idle, "parts", lambda: {"hmac": {"ms": 2.5, "megabytes": 3.5}})
    monkeypatch.setattr(systems.System, "why_not", lambda system: "" if system.name == "PySyncObj" else "not here")
    _, lines = everything.PARTS["imports"](argparse.Namespace())
    assert [line for line in lines if line.startswith("| PySyncObj")] == ["| PySyncObj | 30.0 |"]
    assert not any("kazoo" in line for line in lines)
    assert "| hmac | 2.50 | 3.50 |" in lines


def test_each_part_of_an_import_is_what_is_more_after_it(monkeypatch):
    """Each program says after each import how long it took so far, and how many pages it has."""
    page = os.sysconf("SC_PAGE_SIZE") / 2**20
    outputs = {
        idle.BEFORE: ["1000"],
        f"{idle.PARTS[idle.OWN]}, sys; print(*sys.modules)": ["logging", "raftlite", "raftlite.member", "queue"],
    }
    programs = []

    def run(source):
        if source in outputs:
            return outputs[source]
        programs.append(source)
        return [str(each) for number in range(len(idle.PARTS)) for each in (0.002 * (number + 1), 1000 + 10 * number)]

    monkeypatch.setattr(idle, "_run", run)
    found = idle.parts()
    assert list(found) == list(idle.PARTS)
    assert [round(part["ms"], 6) for part in found.values()] == [2.0] * len(idle.PARTS)
    assert [part["megabytes"] / page for part in found.values()] == [0, *[10] * (len(idle.PARTS) - 1)]
    assert "others = ['logging', 'queue']" in programs[0]


def test_floor_that_hands_over_beats_no_more(monkeypatch, tmp_path):
    """One more beat, heard by the heir between the votes and the answers to its own, would take the lead from it."""
    read_end, write_end = os.pipe()
    members = os.path.join(os.path.dirname(compare.__file__), "members")
    monkeypatch.syspath_prepend(members)
    monkeypatch.setenv("HOSTS", "127.0.0.1,127.0.0.1,127.0.0.1,127.0.0.1")
    monkeypatch.setattr(sys, "argv", ["floor", "0", "3", "0", str(tmp_path), "fast", str(write_end)])
    for name in ("telling", "with_floor"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    floor = importlib.import_module("with_floor").Floor()
    sent = []
    monkeypatch.setattr(floor, "send", lambda word, *peers: sent.append((word, *peers)), raising=False)
    floor.leader, floor.is_leader, floor.deadline = 0, True, 0.0
    floor.obey(io.StringIO("stop\n"))
    floor.look_at_the_clock()
    assert sent == [(ord("o"), 1)]
    floor.database.close()
    floor.selector.close()
    os.close(read_end)
    os.close(write_end)
