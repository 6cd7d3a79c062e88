"""`ElectionThread`: the life of one member, what goes in, what comes out, and how it ends.

Time is assigned wherever a test is about time. Where several members talk, they are `QueueNode`s in one process.
"""

from __future__ import annotations

import contextlib
import queue
import random
import threading
import time

import pytest
from harness import LEASE, TIMING, Draws
from threads import (
    PATIENCE,
    Clock,
    Follower,
    Gate,
    Inbox,
    a_candidate,
    a_leader,
    eventually,
    is_inside,
    new_thread,
    settle,
    unread,
    wake,
)

from raftlite.election import Role, Saved
from raftlite.errors import ConfigError, MemberStopped, StorageError
from raftlite.handles import MOST_STRANGERS
from raftlite.membership import Membership, NodeInfo
from raftlite.messages import (
    AddNode,
    ChangeRefused,
    Heartbeat,
    HeartbeatResponse,
    LeaderChanged,
    PeerDown,
    Removed,
    RemoveNode,
    RequestVote,
    RequestVoteResponse,
    Resign,
    Stop,
    TimeoutNow,
    TransferLeadership,
)
from raftlite.nodes import QueueNode
from raftlite.storage import MemoryStorage
from raftlite.thread import EVENTS_KEPT, ElectionThread
from raftlite.timing import Timing


@pytest.mark.parametrize("nodes", [None, 5, {"b": "127.0.0.1:7600"}], ids=repr)
def test_nodes_are_several_nodes(nodes):
    """Of a mapping, as `Member(peers=...)` takes it, only the ids would be left."""
    with pytest.raises(ConfigError, match=r"nodes is .*, but must be several nodes: Node, NodeInfo or id"):
        ElectionThread("a", nodes)


@pytest.mark.parametrize("name", ["on_elected", "on_lost", "on_leader_changed"])
def test_a_callback_can_be_called(name):
    """Else each election would find out anew, and be undone."""
    with pytest.raises(ConfigError, match=f"{name} is 5, but must be callable"):
        ElectionThread("a", **{name: 5})
    with pytest.raises(ConfigError, match=f"{name} is 5, but must be callable"):
        getattr(ElectionThread("a"), name)(5)


# --- Several members in one process --------------------------------------------------------------------------------


@contextlib.contextmanager
def cluster(ids="abc", clock=None, **settings):
    """Members that know each other by `AddNode` alone; under an assigned clock the first draws the shortest timeout."""
    with contextlib.ExitStack() as stack:
        threads = {}
        for number, node_id in enumerate(ids):
            settings["rng"] = Draws(number / len(ids)) if clock else random.Random(number)
            threads[node_id] = ElectionThread(node_id, min_nodes=len(ids), inbox=Inbox(), clock=clock, **settings)
            stack.enter_context(threads[node_id])
        if clock:
            for thread in threads.values():
                settle(thread)
            clock.now += 2 * TIMING.election_timeout  # from then on nobody abstains from voting any more
        for thread in threads.values():
            for other in threads.values():
                if other is not thread:
                    thread.inbox.put(AddNode(other.node))
        yield threads


@contextlib.contextmanager
def led_by_a(ids="abc", **settings):
    """Members of which `a` leads in term 1, under a clock that stands still."""
    clock = Clock()
    with cluster(ids, clock, timing=TIMING, **settings) as threads:
        for thread in threads.values():
            settle(thread)
        clock.now += 1.0
        wake(threads["a"])
        agree_on(threads, "a")
        yield threads


def agree_on(threads, *wanted):
    """Wait until every member names the same leader, one of `wanted` if given, and that one leads."""

    def agreed():
        (leader_id, *others) = {thread.leader_id for thread in threads.values()}
        if others or leader_id is None or leader_id not in (wanted or threads):
            return None
        return leader_id if threads[leader_id].is_leader else None

    return eventually(agreed, "agreed on a leader")


def test_three_threads_elect_a_leader_with_nothing_but_messages_in_their_inboxes():
    """The readme's first example: no transport, no storage, no setting but the number of nodes."""
    threads = {node_id: ElectionThread(node_id, min_nodes=3, timing=Timing.fast()) for node_id in "abc"}
    with contextlib.ExitStack() as stack:
        for thread in threads.values():
            stack.enter_context(thread)
            assert thread.leader_id is None
        for thread in threads.values():
            for other in threads.values():
                if other is not thread:
                    thread.inbox.put(AddNode(other.node))
        assert threads["a"].wait_for_leader(PATIENCE) in threads
        leader_id = agree_on(threads)
        assert threads[leader_id].wait_until_leader(PATIENCE).token >= 1
        assert {str(thread.membership).partition(" [")[0] for thread in threads.values()} == {"a, b, c"}


def test_every_member_hears_who_leads():
    """`LeaderChanged` with the leader and its term arrives in each member's events."""
    with led_by_a() as threads:
        for thread in threads.values():
            settle(thread)  # what it knows can be read before it has told it
            assert LeaderChanged("a", 1) in unread(thread, LeaderChanged)
            assert thread.wait_for_leader(0) == "a"
            assert thread.current_term == 1
        assert [thread.role for thread in threads.values()] == [Role.LEADER, Role.FOLLOWER, Role.FOLLOWER]
        assert [thread.is_leader for thread in threads.values()] == [True, False, False]


