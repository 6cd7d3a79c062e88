"""The raftlite command as people and scripts meet it: what it prints, what it says when it cannot, how it exits."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from children import complaints, environment
from threads import PATIENCE, eventually, is_inside

from raftlite.cli import main
from raftlite.command import demo, output, watch
from raftlite.command.signals import stop_signals
from raftlite.member import Member
from raftlite.storage import SQLiteStorage
from raftlite.timing import Timing

KEY = "the secret that all members share"
COMMAND = "import sys; from raftlite.cli import main; sys.exit(main())"
TIMING = Timing(heartbeat_interval=0.05, election_timeout=0.25, message_timeout=10.0)
# A cluster of one leads at once. No lease of it runs out while a test runs, and it never says that it was held up.
LOYAL = Timing(heartbeat_interval=0.05, election_timeout=600.0, message_timeout=10.0)
LOYALLY = ("--election-timeout", LOYAL.election_timeout)


@pytest.fixture(autouse=True)
def key(monkeypatch):
    """The key is in the environment, where the commands look for it."""
    monkeypatch.setenv("RAFTLITE_AUTHKEY", KEY)


def run(*arguments, **options):
    """Run the command as a process, to its end."""
    command = [sys.executable, "-m", "raftlite", *map(str, arguments)]
    options.setdefault("stdout", subprocess.PIPE)
    return subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
        timeout=PATIENCE,
        **options,
    )


def refusal(capsys, *arguments):
    """Run the command in this process; return its exit code and the one line that it says on standard error."""
    code = main([str(argument) for argument in arguments])
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.endswith("\n")
    lines = [line for line in said.err.splitlines() if "votes are kept in memory only" not in line]
    assert len(lines) == 1, lines
    return code, lines[0]


# --- raftlite node -------------------------------------------------------------------------------------------------


@pytest.fixture
def node(start_child, tmp_path):
    """Start `raftlite node` as a cluster of one, or with the given options."""

    def start(*options, source=COMMAND):
        options = options or ("--min-nodes", "1", "--data-dir", tmp_path)
        return start_child(source, "node", "--id", "a", "--listen", tmp_path / "a.sock", *LOYALLY, *options)

    return start


def read_until(child, event):
    """The events up to this one, which a node prints as JSON."""
    events = [json.loads(child.read_line())]
    while events[-1]["event"] != event:
        events.append(json.loads(child.read_line()))
    return events


def test_a_node_prints_an_object_for_each_event(node, tmp_path):
    """A script reads `t`, `event`, `node`, `term` and `leader`."""
    child = node("--json", "--min-nodes", "1", "--data-dir", tmp_path)
    events = read_until(child, "leader")
    while "started" not in [event["event"] for event in events]:
        events += read_until(child, "started")
    child.send_signal(signal.SIGTERM)
    events += [json.loads(line) for line in child.read_all()]
    assert child.wait() == 0
    for event in events:
        assert {"t", "event", "node", "term", "leader"} <= event.keys()
        assert isinstance(event["t"], float)
        assert event["node"] == "a"
    names = [event["event"] for event in events]
    names.remove("started")
    assert names == ["elected", "leader", "lost", "leader", "stopped"]
    told = [(event["term"], event["leader"]) for event in events if event["event"] in ("elected", "leader", "lost")]
    assert told == [(1, "a"), (1, "a"), (1, None), (1, None)]
    assert child.errors == ""


def test_a_node_tells_people_in_sentences(node, tmp_path):
    """A line each, with the time of day before it."""
    child = node()
    lines = [child.read_line() for _ in range(3)]
    child.send_signal(signal.SIGTERM)
    lines += child.read_all()
    assert child.wait() == 0
    said = [re.fullmatch(r"\d\d:\d\d:\d\d\.\d\d\d (.*)", line) for line in lines]
    assert None not in said, lines
    words = [match.group(1) for match in said]
    words.remove(f"a listens at {tmp_path}/a.sock")
    assert words == [
        "a leads in term 1",
        "a sees: a leads in term 1",
        "a no longer leads in term 1",
        "a sees: no leader",
        "a has stopped",
    ]


@pytest.mark.parametrize("number, code", [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_node_that_is_told_to_end_stops_in_order_and_leaves_no_socket(node, tmp_path, number, code):
    """Ctrl-C at a terminal, SIGTERM from whatever runs services. No traceback."""
    child = node("--json", "--min-nodes", "1", "--data-dir", tmp_path)
    read_until(child, "leader")
    child.send_signal(number)
    assert json.loads(child.read_all()[-1])["event"] == "stopped"
    assert child.wait() == code
    assert child.errors == ""
    assert not (tmp_path / "a.sock").exists()


def test_a_second_signal_ends_a_node_that_cannot_stop(start_child, tmp_path):
    """Nobody needs `kill -9`."""
    child = start_child(
        f"""
        import os, threading
        from raftlite.member import Member
        Member.stop = lambda member: os.write(1, b"stopping\\n") and threading.Event().wait()
        {COMMAND}
        """,
        *("node", "--json", "--id", "a", "--listen", tmp_path / "a.sock", "--min-nodes", "1", "--data-dir", tmp_path),
    )
    read_until(child, "leader")
    child.send_signal(signal.SIGTERM)
    while child.read_line() != "stopping":
        pass
    child.send_signal(signal.SIGTERM)
    assert child.wait() == -signal.SIGTERM


@pytest.mark.slow
def test_a_signal_at_any_moment_ends_the_wait_for_it(start_child):
    """Also in the middle of the very wait."""
    child = start_child(
        """
        import os, signal, threading
        from raftlite.command.signals import stop_signals
        for _ in range(100):
            with stop_signals() as ended:
                threading.Timer(0.0005, os.kill, (os.getpid(), signal.SIGTERM)).start()
                while not ended.wait(timeout=0):
                    pass
        print("all of them")
        """
    )
    child.expect("all of them")
    assert child.wait() == 0


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="signals here know no threads")
def test_a_signal_that_another_thread_receives_ends_a_wait_of_an_hour():
    """CPython has the main thread handle it, but does not wake it; nor does a signal that comes as the wait begins."""
    with stop_signals() as ended:
        threading.Timer(0.05, lambda: signal.pthread_kill(threading.get_ident(), signal.SIGTERM)).start()
        assert ended.wait(timeout=3600.0)
    assert ended.signal == signal.SIGTERM


@pytest.mark.slow
def test_a_node_whose_output_nobody_reads_ends_quietly(tmp_path):
    """`raftlite node | head` is no reason to lead on unseen, and none to complain."""
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w") as gone:
        done = run(
            *("node", "--id", "a", "--listen", tmp_path / "a.sock", "--min-nodes", 1, "--data-dir", tmp_path),
            *LOYALLY,
            stdout=gone,
        )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow
@pytest.mark.parametrize("command", [("node", "--id", "a", "--min-nodes", 1), ("simulate", "--seeds", 1), ("demo",)])
def test_an_output_that_cannot_be_written_exits_with_74_and_is_named(scratch, tmp_path_factory, command):
    """EX_IOERR: a full disk is no reader who has gone, and whoever starts a node again must learn of it."""
    if command[0] == "node":
        folder = tmp_path_factory.mktemp("node")
        command = (*command, "--listen", folder / "a.sock", "--data-dir", folder, *LOYALLY)
    with open("/dev/full", "w") as full:
        done = run(*command, stdout=full)
    said = f"raftlite {command[0]}: the output cannot be written: No space left on device\n"
    assert (done.returncode, done.stderr) == (74, said)


def test_a_pipe_that_is_full_for_a_moment_is_waited_for(monkeypatch):
    """One that does not block refuses what it has no room for, though its reader is alive and only slow."""
    monkeypatch.setattr(output, "LAST_WRITES", PATIENCE)
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with open(reader) as lines, ThreadPoolExecutor(1) as pool:
        with open(writer, "w") as out:
            while _takes(writer):
                pass
            lines_out = output.Output(out)
            lines_out.line("the end")
            with lines_out:
                eventually(lambda: is_inside(lines_out._thread, "_write"), "waiting for the reader")
                read = pool.submit(lines.readlines)
        assert read.result(PATIENCE)[-1] == "the end\n"
        assert not lines_out.is_gone


def _takes(writer):
    with contextlib.suppress(BlockingIOError):
        return os.write(writer, 2048 * b".\n")


@pytest.fixture
def full_pipe():
    """The end of a pipe into which not one more byte goes, because nobody reads it."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with open(reader, "rb"), open(writer, "wb", buffering=0) as pipe:
        while pipe.write(bytes(4096)) is not None:
            pass
        os.set_blocking(writer, True)
        yield pipe


