"""`Member(isolated=True)`: the election in a child process, for programs that hold the interpreter."""

from __future__ import annotations

import contextlib
import ctypes
import json
import logging
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from certificates import Authority
from children import environment
from peers import lines, wait_for_line
from threads import PATIENCE, Gate, eventually

from raftlite.clock import boot_clock
from raftlite.errors import ConfigError, MemberStopped
from raftlite.isolated import program
from raftlite.isolated.lease import Lease
from raftlite.member import Member
from raftlite.timing import Timing

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="members can be isolated on Linux only")

KEY = "the secret that all members share"
TIMING = Timing(heartbeat_interval=0.05, election_timeout=0.25)
LOYAL = Timing(heartbeat_interval=0.05, election_timeout=600.0)  # no lease runs out while the test runs
TESTS = Path(__file__).parent


def alone(timing=LOYAL, **settings):
    """A cluster of one, which leads at once."""
    return Member("a", min_nodes=1, timing=timing, isolated=True, **settings)


def pid_of(member):
    """The election process."""
    return member._thread._popen.pid


def has_ended(pid):
    """Also where nobody has waited for it yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


@pytest.fixture
def addresses(folder):
    return {node_id: str(folder / f"{node_id}.sock") for node_id in "abc"}


@contextlib.contextmanager
def others(addresses, timing, **settings):
    """The members b and c, on threads of this process."""
    with contextlib.ExitStack() as stack:

        def member(node_id):
            place = {"peers": addresses, "listen": addresses[node_id], "authkey": KEY}
            return stack.enter_context(Member(node_id, timing=timing, **place, **settings))

        yield {node_id: member(node_id) for node_id in "bc"}


PROGRAM = f"""
import ctypes, json, logging, os, sys, time
from raftlite import Member, Timing

logging.basicConfig(stream=sys.stdout, format="%(levelname)s %(message)s", level=logging.WARNING)
addresses = json.loads(sys.argv[1])
timing = Timing(heartbeat_interval=0.05, election_timeout=float(sys.argv[2]))
isolated = sys.argv[3] == "isolated"
member = Member("a", peers=addresses, listen=addresses["a"], authkey={KEY!r}, timing=timing, isolated=isolated)

def lead():
    while True:
        if member.wait_for_leader(30) != "a":
            member.transfer_leadership("a")
        try:
            return member.wait_until_leader(0.5)
        except TimeoutError:
            pass
