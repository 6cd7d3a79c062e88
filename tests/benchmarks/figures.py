"""What is made of many measured numbers: medians, percentiles, tables, and whether a change is more than noise."""

from __future__ import annotations

import math
import os
import platform
import random
import statistics
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, List, Optional, Sequence, Tuple

SHARES = {"median": 0.5, "p90": 0.9, "p99": 0.99}
RESAMPLES = 400  # for the noise of a median


def percentile(ordered: Sequence[float], share: float) -> float:
    """The value that `share` of all do not exceed; `ordered` is sorted and not empty."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def summary(values: Iterable[float]) -> Dict[str, float]:
    """n, median, p90, p99, max. A percentile of fewer values than it needs is the largest of them: see `has_share`."""
    ordered = sorted(values)
    return {
        "n": len(ordered),
        **{name: percentile(ordered, share) for name, share in SHARES.items()},
        "max": ordered[-1],
    }


def has_share(count: int, share: float) -> bool:
    """Whether so many values have such a percentile, beside the largest of them."""
    return share <= 0.5 or count * (1 - share) > 1 - 1e-9


def significant(value: float) -> str:
    """Three digits, and no more before the point than there are."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    power = int(f"{value:.2e}".partition("e")[2])  # once it is rounded
    return f"{value:.{max(0, 2 - power)}f}"


def table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> List[str]:
    """Lines of a Markdown table; numbers stand on the right."""
    texts = [[each if isinstance(each, str) else significant(each) for each in row] for row in rows]
    widths = [max(len(row[column]) for row in [list(header), *texts]) for column in range(len(header))]
    is_text = [column == 0 or any(not _is_number(row[column]) for row in texts) for column in range(len(header))]
    rule = ["-" * (width + 2) if text else "-" * (width + 1) + ":" for width, text in zip(widths, is_text)]

    def line(row: Sequence[str]) -> str:
        cells = [each.ljust(width) if text else each.rjust(width) for each, width, text in zip(row, widths, is_text)]
        return f"| {' | '.join(cells)} |"

    return [line(list(header)), f"|{'|'.join(rule)}|", *map(line, texts)]


def _is_number(text: str) -> bool:
    return text in ("", "-") or text.replace(".", "", 1).replace("-", "", 1).isdigit()


# --- Comparison with an earlier result -------------------------------------------------------------------------------

# With the same code, a ratio may differ by less than this from one day to the next, on one machine: 12 % were seen.
BETWEEN_DAYS = 0.15


def ratio_with_noise(
    above: Sequence[float], below: Sequence[float], seed: int = 0, middle: Callable[[Any], float] = statistics.median
) -> Tuple[float, float, float]:
    """The ratio of two medians, and between which two values nine of ten such measurements would put it (bootstrap)."""
    rng = random.Random(seed)

    def resampled(values: Sequence[float]) -> float:
        return middle(rng.choices(values, k=len(values)))

    ratios = sorted(resampled(above) / resampled(below) for _ in range(RESAMPLES))
    return middle(above) / middle(below), percentile(ratios, 0.05), percentile(ratios, 0.95)


def movement(before: Sequence[float], after: Sequence[float]) -> Optional[str]:
    """How a ratio `(value, least, most)` has moved beyond the noise of both, in words; None if it has not."""
    change = after[0] / before[0] - 1
    if after[1] > before[2] and change > BETWEEN_DAYS:
        return f"rose by {100 * change:.0f} %"
    if after[2] < before[1] and change < -BETWEEN_DAYS:
        return f"fell by {-100 * change:.0f} %"
    return None


# --- On what --------------------------------------------------------------------------------------------------------


def machine() -> Dict[str, Any]:
    """What a reader must know of the machine to place the figures."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "load": round(load, 2),
    }


def describe_machine(facts: Dict[str, Any]) -> str:
    return (
        f"{facts['cores']} cores of {facts['processor']}, {facts['system']}, Python {facts['python']}; "
        f"load when it began: {facts['load']}"
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
