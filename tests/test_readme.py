"""What people copy first: every block of the README is run here, and does and prints what it says."""

from __future__ import annotations

import ast
import contextlib
import functools
import json
import logging
import os
import re
import shlex
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
import urllib.request
from configparser import ConfigParser
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List

import pytest
from benchmarks.peers import compare
from benchmarks.peers.systems import DEFAULTS
from children import environment
from programs import PATIENCE, TOP, Program, check_tokens, free_ports, logged, one_that_leads, run, tokens_of
from threads import eventually

from raftlite import Member, SQLiteFencingGate, StaleToken, Timing
from raftlite.command.config import read_config
from raftlite.command.watch import ANSWER_TRAVELS

README = (TOP / "README.md").read_text(encoding="utf-8")
QUICK = Timing(heartbeat_interval=0.03, election_timeout=0.3, message_timeout=5.0)
KEY = {"RAFTLITE_AUTHKEY": "secret"}
RAFTLITE = ["-m", "raftlite"]


def blocks() -> List[str]:
    """Each with its language in the first line."""
    return re.findall(r"```(\w+\n.*?)```", README, re.DOTALL)


def block(language: str, part: str) -> str:
    """The one block in this language that has `part` in it."""
    (found,) = [each for each in blocks() if each.startswith(f"{language}\n") and part in each]
    return found.partition("\n")[2]


def same_shape(lines: List[str]) -> List[str]:
    """Lines without what changes from run to run: who was elected, and numbers."""
    return [re.sub(r"\d+(\.\d+)*", "0", re.sub(r"\b(n\d|[abc])\b", "x", line)).split() for line in lines]


def commands(text: str, name: str = "") -> List[List[str]]:
    """The commands of a block that call this program, split as a shell does, without their comments."""
    lines = [line[2:] for line in text.replace("\\\n", " ").splitlines() if line.startswith("$ ")]
    return [words for words in (shlex.split(line, comments=True) for line in lines) if words[0] == name or not name]


def printed_in(text: str) -> List[str]:
    """What a block says is printed by its last command."""
    lines = text.replace("\\\n", " ").splitlines()
    return lines[max(number for number, line in enumerate(lines) if line.startswith("$ ")) + 1 :]


