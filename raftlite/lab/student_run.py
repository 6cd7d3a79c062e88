"""Runs a student's file in a process of its own, which may hang or die: nothing of it reaches whoever marks.

check ─▶ python -m raftlite.lab.student_run FILE FOLDER ─ an Outcome a line ─▶ FOLDER/outcomes.jsonl
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Iterator, List, Type

from raftlite.lab.student import Outcome, StudentElection, ask, perform, where

SECONDS = 60.0  # that all of it may take
RESULTS = "outcomes.jsonl"
LARGEST = 1_000_000  # bytes of results that are read
CLASS = "Voter"


# --- The side of whoever marks ------------------------------------------------------------------------


def run_student(path: Path, keep: Path, seconds: float = SECONDS) -> List[Outcome]:
    """What comes of the file `path`. Recordings of scenes that fail are put into the folder `keep`."""
    with tempfile.TemporaryDirectory(prefix="raftlite-") as name:
        folder = Path(name)
        ended = _run(path.resolve(), folder, seconds)
        outcomes = list(_read(folder / RESULTS))
        for outcome in outcomes:
            if outcome.trace:
                _keep(folder / Path(outcome.trace).name, keep)
    return [*outcomes, Outcome("it comes to its end", not ended, ended)]


def _run(path: Path, folder: Path, seconds: float) -> str:
    """Why it has not come to its end; empty if it has."""
    home = str(Path(__file__).resolve().parents[2])  # what the student's file imports is this very raftlite
    python_path = os.pathsep.join([home, *filter(None, [os.environ.get("PYTHONPATH")])])
    process = subprocess.Popen(
        [sys.executable, "-m", "raftlite.lab.student_run", str(path), str(folder)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": python_path, "PYTHONDONTWRITEBYTECODE": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        code = process.wait(seconds)
        return "" if code == 0 else f"the program ended with exit code {code}"
    except subprocess.TimeoutExpired:
        return f"it was stopped after {seconds:g} s: does it wait for something, or go round in a circle?"
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End it, and whatever it has started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
    process.wait()


def _read(path: Path) -> Iterator[Outcome]:
    """The results as far as they make sense: the student's program might have written there too."""
    if not path.is_file():
        return
    with path.open("rb") as file:
        lines = file.read(LARGEST).decode("utf-8", "replace").split("\n")
    for line in lines:
        with contextlib.suppress(ValueError, RecursionError):
            found: Any = json.loads(line)
            if isinstance(found, list) and [type(each) for each in found] == [str, bool, str, str]:
                yield Outcome(*found)


def _keep(recording: Path, folder: Path) -> None:
    with contextlib.suppress(OSError):  # a folder that cannot be written: the marks are still good
        if recording.is_file() and not recording.is_symlink():
            (folder / recording.name).write_bytes(recording.read_bytes())


# --- The side of the student ----------------------------------------------------------------------------


def main(path: str, folder: str) -> int:
    with (Path(folder) / RESULTS).open("w", encoding="utf-8") as results:
        for outcome in _outcomes(Path(path), Path(folder)):
            results.write(json.dumps(list(outcome)) + "\n")
            results.flush()
    return 0


def _outcomes(path: Path, folder: Path) -> Iterator[Outcome]:
    try:
        election_class = _load(path)
    except BaseException as error:
        yield Outcome("it can be imported", False, where(error))
        return
    yield from ask(election_class)
    yield from perform(election_class, folder)


def _load(path: Path) -> Type[StudentElection]:
    spec = importlib.util.spec_from_file_location("student", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path.name} is no Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found = getattr(module, CLASS, None)
    if not (isinstance(found, type) and issubclass(found, StudentElection)):
        raise ImportError(f"{path.name} has no class {CLASS}(StudentElection)")
    return found


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:3]))
