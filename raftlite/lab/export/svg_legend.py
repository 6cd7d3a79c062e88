"""What the colours, hatchings and lines of the diagram mean."""

from __future__ import annotations

from typing import Callable, List, Tuple

from raftlite.lab.export.svg_canvas import GREEN, GREY, INK, PAPER, PURPLE, RED, SIZE, Canvas, width_of
from raftlite.lab.export.svg_frame import Frame
from raftlite.lab.export.svg_lifelines import LOOKS

HEIGHT = 96.0
_STEP = 26.0
Sample = Callable[[Canvas, float, float], None]


def draw_legend(canvas: Canvas, frame: Frame, top: float) -> None:
    x, y = 24.0, top + 18
    canvas.line("labels", (24, top - 6), (frame.width - 24, top - 6), stroke="#cbd2d9", stroke_width=1.0)
    for words, sample in _SAMPLES:
        wide = 54 + width_of(words, SIZE)
        if x + wide > frame.width - 20:
            x, y = 24.0, y + _STEP
        sample(canvas, x + 16, y)
        canvas.text("labels", (x + 40, y + 4), words, font_size=SIZE, fill=INK)
        x += wide


def _band(look: str) -> Sample:
    def draw(canvas: Canvas, x: float, y: float) -> None:
        style = LOOKS[look]
        canvas.shape("labels", "rect", x=x - style.width / 2, y=y - 9, width=style.width, height=18.0, fill=style.fill,
                     stroke=style.stroke, stroke_width=1.2, stroke_dasharray=style.dashes)  # fmt: skip

    return draw


def _stopped(canvas: Canvas, x: float, y: float) -> None:
    canvas.line("labels", (x, y - 10), (x, y + 10), stroke=GREY, stroke_width=2.0, stroke_dasharray="7 6")


def _arrow(ink: str, fill: str, width: float = 1.8, dashes: object = None) -> Sample:
    """With an open head where `fill` is "none"."""

    def draw(canvas: Canvas, x: float, y: float) -> None:
        canvas.line("labels", (x - 16, y), (x + 16, y), stroke=ink, stroke_width=width, stroke_dasharray=dashes)
        d = f"M{x + 6:.1f} {y - 4.4:.1f}L{x + 16:.1f} {y:.1f}L{x + 6:.1f} {y + 4.4:.1f}"
        canvas.shape("labels", "path", d=d + ("" if fill == "none" else "z"), fill=fill, stroke=ink, stroke_width=width)

    return draw


def _lost(canvas: Canvas, x: float, y: float) -> None:
    canvas.line("labels", (x - 16, y), (x + 6, y), stroke=INK, stroke_width=1.7)
    d = f"M{x + 1:.1f} {y - 5:.1f}l10 10m0 -10l-10 10"
    canvas.shape("labels", "path", d=d, stroke=RED, stroke_width=2.6, fill="none", stroke_linecap="round")


def _timer(canvas: Canvas, x: float, y: float) -> None:
    d = f"M{x - 6:.1f} {y:.1f}l6 -6 6 6 -6 6z"
    canvas.shape("labels", "path", d=d, fill=PAPER, stroke=INK, stroke_width=1.4)


def _links(canvas: Canvas, x: float, y: float) -> None:
    canvas.shape("labels", "rect", x=x - 6, y=y - 9, width=12.0, height=18.0, fill="url(#rl-cut)", stroke=PURPLE,
                 stroke_width=1.2)  # fmt: skip


_SAMPLES: List[Tuple[str, Sample]] = [
    ("follower", _band("follower")),
    ("pre-candidate", _band("pre-candidate")),
    ("candidate", _band("candidate")),
    ("leader", _band("leader")),
    ("paused", _band("paused")),
    ("stopped", _stopped),
    ("vote request", _arrow(INK, INK)),
    ("pre-vote request", _arrow(INK, PAPER, 1.1)),
    ("granted", _arrow(GREEN, "none")),
    ("refused", _arrow(RED, "none")),
    ("heartbeat", _arrow("#7b8794", "#7b8794", 1.1)),
    ("lost", _lost),
    ("in flight", _arrow(INK, "none", 1.8, "5 4")),
    ("election timer ran out", _timer),
    ("links cut or changed", _links),
]
