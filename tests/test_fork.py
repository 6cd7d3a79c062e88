"""After `os.fork` the child's copy of a member is dead, and says so; the parent's goes on as if nothing had happened.

Each test runs a program of its own: a fork of the program that runs the tests would run the other tests too.
"""

from __future__ import annotations

import json
import os
import sys

import pytest

from raftlite.metrics import METRICS

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")

THREAD = """
import json, os, sys, threading, warnings
from raftlite import *

warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)  # from Python 3.12 on

def outcome(call):
    try:
        return repr(call())
    except BaseException as error:
        return type(error).__name__

def ask_copy(member, leadership):
    return {
        "is_leader": member.is_leader,
        "leader_id": member.leader_id,
        "valid": leadership.valid,
        "remaining": leadership.remaining,
        "lost": leadership.lost.is_set(),
        "check": outcome(leadership.check),
        "wait_for_leader": outcome(lambda: member.wait_for_leader(0)),
        "wait_until_leader": outcome(lambda: member.wait_until_leader(0)),
        "resign": outcome(member.resign),
        "transfer_leadership": outcome(member.transfer_leadership),
        "why": member.status().why,
        "stop": outcome(member.stop),
    }

def fork(body):
    pid = os.fork()
    if pid == 0:
        body()
        sys.exit(7)
    return os.WEXITSTATUS(os.waitpid(pid, 0)[1])
"""

DEAD = {
    "is_leader": False,
    "leader_id": None,
    "valid": False,
    "remaining": 0.0,
    "lost": True,
    "check": "LeadershipLost",
    "wait_for_leader": "ForkedError",
    "wait_until_leader": "ForkedError",
    "resign": "ForkedError",
    "transfer_leadership": "ForkedError",
    "why": "stopped",
    "stop": "None",
}


def test_the_copy_of_a_leading_thread_is_dead_and_the_parent_leads_on(start_child):
    """The child ends as any program does, with everything that Python does at the end."""
    child = start_child(
        THREAD
        + """
with ElectionThread("a", min_nodes=1, timing=Timing(0.1, 86400.0)) as member:
    leadership = member.wait_until_leader(30)
    status = fork(lambda: print(json.dumps(ask_copy(member, leadership))))
    print(json.dumps([status, member.is_leader, leadership.valid, member.leadership is leadership]))
"""
    )
    assert json.loads(child.read_line()) == DEAD
    assert json.loads(child.read_line()) == [7, True, True, True]
    assert child.wait() == 0
    assert child.errors == ""


def test_the_copy_says_what_to_do_instead(start_child):
    """A worker that is forked may have a member of its own."""
    child = start_child(
        THREAD
        + """
def own_member():
    try:
        member.wait_for_leader()
    except ForkedError as error:
        print(error)
    with ElectionThread("b", min_nodes=1) as own:
        print(own.wait_for_leader(30), own.is_leader)

with ElectionThread("a", min_nodes=1) as member:
    fork(own_member)
"""
    )
    assert child.read_line() == (
        "a runs in the process that this one was forked from; "
        "start it after the fork, or start a member here, under an id of its own"
    )
    child.expect("b True")
    assert child.wait() == 0


def test_a_fork_at_any_moment_leaves_a_copy_that_can_be_asked(start_child):
    """A lock that another thread held at that moment is held for ever in the child."""
    child = start_child(
        THREAD
        + """
with ElectionThread("a", min_nodes=1, timing=Timing(0.1, 86400.0)) as member:
    leadership = member.wait_until_leader(30)
    done = threading.Event()

    def read():
        while not done.is_set():
            leadership.valid
            member.leadership

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    statuses = [fork(lambda: os._exit(bool(ask_copy(member, leadership)["valid"]))) for _ in range(60)]
    done.set()
    for reader in readers:
        reader.join()
    print(set(statuses), member.is_leader)
"""
    )
    child.expect("{0} True")
    assert child.wait() == 0


MEMBER = (
    THREAD
    + """
folder, address = sys.argv[1:]
member = Member("a", listen=address, min_nodes=1, data_dir=folder, timing=Timing(0.1, 86400.0))
"""
)


@pytest.mark.parametrize("address", ["{folder}/a.sock", "127.0.0.1:0"])
def test_the_copy_of_a_member_is_dead_and_has_let_go_of_its_sockets_and_votes(start_child, tmp_path, address):
    """Else a leader's workers would keep its address in use after its death."""
    child = start_child(
        MEMBER
        + """
def look():
    folder = "/proc/self/fd"
    names = [name for name in os.listdir(folder) if name not in inherited] if os.path.isdir(folder) else []
    print(json.dumps(ask_copy(member, leadership)))
    print(json.dumps([outcome(lambda: os.readlink(f"{folder}/{name}")) for name in names if is_socket(name)]))

def is_socket(name):
    try:
        return os.readlink(f"/proc/self/fd/{name}").startswith("socket:")
    except OSError:
        return False

inherited = os.listdir("/proc/self/fd") if os.path.isdir("/proc/self/fd") else []
with member:
    leadership = member.wait_until_leader(30)
    status = fork(look)
    print(json.dumps([status, member.is_leader, leadership.valid]))
    member.resign()
    while leadership.valid:
        pass
with member:
    print(member.wait_until_leader(30).token > leadership.token)
""",
        tmp_path,
        address.format(folder=tmp_path),
    )
    assert json.loads(child.read_line()) == DEAD
    assert json.loads(child.read_line()) == []
    assert json.loads(child.read_line()) == [7, True, True]
    child.expect("True")
    assert child.wait() == 0
    assert child.errors == ""


