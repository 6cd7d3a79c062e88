"""The paper's experiment (ATC 2014, section 9.3, Figure 16), on a virtual clock.

    python -m benchmarks.paper [--trials 1000] [--svg FILE] [--json]

Five members; the leader crashes at a moment drawn from its heartbeat interval, which is half the shortest timeout,
after a heartbeat that reaches all at the same time. Measured is until all the others have heard the next leader. There
are two places: in the paper's laboratory a vote was written to a disk for most of the paper's 15 ms, and the network
was fast; on a slow network a message and its answer take them, 10 to 20 ms.

How long saves and messages took is not in the paper. Those of `LABORATORY` are such that the paper's rules have the
paper's medians, which leaves 6 to 12 ms for both; the other rules are then given the same. Where timeouts are the same
or nearly so, the unevenness of real processes is what broke a tie, and it is another one here.

With raftlite's own rules a leader needs an answer within its lease, which is shorter than the shortest timeout: where a
broadcast takes longer than that, nobody leads for long, and the trials are given up.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import os
import random
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple, Type

from raftlite.election import Election
from raftlite.timing import Timing

from .figures import percentile, table
from .virtual import PlainElection, PlainElectionWithLogs, Times, VirtualCluster

LABORATORY, SLOW_NETWORK = "the paper's laboratory", "slow network"
PLACES = {
    LABORATORY: Times(message=(0.0005, 0.0015), save=(0.005, 0.009), timer=(0.0, 0.0001)),
    SLOW_NETWORK: Times(message=(0.005, 0.010)),
}
SAME = (150, 150)
SAME_TRIALS = 20  # the paper has 100; hardly any ends
PATIENCE = 20.0  # virtual seconds until a trial is given up
FAMILIES: Dict[str, List[Tuple[int, int]]] = {
    "how far timeouts are spread": [SAME, (150, 151), (150, 155), (150, 175), (150, 200), (150, 300)],
    "how long timeouts are": [(12, 24), (25, 50), (50, 100), (100, 200), (150, 300)],
}
# Rules, and whether the members have proof that the leader is gone: the end of a process gives it, of a machine not.
VARIANTS: Dict[str, Tuple[Type[Election], bool]] = {
    "paper's rules, paper's logs": (PlainElectionWithLogs, False),
    "paper's rules": (PlainElection, False),
    "raftlite, no proof": (Election, False),
    "raftlite, process killed": (Election, True),
}
# Milliseconds, from the paper's text and, where it is silent, read off the figures of the author's thesis (about 1 %).
PUBLISHED: Dict[Tuple[int, int], Dict[str, float]] = {
    (150, 150): {"median": 41_100, "p90": 85_000, "p99": 528_000, "max": 528_000},
    (150, 151): {"median": 1_199, "p90": 3_133, "p99": 6_015, "max": 8_235},
    (150, 155): {"median": 287, "p90": 610, "p99": 1_243, "max": 2_144},
    (150, 175): {"median": 141, "p90": 291, "p99": 467, "max": 610},
    (150, 200): {"median": 147, "p90": 194, "p99": 352, "max": 513},
    (150, 300): {"median": 171, "p90": 244, "p99": 415, "max": 603},
    (12, 24): {"median": 30, "p90": 53, "p99": 87, "max": 152},
    (25, 50): {"median": 43, "p90": 74, "p99": 119, "max": 276},
    (50, 100): {"median": 67, "p90": 96, "p99": 169, "max": 253},
    (100, 200): {"median": 120, "p90": 166, "p99": 277, "max": 335},
}


def trial(place: str, variant: str, timeouts: Tuple[int, int], seed: int) -> Optional[float]:
    """Milliseconds without a leader; None if there was none for `PATIENCE`, or none ever stayed."""
    _, proof = VARIANTS[variant]
    for attempt in range(5):
        cluster, leader = _cluster_before_crash(place, variant, timeouts, seed + 1_000_003 * attempt)
        if leader is not None and cluster.leader == leader:
            crashed_at = cluster.now
            cluster.crash(leader, proof)
            found = cluster.run_until(cluster.all_follow, PATIENCE)
            return (cluster.now - crashed_at) * 1e3 if found else None
    return None


def _cluster_before_crash(
    place: str, variant: str, timeouts: Tuple[int, int], seed: int
) -> Tuple[VirtualCluster, Optional[str]]:
    """The member with the longest log leads, as in the paper; elsewhere it makes no difference who does."""
    shortest, longest = (each / 1e3 for each in timeouts)
    timing = Timing(heartbeat_interval=shortest / 2, election_timeout=shortest)
    cluster = VirtualCluster(5, seed, timing, PLACES[place], longest / shortest - 1, VARIANTS[variant][0])
    last = max(cluster.members)
    cluster.members[last]._election_at = 0.0
    cluster._carry_out(last, cluster.members[last].timeout(cluster.now))
    cluster.run_until(lambda: False, 6 * shortest)
    leader = cluster.leader
    if leader is not None:
        cluster.broadcast_together()
        cluster.run_until(lambda: False, random.Random(-seed).random() * shortest / 2)  # the next are not sent yet
    return cluster, leader


def _trials(arguments: Tuple[str, str, Tuple[int, int], int]) -> List[Optional[float]]:
    *line, count = arguments
    return [trial(*line, 7_919 * number) for number in range(count)]


def lines_wanted() -> Iterator[Tuple[str, str, Tuple[int, int]]]:
    every = dict.fromkeys(timeouts for family in FAMILIES.values() for timeouts in family)
    return itertools.product(PLACES, VARIANTS, every)


def measure(trials: int) -> List[Dict[str, Any]]:
    """All lines of all plots; `None` among the milliseconds stands for a trial that was given up."""
    wanted = [(*line, min(trials, SAME_TRIALS) if SAME in line else trials) for line in lines_wanted()]
    with multiprocessing.Pool(os.cpu_count()) as pool:
        results = pool.imap(_trials, wanted)
        return [
            {"place": place, "variant": variant, "timeouts": list(timeouts), "milliseconds": milliseconds}
            for (place, variant, timeouts, _), milliseconds in zip(wanted, results)
        ]


def describe(lines: List[Dict[str, Any]]) -> List[str]:
    """One table for each rules: the distribution, and the paper's median and maximum beside it."""
    text = []
    for place, variant in itertools.product(PLACES, VARIANTS):
        text += ["", f"**Figure 16 of the paper, {place}, {variant}**: ms without a leader, five members", ""]
        rows = [_row(line) for line in lines if (line["place"], line["variant"]) == (place, variant)]
        header = ("timeouts", "n", "median", "p90", "p99", "max", "paper's median", "paper's max", "given up")
        text += table(header, rows)
    return text + [line for place in PLACES for line in medians(place, lines)]


