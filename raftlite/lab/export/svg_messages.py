"""The messages in the diagram: arrows from where they left to where they arrived, got lost or are."""

from __future__ import annotations

import math
from typing import List, NamedTuple, Optional, Tuple

from raftlite.lab.export.part import BEATS, Journey
from raftlite.lab.export.svg_canvas import GREEN, INK, PAPER, RED, SIZE, Canvas, Point, number
from raftlite.lab.export.svg_frame import ROW, TOP, Frame
from raftlite.lab.export.words import ASKS, TYPES, loss_words, verdict
from raftlite.lab.trace import Record

GAP = 12.0  # between a member's line and an arrow
LONGEST_LABEL = 44
_BEAT = "#7b8794"
_SHORT = {"cut": "cut", "down": "down", "paused": "paused", "operator": "dropped", "expired": "too late"}
_ALONG = (0.5, 0.36, 0.64, 0.24, 0.76)  # where a label may stand on its arrow


class Arrow(NamedTuple):
    start: Point
    end: Point
    ink: str
    is_reply: bool
    is_beat: bool
    is_trial: bool  # of a pre-vote
    is_flying: bool
    loss: str  # why it was lost
    label: str
    title: str


def draw(canvas: Canvas, frame: Frame) -> None:
    arrows = [arrow for journey in frame.part.journeys() for arrow in _arrows(frame, journey)]
    for arrow in arrows:
        _draw_arrow(canvas, arrow)
        if arrow.loss:
            x, y = arrow.end
            canvas.take((x - 6, y - 6, x + 6, y + 6))
    # What is not said elsewhere gets its place first.
    for arrow in sorted(arrows, key=lambda each: (not each.loss, each.is_beat, each.is_trial)):
        if arrow.label:
            _draw_label(canvas, arrow)


def _arrows(frame: Frame, journey: Journey) -> List[Arrow]:
    """The arrow of a message; none where the trace does not tell between whom it goes, or beyond the bottom."""
    send, end = journey
    known = send or end
    if known is None or known["i"] > frame.records[-1]["i"]:
        return []
    if end is not None and end["i"] > frame.records[-1]["i"]:
        end = None
    sender = send["n"] if send else known["from"]
    receiver = send["to"] if send else known["n"]
    x1, x2 = frame.x(sender), frame.x(receiver)
    if x1 is None or x2 is None or x1 == x2:
        return []
    side = GAP if x2 > x1 else -GAP
    start = (x1 + side, frame.y(send) if send else TOP)
    stop = _stop(frame, send, end, (x2 - side, start[1]), start)
    kind = str(known.get("type", "message"))
    loss = _SHORT.get(end.get("why", ""), "lost") if end is not None and end["k"] == "lost" else ""
    ink, label = _words(kind, send, end, loss)
    title = _title(kind, sender, receiver, send, end)
    sort = (kind.endswith("_resp"), kind in BEATS, kind.startswith("pre_"), end is None)
    return [Arrow(start, stop, ink, *sort, loss, label, title)]


def _stop(frame: Frame, send: Optional[Record], end: Optional[Record], goal: Point, start: Point) -> Point:
    """Where the arrow ends: at its goal, short of it where it was lost, at the bottom while it is in flight."""
    if end is None:
        return _in_flight(frame, send, goal, start)
    y = frame.y(end)
    if end["k"] != "lost":
        return (goal[0], y)
    share = 0.8 if end.get("why") in ("down", "paused") else 0.6
    least = ROW * 0.6 if frame.is_real else 0.0
    return (start[0] + (goal[0] - start[0]) * share, max(y, start[1] + least))


def _in_flight(frame: Frame, send: Optional[Record], goal: Point, start: Point) -> Point:
    eta = send.get("eta") if send is not None else None
    left = frame.bottom - start[1]
    if frame.is_real and eta is not None and eta > (send or {})["t"]:
        whole = frame.y_of_time(eta) - start[1]
        share = min(0.94, left / whole) if whole > 0 else 0.94
        return (start[0] + (goal[0] - start[0]) * share, start[1] + min(left, whole))
    return (start[0] + (goal[0] - start[0]) * 0.6, frame.bottom)


