"""How long a cluster is without a leader, against the spread of its election timeouts: the figure of the paper.

Each election takes place on the virtual clock, so a row of the table can be made again from its spread and its seed.
"""

from __future__ import annotations

import csv
import io
from statistics import median
from typing import Dict, Iterable, List, NamedTuple, Optional, Sequence
from xml.sax.saxutils import escape

from raftlite.errors import ConfigError
from raftlite.lab.lab import Lab
from raftlite.lab.rules import Rules

LONGEST = 30.0  # seconds after which nobody waits any longer for a leader
DELAY = (0.05, 0.15)  # seconds that a message takes: much less than an election timeout
NODES = 5
COLUMNS = ("spread", "seed", "seconds", "terms")
MOST_ROWS = 100_000


class Row(NamedTuple):
    """One election: `seconds` from the leader's death to the next leader's lease, and how many terms that took."""

    spread: float
    seed: int
    seconds: float
    terms: int


def one_election(spread: float, seed: int) -> Row:
    """Kill a leader and wait for the next one; timeouts are drawn from 3 s to 3 * (1 + spread) s, without pre-vote."""
    rules = Rules(pre_vote=False)
    with Lab(NODES, backend="virtual", seed=seed, delay=DELAY, rules=rules) as lab:
        lab.elected()
        lab.wait(6.5)  # until nobody abstains any more because it has just started
        leader = lab.elected()
        lab.set_rules(Rules(pre_vote=False, jitter=spread))
        lab.wait(2.5)  # all timers have been set anew
        term, died = lab.state(leader).term, lab.now
        lab.kill(leader)
        lab.wait_for(lambda: lab.leader() is not None and lab.state(str(lab.leader())).term > term, LONGEST)
        latest = max(lab.state(n).term for n in lab.nodes)
        return Row(float(spread), seed, round(min(LONGEST, lab.now - died), 3), latest - term)


def measure(spreads: Iterable[float], elections: int = 200, seed: int = 0) -> List[Row]:
    """So many elections for each spread; other seeds give other elections."""
    return [one_election(spread, seed + number) for spread in spreads for number in range(elections)]


def medians(rows: Iterable[Row]) -> Dict[float, float]:
    """For each spread the time that half of the elections took at most."""
    return {spread: round(median(seconds), 3) for spread, seconds in by_spread(rows).items()}


def by_spread(rows: Iterable[Row]) -> Dict[float, List[float]]:
    """For each spread how long its elections took, the shortest first."""
    found: Dict[float, List[float]] = {}
    for row in rows:
        found.setdefault(row.spread, []).append(row.seconds)
    return {spread: sorted(seconds) for spread, seconds in sorted(found.items())}


# --- The table ----------------------------------------------------------------------------------------


def to_csv(rows: Iterable[Row]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(rows)
    return out.getvalue()


def from_csv(text: str) -> List[Row]:
    """The rows of a table. Raises `ConfigError`, which names the line."""
    lines = csv.reader(io.StringIO(text))
    rows: List[Row] = []
    try:
        if tuple(next(lines, [])) != COLUMNS:
            raise ConfigError(f"line 1: it must be {','.join(COLUMNS)}")
        for cells in lines:
            if cells:
                rows.append(_row(cells, lines.line_num))
            if len(rows) > MOST_ROWS:
                raise ConfigError(f"it has more than {MOST_ROWS} rows")
    except csv.Error as error:
        raise ConfigError(f"line {lines.line_num}: {error}") from error
    return rows


def _row(cells: Sequence[str], number: int) -> Row:
    try:
        spread, seed, seconds, terms = cells
        row = Row(float(spread), int(seed[:20]), float(seconds), int(terms[:20]))
    except ValueError:
        raise ConfigError(f"line {number}: it must hold four numbers: {', '.join(COLUMNS)}") from None
    if not (0 <= row.spread <= 10 and 0 <= row.seconds <= LONGEST):
        raise ConfigError(f"line {number}: a spread is from 0 to 10, and seconds are from 0 to {LONGEST:g}")
    return row


# --- The plots ----------------------------------------------------------------------------------------

_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#000000")
_DASHES = ("", "8 4", "2 3", "12 4 2 4", "4 4", "1 5", "16 6")
_LEFT, _TOP, _WIDTH, _HEIGHT = 60, 30, 640, 360


def to_svg(rows: Iterable[Row], longest: Optional[float] = None) -> str:
    """The cumulative plot: which share of the elections was over after so many seconds."""
    groups = by_spread(rows)
    end = longest or max((seconds[-1] for seconds in groups.values() if seconds), default=1.0) or 1.0
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_LEFT + _WIDTH + 180} {_TOP + _HEIGHT + 60}"'
        ' font-family="sans-serif" font-size="13">',
        '<rect width="100%" height="100%" fill="white"/>',
        *_axes(end),
    ]
    for number, (spread, seconds) in enumerate(groups.items()):
        parts += _curve(number, spread, seconds, end)
    return "\n".join([*parts, "</svg>", ""])


