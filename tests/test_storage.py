"""Term, vote and membership survive a restart, whatever happens; a damaged file is never taken for an empty one."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sqlite3
import struct
import subprocess
import tempfile
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from raftlite import ElectionThread, Membership, MemoryStorage, NodeInfo, Saved, SQLiteStorage, StorageError, Timing
from raftlite import storage as storage_module
from raftlite.storage import APPLICATION_ID, FORMAT_VERSION, file_name

PATIENCE = 30.0
MEMBERSHIP = Membership(
    4, 2, (NodeInfo("a", address="10.0.0.1:7600"), NodeInfo("b", address="/run/b.sock"), NodeInfo("c", voter=False))
)
VOTE = Saved(7, "b", MEMBERSHIP)

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
needs_kill = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no kill -9")


@pytest.fixture
def tmp_path():
    """In memory where there is such a place: syncs cost nothing there, and `kill -9` is no power cut."""
    memory = "/dev/shm"
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as directory:
        yield Path(directory)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "votes.sqlite3"


@pytest.fixture
def used(path):
    """A file that was used and closed: it holds `VOTE`."""
    with closing(SQLiteStorage(path)) as storage:
        storage.save(Saved(6, "a", MEMBERSHIP))
        storage.save(VOTE)
    return path


def load(path):
    with closing(SQLiteStorage(path)) as storage:
        return storage.load()


# --- A save during which somebody closes it ----------------------------------------------------------------------


def test_a_save_that_has_begun_is_finished_by_whoever_saves_though_the_storage_is_closed(path, monkeypatch):
    """A disk that hangs holds up no `stop`; to close a database under SQLite's feet would end the whole program."""
    begun, go_on, failures = threading.Event(), threading.Event(), []
    write = storage_module._write

    def write_slowly(database, saved):
        begun.set()
        assert go_on.wait(PATIENCE)
        write(database, saved)

    def save():
        try:
            storage.save(VOTE)
        except StorageError as error:
            failures.append(error)

    storage = SQLiteStorage(path)
    monkeypatch.setattr(storage_module, "_write", write_slowly)
    saving = threading.Thread(target=save)
    saving.start()
    assert begun.wait(PATIENCE)
    storage.close()
    with pytest.raises(StorageError, match="another process or member has it open"):
        SQLiteStorage(path)
    go_on.set()
    saving.join(PATIENCE)
    assert failures == []
    with pytest.raises(StorageError, match="is closed"):
        storage.save(VOTE)
    monkeypatch.undo()
    assert load(path) == VOTE


def refusal(path):
    """Why the storage does not open the file."""
    with pytest.raises(StorageError) as error:
        SQLiteStorage(path).close()
    assert str(path) in str(error.value)
    return str(error.value)


def files(path):
    return sorted(found.name for found in path.parent.iterdir())


# --- The contract of every storage ------------------------------------------------------------------------------------


@pytest.fixture(params=["memory", "sqlite"])
def storage(request, tmp_path):
    with closing(MemoryStorage() if request.param == "memory" else SQLiteStorage(tmp_path / "votes")) as storage:
        yield storage


def test_nothing_saved_is_an_empty_vote(storage):
    assert storage.load() == Saved(0, None, None)


@pytest.mark.parametrize(
    "saved", [Saved(1, "a"), Saved(2), VOTE, Saved(2**53, "Zürich-東京-🗳" * 9, MEMBERSHIP)], ids=repr
)
def test_what_was_saved_last_is_loaded(storage, saved):
    storage.save(Saved(1, "z", Membership(1, 1, (NodeInfo("z"),))))
    storage.save(saved)
    assert storage.load() == saved


def test_a_member_that_starts_again_remembers_its_term(storage):
    """A cluster of one voter leads at once, in a term of its own each time."""
    for token in (1, 2):
        with ElectionThread("a", storage=storage, timing=Timing.fast(), min_nodes=1) as member:
            assert member.wait_until_leader(timeout=10).token == token
    assert storage.load().current_term == 2


def test_closing_twice_is_fine(storage):
    storage.close()
    storage.close()


