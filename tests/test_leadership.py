"""`Leadership` and the callbacks: what a program holds while its member leads, and how it hears of the end."""

from __future__ import annotations

import contextlib
import itertools
import queue
import threading

import pytest
from harness import LEASE, TIMING
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
)

from raftlite import leadership as leadership_module
from raftlite.errors import LeadershipLost
from raftlite.leadership import Callbacks
from raftlite.messages import Heartbeat, HeartbeatResponse, TimeoutNow

# --- One grant -----------------------------------------------------------------------------------------------------


def test_a_grant_has_the_term_as_its_token_and_lasts_as_long_as_the_lease():
    """`remaining` counts down on the member's clock."""
    with a_leader() as scene:
        leadership = scene.thread.leadership
        assert (leadership.node_id, leadership.token, leadership.valid) == ("a", 1, True)
        assert leadership.remaining == LEASE
        scene.clock.now += 0.5
        assert leadership.remaining == LEASE - 0.5
        leadership.check()
        assert repr(leadership) == "Leadership('a', token=1, held)"


def test_a_grant_is_over_at_the_very_moment_when_its_lease_ends():
    """Read by the program, before the member's own thread has noticed anything."""
    with a_leader() as scene:
        leadership = scene.thread.leadership
        scene.clock.now += LEASE
        assert not leadership.valid
        assert leadership.remaining == 0.0
        assert leadership.lost.is_set()
        with pytest.raises(LeadershipLost, match="a no longer leads with token 1"):
            leadership.check()
        assert repr(leadership) == "Leadership('a', token=1, lost)"


def test_the_event_of_a_lost_grant_looks_at_the_lease_itself():
    """Whoever waits for it in a process that was suspended may go on before the member's thread does."""
    with a_leader() as scene:
        leadership = scene.thread.leadership
        assert not leadership.lost.wait(0.0)
        scene.clock.now += LEASE
        assert leadership.lost.wait(0.0)
        assert leadership.lost.is_set()


def test_waiting_for_the_loss_ends_with_the_lease_whoever_should_have_told_of_it(monkeypatch):
    """The member's thread may wait for a disk that hangs, and others lead meanwhile; here nobody else tells of it."""
    monkeypatch.setattr(Callbacks, "_lose_if_over", lambda callbacks, held: None)
    seen = queue.Queue()
    gate, inbox = Gate(), Inbox()
    with a_leader(inbox=inbox, followers=[HeldUp("b", inbox, gate), Follower("c", inbox)]) as scene, gate:
        scene.pass_time(TIMING.heartbeat_interval)
        gate.wait_until_reached()
        lost = scene.thread.leadership.lost
        assert not lost.wait(0.01)
        waiter = threading.Thread(target=lambda: seen.put(lost.wait()), daemon=True)
        waiter.start()
        eventually(lambda: is_inside(waiter, "wait"), "waiting")
        scene.clock.now += LEASE
        assert seen.get(timeout=PATIENCE) is True
        assert not lost.was_set


@pytest.mark.parametrize("registered", ["on_lost alone", "both"])
def test_a_program_is_told_of_the_loss_when_the_lease_ends_though_its_member_hangs(registered):
    """Once, and before it is told of the next grant."""
    calls = queue.Queue()
    gate, inbox = Gate(), Inbox()
    told = {"on_lost": lambda leadership: calls.put(("lost", leadership.token, leadership.lost.was_set))}
    if registered == "both":
        told["on_elected"] = lambda leadership: calls.put(("elected", leadership.token))
    with a_leader(inbox=inbox, followers=[HeldUp("b", inbox, gate), Follower("c", inbox)], **told) as scene:
        with gate:
            scene.pass_time(TIMING.heartbeat_interval)
            gate.wait_until_reached()
            if registered == "both":
                expect(calls, ("elected", 1))
            scene.clock.now += LEASE
            expect(calls, ("lost", 1, True))
        settle(scene.thread)
        scene.pass_time(4.0)
        assert scene.thread.wait_until_leader(PATIENCE).token == 2
    expect(calls, *([("elected", 2)] if registered == "both" else []), ("lost", 2, True))
    assert calls.empty()


