"""What a program holds: a body that runs while its member leads, a job that is run again, and what comes after what."""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import re
import signal
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Tuple

import pytest
from children import FORKS_ON_PURPOSE
from threads import PATIENCE, Scene, a_leader, eventually, settle

from raftlite import (
    Leadership,
    LeadershipLost,
    Member,
    MemberStopped,
    NotLeader,
    TimeoutNow,
    Timing,
)

README = (Path(__file__).resolve().parent.parent / "README.md").read_text(encoding="utf-8")
QUICK = Timing(heartbeat_interval=0.03, election_timeout=0.3, message_timeout=5.0)  # where a lease has to run out
SLOW = Timing(heartbeat_interval=0.03, election_timeout=3_600.0, message_timeout=5.0)  # campaigns when it is told to


def members_in(folder: Path, timing: Timing = SLOW, **settings: Any) -> Dict[str, Member]:
    addresses = {name: str(folder / name) for name in "abc"}
    return {
        name: Member(name, peers=addresses, listen=addresses[name], timing=timing, **settings) for name in addresses
    }


@contextlib.contextmanager
def running(members: Dict[str, Member]) -> Iterator[Dict[str, Member]]:
    with ExitStack() as stack:
        for member in members.values():
            stack.enter_context(member)
        yield members


def leader_of(members: Dict[str, Member]) -> Member:
    """Wait until one leads and the others follow it, and know that they have voted: they vote again when asked to."""
    leader = eventually(lambda: next((each for each in members.values() if each.is_leader), None), "a leader")
    for member in members.values():
        eventually(lambda member=member: member.leader_id == leader.node_id, "followed")
        eventually(lambda member=member: member.membership.term > 0, "stamped")
    return leader


@pytest.fixture
def cluster(folder: Path) -> Iterator[Dict[str, Member]]:
    """Three members in this process, of which a leads; its lease does not run out."""
    with running(members_in(folder)) as members:
        for member in members.values():
            eventually(lambda member=member: not member.status().unreachable, "connected")
        # Where members begin by themselves, two may collide, and then the next attempt is an election timeout away.
        members["a"]._thread.inbox.put(TimeoutNow(1, "b"))
        yield members


@pytest.fixture
def alone() -> Iterator[Member]:
    """A cluster of one, which leads at once, and until it resigns."""
    with Member("a", min_nodes=1, timing=SLOW) as member:
        yield member


# --- What comes after what: the table of the README ------------------------------------------------------------------

TABLE = {when: what.split(" → ") for when, what in re.findall(r"^\| (\w[^|]*) \| ([^|]*→[^|]*) \|$", README, re.M)}


class Steps:
    """What happens to a leader, in order, in the words of the table; of its successor only what is asked for."""

    def __init__(self, members: Dict[str, Member], leader: Member) -> None:
        self.leader = leader
        self._members = members
        self._queue: queue.Queue[str] = queue.Queue()

    def note(self, what: str) -> None:
        self._queue.put(what)

    def note_loss(self, leadership: Leadership) -> None:
        if not self.leader.is_leader:
            self.note("`is_leader` is false")
        if leadership.lost.is_set():
            self.note("`lost` is set")

    def watch_callbacks(self) -> None:

        def lost(leadership: Leadership) -> None:
            self.note_loss(leadership)
            self.note("`on_lost`")

        self.leader.on_lost(lost)
        self.leader.on_leader_changed(lambda leader_id, term: leader_id or self.note("`on_leader_changed`"))

    def watch_successor(self) -> None:
        for member in self._members.values():
            if member is not self.leader:
                member.on_elected(lambda leadership: self.note("the successor's `on_elected`"))

    def ask_around(self) -> None:
        """Let the others answer each other for a while: one that was told too early to lead has begun to by then."""
        for _ in range(20):
            for member in self._members.values():
                if member is not self.leader:
                    with contextlib.suppress(NotLeader):
                        member.verify(PATIENCE)

    def expect(self, row: str) -> None:
        wanted = TABLE[row]
        assert [self._queue.get(timeout=PATIENCE) for _ in wanted] == wanted


