"""A trace as one page that replays it: opened by a double-click, without a server and without the internet."""

from __future__ import annotations

from typing import Optional

from raftlite.lab.export.words import clean
from raftlite.lab.trace import Trace, to_jsonl


def to_html(trace: Trace, stop: Optional[int] = None) -> str:
    """The trace up to the record with the number `stop` in the classroom's page, as a single file.

    It begins at the beginning whatever is asked for: what the members are at any moment follows from all that was
    recorded before.
    """
    from raftlite.lab.page import offline_page
    from raftlite.lab.session import scenes_in_words

    lines = to_jsonl(trace, stop=stop).split("\n")  # no `splitlines`: a text may hold what ends a line elsewhere
    scene = trace.header.get("scene")
    return offline_page(lines, clean(f"raftlite: {scene}" if scene else "raftlite recording"), scenes_in_words())