@pytest.mark.slow
def test_a_node_whose_output_is_full_goes_on_and_ends_when_it_is_told_to(capfd, full_pipe, tmp_path):
    """A pager that somebody left open, a log collector that hangs: neither may stop the member or its end."""
    options = ["--id", "a", "--listen", str(tmp_path / "a.sock"), "--min-nodes", "1", "--data-dir", str(tmp_path)]
    command = [sys.executable, "-m", "raftlite", "node", *options, *map(str, LOYALLY)]
    with subprocess.Popen(command, stdout=full_pipe, stderr=subprocess.PIPE, env=environment()) as process:
        try:
            eventually(lambda: main(["status", str(tmp_path / "a.sock")]) == 0, "leading")
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE) == 0
            assert process.stderr.read() == b""
        finally:
            process.kill()


@pytest.mark.slow
def test_a_node_whose_log_is_full_goes_on_and_ends_when_it_is_told_to(capfd, full_pipe, tmp_path):
    """No thread of the member waits for whoever was to read standard error, however much there is to log."""
    options = ["--id", "a", "--listen", str(tmp_path / "a.sock"), "--min-nodes", "1", "--verbose"]
    command = [sys.executable, "-m", "raftlite", "node", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=full_pipe, env=environment()) as process:
        try:
            eventually(lambda: main(["status", str(tmp_path / "a.sock")]) == 0, "leading")
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE) == 0
            assert process.stdout.read().endswith(b"a has stopped\n")
        finally:
            process.kill()


