"""A lab of real processes: they are really killed and really frozen, and none outlives the lab."""

from __future__ import annotations

import contextlib
import os
import queue
import random
import signal
import threading
from pathlib import Path

import pytest
from test_lab import do_something, is_sound, others, records
from threads import PATIENCE, eventually

from raftlite.errors import ConfigError, MemberStopped
from raftlite.isolated.line import Line
from raftlite.lab import CLASSROOM, Lab, LabClosed, Rules, life, member_process, processes, wire
from raftlite.lab.rules import RuleBook
from raftlite.lab.stage import Plan
from raftlite.lab.trace import leaders_by_term
from raftlite.messages import LeaderChanged
from raftlite.timing import Timing

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="needs processes that can be frozen"),
]

SCALE = 0.05
LONG = PATIENCE / SCALE  # seconds of the cluster
# Nobody's lease ends and nobody campaigns, although the machine stands still for a second or so. Leaders are made.
CALM = Timing(heartbeat_interval=1.0, election_timeout=60.0, message_timeout=1.0)


class PatientLab(Lab):
    """Waits longer for a leader than a process takes to run on a busy machine."""

    def elected(self, term_above=0, seconds=LONG):
        return super().elected(term_above, seconds)


def a_lab(nodes=3, scale=SCALE, **settings):
    return PatientLab(nodes, backend="processes", scale=scale, **settings)


def made_leader(lab, n="n1"):
    """Let the timer of `n` run out, and wait until it leads and all of them follow it."""
    lab.time_out(n)
    assert lab.wait_for(lambda: lab.leader() == n and all(lab.state(each).leader == n for each in lab.nodes), LONG)
    return n


def freeze_the_leader(lab):
    """Freeze a member that leads at that very moment: what it had said by then has been heard."""
    while True:
        leader = lab.elected()
        lab.freeze(leader)
        if lab.state(leader).role == "leader":
            return leader
        lab.thaw(leader)


def follows_the_leader(lab, n):
    """Whether it knows who leads now, who may be another than a moment ago."""
    return lab.state(n).leader is not None and lab.state(n).leader == lab.leader()