def test_when_the_leader_stops_another_leads_at_once():
    """Thesis 3.10: it hands over. The clock stands still, so that no election timeout helps."""
    with led_by_a() as threads:
        leader = threads.pop("a")
        leader.stop(PATIENCE)
        successor = agree_on(threads)
        assert threads[successor].wait_until_leader(0).token == 2
        assert not leader.is_leader
        assert unread(leader, LeaderChanged)[-1] == LeaderChanged(None, 1)


def test_a_leader_that_is_removed_makes_room_and_ends():
    """It hands over first, the next leader removes it, and `Removed` is what it hears of that."""
    with led_by_a(max_nodes=4) as threads, new_thread("d", min_nodes=3, clock=Clock()) as newcomer:
        for thread in threads.values():
            thread.add_node(newcomer.node)
            newcomer.add_node(thread.node)
        threads["d"] = newcomer
        eventually(lambda: all("d" in thread.membership.ids for thread in threads.values()), "added")
        threads["a"].transfer_leadership("b")
        agree_on(threads, "b")
        threads["b"].remove_node("a")
        removed = threads.pop("a")
        eventually(lambda: not threads_of("a"), "ended")  # its status says so before its events do
        assert removed.role is Role.STOPPED
        assert unread(removed, Removed) == [Removed()]
        assert (removed.leader_id, removed.is_leader, removed.status().why) == (None, False, "stopped")
        eventually(lambda: all("a" not in thread.membership.ids for thread in threads.values()), "removed")
        assert agree_on(threads) == "b"


def test_a_node_too_few_is_not_removed():
    """The outcome of what the program asks for is an event."""
    with led_by_a() as threads:
        threads["a"].remove_node("c")
        refused = eventually(lambda: unread(threads["a"], ChangeRefused), "answered")
        assert refused == [ChangeRefused(RemoveNode("c"), "only 2 voters would be left, and min_nodes is 3")]


# --- Before the first election -------------------------------------------------------------------------------------


def test_no_election_starts_before_min_nodes_are_known():
    """However long it takes."""
    with a_candidate(followers=[Follower("b", queue.Queue())], min_nodes=3) as scene:
        settle(scene.thread)
        scene.pass_time(1000.0)
        settle(scene.thread)
        assert scene.followers[0].received.empty()
        assert (scene.thread.role, scene.thread.current_term) == (Role.FOLLOWER, 0)

        third = Follower("c", queue.Queue())
        scene.thread.inbox.put(AddNode(third))
        settle(scene.thread)
        scene.pass_time(1.5)
        assert third.expect(RequestVote).pre_vote


@pytest.mark.parametrize("known, why", [("", "knows 1 of 3 nodes"), ("b", "knows 2 of 3 nodes")])
def test_a_wait_that_runs_out_says_what_is_missing(known, why):
    """`TimeoutError` is a sentence that somebody can act on."""
    with a_candidate(followers=[Follower(i, queue.Queue()) for i in known] or [NodeInfo("a")], min_nodes=3) as scene:
        with pytest.raises(TimeoutError, match=f"no leader after 0 s: {why}"):
            scene.thread.wait_for_leader(0)
        with pytest.raises(TimeoutError, match=f"a does not lead after 0.001 s: {why}"):
            scene.thread.wait_until_leader(0.001)
        assert scene.thread.status().why == why


def test_a_wait_to_lead_that_runs_out_says_who_leads():
    """There is nothing wrong: another leads."""
    with led_by_a() as threads, pytest.raises(TimeoutError, match="b does not lead after 0 s: a leads"):
        threads["b"].wait_until_leader(0)


def test_a_member_without_answers_says_who_is_silent():
    """And who is in trouble, in the words of the transport."""
    with a_candidate() as scene:
        scene.followers[0].grants = scene.followers[1].grants = False
        scene.followers[1].trouble = "unreachable since 3 s (no cable)"
        settle(scene.thread)
        assert scene.thread.status().why == (
            "waits for a heartbeat or an election; c is unreachable since 3 s (no cable)"
        )
        scene.pass_time(1.5)
        scene.followers[0].expect(RequestVote)
        settle(scene.thread)
        assert scene.thread.status().why == ("1 of 3 answer, c is unreachable since 3 s (no cable), b does not answer")


def test_settings_out_of_bounds_are_refused_before_anything_starts():
    """Two halves of four could each elect a first leader."""
    with pytest.raises(ConfigError, match="min_nodes is 2, but must be more than half of max_nodes"):
        new_thread(nodes=[NodeInfo("b")], min_nodes=2, max_nodes=4)
    with pytest.raises(ConfigError, match="'b' is given twice"):
        new_thread(nodes=[NodeInfo("b"), NodeInfo("b")])


# --- Time ----------------------------------------------------------------------------------------------------------


def test_the_clock_and_the_random_numbers_are_the_callers():
    """With half of an election timeout drawn, the election starts after 1.5 seconds and not a moment before."""
    with a_candidate(rng=Draws(0.5)) as scene:
        settle(scene.thread)
        scene.pass_time(1.499)
        settle(scene.thread)
        assert scene.followers[0].received.empty()
        scene.pass_time(0.001)
        assert scene.followers[0].expect(RequestVote).term == 1


def test_leading_begins_when_a_majority_has_answered_a_heartbeat():
    """Votes are no lease: until then nobody is told."""
    with a_candidate() as scene:
        scene.silence()
        settle(scene.thread)
        scene.pass_time(1.5)
        heartbeat = scene.followers[0].expect(Heartbeat)
        assert scene.thread.role is Role.LEADER
        assert (scene.thread.is_leader, scene.thread.leader_id, scene.thread.leadership) == (False, None, None)
        settle(scene.thread)
        assert not unread(scene.thread, LeaderChanged)
        scene.followers[0].answer(heartbeat)
        assert scene.thread.wait_until_leader(PATIENCE).token == 1