@pytest.mark.slow
def test_a_node_logs_every_change_of_role_if_it_is_told_to(node, tmp_path):
    """With the time, on standard error; without `--verbose` there is nothing to say of a healthy cluster."""
    for options, wanted in (((), []), (("--verbose",), ["-> leader", "leader -> stopped"])):
        child = node("--json", "--min-nodes", "1", "--data-dir", tmp_path, *options)
        read_until(child, "leader")
        child.send_signal(signal.SIGTERM)
        assert child.wait() == 0
        lines = child.errors.splitlines()
        assert all(re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d\d\d a term \d: ", line) for line in lines), lines
        assert [change for change in wanted if change in child.errors] == wanted
        assert bool(lines) == bool(wanted), lines


def test_of_too_many_lines_that_nobody_reads_the_oldest_are_lost(monkeypatch):
    """And those that are left come in order. Whoever reads on wants to know who leads now."""
    monkeypatch.setattr(output, "LAST_WRITES", PATIENCE)
    reader, writer = os.pipe()
    with open(reader) as lines, open(writer, "w") as out:
        lines_out = output.Output(out)
        for number in range(2 * output.LINES_KEPT):
            lines_out.line(str(number))
        with lines_out:
            pass
        out.close()
        written = [int(line) for line in lines]
    assert written == sorted(written)
    assert written[-900:] == list(range(2 * output.LINES_KEPT))[-900:]
    assert len(written) <= output.LINES_KEPT


def test_a_node_without_an_output_runs_in_silence(node, tmp_path):
    """`raftlite node >&-`"""
    child = node("--min-nodes", "1", "--data-dir", tmp_path, source=f"import sys; sys.stdout = None; {COMMAND}")
    eventually(lambda: main(["status", str(tmp_path / "a.sock")]) == 0, "leading")
    child.send_signal(signal.SIGTERM)
    assert child.wait() == 0
    assert (child.read_all(), child.errors) == ([], "")


def test_a_node_that_does_not_end_in_time_exits_with_70_and_says_so(start_child, tmp_path):
    """EX_SOFTWARE: a `TimeoutError` is an `OSError`, but it does not mean that the address cannot be used."""
    child = start_child(
        f"""
        from raftlite.member import Member
        stop = Member.stop
        def stop_late(member):
            stop(member)
            raise TimeoutError("a has not ended within 5 s: a callback, a handle or the disk is still busy")
        Member.stop = stop_late
        {COMMAND}
        """,
        *("node", "--json", "--id", "a", "--listen", tmp_path / "a.sock", "--min-nodes", "1", "--data-dir", tmp_path),
        *LOYALLY,
    )
    read_until(child, "leader")
    child.send_signal(signal.SIGTERM)
    assert child.wait() == 70
    assert child.errors == "raftlite node: a has not ended within 5 s: a callback, a handle or the disk is still busy\n"


def test_the_module_is_the_command(tmp_path):
    """`python -m raftlite` where nothing is installed."""
    done = run("--version")
    assert re.fullmatch(r"raftlite \d+\.\d+\.\d+\n", done.stdout)
    assert done.returncode == 0
    done = run("node", "--id", "a")
    assert done.returncode == 64
    assert "--listen" in done.stderr


@pytest.mark.parametrize(
    "begin",
    [
        "from raftlite.__main__ import main; sys.exit(main())",
        "import runpy; runpy.run_module('raftlite', None, '__main__')",
    ],
    ids=["raftlite", "python -m raftlite"],
)
def test_a_command_that_is_interrupted_while_it_starts_ends_quietly(start_child, begin):
    """Ctrl-C at once: the first tenth of a second goes into imports."""
    child = start_child(
        f"""
        import os, signal, sys
        class Interrupter:
            def find_spec(name, path=None, target=None):
                if name == "raftlite.election":
                    os.kill(os.getpid(), signal.SIGINT)
        sys.meta_path.insert(0, Interrupter)
        {begin}
        """,
        "--version",
    )
    assert (child.wait(), child.errors) == (130, "")


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("fly",),
        ("node",),
        ("node", "--id", "a"),
        ("node", "--id", "a", "--listen", "h:1", "--min-nodes", "three"),
        ("node", "--id", "a", "--listen", "h:1", "--speed", "9"),
        ("status",),
        ("demo", "--nodes", "many"),
    ],
    ids=" ".join,
)
def test_wrong_arguments_exit_with_64_and_say_how_it_is_used(capsys, arguments):
    """EX_USAGE of sysexits.h; a usage line and a sentence."""
    with pytest.raises(SystemExit) as end:
        main(list(arguments))
    assert end.value.code == 64
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("usage: raftlite")
    assert said.err.splitlines()[-1].startswith("raftlite")