def test_a_forked_child_that_outlives_its_parent_keeps_neither_address_nor_votes(start_child, tmp_path):
    """The next process of the same member starts at once."""
    address = f"{tmp_path}/a.sock"
    first = start_child(
        MEMBER
        + """
with member:
    member.wait_until_leader(30)
    if os.fork() == 0:
        sys.stdout.close()
        os.close(1)
        sys.stdin.read()
        os._exit(0)
    print("forked", flush=True)
    sys.stdin.read()
""",
        tmp_path,
        address,
    )
    first.expect("forked")
    first.kill()
    second = start_child(
        MEMBER
        + """
with member:
    print(member.wait_until_leader(30).token)
""",
        tmp_path,
        address,
    )
    second.expect("2")
    assert second.wait() == 0
    first.close_stdin()


def test_a_daemon_that_was_forked_too_late_is_told_so(start_child, tmp_path):
    """It has left its parent, which had started the member, and starts the same one; to it nobody else has the file."""
    child = start_child(
        MEMBER
        + """
member.start()
member.wait_until_leader(30)
if os.fork():
    os._exit(0)
for attempt in (lambda: member.wait_for_leader(), lambda: Member("a", min_nodes=1, data_dir=sys.argv[1]).start()):
    try:
        attempt()
    except (ForkedError, StorageError) as error:
        print(str(error).replace(sys.argv[1], "FOLDER"), flush=True)
""",
        tmp_path,
        f"{tmp_path}/a.sock",
    )
    child.expect(
        "a runs in the process that this one was forked from; "
        "start it after the fork, or start a member here, under an id of its own"
    )
    child.expect(
        "cannot open FOLDER/a.sqlite3: "
        "this process was forked from one that had it open; start the member after the fork"
    )
    child.wait()


@pytest.mark.slow
@pytest.mark.parametrize("call", ["start", "wait_for_leader", "on_elected", "stop"])
def test_what_a_forked_child_asks_of_its_copy_never_hangs(start_child, tmp_path, call):
    """Also where the copy is a whole `Member`."""
    child = start_child(
        MEMBER
        + """
calls = {
    "start": lambda: member.start(),
    "wait_for_leader": lambda: member.wait_for_leader(),
    "on_elected": lambda: member.on_elected(print),
    "stop": lambda: member.stop(),
}
with member:
    member.wait_until_leader(30)
    fork(lambda: print({call: outcome(act) for call, act in calls.items()}[sys.stdin.readline().strip()]))
    print(member.is_leader)
""",
        tmp_path,
        f"{tmp_path}/a.sock",
    )
    child.tell(call)
    child.expect({"stop": "None"}.get(call, "ForkedError"))
    child.expect("True")
    assert child.wait() == 0


@pytest.mark.parametrize(
    "isolated", ["", pytest.param("isolated", marks=pytest.mark.skipif(sys.platform != "linux", reason="Linux only"))]
)
def test_the_numbers_of_a_copy_say_that_nobody_leads(start_child, isolated):
    """A worker that is forked exports what its parent has registered."""
    child = start_child(
        THREAD
        + """
with Member("a", min_nodes=1, timing=Timing(0.1, 86400.0), isolated=bool(sys.argv[1])) as member:
    member.wait_until_leader(30)
    status = fork(lambda: print(json.dumps(member.metrics())))
    print(status, member.metrics()["is_leader"])
""",
        isolated,
    )
    metrics = json.loads(child.read_line())
    assert metrics.keys() == METRICS.keys()
    assert (metrics["is_leader"], metrics["has_leader"], metrics["lease_remaining_seconds"]) == (0, 0, 0.0)
    child.expect("7 1")
    assert child.wait() == 0
    assert child.errors == ""


INTERRUPTED = """
import ctypes, functools, logging, os, random, signal, sys, threading  # some have hooks that would swallow it first
where = sys.argv[1]
# Just before raftlite's own; unlike `signal.raise_signal`, the system's function does not look what it has done.
os.register_at_fork(**{where: functools.partial(ctypes.CDLL(None)["raise"], int(signal.SIGINT))})
from raftlite.nodes import forks

def is_free():
    found = []
    thread = threading.Thread(target=lambda: found.append(forks.lock.acquire(timeout=2)))
    thread.start()
    thread.join()
    return found == [True]

pid = None
try:
    pid = os.fork()
except KeyboardInterrupt:  # in both, or in the parent alone
    print("interrupted", file=sys.stderr)
os.write(1, b"free\\n" if is_free() else b"held for ever\\n")  # at once: two processes do so
"""


@pytest.mark.parametrize("where", ["before", "after_in_parent"])
def test_ctrl_c_amid_a_fork_leaves_no_lock_behind(start_child, where):
    """The system call swallows what is raised meanwhile, wherever that is."""
    child = start_child(INTERRUPTED, where)
    for _ in ("parent", "child"):
        child.expect("free")


AMID = """
import os, sys, threading
amid, dialled, early = threading.Event(), threading.Event(), []

def linger():
    amid.set()
    early.append(dialled.wait(0.3))

os.register_at_fork(before=linger)  # after raftlite's own, which is registered later
from raftlite.nodes import connection
from raftlite.nodes.channel import Identity

dial = connection.dial
connection.dial = lambda *arguments: dialled.set() or dial(*arguments)

def begin():
    amid.wait()
    return connection.ConnectionNode("b", sys.argv[1], Identity("a", b"k"))

threading.Thread(target=begin, daemon=True).start()
pid = os.fork()
if pid == 0:
    os._exit(0)
os.waitpid(pid, 0)
print("amid the fork" if early[0] else "after it", dialled.wait(10), flush=True)
os._exit(0)
"""


def test_nobody_dials_amid_a_fork(start_child, tmp_path):
    """The child would have a copy that neither of them knows of."""
    start_child(AMID, tmp_path / "nobody.sock").expect("after it True")
