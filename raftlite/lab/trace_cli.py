"""`raftlite trace`: look at recordings, check them, search them, compare two, export them for other programs.

Exit codes: 0 done, 1 `lint` found problems, `grep` nothing or `diff` differences, 64 wrong arguments, 65 the file is no
trace, 66 it cannot be read, 73 the output cannot be written. Of several files for `lint` the highest counts.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Optional, Tuple

from raftlite.command.output import EX_CANTCREAT, EX_OK, print_text

if TYPE_CHECKING:
    from raftlite.lab.trace import Record, Trace

# What reads traces and draws them is imported when it is asked for: the other commands have no use for it.

EX_DIFFERENT, EX_DATAERR, EX_NOINPUT = 1, 65, 66
FORMATS = {
    "svg": (".svg",),
    "html": (".html", ".htm"),
    "mermaid": (".mmd", ".mermaid"),
    "shiviz": (".log", ".shiviz"),
    "text": (".txt",),
    "jsonl": (".jsonl",),
}
_PLACE = re.compile(r"(\d{1,9})|(\d{1,9}(?:\.\d{0,9})?)s")
_CAUSES = 100  # of a record, told by `show --why`


def add_parser(commands: Any) -> None:
    """Add `trace` to the subcommands of `raftlite`."""
    trace = commands.add_parser(
        "trace",
        help="look at recordings of the classroom, check, search, compare and export them",
        description="Look at recordings of the classroom: files of JSON Lines, packed by gzip or not; - is the input.",
    )
    actions = trace.add_subparsers(dest="action", required=True, metavar="ACTION")
    _add_show(actions)
    _add_lint(actions)
    _add_grep(actions)
    _add_diff(actions)
    _add_export(actions)


def _add(actions: Any, name: str, what: str, run: Callable[[argparse.Namespace], int]) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = actions.add_parser(name, help=what, description=f"{what[0].upper()}{what[1:]}.")
    parser.set_defaults(run=lambda options: _guarded(run, options), usage_error=parser.error)
    return parser


def _add_show(actions: Any) -> None:
    show = _add(actions, "show", "print a recording in words, a line for each record", _show)
    show.add_argument("file", metavar="FILE", help="the recording")
    _add_part(show)
    one = show.add_mutually_exclusive_group()
    one.add_argument("--at", metavar="PLACE", help="what every member was at this record or time")
    one.add_argument("--why", type=int, metavar="RECORD", help="what led to this record, step by step backwards")
    one.add_argument("--table", action="store_true", help="a table, with a column for each member")
    show.add_argument("--json", action="store_true", help="print JSON objects")


def _add_lint(actions: Any) -> None:
    lint = _add(actions, "lint", "check that recordings keep the rules of their format; exits with 1 if not", _lint)
    lint.add_argument("files", metavar="FILE", nargs="+", help="a recording")
    lint.add_argument("--json", action="store_true", help="print one JSON object for each file")


def _add_grep(actions: Any) -> None:
    grep = _add(actions, "grep", "print the records that a pattern is found in; exits with 1 if there are none", _grep)
    grep.add_argument("pattern", metavar="PATTERN", help="a regular expression, for the words that `show` prints")
    grep.add_argument("file", metavar="FILE", help="the recording")
    _add_part(grep)
    grep.add_argument("--node", action="append", default=[], metavar="ID", help="only of this member; repeat it")
    grep.add_argument("--kind", action="append", default=[], metavar="KIND", help="only send, recv, lost, state, ...")
    grep.add_argument("--count", action="store_true", help="print only how many there are")
    grep.add_argument("--json", action="store_true", help="print the records as the file has them")


def _add_diff(actions: Any) -> None:
    diff = _add(
        actions, "diff", "compare the changes of role and term in two recordings; exits with 1 if they differ", _diff
    )
    diff.add_argument("first", metavar="FILE", help="a recording")
    diff.add_argument("second", metavar="FILE", help="another")
    diff.add_argument("--json", action="store_true", help="print one JSON object")


def _add_export(actions: Any) -> None:
    export = _add(actions, "export", "write a recording in the form that another program reads", _export)
    export.add_argument("file", metavar="FILE", help="the recording")
    export.add_argument("--to", choices=sorted(FORMATS), help="the form; otherwise what the name of --output ends with")
    export.add_argument("-o", "--output", metavar="FILE", help="write it there, not to the standard output")
    _add_part(export)
    export.add_argument("--time", choices=("real", "order"), default="real", help="svg: lengths are durations, or not")
    export.add_argument("--losses", action="store_true", help="shiviz: one more host, where lost messages end")


def _add_part(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--start", metavar="PLACE", help="from this record (412) or time (12.5s) on")
    parser.add_argument("--stop", metavar="PLACE", help="up to this record or time")
    parser.add_argument("--term", type=int, metavar="N", help="only while this term lasted")
    parser.add_argument("--no-heartbeats", dest="heartbeats", action="store_false", help="leave heartbeats out")


class _Unreadable(Exception):
    """A file cannot be used; `code` is the one to exit with."""

    def __init__(self, reason: str, code: int) -> None:
        super().__init__(reason)
        self.code = code


def _guarded(run: Callable[[argparse.Namespace], int], options: argparse.Namespace) -> int:
    try:
        return run(options)
    except _Unreadable as error:
        return _say(options, error)


def _say(options: argparse.Namespace, error: _Unreadable) -> int:
    print(f"raftlite trace {options.action}: {error}", file=sys.stderr)
    return error.code


def _load(path: str) -> Trace:
    from raftlite.lab.trace import TraceError, load

    try:
        return load("/dev/stdin" if path == "-" else path)
    except TraceError as error:
        raise _Unreadable(f"{_shown(path)}: {error}", EX_DATAERR) from None
    except (OSError, ValueError) as error:  # ValueError: a name that can be none
        raise _Unreadable(f"{_shown(path)}: {getattr(error, 'strerror', None) or error}", EX_NOINPUT) from None


def _shown(text: str) -> str:
    return "".join(each if each.isprintable() else "?" for each in text)


# --- show -----------------------------------------------------------------------------------------


def _show(options: argparse.Namespace) -> int:
    trace = _load(options.file)
    if options.at is not None:
        return _show_moment(trace, _place(options, trace, "at") or 0, options.json)
    if options.why is not None:
        return _show_causes(trace, options.why, options)
    if options.table and not options.json:
        from raftlite.lab.export import to_text

        print_text(to_text(trace, **_part(options, trace)), end="")
        return EX_OK
    records = _records(options, trace)
    lines = _as_json([trace.header, *records]) if options.json else [_title(trace), *_told(trace, records)]
    _print(lines)
    return EX_OK


def _show_moment(trace: Trace, upto: int, as_json: bool) -> int:
    from dataclasses import asdict

    from raftlite.lab.trace import fold

    view = fold(trace, upto)
    if as_json:
        nodes = {n: asdict(node) for n, node in view.nodes.items()}
        print_text(json.dumps({"i": view.i, "t": view.t, "leader": view.leader, "nodes": nodes}))
        return EX_OK
    rows: List[Tuple[str, ...]] = [("NODE", "ROLE", "TERM", "VOTE", "LEADER", "TIMER", "LEASE")]
    for n, node in view.nodes.items():
        role = "paused" if node.is_paused else node.role
        left = [f"{at - view.t:.2f} s" if at is not None else "-" for at in (node.deadline, node.lease)]
        rows.append((_shown(n), role, str(node.term), _shown(node.vote or "-"), _shown(node.leader or "-"), *left))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]
    leader = f"{_shown(view.leader)} leads" if view.leader else "nobody leads"
    flying = len(view.in_flight)
    message = f"{flying} message{'s' if flying != 1 else ''} in flight"
    _print([f"after record {view.i}, at {view.t:g} s: {leader}, {message}", "", *lines])
    return EX_OK


def _show_causes(trace: Trace, number: int, options: argparse.Namespace) -> int:
    from raftlite.lab.trace import why

    if not 1 <= number <= trace.last:
        options.usage_error(f"--why {number}: there are records from 1 to {trace.last}")
    seen = [number]
    for each in seen:  # which grows
        seen += [cause for cause in why(trace, each) if cause not in seen]
        if len(seen) >= _CAUSES:
            break
    records = [trace.records[i - 1] for i in sorted(seen, reverse=True)]
    _print(_as_json(records) if options.json else _told(trace, records))
    return EX_OK


def _title(trace: Trace) -> str:
    header = trace.header
    found = [f"{len(trace.nodes)} members, {trace.last} records, {trace.t:g} s"]
    found += [
        f"{name} {_shown(str(header[name]))}" for name in ("scene", "backend", "seed") if header.get(name) is not None
    ]
    return "; ".join([*found, *([_shown(trace.truncated)] if trace.truncated else [])])


# --- lint, grep, diff -----------------------------------------------------------------------------


def _lint(options: argparse.Namespace) -> int:
    from raftlite.lab.trace import lint

    code = EX_OK
    for path in options.files:
        try:
            trace = _load(path)
        except _Unreadable as error:  # the others are checked all the same
            code = max(code, _say(options, error))
            continue
        problems = lint(trace)
        code = max(code, EX_DIFFERENT if problems else EX_OK)
        if options.json:
            print_text(json.dumps({"file": path, "records": trace.last, "problems": problems}))
        else:
            lines = [f"{path}: {problem}" for problem in problems] or [f"{path}: {trace.last} records, no problem"]
            _print([_shown(line) for line in lines])
    return code


def _grep(options: argparse.Namespace) -> int:
    try:
        pattern = re.compile(options.pattern, re.IGNORECASE)
    except (re.error, RecursionError, OverflowError) as error:
        options.usage_error(f"the pattern {options.pattern!r} is no regular expression: {error}")
    trace = _load(options.file)
    kept = [
        (record, line)
        for record, line in zip(trace.records, _told(trace, trace.records))
        if pattern.search(line) and _is_wanted(record, options)
    ]
    inside = {record["i"] for record in _records(options, trace)}
    kept = [(record, line) for record, line in kept if record["i"] in inside]
    if options.count:
        print_text(str(len(kept)))
    elif kept:
        _print(_as_json([record for record, _ in kept]) if options.json else [line for _, line in kept])
    return EX_OK if kept else EX_DIFFERENT


def _is_wanted(record: Record, options: argparse.Namespace) -> bool:
    return (not options.node or record["n"] in options.node) and (not options.kind or record["k"] in options.kind)


def _diff(options: argparse.Namespace) -> int:
    from raftlite.lab.trace_diff import compare

    found = compare(_load(options.first), _load(options.second))
    is_same = all(each.side == "both" for each in found)
    if options.json:
        print_text(json.dumps({"same": is_same, "changes": [each._asdict() for each in found]}))
    else:
        _print([_shown(each.line()) for each in found] or ["no member changes its role or its term in either"])
    return EX_OK if is_same else EX_DIFFERENT


# --- export ---------------------------------------------------------------------------------------


def _export(options: argparse.Namespace) -> int:
    kind = _format(options)
    text = _exported(kind, _load(options.file), options)
    if options.output is None:
        print_text(text, end="")
        return EX_OK
    try:
        with open(options.output, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise _Unreadable(f"{_shown(options.output)}: {reason}", EX_CANTCREAT) from None
    return EX_OK


def _format(options: argparse.Namespace) -> str:
    if options.to is not None:
        return str(options.to)
    for kind, ends in FORMATS.items():
        if options.output is not None and options.output.lower().endswith(ends):
            return kind
    options.usage_error(f"--to is missing: one of {', '.join(sorted(FORMATS))}")
    raise AssertionError("a usage error ends the program")


def _exported(kind: str, trace: Trace, options: argparse.Namespace) -> str:
    from raftlite.lab import export
    from raftlite.lab.trace import to_jsonl

    part: Dict[str, Any] = _part(options, trace)
    if kind in ("html", "jsonl"):
        if part["start"] is not None or part["term"] is not None or not part["heartbeats"]:
            options.usage_error(f"--to {kind} has every record up to --stop: what it shows follows from all of them")
        return export.to_html(trace, part["stop"]) if kind == "html" else to_jsonl(trace, stop=part["stop"])
    if kind == "svg":
        part["time"] = options.time
    if kind == "shiviz":
        part["losses"] = options.losses
    exporter: Callable[..., str] = getattr(export, f"to_{kind}")
    return exporter(trace, **part)


# --- Parts of a recording -------------------------------------------------------------------------


def _part(options: argparse.Namespace, trace: Trace) -> Dict[str, Any]:
    start, stop = _place(options, trace, "start"), _place(options, trace, "stop")
    return {"start": start, "stop": stop, "term": options.term, "heartbeats": options.heartbeats}


def _place(options: argparse.Namespace, trace: Trace, name: str) -> Optional[int]:
    """The number of a record, given as such or as a time: its first record for `start`, else its last."""
    given = getattr(options, name)
    if given is None:
        return None
    found = _PLACE.fullmatch(given)
    if found is None:
        options.usage_error(f"--{name} {given!r} is neither the number of a record (412) nor a time (12.5s)")
        raise AssertionError("a usage error ends the program")
    if found[1] is not None:
        return int(found[1])
    t = float(found[2])
    if name == "start":
        return next((record["i"] for record in trace.records if record["t"] >= t), trace.last + 1)
    return sum(1 for record in trace.records if record["t"] <= t)


def _records(options: argparse.Namespace, trace: Trace) -> List[Record]:
    from raftlite.lab.export.part import Part

    return Part(trace, **_part(options, trace)).records


def _told(trace: Trace, records: List[Record]) -> List[str]:
    """A line for each of `records`; what went before is taken into account."""
    from raftlite.lab.export.words import Narrator

    narrator, lines = Narrator(), {}
    width = max((len(n) for n in trace.nodes), default=1)
    wanted = {record["i"] for record in records}
    for record in trace.records:
        words = narrator.tell(record)
        if record["i"] in wanted:
            node = _shown(record["n"] or "-").ljust(width)
            message = f" (message {record['m']})" if record["k"] in ("send", "recv", "lost") else ""
            lines[record["i"]] = f"{record['i']:>6} {record['t']:>10.3f}  {node}  {words}{message}"
    return [lines[record["i"]] for record in records]


def _as_json(records: List[Record]) -> List[str]:
    return [json.dumps(record) for record in records]


def _print(lines: List[str]) -> None:
    if lines:
        print_text("\n".join(lines))