class Here:
    """This machine in the place of the three: free ports for their addresses, a folder for theirs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        names = [f"10.0.0.{number}:7600" for number in range(1, 5)]
        self._places = {name: f"127.0.0.1:{port}" for name, port in zip(names, free_ports(len(names)))}
        self._places["/var/lib"] = str(folder)

    def __call__(self, text: str) -> str:
        for there, here in self._places.items():
            text = text.replace(there, here)
        return text

    def for_each_member(self, command: List[str]) -> Dict[str, List[str]]:
        """What the member `a` is started with, and the same for those that it names as its peers."""
        peers = dict(word.split("=") for word in command if re.match("[bc]=", word))
        members = {"a": command[command.index("--listen") + 1], **peers}
        end = command.index("--data-dir")
        found = {}
        for name, address in members.items():
            others = [part for peer, at in members.items() if peer != name for part in ("--peer", f"{peer}={at}")]
            found[name] = [command[1], "--id", name, "--listen", address, *others, *command[end:]]
        assert found["a"] == command[1:]
        return {name: [self(word) for word in words] for name, words in found.items()}


@pytest.fixture
def here(tmp_path: Path) -> Here:
    return Here(tmp_path)


def raftlite(*words: str) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    command = [sys.executable, *RAFTLITE, *words]
    return subprocess.run(command, env={**environment(), **KEY}, capture_output=True, text=True, timeout=PATIENCE)


def await_success(*words: str) -> List[str]:
    """Run the command until it succeeds, as people do; what it has printed."""
    done = eventually(lambda: next((d for d in [raftlite(*words)] if d.returncode == 0), None), f"done: {words}")
    return done.stdout.splitlines()


# --- What the README is ------------------------------------------------------------------------------------------


def test_every_block_is_run() -> None:
    """By a test that looks it up by a part of it."""
    sources = "".join(path.read_text(encoding="utf-8") for path in (TOP / "tests").glob("test_*.py"))
    looked_up = [ast.literal_eval(f"({each})") for each in re.findall(r'\bblock\(("\w+", "[^"]+")\)', sources)]
    for each in blocks():
        assert [part for language, part in looked_up if each.startswith(f"{language}\n") and part in each], each


def test_what_raftlite_does_not_do_is_on_the_first_screen() -> None:
    """With what to use instead."""
    screen = "\n".join(README.splitlines()[:24])
    for what in ("does not", "etcd", "ZooKeeper", "database", "file lock"):
        assert what in screen


def test_the_readme_opens_with_a_program_of_fewer_than_twenty_lines() -> None:
    assert len(block("python", "import multiprocessing, tempfile").splitlines()) <= 20


def test_the_readme_names_both_commands() -> None:
    assert commands(block("console", "# the tests")) == [["make", "demo"], ["make", "test"]]


def test_the_part_of_the_benchmark_asks_for_the_rows_that_are_shown() -> None:
    """Under the words that its tables have in the README."""
    ((path, _, _, module, *words),) = commands(block("console", "benchmarks.peers.compare"))
    assert (path, module) == ("PYTHONPATH=.:tests", "benchmarks.peers.compare")
    options, wanted = compare.parse(words)
    shown = {(kind.fault, kind.size) for kind in wanted}
    for fault, size in shown:
        table = README[README.index(f"**{compare.WORDS[fault]}**, {size} processes, default timing") :].split("\n\n")[1]
        rows = re.findall(r"^\| (\S.*?) +\| +(\d+) \|", table, flags=re.MULTILINE)
        assert rows == [(system, str(options.kills)) for system in options.systems]
    assert {kind.pace for kind in wanted} == {DEFAULTS}


# --- Programs ----------------------------------------------------------------------------------------------------


def test_the_first_program_of_the_readme_prints_what_it_says(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(block("python", "import multiprocessing, tempfile"), encoding="utf-8")
    printed = run("program.py", cwd=tmp_path)
    assert same_shape(printed) == same_shape(printed_in(block("console", "python program.py")))
    (leader,) = {line.split()[-1] for line in printed if "follows" in line}
    assert printed[-1] == f"{leader} does what only one may do"


def test_the_demonstration_of_the_readme_prints_what_it_says() -> None:
    printed = run("-m", "raftlite", "demo", cwd=TOP)
    assert same_shape(printed) == same_shape(printed_in(block("console", "kill -9 n1")))


SURROUNDINGS = """
import sys
name, secret = sys.argv[1], "secret"
class scheduler:
    start = lambda token: print(f"begins, token {token}", flush=True)
    shutdown = lambda: print("ends", flush=True)
