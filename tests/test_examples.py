"""What people copy first: the programs of the README and every file in examples/ run and do what they say."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Dict, List, Tuple

import pytest
from children import environment

TOP = Path(__file__).resolve().parent.parent
README = (TOP / "README.md").read_text(encoding="utf-8")
PATIENCE = 60


def run(*command: Any, cwd: Path) -> List[str]:
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=cwd,
        # Unbuffered, a line and its end would be written apart, and those of several processes mixed.
        env={name: value for name, value in environment().items() if name != "PYTHONUNBUFFERED"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout.splitlines()


def blocks(language: str) -> List[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def same_shape(lines: List[str]) -> List[str]:
    """Lines without what changes from run to run: who was elected, and numbers."""
    return [re.sub(r"\d+(\.\d+)?", "0", re.sub(r"\b(n\d|[abc])\b", "x", line)).split() for line in lines]


def test_every_example_has_a_test_and_is_in_the_table() -> None:
    """Named in a file of tests, and in examples/README.md, which names no others."""
    examples = {path.name for path in (TOP / "examples").glob("*.py")}
    tests = "".join(path.read_text(encoding="utf-8") for path in (TOP / "tests").glob("test_*.py"))
    assert {name for name in examples if f'"{name[:-3]}"' in tests or f'"{name}"' in tests} == examples
    table = (TOP / "examples" / "README.md").read_text(encoding="utf-8")
    assert set(re.findall(r"\[`(\w+\.py)`\]\(\1\)", table)) == examples


# --- The README --------------------------------------------------------------------------------------------------


def test_the_readme_opens_with_a_program_of_fewer_than_twenty_lines() -> None:
    assert len(blocks("python")[0].splitlines()) <= 20


def test_the_first_program_of_the_readme_prints_what_it_says(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(blocks("python")[0], encoding="utf-8")
    printed = run("program.py", cwd=tmp_path)
    promised = blocks("console")[0].splitlines()[1:]
    assert same_shape(printed) == same_shape(promised)
    (leader,) = {line.split()[-1] for line in printed if "follows" in line}
    assert printed[-1] == f"{leader} does what only one may do"


def test_the_demonstration_of_the_readme_prints_what_it_says() -> None:
    printed = run("-m", "raftlite", "demo", cwd=TOP)
    promised = blocks("console")[2].splitlines()[1:]
    assert same_shape(printed) == same_shape(promised)


@pytest.mark.parametrize("program", blocks("python"), ids=lambda program: program.split("\n")[0])
def test_the_programs_of_the_readme_compile(program: str) -> None:
    compile(program, "README.md", "exec")


def test_the_readme_names_both_commands() -> None:
    assert "$ make demo" in README and "$ make test" in README


# --- examples/ ---------------------------------------------------------------------------------------------------


def test_one_process_hands_leadership_on(tmp_path: Path) -> None:
    first, over, second = run(TOP / "examples" / "one_process.py", cwd=tmp_path)
    leader = first.split()[0]
    assert re.fullmatch(rf"{leader} leads with token \d+", first)  # a vote may be split first
    assert over == f"{leader} has stopped; its grant is over"
    assert second.split()[0] in {"a", "b", "c"} - {leader}


def test_an_own_node_carries_an_election(tmp_path: Path) -> None:
    lines = run(TOP / "examples" / "own_node.py", cwd=tmp_path)
    assert [line.split()[0] for line in lines] == ["a", "b", "c"]
    assert len({line.split()[-1] for line in lines}) == 1


def test_own_node_is_about_fifteen_lines() -> None:
    source = (TOP / "examples" / "own_node.py").read_text(encoding="utf-8")
    transport = source[source.index("class UDPNode") : source.index("def main")]
    assert len([line for line in transport.splitlines() if line.strip()]) <= 18


def test_the_late_write_of_a_stopped_leader_is_refused(tmp_path: Path) -> None:
    """Also the log of the one that was stopped may be among the lines: it says what has happened to it."""
    printed = [line for line in run(TOP / "examples" / "fencing.py", cwd=tmp_path) if "was not run" not in line]
    first, second, late, held = printed
    old, new = (int(re.findall(r"token (\d+)", line)[0]) for line in (first, second))
    assert old < new
    assert re.fullmatch(r"[abc] leads with token \d+, was about to write, and is stopped", first)
    assert re.fullmatch(r"[abc] leads with token \d+ and writes: written", second)
    refusal = f"account 7 refuses token {old}: it has seen token {new}, so another member has led since"
    assert late == f"{first[0]} goes on and writes: {refusal}"
    assert held == f"the database holds: ('{second[0]}', {new})"


def test_three_terminals_work_one_at_a_time(tmp_path: Path) -> None:
    """The one that works is killed, and another goes on; Ctrl-C ends the others."""
    program = tmp_path / "three_terminals.py"
    source = (TOP / "examples" / "three_terminals.py").read_text(encoding="utf-8")
    for port in free_ports(3):  # another Python may run this test at the same time
        source = re.sub(r"(?<=127\.0\.0\.1:)760\d", str(port), source, count=1)
    program.write_text(source[source.index("import sys") :], encoding="utf-8")
    terminals = {name: start_terminal(program, name, tmp_path) for name in ("a", "b", "c")}
    try:
        first = working_among(terminals)
        killed, _ = terminals.pop(first)
        killed.kill()
        killed.wait()
        second = working_among(terminals)
        assert second != first
    finally:
        for process, _ in terminals.values():
            process.send_signal(signal.SIGINT)
        codes = {name: process.wait(PATIENCE) for name, (process, _) in terminals.items()}
    assert set(codes.values()) == {0}
    assert all("Traceback" not in log.read_text(encoding="utf-8") for _, log in terminals.values())


Terminal = Tuple["subprocess.Popen[str]", Path]


def free_ports(count: int) -> List[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [sock.getsockname()[1] for sock in sockets]


def start_terminal(program: Path, name: str, folder: Path) -> Terminal:
    log = folder / f"{name}.log"
    command = [sys.executable, str(program), name, str(folder)]
    with log.open("w") as out:
        return subprocess.Popen(command, env=environment(), stdout=out, stderr=subprocess.STDOUT, text=True), log


def working_among(terminals: Dict[str, Terminal]) -> str:
    """Wait until one of `terminals` says that it works, and return its name."""
    seen = {name: log.read_text(encoding="utf-8").count("working") for name, (_, log) in terminals.items()}
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        for name, (process, log) in terminals.items():
            assert process.poll() is None, log.read_text(encoding="utf-8")
            if log.read_text(encoding="utf-8").count("working") > seen[name]:
                return name
        threading.Event().wait(0.02)
    raise AssertionError("nobody works")


# --- When something is wrong -------------------------------------------------------------------------------------


def sentences_of_the_table() -> List[str]:
    table = README[README.index("| it says |") :].split("\n\n")[0]
    return [sentence for row in table.splitlines()[2:] for sentence in re.findall(r"`([^`]+)`", row.split("|")[1])]


@pytest.mark.parametrize("sentence", sentences_of_the_table())
def test_what_the_readme_explains_is_what_raftlite_says(sentence: str) -> None:
    """The words of each sentence are in the code; ids, numbers and dots stand for what they are at the time."""
    source = "\n".join(path.read_text(encoding="utf-8") for path in (TOP / "raftlite").rglob("*.py"))
    changing = r"'?\b[abcxy]\b'?(?:, [abc]\b)*(?: is\b)?|\d+(?:\.\d+)?|\.\.\."
    words = [part.strip(" ,()") for part in re.split(changing, sentence)]
    assert any(len(part) > 2 for part in words)
    assert [part for part in words if part not in source] == []
