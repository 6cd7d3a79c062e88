"""`Lab`: what may be done to a cluster, and that the recording says what has happened. On a virtual clock.

What holds on other backends as well is in test_lab_threads.py and test_lab_processes.py.
"""

from __future__ import annotations

import random
import subprocess
import sys

import pytest
from harness import seeds

from raftlite.errors import ConfigError
from raftlite.lab import CLASSROOM, Lab, LabClosed, Rules, fold, lint, load
from raftlite.lab.trace import leaders_by_term, to_jsonl
from raftlite.timing import Timing

EVERY = ["n1", "n2", "n3", "n4", "n5"]


def a_lab(nodes=5, **settings):
    return Lab(nodes, backend="virtual", **settings)


def others(lab, *names):
    return [n for n in lab.nodes if n not in names]


def records(lab, kind, **wanted):
    return [
        record
        for record in lab.trace.records
        if record["k"] == kind and all(record.get(name) == value for name, value in wanted.items())
    ]


def is_sound(lab):
    """The trace keeps its rules, no term has two leaders, and the lab's view is what the trace adds up to."""
    assert lint(lab.trace) == []
    assert all(len(leaders) == 1 for leaders in leaders_by_term(lab.trace).values())
    folded, view = lab._stage.look(lambda: (fold(lab.trace), lab.view()))  # while nothing more is recorded
    assert folded.nodes == view.nodes
    assert folded.in_flight == view.in_flight
    assert folded.links == view.links
    return True


# --- A cluster of itself -------------------------------------------------------------------------------------------


def test_a_cluster_elects_a_leader_and_says_so():
    with a_lab(seed=7) as lab:
        assert lab.nodes == EVERY
        assert lab.leader() is None
        leader = lab.elected()
        assert lab.leader() == leader
        lab.wait(2.0)
        assert lab.state(leader).role == "leader"
        assert all(lab.state(n).leader == leader and lab.state(n).role == "follower" for n in others(lab, leader))
        assert records(lab, "event", event="elected", n=leader, leader=leader, token=1)
        assert len(records(lab, "event", event="leader", leader=leader)) == 4
        assert is_sound(lab)


def test_the_header_says_what_the_lab_is():
    with a_lab(3, seed=3, scale=0.5, delay=0.2, loss=0.1, rules=Rules(pre_vote=False, jitter=0.5), scene="x") as lab:
        header = dict(lab.trace.header)
    assert header.pop("config") == {
        "heartbeat": 1.0,
        "election": [3.0, 4.5],
        "delay": [0.2, 0.2],
        "loss": 0.1,
        "proof": False,
        "majority": 2,
        "pre_vote": False,
        "check_quorum": True,
        "jitter": 0.5,
    }
    assert header.pop("raftlite")
    assert header == {
        "k": "header",
        "format": "raftlite-trace",
        "v": 1,
        "created": None,
        "backend": "virtual",
        "scale": 0.5,
        "seed": 3,
        "nodes": ["n1", "n2", "n3"],
        "scene": "x",
    }


def test_the_same_seed_gives_the_same_trace():
    """Byte for byte, also in another process; another seed gives another."""

    def recorded(seed):
        with a_lab(seed=seed) as lab:
            lab.kill(lab.elected())
            lab.wait(20.0)
            return to_jsonl(lab.trace)

    assert recorded(1) == recorded(1)
    assert recorded(1) != recorded(2)
    source = (
        "from raftlite.lab import Lab\nfrom raftlite.lab.trace import to_jsonl\n"
        "with Lab(5, backend='virtual', seed=1) as lab:\n"
        "    lab.kill(lab.elected())\n    lab.wait(20.0)\n    print(to_jsonl(lab.trace), end='')"
    )
    other = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True, timeout=60)
    assert other.stdout == recorded(1)


def test_a_lab_imports_nothing_of_pages_and_browsers():
    """Not before it is asked for, and no backend that is not used."""
    source = (
        "import sys, raftlite.lab\nassert 'raftlite.lab.lab' not in sys.modules\n"
        "raftlite.lab.Lab(3, backend='virtual').close()\n"
        "print([n for n in sys.modules if n in ('http', 'subprocess', 'raftlite.lab.threads', 'raftlite.lab.server')])"
    )
    said = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True, timeout=60)
    assert said.stdout == "[]\n"


def test_a_cluster_of_one_leads_at_once():
    with a_lab(1) as lab:
        assert lab.elected() == "n1"
        lab.wait(10.0)
        assert lab.leader() == "n1"
        assert is_sound(lab)


# --- What members do is told as they told it -----------------------------------------------------------------------