def state_of(pid):
    """The state of a process as the system shows it: R, S, T for stopped; empty for one that is gone, or not reaped."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except OSError:
        return ""
    return "" if state == "Z" else state


def is_gone(pid):
    if Path("/proc/self/stat").exists():
        return not state_of(pid)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, 0)
        return False
    return True


# --- A cluster of processes ----------------------------------------------------------------------------------------


def test_each_member_is_a_process_and_they_elect_a_leader():
    with a_lab(5, seed=7) as lab:
        pids = {lab.pid(n) for n in lab.nodes}
        assert len(pids) == 5
        assert all(lab.state(n).pid == lab.pid(n) for n in lab.nodes)
        assert not pids & {None, os.getpid()}
        lab.elected()
        assert lab.wait_for(lambda: all(follows_the_leader(lab, n) for n in lab.nodes), LONG)
        assert records(lab, "event", event="elected")
        assert records(lab, "recv", type="vote_req", result="granted")[0]["why"].startswith("first request seen")
        assert lab.trace.header["backend"] == "processes"
        assert is_sound(lab)
    assert all(is_gone(pid) for pid in pids)


def test_a_killed_leader_is_really_gone_and_remembers_its_vote_when_it_is_back():
    with a_lab(seed=2) as lab:
        leader = freeze_the_leader(lab)  # in the term for which it has voted
        term, pid = lab.state(leader).term, lab.pid(leader)
        lab.kill(leader)
        assert is_gone(pid)
        assert (lab.pid(leader), lab.state(leader).pid) == (None, None)
        lab.elected(term_above=term)
        lab.start(leader)
        assert lab.is_up(leader)
        assert lab.pid(leader) not in (None, pid)
        again = next(record for record in records(lab, "state", n=leader) if record["i"] > records(lab, "stop")[0]["i"])
        assert (again["why"], again["term"], again["vote"]) == ("started", term, leader)
        assert lab.wait_for(lambda: follows_the_leader(lab, leader), LONG)
        assert not records(lab, "proof")
        lab.wipe(leader)
        lab.start(leader)
        again = [record for record in records(lab, "state", n=leader) if record["why"] == "started"][-1]
        assert (again["term"], again["vote"]) == (0, None)
        assert is_sound(lab)


def test_a_process_that_somebody_else_kills_is_noticed():
    """A student types `kill -9` in a terminal. With proof, its peers learn of that, too."""
    with a_lab(seed=2, proof=True) as lab:
        leader = lab.elected()
        term = lab.state(leader).term
        os.kill(lab.pid(leader), signal.SIGKILL)
        assert lab.wait_for(lambda: not lab.is_up(leader), LONG)
        assert records(lab, "stop", n=leader)[0]["why"] == "killed"
        assert lab.wait_for(lambda: records(lab, "proof", of=leader), LONG)
        lab.elected(term_above=term)
        assert is_sound(lab)


def test_a_process_that_ends_of_itself_has_failed():
    with a_lab(seed=2, proof=True) as lab:
        leader = lab.elected()
        os.kill(lab.pid(leader), signal.SIGTERM)
        assert lab.wait_for(lambda: not lab.is_up(leader), LONG)
        assert records(lab, "stop", n=leader)[0]["why"] == "failed"
        lab.wait(1.0)
        assert not records(lab, "proof")


def test_with_proof_a_killed_leader_is_replaced_without_waiting_for_a_timer_but_not_after_a_power_cut():
    with a_lab(seed=2, proof=True) as lab:
        first = freeze_the_leader(lab)
        lab.kill(first)
        assert lab.wait_for(lambda: records(lab, "proof", of=first), LONG)
        lab.elected(term_above=lab.state(first).term)
        lab.start(first)
        assert lab.wait_for(lambda: follows_the_leader(lab, first), LONG)
        second = freeze_the_leader(lab)
        proofs = records(lab, "proof", of=second)
        lab.power(second)
        lab.elected(term_above=lab.state(second).term)
        assert records(lab, "proof", of=second) == proofs
        assert records(lab, "stop", n=second)[-1]["why"] == "power"
        assert is_sound(lab)


def test_a_frozen_leader_is_really_frozen_and_wakes_up_as_none():
    with a_lab(seed=4) as lab:
        assert lab.act(lab.elected())
        first = freeze_the_leader(lab)
        assert state_of(lab.pid(first)) in ("T", "")
        assert lab.is_paused(first)
        frozen = records(lab, "pause", n=first)[-1]["i"]
        second = lab.elected(term_above=lab.state(first).term)
        lab.wait(2.0)
        assert lab.act(second)
        assert {record["k"] for record in lab.trace.records[frozen:] if record["n"] == first} <= {"lost"}
        lab.thaw(first)
        assert lab.wait_for(lambda: lab.state(first).role == "follower", LONG)
        assert not lab.act(first)
        assert "it has seen token" in records(lab, "act", by=first)[-1]["why"]
        assert lab.wait_for(lambda: follows_the_leader(lab, first), LONG)
        assert is_sound(lab)


def test_what_a_frozen_process_is_sent_waits_for_it():
    with a_lab(seed=4) as lab:
        leader = lab.elected()
        victim = others(lab, leader)[0]
        lab.freeze(victim)
        frozen = lab.trace.last

        def arrived():
            later = [each for each in records(lab, "send", to=victim) if each["i"] > frozen]
            return [each["m"] for each in later if each["eta"] < lab.now]

        assert lab.wait_for(lambda: len(arrived()) > 2, LONG)
        sent = arrived()
        assert not {each["m"] for each in records(lab, "recv", n=victim)} & set(sent)
        lab.thaw(victim)
        assert lab.wait_for(lambda: set(sent) <= {each["m"] for each in records(lab, "recv", n=victim)}, LONG)
        assert is_sound(lab)


def test_a_frozen_process_that_is_killed_is_gone():
    with a_lab(seed=4) as lab:
        pid = lab.pid("n1")
        lab.freeze("n1")
        lab.kill("n1")
        assert is_gone(pid)
        lab.start("n1")
        lab.freeze("n1")
        lab.freeze("n2")
        os.kill(lab.pid("n2"), signal.SIGKILL)
        assert lab.wait_for(lambda: not lab.is_up("n2"), LONG)
        assert is_sound(lab)


def test_the_lab_does_not_wait_for_words_that_were_heard_while_a_process_was_frozen():
    """The hub had seen that it spoke, and had to wait while somebody froze it and heard it out."""
    with a_lab(seed=4) as lab:
        lab.freeze("n1")
        stage = lab._stage
        with stage._lock:
            stage._read(stage._lives["n1"])
        assert lab.is_up("n1")


def test_a_split_vote_can_be_forced_with_certainty():
    """Each candidate reaches one of the voters long before the other does, however late a process runs."""
    with a_lab(4, seed=1, rules=Rules(pre_vote=False), timing=CALM) as lab:
        for candidate, far in (("n1", "n4"), ("n2", "n3")):
            lab.shape(candidate, far, LONG)
        lab.shape("n1", "n2", LONG)
        lab.shape("n2", "n1", LONG)
        lab.align(["n1", "n2"], at=lab.now + 3.0)
        assert lab.wait_for(lambda: [lab.state(n).vote for n in lab.nodes] == ["n1", "n2", "n1", "n2"], LONG)
        lab.heal()
        lab.time_out("n3")  # which needs none of the links that were slow
        lab.elected(term_above=1)
        assert 1 not in leaders_by_term(lab.trace)
        assert is_sound(lab)


def test_rules_change_in_every_process():
    with a_lab(seed=3, rules=Rules(check_quorum=False), timing=CALM) as lab:
        leader = made_leader(lab)
        for n in others(lab, leader):
            lab.cut(n, leader, both=False)
        assert lab.wait_for(lambda: lab.leader() is None, LONG)
        lab.wait(5.0)
        assert lab.state(leader).role == "leader"
        lab.set_rules(Rules())
        assert lab.wait_for(lambda: lab.state(leader).role == "follower", LONG)
        assert is_sound(lab)


def test_rules_that_change_while_a_process_starts_hold_for_it():
    with a_lab(seed=3) as lab:
        lab.kill("n1")
        with lab._stage.quiet():
            lab._stage.start(["n1"])
            lab.set_rules(Rules(jitter=0.0))
        lab._stage.await_start(["n1"])
        assert records(lab, "state", n="n1", why="started")[-1]["span"] == pytest.approx(3.0)


def test_a_leader_resigns_and_a_timer_runs_out_by_hand():
    with a_lab(seed=3, timing=CALM) as lab:
        first = made_leader(lab)
        term = lab.state(first).term
        lab.resign(first)
        second = lab.elected(term_above=term)
        lab.kill(second)
        third = others(lab, second)[0]
        before = lab.trace.last
        lab.time_out(third)
        assert lab.wait_for(lambda: lab.trace.last > before and lab.state(third).role != "follower", LONG)
        assert is_sound(lab)


def test_messages_may_be_lost_doubled_and_held():
    with a_lab(seed=3, delay=2.0) as lab:
        lab.time_out("n1")
        chosen = []

        def flying():
            return [flight.m for flight in lab._links._flights if not flight.has_arrived]

        def double_and_hold():  # before anything else happens: a message may arrive at any time
            chosen.extend(flying()[:2])
            lab.duplicate(chosen[0])
            lab.hold(chosen[1])

        assert lab._stage.wait(LONG, lambda: len(flying()) >= 2, double_and_hold)
        doubled, held = chosen
        assert lab.wait_for(lambda: len(records(lab, "recv", m=doubled)) == 2, LONG)
        lab.drop(held)
        assert records(lab, "lost", m=held)[0]["why"] == "operator"
        assert [each.get("copy", 0) for each in records(lab, "recv", m=doubled)] == [0, 1]
        assert is_sound(lab)


@pytest.mark.parametrize("seed", range(3))
def test_whatever_is_done_the_trace_is_sound(seed):
    rng = random.Random(seed)
    with a_lab(4, seed=seed, scale=0.01, proof=seed % 2 == 0) as lab:
        for _ in range(25):
            with contextlib.suppress(ConfigError, AssertionError):  # a message may arrive while it is to be dropped
                do_something(lab, rng)
            lab.wait(3 * rng.random())
        for n in lab.nodes:
            lab.kill(n)  # or what they do next would be recorded while it is looked at
        assert is_sound(lab)


def test_the_clock_of_processes_can_neither_be_stopped_nor_stepped_nor_scaled():
    with a_lab() as lab:
        for deed in (lab.pause, lab.step, lambda: lab.step(1.0), lambda: lab.scale(0.1)):
            with pytest.raises(ConfigError, match="processes"):
                deed()
        assert not records(lab, "clock")
        assert not lab.is_clock_paused
        lab.play()
        before = lab.now
        lab.wait(1.0)
        assert lab.now >= before + 1.0


# --- The end -------------------------------------------------------------------------------------------------------


def test_closing_ends_frozen_processes_and_those_who_wait():
    lab = a_lab()
    lab.freeze("n1")
    pids = [lab.pid(n) for n in lab.nodes]
    raised = queue.Queue()

    def wait():
        try:
            lab.wait(10_000.0)
        except LabClosed as error:
            raised.put(error)

    waiter = threading.Thread(target=wait)
    waiter.start()
    eventually(lambda: lab._stage._waiters, "waiting")
    lab.close()
    lab.close()
    assert isinstance(raised.get(timeout=PATIENCE), LabClosed)
    waiter.join(PATIENCE)
    assert all(is_gone(pid) for pid in pids)
    with pytest.raises(LabClosed):
        lab.start("n1")


PROGRAM = """
    import sys
    from raftlite.lab import Lab
    with Lab(3, backend="processes", scale=0.05) as lab:
        lab.freeze("n2")
        print(*[lab.pid(n) for n in lab.nodes], flush=True)
        sys.stdin.read()