"""

# --- The interpreter is held ---------------------------------------------------------------------------------------


def test_the_lease_is_renewed_while_the_program_holds_the_interpreter():
    """This very program holds it, and goes on until it has seen a later deadline."""
    hold = ctypes.PyDLL(None).usleep  # called without letting go of the interpreter
    with alone() as member:
        leadership = member.wait_until_leader(PATIENCE)
        first = boot_clock() + leadership.remaining
        give_up_at = boot_clock() + PATIENCE
        while boot_clock() + leadership.remaining < first + 0.01 and boot_clock() < give_up_at:
            hold(100_000)
        assert boot_clock() + leadership.remaining >= first + 0.01
        assert member.is_leader and member.leader_id == "a"


@pytest.mark.slow
def test_without_isolation_the_log_of_a_program_that_holds_the_interpreter_says_why_its_lease_ran_out(log):
    """The reason is in this program, not in the network."""
    hold = ctypes.PyDLL(None).usleep
    with Member("a", min_nodes=1, timing=TIMING) as member:
        leadership = member.wait_until_leader(PATIENCE)
        hold(600_000)
        assert not leadership.valid
        why = wait_for_line(log, " and its lease ran out", "a: the election was not run for ")
    assert "code of this program held the interpreter (the GIL), where Member(isolated=True) would go on" in why


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.parametrize("what, seconds, leads", [("spin", 60, True), ("isolated", 15, True), ("hold", 15, False)])
def test_with_default_timing_only_a_held_interpreter_costs_the_lead_and_only_without_isolation(what, seconds, leads):
    """The figures of tests/benchmarks/gil.py: four threads that spin, or an interpreter held for 3 s at a time."""
    script = [sys.executable, TESTS / "benchmarks" / "gil.py", f"--only={what}", f"--seconds={seconds}"]
    run = subprocess.run(script, env=environment(), capture_output=True, text=True, check=True)
    found = json.loads(run.stdout)
    if what == "spin" and found["share"] < 0.8:
        pytest.skip(f"other processes left this one only {found['share']:.0%} of a processor")
    assert found["always led"] is leads
    assert (max(found["b"], found["c"]) == 0) is leads
    assert any("held the interpreter" in line for line in found["log"]) is not leads


# --- The election process dies -------------------------------------------------------------------------------------


def test_when_peers_see_that_the_election_process_was_killed_the_program_no_longer_believes_in_its_lease(addresses):
    """The end of its connections is their proof, and they may elect another from then on."""
    for _ in range(4):
        with alone(listen=addresses["a"]) as member, socket.socket(socket.AF_UNIX) as peer:
            leadership = member.wait_until_leader(PATIENCE)
            peer.settimeout(PATIENCE)
            peer.connect(addresses["a"])
            peer.recv(1)  # it has accepted
            os.kill(pid_of(member), signal.SIGKILL)
            with contextlib.suppress(ConnectionResetError):
                while peer.recv(65536):
                    pass
            seen = member.is_leader, leadership.valid
            assert seen == (False, False)


def test_a_member_whose_election_process_is_killed_ends_visibly(log):
    """Waiters, callbacks, the status and the log hear of it."""
    told, said = queue.Queue(), queue.Queue()
    with alone(on_lost=told.put) as member:
        leadership = member.wait_until_leader(PATIENCE)

        def wait():
            try:
                member._running()._wait(lambda: None, PATIENCE, "nothing")
            except MemberStopped as error:
                said.put((str(error), type(error.__cause__)))

        waiter = threading.Thread(target=wait)
        waiter.start()
        os.kill(pid_of(member), signal.SIGKILL)
        assert told.get(timeout=PATIENCE) is leadership
        sentence = "a was stopped by a failure: its election process was killed by SIGKILL"
        assert said.get(timeout=PATIENCE) == (sentence, ChildProcessError)
        waiter.join()
        assert leadership.lost.is_set()
        assert member.leader_id is None
        assert member.status().why == "stopped: ChildProcessError: its election process was killed by SIGKILL"
        with pytest.raises(MemberStopped, match=sentence):
            member.remove_node("b")
    assert lines(log, "its election process was killed by SIGKILL", logging.ERROR)
    with member:
        assert member.wait_until_leader(PATIENCE).token >= 1  # it may start again


@pytest.mark.slow
def test_an_election_process_that_is_stopped_loses_the_lease_and_the_grant_never_comes_back():
    """Nothing renews the lease meanwhile."""
    with alone(timing=TIMING) as member:
        leadership = member.wait_until_leader(PATIENCE)
        os.kill(pid_of(member), signal.SIGSTOP)
        try:
            eventually(lambda: not leadership.valid, "lost")
            assert not member.is_leader and member.leader_id is None
        finally:
            os.kill(pid_of(member), signal.SIGCONT)
        assert member.wait_until_leader(PATIENCE).token > leadership.token
        assert not leadership.valid and leadership.lost.is_set()


def test_an_election_process_that_does_not_end_is_killed(addresses):
    """As all else of a member has ended when `stop` returns."""
    with alone(listen=addresses["a"]) as member:
        pid = pid_of(member)
        os.kill(pid, signal.SIGSTOP)
        with pytest.raises(TimeoutError, match=r"a has not ended within 0\.01 s"):
            member.stop(0.01)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


# --- The program dies ----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_when_the_program_is_killed_the_election_process_hands_over_and_ends(start_child, addresses):
    """As after an orderly stop, its socket is gone from the file system."""
    with others(addresses, TIMING) as members:
        child = start_child(
            PROGRAM + "with member: lead(), print(member._thread._popen.pid, flush=True), time.sleep(600)",
            json.dumps(addresses),
            TIMING.election_timeout,
            "isolated",
        )
        pid = int(next(line for line in iter(child.read_line, "") if line.isdigit()))  # it may have warnings, too
        child.kill()
        successor = eventually(lambda: {each.leader_id for each in members.values()} & {"b", "c"}, "another leader")
        assert successor
        eventually(lambda: has_ended(pid), "ended")
        assert not os.path.exists(addresses["a"])


def test_the_election_process_ends_with_the_program_though_a_fork_of_that_goes_on(start_child, addresses):
    """Also one made in C, in which no Python code could close its copy of the line."""
    child = start_child(
        PROGRAM
        + """
