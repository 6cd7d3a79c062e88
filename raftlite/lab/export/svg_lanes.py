"""Beside the members' lines: what was done to the cluster, at the left; who led in each term, at the right."""

from __future__ import annotations

import textwrap
from typing import Dict, List, NamedTuple, Optional, Set, Tuple

from raftlite.lab.export.svg_canvas import GREEN, GREY, INK, ORANGE, PAPER, PURPLE, RED, SIZE, Canvas
from raftlite.lab.export.svg_frame import LANE_RIGHT, TOP, Frame
from raftlite.lab.export.words import clean, describe, fault_words, pair_words
from raftlite.lab.trace import Links, Record, View

_BAR = 12.0  # the width of a bar
_LETTERS, _LINES = 28, 5  # of a line in the lane, and how many
_OF_LINKS = ("partition", "cut", "mend", "delay", "loss", "shape")  # the links that follow are shown instead


def draw_faults(canvas: Canvas, frame: Frame) -> None:
    """Bars for as long as links are not as they were, and a line of text for every other thing done or said."""
    canvas.text("labels", (LANE_RIGHT, TOP - 34), "faults and notes", font_size=SIZE, font_weight="bold", fill=GREY,
                text_anchor="end")  # fmt: skip
    _draw_links(canvas, frame)
    for record in frame.records:
        if record["k"] == "fault" and record["op"] not in _OF_LINKS:
            _write(canvas, frame.y(record), fault_words(record), INK, None)
            _dot(canvas, frame, record)
    for record in frame.records:  # where there is room: what was done is worth more than what was said
        if record["k"] == "note":
            _write(canvas, frame.y(record), f"“{clean(record['text'])}”", GREY, "italic")
            canvas.shape("lines", "circle", clean(record["text"], 2_000), cx=LANE_RIGHT, cy=frame.y(record), r=3.4,
                         fill=PAPER, stroke=GREY, stroke_width=1.2)  # fmt: skip


def _dot(canvas: Canvas, frame: Frame, record: Record) -> None:
    """A thin line from the lane to the member that it is about, or across all."""
    x, y = frame.x(record["n"]), frame.y(record)
    canvas.line("grid", (LANE_RIGHT, y), (x or frame.strip - 40, y), stroke=INK, stroke_width=0.9,
                stroke_dasharray="1.5 3")  # fmt: skip
    canvas.shape("points", "circle", fault_words(record), cx=LANE_RIGHT, cy=y, r=3.4, fill=INK)


def _draw_links(canvas: Canvas, frame: Frame) -> None:
    view = View(frame.part.trace.header)
    usual, view.links = view.links, frame.part.before.links
    y, words = TOP, links_words(view.links, usual, frame.nodes)
    for record in frame.records:
        if record["k"] != "links":
            continue
        view.apply(record)
        now = links_words(view.links, usual, frame.nodes)
        if now != words:
            _bar(canvas, frame, y, frame.y(record), words)
            y, words = frame.y(record), now
    _bar(canvas, frame, y, frame.bottom, words)


def _bar(canvas: Canvas, frame: Frame, start: float, stop: float, words: str) -> None:
    if not words:
        return
    x = LANE_RIGHT - _BAR
    canvas.shape("lines", "rect", words, x=x, y=start, width=_BAR, height=max(2.0, stop - start),
                 fill="url(#rl-cut)", stroke=PURPLE, stroke_width=1.2)  # fmt: skip
    for y in (start, stop):
        if TOP < y < frame.bottom:
            canvas.line("grid", (LANE_RIGHT, y), (frame.strip - 40, y), stroke=PURPLE, stroke_width=1.1,
                        stroke_dasharray="6 4")  # fmt: skip
    _write(canvas, start, words, PURPLE, None)


def _write(canvas: Canvas, y: float, words: str, ink: str, style: Optional[str]) -> None:
    """At the right of the lane, a little lower where there is no room."""
    lines = textwrap.wrap(words, _LETTERS, max_lines=_LINES, placeholder=" …")
    right, size = LANE_RIGHT - _BAR - 7, SIZE - 1.0
    for number, line in enumerate(lines):
        spots = [(right, y + 4 + down + 14 * number) for down in range(0, 90, 6)]
        at = canvas.place(line, spots, size, "end")
        if at is None:
            return
        y = at[1] - 4 - 14 * number
        canvas.text("labels", at, line, halo=True, font_size=size, fill=ink, text_anchor="end", font_style=style,
                    font_weight="bold" if ink == PURPLE else None)  # fmt: skip


def links_words(links: Links, usual: Links, nodes: List[str]) -> str:
    """How the links differ from what they usually are; empty where they do not."""
    found = []
    if links.cut:
        found.append(cut_words(links.cut, nodes))
    if links.delay is not None and links.delay != usual.delay:
        found.append("delay {:g} to {:g} s".format(*links.delay))
    if links.loss != usual.loss:
        found.append(f"loss {links.loss:.0%}")
    return ", ".join(found)