def test_a_leader_sends_heartbeats_for_as_long_as_it_is_answered():
    """Long beyond its first lease."""
    with a_leader() as scene:
        leadership = scene.thread.leadership
        scene.followers[0].drain(Heartbeat)
        for _ in range(20):
            scene.pass_time(TIMING.heartbeat_interval)
            scene.followers[0].expect(Heartbeat)
            settle(scene.thread)
        assert scene.thread.leadership is leadership
        assert leadership.remaining == LEASE


def test_a_leader_without_answers_steps_down_when_its_lease_ends():
    """Thesis 6.4: it knows that it may have been replaced."""
    with a_leader() as scene:
        scene.silence()
        scene.pass_time(LEASE)
        settle(scene.thread)
        assert scene.thread.role is Role.FOLLOWER
        assert scene.thread.status().leader_id is None


class SlowNode(Follower):
    """A peer whose handle holds up the thread while its gate is closed."""

    def __init__(self, node_id, inbox, gate, kind=object):
        super().__init__(node_id, inbox)
        self.gate, self.kind = gate, kind

    def send_message(self, message):
        super().send_message(message)
        if isinstance(message, self.kind):
            self.gate.pass_through()


def test_what_has_arrived_is_heard_before_an_overdue_timer_fires():
    """A member that was paused finds its timer overdue and the heartbeat that it missed in its inbox."""
    gate, inbox, clock = Gate(), Inbox(), Clock()
    leader = SlowNode("b", inbox, gate)
    with new_thread("a", [leader, NodeInfo("c")], inbox=inbox, clock=clock) as thread:
        settle(thread)
        with gate:
            inbox.put(Heartbeat(1, "b", 1, (0, 1)))
            gate.wait_until_reached()
            inbox.put(Heartbeat(1, "b", 2, (0, 1)))
            clock.now += 10.0
        leader.expect(HeartbeatResponse)
        assert leader.expect(HeartbeatResponse).round == 2
        settle(thread)
        assert not leader.drain(RequestVote)
        assert thread.leader_id == "b"


class Flood(Inbox):
    """An inbox in which there is always something more."""

    def __init__(self):
        super().__init__()
        self.is_flooded = threading.Event()

    def qsize(self):
        return super().qsize() + 5 * self.is_flooded.is_set()

    def get(self, block=True, timeout=None):
        if self.is_flooded.is_set() and not super().qsize():
            return PeerDown("nobody")
        return super().get(block, timeout)


def test_a_flooded_inbox_does_not_stop_the_heartbeats():
    """Only what has arrived by then goes before them."""
    inbox = Flood()
    with a_leader(inbox=inbox) as scene:
        leadership = scene.thread.leadership
        inbox.is_flooded.set()
        for _ in range(20):
            scene.clock.now += TIMING.heartbeat_interval
            eventually(lambda: leadership.remaining == LEASE, "renewed by a heartbeat of this moment")
        inbox.is_flooded.clear()


# --- Starting and stopping -----------------------------------------------------------------------------------------


def threads_of(node_id):
    return [thread for thread in threading.enumerate() if thread.name.startswith(f"raftlite-{node_id}")]


def test_stopping_ends_the_threads_and_closes_the_nodes_once():
    """Twice is fine, and so is a third time."""
    with a_leader() as scene:
        assert len(threads_of("a")) == 2
        scene.thread.stop(PATIENCE)
        scene.thread.stop(PATIENCE)
        assert threads_of("a") == []
        assert [follower.closings for follower in scene.followers] == [1, 1]
        assert (scene.thread.role, scene.thread.is_leader, scene.thread.leader_id) == (Role.STOPPED, False, None)


def test_several_threads_may_stop_a_member_at_once():
    """None of them waits for ever, and nobody closes anything twice."""
    with a_leader() as scene:
        stoppers = [threading.Thread(target=scene.thread.stop, args=(PATIENCE,)) for _ in range(5)]
        for stopper in stoppers:
            stopper.start()
        for stopper in stoppers:
            stopper.join()
        assert threads_of("a") == []
        assert [follower.closings for follower in scene.followers] == [1, 1]


def test_stopping_before_starting_does_nothing():
    """A program that fails early may clean up as always."""
    thread = new_thread()
    thread.stop()
    with pytest.raises(MemberStopped, match=r"a is not started: call start\(\), or use it in a with statement"):
        thread.wait_for_leader()
    with thread:
        assert len(threads_of("a")) == 2


def test_starting_twice_is_refused():
    """One thread owns one election, once."""
    with new_thread() as thread:
        with pytest.raises(MemberStopped, match="a was started before"):
            thread.start()
        assert len(threads_of("a")) == 2
    with pytest.raises(MemberStopped, match="make a new ElectionThread with the same storage"):
        thread.start()


def test_a_start_for_which_there_is_no_thread_leaves_none_behind(monkeypatch):
    """The thread of the callbacks had begun already."""
    begin = threading.Thread.start

    def fail(thread):
        if thread.name == "raftlite-a":
            raise RuntimeError("can't start new thread")
        begin(thread)

    monkeypatch.setattr(threading.Thread, "start", fail)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        new_thread().start()
    eventually(lambda: not threads_of("a"), "ended")


