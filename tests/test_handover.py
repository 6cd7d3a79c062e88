"""Handing leadership over: `on_lost` has finished at the old leader before `on_elected` begins at the new one."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from typing import Callable, Dict, Iterator, List, Tuple

import pytest
from threads import PATIENCE, eventually

from raftlite import ElectionThread, Leadership, Timing

# An election timeout that no test waits for after its first election: what follows quickly is a handover.
TIMING = Timing(heartbeat_interval=0.05, election_timeout=0.5)


class Cluster:
    """Three members in threads; what their callbacks do is noted in order."""

    def __init__(self) -> None:
        self.notes: List[Tuple[str, str]] = []
        self.may_finish = threading.Event()
        self.lost_began = threading.Event()
        self.threads: Dict[str, ElectionThread] = {}
        for name in ("a", "b", "c"):
            self.threads[name] = ElectionThread(
                name, timing=TIMING, min_nodes=2, on_elected=self.elected, on_lost=self.lost
            )

    def elected(self, leadership: Leadership) -> None:
        self.notes.append(("elected", leadership.node_id))

    def lost(self, leadership: Leadership) -> None:
        self.lost_began.set()
        assert self.may_finish.wait(PATIENCE)
        self.notes.append(("lost", leadership.node_id))

    def leader(self) -> str:
        return eventually(lambda: next((n for n, t in self.threads.items() if t.is_leader), None), "a leader")


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    cluster = Cluster()
    with ExitStack() as stack:
        for thread in cluster.threads.values():
            stack.enter_context(thread)
        for thread in cluster.threads.values():
            for other in cluster.threads.values():
                thread.add_node(other.node)
        yield cluster
        cluster.may_finish.set()


@pytest.mark.parametrize(
    "end", [ElectionThread.transfer_leadership, ElectionThread.resign, ElectionThread.stop], ids=lambda f: f.__name__
)
def test_the_old_leaders_on_lost_has_finished_before_the_new_ones_on_elected(
    cluster: Cluster, end: Callable[[ElectionThread], None]
) -> None:
    """3.10, and for the program too: no two of them work at once."""
    old = cluster.leader()
    ending = threading.Thread(target=end, args=(cluster.threads[old],))
    ending.start()
    assert cluster.lost_began.wait(PATIENCE)
    assert not cluster.threads[old].is_leader
    assert not any(thread.is_leader for thread in cluster.threads.values())
    cluster.may_finish.set()
    ending.join(PATIENCE)
    new = eventually(lambda: next((n for n, t in cluster.threads.items() if n != old and t.is_leader), None), "a heir")
    eventually(lambda: ("elected", new) in cluster.notes, "on_elected")
    assert cluster.notes == [("elected", old), ("lost", old), ("elected", new)]


@pytest.mark.slow
def test_an_on_lost_that_never_finishes_delays_the_next_leader_by_an_election_and_no_more(cluster: Cluster) -> None:
    """The bound is the election timeout: then the others elect without being asked to."""
    old = cluster.leader()
    cluster.threads[old].transfer_leadership()
    assert cluster.lost_began.wait(PATIENCE)
    new = cluster.leader()
    assert ("lost", old) not in cluster.notes
    assert new != old or len(cluster.notes) == 1


def test_stop_in_a_callback_does_not_wait_for_itself() -> None:
    """The rest ends after the callback."""
    done = threading.Event()

    def stop(leadership: Leadership) -> None:
        thread.stop()
        done.set()

    thread = ElectionThread("a", timing=TIMING, min_nodes=1, on_elected=stop)
    with thread:
        assert done.wait(PATIENCE)


@pytest.mark.slow
def test_a_removed_leader_hands_over_too(cluster: Cluster) -> None:
    """A leader cannot remove itself: the next one does."""
    old = cluster.leader()
    cluster.may_finish.set()
    other = next(name for name in cluster.threads if name != old)
    cluster.threads[other].remove_node(old)
    eventually(lambda: old not in cluster.threads[other].membership.ids, "the removal")
    new = cluster.leader()
    eventually(lambda: ("elected", new) in cluster.notes, "on_elected")
    assert cluster.notes == [("elected", old), ("lost", old), ("elected", new)]