def test_a_state_shows_when_its_timer_is_due_and_for_how_long_it_was_set():
    with a_lab(seed=7) as lab:
        for record in records(lab, "state"):
            assert record["why"] == "started"
            assert record["deadline"] == record["span"]
            assert 3.0 <= record["span"] < 6.0
        leader = lab.elected()
        lab.wait(5.0)
        for record in records(lab, "timer", timer="election"):
            before = [each for each in records(lab, "state", n=record["n"]) if each["i"] < record["i"]]
            assert record["t"] == before[-1]["deadline"]
        rearmed = [each for each in records(lab, "state") if each["why"] == f"heartbeat of {leader}"]
        assert len(rearmed) >= 4 * 4
        assert all(each["deadline"] == pytest.approx(each["t"] + each["span"]) for each in rearmed)


def test_the_lease_is_recorded_whenever_it_changes():
    """So the page may show how long it holds, and nobody looks like a leader of old who is none."""
    with a_lab(seed=3) as lab:
        leader = lab.elected()
        election = lab._stage._members[leader].election
        for _ in range(200):
            lab.wait(0.1)
            assert lab.state(leader).lease == pytest.approx(election.lease_expires_at, abs=1e-5)
            assert lab.view().leader_at(lab.now) == leader


def test_a_request_says_what_became_of_it_and_why():
    with a_lab(4, seed=1) as lab:
        lab.cut("n1", "n2")
        lab.align(["n1", "n2"])
        lab.wait(6.0)
        assert {record["result"] for record in records(lab, "recv", type="vote_req")} >= {"granted", "refused"}
        granted = records(lab, "recv", type="vote_req", result="granted")[0]
        assert granted["why"] == "first request seen in term 1"
        refused = records(lab, "recv", type="vote_req", result="refused")[0]
        voted_for = [each for each in records(lab, "state", n=refused["n"]) if each["i"] < refused["i"]][-1]["vote"]
        assert refused["why"] == f"voted for {voted_for} in term 1"
        counted = records(lab, "recv", type="vote_resp", result="counted")
        assert counted[0]["why"] == "2 of 4 votes"
        assert is_sound(lab)


def test_a_leader_that_is_cut_off_steps_down_because_its_lease_is_over():
    with a_lab(seed=5) as lab:
        first = lab.elected()
        lab.wait(3.0)
        lab.partition([first], others(lab, first))
        second = lab.elected(term_above=lab.state(first).term)
        assert second != first
        lost = records(lab, "event", event="lost", n=first)[0]
        won = records(lab, "event", event="elected", n=second)[0]
        assert lost["t"] < won["t"]  # never two at a time
        assert records(lab, "timer", timer="lease", n=first)
        assert "its lease ran out: no majority answered" in {each["why"] for each in records(lab, "state", n=first)}
        lab.heal()
        assert lab.wait_for(lambda: lab.state(first).leader == second, 10.0)
        assert lab.leader() == second
        assert is_sound(lab)


def test_a_message_has_its_time_of_arrival_and_comes_then():
    with a_lab(seed=5, delay=(0.4, 0.6)) as lab:
        lab.elected()
        lab.wait(10.0)
        sent = {record["m"]: record for record in records(lab, "send")}
        for received in records(lab, "recv"):
            send = sent[received["m"]]
            assert received["t"] == send["eta"]
            assert 0.4 <= send["eta"] - send["t"] <= 0.600001


def test_no_message_overtakes_another_over_the_same_link():
    """As over a connection. What a leader sends with its last breath must not come before what explains it."""
    with a_lab(seed=5, delay=(0.1, 3.0), timing=Timing(heartbeat_interval=0.2, election_timeout=9.0)) as lab:
        lab.elected()
        lab.wait(20.0)
        heard = [record for record in records(lab, "recv") if not record.get("copy")]
        for a, b in ((a, b) for a in lab.nodes for b in lab.nodes):
            order = [record["m"] for record in heard if (record["from"], record["n"]) == (a, b)]
            assert order == sorted(order)


# --- Members that end, begin and freeze ----------------------------------------------------------------------------


def test_a_killed_leader_is_replaced_and_follows_when_it_is_back():
    """Its vote is still there, and nobody was told that it died."""
    with a_lab(seed=2) as lab:
        first = lab.elected()
        term = lab.state(first).term
        lab.kill(first, by="ui")
        assert not lab.is_up(first)
        assert lab.state(first).role == "stopped"
        second = lab.elected(term_above=term)
        lab.start(first)
        assert lab.is_up(first)
        assert lab.state(first).term == term  # it remembers
        assert lab.state(first).vote == first
        assert lab.wait_for(lambda: lab.state(first).leader == second, 10.0)
        assert [record["inc"] for record in records(lab, "start", n=first)] == [1, 2]
        assert records(lab, "stop", n=first) == [{**records(lab, "stop", n=first)[0], "inc": 1, "why": "killed"}]
        assert records(lab, "fault", op="kill") == [{**records(lab, "fault")[0], "n": first, "by": "ui"}]
        assert not records(lab, "proof")
        assert is_sound(lab)