# --- The name of a member's file ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "node_id, name",
    [
        ("a", "a.sqlite3"),
        ("Zürich 1/2", "Z%C3%BCrich%201%2F2.sqlite3"),
        ("n" * 128, "n" * 128 + ".sqlite3"),
        ("東" * 25, "%E6%9D%B1" * 25 + ".sqlite3"),
    ],
    ids=["short", "quoted", "128 letters", "225 bytes"],
)
def test_a_name_that_every_folder_takes_is_the_id_itself(node_id, name):
    """Also in versions to come: a member whose file is looked for elsewhere has forgotten its vote."""
    assert file_name(node_id) == name


def test_a_long_id_is_shortened_to_a_name_that_nobody_else_has(tmp_path):
    """SQLite and a draft append up to 21 bytes to it, and 255 are a name's most."""
    ids = ["東" * 26, "東" * 128, "東" * 127 + "京", "/" * 128, "🗳" * 128, "東" * 127 + "/"]
    names = [file_name(node_id) for node_id in ids]
    assert len({name.casefold() for name in names}) == len(ids)
    assert max(map(len, names)) < 200
    assert names[0].startswith("%E6%9D%B1" * 10 + "+")
    for name in names:
        with closing(SQLiteStorage(tmp_path / name)) as storage:
            storage.save(VOTE)
        assert load(tmp_path / name) == VOTE


# --- A file -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("saved", [Saved(), Saved(1, "a"), VOTE], ids=repr)
def test_a_vote_survives_closing_and_opening(path, saved):
    with closing(SQLiteStorage(path)) as storage:
        storage.save(Saved(1, "z", MEMBERSHIP))
        storage.save(saved)
    assert load(path) == saved
    assert files(path) == ["votes.sqlite3"]


def test_a_closed_storage_saves_nothing(path):
    storage = SQLiteStorage(path)
    storage.close()
    with pytest.raises(StorageError, match="is closed"):
        storage.save(VOTE)
    assert load(path) == Saved()


def test_a_vote_is_synced_to_the_disk_before_save_returns(path):
    """Write-ahead log, `synchronous=FULL`: each commit is synced, not only the checkpoints."""
    with closing(SQLiteStorage(path)) as storage:
        database = storage._database
        assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert database.execute("PRAGMA synchronous").fetchone() == (2,)
        assert not database.in_transaction
        storage.save(VOTE)
        assert not database.in_transaction


def test_a_long_life_leaves_a_small_file(path):
    """Thousands of saves: the log is folded into the file from time to time."""
    with closing(SQLiteStorage(path)) as storage:
        storage._database.execute("PRAGMA synchronous=OFF")
        for term in range(5_000):
            storage.save(Saved(term, "b", MEMBERSHIP))
        assert sum(found.stat().st_size for found in path.parent.iterdir()) < 10_000_000
    assert load(path) == Saved(4_999, "b", MEMBERSHIP)
    assert path.stat().st_size < 50_000


@pytest.mark.parametrize("name", ["a b", "ä", "100%", "q?x=1#y", "file:x", "'", ";", "[a]*", "-wal"])
def test_the_name_of_the_file_may_be_odd(tmp_path, name):
    path = tmp_path / name
    with closing(SQLiteStorage(path)) as storage:
        storage.save(VOTE)
    assert load(path) == VOTE
    assert files(path) == [name]


