"""`steps=`: whoever watches a member is told of everything that it hears, and never keeps it from anything."""

from __future__ import annotations

import queue
from dataclasses import FrozenInstanceError

import pytest
from threads import PATIENCE, Clock, Follower, Inbox, a_candidate, a_leader, eventually, new_thread, settle

from raftlite import ConfigError, ElectionThread, Member, NodeInfo, Step
from raftlite.election import Role, Saved
from raftlite.messages import (
    Heartbeat,
    HeartbeatResponse,
    LeaderChanged,
    PeerDown,
    RequestVote,
    RequestVoteResponse,
    Stop,
)
from raftlite.storage import MemoryStorage, StorageError


def told(steps):
    """The steps that wait in the queue."""
    return [steps.get_nowait() for _ in range(steps.qsize())]


def test_each_input_is_a_step_with_the_state_after_it():
    """The start, each message in its order, and each timer, which has heard nothing."""
    steps = queue.Queue()
    with a_candidate(steps=steps) as scene:
        settle(scene.thread)
        start, wake = told(steps)
        assert (start.number, start.at, start.node_id, start.heard) == (1, 100.0, "a", None)
        assert (start.role, start.current_term, start.voted_for, start.votes) == (Role.FOLLOWER, 0, None, ())
        assert (start.deadline, start.lease_expires_at, start.leader_id) == (101.5, None, None)
        assert start.membership.ids == {"a", "b", "c"}
        assert (start.saved, start.sent, start.events) == (None, (), ())
        assert (wake.number, wake.heard, wake.sent) == (2, PeerDown("nobody"), ())

        scene.win()
        settle(scene.thread)
        won = told(steps)
        timer = next(step for step in won if step.heard is None)
        assert (timer.at, timer.role, timer.votes) == (101.5, Role.PRE_CANDIDATE, ("a",))
        assert [(to, type(message)) for to, message in timer.sent] == [("b", RequestVote), ("c", RequestVote)]
        candidate = next(step for step in won if step.role is Role.CANDIDATE)
        assert isinstance(candidate.heard, RequestVoteResponse)
        assert candidate.saved == Saved(1, "a", candidate.membership)
        assert (candidate.current_term, candidate.voted_for, candidate.votes) == (1, "a", ("a",))
        leader = next(step for step in won if step.role is Role.LEADER)
        assert leader.votes in (("a", "b"), ("a", "c"))
        elected = next(step for step in won if LeaderChanged("a", 1) in step.events)
        assert isinstance(elected.heard, HeartbeatResponse)
        assert elected.lease_expires_at == 101.5 + 0.9375
        assert [step.number for step in won] == list(range(3, 3 + len(won)))
    assert told(steps)[-1].role is Role.STOPPED


def test_a_step_is_told_before_what_follows_from_it_is_sent():
    """So whoever records two members never sees an answer before the question."""
    steps = queue.Queue()
    inbox = Inbox()
    told_before = []

    class Watched(Follower):
        def send_message(self, message):
            told_before.append(any((self.node_id, message) in step.sent for step in list(steps.queue)))
            super().send_message(message)

    followers = [Watched(node_id, inbox) for node_id in "bc"]
    with a_leader(steps=steps, inbox=inbox, followers=followers) as scene:
        settle(scene.thread)
        scene.thread.inbox.put(Heartbeat(1, "b", 1, (0, 0)))  # a rival that cannot be: nothing follows from it
        settle(scene.thread)
    assert len(told_before) > 6
    assert all(told_before)


def test_a_request_that_goes_out_before_its_vote_is_saved_is_told_before_that():
    """A takeover asks while it saves."""
    steps, seen = queue.Queue(), []

    class Slow(MemoryStorage):
        def save(self, saved):
            seen.append([step.role for step in list(steps.queue)])
            super().save(saved)

    inbox = Inbox()
    followers = [Follower(node_id, inbox, grants=False) for node_id in "bc"]
    with a_candidate(steps=steps, inbox=inbox, followers=followers, storage=Slow()) as scene:
        inbox.put(Heartbeat(1, "c", 1, (0, 0)))
        settle(scene.thread)
        seen.clear()
        inbox.put(PeerDown("c"))
        followers[0].expect(RequestVote)
        settle(scene.thread)
        scene.pass_time(0.1)
        settle(scene.thread)
    assert seen[0][-1] is Role.CANDIDATE