def _axes(end: float) -> List[str]:
    parts = [f'<path d="M{_LEFT} {_TOP}V{_TOP + _HEIGHT}H{_LEFT + _WIDTH}" fill="none" stroke="black"/>']
    for tenth in range(0, 11, 2):
        x, y = _LEFT + _WIDTH * tenth / 10, _TOP + _HEIGHT * (1 - tenth / 10)
        parts.append(f'<text x="{x:.1f}" y="{_TOP + _HEIGHT + 20}" text-anchor="middle">{end * tenth / 10:.1f}</text>')
        parts.append(f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{tenth * 10} %</text>')
    middle = _LEFT + _WIDTH / 2
    words = "seconds without a leader"
    return [*parts, f'<text x="{middle}" y="{_TOP + _HEIGHT + 45}" text-anchor="middle">{words}</text>']


def _curve(number: int, spread: float, seconds: Sequence[float], end: float) -> List[str]:
    colour, dashes = _COLOURS[number % len(_COLOURS)], _DASHES[number % len(_DASHES)]
    path = [f"M{_LEFT} {_TOP + _HEIGHT}"]
    for place, each in enumerate(seconds, 1):
        path.append(f"H{_LEFT + _WIDTH * min(1.0, each / end):.1f}V{_TOP + _HEIGHT * (1 - place / len(seconds)):.1f}")
    style = f'fill="none" stroke="{colour}" stroke-width="2" stroke-dasharray="{dashes}"'
    x, y = _LEFT + _WIDTH + 15, _TOP + 20 + 22 * number
    label = escape(f"spread {spread:g}")
    return [
        f'<path d="{"".join(path)}" {style}/>',
        f'<path d="M{x} {y}h30" {style}/>',
        f'<text x="{x + 38}" y="{y + 4}">{label}</text>',
    ]


def to_text(rows: Iterable[Row], width: int = 60) -> str:
    """The same for a terminal: a line for each spread, from the shortest to the longest, with | at the median."""
    groups = by_spread(rows)
    end = max((seconds[-1] for seconds in groups.values()), default=1.0) or 1.0
    lines = [f"{'spread':>8}  0 s{' ' * (width - 10)}{end:>6.1f} s   half are over after"]
    for spread, seconds in groups.items():
        marks = [" "] * (width + 1)
        quarter, last = round(width * seconds[len(seconds) // 4] / end), round(width * seconds[-1] / end)
        for place in range(round(width * seconds[0] / end), last + 1):
            marks[place] = "-"
        for place in range(quarter, round(width * seconds[(3 * len(seconds)) // 4] / end) + 1):
            marks[place] = "="
        half = median(seconds)
        marks[round(width * half / end)] = "|"
        lines.append(f"{spread:>8g}  {''.join(marks)}  {half:.2f} s")
    return "\n".join(lines) + "\n"