def test_a_start_that_ctrl_c_interrupts_leaves_no_thread_behind(monkeypatch):
    """It may have begun by then; whoever sees the exception takes it for one that has not."""
    begin = threading.Thread.start

    def be_interrupted(thread):
        begin(thread)
        if thread.name == "raftlite-a":
            raise KeyboardInterrupt

    monkeypatch.setattr(threading.Thread, "start", be_interrupted)
    with pytest.raises(KeyboardInterrupt):
        new_thread(min_nodes=1).start()
    eventually(lambda: not threads_of("a"), "ended")


def test_a_callback_may_stop_its_member():
    """What is due to the program still reaches it. A handover that waited for the callback would wait for 600 s."""
    calls = []

    def stop(leadership):
        calls.append("elected")
        scene.thread.stop()
        calls.append("stopped")

    on_lost, timing = (lambda leadership: calls.append("lost")), Timing(0.125, 600.0)
    with a_candidate(on_elected=stop, on_lost=on_lost, timing=timing) as scene:
        settle(scene.thread)
        scene.pass_time(1.5 * timing.election_timeout)
        eventually(lambda: not threads_of("a"), "ended")
        assert calls == ["elected", "stopped", "lost"]


def test_a_stop_that_does_not_wait_leaves_nothing_undone():
    """The program hears of its loss, and the threads end, a little later."""
    lost = threading.Event()
    gate = Gate()
    inbox = Inbox()
    followers = [SlowNode("b", inbox, gate), Follower("c", inbox)]
    with a_leader(followers=followers, inbox=inbox, on_lost=lambda leadership: lost.set()) as scene:
        with gate:
            scene.pass_time(TIMING.heartbeat_interval)
            gate.wait_until_reached()
            leadership = scene.thread.leadership
            with pytest.raises(TimeoutError, match="a has not ended within 0 s"):
                scene.thread.stop(timeout=0)
            assert not scene.thread.is_leader  # though it hangs: its listener is closed next, which others believe
            assert leadership.lost.is_set()
        assert lost.wait(PATIENCE)
        scene.thread.stop(PATIENCE)


def test_a_member_that_hangs_while_it_is_stopped_does_not_come_to_lead():
    """The answer that would give it its lease was in its inbox before."""
    grants = []
    gate, inbox = Gate(), Inbox()
    followers = [SlowNode("b", inbox, gate, Heartbeat), Follower("c", inbox)]
    with a_candidate(followers=followers, inbox=inbox, on_elected=grants.append) as scene:
        settle(scene.thread)
        with gate:
            scene.pass_time(1.5)
            gate.wait_until_reached()
            with pytest.raises(TimeoutError, match="a has not ended within 0 s"):
                scene.thread.stop(timeout=0)
        scene.thread.stop(PATIENCE)
        assert grants == []


def test_a_member_that_hangs_does_not_lead_after_ctrl_c_has_ended_the_wait_for_it(monkeypatch):
    """Its listener is closed next all the same, which others take for proof that it is gone."""
    gate, inbox = Gate(), Inbox()
    with a_leader(followers=[SlowNode("b", inbox, gate), Follower("c", inbox)], inbox=inbox) as scene, gate:
        scene.pass_time(TIMING.heartbeat_interval)
        gate.wait_until_reached()

        def ctrl_c(timeout=None):
            raise KeyboardInterrupt

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(scene.thread._thread, "join", ctrl_c)
            scene.thread.stop()
        assert not scene.thread.is_leader


def test_a_member_that_is_stopped_at_the_very_moment_of_its_election_does_not_lead(monkeypatch):
    """`stop` has given up waiting, and found no grant to end, just before there was one."""
    seen = queue.Queue()
    with a_candidate(on_elected=lambda leadership: seen.put((leadership.valid, thread.is_leader))) as scene:
        thread = scene.thread
        grant = thread._callbacks.grant

        def grant_late(*args):
            thread._cut_off()
            return grant(*args)

        monkeypatch.setattr(thread._callbacks, "grant", grant_late)
        settle(thread)
        scene.pass_time(1.5)
        assert seen.get(timeout=PATIENCE) == (False, False)


def test_a_handover_is_waited_for_no_longer_than_was_asked(monkeypatch):
    """The wait for a first leader is a part of it."""
    waited = []
    with a_leader() as scene:
        thread = scene.thread
        monkeypatch.setattr(thread, "wait_for_leader", lambda timeout: time.sleep(0.05) or "a")
        monkeypatch.setattr(thread, "_ask_and_wait", lambda *asked: waited.append(asked[2]) or "c")
        assert thread.hand_over("c", 10.0) == "c"
        assert thread.hand_over("c", None) == "c"
    assert 0 < waited[0] <= 9.95 and waited[1] is None


def test_stopping_says_when_a_callback_is_still_busy():
    """The member takes no part any more all the same."""

    def be_busy(leadership):
        gate.pass_through()

    with Gate() as gate, a_leader(on_elected=be_busy) as scene:
        gate.wait_until_reached()
        with pytest.raises(TimeoutError, match=r"^a has not ended within 0.01 s: the callback .*be_busy is still busy"):
            scene.thread.stop(timeout=0.01)
        eventually(lambda: scene.thread.role is Role.STOPPED, "stopped")
        assert not scene.thread.is_leader
        gate.open()


def test_a_leader_that_stops_hands_over():
    """To the follower that was heard from."""
    with a_leader() as scene:
        scene.thread.stop(PATIENCE)
        told = [follower for follower in scene.followers if follower.drain(TimeoutNow)]
        assert len(told) == 1


