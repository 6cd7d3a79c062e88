"""Runs the tests on every CPython from 3.9 to 3.13 that this machine has.

    python3 tests/run_on_every_python.py [arguments for pytest]

Interpreters are looked for on PATH and among pyenv's versions, and each is really started before it counts. Each has an
environment of its own in .cache/, kept for the next time; one has that of `make test`. As many run at once as there are
processors. Each line says whose it is. The quick tests run with each, those marked as slow with the newest;
`make test-long` is for those marked as long. A line per run sums up, and those of the tests that failed in it; after
them comes, as the very last line, pytest's own closing line. Standard library only.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import IO, Iterator, NamedTuple

TOP = Path(__file__).resolve().parent.parent
MINOR_VERSIONS = range(9, 14)
PATIENCE = 10.0  # seconds that the last words of pytest have to arrive once it has ended
SILENCE = 600.0  # seconds without a line, after which pytest stands still: a test's own timeout is raised but once

WHO_ARE_YOU = """
import importlib.util, json, platform, sys
has_venv = all(importlib.util.find_spec(name) for name in ("venv", "ensurepip"))
print(json.dumps([sys.implementation.name, sys.version_info[:2], platform.python_version(), has_venv]))
"""
CLOSING_LINE = re.compile(r"(=+ )?(\d+|no) .* in [\d.]+s( \(.*\))?( =+)?")  # ==== 123 passed in 4.56s ====
FAILURE = re.compile(r"(FAILED|ERROR) \S+.*")  # FAILED tests/test_thread.py::test_it - assert 1 == 2
QUICK, SLOW = "not slow", "slow and not long"


class Interpreter(NamedTuple):
    path: Path
    version: str
    has_venv: bool


class Run(NamedTuple):
    interpreter: Interpreter
    which: str

    @property
    def name(self) -> str:
        """What its lines begin with."""
        return self.interpreter.version + (" slow" if self.which == SLOW else "")


class Result(NamedTuple):
    name: str
    passed: bool
    closing_line: str
    failures: tuple[str, ...] = ()


def main() -> None:
    sys.stdout.reconfigure(line_buffering=True, errors="replace")
    interpreters = [interpreter for interpreter in map(find, MINOR_VERSIONS) if interpreter and interpreter.has_venv]
    if not interpreters:
        sys.exit("No CPython from 3.9 to 3.13 here can make a virtual environment (on Debian: install python3-venv).")
    newest = interpreters[-1]  # runs the slow tests too, and first, as that takes longest
    runs = [Run(newest, SLOW), *(Run(interpreter, QUICK) for interpreter in reversed(interpreters))]
    # One environment after the other, as pip builds in this very folder; the next while tests run with those before.
    with ThreadPoolExecutor(1) as one_at_a_time, ThreadPoolExecutor(os.cpu_count()) as pool:
        prepared = {}
        for interpreter in reversed(interpreters):
            extra = "test" if interpreter is newest else "quick"
            prepared[interpreter] = one_at_a_time.submit(has_environment, interpreter, extra)
        results = list(pool.map(lambda run: run_if_prepared(run, prepared[run.interpreter]), runs))
    sum_up(results[::-1])


def sum_up(results: list[Result]) -> None:
    print()
    for name, passed, closing_line, failures in results:
        print(f"CPython {name:12}  {'passed' if passed else 'FAILED'}  ({closing_line.strip('= ')})")
        for failure in failures:
            print(f"  {failure}")
    # A run that failed has the last word, so that "passed" never ends the output of a failure.
    failed = [result for result in results if not result.passed]
    print((failed or results)[-1].closing_line)
    sys.exit(1 if failed else 0)


# ---- Which interpreters are here


def find(minor: int) -> Interpreter | None:
    """Look for CPython 3.`minor`, and say in a line what was found; one that can make environments goes first."""
    found = [answer for path in candidates(minor) for answer in ask(path, minor)]
    chosen = next((interpreter for interpreter in found if interpreter.has_venv), found[0] if found else None)
    if chosen is None:
        print(f"CPython 3.{minor:<6} missing")
    else:
        lacking = "" if chosen.has_venv else ", left out: it lacks the module venv or ensurepip"
        print(f"CPython {chosen.version:8} {chosen.path}{lacking}")
    return chosen


def candidates(minor: int) -> Iterator[Path]:
    folders = [Path(folder) for folder in os.environ.get("PATH", "").split(os.pathsep) if folder]
    yield Path(sys.executable)
    yield from (folder / f"python3.{minor}" for folder in folders)
    roots = [folder.parent for folder in folders if folder.name == "shims"]
    roots += [Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")]
    for root in roots:
        versions = sorted(root.glob(f"versions/3.{minor}.*"), key=lambda path: numbers_in(path.name), reverse=True)
        yield from (version / "bin" / f"python3.{minor}" for version in versions)


def numbers_in(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", version)]


def ask(path: Path, minor: int) -> list[Interpreter]:
    """Start what is at `path`; an empty list when that fails, as pyenv's shims may, or it is no CPython 3.`minor`."""
    try:
        answer = subprocess.run(
            [path, "-I", "-c", WHO_ARE_YOU], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60
        )
        implementation, version_info, version, has_venv = json.loads(answer.stdout)
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return []
    is_wanted = implementation == "cpython" and version_info == [3, minor]
    return [Interpreter(path, version, has_venv)] if is_wanted else []


