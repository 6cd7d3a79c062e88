"""The members' lines in the diagram: what each was at every moment, by colour, width and hatching."""

from __future__ import annotations

from typing import Dict, List, NamedTuple, Optional

from raftlite.lab.export.svg_canvas import BLUE, GREEN, GREY, INK, ORANGE, PAPER, RED, SIZE, Canvas
from raftlite.lab.export.svg_frame import TOP, Frame
from raftlite.lab.export.words import describe
from raftlite.lab.trace import NodeView, Record

ABSENT = "absent"


class Look(NamedTuple):
    """How the line of a member in a role is drawn. No two differ by colour alone."""

    width: float
    fill: str
    stroke: str
    dashes: Optional[str] = None


LOOKS: Dict[str, Look] = {
    "follower": Look(9.0, "#cfe5f3", BLUE),
    "pre-candidate": Look(15.0, "url(#rl-dots)", ORANGE, "3 2"),
    "candidate": Look(15.0, "url(#rl-stripes)", "#b87d00"),
    "leader": Look(21.0, GREEN, "#00684c"),
    "paused": Look(15.0, "url(#rl-bars)", GREY),
}

PATTERNS = f"""<defs>
<pattern id="rl-stripes" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">
<rect width="6" height="6" fill="#ffdf9b"/><rect width="3" height="6" fill="{ORANGE}"/></pattern>
<pattern id="rl-dots" width="5" height="5" patternUnits="userSpaceOnUse">
<rect width="5" height="5" fill="#fff6e0"/><circle cx="2.5" cy="2.5" r="1.2" fill="{ORANGE}"/></pattern>
<pattern id="rl-bars" width="6" height="6" patternUnits="userSpaceOnUse">
<rect width="6" height="6" fill="#f3f4f6"/><rect width="6" height="2.5" fill="#9ca3af"/></pattern>
<pattern id="rl-cut" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(-45)">
<rect width="6" height="6" fill="#efe3f3"/><rect width="2.5" height="6" fill="#a569bd"/></pattern>
<pattern id="rl-nobody" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">
<rect width="6" height="6" fill="{PAPER}"/><rect width="2" height="6" fill="#d1d5db"/></pattern>
</defs>"""


class Span(NamedTuple):
    look: str  # a role, "paused", "stopped" or ABSENT
    start: float
    stop: float
    title: str


class Change(NamedTuple):
    """A point of a line where something changes that is written beside it."""

    record: Record
    text: str
    is_main: bool  # a role; otherwise only a term


def draw(canvas: Canvas, frame: Frame) -> None:
    """All lines, and what is written beside them."""
    for node in frame.nodes:
        line = _Line(frame, node)
        x = frame.x(node) or 0.0
        for span in line.spans():
            _draw_span(canvas, x, span)
        for change in line.changes:
            _draw_change(canvas, x, frame.y(change.record), change, is_first=node == frame.nodes[0])
        for record in line.points:
            _draw_point(canvas, x, frame.y(record), record)


class _Line:
    """Goes through the records of one member."""

    def __init__(self, frame: Frame, node: str) -> None:
        self._frame, self._node = frame, node
        view = frame.part.before.nodes.get(node, NodeView())
        self._is_up, self._is_paused, self._inc = view.is_up, view.is_paused, view.inc
        self._role, self._term = view.role, view.term
        self.changes: List[Change] = []
        self.points: List[Record] = []

    def spans(self) -> List[Span]:
        """What the member was, from the top of the diagram to its bottom."""
        found: List[Span] = []
        y, look, title = TOP, self._look(), self._title()
        for record in self._frame.records:
            if record["n"] != self._node:
                continue
            self._take(record)
            if self._look() != look or self._title() != title:
                here = self._frame.y(record)
                found.append(Span(look, y, here, title))
                y, look, title = here, self._look(), self._title()
        found.append(Span(look, y, self._frame.bottom, title))
        return [span for span in found if span.stop - span.start > 0.05]  # as long as anybody can see

    def _look(self) -> str:
        if not self._is_up:
            return "stopped" if self._inc else ABSENT
        return "paused" if self._is_paused else self._role

    def _title(self) -> str:
        state = f"{self._role}, term {self._term}" if self._is_up else "stopped"
        return f"{self._node}: {'paused, ' if self._is_paused else ''}{state}"

    def _take(self, record: Record) -> None:
        kind = record["k"]
        if kind == "state":
            self._state(record)
        elif kind in ("start", "stop"):
            self._is_up, self._is_paused = kind == "start", False
            self._inc = record.get("inc", self._inc)
            self._role = "follower"
            if kind == "stop" or self._inc > 1:
                self.changes.append(Change(record, _life_words(record), True))
        elif kind in ("pause", "resume"):
            self._is_paused = kind == "pause"
            self.changes.append(Change(record, "paused" if self._is_paused else "goes on", True))
        elif kind in ("act", "proof") or (kind == "timer" and record["timer"] == "election"):
            self.points.append(record)

    def _state(self, record: Record) -> None:
        role, term = record["role"], record["term"]
        if role != self._role:
            self.changes.append(Change(record, f"T{term} {role}", True))
        elif term != self._term:
            self.changes.append(Change(record, f"T{term} {role}" if role != "follower" else f"T{term}", False))
        self._role, self._term = role, term