def test_the_path_may_be_relative_and_the_directory_change_later(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with closing(SQLiteStorage("votes")) as storage:
        monkeypatch.chdir("/")
        storage.save(VOTE)
        assert storage.path == tmp_path / "votes"
    assert load(tmp_path / "votes") == VOTE


def test_a_link_to_the_file_is_followed(used, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(used)
    assert load(link) == VOTE
    with closing(SQLiteStorage(link)):
        assert "another process or member has it open" in refusal(used)


# --- kill -9 ----------------------------------------------------------------------------------------------------------

KILL_SAVERS = """
    import os, random, signal, sys
    from raftlite import Membership, NodeInfo, Saved, SQLiteStorage

    def save_for_ever(path, output):
        storage = SQLiteStorage(path)
        term = storage.load().current_term
        while True:
            os.write(output, b"%d\\n" % term)
            term += 1
            members = tuple(NodeInfo(f"n{n}") for n in range(term % 30))  # rows of changing length
            storage.save(Saved(term, f"n{term % 7}", Membership(term, 1, members)))

    path, kills, rng = sys.argv[1], int(sys.argv[2]), random.Random(5)
    last = 0
    for _ in range(kills):
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            save_for_ever(path, writer)
        os.close(writer)
        with os.fdopen(reader) as reports:
            terms = [int(reports.readline()) for _ in range(rng.randrange(1, 5))]
            for _ in range(rng.randrange(20_000)):
                pass  # the kill comes anywhere between two reports
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            terms += [int(line) for line in reports]
        print(last, terms[0])
        last = terms[-1]
    print(last)
"""


@needs_fork
@needs_kill
def test_no_vote_is_lost_when_the_process_is_killed_100_times(path, start_child):
    """What `save` has returned for is there after kill -9; at most the one being written is there in addition."""
    child = start_child(KILL_SAVERS, path, 100)
    *kills, end = child.read_all()
    assert child.wait() == 0, child.errors
    assert len(kills) == 100
    for kill in kills:
        reported, found = map(int, kill.split())
        assert found - reported in (0, 1)
    assert int(end) > 100
    saved = load(path)
    assert saved.current_term - int(end) in (0, 1)
    assert saved.voted_for == f"n{saved.current_term % 7}"
    assert len(saved.membership.nodes) == saved.current_term % 30


KILL_AT_EACH_LINE = """
    import os, signal, sys
    from raftlite import SQLiteStorage, storage

    def kill_before_line(number):
        lines = 0

        def trace(frame, event, argument):
            nonlocal lines
            if frame.f_code is not storage._create.__code__:
                return None
            lines += event == "line"
            if lines == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return trace

        sys.settrace(trace)

    number, status = 0, signal.SIGKILL
    while status == signal.SIGKILL:
        number += 1
        pid = os.fork()
        if pid == 0:
            kill_before_line(number)
            SQLiteStorage(sys.argv[1] + str(number)).close()
            os._exit(0)
        status = os.waitpid(pid, 0)[1]
    print(number)
    sys.exit(status != 0)
"""


@needs_fork
@needs_kill
def test_a_process_that_is_killed_while_it_creates_the_file_leaves_nothing_odd(path, start_child):
    """Before each line that does it: there is either no file, or a complete one, and the next attempt clears up."""
    child = start_child(KILL_AT_EACH_LINE, path)
    (count,) = map(int, child.read_all())
    assert child.wait() == 0, child.errors
    names = [f"{path.name}{number}" for number in range(1, count + 1)]
    left = files(path)
    with_draft = {name for name in names if any(each.startswith(f"{name}.") for each in left)}
    assert with_draft - set(left) and with_draft & set(left)  # killed before the file had its name, and just after
    assert names[-1] in left and names[-1] not in with_draft  # this one was not killed
    for name in names:
        assert load(path.parent / name) == Saved()
    assert files(path) == sorted(names)


@pytest.mark.parametrize("name", ["votes", "[votes]", "*", "v?tes"])
def test_what_a_killed_process_left_while_it_created_the_file_is_removed(tmp_path, name):
    """And nothing of another member."""
    for left in ("0123abcd.new", "0123abcd.new-journal"):
        (tmp_path / f"{name}.{left}").touch()
        (tmp_path / f"other.{left}").touch()
    assert load(tmp_path / name) == Saved()
    assert files(tmp_path / name) == sorted([name, "other.0123abcd.new", "other.0123abcd.new-journal"])


# --- One process at a time --------------------------------------------------------------------------------------------

HOLD = """
    import sys
    from raftlite import Saved, SQLiteStorage
    storage = SQLiteStorage(sys.argv[1])
    storage.save(Saved(9, "c"))
    print("open")
    sys.stdin.read()
"""


def test_a_second_process_is_refused_with_a_sentence(path, start_child):
    """Two members with one file would cast one vote twice."""
    child = start_child(HOLD, path)
    child.expect("open")
    assert "another process or member has it open" in refusal(path)
    child.close_stdin()
    assert child.wait() == 0
    assert load(path) == Saved(9, "c")


@needs_kill
def test_the_lock_ends_with_the_process(path, start_child):
    child = start_child(HOLD, path)
    child.expect("open")
    child.kill()
    assert load(path) == Saved(9, "c")


def test_a_second_member_in_the_same_process_is_refused_too(path, start_child):
    """And its attempt does not take the lock from the first, as closing any descriptor of a file can."""
    with closing(SQLiteStorage(path)) as storage:
        for _ in range(3):
            assert "another process or member has it open" in refusal(path)
        other = start_child(HOLD, path)
        assert other.wait() == 1
        assert "another process or member has it open" in other.errors
        storage.save(VOTE)
    assert load(path) == VOTE


def test_the_lock_is_held_before_anything_is_saved(used):
    with closing(SQLiteStorage(used)):
        assert "another process or member has it open" in refusal(used)


@pytest.mark.slow
@needs_fork
def test_of_many_processes_that_create_the_file_one_gets_it(path, start_child):
    """The others are told that somebody has it open."""
    source = """
        import sys, time
        from raftlite import SQLiteStorage, StorageError
        print("ready")
        for line in sys.stdin:
            path, instant = line.split()
            storage = None
            while time.monotonic() < float(instant):
                pass
            try:
                storage = SQLiteStorage(path)
                print("open")
            except StorageError as error:
                print(error)
    """
    children = [start_child(source) for _ in range(3)]
    for child in children:
        child.expect("ready")
    for number in range(50):
        instant = time.monotonic() + 0.002
        for child in children:
            child.tell(f"{path}{number} {instant}")
        answers = sorted((child.read_line() for child in children), key=len)
        assert answers[0] == "open", f"{answers} in round {number}"
        assert all("another process or member has it open" in answer for answer in answers[1:]), answers


@pytest.mark.skipif(os.name != "posix", reason="a shared lock comes first on this system")
def test_who_has_begun_to_open_the_file_is_not_stopped_by_who_begins_after_it(path, start_child):
    """If both could read what has just been created before one locks it, neither would get it."""
    source = """
        import sqlite3, sys
        import raftlite.storage

        class Slow(sqlite3.Connection):
            def execute(self, statement, *values):
                if statement == "BEGIN EXCLUSIVE":
                    super().execute("SELECT * FROM saved").fetchall()
                    print("reads")
                    sys.stdin.readline()
                return super().execute(statement, *values)

        connect = sqlite3.connect
        raftlite.storage.sqlite3.connect = lambda *a, **keywords: connect(*a, factory=Slow, **keywords)
        try:
            storage = raftlite.storage.SQLiteStorage(PATH)
            print("open")
        except raftlite.StorageError as error:
            print(error)
        sys.stdin.readline()
    """.replace("PATH", repr(str(path)))
    storage_module._create(path)
    first = start_child(source)
    first.expect("reads")
    second = start_child(source)
    assert "another process or member has it open" in second.read_line()
    first.tell("")
    first.expect("open")


def test_of_many_threads_that_open_a_file_at_one_instant_one_gets_it(path):
    start = threading.Barrier(4)

    def open_it(number):
        start.wait()
        try:
            return SQLiteStorage(f"{path}{number}")
        except StorageError as error:
            assert "another process or member has it open" in str(error)
            return None

    with ThreadPoolExecutor(4) as pool:
        for number in range(50):
            opened = [storage for storage in pool.map(open_it, [number] * 4) if storage is not None]
            assert len(opened) == 1
            opened[0].close()


@pytest.mark.parametrize("is_late", ["before it looks for the log", "while it makes its draft"])
def test_who_is_slower_in_creating_the_file_learns_that_it_is_open(path, monkeypatch, is_late):
    """Between its look at an empty directory and its own attempt the other has made the file, and cleaned up."""
    link = os.link

    def too_late(draft, path):
        os.unlink(draft)  # by the one that has the file open
        link(draft, path)

    with closing(SQLiteStorage(path)) as storage:
        monkeypatch.setattr("raftlite.storage.os.path.lexists", lambda path: False)
        if is_late == "while it makes its draft":
            monkeypatch.setattr("raftlite.storage.os.link", too_late)
        assert "another process or member has it open" in refusal(path)
        storage.save(VOTE)
    assert load(path) == VOTE


# --- Fork -------------------------------------------------------------------------------------------------------------

FORK_AND_SAVE = """
    import gc, os, sys
    from raftlite import Saved, SQLiteStorage

    path, how = sys.argv[1:]
    storage = SQLiteStorage(path)
    storage.save(Saved(1, "a"))
    pid = os.fork()
    if pid == 0:
        if how == "collected":
            del storage
            gc.collect()
        elif how == "closed":
            storage.close()
        elif how == "forks again":
            if os.fork():
                os.wait()
        sys.exit(0)  # through the end of the interpreter, which lets go of everything
    assert os.waitpid(pid, 0)[1] == 0
    print("has a log:", os.path.exists(path + "-wal"))
    storage.save(Saved(2, "b"))
    print("saved")
    sys.stdin.read()
"""


@pytest.mark.slow
@needs_fork
@needs_kill
@pytest.mark.parametrize("how", ["ends", "collected", "closed", "forks again"])
def test_a_forked_child_takes_nothing_with_it_when_it_ends(path, start_child, how):
    """A copy of the connection that is closed folds the log into the file and deletes it under the parent."""
    child = start_child(FORK_AND_SAVE, path, how)
    child.expect("has a log: True")
    child.expect("saved")
    child.kill()
    assert load(path) == Saved(2, "b")


@needs_fork
def test_a_forked_child_cannot_save(path, start_child):
    source = """
        import os, sys
        from raftlite import Saved, SQLiteStorage, StorageError
        storage = SQLiteStorage(sys.argv[1])
        storage.save(Saved(1, "a"))
        if os.fork() == 0:
            try:
                storage.save(Saved(2, "b"))
            except StorageError as error:
                print(error)
        else:
            assert os.wait()[1] == 0
            print(storage.load())
            storage.close()
    """
    child = start_child(source, path)
    assert "votes.sqlite3 is closed" in child.read_line()
    child.expect(repr(Saved(1, "a")))
    assert child.wait() == 0, child.errors
    assert load(path) == Saved(1, "a")


FORK_WITH_MEMBER = """
    import gc, os, sys
    from raftlite import ElectionThread, Member, Saved, SQLiteStorage, Timing

    path, kind, how = sys.argv[1:]
    if kind == "thread":
        storage = SQLiteStorage(path)
        member = ElectionThread("a", storage=storage, timing=Timing.fast(), min_nodes=1)
    else:
        member = Member("a", data_dir=os.path.dirname(path), timing=Timing.fast(), min_nodes=1)
    with member:
        member.wait_until_leader(10)
        pid = os.fork()
        if pid == 0:
            if how == "collected":
                member = storage = None
                gc.collect()
            sys.exit(0)  # leaves the with statement too
        assert os.waitpid(pid, 0)[1] == 0
        print("has a log:", os.path.exists(path + "-wal"))
        lost = member.wait_until_leader(10).lost
        member.resign()
        assert lost.wait(10)
        print("token", member.wait_until_leader(10).token)
        sys.stdin.read()
"""


@pytest.mark.slow
@needs_fork
@needs_kill
@pytest.mark.parametrize("how", ["ends", "collected"])
@pytest.mark.parametrize("kind", ["thread", "member"])
def test_a_member_that_forks_keeps_its_later_votes(tmp_path, start_child, kind, how):
    """A pool of worker processes comes and goes beside a member."""
    path = tmp_path / "a.sqlite3"
    child = start_child(FORK_WITH_MEMBER, path, kind, how)
    child.expect("has a log: True")
    said = child.read_line().split()
    child.kill()
    assert said[0] == "token"
    assert load(path).current_term >= int(said[1]) >= 2  # more where a busy machine has ended a lease


@needs_fork
def test_a_forked_child_need_not_import_anything(path, start_child):
    """A thread that is not there any more may have been importing the same module, and never finish."""
    source = """
        import os, sys
        from raftlite import SQLiteStorage

        class Watch:
            def find_spec(self, name, path=None, target=None):
                if os.getpid() != parent:
                    print("imports", name)

        parent = os.getpid()
        sys.meta_path.insert(0, Watch())
        storage = SQLiteStorage(sys.argv[1])
        if os.fork() == 0:
            print("forked")
            os._exit(0)
        assert os.wait()[1] == 0
        storage.close()
    """
    assert start_child(source, path).read_all() == ["forked"]


@needs_fork
def test_a_storage_of_the_programs_own_hears_of_a_fork(start_child):
    """It may have to close, or leave alone, what the child has got a copy of."""
    source = """
        import os
        from raftlite import ElectionThread, MemoryStorage

        class Own(MemoryStorage):
            def abandon_after_fork(self):
                print("abandoned in", "child" if os.getpid() != parent else "parent")

        parent = os.getpid()
        member = ElectionThread("a", storage=Own())
        if os.fork() == 0:
            os._exit(0)
        assert os.wait()[1] == 0
    """
    assert start_child(source).read_all() == ["abandoned in child"]


@pytest.mark.slow
@needs_fork
@needs_kill
@pytest.mark.parametrize("kind", ["storage", "thread", "member"])
def test_the_lock_ends_with_the_parent_though_a_forked_child_lives_on(tmp_path, start_child, kind):
    """Or a killed member could not start again while one of its workers is there."""
    path = tmp_path / "a.sqlite3"
    source = """
        import os, sys
        from raftlite import ElectionThread, Member, Saved, SQLiteStorage, Timing

        path, kind = sys.argv[1:]
        if kind == "member":
            member = Member("a", data_dir=os.path.dirname(path), timing=Timing.fast(), min_nodes=1).start()
            member.wait_until_leader(10)
        else:
            storage = SQLiteStorage(path)
            storage.save(Saved(1, "a"))
        if kind == "thread":
            member = ElectionThread("a", storage=storage, timing=Timing.fast(), min_nodes=1).start()
        if os.fork() == 0:
            print("forked")
            sys.stdin.read()
            print("the fork has lived on")
            os._exit(0)
        sys.stdin.read()
    """
    child = start_child(source, path, kind)
    child.expect("forked")
    assert "another process or member has it open" in refusal(path)
    child.kill()
    assert load(path).current_term >= 1
    child.close_stdin()
    assert child.read_all() == ["the fork has lived on"]


# --- A disk that fails ------------------------------------------------------------------------------------------------

FILL_THE_DISK = """
    import resource, sys
    from raftlite import Membership, NodeInfo, Saved, SQLiteStorage, StorageError

    path, limit = sys.argv[1], int(sys.argv[2])
    if limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    storage = SQLiteStorage(path)
    members = Membership(1, 1, tuple(NodeInfo(f"n{n}", address="x" * 100) for n in range(100)))
    for term in range(1, 1000):
        try:
            storage.save(Saved(term, "a", members))
        except StorageError as error:
            print(term - 1)
            print(error)
            break
    if limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    for again in range(3):
        try:
            storage.save(Saved(5000 + again, "a"))
            print("saved after a failure")
        except StorageError as error:
            print(error)
    print(storage.load().current_term)
    if not limit:
        sys.stdin.read()
    storage.close()
"""


def test_a_disk_that_is_full_is_a_storage_error_and_so_is_every_later_save(path, start_child):
    """Space that comes back does not bring back what a failed write may have lost: the member stops."""
    pytest.importorskip("resource")
    child = start_child(FILL_THE_DISK, path, 300_000)
    saved = int(child.read_line())
    assert saved > 1
    assert child.read_line().startswith(f"cannot save to {path}: ")
    for _ in range(3):
        assert "failed before, so it is not written again: " in child.read_line()
    child.expect(str(saved))
    assert child.wait() == 0, child.errors
    assert load(path).current_term - saved in (0, 1)


def test_a_full_file_system_is_a_storage_error(tmp_path, start_child):
    """The same with a real one of half a megabyte, where the system lets us mount it for one process."""
    mount = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs -o size=512k none "$0" && exec "$@"', str(tmp_path)]
    if shutil.which("unshare") is None or subprocess.run([*mount, "true"], stderr=subprocess.DEVNULL).returncode:
        pytest.skip("nothing may be mounted here")
    path = tmp_path / "votes.sqlite3"
    child = start_child(FILL_THE_DISK, path, 0, prefix=mount)
    saved = int(child.read_line())
    assert saved > 1
    assert child.read_line() == f"cannot save to {path}: database or disk is full"
    for _ in range(3):
        assert child.read_line().endswith("not written again: database or disk is full")
    child.expect(str(saved))
    child.close_stdin()
    assert child.wait() == 0, child.errors


def test_a_failure_ends_a_member_visibly(path, start_child):
    """Rather than let it go on with votes that are not saved."""
    pytest.importorskip("resource")
    source = """
        import resource, sys
        from raftlite import ElectionThread, MemberStopped, SQLiteStorage, StorageError, Timing
        storage = SQLiteStorage(sys.argv[1])
        member = ElectionThread("a", storage=storage, timing=Timing.fast(), min_nodes=1)
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
        with member:
            try:
                member.wait_until_leader(10)
            except MemberStopped as error:
                print(type(error.__cause__).__name__, error)
    """
    child = start_child(source, path)
    answer = child.read_line()
    assert answer.startswith(f"StorageError a was stopped by a failure: cannot save to {path}: ")
    child.wait()


# --- Where there can be no file ---------------------------------------------------------------------------------------


def test_a_missing_directory_is_a_storage_error(tmp_path):
    assert refusal(tmp_path / "missing" / "votes").endswith(f": there is no folder {tmp_path}/missing")


def test_a_directory_below_a_file_is_a_storage_error(used):
    assert refusal(used / "votes")


def test_a_directory_in_the_place_of_the_file_is_a_storage_error(tmp_path):
    assert refusal(tmp_path)


def test_a_link_to_nothing_is_a_storage_error(tmp_path):
    """The disk that it points to may not be mounted yet."""
    (tmp_path / "votes").symlink_to(tmp_path / "missing")
    assert refusal(tmp_path / "votes")
    assert files(tmp_path / "votes") == ["votes"]


@contextmanager
def as_nobody(directory, mode):
    """Let the body run without the rights of root, which may write anywhere."""
    is_root = os.geteuid() == 0
    closed = [parent for parent in directory.parents if is_root and not parent.stat().st_mode & 0o001]
    for parent in closed:
        parent.chmod(0o711)
    directory.chmod(mode)
    if is_root:
        os.seteuid(65_534)
    try:
        yield
    finally:
        if is_root:
            os.seteuid(0)
        directory.chmod(0o755)
        for parent in closed:
            parent.chmod(0o700)


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="this system has no such rights")
def test_a_directory_that_may_not_be_written_is_a_storage_error(tmp_path):
    directory = tmp_path / "votes"
    directory.mkdir()
    with as_nobody(directory, 0o555):
        said = refusal(directory / "a")
    assert said == f"cannot open {directory}/a: the folder {directory} is not writable by this user"
    assert files(directory / "a") == []


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="this system has no such rights")
def test_a_file_that_may_not_be_written_is_a_storage_error_at_start(used):
    """And not at the first vote."""
    used.chmod(0o444)
    with as_nobody(used.parent, 0o777):
        assert refusal(used) == f"cannot open {used}: the file is not writable by this user"
    used.chmod(0o644)
    assert load(used) == VOTE


