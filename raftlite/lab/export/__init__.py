"""A trace in the forms that other programs read: a drawing, a sequence diagram, ShiViz, a table, a page.

    Trace ─ Part (which records) ─┬─▶ to_svg       a space-time diagram, one file
                                  ├─▶ to_shiviz    a log with vector clocks for ShiViz
                                  ├─▶ to_mermaid   a sequence diagram, as text
                                  ├─▶ to_text      a table, a column for each member
                                  └─▶ to_html      a page that replays it without a server

Each takes the trace and, by keyword, `start` and `stop` (record numbers, both included), `term` and `heartbeats`
(False leaves them out), and returns the file's content.
"""

from __future__ import annotations

from raftlite.lab.export.html import to_html
from raftlite.lab.export.mermaid import to_mermaid
from raftlite.lab.export.shiviz import to_shiviz
from raftlite.lab.export.svg import to_svg
from raftlite.lab.export.text import to_text

__all__ = ["to_html", "to_mermaid", "to_shiviz", "to_svg", "to_text"]