def _words(kind: str, send: Optional[Record], end: Optional[Record], loss: str) -> Tuple[str, str]:
    """The colour of an arrow and what is written on it."""
    mark = verdict(send) or (verdict(end) if kind.endswith("_resp") or kind in BEATS else "")
    ink = {"✓": GREEN, "✗": RED}.get(mark, _BEAT if kind in BEATS else INK)
    if loss:
        return ink, loss
    if kind in BEATS:
        why = end.get("why") if end is not None and end.get("result") in ("refused", "stepped down") else ""
        return (RED if why else ink), f"✗ {why}" if why else ""
    if kind in ASKS or not mark:
        return ink, TYPES.get(kind, kind)
    why = (send or {}).get("why") or (end or {}).get("why") or ""
    return ink, f"{mark} {why}" if mark == "✗" and why else f"{mark} {TYPES.get(kind, kind)}"


def _title(kind: str, sender: str, receiver: str, send: Optional[Record], end: Optional[Record]) -> str:
    known = send or end or {}
    words = [f"{sender} → {receiver}: {TYPES.get(kind, kind)}"]
    if "term" in known:
        words.append(f"term {known['term']}")
    words.append(f"message {known['m']}")
    if send is not None:
        words.append(f"sent at {send['t']:g} s")
    if end is None:
        words.append("in flight")
    elif end["k"] == "lost":
        words.append(f"lost at {end['t']:g} s: {loss_words(end.get('why', ''))}")
    else:
        result = ": ".join(str(end[name]) for name in ("result", "why") if end.get(name))
        words.append(f"received at {end['t']:g} s" + (f", {result}" if result else ""))
    return ", ".join(words)


def _draw_arrow(canvas: Canvas, arrow: Arrow) -> None:
    (x1, y1), (x2, y2) = arrow.start, arrow.end
    layer = "beats" if arrow.is_beat else "arrows"
    width = 1.1 if arrow.is_beat or arrow.is_trial else 1.8
    dashes = "5 4" if arrow.is_flying else None
    canvas.line(layer, arrow.start, arrow.end, arrow.title, stroke=arrow.ink, stroke_width=width,
                stroke_dasharray=dashes)  # fmt: skip
    angle = math.atan2(y2 - y1, x2 - x1)
    if arrow.loss:
        _draw_loss(canvas, arrow.end)
        return
    long, wide = (8.0, 3.2) if arrow.is_beat else (11.0, 4.4)
    points = [_turned(arrow.end, angle, -long, wide), arrow.end, _turned(arrow.end, angle, -long, -wide)]
    d = "M" + "L".join(f"{number(x)} {number(y)}" for x, y in points)
    if arrow.is_reply or arrow.is_flying:  # an open head
        canvas.shape(layer, "path", d=d, fill="none", stroke=arrow.ink, stroke_width=width)
    else:
        fill = PAPER if arrow.is_trial else arrow.ink
        canvas.shape(layer, "path", d=d + "z", fill=fill, stroke=arrow.ink, stroke_width=1.0)


def _draw_loss(canvas: Canvas, at: Point) -> None:
    x, y = at
    d = f"M{x - 5:.1f} {y - 5:.1f}l10 10m0 -10l-10 10"
    canvas.shape("arrows", "path", d=d, stroke=RED, stroke_width=2.6, fill="none", stroke_linecap="round")


def _draw_label(canvas: Canvas, arrow: Arrow) -> None:
    """Along the arrow and never upside down; beside its end where it was lost; nowhere where there is no room."""
    size = SIZE - 1.0
    text = arrow.label if len(arrow.label) <= LONGEST_LABEL else arrow.label[: LONGEST_LABEL - 1] + "…"
    (x1, y1), (x2, y2) = arrow.start, arrow.end
    if arrow.loss:
        right, left = [(x2 + 9, y2 + d) for d in (4.0, 14.0, -7.0)], [(x2 - 9, y2 + d) for d in (14.0, 24.0)]
        anchor = "start"
        at = canvas.place(text, right, size)
        if at is None:
            at, anchor = canvas.place(text, left, size, "end"), "end"
        if at is not None:
            canvas.text("labels", at, text, halo=True, font_size=size, fill=RED, text_anchor=anchor)
        return
    turned = math.degrees(math.atan2(y2 - y1, x2 - x1))
    turned = turned - 180 if turned > 90 else turned
    spots = [(x1 + (x2 - x1) * share, y1 + (y2 - y1) * share - 4) for share in _ALONG]
    at = canvas.place(text, spots, size, "middle", turned)
    if at is not None:
        canvas.text("labels", at, text, turned=turned, halo=True, font_size=size, fill=arrow.ink, text_anchor="middle")


def _turned(at: Point, angle: float, along: float, aside: float) -> Point:
    x = at[0] + along * math.cos(angle) - aside * math.sin(angle)
    y = at[1] + along * math.sin(angle) + aside * math.cos(angle)
    return (x, y)