# --- Files that are not what they were --------------------------------------------------------------------------------


def test_an_empty_file_is_refused(path):
    """An interrupted copy, or a disk that was full: there may have been a vote."""
    path.touch()
    assert "is damaged: it is empty" in refusal(path)
    assert path.stat().st_size == 0


@pytest.mark.parametrize(
    "content", [b"\0", b"votes\n", b"\0" * 511, b"\0" * 512, b"\0" * 8192, bytes(range(256)) * 64], ids=len
)
def test_a_file_that_is_no_database_is_refused_and_left_alone(path, content):
    path.write_bytes(content)
    assert refusal(path)
    assert path.read_bytes() == content
    assert files(path) == ["votes.sqlite3"]


@pytest.mark.parametrize("journal_mode", ["delete", "wal"])
def test_a_database_of_another_program_is_refused_and_left_alone(path, journal_mode):
    """Also one with a table of the same name."""
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute(f"PRAGMA journal_mode={journal_mode}")
        database.execute("CREATE TABLE saved (id INTEGER PRIMARY KEY, content TEXT, checksum INT)")
    before = path.read_bytes()
    assert "is a database of another program" in refusal(path)
    assert path.read_bytes() == before
    assert files(path) == ["votes.sqlite3"]


@pytest.mark.parametrize("version", [0, FORMAT_VERSION + 1, 99])
def test_another_format_version_is_refused_and_left_alone(used, version):
    """A newer raftlite may keep more in it than this one would write back."""
    change(used, f"PRAGMA user_version={version}")
    before = used.read_bytes()
    assert f"has format {version}, but this raftlite reads format {FORMAT_VERSION}" in refusal(used)
    assert used.read_bytes() == before