def test_looking_at_a_lease_is_nothing_that_a_handover_waits_for():
    """The thread of the callbacks has not run yet, and there is none to call."""
    callbacks = leadership_module.Callbacks("raftlite-a-callbacks", resign=lambda token: None)
    callbacks.elected(callbacks.grant("a", 1, 100.0, lambda: 0.0))
    assert callbacks.is_idle


def test_a_signal_handler_may_look_at_a_grant_while_its_thread_does():
    """It interrupts that thread anywhere, also where it holds what the look needs."""
    with a_leader() as scene:
        leadership, seen = scene.thread.leadership, queue.Queue()

        def look_within_a_look():
            with leadership._lock, leadership.lost._cond:
                seen.put((leadership.valid, leadership.lost.is_set(), scene.thread.is_leader))

        for leads in (True, False):
            threading.Thread(target=look_within_a_look, daemon=True).start()
            assert seen.get(timeout=PATIENCE) == (leads, not leads, leads)
            scene.clock.now += LEASE


def test_a_member_that_was_paused_knows_at_once_that_it_does_not_lead():
    """Its thread has not run since: what counts is the clock when the question is asked."""
    gate, inbox = Gate(), Inbox()
    with a_leader(inbox=inbox, followers=[HeldUp("b", inbox, gate), Follower("c", inbox)]) as scene, gate:
        scene.pass_time(TIMING.heartbeat_interval)
        gate.wait_until_reached()
        assert scene.thread.is_leader
        scene.clock.now += 10.0
        assert not scene.thread.is_leader
        assert (scene.thread.leadership, scene.thread.leader_id, scene.thread.status().leader_id) == (None, None, None)


class HeldUp(Follower):
    """A peer whose handle holds up the member's thread while its gate is closed."""

    def __init__(self, node_id, inbox, gate):
        super().__init__(node_id, inbox)
        self.gate = gate

    def send_message(self, message):
        super().send_message(message)
        self.gate.pass_through()


def test_a_grant_never_comes_back_to_life():
    """A program that has seen it end acts on that; an answer that was under way does not prolong it."""
    lost = queue.Queue()
    with a_leader(on_lost=lost.put) as scene:
        leadership = scene.thread.leadership
        now = scene.clock.now
        scene.clock.now = now + LEASE
        assert not leadership.valid
        scene.clock.now = now  # the member's thread has looked at the clock a moment before the program did
        scene.pass_time(TIMING.heartbeat_interval)
        assert lost.get(timeout=PATIENCE) is leadership
        assert not leadership.valid
        assert not scene.thread.is_leader
        expect_one_successor(scene)


def expect_one_successor(scene):
    """It is told once the callbacks have finished, and no other is."""
    told = eventually(lambda: [each for each in scene.followers if each.drain(TimeoutNow)], "told")
    settle(scene.thread)
    assert len(told) == 1
    assert not any(follower.drain(TimeoutNow) for follower in scene.followers)


def test_a_program_that_has_seen_its_lease_end_is_given_a_new_token_or_none():
    """Whatever its member believes: the same token would say that nothing had happened in between."""
    with a_leader() as scene:
        first = scene.thread.leadership
        now = scene.clock.now
        scene.clock.now = now + LEASE
        assert not scene.thread.is_leader
        scene.clock.now = now
        settle(scene.thread)
        scene.clock.now += TIMING.heartbeat_interval
        for _ in range(2):
            settle(scene.thread)
            assert scene.thread.leadership is None
        scene.pass_time(4.0)
        second = scene.thread.wait_until_leader(PATIENCE)
        assert second.token > first.token
        assert not first.valid