def cut_words(cut: Tuple[Tuple[str, str], ...], nodes: List[str]) -> str:
    """The groups of a partition, or the links that are cut."""
    gone = set(cut)
    groups = _groups(gone, nodes)
    apart = {(a, b) for one in groups for other in groups if one is not other for a in one for b in other}
    if len(groups) > 1 and apart == gone:
        return "cut: " + " | ".join(" ".join(group) for group in groups)
    both = {tuple(sorted(pair)) for pair in gone if pair[::-1] in gone}
    single = [pair for pair in sorted(gone) if pair[::-1] not in gone]
    named = [pair_words(list(pair), True) for pair in sorted(both)] + [pair_words(list(pair), False) for pair in single]
    more = f" and {len(named) - 3} more" if len(named) > 3 else ""
    return "cut: " + ", ".join(named[:3]) + more


def _groups(gone: Set[Tuple[str, str]], nodes: List[str]) -> List[List[str]]:
    """Members that reach each other, in both directions, perhaps by way of others."""
    left, groups = list(nodes), []
    while left:
        group = [left.pop(0)]
        for member in group:
            near = [n for n in left if (member, n) not in gone or (n, member) not in gone]
            group += near
            left = [n for n in left if n not in near]
        groups.append(sorted(group, key=nodes.index))
    return groups


# --- The terms --------------------------------------------------------------------------------------


class Reign(NamedTuple):
    term: int
    node: Optional[str]  # None where nobody won
    start: float
    stop: float


def draw_terms(canvas: Canvas, frame: Frame) -> None:
    """A bar for each term in which somebody led or wanted to; two where two led, as they may in different terms."""
    left = frame.strip
    canvas.text("labels", (left - 4, TOP - 34), "who led", font_size=SIZE, font_weight="bold", fill=GREY)
    ends: List[float] = []  # of the last bar in each row of bars
    for reign in reigns(frame):
        row = next((row for row, end in enumerate(ends) if end <= reign.start + 0.5), len(ends))
        ends[row : row + 1] = [reign.stop]
        _draw_reign(canvas, left + row * 18, reign)
    for record in frame.records:
        if record["k"] == "check":
            ink = GREEN if record["ok"] else RED
            _write_right(canvas, left + 46, frame.y(record), describe(record), ink, "bold")


def _draw_reign(canvas: Canvas, x: float, reign: Reign) -> None:
    words = f"T{reign.term}: {reign.node}" if reign.node else f"T{reign.term}: nobody"
    fill, ink = (GREEN, "#00684c") if reign.node else ("url(#rl-nobody)", ORANGE)
    canvas.shape("lines", "rect", words, x=x, y=reign.start, width=_BAR, height=max(3.0, reign.stop - reign.start),
                 fill=fill, stroke=ink, stroke_width=1.2)  # fmt: skip
    _write_right(canvas, x + _BAR + 6, reign.start, words, INK if reign.node else "#8a5d00", "bold")


def _write_right(canvas: Canvas, x: float, y: float, words: str, ink: str, weight: str) -> None:
    for number, line in enumerate(textwrap.wrap(words, 24, max_lines=6, placeholder=" …")):
        spots = [(x, y + 5 + down + 15 * number) for down in range(0, 600, 6)]
        at = canvas.place(line, spots)
        if at is None:
            return
        y = at[1] - 5 - 15 * number
        canvas.text("labels", at, line, halo=True, font_size=SIZE, fill=ink, font_weight=weight)


def reigns(frame: Frame) -> List[Reign]:
    """From becoming leader to being it no more; for a term without one, from the first candidate to the next term."""
    return _Reigns(frame).found()


class _Reigns:
    def __init__(self, frame: Frame) -> None:
        self._frame = frame
        self._leads: Dict[str, Tuple[int, float]] = {}
        self._tried: Dict[int, float] = {}  # terms somebody stood for, and when first
        self._seen: Dict[int, float] = {}  # when each term was first seen
        self._found: List[Reign] = []
        for n, view in frame.part.before.nodes.items():
            if view.is_up and view.role == "leader":
                self._leads[n] = (view.term, TOP)

    def found(self) -> List[Reign]:
        for record in self._frame.records:
            y = self._frame.y(record)
            if record["k"] == "stop":
                self._end(record["n"], y)
            elif record["k"] == "state":
                self._state(record, y)
        for n in list(self._leads):
            self._end(n, self._frame.bottom)
        self._leaderless()
        return sorted(self._found, key=lambda reign: (reign.start, reign.term))

    def _state(self, record: Record, y: float) -> None:
        n, term = record["n"], record["term"]
        self._seen.setdefault(term, y)
        if record["role"] == "candidate":
            self._tried.setdefault(term, y)
        if record["role"] == "leader":
            if self._leads.get(n, (None,))[0] != term:
                self._end(n, y)
                self._leads[n] = (term, y)
        else:
            self._end(n, y)

    def _end(self, n: str, y: float) -> None:
        if n in self._leads:
            term, start = self._leads.pop(n)
            self._found.append(Reign(term, n, start, y))

    def _leaderless(self) -> None:
        led = {reign.term for reign in self._found}
        for term, start in self._tried.items():
            if term not in led:
                later = [y for other, y in self._seen.items() if other > term]
                self._found.append(Reign(term, None, start, min(later, default=self._frame.bottom)))