def test_what_is_on_its_way_to_a_killed_member_is_lost_when_it_arrives():
    with a_lab(seed=2) as lab:
        lab.elected()
        victim = others(lab, lab.leader())[0]
        assert lab.wait_for(lambda: any(each["to"] == victim for each in lab.view().in_flight.values()), 10.0)
        flying = [m for m, each in lab.view().in_flight.items() if each["to"] == victim]
        lab.kill(victim)
        lab.wait(1.0)
        for m in flying:
            lost = records(lab, "lost", m=m)[0]
            assert (lost["n"], lost["why"]) == (victim, "down")
            assert lost["t"] == records(lab, "send", m=m)[0]["eta"]
        assert is_sound(lab)


def test_with_proof_the_peers_of_a_killed_leader_take_over_without_waiting_for_a_timer():
    with a_lab(seed=2, proof=True) as lab:
        for _ in range(5):
            lab.wait(10.0)
            leader = lab.leader()
            killed_at, term = lab.now, lab.state(leader).term
            lab.kill(leader)
            lab.elected(term_above=term)
            won = next(record for record in records(lab, "state", role="leader") if record["term"] > term)
            assert won["t"] - killed_at <= 0.6 + 2 * 0.6  # the news, and a round trip
            assert len([each for each in records(lab, "proof", of=leader) if each["t"] > killed_at]) == 4
            lab.start(leader)
        assert is_sound(lab)


@pytest.mark.parametrize("seed", range(20))
def test_the_news_of_a_death_comes_after_the_last_words_of_the_dead(seed):
    """As over a connection: or a heartbeat that comes later would say that the leader is alive."""
    with a_lab(seed=seed, proof=True) as lab:
        leader = lab.elected()
        assert lab.wait_for(lambda: any(each["n"] == leader for each in lab.view().in_flight.values()), 10.0)
        lab.kill(leader)
        lab.wait(1.5)
        for n in others(lab, leader):
            proof = records(lab, "proof", n=n, of=leader)[0]
            assert all(record["i"] < proof["i"] for record in records(lab, "recv", **{"n": n, "from": leader}))


def test_a_power_cut_is_no_proof():
    with a_lab(seed=2, proof=True) as lab:
        lab.power(lab.elected())
        lab.wait(20.0)
        assert not records(lab, "proof")
        assert records(lab, "stop")[0]["why"] == "power"


def test_no_proof_of_a_death_that_is_over():
    """The process is back before the news has come."""
    with a_lab(seed=2, proof=True) as lab:
        leader = lab.elected()
        lab.kill(leader)
        lab.start(leader)
        lab.wait(20.0)
        assert not records(lab, "proof")
        assert is_sound(lab)


def test_a_frozen_member_does_nothing_until_it_is_thawed():
    """A leader that was frozen for too long does not act in its old term: its clock went on."""
    with a_lab(seed=4) as lab:
        first = lab.elected()
        lab.wait(4.0)
        lab.freeze(first)
        assert lab.is_paused(first)
        assert lab.is_up(first)
        frozen_at = lab.trace.last
        second = lab.elected(term_above=lab.state(first).term)
        lab.wait(1.0)
        during = [record for record in lab.trace.records[frozen_at:] if record["n"] == first]
        assert {record["k"] for record in during} <= {"lost"}
        assert lab.act(second)
        assert not lab.act(first)
        assert records(lab, "act", by=first)[0]["why"] == f"{first} is frozen"
        lab.thaw(first)
        assert not lab.is_paused(first)
        assert lab.state(first).role == "follower"
        lab.wait(2.0)
        assert lab.state(first).leader == second
        assert not lab.act(first)
        assert is_sound(lab)


def test_what_a_frozen_member_is_sent_waits_and_is_heard_in_order():
    with a_lab(seed=4) as lab:
        leader = lab.elected()
        lab.wait(4.0)
        victim = others(lab, leader)[0]
        lab.freeze(victim)
        lab.wait(2.5)
        waiting = [m for m, each in lab.view().in_flight.items() if each["to"] == victim and each["eta"] < lab.now]
        assert len(waiting) >= 2
        before = lab.trace.last
        lab.thaw(victim)
        heard = [record["m"] for record in lab.trace.records[before:] if record["k"] == "recv"]
        assert heard == sorted(waiting, key=lambda m: records(lab, "send", m=m)[0]["eta"])
        assert is_sound(lab)