@pytest.mark.parametrize("read, seen", [(1, (2, True)), (2, (1, False))], ids=["while it looks", "a moment later"])
def test_waiting_to_lead_goes_on_when_a_grant_ends_before_the_waiter_has_it(read, seen):
    """A wait ends with a grant, in time or not at all: not with a TimeoutError out of nowhere."""
    reads, jumped, outcome = itertools.count(1), threading.Event(), queue.Queue()

    class JumpingClock(Clock):
        """Goes on by an election timeout when the waiter reads it for the first or the second time."""

        def __call__(self):
            if threading.current_thread() is waiter and next(reads) == read:
                self.now += TIMING.election_timeout
                jumped.set()
            return self.now

    def wait_and_look():
        leadership = scene.thread.wait_until_leader(PATIENCE)
        outcome.put((leadership.token, leadership.valid))

    waiter = threading.Thread(target=wait_and_look)
    with a_leader(clock=JumpingClock()) as scene:
        waiter.start()
        assert jumped.wait(PATIENCE)
        assert scene.win().token == 2
        assert outcome.get(timeout=PATIENCE) == seen
        waiter.join()


# --- Callbacks -----------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def recorded(calls, **settings):
    """A candidate whose callbacks put what they are told into the queue `calls`."""
    settings.setdefault("on_elected", lambda leadership: calls.put(("elected", leadership.token)))
    settings.setdefault("on_lost", lambda leadership: calls.put(("lost", leadership.token, leadership.lost.is_set())))
    settings.setdefault("on_leader_changed", lambda leader_id, term: calls.put(("leader", leader_id, term)))
    with a_candidate(**settings) as scene:
        yield scene


def expect(calls, *wanted):
    assert [calls.get(timeout=PATIENCE) for _ in wanted] == list(wanted)


def test_callbacks_come_in_pairs_and_in_order_through_win_loss_and_stop():
    """Each grant begins once and ends once, and `lost` is set before the program is told."""
    calls = queue.Queue()
    with recorded(calls) as scene:
        scene.win()
        expect(calls, ("elected", 1), ("leader", "a", 1))
        scene.silence()
        scene.pass_time(LEASE)
        expect(calls, ("lost", 1, True), ("leader", None, 1))
        scene.wake_up()
        scene.win()
        expect(calls, ("elected", 2), ("leader", "a", 2))
    expect(calls, ("lost", 2, True), ("leader", None, 2))
    assert calls.empty()


def test_a_lost_grant_is_over_before_the_program_is_told_so():
    """Also when it ends early, because the member hands over with its lease half used."""
    seen = queue.Queue()
    with a_leader(on_lost=lambda leadership: seen.put((leadership.lost.is_set(), leadership.valid))) as scene:
        scene.thread.transfer_leadership("c")
        assert seen.get(timeout=PATIENCE) == (True, False)


def test_leadership_is_given_up_before_the_successor_is_told():
    """Thesis 3.10; a successor that is quick must not lead beside it."""
    seen = queue.Queue()

    class Successor(Follower):
        def send_message(self, message):
            if isinstance(message, TimeoutNow):
                seen.put((scene.thread.is_leader, leadership.valid, leadership.lost.is_set()))
            super().send_message(message)

    inbox = Inbox()
    with a_leader(inbox=inbox, followers=[Successor("b", inbox), Successor("c", inbox)]) as scene:
        leadership = scene.thread.leadership
        scene.thread.resign()
        assert seen.get(timeout=PATIENCE) == (False, False, True)