def test_a_leader_that_has_handed_over_ends_when_its_successor_leads(monkeypatch):
    """The end of connections and files would take processors and the disk from the election."""
    monkeypatch.setattr("raftlite.thread.LINGER", PATIENCE)
    with a_leader() as scene:
        stopping, _ = in_background(scene.thread.stop, PATIENCE)
        eventually(lambda: any(follower.drain(TimeoutNow) for follower in scene.followers), "handed over")
        term = scene.thread.current_term
        for other in (Heartbeat(term, "b", 1, (0, 1)), RequestVote(term + 1, "b", (0, 1), ("a", "b", "c")), "garbage"):
            scene.thread.inbox.put(other)
        eventually(scene.thread.inbox.empty, "read")
        assert [follower.closings for follower in scene.followers] == [0, 0]
        scene.thread.inbox.put(Heartbeat(term + 1, "b", 1, (0, 1)))
        stopping.join(PATIENCE)
        assert [follower.closings for follower in scene.followers] == [1, 1]


def test_a_leader_that_has_handed_over_in_vain_ends_all_the_same():
    with a_leader() as scene:
        scene.thread.stop(PATIENCE)
        assert [follower.closings for follower in scene.followers] == [1, 1]


# --- Failures ------------------------------------------------------------------------------------------------------


class FullDisk(MemoryStorage):
    """Fails to save from some moment on."""

    def __init__(self, is_full=True):
        super().__init__()
        self.is_full = is_full

    def save(self, saved):
        if self.is_full:
            raise StorageError("the disk is full")
        super().save(saved)


def in_background(call, *args):
    """Run `call` on a thread; return the thread and a list that gets its result or its exception."""
    outcome = []

    def run():
        try:
            outcome.append(call(*args))
        except BaseException as error:
            outcome.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, outcome


def test_a_leader_that_cannot_save_ends_visibly():
    """A forgotten vote is worse than a missing member."""
    storage, lost = FullDisk(is_full=False), []
    with a_leader(storage=storage, on_lost=lost.append) as scene:
        leadership = scene.thread.leadership
        storage.is_full = True
        scene.thread.inbox.put(HeartbeatResponse(7, "b", 1, (1, 1), 0.0))
        assert leadership.lost.wait(PATIENCE)
        assert not scene.thread.is_leader
        eventually(lambda: not threads_of("a"), "ended")
        assert lost == [leadership]
        assert [follower.closings for follower in scene.followers] == [1, 1]
        assert unread(scene.thread, LeaderChanged)[-1] == LeaderChanged(None, 1)
        status = scene.thread.status()
        assert (status.role, status.leader_id, status.error) == (
            Role.STOPPED, None, "StorageError: the disk is full",
        )  # fmt: skip
        assert status.why == "stopped: StorageError: the disk is full"
        with pytest.raises(MemberStopped, match="a was stopped by a failure: the disk is full") as error:
            scene.thread.wait_for_leader()
        assert isinstance(error.value.__cause__, StorageError)


def test_nothing_is_sent_that_could_not_be_saved():
    """Figure 2: "Updated on stable storage before responding to RPCs" """
    with a_candidate(storage=FullDisk()) as scene:
        settle(scene.thread)
        scene.pass_time(1.5)
        eventually(lambda: not threads_of("a"), "ended")
        sent = [request for follower in scene.followers for request in follower.drain(RequestVote)]
        assert [request.pre_vote for request in sent] == [True, True]


@pytest.mark.parametrize("wait", ["wait_for_leader", "wait_until_leader"])
def test_a_failure_wakes_whoever_waits(wait):
    """With the failure as the cause."""
    with a_candidate(storage=FullDisk()) as scene:
        waiter, outcome = in_background(getattr(scene.thread, wait))
        eventually(lambda: is_inside(waiter, "wait_for"), "waiting")
        settle(scene.thread)
        scene.pass_time(1.5)
        waiter.join(PATIENCE)
        (error,) = outcome
        assert isinstance(error, MemberStopped)
        assert isinstance(error.__cause__, StorageError)


@pytest.mark.parametrize("wait", ["wait_for_leader", "wait_until_leader"])
def test_stopping_wakes_whoever_waits(wait):
    """Without a cause, for nothing has failed."""
    with a_candidate() as scene:
        waiter, outcome = in_background(getattr(scene.thread, wait))
        eventually(lambda: is_inside(waiter, "wait_for"), "waiting")
        scene.thread.stop(PATIENCE)
        waiter.join(PATIENCE)
        (error,) = outcome
        assert isinstance(error, MemberStopped)
        assert str(error) == "a is stopped"
        assert error.__cause__ is None


def test_a_failure_wakes_whoever_waits_before_it_waits_for_the_nodes():
    """A handle that hangs while it is closed keeps nobody in the dark."""
    inbox = Inbox()
    with Gate() as gate, a_candidate(storage=FullDisk(), followers=[HangingNode("b", inbox, gate)]) as scene:
        settle(scene.thread)
        scene.thread.inbox.put(Heartbeat(3, "b", 1, (0, 1)))
        gate.wait_until_reached()
        with pytest.raises(MemberStopped, match="the disk is full"):
            scene.thread.wait_for_leader(PATIENCE)
        gate.open()


class HangingNode(Follower):
    """A peer whose handle takes its time to close."""

    def __init__(self, node_id, inbox, gate):
        super().__init__(node_id, inbox)
        self.gate = gate

    def close(self):
        self.gate.pass_through()
        super().close()


class BrokenRandom(random.Random):
    def random(self):
        raise RuntimeError("no entropy")


