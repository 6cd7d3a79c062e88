"""The exercise for students: `raftlite lab exercise [FOLDER]` writes it, `raftlite lab check FOLDER...` marks it, and
`raftlite lab n3 [FILE]` is its last part.

Exit codes: 0 done, and with `check` all is right; 1 something is missing or wrong; 64 wrong arguments; 65 the file is
no recording, 66 it cannot be read, 73 the folder cannot be written.
"""

from __future__ import annotations

import argparse
import sys
import textwrap
from importlib import resources
from pathlib import Path
from typing import Any, Callable, Dict, List

from raftlite.command.output import EX_CANTCREAT, EX_OK, print_text
from raftlite.lab.export.words import clean
from raftlite.lab.trace import TraceError, load, to_jsonl

EX_WRONG, EX_DATAERR, EX_NOINPUT = 1, 65, 66
FOLDER = "raftlite-exercise"
GIVEN, ACTED = "given.jsonl", "n3.json"
FILES = ("EXERCISE.md", "answers.json", "measure.py", "student.py")
WIDTH = 100


def run(options: argparse.Namespace) -> int:
    """Do what `options.what` says: its first word is `exercise`, `check` or `n3`. Returns the exit code."""
    word, *rest = options.what
    return _WORDS[word](options, rest)


def _fail(reason: str, code: int) -> int:
    print(f"raftlite lab: {reason}", file=sys.stderr)
    return code


# --- The handout --------------------------------------------------------------------------------------


def _write(options: argparse.Namespace, rest: List[str]) -> int:
    if len(rest) > 1:
        options.usage_error("the exercise goes into one folder")
    folder = Path(rest[0] if rest else FOLDER)
    try:
        write_handout(folder)
    except FileExistsError:
        return _fail(f"{folder} is there already: choose a new folder", EX_CANTCREAT)
    except OSError as error:
        return _fail(f"{folder}: {error.strerror}", EX_CANTCREAT)
    print_text(f"The exercise is in {folder}: begin with EXERCISE.md. `raftlite lab check {folder}` marks it.")
    return EX_OK


def write_handout(folder: Path) -> None:
    """Write the exercise and its files into a new folder. Raises `OSError`."""
    folder.mkdir(parents=True)
    for name in FILES:
        text = handout(name)
        (folder / name).write_text(_filled(text) if name.endswith(".md") else text, encoding="utf-8")
    (folder / GIVEN).write_text(handout(GIVEN), encoding="utf-8")


def handout(name: str) -> str:
    """A file of the exercise, as it comes with the package."""
    return str((resources.files("raftlite.lab") / "handout" / name).read_text(encoding="utf-8"))


def _filled(text: str) -> str:
    """The numbers in the questions are those of the recording."""
    from raftlite.lab.exercise_given import key_of, make_given

    key = key_of(make_given())
    return text.format(
        terms=f"1 to {len(key['leaders'])}",
        term=key["term"],
        refused_message=key["refused_message"],
        lost_messages=", ".join(sorted(key["lost"], key=int)),
        lost_message=min(key["lost"], key=int),
    )


def given_text() -> str:
    """The recording of part A, made again: what is in the package must be the same."""
    from raftlite.lab.exercise_given import make_given

    return to_jsonl(make_given())


# --- Marks --------------------------------------------------------------------------------------------


def _check(options: argparse.Namespace, rest: List[str]) -> int:
    if not rest:
        options.usage_error("check needs the folder of the exercise, or files of it")
    results = [check(Path(name)) for name in rest]
    twins = _twins([Path(name) for name in rest])
    for line in twins:
        print_text(line)
    return EX_OK if all(results) and not twins else EX_WRONG


def check(path: Path) -> bool:
    """Mark a folder, or the part that a file belongs to; print the table. True if all is right."""
    from raftlite.lab.exercise_marks import mark_file, mark_folder

    marks = mark_folder(path) if path.is_dir() else mark_file(path)
    right = sum(mark.ok for mark in marks)
    print_text(f"{clean(path)}\n")
    for mark in marks:
        for line in _line(mark):
            print_text(line)
    missing = sorted({mark.part for mark in marks if not mark.ok})
    print_text(f"\n{right} of {len(marks)} are right." + (f" Look at {', '.join(missing)}." if missing else "") + "\n")
    return right == len(marks) > 0


def _line(mark: Any) -> List[str]:
    words = clean(f"{mark.what}: {mark.why}" if mark.why else mark.what, 1_000)
    first, *others = textwrap.wrap(words, WIDTH - 13) or [""]
    verdict = "✓ right" if mark.ok else "✗ wrong"
    return [f"{mark.part:>2}  {verdict}  {first}", *(" " * 13 + line for line in others)]


def _twins(folders: List[Path]) -> List[str]:
    """Recordings of part B that are handed in twice."""
    from raftlite.lab.exercise_marks import NO_LEADER, TWO_LEADERS, Unreadable, digest, find_trace, read_trace

    seen: Dict[str, Path] = {}
    found = []
    for folder in [each for each in folders if each.is_dir()]:
        for name in (TWO_LEADERS, NO_LEADER):
            path = find_trace(folder, name)
            try:
                mark = digest(read_trace(path))
            except Unreadable:
                continue
            if mark in seen and seen[mark].parent != folder:
                found.append(clean(f"{path} is the same recording as {seen[mark]}"))
            seen.setdefault(mark, path)
    return found


# --- You are n3 ---------------------------------------------------------------------------------------


def _act_out(options: argparse.Namespace, rest: List[str]) -> int:
    """With a recording it only asks; without one it is that of part A, and the answers go into n3.json here."""
    from raftlite.lab.exercise_n3 import act_out, save

    if len(rest) > 1:
        options.usage_error("n3 acts in one recording")
    try:
        trace = load(rest[0]) if rest else _given()
    except TraceError as error:
        return _fail(f"{rest[0]}: {error}", EX_DATAERR)
    except OSError as error:
        return _fail(f"{rest[0]}: {error.strerror}", EX_NOINPUT)
    answers = {} if rest else _answered(Path(ACTED))
    try:
        is_done = act_out(trace, "n3", answers, sys.stdin)
    finally:
        if not rest:
            save(Path(ACTED), "n3", answers)
    return EX_OK if is_done else EX_WRONG


def _given() -> Any:
    from raftlite.lab.exercise_given import make_given

    return make_given()


def _answered(path: Path) -> Dict[str, str]:
    """What was answered before, as far as it can be read."""
    from raftlite.lab.exercise_marks import Unreadable, part_of, read_object

    try:
        said = part_of(read_object(path), "answers")
    except Unreadable:
        return {}
    return {i: letter for i, letter in said.items() if isinstance(letter, str)}


_WORDS: Dict[str, Callable[[argparse.Namespace, List[str]], int]] = {
    "exercise": _write,
    "check": _check,
    "n3": _act_out,
}