WRONG_SETTINGS = [
    (("--id", ""), "node id is '', but must be 1 to 128 printable characters"),
    (("--peer", "b"), "--peer is 'b', but must be ID=ADDRESS"),
    (("--peer", "b=h:1", "--peer", "b=h:3"), "--peer gives 'b' twice, but ids must be unique"),
    (("--peer", "b=h:1", "--peer", "c=h:1"), "peers gives b, c the same address h:1"),
    (("--peer", "=h:1"), "--peer is '=h:1', but must be ID=ADDRESS"),
    (("--peer", "b="), "--peer is 'b=', but must be ID=ADDRESS"),
    (("--peer", "a=b=h:1"), "--peer is 'a=b=h:1', but an id with = can only be given in a file or by a program"),
    (("--peer", "b\n=h:1"), "peers: node id is 'b\\n', but must be 1 to 128 printable characters"),
    (("--peer", "b=nowhere"), "the address of b is 'nowhere', but must be 'host:port' or the path of a Unix socket"),
    (("--peer", "b=h:65536"), "the address of b is 'h:65536', but its port must be from 0 to 65535"),
    (("--peer", "a=h:1"), "peers has 'a', this member itself, at h:1, but listen is"),
    (("--listen", "nowhere"), "listen is 'nowhere', but must be 'host:port' or the path of a Unix socket"),
    (
        ("--listen", "s.sock"),
        "listen is 's.sock', but must be 'host:port' or the path of a Unix socket, which needs a slash: ./s.sock",
    ),
    (("--listen", ""), "listen is '', but must be 'host:port' or the path of a Unix socket"),
    (("--listen", "host:99999"), "listen is 'host:99999', but its port must be from 0 to 65535"),
    (("--listen", "h:" + 250 * "9"), f"listen is 'h:{250 * '9'}', but its port must be from 0 to 65535"),
    (("--listen", "h:" + 5_000 * "9"), "listen is 'h:9999"),
    (("--listen", "a..b:80"), "listen is 'a..b:80', but 'a..b' is no name of a host"),
    (("--listen", "[::1:80"), "listen is '[::1:80', but must be 'host:port' or the path of a Unix socket"),
    (("--advertise", "nowhere"), "advertise is 'nowhere', but must be 'host:port' or the path of a Unix socket"),
    (("--advertise", "0.0.0.0:7600"), "advertise is '0.0.0.0:7600', but '0.0.0.0' names no host to connect to"),
    (("--advertise", "h:0"), "advertise is 'h:0', but nobody can connect to port 0"),
    (("--data-dir", ""), "data_dir is '', but must be the path of a folder"),
    (("--min-nodes", "0"), "min_nodes is 0, but must be a whole number from 1"),
    (("--min-nodes", "2", "--max-nodes", "5"), "min_nodes is 2, but must be more than half of max_nodes (5)"),
    (("--heartbeat-interval", "0"), "heartbeat_interval is 0.0, but must be a number from 0.001 to 86400 seconds"),
    (("--heartbeat-interval", "0.9"), "heartbeat_interval is 0.9, but must be at most half of election_timeout (1.0)"),
    (("--election-timeout", "nan"), "election_timeout is nan, but must be a number from 0.001 to 86400 seconds"),
    (("--message-timeout", "-1"), "message_timeout is -1.0, but must be a number from 0.001 to 86400 seconds"),
    (("--clock-drift", "0.5"), "clock_drift is 0.5, but must be a number from 0 to 0.25"),
    (("--authkey-file", "/no/such/file"), "--authkey-file /no/such/file cannot be read: No such file or directory"),
]


@pytest.mark.parametrize("options, sentence", WRONG_SETTINGS, ids=lambda value: " ".join(value)[:40])
def test_unsafe_settings_exit_with_78_and_one_sentence(capsys, tmp_path, options, sentence):
    """EX_CONFIG: the setting, its value and the bound."""
    code, line = refusal(capsys, "node", "--id", "a", "--listen", tmp_path / "a.sock", *options)
    assert code == 78
    assert line.startswith(f"raftlite node: {sentence}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", [("node", "--id", "a", "--listen", "127.0.0.1:0"), ("status", "127.0.0.1:1")])
def test_without_a_key_a_command_says_where_to_put_it(capsys, monkeypatch, tmp_path, command):
    """Neither is it asked for as an argument, which every other user of the machine could read."""
    (tmp_path / "empty").write_text("\n")
    monkeypatch.setenv("RAFTLITE_AUTHKEY", "")
    code, line = refusal(capsys, *command)
    assert code == 78
    assert line == (
        f"raftlite {command[0]}: no key: put the secret that all members share into RAFTLITE_AUTHKEY or --authkey-file"
    )
    code, line = refusal(capsys, *command, "--authkey-file", tmp_path / "empty")
    assert code == 78
    assert line.startswith(f"raftlite {command[0]}: --authkey-file {tmp_path}/empty is empty: write the secret into it")


def test_a_key_may_come_from_a_file(capsys, monkeypatch, tmp_path):
    """Then the variable is not looked at."""
    (tmp_path / "key").write_text(f"{KEY}\n")
    monkeypatch.setenv("RAFTLITE_AUTHKEY", "another one")
    with alone(tmp_path) as member:
        member.wait_until_leader(PATIENCE)
        assert main(["status", member.address, "--authkey-file", str(tmp_path / "key")]) == 0
        assert "leader   a" in capsys.readouterr().out


def test_an_address_in_use_exits_with_73_and_is_named(capsys, tmp_path):
    """EX_CANTCREAT."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        code, line = refusal(capsys, "node", "--id", "a", "--listen", address, "--data-dir", tmp_path)
    assert code == 73
    assert line.startswith(f"raftlite node: cannot listen on {address}: Address already in use")


def test_an_address_without_meaning_here_exits_with_73_and_is_named(capsys):
    """A name that nobody knows, and a folder that is not there."""
    code, line = refusal(capsys, "node", "--id", "a", "--listen", "name.invalid:7600")
    assert code == 73
    assert line.startswith("raftlite node: cannot listen on name.invalid:7600: ")
    code, line = refusal(capsys, "node", "--id", "a", "--listen", "/no/such/folder/a.sock")
    assert (code, line) == (
        73,
        "raftlite node: cannot listen on /no/such/folder/a.sock: No such file or directory",
    )


def test_a_path_where_no_socket_can_be_exits_with_73_and_is_named(capsys, tmp_path):
    """Somebody's file, which is left alone; and a path that the system cannot hold."""
    (tmp_path / "file").write_text("precious")
    code, line = refusal(capsys, "node", "--id", "a", "--listen", tmp_path / "file")
    assert (code, line) == (
        73,
        f"raftlite node: cannot listen on {tmp_path}/file: something is there that is no socket",
    )
    assert (tmp_path / "file").read_text() == "precious"
    long = tmp_path / (200 * "x")
    code, line = refusal(capsys, "node", "--id", "a", "--listen", long)
    assert (code, line) == (73, f"raftlite node: cannot listen on {long}: AF_UNIX path too long")


