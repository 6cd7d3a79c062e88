"""Every program in examples/ that is about another package runs with that package, and does what it says."""

from __future__ import annotations

import contextlib
import http.client
import importlib.util
import os
import queue
import re
import shlex
import signal
import sys
import threading
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Match, Set

import pytest
from programs import EXAMPLES, check_tokens, free_ports, one_that_leads, tokens_of
from test_readme import Here, started_by_the_unit
from threads import PATIENCE, eventually

from raftlite.messages import TimeoutNow

pytestmark = pytest.mark.slow


def documented(example: str, beginning: str) -> List[str]:
    """The commands that the example's docstring gives, without what is in a comment."""
    source = (EXAMPLES / f"{example}.py").read_text(encoding="utf-8")
    docstring = source.split('"""')[1].replace("\\\n", " ")
    lines = [line.split("#")[0].strip() for line in docstring.splitlines()]
    commands = [command.strip() for line in lines for command in line.split(";")]
    return [command for command in commands if command.startswith(beginning)]


# --- Flask, gunicorn, APScheduler --------------------------------------------------------------------------------


@pytest.mark.long
def test_under_gunicorn_a_job_fires_in_one_worker_of_four_and_in_another_when_that_is_killed(
    start_program: Any,
) -> None:
    """The worker that gunicorn starts instead gets the name of the dead one, so that the cluster stays the same."""
    (command,) = documented("flask_gunicorn", "gunicorn")
    server = start_program("-m", *shlex.split(command), "--bind", "127.0.0.1:0")
    (address,) = server.wait_for(r"Listening at: http://(\S+)")
    started = r"(w\d) is pid (\d+)\n"
    assert {name for name, _ in found(server.wait_for(started, 4))} == {"w1", "w2", "w3", "w4"}
    report = r"(?m)^(\d\d:\d\d:\d\d) (w\d) \(pid (\d+)\) reports$"
    _, first, pid = server.wait_for(report, 3)[-1].groups()
    eventually(lambda: re.fullmatch(rf"w\d answers, {first} leads\n", page_at(address[1])), f"answered: {first} leads")

    os.kill(int(pid), signal.SIGKILL)
    killed_after = len(server.printed(report))
    assert found(server.wait_for(started, 5))[4][0] == first
    server.wait_for(report, killed_after + 3)

    os.kill(server.pid, signal.SIGHUP)  # reload: new workers start while those of before are still there
    assert {name for name, _ in found(server.wait_for(started, 9))[5:]} == {"w1", "w2", "w3", "w4"}
    server.wait_for(report, len(server.printed(report)) + 2)
    server.interrupt()
    assert server.wait() == 0
    reports = found(server.printed(report))
    assert pid not in {pid for _, _, pid in reports[killed_after + 1 :]}, reports
    workers_in: Dict[str, Set[str]] = {}
    for second, _, pid in reports:
        workers_in.setdefault(second, set()).add(pid)
    assert {len(workers) for workers in workers_in.values()} == {1}, reports
    assert "Traceback" not in server.text


def found(matches: List[Match[str]]) -> List[Any]:
    return [match.groups() for match in matches]


def page_at(address: str) -> str:
    connection = http.client.HTTPConnection(address, timeout=PATIENCE)
    with contextlib.closing(connection):
        connection.request("GET", "/")
        return connection.getresponse().read().decode()


# --- A legacy daemon, Django -------------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.parametrize(
    "example, does", [("legacy_daemon", "collects the mail"), ("django_command", "sends reminders")]
)
def test_of_three_copies_one_works_and_another_when_it_is_killed(start_program: Any, example: str, does: str) -> None:
    (command,) = documented(example, "python")
    *command, name = shlex.split(command)[2:]
    assert name == "a"
    copies = {name: start_program(EXAMPLES / f"{example}.py", *command, name) for name in "abc"}
    works = rf"(?m)^\w \(pid \d+\) {does}, token (?P<token>\d+)$"
    first, _ = one_that_leads(copies, works)
    copies[first].kill()
    others = {name: copy for name, copy in copies.items() if name != first}
    one_that_leads(others, works, after=max(tokens_of(copies[first], works)))
    for copy in others.values():
        copy.interrupt()
        assert copy.wait() == 0
    check_tokens(copies, works)
    assert "Traceback" not in "".join(copy.text for copy in copies.values())


