"""`member.metrics()`: plain numbers for whoever watches, which cost nothing and only say what has happened."""

from __future__ import annotations

import queue
import re
import sys
import threading
from pathlib import Path

import pytest
from threads import PATIENCE, Follower, Gate, Inbox, a_candidate, a_leader, eventually, settle

from raftlite import Member, MemberStopped, QueueNode, Timing
from raftlite.messages import Heartbeat
from raftlite.metrics import METRICS

LOYAL = Timing(heartbeat_interval=0.05, election_timeout=600.0)  # no lease runs out while the test runs
README = (Path(__file__).resolve().parent.parent / "README.md").read_text(encoding="utf-8")


def counted(thread, *names):
    metrics = thread.metrics()
    return tuple(metrics[name] for name in names)


def test_every_number_has_a_sentence_that_says_what_it_counts():
    """And a name in Prometheus' manner: what only grows ends in `_total`."""
    with a_leader() as scene:
        metrics = scene.thread.metrics()
    assert metrics.keys() == METRICS.keys()
    assert all(type(value) in (int, float) for value in metrics.values())
    assert all(re.fullmatch(r"[a-z_]+", name) for name in metrics)


def test_the_numbers_of_a_member_that_is_elected_and_loses():
    with a_candidate() as scene:
        settle(scene.thread)
        assert counted(scene.thread, "elections_started_total", "elected_total", "has_leader", "members") == (
            0,
            0,
            0,
            3,
        )
        scene.win()
        settle(scene.thread)
        names = ("current_term", "is_leader", "has_leader", "lease_remaining_seconds", "elected_total", "lost_total")
        assert counted(scene.thread, *names) == (1, 1, 1, 0.9375, 1, 0)
        assert counted(scene.thread, "elections_started_total", "leader_changes_total") == (1, 1)
        scene.silence()
        scene.pass_time(1.0)
        settle(scene.thread)
        assert counted(scene.thread, *names) == (1, 0, 0, 0.0, 1, 1)
        scene.wake_up()
        scene.pass_time(1.5)
        scene.thread.wait_until_leader(PATIENCE)
        assert counted(scene.thread, *names) == (2, 1, 1, 0.9375, 2, 1)
        assert counted(scene.thread, "elections_started_total", "leader_changes_total") == (2, 2)
    assert counted(scene.thread, *names[1:]) == (0, 0, 0.0, 2, 2)


def test_an_election_that_is_lost_counts_too():
    with a_candidate() as scene:
        for follower in scene.followers:
            follower.grants = False
        settle(scene.thread)
        scene.pass_time(1.5)
        settle(scene.thread)
        assert counted(scene.thread, "elections_started_total") == (0,)  # a pre-vote is none
        scene.thread.inbox.put(Heartbeat(3, "b", 1, (0, 0)))
        settle(scene.thread)
        assert counted(scene.thread, "current_term", "elections_started_total", "elected_total") == (3, 0, 0)
        assert counted(scene.thread, "has_leader", "is_leader", "leader_changes_total") == (1, 0, 1)


def test_messages_are_counted_at_both_ends():
    """Those of the program itself are none."""
    with a_candidate() as scene:
        settle(scene.thread)
        assert counted(scene.thread, "messages_sent_total", "messages_received_total") == (0, 0)
        scene.win()
        settle(scene.thread)
        sent = sum(follower.received.qsize() for follower in scene.followers)
        assert counted(scene.thread, "messages_sent_total", "messages_received_total") == (sent, sent)
        assert sent >= 6


class Lossy(Follower):
    """Says of each message that it has dropped it, and answers it all the same."""

    def send_message(self, message):
        super().send_message(message)
        self.dropped += 1


def test_messages_that_are_dropped_are_counted_also_when_the_peer_has_left():
    with a_leader() as scene:
        node = Lossy("d", scene.thread.inbox)
        scene.thread.add_node(node)
        eventually(lambda: "d" in scene.thread.membership.ids, "added")
        settle(scene.thread)
        assert node.dropped > 0
        assert counted(scene.thread, "messages_dropped_total") == (node.dropped,)
        scene.thread.remove_node("d")
        eventually(lambda: node.closings == 1, "told of its removal, and let go")
        assert counted(scene.thread, "messages_dropped_total") == (node.dropped,)