@pytest.mark.parametrize("timeout", [float("inf"), 1e300], ids=repr)
def test_a_wait_for_ever_may_be_written_as_one_likes(timeout):
    """The system's own limit on waiting is nobody's business."""
    with a_leader() as scene:
        assert scene.thread.wait_for_leader(timeout) == "a"
        scene.thread.stop(timeout)
    assert threads_of("a") == []


def test_any_other_exception_on_the_thread_ends_the_member_visibly_too(caplog):
    """It was not foreseen, and so it is logged with its traceback."""
    with new_thread(nodes=[NodeInfo("b")], rng=BrokenRandom()) as thread:
        with pytest.raises(MemberStopped, match="a was stopped by a failure: no entropy") as error:
            thread.wait_for_leader(PATIENCE)
        assert isinstance(error.value.__cause__, RuntimeError)
        eventually(lambda: not threads_of("a"), "ended")
    (record,) = caplog.records
    assert record.exc_info
    assert record.getMessage() == "a: the member has failed and takes no further part"


# --- What goes in --------------------------------------------------------------------------------------------------


GARBAGE = [
    None,
    5,
    "a word",
    object(),
    RequestVote,
    LeaderChanged("b", 99),
    AddNode(None),
    AddNode(5),
    AddNode(""),
    RemoveNode(None),
    TransferLeadership(["b"]),
    TransferLeadership(5),
    PeerDown(None),
    PeerDown(["b"]),
    PeerDown("c", "soon"),
    PeerDown("c", float("nan")),
    PeerDown("c", -1.0),
]


@pytest.mark.parametrize("garbage", GARBAGE, ids=repr)
def test_garbage_in_the_inbox_is_left_aside(garbage):
    """The member goes on as if nothing had been said."""
    with a_candidate() as scene:
        scene.thread.inbox.put(garbage)
        assert scene.win().token == 1
        scene.thread.inbox.put(garbage)
        settle(scene.thread)
        assert scene.thread.is_leader
        assert scene.thread.membership.ids == {"a", "b", "c"}


@pytest.mark.parametrize("node", [None, 5, "", object()], ids=repr)
def test_adding_what_is_no_node_is_refused_at_once(node):
    """The caller is told, not the log."""
    with new_thread() as thread, pytest.raises(ConfigError):
        thread.add_node(node)


def test_a_full_inbox_costs_a_peer_its_message_and_the_program_nothing():
    """Peers repeat what matters; a program says it once."""
    gate, inbox = Gate(), queue.Queue(3)
    with new_thread("a", [SlowNode("b", inbox, gate), NodeInfo("c")], inbox=inbox, clock=Clock()) as thread:
        with gate:
            inbox.put(Heartbeat(1, "b", 1, (0, 1)))
            gate.wait_until_reached()
            for number in range(10):
                thread.node.send_message(Heartbeat(1, "b", number, (0, 1)))
            assert [message.round for message in inbox.queue] == [0, 1, 2]
            thread.resign()
            assert [getattr(message, "round", message) for message in inbox.queue] == [1, 2, Resign()]
        refused = eventually(lambda: unread(thread, ChangeRefused), "answered")
        assert refused == [ChangeRefused(Resign(), "a does not lead")]


def test_a_member_that_has_resigned_says_so():
    """Until somebody leads again: nothing is wrong, and nothing is missing."""
    with ElectionThread("a", min_nodes=1, timing=Timing(election_timeout=600.0)) as thread:
        thread.wait_until_leader(PATIENCE)
        thread.resign()
        why = r"it has resigned, and leaves the lead to others for 1[12]\d\d\.\d s more; waits for a heartbeat"
        eventually(lambda: thread.leader_id is None, "resigned")
        with pytest.raises(TimeoutError, match=why):
            thread.wait_for_leader(0.01)


def test_a_full_inbox_never_loses_the_order_to_stop():
    """Whatever the program says after it."""
    gate, inbox = Gate(), queue.Queue(1)
    with new_thread("a", [SlowNode("b", inbox, gate), NodeInfo("c")], inbox=inbox, clock=Clock()) as thread:
        with gate:
            inbox.put(Heartbeat(1, "b", 1, (0, 1)))
            gate.wait_until_reached()
            stopper, _ = in_background(thread.stop, PATIENCE)
            eventually(lambda: Stop() in list(inbox.queue), "told to stop")
            thread.resign()
            thread.remove_node("x")
        eventually(lambda: not threads_of("a"), "stopped")
        stopper.join()


def test_a_queue_node_says_who_it_is():
    """A log line or a failing test shows it."""
    node = QueueNode("b", queue.Queue(), voter=False)
    assert repr(node) == "QueueNode('b')"
    assert NodeInfo.of(node) == NodeInfo("b", voter=False)


# --- What comes out ------------------------------------------------------------------------------------------------


def test_events_that_nobody_reads_are_lost_from_the_oldest_on():
    """And never hold the member up."""
    with new_thread("a", [NodeInfo("b")]) as thread:
        for number in range(EVENTS_KEPT + 5):
            thread.transfer_leadership(str(number))
        thread.stop(PATIENCE)
        kept = [event.control_message.to for event in unread(thread, ChangeRefused)]
        assert kept == [str(number) for number in range(5, EVENTS_KEPT + 5)]