@pytest.mark.parametrize(
    "statement, reason",
    [
        ("UPDATE saved SET checksum = checksum + 1", "the checksum of the saved vote does not fit"),
        ("UPDATE saved SET content = replace(content, '7', '6')", "the checksum of the saved vote does not fit"),
        ("UPDATE saved SET content = CAST(content AS BLOB)", "the checksum of the saved vote does not fit"),
        ("UPDATE saved SET content = 7", "the checksum of the saved vote does not fit"),
        ("UPDATE saved SET content = CAST(x'ff' AS TEXT)", ""),
        ("DELETE FROM saved", "it holds 0 rows instead of one"),
        ("DROP TABLE saved", "no such table"),
        ("ALTER TABLE saved RENAME COLUMN checksum TO sum", "no such column"),
    ],
)
def test_a_vote_that_was_tampered_with_is_refused(used, statement, reason):
    change(used, statement)
    assert reason in refusal(used)


@pytest.mark.parametrize(
    "content",
    [
        None, 7, [], {}, "", {"current_term": 7}, {"current_term": 7, "voted_for": "b"},
        *({"current_term": term, "voted_for": "b", "membership": None} for term in (None, True, -1, "7", 7.0, [7])),
        *({"current_term": 7, "voted_for": vote, "membership": None} for vote in (True, 7, "", ["b"], "b\n")),
        *({"current_term": 7, "voted_for": "b", "membership": membership} for membership in (0, [], {}, {"term": -1})),
    ],
    ids=json.dumps,
)  # fmt: skip
def test_a_row_that_holds_no_vote_is_refused_though_its_checksum_fits(used, content):
    text = json.dumps(content)
    change(used, "UPDATE saved SET content = ?, checksum = ?", text, zlib.crc32(text.encode()))
    assert "is damaged" in refusal(used)


