"""A trace as one page that replays it: opened by a double-click, without a server and without the internet."""

from __future__ import annotations

from typing import Optional

from raftlite.lab.trace import Trace


def to_html(
    trace: Trace,
    start: Optional[int] = None,
    stop: Optional[int] = None,
    heartbeats: bool = True,
    term: Optional[int] = None,
) -> str:
    raise NotImplementedError