def test_every_row_of_the_table_is_walked() -> None:
    source = Path(__file__).read_text(encoding="utf-8")
    assert len(TABLE) == 9
    assert {row for row in TABLE if f'expect("{row}")' in source} == set(TABLE)


@pytest.fixture
def steps(cluster: Dict[str, Member]) -> Steps:
    return Steps(cluster, leader_of(cluster))


def test_the_table_tells_what_happens_when_a_member_is_elected(folder: Path) -> None:
    member = Member("a", min_nodes=1, timing=SLOW)
    steps = Steps({}, member)

    @member.on_elected
    def elected(leadership: Leadership) -> None:
        if member.is_leader:
            steps.note("`is_leader` is true")
        steps.note("`on_elected`")

    member.on_leader_changed(lambda leader_id, term: steps.note("`on_leader_changed`"))
    with member:
        steps.expect("it is elected")


def test_the_table_tells_what_happens_when_a_leader_is_cut_off(folder: Path) -> None:
    with running(members_in(folder, QUICK)) as members:
        steps = Steps(members, leader_of(members))
        steps.watch_callbacks()
        for member in members.values():
            if member is not steps.leader:
                member.stop()
        steps.expect("it is cut off from the majority")


@pytest.mark.parametrize("how", [Member.transfer_leadership, Member.resign], ids=lambda f: f.__name__)
def test_the_table_tells_what_happens_at_a_handover(steps: Steps, how: Callable[[Member], None]) -> None:
    steps.watch_callbacks()
    steps.watch_successor()
    how(steps.leader)
    steps.expect("it transfers leadership or resigns")


def test_the_table_tells_what_happens_when_a_leader_is_stopped(steps: Steps) -> None:
    steps.watch_callbacks()
    steps.leader.stop()
    steps.note("`stop()` returns")
    steps.expect("it is stopped")