def test_a_peer_whose_handle_raises_is_counted_as_a_dropped_message(caplog):
    class Broken(Follower):
        def send_message(self, message):
            raise RuntimeError("broken")

    inbox = Inbox()
    with a_candidate(followers=[Follower("b", inbox), Broken("c", inbox)], inbox=inbox) as scene:
        scene.win()
        assert counted(scene.thread, "messages_dropped_total")[0] >= 2


def test_saves_and_callbacks_are_counted():
    gate = Gate()
    with a_candidate(on_elected=lambda leadership: gate.pass_through()) as scene, gate:
        scene.win()
        gate.wait_until_reached()
        saves, seconds, due = counted(scene.thread, "saves_total", "save_seconds_total", "callbacks_due")
        assert saves >= 1
        assert seconds >= 0.0
        assert due == 1
        gate.open()
        eventually(lambda: counted(scene.thread, "callbacks_due") == (0,), "done")


def test_a_restart_is_no_election(tmp_path):
    """Nor is the membership that is saved again in a term in which the member stood."""
    with Member("a", min_nodes=1, timing=LOYAL, data_dir=tmp_path) as member:
        member.wait_until_leader(PATIENCE)
        assert member.metrics()["elections_started_total"] == 1
    with Member("a", min_nodes=1, timing=LOYAL, data_dir=tmp_path) as member:
        member.wait_until_leader(PATIENCE)
        assert (member.metrics()["elections_started_total"], member.metrics()["current_term"]) == (1, 2)


@pytest.mark.parametrize(
    "isolated", [False, pytest.param(True, marks=pytest.mark.skipif(sys.platform != "linux", reason="Linux only"))]
)
def test_a_member_has_the_numbers_of_its_election_wherever_that_runs(isolated):
    """Also after its end; before its start there are none."""
    member = Member("a", min_nodes=1, timing=LOYAL, isolated=isolated)
    with pytest.raises(MemberStopped):
        member.metrics()
    with member:
        member.wait_until_leader(PATIENCE)
        metrics = member.metrics()
        assert metrics.keys() == METRICS.keys()
        assert (metrics["is_leader"], metrics["elected_total"], metrics["current_term"]) == (1, 1, 1)
        assert 0 < metrics["lease_remaining_seconds"] <= 600
        assert metrics["saves_total"] >= 1
    metrics = member.metrics()
    assert metrics.keys() == METRICS.keys()
    assert (metrics["is_leader"], metrics["has_leader"], metrics["lease_remaining_seconds"]) == (0, 0, 0.0)


def test_reading_the_numbers_disturbs_nobody():
    """Any thread may, at any time."""
    over, failures = threading.Event(), []

    def read(thread):
        while not over.is_set():
            try:
                metrics = thread.metrics()
                if metrics["lost_total"] > metrics["elected_total"]:
                    failures.append(metrics)
            except Exception as error:
                failures.append(error)
                return

    with a_leader() as scene:
        reader = threading.Thread(target=read, args=(scene.thread,))
        reader.start()
        for _ in range(20):
            scene.thread.add_node(QueueNode("d", queue.Queue(1)))
            scene.thread.remove_node("d")
            scene.pass_time(0.125)
            settle(scene.thread)
        over.set()
        reader.join(PATIENCE)
    assert failures == []


def test_the_recipe_for_prometheus_client_exports_every_number():
    """The very lines of the documentation, with the real package; both formats that it speaks."""
    import prometheus_client
    from prometheus_client import openmetrics

    lines = Member.metrics.__doc__.split("in three lines:")[1].split("\n\n")[1]
    recipe = "\n".join(line.strip() if "Gauge(f" not in line else "    " + line.strip() for line in lines.splitlines())
    registry = prometheus_client.CollectorRegistry()
    own = recipe.replace("name).set_function", "name, registry=registry).set_function")
    assert own != recipe
    with Member("a", min_nodes=1, timing=LOYAL) as member:
        member.wait_until_leader(PATIENCE)
        exec(own, {"member": member, "registry": registry})
        exported = prometheus_client.generate_latest(registry).decode()
        openmetrics.exposition.generate_latest(registry)
        for name in METRICS:
            assert re.search(rf"^raftlite_{name} [0-9.e+-]+$", exported, re.MULTILINE), name
        assert "raftlite_is_leader 1.0\n" in exported
    assert "raftlite_is_leader 0.0\n" in prometheus_client.generate_latest(registry).decode()