def test_a_member_that_is_killed_while_frozen_has_heard_nothing_of_what_waited():
    with a_lab(seed=4) as lab:
        leader = lab.elected()
        lab.wait(4.0)
        victim = others(lab, leader)[0]
        lab.freeze(victim)
        lab.wait(2.5)
        waiting = [m for m, each in lab.view().in_flight.items() if each["to"] == victim and each["eta"] < lab.now]
        lab.kill(victim)
        assert {record["m"] for record in records(lab, "lost", n=victim, why="down")} >= set(waiting)
        assert not lab.is_paused(victim)
        lab.start(victim)
        lab.wait(5.0)
        assert is_sound(lab)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["virtual", "threads", "processes"])
def test_a_member_that_is_killed_while_frozen_has_saved_nothing_of_what_waited(backend):
    """A vote that it was asked for meanwhile is not cast."""
    with Lab(5, backend=backend, seed=4, scale=0.1 if backend == "processes" else 0.02) as lab:
        leader = lab.elected()
        victim = others(lab, leader)[0]
        assert lab.wait_for(lambda: lab.state(victim).leader is not None, 600.0)
        lab.freeze(victim)
        term = lab.state(victim).term  # another than the leader's, where a process has stood still for a lease
        lab.power(leader)
        lab.elected(term_above=term, seconds=600.0)
        assert any(record["term"] > term for record in records(lab, "send", to=victim, type="vote_req"))
        lab.wait(1.0)
        lab.kill(victim)
        lab.loss(1.0)
        lab.start(victim)
        assert records(lab, "state", n=victim, why="started")[-1]["term"] == term
        assert is_sound(lab)


def test_a_wiped_member_has_forgotten_how_it_voted():
    with a_lab(seed=4) as lab:
        leader = lab.elected()
        victim = others(lab, leader)[0]
        lab.wipe(victim)
        assert not lab.is_up(victim)
        lab.start(victim)
        assert (lab.state(victim).term, lab.state(victim).vote) == (0, None)
        assert [record["op"] for record in records(lab, "fault", n=victim)] == ["wipe", "start"]


def test_a_disk_may_be_lost_while_the_member_is_down():
    with a_lab(seed=4) as lab:
        leader = lab.elected()
        lab.kill(leader)
        lab.wipe(leader)
        lab.start(leader)
        assert lab.state(leader).term == 0
        assert len(records(lab, "stop")) == 1


def test_a_timer_runs_out_by_hand():
    with a_lab(seed=4) as lab:
        lab.time_out("n3")
        assert lab.state("n3").role == "pre-candidate"
        assert records(lab, "timer", n="n3")[0]["t"] == 0.0
        assert lab.elected() == "n3"
        before = lab.trace.last
        lab.time_out("n3")  # a leader has none
        assert lab.trace.last == before


def test_a_leader_that_resigns_hands_over():
    with a_lab(seed=4) as lab:
        first = lab.elected()
        lab.wait(4.0)
        lab.resign(first)
        asked_at = lab.now
        second = lab.elected(term_above=lab.state(first).term)
        assert second != first
        assert lab.now - asked_at < CLASSROOM.election_timeout
        assert records(lab, "recv", type="timeout_now", result="accepted", n=second)
        assert is_sound(lab)


def test_what_is_done_already_is_not_done_again():
    """A second click on the same button is no event."""
    with a_lab(seed=4) as lab:
        lab.kill("n1")
        lab.freeze("n2")
        before = lab.trace.last
        lab.kill("n1")
        lab.power("n1")
        lab.freeze("n1")
        lab.thaw("n1")
        lab.time_out("n1")
        lab.resign("n1")
        lab.freeze("n2")
        lab.start("n2")
        assert lab.trace.last == before


# --- Timers by hand ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(20))
def test_aligned_timers_run_out_together_and_nobody_interferes(seed):
    with a_lab(seed=seed) as lab:
        lab.kill(lab.elected())
        chosen = [n for n in lab.nodes if lab.is_up(n)][:2]
        lab.align(chosen)
        at = records(lab, "fault", op="align")[0]["at"]
        aligned = lab.trace.last
        lab.wait(at + 2.0 - lab.now)
        refused = [record["why"] for record in lab.trace.records[aligned:] if record.get("result") == "refused"]
        assert not any("was heard from" in why for why in refused)
        fired = [record for record in lab.trace.records[aligned:] if record["k"] == "timer"]
        assert [(record["n"], record["t"]) for record in fired] == [(n, at) for n in chosen]