def test_a_vote_is_saved_before_it_is_published_and_published_before_it_is_sent():
    """Design, section 3: "The caller of a Ready owes, in this order: save, publish, send" """
    order = []

    class WatchedStorage(MemoryStorage):
        def save(self, saved):
            order.append(("save", saved.current_term, scene.thread.current_term))
            super().save(saved)

    class WatchedNode(Follower):
        def send_message(self, message):
            if not getattr(message, "pre_vote", False):
                order.append(("send", storage.load().current_term, scene.thread.current_term))
            super().send_message(message)

    inbox, storage = Inbox(), WatchedStorage()
    followers = [WatchedNode("b", inbox), NodeInfo("c")]
    with a_candidate(inbox=inbox, followers=followers, storage=storage) as scene:
        settle(scene.thread)
        scene.pass_time(1.5)
        for _ in range(2):
            followers[0].expect(Heartbeat)
        scene.thread.inbox.put(Heartbeat(7, "b", 1, (1, 1)))
        followers[0].expect(HeartbeatResponse)
    assert order[:2] == [("save", 1, 0), ("send", 1, 1)]  # its own vote
    assert order[2:3] == [("send", 1, 1)]  # the first round, which needs nothing saved
    assert order[3:5] == [("save", 1, 1), ("send", 1, 1)]  # the membership of its term, and the round that brings it
    assert order[5:7] == [("save", 7, 1), ("send", 7, 7)]  # another leader's term


@pytest.mark.parametrize("hurry", [PeerDown("c"), TimeoutNow(7, "c")], ids=["its leader died", "its leader hands over"])
def test_where_others_wait_for_a_leader_votes_are_asked_for_while_the_own_is_saved(hurry):
    """It counts nowhere before it is saved: by then no answer has been heard. What others are promised waits."""
    order = []

    class WatchedStorage(MemoryStorage):
        def save(self, saved):
            order.append(("save", saved.current_term))
            super().save(saved)

    class WatchedNode(Follower):
        def send_message(self, message):
            order.append((type(message).__name__, message.term))
            super().send_message(message)

    inbox, storage = Inbox(), WatchedStorage()
    storage.save(Saved(7, "c", Membership(1, 1, tuple(map(NodeInfo, "abc")))))
    followers = [WatchedNode("b", inbox, grants=False), Follower("c", inbox, grants=False)]
    with a_candidate(inbox=inbox, followers=followers, storage=storage) as scene:
        inbox.put(Heartbeat(7, "c", 1, (1, 1)))
        inbox.put(hurry)
        inbox.put(RequestVote(9, "b", (1, 1), ("a", "b", "c"), transfer=True))
        settle(scene.thread)
    assert order[1:] == [("RequestVote", 8), ("save", 8), ("save", 9), ("RequestVoteResponse", 9)]


class ThrowingNode(Follower):
    """A transport that breaks its promise never to raise."""

    def send_message(self, message):
        raise RuntimeError("no cable")

    def close(self):
        super().close()
        raise RuntimeError("no cable")


def test_a_node_that_raises_costs_its_peer_alone(caplog):
    """The others are sent to and closed as always; the trouble is logged once."""
    inbox = Inbox()
    followers = [ThrowingNode("b", inbox), Follower("c", inbox), ThrowingNode("d", inbox), Follower("e", inbox)]
    with a_leader(inbox=inbox, followers=followers) as scene:
        for _ in range(3):
            scene.pass_time(TIMING.heartbeat_interval)
            settle(scene.thread)
        assert scene.thread.is_leader
        assert len(followers[3].drain(Heartbeat)) >= 4
        sending = [record for record in caplog.records if "sending to ThrowingNode('b') failed" in record.message]
        assert len(sending) == 1
    assert [follower.closings for follower in followers] == [1, 1, 1, 1]


def test_a_node_that_takes_its_time_to_close_holds_nobody_up():
    """A follower of the leader that removed it goes on answering heartbeats."""
    inbox = Inbox()
    with Gate() as gate:
        followers = [Follower("b", inbox), HangingNode("c", inbox, gate)]
        with new_thread("a", [*followers, NodeInfo("d")], inbox=inbox, clock=Clock()):
            without_c = Membership(1, 2, tuple(NodeInfo(node_id) for node_id in "abd"))
            inbox.put(Heartbeat(1, "b", 1, (1, 2), without_c))
            gate.wait_until_reached()
            inbox.put(Heartbeat(1, "b", 2, (1, 2)))
            eventually(lambda: followers[0].expect(HeartbeatResponse).round == 2, "answered")
            gate.open()
        assert followers[1].closings == 1


class MeetingNode(Follower):
    """A peer whose handle is closed once all the others are being closed as well."""

    def __init__(self, node_id, inbox, meeting):
        super().__init__(node_id, inbox)
        self.meeting = meeting

    def close(self):
        self.meeting.wait(PATIENCE)
        super().close()


def test_handles_are_closed_side_by_side():
    """Each may wait for a peer that is cut off: ten of those cost a stop no more time than one."""
    inbox, meeting = Inbox(), threading.Barrier(10)
    peers = [MeetingNode(node_id, inbox, meeting) for node_id in "bcdefghijk"]
    with new_thread("a", peers, inbox=inbox):
        pass
    assert [peer.closings for peer in peers] == [1] * 10
    assert threads_of("a") == []


def test_a_handle_for_whose_closing_there_is_no_thread_is_closed_at_the_end(monkeypatch):
    """The member goes on, and stops as always."""
    begin = threading.Thread.start

    def fail(thread):
        if "-closes-" in thread.name:
            raise RuntimeError("can't start new thread")
        begin(thread)

    monkeypatch.setattr(threading.Thread, "start", fail)
    with a_leader() as scene:
        newer = Follower("b", scene.thread.inbox)
        scene.thread.add_node(newer)
        settle(scene.thread)
        assert scene.thread.is_leader
        assert scene.followers[0].closings == 0
    assert scene.thread.status().error == ""
    assert [node.closings for node in (*scene.followers, newer)] == [1, 1, 1]


