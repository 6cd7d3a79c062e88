"""A lab of real threads: what they record is what the virtual clock records, and their clock does as it is told."""

from __future__ import annotations

import contextlib
import logging
import queue
import random
import threading

import pytest
from test_lab import do_something, is_sound, others, records
from threads import PATIENCE, eventually

from raftlite.errors import ConfigError
from raftlite.lab import Lab, LabClosed, Rules, lint
from raftlite.lab.clock import MOST_LAG, LabClock
from raftlite.lab.rules import LabElection
from raftlite.storage import MemoryStorage


def a_lab(nodes=5, scale=0.01, **settings):
    return Lab(nodes, backend="threads", scale=scale, **settings)


def election_threads():
    return {each.name for each in threading.enumerate() if each.name.startswith("raftlite-n")}


def story(lab):
    """A little of everything."""
    first = lab.elected()
    lab.wait(3.0)
    lab.freeze(first)
    second = lab.elected(term_above=lab.state(first).term)
    lab.act(second)
    lab.thaw(first)
    lab.act(first)
    lab.wait(5.0)
    lab.kill(second)
    third = lab.elected(term_above=lab.state(second).term)
    lab.start(second)
    lab.resign(third)
    lab.wait(4.0)
    lab.wipe(first)
    lab.start(first)
    lab.partition([first, second], others(lab, first, second))
    lab.wait(10.0)
    lab.heal()
    lab.set_rules(Rules(check_quorum=False, pre_vote=False))
    lab.loss(0.3)
    lab.wait(10.0)
    lab.loss(0.0)
    lab.set_rules(Rules())
    lab.delay((0.1, 0.9))
    lab.wait_for(lambda: lab.view().in_flight, 20.0)
    m = next(iter(lab.view().in_flight))
    lab.duplicate(m)
    lab.hold(m)
    lab.wait(2.0)
    lab.release(m)
    leader = lab.elected()
    lab.power(leader)
    lab.align(2)
    lab.wait(5.0)
    lab.spread()
    lab.wait(5.0)


# --- The same as ever ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_threads_record_what_the_virtual_clock_records(seed, patient):
    """Record for record, with the same times: real threads, and still one thing after the other."""
    recorded = {}
    for backend in ("virtual", "threads"):
        with Lab(5, backend=backend, seed=seed, scale=0.005, proof=seed % 2 == 1) as lab:
            story(lab)
            recorded[backend] = list(lab.trace.records)
        assert is_sound(lab)
    for virtual, real in zip(recorded["virtual"], recorded["threads"]):
        assert real == virtual
    assert len(recorded["threads"]) == len(recorded["virtual"])


def test_they_are_real_threads_and_all_of_them_are_gone_at_the_end():
    with a_lab() as lab:
        lab.elected()
        assert {f"raftlite-{n}" for n in lab.nodes} <= election_threads()
    assert election_threads() == set()


def test_its_header_says_when_it_was():
    with a_lab(3) as lab:
        assert lab.trace.header["created"].endswith("Z")
        assert lab.trace.header["backend"] == "threads"


@pytest.mark.parametrize("seed", range(6))
def test_whatever_is_done_the_trace_is_sound(seed):
    rng = random.Random(seed)
    with a_lab(rng.choice([3, 4, 5, 7]), seed=seed, scale=0.002, proof=seed % 2 == 0) as lab:
        for _ in range(40):
            with contextlib.suppress(ConfigError):  # a message may arrive while it is to be dropped
                do_something(lab, rng)
            lab.wait(2 * rng.random())
        lab.pause()
        assert is_sound(lab)


def test_several_may_do_things_at_the_same_time():
    """The page, the terminal and the scene."""
    with a_lab(scale=0.002) as lab:
        errors = []

        def play(seed):
            rng = random.Random(seed)
            try:
                for _ in range(20):
                    with contextlib.suppress(ConfigError, AssertionError):
                        do_something(lab, rng)
                    lab.wait(rng.random())
            except BaseException as error:
                errors.append(error)

        players = [threading.Thread(target=play, args=(seed,)) for seed in range(4)]
        for player in players:
            player.start()
        for player in players:
            player.join(PATIENCE)
        assert not errors
        lab.pause()
        assert is_sound(lab)