@pytest.mark.parametrize("seed", seeds(20, 100))
def test_a_split_vote_can_be_forced_with_certainty(seed):
    """Four voters, two candidates, and each reaches another voter first: a term with two votes for each."""
    with a_lab(4, seed=seed) as lab:
        one, two, near_one, near_two = random.Random(seed).sample(lab.nodes, 4)
        for candidate, near, far in ((one, near_one, near_two), (two, near_two, near_one)):
            lab.shape(candidate, near, 0.3)
            lab.shape(candidate, far, 0.9)
        lab.align([one, two])
        assert lab.wait_for(lambda: all(lab.state(n).role == "candidate" for n in (one, two)), 10.0)
        lab.wait(1.0)
        assert {n: lab.state(n).vote for n in lab.nodes} == {one: one, two: two, near_one: one, near_two: two}
        lab.heal()
        lab.elected(term_above=1)
        assert 1 not in leaders_by_term(lab.trace)
        assert is_sound(lab)


def test_timers_cannot_be_aligned_while_a_leader_sets_them_anew():
    with a_lab() as lab:
        leader = lab.elected()
        with pytest.raises(TimeoutError, match="stop the leader first"):
            lab.align(2)
        with pytest.raises(ConfigError, match=f"{leader} has no election timer now"):
            lab.align([leader])
        with pytest.raises(ConfigError, match="5 timers are to be aligned, but only 4 members have one"):
            lab.align(5)


def test_timers_that_are_spread_do_not_meet():
    with a_lab(seed=1) as lab:
        lab.spread()
        deadlines = sorted(lab.state(n).deadline for n in lab.nodes)
        assert deadlines == pytest.approx([3.0, 3.6, 4.2, 4.8, 5.4])


# --- Links ---------------------------------------------------------------------------------------------------------


def test_over_a_link_that_is_cut_nothing_arrives_and_the_other_way_is_untouched():
    with a_lab(seed=1) as lab:
        leader = lab.elected()
        lab.wait(3.0)
        other = others(lab, leader)[0]
        lab.cut(leader, other, both=False)
        cut_at = lab.trace.last
        lab.wait(10.0)
        later = lab.trace.records[cut_at:]
        lost = [record for record in later if record["k"] == "lost"]
        assert lost
        assert all(record["why"] == "cut" and record["n"] == other for record in lost)
        assert any(record["k"] == "recv" and record["n"] == leader and record["from"] == other for record in later)
        assert records(lab, "links")[-1]["cut"] == [[leader, other]]
        assert lab.view().links.cut == ((leader, other),)
        lab.mend(leader, other)
        assert records(lab, "links")[-1]["cut"] == []
        assert is_sound(lab)


def test_what_is_on_its_way_when_a_link_is_cut_is_lost_at_once():
    with a_lab(seed=1) as lab:
        lab.elected()
        m, sent = next(iter(lab.view().in_flight.items()))
        lab.cut(sent["n"], sent["to"])
        lost = records(lab, "lost", m=m)[0]
        assert (lost["t"], lost["why"], lost["n"]) == (pytest.approx(lab.now), "cut", sent["to"])
        assert is_sound(lab)


def test_a_partition_replaces_the_one_before():
    with a_lab(seed=1) as lab:
        lab.partition(["n1", "n2"], ["n3", "n4", "n5"])
        assert ("n1", "n3") in lab.view().links.cut
        lab.partition(["n1", "n3"], ["n2", "n4"])
        cut = lab.view().links.cut
        assert ("n1", "n3") not in cut
        assert {("n1", "n2"), ("n2", "n1"), ("n5", "n1"), ("n4", "n5")} <= set(cut)
        lab.heal()
        assert lab.view().links.cut == ()


def test_a_message_in_flight_may_be_dropped_held_released_and_doubled():
    with a_lab(seed=1) as lab:
        lab.time_out("n1")
        dropped, held, doubled, _ = lab.view().in_flight
        lab.drop(dropped)
        assert records(lab, "lost", m=dropped)[0]["why"] == "operator"
        lab.hold(held)
        lab.duplicate(doubled)
        lab.wait(2.0)
        assert held in lab.view().in_flight
        assert [record.get("copy", 0) for record in records(lab, "recv", m=doubled)] == [0, 1]
        released_at = lab.now
        lab.release(held)
        lab.wait(2.0)
        assert released_at < records(lab, "recv", m=held)[0]["t"] <= released_at + 0.6
        for deed in (lab.drop, lab.hold, lab.release, lab.duplicate):
            with pytest.raises(ConfigError, match=f"message {held} is not in flight"):
                deed(held)
        assert is_sound(lab)


