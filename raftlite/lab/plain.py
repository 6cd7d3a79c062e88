"""`raftlite lab --plain`: what happens, line by line, for CI, screen readers and slow links. No keyboard is needed.

Lab ─▶ Trace ─ records ─▶ PlainLines ─▶ lines that are never changed again
"""

from __future__ import annotations

import textwrap
from typing import Any, Callable, Dict, Iterable, Iterator, List

from raftlite.command.output import print_text
from raftlite.command.signals import Ended
from raftlite.lab.export.words import Narrator, clean
from raftlite.lab.trace import Record, Trace

WIDTH = 100
WORDS_WIDTH = WIDTH - 18  # beside time and member
BLINK = 0.1  # seconds after which it looks for news, and for Ctrl-C
MOST_AT_ONCE = 1_000
LONGEST_TEXT = 10_000

_BEATS = ("heartbeat", "heartbeat_resp")
_ANSWERS = ("vote_resp", "pre_vote_resp")  # whose sending repeats what became of the request
_ROUTINE = ("links", "timer", "clock", "end")  # other lines say the same in better words
_TITLES = {"question": "Question: ", "answer": "Answer: ", "note": "Note: "}


class PlainLines:
    """Puts records into lines, one after the other, and leaves out what repeats itself: heartbeats and their timers."""

    def __init__(self) -> None:
        self._narrator = Narrator()
        self._is_after_gap = False  # two empty lines would say no more than one
        self._shown: Dict[str, Any] = {}  # what each member last was, as far as it is worth a line

    def lines(self, records: Iterable[Record]) -> Iterator[str]:
        for record in records:
            for line in self._lines_of(record, self._narrator.tell(record)):
                if line or not self._is_after_gap:
                    yield line
                self._is_after_gap = not line

    def _lines_of(self, record: Record, words: str) -> List[str]:
        if record["k"] == "note":
            return _note(record)
        return _event(record, words) if self._is_news(record) else []

    def _is_news(self, record: Record) -> bool:
        kind = record["k"]
        if kind == "state":
            is_new = bool(self._shown.get(record["n"]) != _worth(record))
            self._shown[record["n"]] = _worth(record)
            return is_new
        if kind == "send":
            return record["type"] not in (*_BEATS, *_ANSWERS)
        if kind in ("recv", "lost"):
            return record.get("type") not in _BEATS or record.get("result") == "stepped down"
        return kind not in _ROUTINE


def _worth(record: Record) -> Any:
    return tuple(str(record.get(name)) for name in ("role", "term", "vote", "votes", "leader"))


def _event(record: Record, words: str) -> List[str]:
    who = clean(record["n"] or "", 8) if record["k"] != "fault" else ""
    mark = f"=== {words}" if record["k"] == "fault" else words
    first, *others = textwrap.wrap(mark, WORDS_WIDTH) or [""]
    return [f"{record['t']:>9.3f}  {who:<5}  {first}".rstrip(), *(" " * 18 + line for line in others)]


def _note(record: Record) -> List[str]:
    """Narration stands by itself, with an empty line before it."""
    title = _TITLES.get(str(record.get("kind")), "")
    paragraphs = [clean(part, LONGEST_TEXT) for part in str(record["text"]).split("\n")]
    found = [""]
    for number, part in enumerate(paragraphs):
        found += textwrap.wrap(part if number else title + part, WIDTH) or [""]
    return [*found, ""]


# --- What is shown --------------------------------------------------------------------------------


def tell_recording(trace: Trace) -> None:
    """All of a recording at once."""
    for line in PlainLines().lines(trace.records):
        print_text(line)


class Telling:
    """Prints what is new in the trace of a lab, as often as it is asked to."""

    def __init__(self, trace: Trace) -> None:
        self._trace, self._lines, self._told = trace, PlainLines(), 0

    def go_on(self) -> None:
        while True:
            records = self._trace.after(self._told, MOST_AT_ONCE)
            if not records:
                return
            self._told = records[-1]["i"]
            for line in self._lines.lines(records):
                print_text(line)


def tell_cluster(lab: Any, ended: Ended) -> None:
    """What happens in `lab`, until there is a signal."""
    telling = Telling(lab.trace)
    while not ended.wait(BLINK):
        telling.go_on()
    telling.go_on()


def tell_scene(player: Any, ended: Ended) -> bool:
    """Play a scene to its end, or until there is a signal; return whether its contract was kept."""
    words = player.text()
    print_text(f"{words['title']}\n{words['summary']}")
    telling = Telling(player.lab.trace)
    while player.next():
        _until(lambda: bool(player.wait(BLINK)), telling, ended)
        if ended.signal is not None:
            return False
    checks = player.checks
    print_text(f"\n{sum(check.ok for check in checks)} of {len(checks)} checks hold.")
    return bool(checks) and all(check.ok for check in checks)


def _until(is_over: Callable[[], bool], telling: Telling, ended: Ended) -> None:
    while not is_over() and ended.signal is None:
        telling.go_on()
    telling.go_on()