# --- Celery ------------------------------------------------------------------------------------------------------


def as_the_example_says(folder: Path) -> List[List[str]]:
    """But at ports that are free: another Python may run this test at the same time."""
    commands = "\n".join(documented("celery_beat", "raftlite run"))
    for port in free_ports(3):
        used = re.search(r":(761\d)\b", commands)
        assert used is not None
        commands = commands.replace(used[0], f":{port}")
    return [["-m", *shlex.split(command)] for command in commands.splitlines()]


def as_the_readme_says(folder: Path) -> List[List[str]]:
    """With its file and its systemd unit, and the example's app."""
    started = started_by_the_unit(Here(folder)).values()
    return [["-m", "raftlite", *(word.replace("app", "celery_beat") for word in words)] for words in started]


@pytest.mark.long
@pytest.mark.parametrize("documented_commands", [as_the_example_says, as_the_readme_says])
def test_of_three_celery_beats_one_is_alive_and_another_when_its_wrapper_is_killed(
    start_program: Any, tmp_path: Path, documented_commands: Callable[[Path], List[List[str]]]
) -> None:
    """The beat dies with the wrapper, and tasks go on, with a higher token; never are two alive at one moment."""
    secret = {"RAFTLITE_AUTHKEY": "classroom"}
    wrappers = {}
    for command in documented_commands(tmp_path):
        end = command.index("--") + 1
        assert Path(command[end]).name == "celery"
        celery = [sys.executable, "-m", "celery", *command[end + 1 :]]
        wrappers[command[command.index("--id") + 1]] = start_program(*command[:end], *celery, **secret)
    (command,) = documented("celery_beat", "celery")
    worker = start_program("-m", *shlex.split(command))
    tick = r"tick, sent by (\w+) with token (\d+)"

    def ticks_of_another(than: str) -> List[Any]:
        assert len(beats_in(tmp_path)) <= 1
        threading.Event().wait(0.02)  # to look through all processes takes a while
        return [sent for sent in found(worker.printed(tick)) if sent[0] != than]

    first, token = eventually(lambda: ticks_of_another(""), "sent a task")[-1]
    assert set(beats_in(tmp_path).values()) == {first}
    wrappers.pop(first).kill()
    second, next_token = eventually(lambda: ticks_of_another(first), "sent a task by another")[-1]
    assert int(next_token) > int(token)
    assert set(beats_in(tmp_path).values()) == {second}
    for wrapper in wrappers.values():
        wrapper.interrupt()
    assert {wrapper.wait() for wrapper in wrappers.values()} == {128 + signal.SIGINT}
    eventually(lambda: not beats_in(tmp_path), "the last beat has ended")
    tokens = [int(token) for _, token in found(worker.printed(tick))]
    assert tokens == sorted(tokens)


def beats_in(folder: Path) -> Dict[int, str]:
    """Each beat that runs in `folder`, by its process id, with the member that has started it."""
    alive = {int(pid): member_of(int(pid), folder) for pid in os.listdir("/proc") if pid.isdigit()}
    beats = {pid: member for pid, member in alive.items() if member}
    return {pid: member for pid, member in beats.items() if member_of(pid, folder)}  # all of them at one moment


def member_of(pid: int, folder: Path) -> str:
    with contextlib.suppress(OSError):
        place = Path(f"/proc/{pid}")
        is_beat = b"beat" in (place / "cmdline").read_bytes().split(b"\0")
        found = re.search(rb"RAFTLITE_NODE_ID=(\w+)", (place / "environ").read_bytes())
        if is_beat and found and os.readlink(place / "cwd") == str(folder):
            return found[1].decode()
    return ""


# --- Dask --------------------------------------------------------------------------------------------------------