def test_votes_in_use_exit_with_74_and_are_named(capsys, tmp_path):
    """EX_IOERR: another process runs this member."""
    storage = SQLiteStorage(tmp_path / "a.sqlite3")
    code, line = refusal(capsys, "node", "--id", "a", "--listen", tmp_path / "a.sock", "--data-dir", tmp_path)
    storage.close()
    assert code == 74
    assert line.startswith("raftlite node: ")
    assert line.endswith(f"{tmp_path}/a.sqlite3: another process or member has it open")


@pytest.mark.parametrize("content", [b"", b"no database" * 100], ids=["empty", "foreign"])
def test_damaged_votes_exit_with_74_and_are_named(capsys, tmp_path, content):
    """An unreadable vote is never taken for an empty one."""
    (tmp_path / "a.sqlite3").write_bytes(content)
    code, line = refusal(capsys, "node", "--id", "a", "--listen", tmp_path / "a.sock", "--data-dir", tmp_path)
    assert code == 74
    assert f"{tmp_path}/a.sqlite3" in line
    assert (tmp_path / "a.sqlite3").read_bytes() == content
    assert not (tmp_path / "a.sock").exists()


def test_a_folder_that_cannot_hold_votes_exits_with_74_and_is_named(capsys, tmp_path):
    """Such as one that is a file."""
    (tmp_path / "file").write_text("")
    code, line = refusal(capsys, "node", "--id", "a", "--listen", tmp_path / "a.sock", "--data-dir", tmp_path / "file")
    assert (code, line) == (74, f"raftlite node: cannot make the folder {tmp_path}/file: File exists")
    (tmp_path / "a.sqlite3").mkdir()
    code, line = refusal(capsys, "node", "--id", "a", "--listen", tmp_path / "a.sock", "--data-dir", tmp_path)
    assert code == 74
    assert line.startswith(f"raftlite node: cannot open {tmp_path}/a.sqlite3: ")


@pytest.mark.slow
def test_a_node_that_can_no_longer_save_its_votes_exits_with_70_and_says_so(start_child, tmp_path):
    """EX_SOFTWARE: a forgotten vote is worse than a missing member."""
    child = start_child(
        f"""
        from raftlite.errors import StorageError
        from raftlite.storage import SQLiteStorage
        def save(storage, saved):
            raise StorageError("the disk is full")
        SQLiteStorage.save = save
        {COMMAND}
        """,
        *("node", "--json", "--id", "a", "--listen", tmp_path / "a.sock", "--min-nodes", "1", "--data-dir", tmp_path),
    )
    failed = read_until(child, "failed")[-1]
    assert failed["reason"] == "StorageError: the disk is full"
    assert child.wait() == 70
    assert not (tmp_path / "a.sock").exists()


def test_a_node_without_a_folder_for_its_votes_says_so(node):
    """Nobody is to find out after a restart."""
    child = node("--min-nodes", "1")
    child.read_line()
    child.send_signal(signal.SIGTERM)
    assert child.wait() == 0
    assert "a: votes are kept in memory only; --data-dir DIR saves them" in child.errors


# --- raftlite status -----------------------------------------------------------------------------------------------


def alone(folder, **settings):
    """A member that waits for others, or one that leads on a lease that no busy machine ends."""
    settings.setdefault("timing", TIMING if "min_nodes" in settings else LOYAL)
    settings.setdefault("min_nodes", 1)
    return Member("a", listen=str(folder / "a.sock"), authkey=KEY, **settings)


def test_status_says_who_leads_and_who_belongs(capsys, tmp_path):
    """A line for each thing that one wants to know."""
    with alone(tmp_path) as member:
        member.wait_until_leader(PATIENCE)
        assert main(["status", member.address]) == 0
    assert capsys.readouterr().out == "node     a (leader)\nterm     1\nleader   a\nmembers  a\n"


def test_status_is_one_object_for_scripts(capsys, tmp_path):
    """`--json`."""
    with alone(tmp_path) as member:
        member.wait_until_leader(PATIENCE)
        assert main(["status", "--json", member.address]) == 0
    status = json.loads(capsys.readouterr().out)
    assert (status["node"], status["role"], status["term"], status["leader"]) == ("a", "leader", 1, "a")
    assert (status["why"], status["error"]) == ("", "")
    nodes = status["membership"]["nodes"]
    assert nodes == [["a", True, f"{tmp_path}/a.sock"]]


def test_status_names_observers(capsys, tmp_path):
    """They do not count."""
    with alone(tmp_path) as member, Member("o", voter=False, listen="127.0.0.1:0", authkey=KEY, timing=TIMING) as other:
        member.wait_until_leader(PATIENCE)
        member.add_node("o", other.address, voter=False, timeout=PATIENCE)
        assert main(["status", member.address]) == 0
    assert "members  a, o (observer)\n" in capsys.readouterr().out


@pytest.mark.parametrize("peers, why", [({}, "knows 1 of 3 nodes"), ({"b": "127.0.0.1:1"}, "knows 2 of 3 nodes")])
def test_status_without_a_leader_says_how_many_nodes_are_missing_and_exits_with_75(capsys, tmp_path, peers, why):
    """EX_TEMPFAIL: ask again later."""
    with alone(tmp_path, min_nodes=3, peers=peers) as member:
        assert main(["status", member.address]) == 75
    assert f"leader   none: {why}\n" in capsys.readouterr().out