def medians(place: str, lines: List[Dict[str, Any]]) -> List[str]:
    """One table: the paper's median, and that of each rules."""
    found: Dict[Tuple[int, int], Dict[str, Any]] = {}
    for line in lines:
        if line["place"] == place:
            shortest, longest = line["timeouts"]
            found.setdefault((shortest, longest), {})[line["variant"]] = _row(line)[2]
    rows = [
        [_name(each), PUBLISHED[each]["median"], *(row[variant] for variant in VARIANTS)] for each, row in found.items()
    ]
    title = f"**Figure 16 of the paper, {place}**: ms without a leader, five members, medians"
    return ["", title, "", *table(("timeouts", "the paper", *VARIANTS), rows)]


def _name(timeouts: Sequence[int]) -> str:
    return "-".join(map(str, timeouts)) + " ms"


def published_for(line: Dict[str, Any]) -> Dict[str, float]:
    """What the paper has for the same timeouts."""
    shortest, longest = line["timeouts"]
    return PUBLISHED[shortest, longest]


def _row(line: Dict[str, Any]) -> List[Any]:
    values = sorted(float("inf") if each is None else each for each in line["milliseconds"])
    shares = [_finite(percentile(values, share)) for share in (0.5, 0.9, 0.99, 1.0)]
    published = published_for(line)
    given_up = str(line["milliseconds"].count(None))
    return [_name(line["timeouts"]), str(len(values)), *shares, published["median"], published["max"], given_up]


def _finite(value: float) -> Any:
    return value if value != float("inf") else "-"


def draw(lines: List[Dict[str, Any]], path: Path) -> None:
    """The cumulative distributions, like the figure of the paper, whose own medians and maxima are marked."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    rows = list(itertools.product(PLACES, FAMILIES))
    size = (4.2 * len(VARIANTS), 3.5 * len(rows))
    figure, plots = pyplot.subplots(len(rows), len(VARIANTS), figsize=size, squeeze=False)
    for row, (place, family) in enumerate(rows):
        for column, variant in enumerate(VARIANTS):
            axes = plots[row][column]
            for color, timeouts in enumerate(FAMILIES[family]):
                wanted = [place, variant, list(timeouts)]
                line = next(e for e in lines if [e["place"], e["variant"], e["timeouts"]] == wanted)
                _draw_line(axes, line, f"C{color}")
            title = f"{place}, {variant}:\n{family}"
            axes.set(xscale="log", xlim=(1, 1e6), ylim=(0, 1.02), title=title, xlabel="ms without a leader")
            axes.legend(fontsize="x-small", loc="lower right")
            axes.grid(alpha=0.3)
        plots[row][0].set_ylabel("share of the trials")
    figure.suptitle("○ the paper's median, △ its maximum")
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


def _draw_line(axes: Any, line: Dict[str, Any], color: str) -> None:
    ended = sorted(each for each in line["milliseconds"] if each is not None)
    count = len(line["milliseconds"])
    shares = [(number + 1) / count for number in range(len(ended))]
    axes.step(ended, shares, where="post", color=color, label=_name(line["timeouts"]))
    published = published_for(line)
    axes.plot(published["median"], 0.5, "o", mfc="none", color=color)
    axes.plot(published["max"], 1.0, "^", mfc="none", color=color)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--trials", type=int, default=1000, help="of each line (default: 1000)")
    parser.add_argument("--svg", type=Path, help="draw the distributions into this file, with matplotlib")
    parser.add_argument("--json", action="store_true", help="print every trial as JSON")
    options = parser.parse_args()
    lines = measure(options.trials)
    if options.svg:
        draw(lines, options.svg)
    print(json.dumps(lines) if options.json else "\n".join(describe(lines)))


if __name__ == "__main__":
    main()