"""
BEGINS = r"begins, token (?P<token>\d+)"


@pytest.mark.slow
def test_the_program_with_callbacks_works_on_one_of_three_machines(start_program: Any, here: Here) -> None:
    text = block("python", "# strictly paired")
    for there, this in (
        ('"a", peers', "name, peers"),
        ('["a"]', "[name]"),
        ("scheduler.start()", "scheduler.start(leadership.token)"),
        ("=5)", "=60)"),
        (" ...  ", ' print("works")'),
    ):
        assert text.count(there) == 1
        text = text.replace(there, this)
    (here.folder / "program.py").write_text(SURROUNDINGS + here(text), encoding="utf-8")
    programs = {name: start_program("program.py", name) for name in "abc"}
    first, _ = one_that_leads(programs, BEGINS)
    programs[first].wait_for("works")
    programs[first].kill()
    others = {name: program for name, program in programs.items() if name != first}
    second, _ = one_that_leads(others, BEGINS, after=max(tokens_of(programs[first], BEGINS)))
    programs[second].wait_for("works")
    for program in others.values():
        program.interrupt()
        program.wait()
    assert programs[second].printed("ends")
    check_tokens(programs, BEGINS)


@pytest.fixture
def member() -> Iterator[Member]:
    """A cluster of one, which leads again soon after it has resigned."""
    with Member("a", min_nodes=1, timing=QUICK) as member:
        yield member


@pytest.mark.slow
def test_the_body_the_job_and_the_question_of_the_readme(member: Member) -> None:
    """One statement after the other; the body and the job end as the test has them end."""
    rows: List[int] = []

    class Done(Exception):
        pass

    class Database:
        def write(self, row: str, fence: int) -> None:
            rows.append(fence)
            member.resign()

    def job(leadership: Any) -> None:
        assert leadership.token > rows[0]
        raise Done

    text = block("python", "member.run(job)").replace("wait(1.0)", "wait(0.001)")
    names = {"member": member, "db": Database(), "row": "", "job": job}
    body, question, verification = (ast.unparse(each) for each in ast.parse(text).body)
    exec(body, names)
    assert rows  # and perhaps one more, before the election has heard of it
    with pytest.raises(Done):
        exec(question, names)
    member.wait_until_leader(PATIENCE)
    exec(verification.replace("timeout=1", "timeout=60"), names)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="the output of a pool that spawns comes in another order")
def test_one_worker_of_the_pool_of_the_readme_coordinates(tmp_path: Path) -> None:
    """Tasks and parent know which."""
    (tmp_path / "program.py").write_text(block("python", "PoolElection(workers=4"), encoding="utf-8")
    *elected, agree = run("program.py", cwd=tmp_path)
    assert agree == "True"
    assert re.fullmatch(r"w[0-3] coordinates, token \d+", elected[0])


# --- Late writes -------------------------------------------------------------------------------------------------


def test_the_gates_of_the_readme_refuse_what_is_late() -> None:
    """Each is closed to an older token, and the body is not run then."""

    class Leadership:
        token = 7

    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("CREATE TABLE orders (name TEXT)")
        names: Dict[str, Any] = {"leadership": Leadership, "orders": [], "order": "tea", "connection": connection}
        exec(block("python", "SQLiteFencingGate("), names)
        assert names["orders"] == ["tea"]
        assert connection.execute("SELECT name FROM orders").fetchall() == [("tea",)]
        assert isinstance(names["gate"], SQLiteFencingGate)
        with pytest.raises(StaleToken), names["gate"].admit(connection, 6):
            pytest.fail("a late write")


def statements() -> List[str]:
    """The table, and what compares the token 7."""
    table, compare = (each.strip() for each in block("sql", "fencing").split(";") if each.strip())
    assert compare.count(", 7)") == 1
    return [table, re.sub(r"--.*", "", compare)]


def with_token(token: int) -> str:
    return statements()[1].replace(", 7)", f", {token})")


def test_the_sql_of_the_readme_is_three_lines() -> None:
    assert len(block("sql", "fencing").splitlines()) == 3


def test_the_sql_of_the_readme_changes_no_row_for_a_token_that_is_late() -> None:
    """In SQLite, whose dialect it is too."""
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        connection.execute(statements()[0])
        counts = [connection.execute(with_token(token)).rowcount for token in (3, 3, 7, 6, 7, 8, 3)]
        assert counts == [1, 1, 1, 0, 1, 1, 0]


def postgres_program(name: str) -> str:
    """Debian keeps most of them off the path."""
    places = sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin")), reverse=True)
    return shutil.which(name, path=os.pathsep.join([*places, os.environ.get("PATH", "")])) or ""


class PostgreSQL:
    """A server of its own, in a folder of its own, that listens at a socket in there and nowhere else."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self._user: Dict[str, Any] = {}
        if os.getuid() == 0:  # as whom it refuses to run
            shutil.chown(folder, "postgres", "postgres")
            self._user = {"user": "postgres", "group": "postgres", "cwd": folder}
        command = [postgres_program("initdb"), "--no-sync", "--auth=trust", "--username=test", f"{folder}/data"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=PATIENCE, **self._user)
        command = [postgres_program("postgres"), "-D", f"{folder}/data", "-k", folder, "-h", "", "-F"]
        self._server = subprocess.Popen(command, stderr=subprocess.DEVNULL, **self._user)
        try:
            eventually(lambda: self.psql("SELECT 1", check=False) == "1", "answered by PostgreSQL")
        except BaseException:
            self.end()
            raise

    def command(self, *options: str) -> List[str]:
        connection = ["-h", self.folder, "-U", "test", "-d", "postgres"]
        return [postgres_program("psql"), "-XAtq", "-v", "ON_ERROR_STOP=1", *connection, *options]

    def psql(self, sql: str, check: bool = True) -> str:
        done = subprocess.run(self.command("-c", sql), check=check, capture_output=True, text=True, timeout=PATIENCE)
        return done.stdout.strip()

    def end(self) -> None:
        self._server.send_signal(3)  # an immediate shutdown
        self._server.wait(PATIENCE)


