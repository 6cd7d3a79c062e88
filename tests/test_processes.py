"""`Member` in real processes: killed, stopped and started again. What each believed is compared afterwards."""

from __future__ import annotations

import json
import signal
import struct

import pytest
from children import Child
from threads import eventually

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="this system cannot stop a process")

PROGRAM = """
import json, os, struct, sys, threading
from raftlite import Member, Timing
from raftlite.clock import boot_clock

node_id, folder = sys.argv[1:]
addresses = {each: f"{folder}/{each}.sock" for each in "abc"}
member = Member(
    node_id, peers=addresses, listen=addresses[node_id], authkey="k", data_dir=folder, timing=Timing(0.05, 2.0)
)

def say(event, **facts):
    print(json.dumps({"event": event, **facts}), flush=True)

member.on_elected(lambda leadership: say("elected", token=leadership.token))
member.on_lost(lambda leadership: say("lost", token=leadership.token))
member.on_leader_changed(lambda leader, term: say("leader", leader=leader, term=term))

told_to_end = threading.Event()
threading.Thread(target=lambda: sys.stdin.read() or told_to_end.set(), daemon=True).start()

def watch():
    # In each term: between which moments it is known to have led. A grant that is valid at two moments is so between.
    spans = os.open(f"{folder}/{node_id}.{os.getpid()}.spans", os.O_RDWR | os.O_CREAT)
    first, slot, watched = None, -1, None
    while not told_to_end.is_set():
        term = member.status().current_term
        asked, leads, answered = boot_clock(), member.is_leader, boot_clock()
        if not leads or member.status().current_term != term:
            told_to_end.wait(0.002)
            continue
        if term != watched:
            first, slot, watched = answered, slot + 1, term
        os.pwrite(spans, struct.pack("ddd", term, first, asked), 24 * slot)

with member:
    say("began", term=member.status().current_term)
    watch()
say("ended")
"""


class Members:
    """Three processes, a, b and c, with Unix sockets and saved votes in one folder."""

    def __init__(self, start_child, folder):
        self._start_child, self._folder = start_child, folder
        self.children = {node_id: self.start(node_id) for node_id in "abc"}

    def start(self, node_id) -> Child:
        """Start the process, or start it again."""
        return self._start_child(PROGRAM, node_id, self._folder)

    def wait(self, node_id, is_it):
        """The next event of `node_id` that `is_it` accepts."""
        while True:
            event = json.loads(self.children[node_id].read_line())
            if is_it(event):
                return event

    def leader_seen_by(self, node_id, but_not=(), above=0):
        """The next leader that `node_id` names, and its term, which is above the given one."""

        def is_it(event):
            return event["event"] == "leader" and event["leader"] not in (None, *but_not) and event["term"] > above

        event = self.wait(node_id, is_it)
        return event["leader"], event["term"]

    def end(self, *node_ids):
        """Let the processes stop their members and end."""
        for node_id in node_ids or self.children:
            self.children[node_id].close_stdin()
        for node_id in node_ids or list(self.children):
            child = self.children.pop(node_id)
            lines = child.read_all()
            assert child.wait() == 0, child.errors
            assert json.loads(lines[-1]) == {"event": "ended"}

    def kill(self, node_id):
        self.children.pop(node_id).kill()

    def spans(self):
        """`(began, ended, token, file)` for each stretch of time in which a process is known to have led."""
        found = []
        for path in self._folder.glob("*.spans"):
            for token, began, ended in struct.iter_unpack("ddd", path.read_bytes()):
                found.append((began, ended, int(token), path.name))
        return sorted(found)

    def wait_until_seen_to_lead(self, node_id):
        """Wait until a look at its `is_leader` has found it true twice."""
        eventually(lambda: any(span[3].startswith(node_id) for span in self.spans()), f"{node_id} seen to lead")

    def check(self):
        """No two led at one instant, and later leaders have higher tokens."""
        spans = self.spans()
        for (_, ended, token, one), (began, _, next_token, other) in zip(spans, spans[1:]):
            assert ended <= began, f"{one} and {other} led together for {ended - began} s: {spans}"
            assert token < next_token, spans
        return spans


@pytest.fixture
def members(start_child, tmp_path):
    return Members(start_child, tmp_path)


def test_a_leader_that_is_killed_is_replaced_and_follows_when_it_comes_back(members):
    """And when it is killed again, and comes back alone, it remembers its term: nobody is there to tell it."""
    killed, first_term = members.leader_seen_by("a")
    members.wait_until_seen_to_lead(killed)
    members.kill(killed)
    other = min(members.children)
    leader, term = members.leader_seen_by(other, but_not=[killed], above=first_term)
    members.wait_until_seen_to_lead(leader)
    members.children[killed] = members.start(killed)
    followed, its_term = members.leader_seen_by(killed)
    assert (followed, its_term) == (leader, term) or its_term > term
    members.kill(killed)
    members.end()
    members.children[killed] = members.start(killed)
    assert members.wait(killed, lambda event: event["event"] == "began")["term"] >= its_term
    members.end()
    assert len(members.check()) >= 2


@pytest.mark.slow
def test_a_leader_that_was_stopped_for_longer_than_its_lease_does_not_lead_when_it_goes_on(members):
    """At no instant do two of them say that they lead: its first look at the clock tells it."""
    stopped, first_term = members.leader_seen_by("a")
    members.wait_until_seen_to_lead(stopped)
    members.children[stopped].send_signal(signal.SIGSTOP)
    other = min(set(members.children) - {stopped})
    leader, _ = members.leader_seen_by(other, but_not=[stopped], above=first_term)
    members.wait_until_seen_to_lead(leader)
    members.children[stopped].send_signal(signal.SIGCONT)
    members.wait(stopped, lambda event: event["event"] == "lost")
    members.leader_seen_by(stopped)
    members.end()
    assert len(members.check()) >= 2


@pytest.mark.slow
def test_tokens_go_on_growing_when_the_whole_cluster_is_restarted(members):
    """Ended in peace, and then all killed at once."""
    terms = [members.leader_seen_by("a")[1]]
    members.end()
    members.children = {node_id: members.start(node_id) for node_id in "abc"}
    terms.append(members.leader_seen_by("a")[1])
    for node_id in "abc":
        members.kill(node_id)
    members.children = {node_id: members.start(node_id) for node_id in "abc"}
    terms.append(members.leader_seen_by("a")[1])
    members.end()
    assert terms == sorted(set(terms))
    members.check()


@pytest.mark.slow
def test_one_after_the_other_may_be_restarted_without_two_leading(members):
    """A rolling restart: each hands over if it leads, and comes back as a follower or as a later leader."""
    members.leader_seen_by("a")
    for node_id in "abc":
        members.end(node_id)
        members.children[node_id] = members.start(node_id)
        members.leader_seen_by(node_id)
    members.end()
    assert members.check()