with member:
    member.is_leader
    print(member._thread._popen.pid, flush=True)
    if ctypes.PyDLL(None).fork() == 0:
        sys.stdin.read()
        os._exit(0)
    time.sleep(600)
""",
        json.dumps({"a": addresses["a"]}),
        1.0,
        "isolated",
    )
    pid = int(child.read_line())
    child.kill()
    eventually(lambda: has_ended(pid), "ended")
    child.close_stdin()


def test_signals_for_the_whole_group_are_for_the_program_to_decide():
    """Ctrl-C reaches each process of a terminal, and so does the end of its session."""
    with alone() as member:
        leadership = member.wait_until_leader(PATIENCE)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(pid_of(member), number)
        assert member.status().leader_id == "a" and leadership.valid


# --- As any other member -------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_successor_begins_after_on_lost_has_finished_in_the_program(addresses):
    """The acknowledgement comes from the program's process."""
    happened, losing = [], Gate()

    def lost(leadership):
        losing.pass_through()
        happened.append("lost")

    timing = Timing(heartbeat_interval=0.05, election_timeout=3.0)  # on_lost is waited for no longer than that
    # Whoever has voted in the first election abstains from none: three votes are needed for it, so all have.
    place = {"peers": addresses, "listen": addresses["a"], "authkey": KEY, "timing": timing, "min_nodes": 3}
    told = {"on_elected": lambda leadership: happened.append("elected"), "min_nodes": 3}
    with Member("a", isolated=True, on_lost=lost, **place) as member, others(addresses, timing, **told) as members:
        while members["b"].wait_for_leader(PATIENCE) != "a":
            members["b"].transfer_leadership("a")
            with contextlib.suppress(TimeoutError):
                member.wait_until_leader(0.5)
        leadership = member.wait_until_leader(PATIENCE)
        happened.clear()
        with losing:
            member.transfer_leadership("b")
            losing.wait_until_reached()
            assert leadership.lost.is_set() and not leadership.valid and not member.is_leader
            with pytest.raises(TimeoutError):
                members["b"].wait_until_leader(0.3)  # long enough for one that does not wait
        members["b"].wait_until_leader(PATIENCE)
        eventually(lambda: len(happened) == 2, "told")
    assert happened[:2] == ["lost", "elected"]


@pytest.mark.slow
def test_an_isolated_member_lets_others_in_and_answers_the_command_line(addresses):
    """The answer to `raftlite status` comes from its election process."""
    place = {"authkey": KEY, "timing": LOYAL}
    with alone(listen=addresses["a"], authkey=KEY) as member:
        member.wait_until_leader(PATIENCE)
        assert member.add_node("b", addresses["b"], voter=False, timeout=PATIENCE).ids == {"a", "b"}
        with Member("b", listen=addresses["b"], voter=False, isolated=True, **place) as observer:
            assert observer.wait_for_leader(PATIENCE) == "a"
            with pytest.raises(TimeoutError, match="b does not lead after 0 s: a leads"):
                observer.wait_until_leader(0)
            command = [sys.executable, "-m", "raftlite", "status", addresses["b"]]
            variables = {**environment(), "RAFTLITE_AUTHKEY": KEY}
            answer = subprocess.run(command, env=variables, capture_output=True, text=True, check=True).stdout
        assert "leader   a" in answer and "b (observer)" in answer
        assert member.remove_node("b", timeout=PATIENCE).ids == {"a"}