def popen(command: List[str], errors: int) -> subprocess.Popen[str]:
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True)


class Session:
    """One connection: statements go in, and the number of rows that each has changed comes out."""

    def __init__(self, server: PostgreSQL) -> None:
        self._psql = popen(server.command(), subprocess.STDOUT)

    def begin(self, sql: str) -> None:
        assert self._psql.stdin is not None
        self._psql.stdin.write(f"{sql};\n\\echo :ROW_COUNT\n")
        self._psql.stdin.flush()

    def rows(self) -> str:
        assert self._psql.stdout is not None
        return self._psql.stdout.readline().strip()

    def do(self, sql: str) -> str:
        self.begin(sql)
        return self.rows()

    def end(self) -> str:
        """What else it has said."""
        return self._psql.communicate(timeout=PATIENCE)[0]


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgreSQL]:
    if not all(map(postgres_program, ["initdb", "postgres", "psql"])):
        pytest.skip("PostgreSQL is not installed")
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        server = PostgreSQL(folder)
        server.psql("CREATE TABLE orders (number serial, token bigint)")
        yield server
        server.end()


@pytest.fixture
def sessions(postgres: PostgreSQL) -> Iterator[Callable[[], Session]]:
    """Open a session on a server where nothing has been written yet."""
    postgres.psql(f"DROP TABLE IF EXISTS fencing; TRUNCATE orders; {statements()[0]}")
    found: List[Session] = []

    def session() -> Session:
        found.append(Session(postgres))
        return found[-1]

    yield session
    for each in found:
        each.end()


def waiting(server: PostgreSQL) -> int:
    """How many sessions wait for a lock."""
    return int(server.psql("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"))


@pytest.mark.slow
@pytest.mark.parametrize("first_ever", [False, True])
def test_in_postgresql_a_late_write_waits_for_the_newer_one_and_is_refused(postgres, sessions, first_ever) -> None:
    """Also where there is no row yet that could be locked."""
    newer, older = sessions(), sessions()
    if not first_ever:
        assert older.do(with_token(1)) == "1"
    newer.do("BEGIN")
    older.do("BEGIN")
    assert newer.do(with_token(2)) == "1"
    older.begin(with_token(1))
    eventually(lambda: waiting(postgres), "held up by the newer transaction")
    newer.do("INSERT INTO orders (token) VALUES (2)")
    newer.do("COMMIT")
    assert older.rows() == "0"
    older.do("ROLLBACK")
    assert newer.do(with_token(1)) == "0"
    assert postgres.psql("SELECT token FROM fencing") == "2"