def test_the_second_copy_of_a_message_has_another_number_than_the_third():
    with a_lab(seed=1) as lab:
        lab.time_out("n1")
        m = next(iter(lab.view().in_flight))
        lab.duplicate(m)
        lab.hold(m)
        lab.duplicate(m)
        assert [record["copy"] for record in records(lab, "fault", op="duplicate")] == [1, 2]
        lab.drop(m)
        assert sorted(record.get("copy", 0) for record in records(lab, "lost", m=m)) == [0, 1, 2]
        assert is_sound(lab)


def test_delay_and_loss_are_those_of_messages_sent_from_then_on():
    with a_lab(seed=1, delay=0.1) as lab:
        assert lab.delay_range == (0.1, 0.1)
        lab.time_out("n1")
        lab.delay((1.0, 2.0))
        lab.loss(1.0)
        lab.time_out("n2")
        sent = records(lab, "send")
        assert all(record["eta"] == 0.1 for record in sent if record["n"] == "n1")
        assert all(record["eta"] is None for record in sent if record["n"] == "n2")
        assert [record["why"] for record in records(lab, "lost")] == ["loss"] * 4
        assert (lab.delay_range, lab.loss_rate) == ((1.0, 2.0), 1.0)
        lab.wait(0.2)
        answers = [record for record in records(lab, "send") if record["type"] == "pre_vote_resp"]
        assert all(record["eta"] is None for record in answers)
        lab.loss(0.0)
        lab.time_out("n3")
        assert all(
            1.0 <= record["eta"] - lab.now <= 2.0 for record in records(lab, "send", n="n3", type="pre_vote_req")
        )
        assert is_sound(lab)


def test_one_link_may_be_shaped():
    with a_lab(seed=1) as lab:
        lab.shape("n1", "n2", 5.0)
        assert records(lab, "links")[-1]["shape"] == [["n1", "n2", 5.0]]
        lab.time_out("n1")
        assert [each["eta"] for each in records(lab, "send", to="n2")] == [5.0]
        lab.shape("n1", "n2", None)
        assert records(lab, "links")[-1]["shape"] == []


# --- Rules ---------------------------------------------------------------------------------------------------------


def disturbed(rules, seed):
    """A follower is cut off for five timeouts and comes back; the leader before, the one after, and the follower."""
    with a_lab(seed=seed, rules=rules) as lab:
        leader = lab.elected()
        lab.wait(5.0)
        term = lab.state(leader).term
        victim = others(lab, leader)[0]
        lab.partition([victim], others(lab, victim))
        lab.wait(5 * CLASSROOM.election_timeout)
        ahead = lab.state(victim).term - term
        lab.heal()
        lab.wait(10.0)
        after = lab.elected()
        assert is_sound(lab)
        return ahead, lab.state(after).term - term


@pytest.mark.slow
def test_without_pre_vote_and_check_quorum_a_follower_that_was_away_deposes_a_healthy_leader():
    for seed in range(10):
        ahead, terms = disturbed(Rules(pre_vote=False, check_quorum=False), seed)
        assert ahead >= 2
        assert terms > ahead


def test_with_pre_vote_and_check_quorum_it_comes_back_in_peace():
    for seed in range(10):
        assert disturbed(Rules(), seed) == (0, 0)


@pytest.mark.parametrize("check_quorum", [False, True])
def test_without_check_quorum_voters_listen_to_a_candidate_although_they_hear_a_leader(check_quorum):
    with a_lab(seed=3, rules=Rules(pre_vote=False, check_quorum=check_quorum)) as lab:
        leader = lab.elected()
        lab.wait(5.0)
        lab.time_out(others(lab, leader)[0])
        lab.wait(0.7)
        requests = records(lab, "recv", type="vote_req")[-4:]
        assert {record["result"] for record in requests} == {"refused" if check_quorum else "granted"}
        assert ("heard from" in requests[0]["why"] or f"{leader} leads" in requests[0]["why"]) is check_quorum
        assert is_sound(lab)


def test_without_check_quorum_a_leader_that_nobody_answers_leads_on():
    """Its lease, such as the answers would give it one, is over."""
    with a_lab(seed=3, rules=Rules(check_quorum=False)) as lab:
        leader = lab.elected()
        for n in others(lab, leader):
            lab.cut(n, leader, both=False)
        lab.wait(20.0)
        assert lab.state(leader).role == "leader"
        assert lab.leader() is None
        lab.set_rules(Rules(), by="scene")
        lab.wait(0.0)
        assert lab.rules == Rules()
        assert lab.state(leader).role == "follower"
        assert records(lab, "fault", op="rules")[0]["rules"] == {"pre_vote": True, "check_quorum": True, "jitter": 1.0}
        assert is_sound(lab)