def test_a_vote_that_cannot_be_saved_is_no_step():
    """Nothing that would follow from it has been sent."""

    class Broken(MemoryStorage):
        def save(self, saved):
            raise StorageError("the disk is full")

    steps = queue.Queue()
    with a_candidate(steps=steps, storage=Broken()) as scene:
        settle(scene.thread)
        scene.thread.inbox.put(Heartbeat(4, "b", 1, (0, 0)))
        eventually(lambda: scene.thread.failure, "failed")
        assert all(step.current_term == 0 for step in told(steps))


def test_a_full_queue_loses_steps_and_keeps_nobody_waiting():
    """What is lost is counted, and shows as a gap."""
    steps = queue.Queue(2)
    with a_leader(steps=steps) as scene:
        settle(scene.thread)
        lost = scene.thread.metrics()["steps_dropped_total"]
        assert lost >= 5
        first, second = told(steps)
        assert (first.number, second.number) == (1, 2)
        scene.pass_time(0.125)
        settle(scene.thread)
        assert told(steps)[0].number > 2 + lost
        assert scene.thread.is_leader


def test_a_queue_that_raises_ends_no_member():
    """A queue of the user's own making may have been closed."""

    class Closed:
        def put_nowait(self, step):
            raise ValueError("Queue is closed")

    with a_leader(steps=Closed()) as scene:
        assert scene.thread.is_leader
        assert scene.thread.metrics()["steps_dropped_total"] >= 5


def test_nobody_watches_unless_asked_to():
    with a_leader() as scene:
        assert scene.thread.metrics()["steps_dropped_total"] == 0


def test_a_step_never_changes():
    steps = queue.Queue()
    with a_candidate(steps=steps) as scene:
        settle(scene.thread)
        step = told(steps)[0]
        with pytest.raises(FrozenInstanceError):
            step.role = Role.LEADER
        assert isinstance(step, Step)
        assert "node_id='a'" in repr(step)
        assert {step: 1}[step] == 1


def test_a_member_that_only_a_message_can_wake_has_no_deadline():
    """It waits to be let in."""
    steps = queue.Queue()
    with new_thread("a", steps=steps, clock=Clock()) as thread:
        settle(thread)
        assert told(steps)[0].deadline is None


@pytest.mark.parametrize("steps", [[], "steps", 3])
def test_what_is_no_queue_is_refused(steps):
    with pytest.raises(ConfigError, match=r"steps is .*, but must be a queue"):
        ElectionThread("a", steps=steps)
    with pytest.raises(ConfigError, match=r"steps is .*, but must be a queue"):
        Member("a", min_nodes=1, steps=steps)


def test_a_member_passes_the_queue_on_at_each_start():
    steps = queue.Queue()
    member = Member("a", min_nodes=1, steps=steps)
    for _ in range(2):
        with member:
            member.wait_until_leader(PATIENCE)
        heard = told(steps)
        assert heard[0].number == 1
        assert heard[0].role is Role.LEADER
        assert isinstance(heard[-1].heard, Stop)


def test_the_steps_of_an_isolated_member_cannot_be_watched():
    """They would have to cross to another process, which may not read them."""
    with pytest.raises(ConfigError, match="steps and isolated=True exclude each other"):
        Member("a", min_nodes=1, isolated=True, steps=queue.Queue())


def test_an_observer_is_watched_like_any_other():
    steps = queue.Queue()
    inbox = Inbox()
    nodes = [NodeInfo("a", voter=False), Follower("b", inbox)]
    with new_thread("a", nodes, steps=steps, inbox=inbox, clock=Clock(), min_nodes=1) as thread:
        inbox.put(Heartbeat(3, "b", 1, (0, 0)))
        settle(thread)
    heartbeat = next(step for step in told(steps) if isinstance(step.heard, Heartbeat))
    assert (heartbeat.leader_id, heartbeat.current_term, heartbeat.deadline) == ("b", 3, 101.5)