def _life_words(record: Record) -> str:
    if record["k"] == "start":
        return f"#{record['inc']} starts"
    return {"power": "power off"}.get(record.get("why", ""), record.get("why") or "stopped")


def _draw_span(canvas: Canvas, x: float, span: Span) -> None:
    if span.look in (ABSENT, "stopped"):
        dashes, ink = ("2 5", "#c4cad3") if span.look == ABSENT else ("7 6", GREY)
        canvas.line("lines", (x, span.start), (x, span.stop), span.title, stroke=ink, stroke_width=2.0,
                    stroke_dasharray=dashes)  # fmt: skip
        return
    look = LOOKS[span.look]
    canvas.shape(
        "lines", "rect", span.title, x=x - look.width / 2, y=span.start, width=look.width,
        height=span.stop - span.start, fill=look.fill, stroke=look.stroke, stroke_width=1.2,
        stroke_dasharray=look.dashes,
    )  # fmt: skip


def _draw_change(canvas: Canvas, x: float, y: float, change: Change, is_first: bool) -> None:
    """Beside the line: above what it sends then, and where no messages pass if there is such a side."""
    size = SIZE + 0.5 if change.is_main else SIZE - 1.0
    if change.record["k"] == "stop":
        _cross(canvas, x, y, 6.0, INK)
    downs = (-5.0, 5.0, 15.0, 26.0) if change.is_main else (5.0, 15.0, -5.0)
    right, left = ([(x + side, y + down) for down in downs] for side in (15, -15))
    sides = [(right, "start"), (left, "end")]
    for spots, anchor in reversed(sides) if is_first else sides:
        at = canvas.place(change.text, spots, size, anchor)
        if at is not None:
            weight, ink = ("bold", INK) if change.is_main else (None, GREY)
            canvas.text("labels", at, change.text, halo=True, font_size=size, font_weight=weight, fill=ink,
                        text_anchor=anchor)  # fmt: skip
            return


def _draw_point(canvas: Canvas, x: float, y: float, record: Record) -> None:
    """A timer that ran out, a write, news of a death."""
    if record["k"] == "act":
        ink = GREEN if record["ok"] else RED
        canvas.shape("points", "rect", describe(record), x=x - 5, y=y - 5, width=10.0, height=10.0, fill=PAPER,
                     stroke=ink, stroke_width=2.2)  # fmt: skip
        text = f"{'✓' if record['ok'] else '✗'} write"
        at = canvas.place(text, [(x + 15, y + down) for down in (4.0, 15.0, -6.0)])
        if at is not None:
            canvas.text("labels", at, text, halo=True, font_size=SIZE, fill=ink, font_weight="bold")
        return
    d = f"M{x - 6:.1f} {y:.1f}l6 -6 6 6 -6 6z"
    canvas.shape("points", "path", describe(record), d=d, fill=PAPER, stroke=INK, stroke_width=1.4)


def _cross(canvas: Canvas, x: float, y: float, r: float, ink: str) -> None:
    d = f"M{x - r:.1f} {y - r:.1f}l{2 * r:.1f} {2 * r:.1f}m0 {-2 * r:.1f}l{-2 * r:.1f} {2 * r:.1f}"
    canvas.shape("points", "path", d=d, stroke=PAPER, stroke_width=6.0, fill="none")
    canvas.shape("points", "path", d=d, stroke=ink, stroke_width=2.6, fill="none", stroke_linecap="round")