"""


def test_no_process_outlives_a_lab_that_is_killed(start_child):
    """With -9, and one of them frozen: the system wakes it, and the end of its line tells the others."""
    child = start_child(PROGRAM)
    pids = [int(pid) for pid in child.read_line().split()]
    assert state_of(pids[1]) in ("T", "")
    os.kill(child.pid, signal.SIGKILL)
    for pid in pids:
        eventually(lambda pid=pid: is_gone(pid), f"the end of {pid}")


def test_ctrl_c_ends_the_lab_and_its_processes(start_child):
    child = start_child(PROGRAM)
    pids = [int(pid) for pid in child.read_line().split()]
    os.kill(child.pid, signal.SIGINT)
    assert child.read_all() == []
    for pid in pids:
        eventually(lambda pid=pid: is_gone(pid), f"the end of {pid}")


def test_a_program_that_ends_without_closing_leaves_nothing(start_child):
    child = start_child("""
        from raftlite.lab import Lab
        lab = Lab(3, backend="processes", scale=0.05)
        lab.freeze("n2")
        print(*[lab.pid(n) for n in lab.nodes], flush=True)
    """)
    pids = [int(pid) for pid in child.read_line().split()]
    for pid in pids:
        eventually(lambda pid=pid: is_gone(pid), f"the end of {pid}")


def test_a_fork_of_the_program_keeps_no_member_alive(start_child):
    """It would hold copies of the lines whose end tells the members that the lab is gone."""
    child = start_child("""
        import os, sys
        from raftlite.lab import Lab
        lab = Lab(3, backend="processes", scale=0.05)
        print(*[lab.pid(n) for n in lab.nodes], flush=True)
        if os.fork() == 0:
            sys.stdin.read()
            os._exit(0)
        os.kill(os.getpid(), 9)
    """)
    pids = [int(pid) for pid in child.read_line().split()]
    for pid in pids:
        eventually(lambda pid=pid: is_gone(pid), f"the end of {pid}")
    child.close_stdin()


def test_a_process_that_cannot_begin_is_said_so_and_leaves_nothing(monkeypatch):
    monkeypatch.setattr(life, "_BOOTSTRAP", "raise SystemExit(3)")
    with pytest.raises(MemberStopped, match="n1, n2, n3 has not begun"):
        a_lab()


def test_one_of_them_that_cannot_begin_later_is_said_so(monkeypatch):
    with a_lab(seed=2) as lab:
        lab.elected()
        lab.kill("n1")
        with monkeypatch.context() as patch:
            patch.setattr(life, "_BOOTSTRAP", "raise SystemExit(3)")
            with pytest.raises(MemberStopped, match="the process of n1 has not begun"):
                lab.start("n1")
        assert not lab.is_up("n1")
        lab.start("n1")
        assert lab.is_up("n1")
        assert is_sound(lab)


def test_a_process_that_talks_nonsense_is_ended(monkeypatch, caplog):
    with a_lab(seed=2) as lab:
        leader = lab.elected()
        hear = wire.step_from_plain
        monkeypatch.setattr(wire, "step_from_plain", lambda n, *rest: {}["x"] if n == leader else hear(n, *rest))
        assert lab.wait_for(lambda: not lab.is_up(leader), LONG)
        assert records(lab, "stop", n=leader)[0]["why"] == "failed"
        monkeypatch.undo()
        assert lab.wait_for(lambda: lab.leader() not in (None, leader), LONG)
    assert "makes no sense" in caplog.text


# --- What is said between the lab and a member ---------------------------------------------------------------------


def test_a_step_arrives_as_it_was_told(monkeypatch):
    """But for what was saved, which travels by itself, and for events that no trace has."""
    with Lab(5, backend="virtual", seed=3, proof=True) as lab:
        record, compared = lab._recorder.step, []

        def compare(n, step, flight=None):
            mark = None if flight is None else (flight.m, flight.copy)
            plain = wire.step_to_plain(step, mark)
            arrived = wire.step_from_plain(n, plain, None if flight is None else flight.message)
            events = tuple(event for event in step.events if isinstance(event, LeaderChanged))
            kept = {**vars(step), "saved": None, "events": events}
            assert vars(arrived) == kept
            compared.append(step)
            record(n, step, flight)

        monkeypatch.setattr(lab._recorder, "step", compare)
        for deed in (lab.kill, lab.resign, lab.kill):
            leader = lab.elected()
            lab.wait(3.0)
            deed(leader)
            lab.wait(5.0)
            lab.start(leader)
        assert len(compared) > 200


def test_a_lab_that_does_not_read_keeps_no_member_waiting(monkeypatch):
    """Steps are lost and counted; the messages that matter to the election are not."""
    monkeypatch.setattr(member_process, "MOST_WAITING", 3)
    stage = processes.ProcessStage(Plan(("n1",), 0, CLASSROOM, 0.001, RuleBook(Rules())))
    settings = stage._settings("n1")
    stage.close()
    line, theirs = Line.pair()
    with contextlib.closing(line), theirs:
        member = member_process.MemberProcess(line, settings)
        with member._thread:
            member._thread.wait_until_leader(PATIENCE)
            eventually(lambda: member._thread.metrics()["steps_dropped_total"] > 5, "losing steps")
            member._thread.wait_until_leader(PATIENCE)  # still, or again where the machine is too busy for its lease
            assert member._thread.failure is None
        told = [member._outbox.get_nowait() for _ in range(member._outbox.qsize())]
        assert sum(isinstance(each, tuple) for each in told) <= 3
        assert [each for each in told if not isinstance(each, tuple) and each["is"] == "saved"]
