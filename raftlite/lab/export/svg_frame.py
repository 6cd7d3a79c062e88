"""Where things stand in the diagram: a column for each member, and time from top to bottom."""

from __future__ import annotations

import bisect
from typing import Dict, List, Optional, Tuple

from raftlite.lab.export.part import Part
from raftlite.lab.trace import Record

TIME_RIGHT = 58.0  # where the times end
LANE_RIGHT = 270.0  # where the lane of the faults ends
GAP = 92.0  # between the lane and the first member
COLUMN, NARROW = 150.0, 112.0  # between two members; narrow from eight members on
STRIP = 270.0  # the width of what stands at the right: who led in each term
TOP = 128.0  # where time begins
ROW = 20.0  # in order
SECOND = 96.0  # in real time, for a heartbeat a second
TALLEST = 60_000.0
MOST_RECORDS = 10_000  # that are drawn
NAMES_EVERY = 1_000.0  # pixels: the names of the members are repeated

_DRAWN = {"start", "stop", "pause", "resume", "state", "timer", "send", "recv", "lost"}
_DRAWN |= {"proof", "fault", "links", "event", "note", "check", "act"}


class Frame:
    """Maps members to x, and records and times to y."""

    def __init__(self, part: Part, time: str) -> None:
        self.part = part
        self.nodes = part.nodes
        self.records = part.records[:MOST_RECORDS]
        self.left_out = len(part.records) - len(self.records)
        self.is_real = time == "real"
        step = COLUMN if len(self.nodes) < 8 else NARROW
        self.column = step
        self._x = {n: LANE_RIGHT + GAP + step * number for number, n in enumerate(self.nodes)}
        self.strip = LANE_RIGHT + GAP + step * (len(self.nodes) - 1) + 150  # its left edge
        self.width = self.strip + STRIP
        self.t_first = self.records[0]["t"] if self.records else 0.0
        self.t_last = self.records[-1]["t"] if self.records else 0.0
        self._rows, self._times, self._ys = self._lay_rows()
        self.bottom = self._bottom()

    def x(self, node: Optional[str]) -> Optional[float]:
        return self._x.get(node or "")

    def y(self, record: Record) -> float:
        """Where a record stands. One from before this part is at the top."""
        if self.is_real:
            return self.y_of_time(record["t"])
        return self._rows.get(record["i"], TOP - ROW if record["i"] < self.part.first else self.bottom)

    def y_of_time(self, t: float) -> float:
        """Where the time `t` is; in order, where the first record after it stands."""
        if self.is_real:
            return TOP + (t - self.t_first) * self._second
        at = bisect.bisect_left(self._times, t)
        return self._ys[at] if at < len(self._ys) else self.bottom

    def ticks(self) -> List[Tuple[float, str]]:
        """Times to write at the left edge."""
        if not self.is_real:
            return [(y, f"{t:.3f}") for t, y in zip(self._times, self._ys)]
        step = next(step for step in _steps() if step * self._second >= 44)
        first = int(self.t_first / step)
        count = int((self.t_last - self.t_first) / step) + 2
        times = [round((first + number) * step, 6) for number in range(count)]
        return [(self.y_of_time(t), f"{t:g} s") for t in times if TOP - 0.5 <= self.y_of_time(t) <= self.bottom]

    def _lay_rows(self) -> Tuple[Dict[int, float], List[float], List[float]]:
        """In order, what one member does at one time shares a row."""
        self._second = self._pixels_of_a_second()
        rows: Dict[int, float] = {}
        times: List[float] = []
        ys: List[float] = []
        y, last = TOP - ROW, None
        for record in self.records:
            key = (record["t"], record["n"], record["m"] if record["k"] == "lost" else 0)
            if record["k"] in _DRAWN and key != last:
                y, last = y + ROW, key
                times.append(record["t"])
                ys.append(y)
            rows[record["i"]] = max(y, TOP)
        return rows, times, ys

    def _pixels_of_a_second(self) -> float:
        beat = (self.part.trace.header.get("config") or {}).get("heartbeat") or 1.0
        duration = max(self.t_last - self.t_first, 1e-6)
        return float(min(SECOND / beat, TALLEST / duration))

    def _bottom(self) -> float:
        if self.is_real:
            return self.y_of_time(self.t_last) + 24
        return max(self._ys, default=TOP) + ROW


def _steps() -> List[float]:
    """Distances between times that people read with ease."""
    return [digit * 10.0**power for power in range(-6, 10) for digit in (1, 2, 5)]