# ---- The suite on one of them


def environment_of(interpreter: Interpreter) -> Path:
    """That of `make test` where it is of this Python, else one of its own."""
    made_of = TOP / ".venv" / "made-of.txt"
    if made_of.exists() and made_of.read_text(encoding="utf-8").startswith(f"{interpreter.version} "):
        return TOP / ".venv"
    return TOP / ".cache" / "cpython-{}.{}".format(*interpreter.version.split(".")[:2])


def has_environment(interpreter: Interpreter, extra: str) -> bool:
    """Make it, or find that it is there. The packages that the examples are about are for the slow tests alone."""
    command = [interpreter.path, TOP / "tests" / "environment.py", environment_of(interpreter), extra]
    return subprocess.run(command).returncode == 0


def run_if_prepared(run: Run, is_prepared: Future[bool]) -> Result:
    if not is_prepared.result():
        return Result(run.name, False, "no environment could be made for it; the reason is above")
    return run_suite(run, sys.argv[1:])


def run_suite(run: Run, pytest_arguments: list[str]) -> Result:
    python = environment_of(run.interpreter) / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    command = [python, "-m", "pytest", "-m", run.which, *pytest_arguments]
    returncode, closing_line, failures = run_and_keep_last_words(command, run.name)
    nothing_chosen = 5  # pytest's word for it, as where the arguments name a test that is slow
    return Result(run.name, returncode in (0, nothing_chosen), closing_line, failures)


def run_and_keep_last_words(command: list[str | Path], name: str) -> tuple[int, str, tuple[str, ...]]:
    """Pass the output of pytest on, line by line under the name of the run."""
    pytest = subprocess.Popen(
        command,
        cwd=TOP,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    closing_lines = ["pytest ended with status {} before its closing line"]
    failures: list[str] = []
    heard_at = [time.monotonic()]

    def pass_on() -> None:
        for line in map(str.rstrip, pytest.stdout):
            heard_at[0] = time.monotonic()
            if CLOSING_LINE.fullmatch(line):
                closing_lines.append(line)
            elif FAILURE.fullmatch(line):
                failures.append(line)
            print(f"{name:12} {line}")

    reader = threading.Thread(target=pass_on, daemon=True)
    reader.start()
    returncode = wait_for(pytest, heard_at)
    reader.join(PATIENCE)
    if reader.is_alive():  # a process that outlives its test is a defect, and would keep us here for ever
        held = f"pytest ended with status {returncode}, but its output is still held by {holders_of(pytest.stdout)}"
        return 1, held, tuple(failures)
    return returncode, closing_lines[-1].format(returncode), tuple(failures)


def wait_for(pytest: subprocess.Popen[str], heard_at: list[float]) -> int:
    """Its status; when it stands still, it is made to say where each of its threads is, and to end."""
    while True:
        with suppress(subprocess.TimeoutExpired):
            return pytest.wait(1.0)
        if time.monotonic() - heard_at[0] > SILENCE:
            pytest.send_signal(signal.SIGABRT)
            heard_at[0] = time.monotonic()


def holders_of(pipe: IO[str]) -> str:
    """The command lines of the other processes that have it open, where the system tells."""
    found = set()
    for entry in Path("/proc").glob("[0-9]*/fd/*"):
        with suppress(OSError):
            if entry.stat().st_ino == os.fstat(pipe.fileno()).st_ino and entry.parts[2] != str(os.getpid()):
                arguments = Path(*entry.parts[:3], "cmdline").read_bytes().decode(errors="replace").split("\0")
                found.add(f"process {entry.parts[2]} ({' '.join(arguments).strip()})")
    return ", ".join(sorted(found)) or "a process that it has started"


if __name__ == "__main__":
    main()
