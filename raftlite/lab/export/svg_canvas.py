"""What an SVG drawing is put together from: shapes in layers, and labels that keep out of each other's way."""

from __future__ import annotations

import math
import unicodedata
from typing import Dict, List, Optional, Sequence, Tuple
from xml.sax.saxutils import escape, quoteattr

from raftlite.lab.export.words import clean

INK, PAPER, FAINT, GREY = "#1f2933", "#ffffff", "#e4e7eb", "#6b7280"
BLUE, ORANGE, GREEN, RED, PURPLE = "#0072b2", "#e69f00", "#009e73", "#d55e00", "#7d3c98"
FONT = "system-ui, 'Segoe UI', 'Helvetica Neue', Arial, 'DejaVu Sans', sans-serif"
LONGEST_TITLE = 2_000
SIZE = 13  # of letters, in pixels

Point = Tuple[float, float]
Box = Tuple[float, float, float, float]  # left, top, right, bottom


def number(value: float) -> str:
    return f"{value:.1f}".rstrip("0").rstrip(".")


def attributes(**values: object) -> str:
    """`fill="#fff"` and so on; None is left out, `_` stands for `-`."""
    found = []
    for name, value in values.items():
        if value is not None:
            shown = number(value) if isinstance(value, float) else str(value)
            found.append(f" {name.replace('_', '-')}={quoteattr(shown)}")
    return "".join(found)


class Canvas:
    """Markup by layer; the first layer is painted first."""

    def __init__(self, layers: Sequence[str]) -> None:
        self._layers: Dict[str, List[str]] = {name: [] for name in layers}
        self.lowest = 0.0  # where the lowest label ends
        self._taken: Dict[int, List[Box]] = {}  # by stripes of the height, so that few have to be compared

    def markup(self) -> str:
        return "\n".join(f"<g>\n{chr(10).join(lines)}\n</g>" for lines in self._layers.values() if lines)

    def shape(self, layer: str, name: str, title: str = "", **values: object) -> None:
        """Any element; what `title` says is shown where the mouse rests on it."""
        inner = f"><title>{escape(clean(title, LONGEST_TITLE))}</title></{name}>" if title else "/>"
        self._layers[layer].append(f"<{name}{attributes(**values)}{inner}")

    def line(self, layer: str, start: Point, end: Point, title: str = "", **values: object) -> None:
        (x1, y1), (x2, y2) = start, end
        self.shape(layer, "path", title, d=f"M{number(x1)} {number(y1)}L{number(x2)} {number(y2)}", **values)

    def text(self, layer: str, at: Point, text: str, turned: float = 0.0, halo: bool = False, **values: object) -> None:
        """Text at a point. With `halo` it stays legible on lines, also in programs that know no `paint-order`."""
        x, y = at
        place = f' transform="rotate({number(turned)} {number(x)} {number(y)})"' if turned else ""
        start = f"<text{attributes(x=float(x), y=float(y), **values)}{place}"
        words = escape(clean(text))
        if halo:
            around = attributes(stroke=PAPER, stroke_width=3.5, stroke_linejoin="round", aria_hidden="true")
            self._layers[layer].append(f"{start}{around}>{words}</text>")
        self._layers[layer].append(f"{start}>{words}</text>")

    # --- labels ---

    def place(
        self, text: str, spots: Sequence[Point], size: float = SIZE, anchor: str = "start", turned: float = 0.0
    ) -> Optional[Point]:
        """The first of `spots` (ends of a base line) where `text` covers nothing placed before; then it is taken."""
        for spot in spots:
            box = box_of(text, spot, size, anchor, turned)
            if self.is_free(box):
                self.take(box)
                return spot
        return None

    def is_free(self, box: Box) -> bool:
        return not any(_overlap(box, other) for stripe in _stripes(box) for other in self._taken.get(stripe, ()))

    def take(self, box: Box) -> None:
        self.lowest = max(self.lowest, box[3])
        for stripe in _stripes(box):
            self._taken.setdefault(stripe, []).append(box)


def box_of(text: str, at: Point, size: float, anchor: str, turned: float = 0.0) -> Box:
    """What a text covers; where it is turned, which it only is about its middle, a little more than that."""
    wide = width_of(text, size)
    left = at[0] - {"start": 0.0, "middle": wide / 2, "end": wide}[anchor]
    rise = abs(math.sin(math.radians(turned))) * wide / 2
    return (left - 1, at[1] - size * 0.85 - rise, left + wide + 1, at[1] + size * 0.25 + rise)


def width_of(text: str, size: float) -> float:
    """About how wide a text is: its font is whatever the reader's program has."""
    return size * sum(_width(each) for each in text)


def _width(letter: str) -> float:
    if letter in "iljtfr.,:;|!'()[] ":
        return 0.34
    if unicodedata.east_asian_width(letter) in "WF":
        return 1.0
    return 0.72 if letter.isupper() or letter in "mw—→✓✗#" else 0.56


def _stripes(box: Box) -> range:
    return range(int(box[1] // 40), int(box[3] // 40) + 1)


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