def test_a_successor_is_told_though_the_member_is_stopped_while_its_callbacks_run():
    """It had resigned, and `on_lost` was not over when it was stopped: nobody would wait for a timer."""
    order = queue.Queue()

    class Successor(Follower):
        def send_message(self, message):
            if isinstance(message, TimeoutNow):
                order.put("told")
            super().send_message(message)

    def be_slow(leadership):
        gate.pass_through()
        order.put("on_lost is over")

    inbox = Inbox()
    with Gate() as gate, a_leader(
        inbox=inbox, followers=[Successor("b", inbox), Successor("c", inbox)], on_lost=be_slow
    ) as scene:
        scene.thread.transfer_leadership("c")
        gate.wait_until_reached()
        settle(scene.thread)
        stopper = threading.Thread(target=scene.thread.stop, args=(PATIENCE,))
        stopper.start()
        eventually(lambda: is_inside(scene.thread._thread, "_finish_handover"), "waiting for the callback")
        gate.open()
        stopper.join()
        expect(order, "on_lost is over", "told")
        assert order.empty()


def test_a_member_that_follows_another_is_told_who_leads():
    """And whom it follows next."""
    calls = queue.Queue()
    with recorded(calls) as scene:
        scene.thread.inbox.put(Heartbeat(3, "b", 1, (0, 1)))
        expect(calls, ("leader", "b", 3))
        scene.thread.inbox.put(Heartbeat(5, "c", 1, (0, 1)))
        expect(calls, ("leader", "c", 5))
        scene.thread.inbox.put(Heartbeat(5, "c", 2, (0, 1)))
        settle(scene.thread)
        scene.pass_time(2.0)
        expect(calls, ("leader", None, 5), ("elected", 6))


def test_a_callback_that_is_registered_while_the_member_leads_is_called_for_that_grant():
    """A decorator below the `with` statement misses nothing."""
    with a_leader() as scene:
        first, calls = scene.thread.leadership, queue.Queue()

        @scene.thread.on_elected
        def elected(leadership):
            calls.put(("elected", leadership))

        @scene.thread.on_lost
        def lost(leadership):
            calls.put(("lost", leadership))

        @scene.thread.on_leader_changed
        def leader_changed(leader_id, term):
            calls.put((leader_id, term))

        expect(calls, ("elected", first))
        scene.thread.stop(PATIENCE)
        expect(calls, ("lost", first), (None, 1))
        assert calls.empty()
        assert callable(elected) and callable(lost) and callable(leader_changed)


def test_a_callback_that_is_registered_after_the_loss_is_not_called_for_it():
    """There is no grant to begin."""
    calls = queue.Queue()
    with a_leader() as scene:
        scene.silence()
        scene.pass_time(LEASE)
        settle(scene.thread)
        scene.thread.on_elected(calls.put)
        scene.thread.on_lost(calls.put)
    assert calls.empty()


@pytest.mark.parametrize("kind", [RuntimeError, SystemExit, KeyboardInterrupt])
def test_an_exception_in_on_elected_resigns_and_the_loss_is_told_all_the_same(kind, caplog):
    """Whoever cannot take up the work lets another try."""
    calls = queue.Queue()

    def fail(leadership):
        raise kind("not today")

    with recorded(calls, on_elected=fail) as scene:
        settle(scene.thread)
        scene.pass_time(1.5)
        expect(calls, ("leader", "a", 1), ("lost", 1, True), ("leader", None, 1))
        expect_one_successor(scene)
        assert not scene.thread.is_leader
    assert "not today" in caplog.text


@pytest.mark.parametrize("kind", [RuntimeError, SystemExit])
@pytest.mark.parametrize("which", ["on_lost", "on_leader_changed"])
def test_an_exception_in_another_callback_is_logged_and_no_more(which, kind, caplog):
    """The member leads on, and the next callback comes."""
    calls = queue.Queue()

    def fail(*_):
        raise kind("not today")

    with recorded(calls, **{which: fail}) as scene:
        for token in (1, 2):
            scene.win()
            settle(scene.thread)
            assert scene.thread.is_leader
            scene.silence()
            scene.pass_time(LEASE)
            settle(scene.thread)
            scene.wake_up()
            if which == "on_lost":
                expect(calls, ("elected", token), ("leader", "a", token), ("leader", None, token))
            else:
                expect(calls, ("elected", token), ("lost", token, True))
    assert "not today" in caplog.text