def test_an_id_that_the_output_cannot_show_is_printed_with_escapes(start_child, tmp_path):
    """`PYTHONIOENCODING=ascii`, or a terminal of long ago; no traceback."""
    place = str(tmp_path / "a.sock")
    source = f"import sys; sys.stdout.reconfigure(encoding='ascii', errors='strict'); {COMMAND}"
    with Member("é", listen=place, min_nodes=1, authkey=KEY, timing=LOYAL) as member:
        member.wait_until_leader(PATIENCE)
        child = start_child(source, "status", place)
        assert child.read_all()[2] == "leader   \\xe9"
        assert (child.wait(), child.errors) == (0, "")


def test_status_without_a_leader_says_who_cannot_be_reached(capsys, tmp_path):
    """And why, and since when."""
    peers = {"b": str(tmp_path / "b.sock"), "c": str(tmp_path / "c.sock")}
    with alone(tmp_path, min_nodes=None, peers=peers) as member:
        tried = re.compile(r"1 of 3 answer, b is unreachable .* No such file .*, c is unreachable .* No such file ")
        eventually(lambda: tried.match(member.status().why), "asked the others")
        assert main(["status", member.address]) == 75
    said = capsys.readouterr().out
    reason = r"is unreachable since \d+ s \(.*cannot connect to \S+: No such file or directory\)"
    assert re.search(rf"leader   none: 1 of 3 answer, b {reason}, c {reason}\n", said), said


def test_nobody_listening_exits_with_69_and_names_the_address(capsys, tmp_path):
    """EX_UNAVAILABLE."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))  # and does not listen; nor does anybody else then
        free = f"127.0.0.1:{sock.getsockname()[1]}"
        assert refusal(capsys, "status", free) == (69, f"raftlite status: cannot connect to {free}: Connection refused")
    path = tmp_path / "a.sock"
    assert refusal(capsys, "status", path) == (
        69,
        f"raftlite status: cannot connect to {path}: No such file or directory",
    )


def test_a_listener_that_says_nothing_exits_with_69(capsys, monkeypatch):
    """It is not waited for longer than was asked."""
    monkeypatch.setattr(watch, "ANSWER_TRAVELS", PATIENCE)  # until whoever asks has given up, and says why
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        code, line = refusal(capsys, "status", "--timeout", "0.05", address)
    assert code == 69
    assert line == f"raftlite status: {address}: no answer in time"


def test_with_json_whoever_says_nothing_is_an_object_too(capsys, tmp_path):
    """As it is one of several."""
    nobody = str(tmp_path / "nobody.sock")
    assert main(["status", "--json", nobody]) == 69
    said = capsys.readouterr()
    answer = json.loads(said.out)
    assert answer["address"] == nobody and "No such file" in answer["error"]
    assert answer["error"] in said.err


def test_another_key_or_another_cluster_exits_with_69_and_says_so(capsys, monkeypatch, tmp_path):
    """Both sides know why."""
    with alone(tmp_path, cluster="production") as member:
        code, line = refusal(capsys, "status", member.address, "--cluster", "staging")
        assert code == 69
        assert "the command names the cluster 'staging', but a names it 'production'" in line
        monkeypatch.setenv("RAFTLITE_AUTHKEY", "another one")
        code, line = refusal(capsys, "status", member.address, "--cluster", "production")
        assert code == 69
        assert line == f"raftlite status: {member.address}: authentication failed: the keys differ"


@pytest.mark.skipif(sys.version_info < (3, 11), reason="there is no tomllib")
def test_a_file_says_whom_to_ask_and_how(capsys, monkeypatch, tmp_path):
    """The one that the members themselves have: without it, cluster, key and addresses have to be typed."""
    monkeypatch.delenv("RAFTLITE_AUTHKEY", raising=False)
    (tmp_path / "key").write_text(KEY + "\n")
    path = tmp_path / "raftlite.toml"
    path.write_text("cluster = 'beat'\nauthkey_file = 'key'\n[members]\na = './a.sock'\nb = './b.sock'\n")
    with alone(tmp_path, cluster="beat") as member:
        member.wait_until_leader(PATIENCE)
        assert main(["status", "--config", str(path)]) == 0
        table = capsys.readouterr().out
        assert re.search(r"a.sock +a +leader", table) and re.search(r"b.sock +no answer", table)
        assert main(["status", "--config", str(path), str(tmp_path / "a.sock")]) == 0
        assert "leader   a\n" in capsys.readouterr().out
        assert refusal(capsys, "transfer", "--config", path, tmp_path / "a.sock")[0] == 69  # to nobody
        assert refusal(capsys, "status", "--config", path, "--cluster", "other", member.address)[0] == 69
    with pytest.raises(SystemExit) as end:
        main(["status"])
    assert end.value.code == 64
    assert "whom shall it ask? Give an ADDRESS, or a --config" in capsys.readouterr().err


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf", "1e9", "3600.5"])
def test_a_wait_out_of_bounds_exits_with_78(capsys, seconds):
    """Nobody is asked: a member would refuse to wait so long."""
    code, line = refusal(capsys, "status", "--timeout", seconds, "127.0.0.1:1")
    assert code == 78
    assert line == (
        f"raftlite status: --timeout is {float(seconds)!r}, but must be a number from 0.001 to 3600 seconds"
    )


@pytest.mark.parametrize(
    "address, bound",
    [
        ("nowhere", "must be 'host:port' or the path of a Unix socket, which needs a slash: ./nowhere"),
        ("h:99999", "its port must be from 0 to 65535"),
        (f"{64 * 'x'}:80", f"{64 * 'x'!r} is no name of a host"),
    ],
)
def test_an_address_that_is_none_is_named(capsys, address, bound):
    """A slip of the finger gets a sentence too."""
    assert refusal(capsys, "status", address) == (78, f"raftlite status: address is {address!r}, but {bound}")


def test_status_that_nobody_reads_ends_quietly(tmp_path):
    """`raftlite status | true`"""
    reader, writer = os.pipe()
    os.close(reader)
    with alone(tmp_path) as member, open(writer, "w") as gone:
        member.wait_until_leader(PATIENCE)
        done = run("status", member.address, stdout=gone)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_help_says_that_the_drift_of_clocks_is_no_duration(capsys):
    with pytest.raises(SystemExit):
        main(["node", "--help"])
    said = " ".join(capsys.readouterr().out.split())
    assert "--clock-drift FRACTION by how much the rates of two clocks may differ: 0.05 is 5 % (default 0.05)" in said
    assert "--election-timeout SECONDS a silence this long" in said


# --- raftlite demo -------------------------------------------------------------------------------------------------


@pytest.fixture
def scratch(monkeypatch, tmp_path):
    """Where temporary folders are made."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    yield tmp_path
    assert list(tmp_path.iterdir()) == []