STARTS_SLOWLY = """
import sys, threading
sys.path.insert(0, sys.argv[1])
from raftlite.isolated import child

has_told, leader_changed, status_to_plain = threading.Event(), child.Relay.leader_changed, child.status_to_plain

def tell(relay, leader_id, term):
    leader_changed(relay, leader_id, term)
    has_told.set()

def look(status):
    plain = status_to_plain(status)
    if threading.current_thread() is threading.main_thread():
        has_told.wait(30)
    return plain

child.Relay.leader_changed, child.status_to_plain = tell, look
child.main()
"""


def test_a_leader_that_is_heard_of_while_the_election_process_says_that_it_has_started_is_known(addresses, monkeypatch):
    """What that says of the leader is older. No other event comes for as long as this one leads."""
    monkeypatch.setattr(program, "_BOOTSTRAP", STARTS_SLOWLY)
    place = {"peers": addresses, "listen": addresses["a"], "authkey": KEY}
    with others(addresses, TIMING) as members:
        members["b"].wait_for_leader(PATIENCE)
        with Member("a", timing=TIMING, isolated=True, **place) as member:
            assert member.wait_for_leader(PATIENCE) in addresses


VOTES_ARE_STILL_HELD = """
import sys
sys.path.insert(0, sys.argv[1])
from raftlite import StorageInUse
from raftlite.isolated import child

start, tries = child._Member.start, []

def held_at_first(member):
    tries.append(member)
    if len(tries) < 3:
        raise StorageInUse("another process or member has it open")
    return start(member)

child._Member.start = held_at_first
child.main()
"""


def test_a_program_that_is_killed_and_started_again_at_once_waits_for_the_end_of_its_former_election(monkeypatch):
    """Which another process carries on for a moment, with the votes in its hands."""
    monkeypatch.setattr(program, "_BOOTSTRAP", VOTES_ARE_STILL_HELD)
    with alone() as member:
        assert member.wait_for_leader(PATIENCE) == "a"


@pytest.mark.slow
@pytest.mark.parametrize("trouble", ["address", "votes", "key"])
def test_what_keeps_a_member_from_starting_is_said_in_the_same_words(addresses, tmp_path, trouble):
    """By the same type of error, and nothing is left behind."""
    settings = {
        "address": {"listen": addresses["a"]},
        "votes": {"data_dir": tmp_path},
        "key": {"listen": "0.0.0.0:0"},
    }[trouble]

    def outcome(isolated):
        member = Member("a", min_nodes=1, isolated=isolated, **settings)
        with pytest.raises((OSError, ConfigError)) as error:
            member.start()
        with pytest.raises(MemberStopped, match="a is not started"):
            member.status()
        return type(error.value), str(error.value), getattr(error.value, "errno", None)

    taken = {name: value for name, value in settings.items() if trouble != "key"}
    with Member("a", min_nodes=1, **taken):
        assert outcome(isolated=True) == outcome(isolated=False)


def test_a_start_that_fails_forgets_no_vote(addresses):
    """Nor the term, or a member that comes back would lead under a token that it has had before."""
    member = alone(listen=addresses["a"])
    with member:
        first = member.wait_until_leader(PATIENCE).token
    with Member("b", listen=addresses["a"]), pytest.raises(OSError, match="in use"):
        member.start()
    with member:
        assert member.wait_until_leader(PATIENCE).token > first


def test_the_key_is_neither_among_the_arguments_nor_the_variables(addresses):
    """Where anybody on the machine could read it."""
    with alone(listen=addresses["a"], authkey=KEY) as member:
        for name in ("cmdline", "environ"):
            text = Path(f"/proc/{pid_of(member)}/{name}").read_bytes()
            assert KEY.encode() not in text and KEY.encode().hex().encode() not in text


def test_the_election_process_writes_to_the_log_of_the_program(log):
    """Under the names of its own modules, so that the program's settings hold."""
    with alone() as member:
        member.wait_until_leader(PATIENCE)
    assert "a term 1: follower -> leader (1 of 1 votes)" in [
        record.getMessage() for record in log.records if record.name == "raftlite.thread"
    ]


def test_isolated_is_true_or_false():
    with pytest.raises(ConfigError, match="isolated is 'yes', but must be True or False"):
        Member("a", isolated="yes")