def change(path, statement, *values):
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        assert database.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
        database.execute(statement, values)
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def test_a_file_cut_to_any_length_is_refused(used):
    whole = used.read_bytes()
    for length in [*range(0, len(whole), 97), len(whole) - 1]:
        used.write_bytes(whole[:length])
        assert refusal(used)
    used.write_bytes(whole)
    assert load(used) == VOTE


def test_a_file_that_is_damaged_beside_the_vote_is_refused(used):
    """The next save could make it worse. Here the list of free pages points beyond the end of the file."""
    whole = used.read_bytes()
    used.write_bytes(whole[:32] + struct.pack(">II", 9, 1) + whole[40:])
    assert "is damaged: " in refusal(used)


@pytest.mark.slow
def test_a_byte_flipped_anywhere_is_refused_or_changes_nothing(used):
    """Every byte of the header and every 31st of the rest. No flip gives another vote, and no other error."""
    whole = used.read_bytes()
    refused = 0
    for at in [*range(100), *range(100, len(whole), 31)]:
        used.write_bytes(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
        try:
            assert load(used) == VOTE, f"byte {at}"
        except StorageError:
            refused += 1
    assert refused > 50


def test_pages_overwritten_with_rubbish_are_refused(used):
    """Seed 6: each page, whole and in part."""
    rng = random.Random(6)
    whole = used.read_bytes()
    for page in range(len(whole) // 4096):
        for length in (16, 512, 4096):
            rubbish = bytes(rng.randrange(256) for _ in range(length))
            used.write_bytes(whole[: page * 4096] + rubbish + whole[page * 4096 + length :])
            assert refusal(used)


@needs_kill
def test_a_log_without_its_file_is_refused(path, start_child):
    """The file was deleted or half copied; the log alone cannot tell what was saved."""
    child = start_child(HOLD, path)
    child.expect("open")
    child.kill()
    path.unlink()
    assert "is missing, but its log votes.sqlite3-wal is there" in refusal(path)
    assert files(path) == ["votes.sqlite3-wal"]


def test_what_was_loaded_is_closed_again_when_it_is_refused(used):
    """The file can be put right and opened without a new process."""
    change(used, "UPDATE saved SET checksum = checksum + 1")
    assert refusal(used)
    change(used, "UPDATE saved SET checksum = checksum - 1")
    assert load(used) == VOTE