def test_the_table_tells_what_happens_when_on_elected_raises(log: Any) -> None:
    member = Member("a", min_nodes=1, timing=SLOW)
    steps = Steps({}, member)

    class Watch(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.exc_info:
                steps.note("the log has the exception")

    watch = Watch()
    logging.getLogger("raftlite").addHandler(watch)
    try:

        @member.on_elected
        def elected(leadership: Leadership) -> None:
            steps.note("`on_elected`")
            raise RuntimeError("the program's own")

        member.on_lost(steps.note_loss)
        member.on_lost(lambda leadership: steps.note("`on_lost`"))
        member.on_leader_changed(lambda leader_id, term: steps.note("`on_leader_changed`"))
        with member:
            steps.expect("its `on_elected` raises")
    finally:
        logging.getLogger("raftlite").removeHandler(watch)


def test_the_table_tells_what_happens_when_a_body_ends(steps: Steps) -> None:
    with steps.leader.leadership(PATIENCE) as leadership:
        steps.note("the body")
    steps.note_loss(leadership)
    steps.note("the code behind it")
    steps.expect("the body of `leadership()` ends")


def test_the_table_tells_what_happens_when_a_body_raises(steps: Steps) -> None:
    with pytest.raises(ZeroDivisionError), steps.leader.leadership(PATIENCE) as leadership:
        steps.note("the body")
        raise ZeroDivisionError
    steps.note_loss(leadership)
    steps.note("the caller has the exception")
    steps.expect("the body of `leadership()` raises")


@pytest.mark.parametrize(
    "how", [Member.transfer_leadership, Member.resign, lambda member: threading.Thread(target=member.stop).start()]
)
def test_the_table_tells_what_happens_when_a_leader_hands_over_while_a_body_runs(
    steps: Steps, how: Callable[[Member], None]
) -> None:
    steps.watch_successor()
    with steps.leader.leadership(PATIENCE) as leadership:
        how(steps.leader)
        assert leadership.lost.wait(PATIENCE)
        steps.note_loss(leadership)
        steps.ask_around()
        steps.note("the body ends")
    steps.expect("it hands over while a body runs")


LEADER = """
import sys
from raftlite import Member, Timing
peers = dict(zip("abc", sys.argv[1:]))
timing = Timing(0.05, 1.0, 5.0)
with Member("a", peers=peers, listen=peers["a"], authkey="k", min_nodes=3, timing=timing) as member:
    member.wait_until_leader(30)
    print("leads")
    sys.stdin.read()
"""


@pytest.mark.slow
def test_the_table_tells_what_happens_when_a_leader_is_killed(folder: Path, start_child: Any) -> None:
    survivors = members_in(folder, authkey="k", min_nodes=3)
    del survivors["a"]
    with running(survivors):
        child = start_child(LEADER, *(str(folder / name) for name in "abc"))
        assert child.read_line() == "leads"
        steps: queue.Queue[Tuple[str, str]] = queue.Queue()
        for member in survivors.values():
            assert eventually(lambda member=member: member.leader_id, "followed") == "a"
            # There is proof of a death only for whoever has been there itself, and a vote only of whoever knows that
            # it has voted in the first election: members that keep no votes would abstain for two hours.
            eventually(lambda member=member: not member.status().unreachable, "connected")
            eventually(lambda member=member: member.membership.term > 0, "stamped")
            watch_survivor(member, steps)
        child.kill()
        seen: List[Tuple[str, str]] = []
        while not any("on_elected" in what for _, what in seen):
            try:
                seen.append(steps.get(timeout=PATIENCE))
            except queue.Empty:
                pytest.fail(f"nobody was elected: {[member.status() for member in survivors.values()]}")
        told = Steps({}, member)
        for name, what in seen:
            if name == seen[-1][0]:
                told.note(what)
        told.expect("its process is killed")


def watch_survivor(member: Member, steps: queue.Queue[Tuple[str, str]]) -> None:
    def note(what: str) -> None:
        steps.put((member.node_id, what))

    member.on_elected(lambda leadership: note("the successor's `on_elected`"))
    member.on_leader_changed(lambda leader_id, term: leader_id or note("the successor's `on_leader_changed`"))


# --- A body ----------------------------------------------------------------------------------------------------------


def test_a_body_runs_with_the_grant_and_leaves_the_lead_to_another(cluster: Dict[str, Member]) -> None:
    leader = leader_of(cluster)
    with leader.leadership(PATIENCE) as leadership:
        assert leadership.valid and leader.is_leader
    assert not leader.is_leader
    assert leadership.lost.is_set()
    assert leader_of(cluster) is not leader


@pytest.mark.slow
def test_whoever_does_not_lead_in_time_gets_no_body(cluster: Dict[str, Member]) -> None:
    leader = leader_of(cluster)
    follower = next(member for member in cluster.values() if member is not leader)
    sentence = f"{follower.node_id} does not lead after 0.01 s: {leader.node_id} leads"
    with pytest.raises(TimeoutError, match=sentence), follower.leadership(0.01):
        pytest.fail("it runs")


def test_a_body_does_not_resign_the_next_grant() -> None:
    """It may end late, when this member leads again."""
    with a_leader() as scene:
        with scene.thread.holding(scene.thread.wait_until_leader(PATIENCE)) as first:
            scene.thread.resign()
            assert first.lost.wait(PATIENCE)
            settle(scene.thread)
            scene.pass_time(3.5)  # its own timeout, and the two for which it leaves the others to lead
            second = scene.thread.wait_until_leader(PATIENCE)
        settle(scene.thread)
        assert second.token > first.token
        assert second.valid


def test_a_body_may_stop_its_member(cluster: Dict[str, Member]) -> None:
    """It is not waited for: it could not end. A handover that waited for it would wait for an election timeout."""
    leader = leader_of(cluster)
    with leader.leadership(PATIENCE) as leadership:
        leader.stop()  # which gives up after 5 seconds
        assert leadership.lost.is_set()
    with pytest.raises(MemberStopped):
        leader.wait_for_leader(PATIENCE)


def test_two_bodies_of_one_grant_end_it_once(alone: Member) -> None:
    lost: queue.Queue[Leadership] = queue.Queue()
    alone.on_lost(lost.put)
    with alone.leadership(PATIENCE) as outer, alone.leadership(PATIENCE) as inner:
        assert inner is outer
    assert lost.get(timeout=PATIENCE) is outer
    alone.stop(PATIENCE)
    assert lost.empty()


def test_the_successor_is_not_told_before_the_body_ends() -> None:
    with a_leader() as scene:
        with scene.thread.holding(scene.thread.leadership):
            scene.thread.transfer_leadership("b")
            settle(scene.thread)
            assert not scene.thread.is_leader
            assert not scene.followers[0].drain(TimeoutNow)
        scene.followers[0].expect(TimeoutNow)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings(FORKS_ON_PURPOSE)
def test_a_body_that_ends_in_a_fork_too_ends_in_the_parent_alone() -> None:
    """The copy of the member in the child is dead: nobody hands over there, and nothing is raised."""
    with a_leader() as scene:
        pid = fork_in_body(scene)
        assert os.WEXITSTATUS(os.waitpid(pid, 0)[1]) == 0
        scene.followers[0].expect(TimeoutNow)


def fork_in_body(scene: Scene) -> int:
    pid = -1
    try:
        with scene.thread.holding(scene.thread.leadership):
            scene.thread.transfer_leadership("b")
            settle(scene.thread)
            pid = os.fork()
    except BaseException:
        if pid == 0:
            os._exit(1)
        raise
    if pid == 0:
        os._exit(0)
    return pid


# --- A job that is run again -----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_job_is_run_again_each_time_its_member_is_elected() -> None:
    tokens: List[int] = []

    def job(leadership: Leadership) -> None:
        tokens.append(leadership.token)
        if len(tokens) == 2:
            member.resign()
            assert leadership.lost.wait(PATIENCE)
            leadership.check()  # raises: the end of this grant, and of nothing else
        if len(tokens) == 3:
            member.stop()

    with Member("a", min_nodes=1, timing=QUICK) as member:
        member.run(job)
    assert len(tokens) == 3 and tokens == sorted(set(tokens))


def test_a_job_that_raises_resigns_and_its_exception_reaches_the_caller(cluster: Dict[str, Member]) -> None:
    leader = leader_of(cluster)
    grants: List[Leadership] = []

    def job(leadership: Leadership) -> None:
        grants.append(leadership)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        leader.run(job)
    assert not leader.is_leader and grants[0].lost.is_set()
    assert leader_of(cluster) is not leader


def test_the_loss_of_another_grant_is_an_error_of_the_job(alone: Member) -> None:
    def job(leadership: Leadership) -> None:
        raise LeadershipLost("another cluster's")

    with pytest.raises(LeadershipLost, match="another cluster's"):
        alone.run(job)


def test_stop_ends_a_run_that_waits_for_its_turn(cluster: Dict[str, Member]) -> None:
    leader = leader_of(cluster)
    follower = next(member for member in cluster.values() if member is not leader)
    running = threading.Thread(target=follower.run, args=(lambda leadership: None,))
    running.start()
    follower.stop(PATIENCE)
    running.join(PATIENCE)
    assert not running.is_alive()


def test_a_member_that_is_removed_does_not_end_its_run_in_silence(cluster: Dict[str, Member]) -> None:
    leader = leader_of(cluster)
    follower = next(member for member in cluster.values() if member is not leader)
    told: queue.Queue[BaseException] = queue.Queue()

    def run() -> None:
        try:
            follower.run(lambda leadership: None)
        except MemberStopped as error:
            told.put(error)

    running = threading.Thread(target=run)
    running.start()
    leader.remove_node(follower.node_id, timeout=PATIENCE)
    error = told.get(timeout=PATIENCE)
    assert str(error) == f"{follower.node_id} was removed from the cluster and has stopped"
    running.join(PATIENCE)


def test_a_member_that_starts_again_runs_jobs_again() -> None:
    member = Member("a", min_nodes=1, timing=SLOW)
    tokens: List[int] = []

    def job(leadership: Leadership) -> None:
        tokens.append(leadership.token)
        member.stop()

    for _ in range(2):
        member.start()
        member.run(job)
    assert len(tokens) == 2 and tokens[0] < tokens[1]


def test_a_signal_handler_may_stop_the_member_in_the_middle_of_its_job(alone: Member) -> None:
    def job(leadership: Leadership) -> None:
        signal.raise_signal(signal.SIGUSR1)
        assert leadership.lost.is_set()

    before = signal.signal(signal.SIGUSR1, lambda number, frame: alone.stop(PATIENCE))
    try:
        alone.run(job)
    finally:
        signal.signal(signal.SIGUSR1, before)


# --- A fresh round ---------------------------------------------------------------------------------------------------


def test_the_leader_is_confirmed_and_nobody_else(cluster: Dict[str, Member]) -> None:
    leader = leader_of(cluster)
    assert leader.verify(PATIENCE) is leader.wait_until_leader(PATIENCE)
    for member in cluster.values():
        if member is not leader:
            with pytest.raises(NotLeader, match=f"{member.node_id} does not lead"):
                member.verify(PATIENCE)


def test_a_leader_without_a_majority_is_not_confirmed(cluster: Dict[str, Member]) -> None:
    """Though its lease still holds."""
    leader = leader_of(cluster)
    for member in cluster.values():
        if member is not leader:
            member.stop()
    assert leader.is_leader
    with pytest.raises(TimeoutError, match=r"no majority has answered after 0\.05 s"):
        leader.verify(timeout=0.05)
    assert leader.is_leader


# --- The same for an isolated member ---------------------------------------------------------------------------------


def isolated(timing: Timing = SLOW) -> Member:
    return Member("a", min_nodes=1, timing=timing, isolated=True)


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="this system or Python cannot isolate")
class TestIsolated:
    def test_it_holds_leadership_for_a_body_and_verifies_it(self) -> None:
        with isolated() as member:
            with member.leadership(PATIENCE) as leadership:
                assert member.verify(PATIENCE) is leadership
            assert leadership.lost.is_set() and not member.is_leader
            with pytest.raises(NotLeader, match="a does not lead"):
                member.verify(PATIENCE)

    @pytest.mark.slow
    def test_it_runs_a_job_again_until_it_is_stopped(self) -> None:
        tokens: List[int] = []

        def job(leadership: Leadership) -> None:
            tokens.append(leadership.token)
            if len(tokens) == 2:
                member.stop()

        with isolated(QUICK) as member:
            member.run(job)
        assert len(tokens) == 2

    @pytest.mark.slow
    def test_a_handover_waits_for_the_body(self, folder: Path) -> None:
        # They begin by themselves; where two collide, the next attempt is an election timeout away.
        timing = Timing(heartbeat_interval=0.03, election_timeout=5.0, message_timeout=5.0)
        with running(members_in(folder, timing, data_dir=folder, isolated=True)) as members:
            steps = Steps(members, leader_of(members))
            steps.watch_successor()
            with steps.leader.leadership(PATIENCE) as leadership:
                steps.leader.transfer_leadership()
                assert leadership.lost.wait(PATIENCE)
                steps.note_loss(leadership)
                steps.ask_around()
                steps.note("the body ends")
            steps.expect("it hands over while a body runs")


# --- Signals ---------------------------------------------------------------------------------------------------------

ENDED_BY_TERM = """
import signal, sys, time
from raftlite import Member, Timing
if sys.argv[1] == "turned into an end":
    {line}
member = Member("a", min_nodes=1, timing=Timing(0.1, 600.0))  # no lease runs out while the test runs
member.on_lost(lambda leadership: print("on_lost", flush=True))
with member:
    member.wait_until_leader()
    print("leads", flush=True)
    while True:
        time.sleep(1)
"""


@pytest.mark.parametrize(("kind", "told"), [("turned into an end", ["on_lost"]), ("left alone", [])])
def test_a_program_that_is_ended_by_term_stops_in_order_with_the_readmes_line(
    kind: str, told: List[str], start_child: Any
) -> None:
    """And without it ends on the spot, as the README says, too."""
    line = re.search(r"To stop in order then, too: `(.*)`", README)
    assert line is not None
    child = start_child(ENDED_BY_TERM.format(line=line[1]), kind)
    child.expect("leads")
    child.send_signal(signal.SIGTERM)
    assert child.read_all() == told
    assert child.wait() == (0 if told else -signal.SIGTERM)
    assert child.errors == ""
