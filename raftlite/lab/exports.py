"""What the page offers to keep of a recording: as what, and in a file of which name."""

from __future__ import annotations

from typing import Any, Callable, Dict, NamedTuple, Optional, Tuple

from raftlite.lab.trace import Trace, to_jsonl


class Kind(NamedTuple):
    content_type: str
    name: str  # of the file
    write: Callable[[Trace, Optional[int], Optional[int], bool], str]


def export(
    kind: str, trace: Trace, start: Optional[int] = None, stop: Optional[int] = None, heartbeats: bool = True
) -> Tuple[str, str, str]:
    """The text, its content type and the name of the file, of the records with the numbers from `start` to `stop`."""
    chosen = EXPORTS[kind]
    return chosen.write(trace, start, stop, heartbeats), chosen.content_type, chosen.name


def _drawn(name: str) -> Callable[[Trace, Optional[int], Optional[int], bool], str]:
    """What `raftlite.lab.export` has under that name; it is imported when somebody asks for it."""

    def write(trace: Trace, start: Optional[int], stop: Optional[int], heartbeats: bool) -> str:
        from raftlite.lab import export as exporters

        exporter: Any = getattr(exporters, name)
        text: str = exporter(trace, start=start, stop=stop, heartbeats=heartbeats)
        return text

    return write


def _recording(trace: Trace, start: Optional[int], stop: Optional[int], heartbeats: bool) -> str:
    """All of it, whatever part is asked for: a recording that begins in the middle could not be replayed."""
    return to_jsonl(trace)


def _replay(trace: Trace, start: Optional[int], stop: Optional[int], heartbeats: bool) -> str:
    from raftlite.lab.page import offline_page
    from raftlite.lab.session import scenes_in_words

    return offline_page(to_jsonl(trace).split("\n"), "raftlite recording", scenes_in_words())


EXPORTS: Dict[str, Kind] = {
    "html": Kind("text/html; charset=utf-8", "raftlite-replay.html", _replay),
    "jsonl": Kind("application/x-ndjson; charset=utf-8", "raftlite.jsonl", _recording),
    "svg": Kind("image/svg+xml; charset=utf-8", "raftlite.svg", _drawn("to_svg")),
    "text": Kind("text/plain; charset=utf-8", "raftlite.txt", _drawn("to_text")),
    "mermaid": Kind("text/plain; charset=utf-8", "raftlite.mmd", _drawn("to_mermaid")),
    "shiviz": Kind("text/plain; charset=utf-8", "raftlite-shiviz.log", _drawn("to_shiviz")),
}
