"""A trace as a table in plain text: a line for each moment, a column for each member."""

from __future__ import annotations

import textwrap
import unicodedata
from typing import List, Optional

from raftlite.lab.export.part import Part
from raftlite.lab.export.words import Narrator, clean
from raftlite.lab.trace import Record, Trace

WIDTH = 22  # of a column
LONGEST_ID = 20
_TIME = 9
_QUIET = ("links",)  # its fault says the same in words


def to_text(
    trace: Trace,
    start: Optional[int] = None,
    stop: Optional[int] = None,
    heartbeats: bool = True,
    term: Optional[int] = None,
    width: int = WIDTH,
) -> str:
    """The trace as a table. What happens to the cluster as a whole stands across all columns."""
    part = Part(trace, start, stop, heartbeats, term)
    narrator = Narrator()
    lines = [*_head(part, width)]
    for record in part.records:
        words = narrator.tell(record)
        if record["k"] not in _QUIET:
            lines += _row(record, part.nodes, words, width)
    return "\n".join(lines) + "\n"


def _head(part: Part, width: int) -> List[str]:
    names = [clean(n, min(width, LONGEST_ID)) for n in part.nodes]
    heads = "  ".join(_padded(name, width) for name in names)
    return [f"{'TIME':>{_TIME}}  {heads}".rstrip(), "-" * (_TIME + (width + 2) * len(names))]


def _row(record: Record, nodes: List[str], words: str, width: int) -> List[str]:
    time = f"{record['t']:>{_TIME}.3f}"
    if record["n"] is None or record["k"] == "fault":
        across = max(40, (width + 2) * len(nodes) - 8)
        marked = textwrap.wrap(_mark(record, words), across) or [""]
        return [f"{time}  {marked[0]}", *(" " * (_TIME + 2) + line for line in marked[1:])]
    column = nodes.index(record["n"])
    cell = textwrap.wrap(words, width) or [""]
    indent = " " * ((width + 2) * column)
    return [f"{time}  {indent}{cell[0]}", *(" " * (_TIME + 2) + indent + line for line in cell[1:])]


def _mark(record: Record, words: str) -> str:
    by = f" (by {clean(record['by'], 20)})" if record.get("by") else ""
    return {"fault": f"=== {words}{by} ===", "note": f'" {words}'}.get(record["k"], f"--- {words}")


def _padded(text: str, width: int) -> str:
    """`text` with spaces up to `width` places of a terminal, where some letters take two."""
    taken = sum(2 if unicodedata.east_asian_width(each) in "WF" else 1 for each in text)
    return text + " " * max(0, width - taken)