@pytest.mark.slow
@pytest.mark.parametrize("first_ever", [False, True])
def test_in_postgresql_a_newer_write_comes_after_the_older_one_that_was_in_time(postgres, sessions, first_ever) -> None:
    """It is not refused, and it sees what that has written."""
    newer, older = sessions(), sessions()
    if not first_ever:
        assert older.do(with_token(1)) == "1"
    older.do("BEGIN")
    newer.do("BEGIN")
    assert older.do(with_token(1)) == "1"
    newer.begin(with_token(2))
    eventually(lambda: waiting(postgres), "held up by the older transaction")
    older.do("INSERT INTO orders (token) VALUES (1)")
    older.do("COMMIT")
    assert newer.rows() == "1"
    assert newer.do("UPDATE orders SET token = 2 WHERE token = 1") == "1"
    newer.do("COMMIT")
    assert older.do(with_token(1)) == "0"


@pytest.mark.slow
def test_in_postgresql_a_newer_write_that_is_rolled_back_does_not_shut_the_older_one_out(postgres, sessions) -> None:
    newer, older = sessions(), sessions()
    newer.do("BEGIN")
    assert newer.do(with_token(2)) == "1"
    older.begin(with_token(1))
    eventually(lambda: waiting(postgres), "held up by the newer transaction")
    newer.do("ROLLBACK")
    assert older.rows() == "1"


