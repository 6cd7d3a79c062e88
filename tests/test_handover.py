"""Handing leadership over: `on_lost` has finished at the old leader before `on_elected` begins at the new one."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from typing import Any, Callable, Dict, Iterator, List, Tuple

import pytest
from harness import Draws
from threads import PATIENCE, Clock, Inbox, eventually, is_inside, settle, wake

from raftlite import ElectionThread, Leadership, Role, Timing

# By the clock of the machine, no timeout ends while a test runs; by that of the members, when the test says so.
TIMING = Timing(heartbeat_interval=0.125, election_timeout=600.0)
HOPS = 8  # more than an election, and the request for it, take messages one after the other


class Cluster:
    """Three members in threads, under a clock that stands still. What their callbacks do is noted in order.

    After the same silence `a` campaigns first, `b` a quarter of an election timeout later, and so on.
    """

    def __init__(self) -> None:
        self.clock = Clock()
        self.notes: List[Tuple[str, str]] = []
        self.may_finish = threading.Event()
        self.lost_began = threading.Event()
        self.threads = {node_id: self.member(node_id, Draws(number / 4)) for number, node_id in enumerate("abc")}

    def member(self, node_id: str, rng: Draws) -> ElectionThread:
        settings: Dict[str, Any] = {"min_nodes": 2, "timing": TIMING, "clock": self.clock, "rng": rng}
        return ElectionThread(node_id, inbox=Inbox(), on_elected=self.elected, on_lost=self.lost, **settings)

    def elected(self, leadership: Leadership) -> None:
        self.notes.append(("elected", leadership.node_id))

    def lost(self, leadership: Leadership) -> None:
        self.lost_began.set()
        assert self.may_finish.wait(PATIENCE)
        self.notes.append(("lost", leadership.node_id))

    @property
    def leaders(self) -> List[str]:
        return [node_id for node_id, thread in self.threads.items() if thread.is_leader]

    def pass_time(self, seconds: float) -> None:
        """Let the clock go on by so much, and wait until nobody has anything left to do then."""
        self.clock.now += seconds
        wake(*self.threads.values())
        self.settle()

    def settle(self) -> None:
        for _ in range(HOPS):
            for thread in self.threads.values():
                if thread.role is Role.STOPPED:
                    eventually(lambda thread=thread: waits_or_has_ended(thread), "at its end")
                else:
                    settle(thread)

    def heir_of(self, old: str) -> str:
        return eventually(lambda: next((each for each in self.leaders if each != old), None), "a heir")


def waits_or_has_ended(thread: ElectionThread) -> bool:
    """Whether a member that is stopped waits for its callbacks, or for nothing any more."""
    return not thread._thread.is_alive() or is_inside(thread._thread, "_finish_handover")


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """A cluster that `a` leads."""
    cluster = Cluster()
    with ExitStack() as stack:
        for thread in cluster.threads.values():
            stack.enter_context(thread)
        cluster.pass_time(2 * TIMING.election_timeout)  # from then on nobody abstains from voting any more
        for thread in cluster.threads.values():
            for other in cluster.threads.values():
                if other is not thread:
                    thread.add_node(other.node)
        cluster.settle()
        cluster.pass_time(TIMING.election_timeout)
        assert cluster.leaders == ["a"]
        yield cluster
        cluster.may_finish.set()


def stop(thread: ElectionThread) -> None:
    thread.stop(PATIENCE)


@pytest.mark.parametrize(
    "end", [ElectionThread.transfer_leadership, ElectionThread.resign, stop], ids=lambda f: f.__name__
)
def test_the_old_leaders_on_lost_has_finished_before_the_new_ones_on_elected(
    cluster: Cluster, end: Callable[[ElectionThread], None]
) -> None:
    """3.10, and for the program too: no two of them work at once."""
    ending = threading.Thread(target=end, args=(cluster.threads["a"],))
    ending.start()
    assert cluster.lost_began.wait(PATIENCE)
    cluster.settle()
    assert cluster.leaders == []
    assert cluster.notes == [("elected", "a")]
    cluster.may_finish.set()
    ending.join(PATIENCE)
    new = cluster.heir_of("a")
    eventually(lambda: ("elected", new) in cluster.notes, "on_elected")
    assert cluster.notes == [("elected", "a"), ("lost", "a"), ("elected", new)]


def test_an_on_lost_that_never_finishes_delays_the_next_leader_by_an_election_and_no_more(cluster: Cluster) -> None:
    """Then the others elect without being asked to."""
    cluster.threads["a"].resign()
    assert cluster.lost_began.wait(PATIENCE)
    assert_that_an_election_is_waited_for(cluster)
    assert ("lost", "a") not in cluster.notes


def test_a_body_that_does_not_end_delays_the_next_leader_by_an_election_and_no_more(cluster: Cluster) -> None:
    """It is waited for as a callback is."""
    old = cluster.threads["a"]
    cluster.may_finish.set()
    with old.holding(old.wait_until_leader(PATIENCE)) as leadership:
        old.resign()
        assert leadership.lost.wait(PATIENCE)
        assert_that_an_election_is_waited_for(cluster)


def assert_that_an_election_is_waited_for(cluster: Cluster) -> None:
    """Nobody leads before the timeout of `b` is over, which is 1.25 long, and `b` from then on."""
    cluster.settle()
    led = [cluster.leaders]
    for _ in range(8):  # quarters of a timeout, so that no two of them campaign at once
        cluster.pass_time(TIMING.election_timeout / 4)
        led.append(cluster.leaders)
    assert led == 5 * [[]] + 4 * [["b"]]


@pytest.mark.parametrize("when", [ElectionThread.on_elected, ElectionThread.on_lost], ids=lambda f: f.__name__)
def test_stop_in_a_callback_does_not_wait_for_itself(cluster: Cluster, when: Callable[..., Any]) -> None:
    """Else it would wait in vain: a successor is told once the callbacks have finished. This one is told at once."""
    old, returned = cluster.threads["a"], threading.Event()
    cluster.may_finish.set()

    def stop_here(leadership: Leadership) -> None:
        old.stop()  # which gives up after 5 seconds
        returned.set()

    when(old, stop_here)  # it leads: an `on_elected` is called for that
    if when is ElectionThread.on_lost:
        old.resign()
    eventually(lambda: not old.is_alive, "ended")
    assert returned.is_set()
    assert cluster.heir_of("a")


def test_a_removed_leader_hands_over_too(cluster: Cluster) -> None:
    """A leader cannot remove itself: the next one does."""
    cluster.may_finish.set()
    cluster.threads["b"].remove_node("a")
    new = cluster.heir_of("a")
    eventually(lambda: "a" not in cluster.threads["b"].membership.ids, "the removal")
    eventually(lambda: ("elected", new) in cluster.notes, "on_elected")
    assert cluster.notes == [("elected", "a"), ("lost", "a"), ("elected", new)]
