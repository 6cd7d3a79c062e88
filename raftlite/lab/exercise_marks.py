"""Marks what a student hands in, part by part. Whatever is in the files, a mark is a sentence and never a traceback."""

from __future__ import annotations

import functools
import hashlib
import json
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Set, Tuple

from raftlite.errors import ConfigError
from raftlite.lab.act_out import turns
from raftlite.lab.exercise_given import key_of, make_given
from raftlite.lab.measure import Row, from_csv, medians, one_election
from raftlite.lab.scenes.evidence import Evidence, NotSeen
from raftlite.lab.student_run import run_student
from raftlite.lab.trace import Trace, TraceError, leaders_by_term, lint, load

LARGEST = 5_000_000  # bytes of a file that is no recording
ELECTIONS = 200  # for each spread
SPREADS = 4
SAMPLE = 3  # elections of each spread that are made again
FEWEST_WORDS = 12

ANSWERS, STUDENT, TABLE, PLOT, ACTED = "answers.json", "student.py", "elections.csv", "elections.svg", "n3.json"
TWO_LEADERS, NO_LEADER, AMNESIA = "two-leaders", "no-leader", "amnesia"
SUFFIXES = (".jsonl", ".jsonl.gz")


class Mark(NamedTuple):
    """Whether something is right; otherwise what is missing or wrong."""

    part: str
    what: str
    ok: bool
    why: str = ""


class Unreadable(Exception):
    """A file that is not there or makes no sense; the message is the sentence to show."""


# --- Files --------------------------------------------------------------------------------------------


def read_file(path: Path) -> str:
    """A text of reasonable size. Raises `Unreadable`."""
    try:
        if not path.exists():
            raise Unreadable(f"{path.name} is not there")
        if not path.is_file():
            raise Unreadable(f"{path.name} is no file")
        with path.open("rb") as file:
            content = file.read(LARGEST + 1)
    except (OSError, ValueError) as error:
        raise Unreadable(f"{path.name}: {getattr(error, 'strerror', None) or error}") from error
    if len(content) > LARGEST:
        raise Unreadable(f"{path.name} is longer than {LARGEST // 1_000_000} MB")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise Unreadable(f"{path.name} is not UTF-8") from None


def read_object(path: Path) -> Dict[str, Any]:
    """The object that a JSON file holds. Raises `Unreadable`."""
    text = read_file(path)
    try:
        found = json.loads(text, parse_int=lambda digits: int(digits[:20]))
    except (ValueError, RecursionError) as error:
        line = f", line {error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        raise Unreadable(f"{path.name} is no JSON{line}") from None
    if not isinstance(found, dict):
        raise Unreadable(f"{path.name} must hold an object, in braces")
    return found


def read_trace(path: Path) -> Trace:
    """A recording. Raises `Unreadable`."""
    try:
        if not path.is_file():
            raise Unreadable(f"{path.name} is not there")
        return load(path)
    except TraceError as error:
        raise Unreadable(f"{path.name}: {error}") from None
    except (OSError, ValueError) as error:
        raise Unreadable(f"{path.name}: {getattr(error, 'strerror', None) or error}") from None


def find_trace(folder: Path, name: str) -> Path:
    """The recording of that name, packed or not."""
    paths = [folder / (name + suffix) for suffix in SUFFIXES]
    return next((path for path in paths if path.exists()), paths[0])


def part_of(answers: Dict[str, Any], name: str) -> Dict[str, Any]:
    found = answers.get(name)
    return found if isinstance(found, dict) else {}


Marks = Iterator[Mark]


def _guarded(part: str, what: str, marks: Callable[[], Marks]) -> List[Mark]:
    """The marks, or one that says what cannot be read."""
    try:
        return list(marks())
    except Unreadable as error:
        return [Mark(part, what, False, str(error))]
    except (LookupError, TypeError, ValueError, AttributeError, NotSeen) as error:
        # A file made by hand, which says something about what it leaves out elsewhere.
        return [Mark(part, what, False, f"it makes no sense: {type(error).__name__} {str(error)[:100]}")]


def mark_folder(folder: Path) -> List[Mark]:
    """All parts of what is in a folder."""
    return [
        *_guarded("A", "the answers", lambda: mark_a(read_object(folder / ANSWERS))),
        *mark_b(find_trace(folder, TWO_LEADERS), TWO_LEADERS),
        *mark_b(find_trace(folder, NO_LEADER), NO_LEADER),
        *_guarded("C", "the elections", lambda: mark_c(folder)),
        *_guarded("D", "the lost disk", lambda: mark_d(folder)),
        *mark_e(folder / STUDENT, folder),
        *_guarded("F", "being n3", lambda: mark_f(folder / ACTED)),
    ]


