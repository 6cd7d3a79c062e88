"""A recording of a cluster: records, files of them, what they add up to, and whether they keep the rules of the format.

    recorder ─ Trace.append ─▶ Trace ─▶ add_listener ─▶ page, terminal
                                 ├────▶ TraceFile ────▶ run.jsonl ─ load ─▶ Trace
                                 ├────▶ fold, lint, why, leaders_by_term
                                 └────▶ raftlite.lab.export

A record is a plain dictionary, as it stands in its line of the file.
"""

from __future__ import annotations

from raftlite.lab.trace_causes import clocks, leaders_by_term, why
from raftlite.lab.trace_file import TraceFile, load, loads, save, to_jsonl
from raftlite.lab.trace_fold import Links, NodeView, View, fold
from raftlite.lab.trace_lint import lint
from raftlite.lab.trace_records import FORMAT, VERSION, Record, Trace, TraceError

__all__ = [
    "FORMAT",
    "VERSION",
    "Links",
    "NodeView",
    "Record",
    "Trace",
    "TraceError",
    "TraceFile",
    "View",
    "clocks",
    "fold",
    "leaders_by_term",
    "lint",
    "load",
    "loads",
    "save",
    "to_jsonl",
    "why",
]
