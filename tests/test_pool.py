"""One coordinator among the workers of a pool, whatever becomes of the workers, the callbacks and the parent."""

from __future__ import annotations

import contextlib
import functools
import multiprocessing
import os
import pickle
import random
import signal
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import forkserver, resource_tracker
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Callable, Dict, Iterator, List

import pool_workers
import pytest
from chaos.checker import violations
from children import FORKS_ON_PURPOSE
from pool_workers import PATIENCE, QUICK, STEADY, noted, wait_until

from raftlite import ConfigError, MemberStopped, pool, pool_seat
from raftlite.pool import PoolElection, current

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="these tests kill as Unix does"),
    pytest.mark.filterwarnings(FORKS_ON_PURPOSE),
]

FORK = multiprocessing.get_context("fork") if hasattr(os, "fork") else None


@pytest.fixture(scope="module", autouse=True)
def helpers_of_multiprocessing() -> Iterator[None]:
    """They are started once, and kept for the next pool with what they have open."""
    resource_tracker.ensure_running()
    forkserver.ensure_running()
    yield
    forkserver._forkserver._stop()


@pytest.fixture
def journal(tmp_path: Path) -> str:
    return str(tmp_path / "journal")


@contextlib.contextmanager
def executor(count: int, context: Any, initializer: Callable[[], None]) -> Iterator[Callable[..., List[Any]]]:
    """What `started` yields, for the other kind of pool."""
    with ProcessPoolExecutor(count, mp_context=context, initializer=initializer) as workers:
        yield lambda function, items: list(workers.map(function, items, timeout=PATIENCE))


@contextlib.contextmanager
def pool_of(count: int, context: Any, initializer: Callable[[], None]) -> Iterator[Callable[..., List[Any]]]:
    with context.Pool(count, initializer=initializer) as workers:
        yield lambda function, items: workers.map_async(function, items, chunksize=1).get(PATIENCE)
        workers.close()
        workers.join()


def events(journal: str, what: str) -> List[Dict[str, Any]]:
    return [told for told in pool_workers.read(journal) if told["what"] == what]


def elected_after(journal: str, token: int) -> Dict[str, Any]:
    """The first grant with a higher token."""
    return wait_until(lambda: [told for told in events(journal, "elected") if told["token"] > token])[0]


def busy(folder: Path, pids: Any) -> bool:
    """Whether these workers are in a task: only then does one that is killed leave the queues of its pool in order."""
    return all((folder / f"busy-{pid}").exists() for pid in pids)


def pids_of(workers: Any) -> List[int]:
    return [process.pid for process in workers._pool if process.exitcode is None]


# --- Pools that end as they should -------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
@pytest.mark.parametrize("kind", [pool_of, executor])
def test_one_worker_of_any_pool_coordinates(kind, method, journal, tmp_path):
    """The workers share the slots, the parent and the tasks know who leads, and nothing remains."""
    with noted(journal, 2) as election:
        folder = election.join.folder
        with kind(2, multiprocessing.get_context(method), election.join) as run:
            slots = run(functools.partial(pool_workers.meet, str(tmp_path), 2), range(2))
            leader = election.wait_for_leader(PATIENCE)
            members = run(pool_workers.membership, range(1))
        wait_until(lambda: len(events(journal, "lost")) == len(events(journal, "elected")))
    assert sorted(slots) == ["w0", "w1"]
    assert leader in {told["slot"] for told in events(journal, "elected")}
    assert members == [["keeper", "w0", "w1"]]
    assert not os.path.exists(folder)


def test_ctrl_c_does_not_reach_the_keeper():
    """It is no worker, ends with its parent, and would say where amid its start the signal came."""
    with PoolElection(workers=2) as election:
        assert os.getsid(election._keeper.pid) != os.getsid(0)


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def test_ctrl_c_before_the_keeper_knows_what_it_is_for_leaves_nothing_behind(monkeypatch, capfd):
    """Neither the lifeline, nor a keeper that waits or complains."""
    monkeypatch.setattr(pool, "json", SimpleNamespace(dumps=interrupt))
    with pytest.raises(KeyboardInterrupt), PoolElection(workers=2):
        pass
    assert capfd.readouterr().err == ""


def test_ctrl_c_once_the_keeper_is_started_leaves_nothing_behind(monkeypatch):
    """It ends by itself, for the lifeline has ended."""
    started = []

    def start_keeper(invitation, start=pool._start_keeper):
        started.append((invitation.folder, start(invitation)))
        wait_until(lambda: os.path.exists(invitation.addresses[pool_seat.KEEPER]), "the keeper takes part")
        raise KeyboardInterrupt

    monkeypatch.setattr(pool, "_start_keeper", start_keeper)
    with pytest.raises(KeyboardInterrupt), PoolElection(workers=2):
        pass
    folder, keeper = started.pop()
    keeper.wait(PATIENCE)
    assert not os.path.exists(folder)