def mark_file(path: Path) -> List[Mark]:
    """The part that a file belongs to, by its name."""
    folder, name = path.parent, path.name
    if name == TABLE:
        return _guarded("C", "the elections", lambda: mark_table(path))
    if name == ACTED:
        return _guarded("F", "being n3", lambda: mark_f(path))
    if name.endswith(".json"):
        return _guarded("A", "the answers", lambda: mark_a(read_object(path)))
    if name.endswith(".py"):
        return mark_e(path, folder)
    if name.startswith(AMNESIA):
        return _guarded("D", "the recording", lambda: iter([_broken(read_trace(path))[0]]))
    if name.endswith(SUFFIXES):
        return mark_b(path, NO_LEADER if name.startswith(NO_LEADER) else TWO_LEADERS)
    return [Mark("?", name[:60], False, f"it is none of {ANSWERS}, {TABLE}, {ACTED}, {STUDENT} and recordings")]


@functools.lru_cache(maxsize=1)
def _given() -> Trace:
    return make_given()


# --- A: read a recording ------------------------------------------------------------------------------


def mark_a(answers: Dict[str, Any]) -> Marks:
    key, said = key_of(_given()), part_of(answers, "A")
    yield from _compare("A", "leader of term", key["leaders"], said.get("leaders"))
    yield from _compare("A", f"vote in term {key['term']} of", key["votes"], said.get("votes"))
    what = f"message {key['refused_message']} was refused because of a vote for"
    yield _same("A", what, key["refused"], said.get("refused"))
    yield from _compare("A", "why nobody got message", key["lost"], said.get("lost"))


def _compare(part: str, what: str, right: Dict[str, str], said: Any) -> Marks:
    given = said if isinstance(said, dict) else {}
    for name, value in right.items():
        yield _same(part, f"{what} {name}", value, given.get(name))


def _same(part: str, what: str, right: Any, said: Any) -> Mark:
    if said is None or said == "":
        return Mark(part, what, False, "no answer")
    is_right = isinstance(said, (str, int)) and str(said).strip().lower() == str(right).lower()
    return Mark(part, what, is_right, "" if is_right else f"{str(said)[:40]!r} is wrong")


# --- B: cause it --------------------------------------------------------------------------------------


def mark_b(path: Path, name: str) -> List[Mark]:
    """A recording of a cluster that was driven there by hand: of two leaders in different terms, or of a term without
    any."""
    what = {TWO_LEADERS: "two leaders in different terms", NO_LEADER: "a term with no leader"}[name]

    def marks() -> Marks:
        trace = read_trace(path)
        why = _why_not_own(trace)
        found = "" if why else (_two_leaders(trace) if name == TWO_LEADERS else _no_leader(trace))
        yield Mark("B", what, bool(found), found or why or f"nothing of the kind is in {path.name[:60]}")

    return _guarded("B", what, marks)


def _why_not_own(trace: Trace) -> str:
    if trace.header.get("scene") or any(record.get("by") == "scene" for record in trace.records):
        return "it is a scene: drive the cluster there yourself"
    if digest(trace) == digest(_given()):
        return "it is the recording of part A"
    problems = [*lint(trace), *_unelected(trace)]
    return f"it is no recording that raftlite has made: {problems[0][:200]}" if problems else ""


def _unelected(trace: Trace) -> Iterator[str]:
    """The leaders that nobody has elected."""
    majority = len(trace.header["nodes"]) // 2 + 1
    for record in trace.records:
        if record["k"] == "state" and record["role"] == "leader" and len(set(record.get("votes", ()))) < majority:
            yield f"record {record['i']}: {record['n']} leads without a majority of votes"


def digest(trace: Trace) -> str:
    """The same for recordings with the same records."""
    return hashlib.sha256(json.dumps(trace.records, sort_keys=True).encode("utf-8", "replace")).hexdigest()


def _two_leaders(trace: Trace) -> str:
    """Where two led at the same time in different terms, in words."""
    reigns = Evidence(trace).reigns
    for place, first in enumerate(reigns):
        for second in reigns[place + 1 :]:
            if first.leader != second.leader and first.term != second.term and first.overlaps(second):
                return f"record {second.began}: {first.leader} in term {first.term}, {second.leader} in {second.term}"
    return ""


def _no_leader(trace: Trace) -> str:
    """The term in which somebody stood and nobody was elected, though somebody was later; in words."""
    leaders = leaders_by_term(trace)
    stood = {record["term"] for record in trace.records if record["k"] == "state" and record["role"] == "candidate"}
    empty = sorted(term for term in stood if term not in leaders and any(later > term for later in leaders))
    return f"term {empty[0]}" if empty else ""


# --- C: measure ---------------------------------------------------------------------------------------


def mark_c(folder: Path) -> Marks:
    yield from mark_table(folder / TABLE)
    svg = read_file(folder / PLOT)
    is_plot = svg.lstrip().startswith(("<svg", "<?xml")) and "</svg>" in svg
    yield Mark("C", "the plot", is_plot, "" if is_plot else f"{PLOT} is no SVG")
    said = part_of(read_object(folder / ANSWERS), "C")
    yield from _medians(medians(_rows(folder / TABLE)), said)
    yield _explained("C", said.get("why"))


def _rows(path: Path) -> List[Row]:
    try:
        return from_csv(read_file(path))
    except ConfigError as error:
        raise Unreadable(f"{path.name}: {error}") from None