@pytest.mark.slow
@pytest.mark.parametrize("level", ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"])
def test_in_postgresql_what_many_leaders_write_at_once_never_falls_back(postgres, sessions, level) -> None:
    """Four sessions, each with tokens of its own; a transaction that fails or is refused writes nothing."""
    each_writes = """
        \\set ON_ERROR_STOP 0
        BEGIN ISOLATION LEVEL {level};
        {compare};
        SELECT :ROW_COUNT > 0 AS in_time \\gset
        \\if :in_time
            INSERT INTO orders (token) VALUES ({token});
            COMMIT;
        \\else
            ROLLBACK;
        \\endif
    """
    gate = sessions()
    gate.do("SELECT pg_advisory_lock(1)")
    writers = []
    for first in range(1, 5):
        script = "".join(each_writes.format(level=level, compare=with_token(t), token=t) for t in range(first, 401, 4))
        writers.append(popen(postgres.command(), subprocess.DEVNULL))
        script = f"SELECT pg_advisory_lock_shared(1);\n{script}"
        threading.Thread(target=writers[-1].communicate, args=(script,)).start()
    eventually(lambda: waiting(postgres) == 4, "at the gate")
    gate.do("SELECT pg_advisory_unlock(1)")
    for writer in writers:
        writer.wait(PATIENCE)
    written = [int(line) for line in postgres.psql("SELECT token FROM orders ORDER BY number").split()]
    assert len(written) > 4
    assert written == sorted(written)


# --- Commands ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_cluster_is_started_asked_grown_and_shrunk_as_the_readme_says(start_program: Any, here: Here) -> None:
    text = block("console", "raftlite status 10.0.0.1:7600\n")
    node, status = commands(text, "raftlite")
    members = {name: start_program(*RAFTLITE, *words, **KEY) for name, words in here.for_each_member(node).items()}
    members["a"].wait_for("sees: . leads")
    promised = printed_in(text)
    heads = [line.split()[0] for line in promised]

    def whole() -> List[str]:
        said = await_success(*map(here, status[1:]))
        return said if [line.split()[0] for line in said] == heads else []

    said = eventually(whole, f"connected to the others, without a line for who is missing: {heads}")
    assert said[3] == promised[3]

    node, add, remove, transfer = commands(block("console", "# knows nobody"), "raftlite")
    members["d"] = start_program(*RAFTLITE, *map(here, node[1:]), **KEY)
    members["d"].wait_for("d listens")
    assert "members  a, b, c, d" in await_success(*map(here, add[1:]))
    members["d"].wait_for("d sees: . leads")
    assert "members  b, c, d" in await_success(*map(here, remove[1:]))
    assert members.pop("a").wait() == 0
    await_success(*map(here, transfer[1:]))
    eventually(lambda: "leader   c" in raftlite("status", here("10.0.0.2:7600")).stdout, "handed over")
    for member in members.values():
        member.interrupt()
        assert member.wait() == 130


@pytest.mark.slow
def test_the_classroom_of_the_readme(start_program: Any, tmp_path: Path) -> None:
    """Its page answers until Ctrl-C, its scenes keep their contracts, and the recording is one."""
    page, with_processes, plain, instructions, exercise, record, export = (
        command[1:] for command in commands(block("console", "raftlite lab --instructions"), "raftlite")
    )
    for command in (page, with_processes):
        lab = start_program(*RAFTLITE, *command, "--no-open")
        (url,) = lab.wait_for(r"http://\S+")
        assert b"raftlite" in urllib.request.urlopen(url[0], timeout=PATIENCE).read()
        lab.interrupt()
        assert lab.wait() == 130
    for command in (plain, record):
        assert "hold." in run(*RAFTLITE, *command, "--scale", "0.01", "--seed", "1", cwd=tmp_path)[-1]
    assert "minute" in " ".join(run(*RAFTLITE, *instructions, cwd=tmp_path))
    run(*RAFTLITE, *exercise, cwd=tmp_path)
    assert (tmp_path / "FOLDER" / "EXERCISE.md").exists()
    run(*RAFTLITE, *export, cwd=tmp_path)
    assert (tmp_path / "run.svg").read_text(encoding="utf-8").startswith("<svg")


@pytest.mark.slow
def test_members_with_certificates_as_the_readme_makes_them_elect_a_leader(start_program: Any, here: Here) -> None:
    if not shutil.which("openssl"):
        pytest.skip("openssl is not installed")
    text = block("console", "openssl")
    make_ca, request, sign = commands(text, "openssl")
    for words in (make_ca, request, sign, *(mine("b", command) for command in (request, sign))):
        subprocess.run(words, cwd=here.folder, check=True, capture_output=True, timeout=PATIENCE)
    node, status = commands(text, "raftlite")
    members = here.for_each_member(node)
    asked = start_program(*RAFTLITE, *members["a"])
    start_program(*RAFTLITE, *mine("b", members["b"])).wait_for("sees: . leads")
    asked.wait_for("sees: . leads")
    asks = start_program(*RAFTLITE, *map(here, status[1:]))
    assert asks.wait() == 0
    assert "members  a, b, c" in asks.text


def mine(name: str, command: List[str]) -> List[str]:
    """What `a` does with its files, for another."""
    return [re.sub(r"\ba(?=\.(?:key|csr|pem))|(?<=CN=)a", name, word) for word in command]


ECHO = ("sh", "-c", 'echo "runs for $RAFTLITE_NODE_ID, token $RAFTLITE_TOKEN, term $RAFTLITE_TERM"; exec sleep 1000')


@pytest.mark.slow
def test_the_command_of_the_readme_runs_on_one_of_three_machines(start_program: Any, here: Here) -> None:
    (run_a,) = commands(block("console", "raftlite run --id a"), "raftlite")
    assert run_a[run_a.index("--") + 1 :] == ["celery", "-A", "app", "beat"]
    wrappers = {
        name: start_program(*RAFTLITE, *words[: words.index("--") + 1], *ECHO, **KEY)
        for name, words in here.for_each_member(run_a).items()
    }
    runs_on_one_after_the_other(wrappers)


RUNS = r"runs for (?P<name>\w+), token (?P<token>\d+), term (?P=token)\b"


def runs_on_one_after_the_other(wrappers: Dict[str, Program]) -> None:
    """And `kill -9` and TERM each move it."""
    first, _ = one_that_leads(wrappers, RUNS)
    wrappers[first].kill()
    others = {name: wrapper for name, wrapper in wrappers.items() if name != first}
    one_that_leads(others, RUNS, after=max(tokens_of(wrappers[first], RUNS)))
    for wrapper in others.values():
        wrapper.terminate()
        assert wrapper.wait() == 0 or "because the lease was running out" in wrapper.text  # a machine that is busy
    check_tokens(wrappers, RUNS)
    for name, wrapper in wrappers.items():
        assert {match["name"] for match in wrapper.printed(RUNS)} <= {name}
        assert len(wrapper.printed(RUNS)) == len(wrapper.printed("runs for"))


def configured(here: Here) -> Path:
    """The file of the README, for this machine."""
    path = here.folder / "raftlite.toml"
    text = here(block("toml", "[members]")).replace("/etc/beat/authkey", "authkey")
    path.write_text(text, encoding="utf-8")
    (here.folder / "authkey").write_text("secret", encoding="utf-8")
    return path


def test_the_file_of_the_readme_is_one_for_every_machine(here: Here) -> None:
    config = read_config(str(configured(here)))
    assert sorted(config.members) == ["web1", "web2", "web3"]
    assert config.run == {"grace": 20.0, "on_exit": "restart"}


def unit() -> ConfigParser:
    parser = ConfigParser(interpolation=None, comment_prefixes="#")
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(re.sub(r"\\\n\s*", "", block("ini", "ExecStart")))
    return parser


def started_by_the_unit(here: Here) -> Dict[str, List[str]]:
    """What the unit starts on each machine; only nobody here waits for a first leader as long as its timing says."""
    program, *words = shlex.split(unit()["Service"]["ExecStart"])
    assert Path(program).name == "raftlite" and words[0] == "run"
    path = str(configured(here))
    words = [word.replace("/etc/beat/raftlite.toml", path).replace("/var/lib/beat/schedule", "%H") for word in words]
    words[1:1] = ["--election-timeout", "0.5", "--heartbeat-interval", "0.1"]
    return {name: [word.replace("%H", name) for word in words] for name in ("web1", "web2", "web3")}


@pytest.mark.slow
def test_the_unit_of_the_readme_runs_a_command_on_one_of_three_machines(start_program: Any, here: Here) -> None:
    """test_examples_with_packages.py has Celery run by it."""
    wrappers = {
        name: start_program(*RAFTLITE, *words[: words.index("--") + 1], *ECHO)
        for name, words in started_by_the_unit(here).items()
    }
    runs_on_one_after_the_other(wrappers)


def test_the_unit_of_the_readme_leaves_the_command_its_grace() -> None:
    """TERM is for the wrapper alone, and systemd's own KILL comes after the wrapper's."""
    grace = float(re.findall(r"grace = (\S+)", block("toml", "[members]"))[0])
    assert unit()["Service"]["KillMode"] == "mixed"
    assert float(unit()["Service"]["TimeoutStopSec"]) > grace


def test_systemd_finds_nothing_wrong_with_the_unit_of_the_readme(tmp_path: Path) -> None:
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd is not installed")
    path = tmp_path / "beat.service"
    there = "/opt/app/bin/raftlite"
    text = block("ini", "ExecStart")
    assert text.count(there) == 1
    path.write_text(text.replace(there, sys.executable), encoding="utf-8")
    command = ["systemd-analyze", "verify", "--man=no", "--generators=no", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert [line for line in done.stderr.splitlines() if path.name in line] == []
    assert done.returncode == 0, done.stderr


# --- Watching ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_table_of_the_readme_is_what_status_prints_and_the_probe_goes_by_the_lease(
    start_program: Any, here: Here
) -> None:
    """Two of three run; then one, without a leader; then none."""
    text = block("console", "ADDRESS ")
    (status,) = commands(text, "raftlite")
    node, _ = commands(block("console", "raftlite status 10.0.0.1:7600\n"), "raftlite")
    started = {name: words for name, words in here.for_each_member(node).items() if name != "c"}
    members = [start_program(*RAFTLITE, *words, **KEY) for words in started.values()]
    wanted = sorted(same_shape(printed_in(text)))

    def printed() -> List[str]:
        return sorted(same_shape(raftlite(*map(here, status[1:])).stdout.splitlines()))

    eventually(lambda: printed() == wanted, f"printed: {wanted}")
    probe = [word.replace("127.0.0.1:7600", here("10.0.0.1:7600")) for word in probe_of_the_readme()]
    eventually(lambda: raftlite(*probe).returncode == 0, "confirmed by the leader")
    assert json.loads(raftlite(*map(here, status[1:]), "--json").stdout)["answered"] == 2
    members[1].kill()
    eventually(lambda: raftlite(*probe).returncode == 75, "without a leader")
    members[0].kill()
    assert raftlite(*probe).returncode == 69


def probe_of_the_readme() -> List[str]:
    (listed,) = re.findall(r"command: \[(.*)\]", block("yaml", "readinessProbe"))
    program, *words = [word.strip(' "') for word in listed.split(",")]
    assert program == "raftlite" and "--exit-code" in words
    return words


def test_a_probe_has_ended_before_it_is_ended() -> None:
    """It may ask twice: the member, and then its leader."""
    words = probe_of_the_readme()
    (patience,) = re.findall(r"timeoutSeconds: (\d+)", block("yaml", "readinessProbe"))
    assert 2 * (float(words[words.index("--timeout") + 1]) + ANSWER_TRAVELS) < float(patience)


LOGS = """
from raftlite import AddNode, ElectionThread, Timing
members = [ElectionThread(name, timing=Timing.fast(), min_nodes=3) for name in "abc"]
for member in members:
    member.start()
for member in members:
    for other in members:
        member.inbox.put(AddNode(other.node))
members[0].wait_for_leader(60)
for member in members:
    member.stop()
"""


@pytest.mark.slow
def test_the_log_has_the_line_that_the_readme_shows(tmp_path: Path) -> None:
    text = block("python", "basicConfig")
    (tmp_path / "program.py").write_text(text + LOGS, encoding="utf-8")
    line = text.partition("# ")[2].rstrip()
    assert line.startswith("INFO:raftlite.")
    assert same_shape([line])[0] in same_shape(logged("program.py", cwd=tmp_path))


def test_a_program_that_does_not_configure_logging_hears_nothing(member: Member) -> None:
    """raftlite installs no handler."""
    member.wait_until_leader(PATIENCE)
    loggers = [logging.getLogger(name) for name in ["raftlite", *logging.root.manager.loggerDict] if "raftlite" in name]
    assert [logger for logger in loggers if logger.handlers] == []


def test_the_recipe_for_prometheus_is_the_one_of_the_help() -> None:
    """Which a test runs with the real package, in test_metrics.py."""
    lines = block("python", "prometheus_client").splitlines()
    assert len(lines) == 3
    help_lines = [line.strip() for line in (Member.metrics.__doc__ or "").splitlines()]
    assert [line.strip() for line in lines] == [line for line in help_lines if line in map(str.strip, lines)]


# --- When something is wrong -------------------------------------------------------------------------------------


def sentences_of_the_table() -> List[str]:
    table = README[README.index("| it says |") :].split("\n\n")[0]
    return [sentence for row in table.splitlines()[2:] for sentence in re.findall(r"`([^`]+)`", row.split("|")[1])]


@functools.cache
def strings_of_raftlite() -> str:
    """What is between quotes in its code, and no docstring: what it can say."""
    found: List[str] = []
    for path in (TOP / "raftlite").rglob("*.py"):
        nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
        no_values = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
        constants = [node for node in nodes if isinstance(node, ast.Constant) and id(node) not in no_values]
        found += [node.value for node in constants if isinstance(node.value, str)]
    return "\n".join(found)


@pytest.mark.parametrize("sentence", sentences_of_the_table())
def test_the_words_of_what_the_readme_explains_are_in_strings_of_raftlite(sentence: str) -> None:
    """Ids, numbers and dots stand for what they are at the time. That it says them, and when, is for other tests."""
    changing = r"'?\b[abcxy]\b'?(?:, [abc]\b)*(?: is\b)?|\d+(?:\.\d+)?|\.\.\."
    words = [part.strip(" ,()") for part in re.split(changing, sentence)]
    assert any(len(part) > 2 for part in words)
    assert [part for part in words if part not in strings_of_raftlite()] == []