def test_a_keeper_whose_parent_is_gone_at_once_does_not_complain():
    """Ctrl-C or kill -9 amid its start."""
    command = [sys.executable, "-c", pool._BOOTSTRAP, str(Path(pool.__file__).parent.parent)]
    ended = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.slow
def test_every_worker_that_ends_gives_its_slot_back(journal):
    """Each process has one task only. Whoever led has handed over in order, for its `on_lost` was called."""
    with noted(journal, 3) as election:
        with FORK.Pool(3, initializer=election.join, maxtasksperchild=1) as workers:
            results = workers.map_async(pool_workers.membership, range(9), chunksize=1).get(PATIENCE)
            workers.close()
            workers.join()
        ended = wait_until(lambda: len(events(journal, "lost")) == len(events(journal, "elected")))
    assert ended
    assert results == [["w0", "w1", "w2"]] * 9
    assert {told["slot"] for told in events(journal, "elected")} <= {"w0", "w1", "w2"}


def test_no_worker_of_an_even_number_ever_sees_the_keeper_lead(journal):
    with noted(journal, 2) as election, FORK.Pool(2, initializer=election.join, maxtasksperchild=1) as workers:
        leaders = workers.map_async(pool_workers.leader, range(4), chunksize=1).get(PATIENCE)
    assert set(leaders) <= {"w0", "w1"}


def test_the_workers_of_a_pool_of_one_lead_one_after_the_other(journal):
    with noted(journal, 1) as election, FORK.Pool(1, initializer=election.join, maxtasksperchild=1) as workers:
        assert workers.map_async(pool_workers.lead, range(3), chunksize=1).get(PATIENCE) == ["w0"] * 3
        workers.close()
        workers.join()
    tokens = [told["token"] for told in events(journal, "elected")]
    assert len(tokens) >= 3 and tokens == sorted(set(tokens))


def test_an_initializer_of_ones_own_may_join(journal):
    with noted(journal, 1) as election, FORK.Pool(1, pool_workers.initialize, (election.join, journal)) as workers:
        assert workers.apply_async(pool_workers.lead).get(PATIENCE) == "w0"
    assert [told["slot"] for told in events(journal, "initialized")] == ["w0"]


@pytest.mark.slow
def test_a_worker_beyond_the_slots_works_without_a_member_until_one_is_free(journal, tmp_path):
    folder = str(tmp_path)
    with noted(journal, 2) as election, FORK.Pool(3, initializer=election.join) as workers:
        slots = workers.map_async(functools.partial(pool_workers.meet, folder, 3), range(3), chunksize=1).get(PATIENCE)
        without = "this worker takes no part in the election: all 2 slots are taken by other workers"
        assert sorted(slots) == [without, "w0", "w1"]
        changed = functools.partial(pool_workers.change_seats, tempfile.mkdtemp(dir=folder), 3)
        assert sorted(workers.map_async(changed, range(3), chunksize=1).get(PATIENCE)) == ["w0", "w0", "w1"]


def test_in_a_fork_of_a_worker_there_is_no_member():
    with PoolElection(1, timing=QUICK) as election, FORK.Pool(1, initializer=election.join) as workers:
        assert workers.apply_async(pool_workers.ask_in_a_fork).get(PATIENCE) == 7


# --- Workers that die --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [2, 3])
def test_another_worker_coordinates_when_the_first_is_killed_in_a_task(count, journal, tmp_path):
    """Its task is lost, as in any such pool, but given again it is done, by a worker on the slot that became free."""
    folder = str(tmp_path)
    with noted(journal, count, timing=STEADY) as election, FORK.Pool(count, initializer=election.join) as workers:
        tasks = [workers.apply_async(pool_workers.work_until, (folder, "gate")) for _ in range(count + 1)]
        wait_until(lambda: busy(tmp_path, pids_of(workers)))
        first = elected_after(journal, 0)
        os.kill(first["pid"], signal.SIGKILL)
        second = elected_after(journal, first["token"])
        assert second["pid"] != first["pid"]
        wait_until(lambda: len(list(tmp_path.glob("busy-*"))) == count + 1)  # the one more is the replacement's
        assert election.wait_for_leader(PATIENCE) == second["slot"]
        Path(folder, "gate").touch()
        done = wait_until(lambda: [task for task in tasks if task.ready()] if all_but_one(tasks) else [])
        assert sorted(task.get() for task in done) == [f"w{i}" for i in range(count)]