def mark_table(path: Path) -> Marks:
    groups: Dict[float, Dict[int, Row]] = {}
    for row in _rows(path):
        groups.setdefault(row.spread, {})[row.seed] = row
    yield _judged("C", f"{SPREADS} spreads, 0 among them", len(groups) >= SPREADS and 0.0 in groups, _listed(groups))
    few = [f"{spread:g}" for spread, rows in groups.items() if len(rows) < ELECTIONS]
    yield _judged("C", f"{ELECTIONS} elections each", bool(groups) and not few, "too few with " + ", ".join(few[:9]))
    wrong = next((row for row in _sample(groups) if one_election(row.spread, row.seed) != row), None)
    why = "" if wrong is None else f"spread {wrong.spread:g} with seed {wrong.seed} gives something else"
    yield _judged("C", "some made again", not why, why)


def _listed(groups: Dict[float, Any]) -> str:
    return "there are " + (", ".join(f"{spread:g}" for spread in sorted(groups)[:9]) or "none")


def _sample(groups: Dict[float, Dict[int, Row]]) -> Iterator[Row]:
    """Some elections of each of the first spreads, from all over the table."""
    for spread in sorted(groups)[: 2 * SPREADS]:
        rows = list(groups[spread].values())
        yield from rows[:: max(1, len(rows) // SAMPLE)][:SAMPLE]


def _medians(right: Dict[float, float], said: Dict[str, Any]) -> Marks:
    given = said.get("medians")
    numbers = {str(name)[:20]: value for name, value in given.items()} if isinstance(given, dict) else {}
    for spread, value in list(right.items())[:20]:
        answer = next((numbers[name] for name in numbers if _number(name) == spread), None)
        is_right = _number(answer) is not None and abs(float(str(answer)) - value) <= 0.051
        yield _judged("C", f"median with spread {spread:g}", is_right, "no answer" if answer is None else "wrong")


def _number(value: Any) -> Any:
    try:
        return float(str(value)[:30])
    except ValueError:
        return None


def _judged(part: str, what: str, ok: bool, why: str) -> Mark:
    return Mark(part, what, ok, "" if ok else why)


def _explained(part: str, text: Any) -> Mark:
    """Whether there is an explanation; whether it is a good one, the lecturer says."""
    words = len(str(text or "").split())
    return Mark(part, "explained", words >= FEWEST_WORDS, f"{words} words; the lecturer reads them")


# --- D: break it --------------------------------------------------------------------------------------


def mark_d(folder: Path) -> Marks:
    trace = read_trace(find_trace(folder, AMNESIA))
    broken, term, leaders, twice = _broken(trace)
    yield broken
    said = part_of(read_object(folder / ANSWERS), "D")
    if broken.ok:
        yield _same("D", "the term", term, said.get("term"))
        given = said.get("leaders")
        names = sorted(map(str, given[:9])) if isinstance(given, list) else []
        yield _judged("D", "its leaders", names == sorted(leaders), f"{', '.join(names)[:60] or 'no answer'}: wrong")
        who = said.get("voted_twice")
        yield _judged("D", "who voted twice", who in twice if isinstance(who, str) else False, "no answer, or wrong")
    yield _explained("D", said.get("why"))


def _broken(trace: Trace) -> Tuple[Mark, int, List[str], List[str]]:
    """Whether a disk was lost and a term had two leaders; that term, these leaders, and who voted for both."""
    wiped = any(record["k"] == "fault" and record["op"] == "wipe" for record in trace.records)
    for term, leaders in sorted(leaders_by_term(trace).items()):
        if len(leaders) > 1 and wiped:
            return Mark("D", "the recording", True), term, leaders, _voted_twice(trace, term, leaders)
    why = "no term has two leaders" if wiped else "no disk was lost"
    return Mark("D", "the recording", False, why), 0, [], []


def _voted_twice(trace: Trace, term: int, leaders: List[str]) -> List[str]:
    given: Dict[str, Set[str]] = {}
    for record in trace.records:
        if (
            record["k"] == "send"
            and record["type"] == "vote_resp"
            and record.get("granted")
            and record.get("term") == term
        ):
            given.setdefault(record["n"], set()).add(record["to"])
    return [n for n, names in given.items() if len(names & set(leaders)) > 1]


# --- E: implement it ----------------------------------------------------------------------------------


def mark_e(path: Path, keep: Path) -> List[Mark]:
    def marks() -> Marks:
        read_file(path)
        for outcome in run_student(path, keep):
            look = f"; look: raftlite lab {keep / outcome.trace}" if outcome.trace else ""
            yield Mark("E", outcome.name[:80], outcome.ok, outcome.why[:500] + look)

    return _guarded("E", "your _on_request_vote", marks)


# --- F: act it out ------------------------------------------------------------------------------------


def mark_f(path: Path) -> Marks:
    said, node = read_object(path), "n3"
    given = part_of(said, "answers")
    for turn in turns(_given(), node):
        letter = "abcdefgh"[turn.answer]
        mark = _same("F", f"record {turn.i}", letter, given.get(str(turn.i)))
        yield mark if mark.ok else mark._replace(why=f"{mark.why}: {turn.heard}"[:120])