def test_without_jitter_every_timeout_is_the_same():
    with a_lab(seed=3, rules=Rules(jitter=0.0)) as lab:
        assert {lab.state(n).deadline for n in lab.nodes} == {3.0}
        lab.wait(20.0)
        assert lab.leader() is None  # all stand at the same time, again and again
        lab.set_rules(Rules(jitter=1.0))
        assert lab.elected()


# --- The resource --------------------------------------------------------------------------------------------------


def test_the_resource_refuses_a_leader_of_old():
    with a_lab(seed=3) as lab:
        assert not lab.act("n1")
        assert records(lab, "act")[0]["why"] == "n1 has never led"
        first = lab.elected()
        assert lab.act(first)
        lab.wait(3.0)
        lab.partition([first], others(lab, first))
        second = lab.elected(term_above=lab.state(first).term)
        assert lab.act(first)  # it does not look at its lease, and nobody has written since
        assert lab.act(second)
        assert not lab.act(first)
        assert "it has seen token" in records(lab, "act", by=first)[-1]["why"]
        assert records(lab, "act", by=second)[-1]["token"] == lab.state(second).term
        lab.kill(first)
        assert not lab.act(first)
        lab.start(first)
        assert not lab.act(first)  # the program that held it is gone
        assert records(lab, "act", by=first)[-1]["why"] == f"{first} has never led"
        assert is_sound(lab)


# --- Time, notes, the end ------------------------------------------------------------------------------------------


def test_waiting_moves_the_clock_and_nothing_else_does():
    with a_lab() as lab:
        assert lab.now == 0.0
        lab.wait(2.5)
        assert lab.now == 2.5
        assert not lab.wait_for(lambda: False, 1.0)
        assert lab.now == 3.5
        assert lab.wait_for(lambda: True, 1.0)
        assert lab.now == 3.5
        assert lab.wait_for(lambda: lab.now >= 3.6, 0.1)


def test_a_step_goes_to_the_next_thing_that_happens():
    with a_lab(seed=7) as lab:
        lab.step()
        timer = records(lab, "timer")[0]
        assert lab.now == pytest.approx(timer["t"])
        assert lab.is_clock_paused
        assert len(records(lab, "timer")) == 1
        lab.step(0.1)
        assert lab.now == pytest.approx(timer["t"] + 0.1)
        lab.play()
        assert not lab.is_clock_paused
        assert [record["op"] for record in records(lab, "clock")] == ["pause", "step", "step", "play"]


def test_a_cluster_in_which_nothing_can_happen_stands_still():
    with a_lab() as lab:
        for n in lab.nodes:
            lab.kill(n)
        lab.step()
        assert lab.now == 0.0
        lab.wait(5.0)
        assert lab.now == 5.0


def test_whoever_waits_in_vain_for_a_leader_is_told():
    with a_lab() as lab:
        for n in lab.nodes[:3]:
            lab.kill(n)
        with pytest.raises(TimeoutError, match="nobody has been elected in a term above 0 within 60 s"):
            lab.elected()
        with pytest.raises(TimeoutError, match="within 1 s"):
            lab.elected(seconds=1.0)


def test_notes_and_checks_are_in_the_trace():
    with a_lab() as lab:
        lab.note("who wins?", by="scene", kind="question")
        lab.check("one leader per term", True)
        lab.check("one leader per term", False, "two in term 4")
        note = records(lab, "note")[0]
        assert (note["text"], note["by"], note["kind"]) == ("who wins?", "scene", "question")
        assert [(each["ok"], each["why"]) for each in records(lab, "check")] == [(True, ""), (False, "two in term 4")]
        assert lab.view().checks["one leader per term"]["ok"] is False


def test_a_trace_goes_into_a_file_too(tmp_path):
    with a_lab(path=tmp_path / "run.jsonl", seed=3) as lab:
        lab.elected()
    loaded = load(tmp_path / "run.jsonl")
    assert loaded.records[:-1] == lab.trace.records
    assert loaded.records[-1]["k"] == "end"
    assert loaded.records[-1]["dropped"] == 0
    assert lint(loaded) == []


def test_a_closed_lab_says_so_and_keeps_its_trace():
    lab = a_lab()
    lab.elected()
    lab.close()
    lab.close()
    last = lab.trace.last
    for deed in (lambda: lab.kill("n1"), lambda: lab.wait(1.0), lambda: lab.note("x"), lambda: lab.heal(), lab.pause):
        with pytest.raises(LabClosed):
            deed()
    assert lab.trace.last == last
    assert lab.leader()
    assert lab.view().leader