def all_but_one(tasks: List[Any]) -> bool:
    return sum(task.ready() for task in tasks) == len(tasks) - 1


@pytest.mark.slow
def test_the_next_executor_goes_on_where_one_was_broken(journal, tmp_path):
    """An executor ends all its workers when one is killed; the next one's find their slots, and the tokens grow."""
    with noted(journal, 2) as election:
        with ProcessPoolExecutor(2, mp_context=FORK, initializer=election.join) as workers:
            tasks = [workers.submit(pool_workers.work_until, str(tmp_path), "never") for _ in range(2)]
            first = elected_after(journal, 0)
            os.kill(first["pid"], signal.SIGKILL)
            with pytest.raises(BrokenProcessPool):
                tasks[0].result(PATIENCE)
        token = max(told["token"] for told in events(journal, "elected"))
        with ProcessPoolExecutor(2, mp_context=FORK, initializer=election.join) as workers:
            assert workers.submit(pool_workers.membership).result(PATIENCE) == ["keeper", "w0", "w1"]
            assert elected_after(journal, token)["pid"] in workers._processes


class Havoc:
    """Kills and stops workers of a pool at random, while each is in a task, and gives the pool new tasks instead."""

    def __init__(self, workers: Any, election: PoolElection, folder: Path, seed: int) -> None:
        self.workers, self.election, self.folder = workers, election, folder
        self.rng = random.Random(seed)
        self.watch = functools.partial(pool_workers.watch_until, str(folder), "gate")
        self.tasks = [workers.apply_async(self.watch) for _ in range(election.workers)]
        self.kills = self.stops = self.leaders_killed = 0

    def strike(self) -> None:
        for task in self.tasks:
            assert not task.ready(), task.get()  # one that fails leaves its worker where it must not be killed
        pids = wait_until(self.pids_in_tasks)
        if self.rng.random() < 0.2:
            self.stop_for_a_while(self.rng.choice(pids))
        else:
            for pid in self.rng.sample(pids, min(len(pids), self.rng.choice([1, 1, 1, 2]))):
                self.kill(pid)
        self.election.wait_for_leader(PATIENCE)
        self.look_at_the_cluster()
        threading.Event().wait(self.rng.uniform(0, 0.6))

    def pids_in_tasks(self) -> List[int]:
        return [pid for pid in pids_of(self.workers) if busy(self.folder, [pid])]

    def kill(self, pid: int) -> None:
        journal = str(self.folder / "journal")
        self.leaders_killed += any(told["pid"] == pid for told in events(journal, "elected")[-1:])
        os.kill(pid, signal.SIGKILL)
        self.kills += 1
        self.tasks.append(self.workers.apply_async(self.watch))

    def stop_for_a_while(self, pid: int) -> None:
        os.kill(pid, signal.SIGSTOP)
        threading.Event().wait(self.rng.uniform(0, 1))
        os.kill(pid, signal.SIGCONT)
        self.stops += 1

    def look_at_the_cluster(self) -> None:
        for slot in self.election.join.slots:
            status = self.election.join.ask(slot)
            if status is not None:
                ids = {node[0] for node in status["membership"]["nodes"]}
                assert ids == set(self.election.join.addresses)


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize(("count", "method", "seed"), [(4, "fork", 1), (3, "fork", 2), (2, "spawn", 3)])
def test_at_most_one_coordinates_while_workers_die_at_random(count, method, seed, journal, tmp_path):
    """One coordinates again after each blow, on the same voters as ever, and nothing is left behind."""
    with noted(journal, count) as election:
        with multiprocessing.get_context(method).Pool(count, initializer=election.join) as workers:
            havoc = Havoc(workers, election, tmp_path, seed)
            for _ in range(30):
                havoc.strike()
            wait_until(lambda: len(havoc.pids_in_tasks()) == count)
            (tmp_path / "gate").touch()
            wait_until(lambda: sum(task.ready() for task in havoc.tasks) == count)
            slots = [task.get() for task in havoc.tasks if task.ready()]
        assert sorted(slots) == [f"w{i}" for i in range(count)]
        folder = election.join.folder
    led = pool_workers.seen(str(tmp_path))
    print(
        f"{havoc.kills} kills, {havoc.leaders_killed} of them of a leader, {havoc.stops} stops, {len(led)} grants seen"
    )
    assert havoc.leaders_killed and len(led) > havoc.leaders_killed
    assert violations(led, []) == []
    assert not os.path.exists(folder)


