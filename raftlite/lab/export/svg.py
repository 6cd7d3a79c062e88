"""A trace as a space-time diagram: one SVG file that needs nothing else.

fault lane │ a line for each member, time from top to bottom, an arrow for each message │ who led in each term
"""

from __future__ import annotations

from typing import List, Optional
from xml.sax.saxutils import escape

from raftlite.lab.export import svg_lanes, svg_lifelines, svg_messages
from raftlite.lab.export.part import Part
from raftlite.lab.export.svg_canvas import FAINT, FONT, GREY, INK, ORANGE, PAPER, SIZE, Canvas, number, width_of
from raftlite.lab.export.svg_frame import NAMES_EVERY, TIME_RIGHT, TOP, Frame
from raftlite.lab.export.svg_legend import HEIGHT, draw_legend
from raftlite.lab.export.words import clean, fault_words
from raftlite.lab.trace import Trace

LAYERS = ("grid", "names", "lines", "beats", "arrows", "points", "labels")
LONGEST_NAME = 18


def to_svg(
    trace: Trace,
    start: Optional[int] = None,
    stop: Optional[int] = None,
    time: str = "real",
    heartbeats: bool = True,
    term: Optional[int] = None,
) -> str:
    """The trace as a drawing. With `time="real"` lengths are durations, with `"order"` every event has a row."""
    part = Part(trace, start, stop, heartbeats, term)
    frame = Frame(part, time)
    canvas = Canvas(LAYERS)
    _draw_grid(canvas, frame)
    svg_lanes.draw_terms(canvas, frame)
    svg_lanes.draw_faults(canvas, frame)
    svg_lifelines.draw(canvas, frame)
    if frame.records:
        svg_messages.draw(canvas, frame)
    _draw_end(canvas, frame)
    legend = max(frame.bottom, canvas.lowest) + 40
    draw_legend(canvas, frame, legend)
    return _file(canvas, frame, legend + HEIGHT)


def _file(canvas: Canvas, frame: Frame, height: float) -> str:
    wide, high = number(frame.width), number(height)
    title = title_of(frame)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{wide}" height="{high}" viewBox="0 0 {wide} {high}" '
        f'role="img" aria-labelledby="rl-title rl-desc" font-family="{FONT}" font-size="{SIZE}" fill="{INK}">\n'
        f'<title id="rl-title">{escape(title)}</title>\n<desc id="rl-desc">{escape(summary(frame))}</desc>\n'
        f'{svg_lifelines.PATTERNS}\n<rect width="{wide}" height="{high}" fill="{PAPER}"/>\n'
        f'<text x="24" y="38" font-size="22" font-weight="bold">{escape(title)}</text>\n'
        f'<text x="24" y="62" font-size="13" fill="{GREY}">{escape(_facts(frame))}</text>\n'
        f"{canvas.markup()}\n</svg>\n"
    )


def title_of(frame: Frame) -> str:
    scene = frame.part.trace.header.get("scene")
    return clean(f"raftlite: {scene.replace('-', ' ')}" if scene else "raftlite", 100)


def summary(frame: Frame) -> str:
    """The diagram in words, for those who do not see it."""
    records = frame.records
    lost = sum(record["k"] == "lost" for record in records)
    sent = sum(record["k"] == "send" for record in records)
    faults = [fault_words(record) for record in records if record["k"] == "fault"]
    led = [f"{clean(reign.node)} in term {reign.term}" for reign in svg_lanes.reigns(frame) if reign.node]
    sentences = [
        f"A space-time diagram of {len(frame.nodes)} members from {frame.t_first:g} to {frame.t_last:g} seconds",
        f"{sent} messages were sent and {lost} lost",
        "leaders: " + (", ".join(led[:20]) or "none"),
    ]
    if faults:
        sentences.append("done to the cluster: " + ", ".join(faults[:20]))
    return ". ".join(sentences) + "."


def _facts(frame: Frame) -> str:
    header = frame.part.trace.header
    found = [f"{len(frame.nodes)} members", f"{frame.t_first:g} to {frame.t_last:g} s"]
    for name, words in (("backend", "backend {}"), ("seed", "seed {}")):
        if header.get(name) is not None:
            found.append(words.format(clean(header[name], 40)))
    found.append("time runs downwards" if frame.is_real else "events in order, downwards: lengths are no durations")
    return "  ·  ".join(found)


def _draw_grid(canvas: Canvas, frame: Frame) -> None:
    right = frame.strip - 40
    for y, words in frame.ticks():
        canvas.line("grid", (TIME_RIGHT + 6, y), (right, y), stroke=FAINT, stroke_width=0.8)
        canvas.text("grid", (TIME_RIGHT, y + 4), words, font_size=SIZE - 1.0, fill=GREY, text_anchor="end")
    heights: List[float] = [
        TOP + NAMES_EVERY * count for count in range(1, int((frame.bottom - TOP) / NAMES_EVERY) + 1)
    ]
    for node in frame.nodes:
        x = frame.x(node) or 0.0
        _draw_name(canvas, frame, node, x, TOP - 30, INK, 18.0)
        for y in heights:
            _draw_name(canvas, frame, node, x + 34, y, "#9aa5b1", 13.0)


def _draw_name(canvas: Canvas, frame: Frame, node: str, x: float, y: float, ink: str, size: float) -> None:
    room = frame.column - 10
    size = max(8.0, min(size, size * room / max(1.0, width_of(clean(node, LONGEST_NAME), size))))
    canvas.text("names", (x, y), clean(node, LONGEST_NAME), font_size=size, font_weight="bold", fill=ink,
                text_anchor="middle")  # fmt: skip


def _draw_end(canvas: Canvas, frame: Frame) -> None:
    if not frame.left_out:
        return
    y, words = frame.bottom + 8, f"{frame.left_out:,} more records are not shown"
    canvas.line("lines", (TIME_RIGHT, y), (frame.strip - 40, y), stroke=ORANGE, stroke_width=4.0)
    canvas.text("labels", (TIME_RIGHT, y + 18), words, font_size=14.0, font_weight="bold", fill="#8a5d00")