def test_the_demonstration_shows_an_election_a_takeover_and_a_return(scratch):
    """And says at the end that nothing is left."""
    done = run("demo")
    assert (done.returncode, complaints(done.stderr)) == (0, "")
    steps = [line[10:] for line in done.stdout.splitlines()]
    shapes = [re.sub(r"\b(n\d|\d+(\.\d+)?)\b", "x", step) for step in steps]
    assert shapes == [
        "Starting x processes that talk over sockets and save their votes in SQLite",
        *["x  pid x"] * 3,
        "x is elected in term x; all x agree",
        "kill -x x",
        "x is elected in term x, x ms after the kill",
        "Restarting x  pid x",
        "x is back and follows x in term x",
        "All x processes have stopped. x s in all",
    ]
    pids = [int(step.split()[-1]) for step in steps if "  pid " in step]
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


@pytest.mark.slow
def test_the_demonstration_for_scripts_with_five_nodes(scratch):
    """An object a line, with what a script would want to compare."""
    done = run("demo", "--nodes", 5, "--json")
    assert (done.returncode, complaints(done.stderr)) == (0, "")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["event"] for line in lines] == [
        *("start", "process", "process", "process", "process", "process"),
        *("elected", "killed", "takeover", "restart", "rejoined", "stopped"),
    ]
    assert all(isinstance(line["t"], float) for line in lines)
    said = {line["event"]: line for line in lines}
    assert said["killed"]["leader"] == said["elected"]["leader"] == said["rejoined"]["node"]
    assert said["takeover"]["leader"] != said["elected"]["leader"]
    assert said["takeover"]["term"] > said["elected"]["term"]
    assert said["takeover"]["milliseconds"] > 0
    assert [line["node"] for line in lines if line["event"] == "process"] == ["n1", "n2", "n3", "n4", "n5"]
    assert len({line["pid"] for line in lines if "pid" in line}) == 6


@pytest.mark.parametrize("nodes", ["2", "10", "-3"])
def test_a_demonstration_of_too_few_or_too_many_nodes_exits_with_78(capsys, nodes):
    """Two cannot do without one of them."""
    code, line = refusal(capsys, "demo", "--nodes", nodes)
    assert (code, line) == (78, f"raftlite demo: --nodes is {nodes}, but must be a number from 3 to 9")


def nobody_is_heard(monkeypatch):
    """Else members that agree before anybody waits for that would do so in time."""
    monkeypatch.setattr(demo._Process, "_read", lambda process: None)


@pytest.mark.slow
@pytest.mark.parametrize(
    "constant, sentence",
    [("STARTUP", "the members did not agree on a leader within 0 s"), ("PATIENCE", "no other member was elected")],
)
def test_a_step_that_fails_is_named_and_the_demonstration_exits_with_1(
    capsys, monkeypatch, scratch, constant, sentence
):
    """It never says that all went well."""
    monkeypatch.setattr(demo, constant, 0.0)
    if constant == "STARTUP":
        nobody_is_heard(monkeypatch)
    monkeypatch.setattr(demo, "_is_win", lambda *_: False)  # a takeover may be quicker than the look for it
    assert main(["demo"]) == 1
    said = capsys.readouterr()
    assert said.err.startswith(f"raftlite demo: {sentence}")
    assert "rejoined" not in said.out
    pids = [int(line.split()[-1]) for line in said.out.splitlines() if "  pid " in line]
    assert len(pids) == 3
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


@pytest.mark.parametrize("node, is_takeover", [("n1", False), ("n2", True)])
def test_what_the_killed_leader_had_said_before_is_no_takeover(node, is_takeover):
    """It may have lost its lease and won again, which nobody had read yet when it was killed."""
    assert demo._is_win({"event": "elected", "term": 2, "node": node}, 1, dead="n1") is is_takeover


def test_a_step_that_fails_is_an_object_for_scripts(capsys, monkeypatch, scratch):
    """The reason is in both outputs."""
    monkeypatch.setattr(demo, "STARTUP", 0.0)
    nobody_is_heard(monkeypatch)
    assert main(["demo", "--json"]) == 1
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (last["event"], last["reason"]) == ("failed", "the members did not agree on a leader within 0 s")