@pytest.mark.slow
def test_one_executor_after_the_other_is_broken_and_the_election_goes_on(journal):
    with noted(journal, 3) as election:
        token = 0
        for round_ in range(8):
            with ProcessPoolExecutor(3, mp_context=FORK, initializer=election.join) as workers:
                tasks = [workers.submit(pool_workers.lead) for _ in range(6)]
                election.wait_for_leader(PATIENCE)
                token = elected_after(journal, token)["token"]  # its callback is called a moment later
                os.kill(random.Random(round_).choice(list(workers._processes)), signal.SIGKILL)
                with pytest.raises(BrokenProcessPool):
                    for task in tasks:
                        task.result(PATIENCE)
        folder = election.join.folder
    tokens = [told["token"] for told in events(journal, "elected")]  # two processes may write in another order
    assert len(tokens) >= 8 and len(set(tokens)) == len(tokens)
    assert not os.path.exists(folder)


# --- Callbacks that do what they should not ----------------------------------------------------------------------


@pytest.mark.slow
def test_callbacks_that_raise_do_not_stop_the_pool(journal):
    """Whoever fails to begin resigns, and another is elected."""
    options = {"on_elected": functools.partial(pool_workers.fail, journal)}
    with noted(journal, 2, **options) as election, FORK.Pool(2, initializer=election.join) as workers:
        wait_until(lambda: len({told["slot"] for told in events(journal, "elected")}) == 2)
        assert workers.map_async(pool_workers.slot, range(4)).get(PATIENCE)


@pytest.mark.slow
def test_the_election_goes_on_beside_a_callback_that_hangs_and_its_worker_ends_all_the_same(journal, monkeypatch):
    monkeypatch.setattr(pool_seat, "STOP_PATIENCE", 0.2)
    options = {"on_elected": functools.partial(pool_workers.hang, journal)}
    with noted(journal, 2, **options) as election, FORK.Pool(2, initializer=election.join) as workers:
        elected_after(journal, 0)
        assert election.wait_for_leader(PATIENCE) in ("w0", "w1")
        workers.close()
        workers.join()


@pytest.mark.slow
def test_a_worker_whose_callback_stops_its_member_works_on_without_it(journal):
    """And its slot is free, for a replacement."""
    options = {"on_elected": functools.partial(pool_workers.stop_itself, journal)}
    with noted(journal, 2, **options) as election, FORK.Pool(2, initializer=election.join) as workers:
        wait_until(lambda: len({told["pid"] for told in events(journal, "elected")}) == 2)
        assert set(workers.map_async(pool_workers.slot, range(4)).get(PATIENCE)) <= {"w0", "w1"}
        with FORK.Pool(1, initializer=election.join) as replacement:
            wait_until(lambda: replacement.apply_async(pool_workers.slot).get(PATIENCE) in ("w0", "w1"), "a seat")


def test_a_callback_that_forks_leads_on_and_its_fork_has_no_member(journal):
    options = {"on_elected": functools.partial(pool_workers.fork_away, journal)}
    with noted(journal, 1, **options) as election, FORK.Pool(1, initializer=election.join) as workers:
        assert workers.apply_async(pool_workers.lead).get(PATIENCE) == "w0"
        assert wait_until(lambda: events(journal, "forked"))[0]["slot"] == "ForkedError"


# --- The end of the election before that of the pool -------------------------------------------------------------


@pytest.mark.slow
def test_workers_that_outlive_the_election_leave_it(journal):
    with contextlib.ExitStack() as stack:
        with noted(journal, 2) as election:
            folder = election.join.folder
            workers = stack.enter_context(FORK.Pool(2, initializer=election.join, maxtasksperchild=3))
            assert workers.apply_async(pool_workers.slot).get(PATIENCE) in ("w0", "w1")
            elected_after(journal, 0)
        wait_until(lambda: len(events(journal, "lost")) == len(events(journal, "elected")))
        assert not os.path.exists(folder)
        over = "this worker takes no part in the election: the election of its pool is over"
        wait_until(lambda: workers.apply_async(pool_workers.slot).get(PATIENCE) == over, "a replacement joins in vain")
    assert not os.path.exists(folder)