@pytest.mark.parametrize(
    "settings, sentence",
    [
        ({"nodes": 0}, r"nodes is 0, but must be a whole number from 1"),
        ({"nodes": 26}, r"nodes is 26"),
        ({"nodes": "5"}, r"nodes is '5'"),
        ({"backend": "cloud"}, r"backend is 'cloud', but must be one of threads, virtual, processes"),
        ({"seed": "x"}, r"seed is 'x', but must be a whole number"),
        ({"scale": 0}, r"scale is 0, but must be 0.001 to 1000"),
        ({"delay": 0}, r"delay is 0, but must be"),
        ({"delay": (0.5, 0.1)}, r"the first of two must not be above the second"),
        ({"delay": float("nan")}, r"delay is nan"),
        ({"loss": 1.5}, r"loss is 1.5, but must be a share from 0 to 1"),
        ({"timing": 3}, r"timing is 3"),
        ({"rules": None}, r"rules is None"),
    ],
)
def test_settings_out_of_bounds_are_refused_before_anything_starts(settings, sentence):
    with pytest.raises(ConfigError, match=sentence):
        Lab(**{"backend": "virtual", **settings})


@pytest.mark.parametrize(
    "rules", [{"pre_vote": 1}, {"check_quorum": None}, {"jitter": -1}, {"jitter": float("inf")}, {"jitter": True}]
)
def test_rules_out_of_bounds_are_refused(rules):
    with pytest.raises(ConfigError):
        Rules(**rules)


def test_deeds_that_make_no_sense_are_refused_and_leave_no_record():
    with a_lab(3) as lab:
        before = lab.trace.last
        for deed, sentence in (
            (lambda: lab.kill("n9"), "'n9' is no member: they are n1, n2, n3"),
            (lambda: lab.cut("n1", "n1"), "n1 has no link to itself"),
            (lambda: lab.partition(["n1"], ["n1", "n2"]), "a member can be in one only"),
            (lambda: lab.delay(-1.0), "delay is -1.0"),
            (lambda: lab.loss(2), "loss is 2"),
            (lambda: lab.shape("n1", "n2", 0), "delay is 0"),
            (lambda: lab.set_rules("all"), "rules is 'all'"),
            (lambda: lab.align(["n7"]), "'n7' is no member"),
            (lambda: lab.wait(-1), "seconds is -1"),
            (lambda: lab.scale(0), "scale is 0"),
            (lambda: lab.state("n7"), "'n7' is no member"),
            (lambda: lab.drop(1), "message 1 is not in flight"),
        ):
            with pytest.raises(ConfigError, match=sentence):
                deed()
        assert lab.trace.last == before


# --- Whatever is done, in whatever order ---------------------------------------------------------------------------


def do_something(lab, rng):
    """One deed by chance."""
    n, other = rng.sample(lab.nodes, 2)
    deeds = [
        lambda: lab.kill(n),
        lambda: lab.power(n),
        lambda: lab.start(n),
        lambda: lab.start(other),
        lambda: lab.freeze(n),
        lambda: lab.thaw(n),
        lambda: lab.time_out(n),
        lambda: lab.resign(n),
        lambda: lab.cut(n, other, both=rng.random() < 0.5),
        lambda: lab.mend(n, other),
        lambda: lab.partition(lab.nodes[:2], lab.nodes[2:]),
        lab.heal,
        lambda: lab.delay((0.1, 0.1 + rng.random())),
        lambda: lab.loss(rng.choice([0.0, 0.3])),
        lambda: lab.shape(n, other, 0.1 + rng.random()),
        lab.spread,
        lambda: lab.act(n),
        lambda: lab.set_rules(Rules(pre_vote=rng.random() < 0.5, jitter=rng.random())),
    ]
    rng.choice(deeds)()
    for m in [m for m in lab.view().in_flight if rng.random() < 0.1]:
        try:
            rng.choice([lab.drop, lab.hold, lab.release, lab.duplicate])(m)
        except ConfigError:
            sent = lab.view().in_flight.get(m)  # where it has arrived, and waits for a frozen member
            assert sent is None or sent["eta"] <= lab.now + 1e-6


@pytest.mark.parametrize("seed", seeds(15, 60))
def test_whatever_is_done_the_trace_is_sound(seed):
    rng = random.Random(seed)
    with a_lab(rng.choice([3, 4, 5, 7]), seed=seed, proof=seed % 2 == 0) as lab:
        for _ in range(60):
            do_something(lab, rng)
            lab.wait(2 * rng.random())
        assert is_sound(lab)
        lab.heal()
        lab.loss(0.0)
        lab.delay((0.4, 0.6))
        for m in list(lab.view().in_flight):
            try:
                lab.drop(m)
            except ConfigError:
                continue
        for n in lab.nodes:
            lab.thaw(n)
            lab.start(n)
        lab.set_rules(Rules())
        lab.wait(15.0)
        lab.elected()
        assert is_sound(lab)