class Relay(Follower):
    """Passes on to a real member instead of answering, and tells the test."""

    def send_message(self, message):
        self._inbox.put(message)
        self.received.put(message)


def test_a_callback_that_never_returns_stops_no_heartbeat():
    """For many election timeouts the others hear the leader, and follow it."""
    with contextlib.ExitStack() as stack:
        gate = stack.enter_context(Gate())
        scene = stack.enter_context(a_candidate(on_elected=lambda leadership: gate.pass_through()))
        other = stack.enter_context(new_thread("b", clock=scene.clock))
        leadership = scene.win()
        gate.wait_until_reached()
        to_other = Relay("b", other.inbox)
        scene.thread.add_node(to_other)
        other.add_node(Relay("a", scene.thread.inbox))
        settle(scene.thread)
        for _ in range(5 * int(TIMING.election_timeout / TIMING.heartbeat_interval)):
            scene.pass_time(TIMING.heartbeat_interval)
            to_other.expect(Heartbeat)
            settle(other)
            assert other.leader_id == "a"
            assert scene.thread.leadership is leadership
        gate.open()


def test_a_callback_that_goes_on_after_the_loss_is_named_in_the_log(caplog, monkeypatch):
    """Else nobody would know why `on_lost` is not called: an `on_elected` that does the work itself, for instance."""
    monkeypatch.setattr(leadership_module, "LATE", 0.001)
    lost = queue.Queue()

    def work_for_ever(leadership):
        gate.pass_through()

    with Gate() as gate, a_candidate(on_elected=work_for_ever, on_lost=lost.put) as scene:
        scene.win()
        gate.wait_until_reached()
        scene.silence()
        scene.pass_time(LEASE)
        sentence = "work_for_ever still runs, 0.001 s after leadership was lost, and on_lost waits for it"
        eventually(lambda: sentence in caplog.text, "said")
        assert lost.empty()
        gate.open()
        lost.get(timeout=PATIENCE)


def test_a_callback_that_ends_soon_after_the_loss_is_no_reason_for_a_warning(caplog):
    """It has looked at `leadership.lost`, as it should; and what watched it has ended with it."""
    ended = threading.Event()

    def work_until_lost(leadership):
        leadership.lost.wait(PATIENCE)
        ended.set()

    with a_candidate(on_elected=work_until_lost) as scene:
        scene.win()
        scene.silence()
        scene.pass_time(LEASE)
        assert ended.wait(PATIENCE)
    assert "still runs" not in caplog.text


def test_a_callback_sees_the_lease_prolonged():
    """The grant that it was given is the one that the member renews."""
    given = queue.Queue()
    with a_leader(on_elected=given.put) as scene:
        leadership = given.get(timeout=PATIENCE)
        scene.followers[0].drain(Heartbeat)
        for _ in range(10):
            scene.pass_time(TIMING.heartbeat_interval)
            scene.followers[0].expect(Heartbeat)
            settle(scene.thread)
        assert leadership.remaining == LEASE


def test_a_late_answer_to_an_early_heartbeat_prolongs_nothing():
    """A lease counts from when the heartbeat was sent."""
    with a_leader() as scene:
        leadership = scene.thread.leadership
        scene.silence()
        first = scene.followers[0]
        first.drain(Heartbeat)
        scene.pass_time(TIMING.heartbeat_interval)
        heartbeat = first.expect(Heartbeat)
        scene.pass_time(0.5)
        settle(scene.thread)
        first.answer(heartbeat)
        settle(scene.thread)
        assert leadership.remaining == LEASE - 0.5
        scene.thread.inbox.put(HeartbeatResponse(1, "b", 99, (1, 1), 1.0))
        settle(scene.thread)
        assert leadership.remaining == LEASE - 0.5