def test_over_tls_the_election_process_reads_the_files_itself(addresses, tmp_path):
    """A context that was made in another way holds a key that cannot be given to another process."""
    files = Authority(tmp_path).files("a")
    contexts = files.context
    with alone(listen=addresses["a"], ssl_context=contexts) as member:
        member.wait_until_leader(PATIENCE)
        command = [sys.executable, "-m", "raftlite", "status", addresses["a"], *files.options]
        assert "leader   a" in subprocess.run(command, env=environment(), capture_output=True, text=True).stdout
    pair = (contexts.server, contexts.client)
    with pytest.raises(ConfigError, match=r"isolated=True needs an ssl_context that raftlite\.tls_context has made"):
        Member("a", isolated=True, ssl_context=pair)


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(300)
def test_what_holds_for_any_member_holds_for_an_isolated_one():
    """Those tests that change the insides of this process are left out: the election is in another one."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "isolated_members"]
    inside = ("fails_late", "cannot_be_begun", "start_is_interrupted", "another_thread_starts_it")
    command += ["-k", " and ".join(f"not {name}" for name in inside), str(TESTS / "test_member.py")]
    variables = {**environment(), "PYTHONPATH": f"{TESTS}:{TESTS.parent}"}
    run = subprocess.run(command, env=variables, capture_output=True, text=True, cwd=TESTS.parent)
    assert run.returncode == 0, run.stdout


# --- The shared lease ----------------------------------------------------------------------------------------------


HOLDER = """
import os, sys
from raftlite.isolated.lease import LeaseHolder

program, fd = sys.argv[1:]
holder = LeaseHolder(os.open(f"/proc/{program}/fd/{fd}", os.O_RDWR))
print("ready")
for line in sys.stdin:
    word, *numbers = line.split()
    print(getattr(holder, word)(int(numbers[0]), *map(float, numbers[1:])))
"""


@pytest.fixture
def shared(start_child):
    """The program's end of a lease, and a process that holds the other end."""
    lease = Lease()
    child = start_child(HOLDER, os.getpid(), lease.fd)
    child.expect("ready")
    yield lease, child
    lease.close()


def do(child, *words):
    child.tell(" ".join(map(str, words)))
    return child.read_line()


def test_a_lease_is_held_until_its_deadline_and_never_again(shared):
    """Also if it is renewed when the program has seen it run out, of which the other process learns."""
    lease, child = shared
    assert lease.look() == (0, 0)
    do(child, "hold", 7, boot_clock() + 600)
    token, left = lease.look()
    assert token == 7 and 0 < left <= 600e9
    do(child, "hold", 7, boot_clock() - 0.001)
    assert do(child, "is_given_up", 7) == "False"
    assert lease.look() == (0, 0)
    assert do(child, "is_given_up", 7) == "True"
    do(child, "hold", 7, boot_clock() + 600)
    assert lease.look() == (0, 0)
    do(child, "hold", 8, boot_clock() + 600)
    assert lease.look()[0] == 8
    assert do(child, "is_given_up", 8) == "False"
    do(child, "release", 7)  # the end of an earlier grant
    assert lease.look()[0] == 8
    do(child, "release", 8)
    assert lease.look() == (0, 0)


def test_a_lease_ends_with_the_process_that_holds_it_or_with_its_descriptor(shared):
    """Whatever the deadline says."""
    lease, child = shared
    do(child, "hold", 7, boot_clock() + 600)
    assert lease.look()[0] == 7
    child.kill()
    assert lease.look() == (0, 0) == lease.look()


def test_a_lease_that_is_half_written_is_not_believed(shared):
    """A token and a deadline that do not belong together."""
    lease, child = shared
    do(child, "hold", 7, boot_clock() + 600)
    lease._memory[0] ^= 1
    assert lease.look() == (0, 0)


def test_a_lease_whose_file_the_program_has_closed_is_not_believed(start_child):
    """As programs do that close every descriptor; what the number means then has no lock."""
    lease = Lease()
    child = start_child(HOLDER, os.getpid(), lease.fd)
    child.expect("ready")
    do(child, "hold", 7, boot_clock() + 600)
    assert lease.look()[0] == 7
    os.close(lease.fd)
    try:
        assert lease.look() == (0, 0)
    finally:
        lease.fd = -1