def test_the_clock_waits_for_a_script_between_its_lines(patient):
    """What is written one after the other happens at the same time, although the machine is busy."""
    with a_lab(scale=0.001) as lab:
        lab.elected()
        lab.note("one")
        threading.Event().wait(0.02)  # twenty seconds of the cluster
        lab.note("two")
        one, two = records(lab, "note")
        assert one["t"] == two["t"]


# --- Members that end, freeze and fail -----------------------------------------------------------------------------


def test_a_killed_leader_says_nothing_more_and_its_thread_ends():
    """No handover, no last heartbeat: it is gone."""
    with a_lab(seed=2) as lab:
        leader = lab.elected()
        lab.wait(3.0)
        lab.kill(leader)
        assert not lab.is_up(leader)
        killed = records(lab, "stop", n=leader)[0]["i"]
        eventually(lambda: f"raftlite-{leader}" not in election_threads(), "ended")
        second = lab.elected(term_above=lab.state(leader).term)
        assert second != leader
        lab.wait(5.0)
        assert {record["k"] for record in lab.trace.records[killed:] if record["n"] == leader} <= {"lost"}
        assert not records(lab, "send", type="timeout_now")
        lab.start(leader)
        assert f"raftlite-{leader}" in election_threads()
        lab.wait(5.0)
        assert lab.state(leader).leader == lab.leader()
        assert is_sound(lab)


def test_a_frozen_thread_takes_nothing_from_its_inbox(caplog):
    """And nobody is warned that this program has kept it from running."""
    with a_lab(seed=2) as lab:
        leader = lab.elected()
        lab.wait(3.0)
        lab.freeze(leader)
        frozen = records(lab, "pause")[0]["i"]
        assert lab.wait_for(lambda: lab.leader() not in (None, leader), 60.0)
        assert {record["k"] for record in lab.trace.records[frozen:] if record["n"] == leader} <= {"lost"}
        lab.thaw(leader)
        assert lab.state(leader).role == "follower"
        assert is_sound(lab)
    assert not [each for each in caplog.records if each.levelno >= logging.WARNING]


def test_a_member_that_fails_is_shown_as_failed(monkeypatch, caplog):
    """Its disk is full: it stops, visibly, and the others go on."""
    broken = threading.Event()
    save = MemoryStorage.save

    def save_or_fail(self, saved):
        if broken.is_set() and saved.voted_for == "n1":
            raise OSError("the disk is full")
        save(self, saved)

    monkeypatch.setattr(MemoryStorage, "save", save_or_fail)
    with a_lab(seed=2) as lab:
        broken.set()
        lab.time_out("n1")
        assert lab.wait_for(lambda: not lab.is_up("n1"), 60.0)
        assert records(lab, "stop", n="n1")[0]["why"] == "failed"
        broken.clear()
        lab.start("n1")
        assert lab.elected()
        assert is_sound(lab)
    assert "the disk is full" in caplog.text


def test_a_member_for_which_there_is_no_thread_is_shown_as_failed(monkeypatch):
    with a_lab(seed=2) as lab:
        lab.kill("n1")

        def refuse(self):
            raise RuntimeError("can't start new thread")

        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            with pytest.raises(RuntimeError):
                lab.start("n1")
        assert not lab.is_up("n1")
        lab.start("n1")
        assert lab.elected()
        assert is_sound(lab)


def test_what_cannot_be_recorded_is_counted_and_said(monkeypatch, caplog, tmp_path):
    """A fault of the recorder is none of the members'."""
    with a_lab(3, seed=2, path=tmp_path / "run.jsonl") as lab:
        monkeypatch.setattr(lab._recorder, "step", lambda *_: 1 / 0)
        lab.time_out("n1")
        lab.wait(5.0)
        monkeypatch.undo()
    assert "could not be recorded" in caplog.text
    last = (tmp_path / "run.jsonl").read_text(encoding="utf-8").splitlines()[-1]
    assert '"k":"end"' in last
    assert '"dropped":0' not in last


def test_a_listener_that_does_not_read_keeps_nobody_waiting():
    with a_lab() as lab:
        listener = queue.Queue(1)
        lab.trace.add_listener(listener)
        assert lab.elected()
        assert lab.trace.missed(listener) > 10