def test_a_leader_closes_the_handle_of_a_member_that_has_learnt_of_its_removal():
    """And not before: until then it is sent to."""
    inbox = Inbox()
    followers = [Follower(node_id, inbox) for node_id in "bcd"]
    with a_leader(inbox=inbox, followers=followers) as scene:
        gone = followers[2]
        gone.answers = False
        scene.thread.remove_node("d")
        settle(scene.thread)
        scene.pass_time(TIMING.heartbeat_interval)
        learns = gone.expect(Heartbeat)
        while learns.membership is None or "d" in learns.membership.ids:
            learns = gone.expect(Heartbeat)
        assert gone.closings == 0
        gone.answer(learns)
        eventually(lambda: gone.closings == 1, "closed")
        assert scene.thread.is_leader


def test_a_new_handle_takes_the_place_of_the_old_one():
    """`AddNode` with an id that is known already; the old handle is closed."""
    with a_leader() as scene:
        newer = Follower("b", scene.thread.inbox)
        scene.thread.add_node(newer)
        settle(scene.thread)
        scene.pass_time(TIMING.heartbeat_interval)
        newer.expect(Heartbeat)
        eventually(lambda: scene.followers[0].closings == 1, "closed")
        scene.followers[0].drain(Heartbeat)
        scene.pass_time(TIMING.heartbeat_interval)
        newer.expect(Heartbeat)
        assert not scene.followers[0].drain(Heartbeat)


def test_a_member_known_by_name_alone_is_sent_to_once_it_has_a_handle():
    """The transport may come later than the name."""
    inbox, clock = Inbox(), Clock()
    with new_thread("a", [Follower("b", inbox), NodeInfo("c")], inbox=inbox, clock=clock) as thread:
        late = Follower("c", inbox)
        thread.add_node(late)
        settle(thread)
        clock.now += 1.5
        wake(thread)
        assert late.expect(RequestVote).pre_vote


def test_handles_for_members_heard_of_are_made_by_the_transport():
    """`node_factory` is asked for those that came with a membership, and again while it has none."""
    inbox, made = Inbox(), []

    def make(info):
        made.append(info)
        return Follower(info.node_id, inbox) if len(made) > 1 else None

    with new_thread("a", [Follower("b", inbox)], inbox=inbox, clock=Clock(), node_factory=make) as thread:
        with_c = Membership(1, 2, (NodeInfo("a"), NodeInfo("b"), NodeInfo("c", True, "there:1")))
        inbox.put(Heartbeat(1, "b", 1, (1, 2), with_c))
        inbox.put(Heartbeat(2, "c", 1, (1, 2)))
        inbox.put(Heartbeat(2, "c", 2, (1, 2)))
        settle(thread)
        assert made[0] == NodeInfo("c", True, "there:1")
        assert [info.node_id for info in made] == ["c", "c"]


def test_handles_for_strangers_do_not_add_up():
    """Whoever comes under ever new ids is answered, and yet costs no more handles, each of which holds a thread."""
    inbox, made = Inbox(), []
    with_c = Membership(1, 2, (NodeInfo("a"), NodeInfo("b"), NodeInfo("c")))

    def make(info):
        made.append(Follower(info.node_id, inbox))
        return made[-1]

    def ask(sender_id):
        inbox.put(RequestVote(1, sender_id, (0, 0), ("a", sender_id), pre_vote=True))

    with new_thread("a", [Follower("b", inbox)], inbox=inbox, clock=Clock(), node_factory=make) as thread:
        ask("c")
        for number in range(MOST_STRANGERS):
            ask(f"stranger {number}")
            inbox.put(Heartbeat(1, "b", number, (1, 2), with_c))
        for number in range(3):
            ask(f"another {number}")
        settle(thread)
        assert len(made) == 1 + MOST_STRANGERS + 3
        assert all(node.expect(RequestVoteResponse) for node in made)
        eventually(lambda: [node.closings for node in made] == [0, 1, 1, 1] + [0] * MOST_STRANGERS, "closed the oldest")


def test_a_thread_needs_a_timing_that_was_checked():
    with pytest.raises(ConfigError, match=r"timing is {}, but must be a raftlite\.Timing"):
        ElectionThread("a", timing={})


def test_the_help_on_a_thread_names_the_doors_of_its_loop():
    """They are attributes of each object, which `help(ElectionThread)` does not list by itself."""
    words = ElectionThread.__doc__
    assert all(f"`{door}`" in words and hasattr(new_thread("a"), door) for door in ("inbox", "events", "node"))


def test_a_transport_that_cannot_make_a_handle_does_not_end_the_member(caplog):
    """An address that another member made known may be nonsense here."""
    inbox = Inbox()
    leader = Follower("b", inbox)

    def make(info):
        raise ValueError(f"{info.address} is no address")

    with new_thread("a", [leader], inbox=inbox, clock=Clock(), node_factory=make) as thread:
        with_c = Membership(1, 2, (NodeInfo("a"), NodeInfo("b"), NodeInfo("c", True, "nonsense")))
        inbox.put(Heartbeat(1, "b", 1, (1, 2), with_c))
        inbox.put(Heartbeat(1, "b", 2, (1, 2)))
        leader.expect(HeartbeatResponse)
        assert leader.expect(HeartbeatResponse).round == 2
        settle(thread)
        assert thread.leader_id == "b"
    assert "nonsense is no address" in caplog.text