@pytest.mark.long
def test_when_the_worker_that_coordinates_is_killed_another_one_does_and_no_task_is_lost(start_program: Any) -> None:
    program = start_program(EXAMPLES / "dask_coordinator.py")
    assert program.wait() == 0, program.text
    assert len(program.printed(r"(?m)^worker \d is killed$")) == len(program.printed("Restarting worker")) == 1
    elected = found(program.printed(r"(?m)^worker (\d) \(pid (\d+)\) coordinates, token (\d+)$"))
    assert len({token for _, _, token in elected}) == len(elected), elected
    assert max(int(token) for _, _, token in elected) >= 2  # who was killed may not have got to say that it led
    ((last,),) = found(program.printed(r"(?m)^worker (\d) coordinates at the end$"))
    assert last in {name for name, _, _ in elected}
    assert program.printed(rf"(?m)^the sum of all squares is {sum(n * n for n in range(100))}$")
    assert "Traceback" not in program.text


# --- ZeroMQ ------------------------------------------------------------------------------------------------------
# test_nodes.py holds its Node to the contract of every Node.


def test_an_election_over_zeromq(start_program: Any) -> None:
    program = start_program(EXAMPLES / "zeromq_node.py")
    assert program.wait() == 0, program.text
    follows = found(program.printed(r"(?m)^(\w) follows (\w)$"))
    assert [name for name, _ in follows] == ["a", "b", "c"]
    assert len({leader for _, leader in follows}) == 1


@pytest.fixture
def buses() -> Iterator[Dict[str, Any]]:
    """Over ZeroMQ, a member `a` that receives, and a member `b` and a stranger that send to it.

    `a.inbox` is what it believes, and `a.verdicts` what it has said of those who dialled.
    """
    import zmq

    example = load_example("zeromq_node")
    key_pairs = {name: zmq.curve_keypair() for name in ("a", "b", "stranger")}
    public_keys = {name: public for name, (public, _) in key_pairs.items()}
    members = {name: key for name, key in public_keys.items() if name != "stranger"}
    with contextlib.ExitStack() as stack:
        buses = {name: example.Bus(pair, members) for name, pair in key_pairs.items()}
        for bus in buses.values():
            stack.callback(bus.close)
        note_verdicts(buses["a"])
        for name in ("b", "stranger"):
            buses[name].to_a = stack.enter_context(
                contextlib.closing(example.ZeroMQNode("a", buses[name], buses["a"].address))
            )
            stack.callback(buses[name].pull.close)
        buses["a"].inbox = queue.Queue()
        receiver = threading.Thread(target=buses["a"].receive, args=(buses["a"].inbox,), name="receives-a")
        receiver.start()
        yield buses
    receiver.join(PATIENCE)


def note_verdicts(bus: Any) -> None:
    bus.verdicts, ask = set(), bus.callback

    def callback(domain: str, public_key: bytes) -> Any:
        verdict = ask(domain, public_key)
        bus.verdicts.add((public_key, verdict))
        return verdict

    bus.callback = callback


def test_over_zeromq_a_member_speaks_in_its_own_name_only(buses: Dict[str, Any]) -> None:
    for sender_id in ("c", "a", "b"):
        buses["b"].to_a.send_message(TimeoutNow(1, sender_id))
    assert buses["a"].inbox.get(timeout=PATIENCE) == TimeoutNow(1, "b")


def test_over_zeromq_a_stranger_is_not_let_in(buses: Dict[str, Any]) -> None:
    """It knows the members' public keys; they do not know its own."""
    stranger, _ = buses["stranger"].key_pair
    buses["stranger"].to_a.send_message(TimeoutNow(1, "b"))
    eventually(lambda: (stranger, False) in buses["a"].verdicts, "refused")
    buses["b"].to_a.send_message(TimeoutNow(2, "b"))
    assert buses["a"].inbox.get(timeout=PATIENCE) == TimeoutNow(2, "b")


def load_example(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None and spec.loader is not None
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    return example