# --- The clock of a lab --------------------------------------------------------------------------------------------


def test_a_stopped_clock_is_stepped_from_one_thing_to_the_next(patient):
    """As the virtual one is, and nothing happens in between."""
    stepped = {}
    for backend in ("virtual", "threads"):
        with Lab(5, backend=backend, seed=7, scale=0.01) as lab:
            lab.pause()
            for _ in range(30):
                before = lab.trace.last
                lab.step()
                assert lab.trace.last > before + 1  # the step itself is one
            lab.step(2.0)
            stepped[backend] = [{**each, "t": 0} for each in lab.trace.records if each["k"] not in ("clock", "state")]
            assert lab.is_clock_paused
        assert lint(lab.trace) == []
    # Where the clock was stopped differs by what the machine took to get there; what follows does not.
    kinds = {backend: [(each["k"], each["n"]) for each in found] for backend, found in stepped.items()}
    assert kinds["threads"] == kinds["virtual"]


def test_while_the_clock_is_stopped_deeds_take_effect_and_time_does_not_pass():
    with a_lab(seed=3) as lab:
        leader = lab.elected()
        lab.pause()
        now = lab.now
        lab.kill(leader)
        assert not lab.is_up(leader)
        lab.start(leader)
        lab.cut("n1", "n2")
        lab.time_out(others(lab, leader)[0])
        assert lab.now == now
        flying = bool(lab.view().in_flight)
        assert flying
        with pytest.raises(ConfigError, match="the clock is stopped"):
            lab.align(2)
        lab.play()
        lab.elected(term_above=lab.state(leader).term)
        assert lab.now > now
        assert is_sound(lab)


def test_whoever_waits_at_a_stopped_clock_goes_on_when_it_is_played_or_stepped():
    with a_lab(seed=3) as lab:
        lab.pause()
        waited = queue.Queue()

        def wait():
            lab.wait(1.0)
            waited.put("one")
            lab.wait(1.0)
            waited.put("two")

        waiter = threading.Thread(target=wait)
        waiter.start()
        eventually(lambda: len(lab._stage._waiters) == 1, "waiting")
        lab.step(0.5)
        assert waited.empty()
        lab.step(1.0)
        assert waited.get(timeout=PATIENCE) == "one"
        lab.play()
        assert waited.get(timeout=PATIENCE) == "two"
        waiter.join(PATIENCE)


def test_the_speed_may_change_while_it_runs():
    with a_lab(seed=3, scale=1.0) as lab:
        lab.scale(0.001, by="ui")
        lab.wait(20.0)
        assert lab.leader()
        assert records(lab, "clock", op="scale")[0]["scale"] == 0.001
        assert records(lab, "fault", op="scale")[0]["by"] == "ui"
        assert lab.view().scale == 0.001


def test_a_condition_is_looked_at_after_everything_that_happens():
    """Nothing that is true for an instant is missed."""
    with a_lab(seed=3, scale=0.001) as lab:
        for n in [record["n"] for record in records(lab, "start")]:
            assert lab.wait_for(lambda n=n: lab.state(n).deadline is not None, 1.0)
        seen = []
        lab.wait_for(lambda: seen.append(lab.trace.last), 20.0)
        assert len(seen) > 40
        assert max(later - earlier for earlier, later in zip(seen, seen[1:])) <= 3 + 2 * len(lab.nodes)


def test_what_a_condition_raises_is_raised_to_whoever_waits():
    with a_lab() as lab:
        with pytest.raises(ZeroDivisionError):
            lab.wait_for(lambda: 1 / 0, 10.0)
        assert lab.elected()


def test_closing_ends_those_who_wait():
    lab = a_lab(scale=10.0)
    raised = queue.Queue()

    def wait(call):
        try:
            call()
        except LabClosed as error:
            raised.put(error)

    calls = [lambda: lab.wait(1000.0), lambda: lab.wait_for(lambda: False, 1000.0), lambda: lab.elected(seconds=1000.0)]
    waiters = [threading.Thread(target=wait, args=(call,)) for call in calls]
    for waiter in waiters:
        waiter.start()
    eventually(lambda: len(lab._stage._waiters) == 3, "waiting")
    lab.close()
    for _ in calls:
        assert isinstance(raised.get(timeout=PATIENCE), LabClosed)
    for waiter in waiters:
        waiter.join(PATIENCE)
    with pytest.raises(LabClosed):
        lab.kill("n1")