PARENT = """
import sys, time, signal
sys.path.insert(0, sys.argv[1])
import multiprocessing, concurrent.futures
from pool_workers import *

journal, kind = sys.argv[2:]
context = multiprocessing.get_context("fork")
with noted(journal, 2) as election:
    if kind == "pool":
        workers = context.Pool(2, initializer=election.join)
        tasks = [workers.apply_async(membership) for _ in range(2)]
        tasks[0].get(PATIENCE)
        pids = [process.pid for process in workers._pool]
    else:
        workers = concurrent.futures.ProcessPoolExecutor(2, mp_context=context, initializer=election.join)
        tasks = [workers.submit(membership) for _ in range(2)]
        tasks[0].result(PATIENCE)
        pids = list(workers._processes)
    print(election.join.folder, *pids, flush=True)
    signal.pause()
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["pool", "executor"])
def test_nobody_coordinates_after_the_parent_was_killed(kind, journal, start_child):
    """Workers of an executor wait for ever then, but not as coordinators; the last one to leave removes the folder."""
    parent = start_child(PARENT, Path(__file__).parent, journal, kind)
    folder, *pids = parent.read_line().split()
    try:
        elected_after(journal, 0)
        parent.kill()
        wait_until(lambda: not os.path.exists(folder), "the folder is removed")
        wait_until(lambda: len(events(journal, "lost")) == len(events(journal, "elected")))
        if kind == "pool":
            wait_until(lambda: not any(map(is_running, map(int, pids))), "the workers end by themselves")
    finally:
        for pid in map(int, pids):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


# --- Settings, secrets and places --------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, -1, True, "4", 2.0, 101, None])
def test_the_number_of_workers_is_checked(workers):
    with pytest.raises(ConfigError, match=r"^workers is .*, but must be a whole number from 1 to 100$"):
        PoolElection(workers)


def test_other_settings_are_checked_before_anything_starts():
    with pytest.raises(ConfigError, match="on_elected is 'print', but must be callable"):
        PoolElection(2, on_elected="print")
    with pytest.raises(ConfigError, match="isolated is 1"):
        PoolElection(2, isolated=1)


def test_a_callback_that_no_worker_can_import_is_refused_where_that_matters(journal):
    """A pool that forks takes it."""
    led = multiprocessing.get_context("fork").Event()
    with PoolElection(1, on_elected=lambda leadership: led.set(), timing=QUICK) as election:
        with pytest.raises(ConfigError, match=r"^on_elected is '.*<lambda>' of test_pool, which a worker that is not"):
            multiprocessing.get_context("spawn").Pool(1, initializer=election.join)
        with FORK.Pool(1, initializer=election.join):
            assert led.wait(PATIENCE)


def test_the_key_is_shown_nowhere():
    with PoolElection(2, timing=QUICK) as election:
        key = election.join.authkey
        shown = repr(election) + repr(election.join) + str(vars(election))
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                shown += (process / "cmdline").read_bytes().decode(errors="replace")
                shown += (process / "environ").read_bytes().decode(errors="replace")
        assert len(key) == 32 and key.hex() not in shown and repr(key) not in shown
        assert os.stat(election.join.folder).st_mode & 0o777 == 0o700
        assert pickle.loads(pickle.dumps(election.join)).authkey == key


def test_what_is_out_of_place_is_told_so():
    election = PoolElection(2)
    with pytest.raises(MemberStopped, match="use it in a with statement"):
        election.join  # noqa: B018
    with pytest.raises(MemberStopped, match=r"has joined no election: give its pool initializer=election\.join"):
        current()
    with election:
        with pytest.raises(ConfigError, match="workers are processes, no threads"):
            election.join()
        with pytest.raises(MemberStopped, match="open already"):
            election.__enter__()
        with pytest.raises(TypeError, match=r"give the workers election\.join instead"):
            pickle.dumps(election)


def test_waiting_in_vain_says_how_many_workers_are_missing():
    with PoolElection(3) as election:
        assert election.leader_id is None
        with pytest.raises(TimeoutError, match=r"no leader after 0.01 s: 0 of 3 workers take part, but 2 must; "):
            election.wait_for_leader(0.01)


def test_a_long_temporary_folder_leaves_room_for_sockets(tmp_path, monkeypatch):
    deep = tmp_path / ("x" * 100)
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    with PoolElection(1, timing=QUICK) as election, FORK.Pool(1, initializer=election.join):
        assert election.wait_for_leader(PATIENCE) == "w0"
        assert len(election.join.addresses["w0"]) <= 100


@pytest.mark.slow
def test_without_room_for_sockets_they_are_ports_of_this_machine(monkeypatch):
    monkeypatch.setattr(pool, "LONGEST_PATH", 5)
    with PoolElection(2, timing=QUICK) as election, FORK.Pool(2, initializer=election.join):
        assert election.wait_for_leader(PATIENCE) in ("w0", "w1")
        assert election.join.addresses["w0"].startswith("127.0.0.1:")