def test_a_member_that_ends_by_itself_fails_the_demonstration_at_once(capfd, monkeypatch, scratch):
    """Its own words stand above, and nobody waits for what cannot come any more."""
    monkeypatch.setattr(demo, "STARTUP", 10 * PATIENCE)
    monkeypatch.setattr(demo, "_addresses", lambda ids, folder: {node_id: f"/no/{node_id}.sock" for node_id in ids})
    assert main(["demo"]) == 1
    said = capfd.readouterr().err
    assert re.search(r"raftlite node: cannot listen on /no/n\d.sock: No such file or directory", said)
    assert re.search(r"raftlite demo: n\d ended by itself with status 73", said)


@pytest.mark.slow
def test_the_members_of_a_demonstration_stop_in_order(scratch):
    """They hand over and say so, instead of being killed; one that is not there any more fails the demonstration."""
    for is_one_missing in (False, True):
        with tempfile.TemporaryDirectory() as folder, demo._Cluster(["n1", "n2", "n3"], folder) as cluster:
            for node_id in cluster.ids:
                cluster.start(node_id)
            for _ in cluster.ids:
                cluster.wait("a member did not start", PATIENCE, lambda event: event["event"] == "started")
            processes = [process.popen for process in cluster.processes.values()]
            if is_one_missing:
                processes[0].kill()
                processes[0].wait()
                with pytest.raises(demo.DemoFailed, match="n1 ended with status -9 when it was told to stop"):
                    cluster.stop()
            else:
                cluster.stop()
                assert [popen.returncode for popen in processes] == [0, 0, 0]


def test_a_demonstration_where_socket_paths_are_too_long_uses_tcp(tmp_path):
    """A temporary folder may be anywhere."""
    assert demo._addresses(["n1", "n2"], "/run/x") == {"n1": "/run/x/n1.sock", "n2": "/run/x/n2.sock"}
    addresses = demo._addresses(["n1", "n2"], "/run/" + 100 * "x")
    assert [address.rpartition(":")[0] for address in addresses.values()] == ["127.0.0.1", "127.0.0.1"]
    assert len(set(addresses.values())) == 2


def pids_of_members(child):
    """The processes that a demonstration with `--json` starts first."""
    read_until(child, "start")
    return [read_until(child, "process")[-1]["pid"] for _ in range(3)]


@pytest.mark.slow
@pytest.mark.parametrize("number, code, step", [(signal.SIGINT, 130, "elected"), (signal.SIGTERM, 143, None)])
def test_a_demonstration_that_is_ended_takes_its_members_with_it(start_child, scratch, number, code, step):
    """Ctrl-C, or the end of somebody's patience: no process and no folder stays behind."""
    child = start_child(COMMAND, "demo", "--json")
    pids = pids_of_members(child)
    if step:
        read_until(child, step)
    child.send_signal(number)
    assert child.wait() == code
    assert complaints(child.errors) == ""
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


@pytest.mark.parametrize("moment", ["kill", "wait"])
def test_ctrl_c_while_a_demonstration_kills_a_member_leaves_none_behind(tmp_path, monkeypatch, moment):
    """Neither one that has not been killed yet nor one that nobody has waited for."""

    def interrupt(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), demo._Cluster(["n1", "n2", "n3"], str(tmp_path)) as cluster:
        pid = cluster.start("n1")
        with monkeypatch.context() as patch:
            patch.setattr(subprocess.Popen, moment, interrupt)
            cluster.kill("n1")
    assert not Path(f"/proc/{pid}").exists()


def test_a_demonstration_that_nobody_reads_ends_quietly(scratch):
    """`raftlite demo | head -1`"""
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w") as gone:
        done = run("demo", stdout=gone)
    assert (done.returncode, complaints(done.stderr)) == (0, "")


def variables_of(pid):
    """Until it has become the member, the process has the variables of whoever started it."""
    entries = Path(f"/proc/{pid}/environ").read_text().split("\0")
    return dict(entry.split("=", 1) for entry in entries if "=" in entry)


def test_ctrl_c_at_the_very_beginning_of_a_demonstration_says_nothing(scratch):
    """At a terminal the members get it too, while their Python is still starting and would show where."""
    child = subprocess.Popen(
        [sys.executable, "-m", "raftlite", "demo", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
        start_new_session=True,
        text=True,
    )
    with child:
        pids = [json.loads(child.stdout.readline()).get("pid") for _ in range(4)]
        os.killpg(child.pid, signal.SIGINT)
        _, errors = child.communicate(timeout=PATIENCE)
    assert (child.returncode, complaints(errors)) == (130, "")
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids if pid)


def test_the_key_is_in_no_command_line(start_child, scratch):
    """Every user of the machine can read those."""
    child = start_child(
        f"""
        import threading
        from raftlite.command import demo
        demo._wait_for_agreement = lambda *_: threading.Event().wait()  # whoever is looked at is not killed meanwhile
        {COMMAND}
        """,
        *("demo", "--json"),
    )
    for pid in pids_of_members(child):
        key = eventually(lambda pid=pid: variables_of(pid).get("RAFTLITE_AUTHKEY"), "a key")
        assert len(key) >= 32
        assert key not in Path(f"/proc/{pid}/cmdline").read_text()
    child.send_signal(signal.SIGTERM)
    child.wait()