def test_a_lab_that_fails_is_closed_and_says_so(monkeypatch, caplog):
    """Whoever waits must not wait for ever."""
    with a_lab(seed=3) as lab:
        with caplog.at_level(logging.ERROR):
            hook, threading.excepthook = threading.excepthook, lambda *_: None
            try:
                monkeypatch.setattr(lab._links, "_arrive", lambda *_: 1 / 0)
                with pytest.raises(LabClosed):
                    lab.wait(20.0)
                lab._stage._conductor.join(PATIENCE)
            finally:
                threading.excepthook = hook
        assert "the lab has failed" in caplog.text


def test_a_leader_without_check_quorum_leads_on_when_it_is_answered_again(patient):
    """Its lease had run out and its program may know that; but without the rule, that is no reason to resign."""
    with a_lab(seed=3, rules=Rules(check_quorum=False)) as lab:
        leader = lab.elected()
        term = lab.state(leader).term
        lab.partition(*[[n] for n in lab.nodes])
        assert lab.wait_for(lambda: lab.leader() is None, 10.0)
        lab.spread()
        lab.heal()
        assert lab.wait_for(lambda: lab.leader() == leader, 10.0)
        lab.wait(2.0)
        assert (lab.leader(), lab.state(leader).term) == (leader, term)


def test_only_a_lab_has_members_that_vanish():
    """The library's own election takes no such message."""
    assert LabElection.__mro__[1].__name__ == "Election"
    from raftlite.election import Election
    from raftlite.lab.rules import SetTimer, Vanish

    for message in (SetTimer(1.0, "x"), Vanish()):
        assert not Election("a").understands(message)


# --- The clock by itself -------------------------------------------------------------------------------------------


class Real:
    """Seconds of the real world that pass when the test says so."""

    def __init__(self):
        self.now = 50.0

    def __call__(self):
        return self.now


@pytest.fixture
def real():
    return Real()


def test_the_clock_stands_still_until_it_may_flow(real):
    clock = LabClock(2.0, real)
    real.now += 10.0
    assert clock() == 0.0
    clock.forget_lag()
    assert clock.flow(5.0) == 10.0
    real.now += 4.0
    assert clock() == 2.0
    assert clock.flow(5.0) == 6.0


def test_the_clock_flows_no_further_than_to_what_is_due(real):
    clock = LabClock(2.0, real)
    clock.flow(1.0)
    real.now += 100.0
    assert clock() == 1.0
    assert clock.flow(1.0) == 0.0


def test_what_happens_takes_no_time_but_the_clock_keeps_its_pace(real):
    clock = LabClock(1.0, real)
    clock.flow(1.0)
    real.now += 1.02
    clock.jump(1.0)
    real.now += 0.03  # somebody does something
    assert clock() == 1.0
    assert clock.flow(2.0) == pytest.approx(0.95)


def test_a_stall_of_the_machine_is_not_made_up_for(real):
    clock = LabClock(1.0, real)
    clock.flow(1.0)
    real.now += 3600.0
    clock.jump(1.0)
    assert clock.flow(10.0) == pytest.approx(9.0 - MOST_LAG)


def test_the_clock_holds_where_it_is(real):
    clock = LabClock(1.0, real)
    clock.flow(5.0)
    real.now += 2.0
    assert clock.hold() == 2.0
    real.now += 2.0
    assert clock() == 2.0


def test_a_paused_clock_stands_still_and_goes_on_from_there(real):
    clock = LabClock(1.0, real)
    clock.flow(5.0)
    real.now += 2.0
    clock.pause()
    real.now += 50.0
    assert clock.flow(5.0) is None
    assert clock() == 2.0
    clock.jump(3.0)
    clock.play()
    assert clock.flow(5.0) == 2.0


def test_another_scale_holds_from_now_on(real):
    clock = LabClock(1.0, real)
    clock.flow(100.0)
    real.now += 2.0
    clock.set_scale(0.5)
    assert clock() == 2.0
    assert clock.flow(100.0) == pytest.approx(49.0)
    real.now += 1.0
    assert clock() == pytest.approx(4.0)
