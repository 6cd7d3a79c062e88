"""The paper's experiment with real processes: `python -m benchmarks.paper_processes [--kills 30] [--json]`.

Five members of raftlite in network namespaces of their own, between which a packet travels for 5 to 10 ms, so that a
message and its answer take the paper's 15. The leader is killed at any moment between two of its heartbeats, which are
half the shortest timeout apart; measured is until `on_elected` runs at the next one. Without proof of death the members
only hear that the leader is silent, as where a machine loses its power. Timeouts are those that `Timing` can express,
and long enough for a lease to outlive a round trip.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from contextlib import ExitStack
from typing import Any, Callable, Dict, List, Tuple

from chaos import namespaces
from chaos.links import Weather

from .figures import SHARES, describe_machine, has_share, machine, summary, table
from .paper import published_for
from .peers.cluster import Cluster
from .peers.compare import reason
from .peers.systems import CUT, KILL, SYSTEMS

WEATHER = Weather(delay=0.0075, jitter=0.0025)
TURN = 10  # kills of one cluster
TIMEOUTS: Tuple[Tuple[int, int], ...] = ((50, 100), (100, 200), (150, 300))
COLUMNS = {**SHARES, "max": 0.0}
VARIANTS = {"process killed": True, "no proof": False}  # whether `Timing.trust_refused` is set


def measure(kills: int, say: Callable[[str], None]) -> Dict[str, Any]:
    """Everything in seconds, a turn of each kind after the other."""
    why_not = namespaces.why_not()
    if why_not:
        return {"machine": machine(), "left_out": f"no namespaces for the network: {why_not}", "lines": []}
    lines: List[Dict[str, Any]] = [
        {"variant": variant, "timeouts": list(timeouts), "seconds": [], "stuck": []}
        for variant in VARIANTS
        for timeouts in TIMEOUTS
    ]
    for turn in range(-(-kills // TURN)):
        for line in lines:
            say(f"the paper's experiment with processes, turn {turn + 1}: {line['variant']}, {line['timeouts']} ms")
            take_turn(line, min(TURN, kills - turn * TURN))
    return {"machine": machine(), "left_out": "", "lines": lines}


def take_turn(line: Dict[str, Any], kills: int) -> None:
    shortest = line["timeouts"][0] / 1e3
    settings = {
        "election_timeout": shortest,
        "heartbeat_interval": shortest / 2,
        "trust_refused": VARIANTS[line["variant"]],
    }
    with ExitStack() as stack:
        try:
            cluster = Cluster(SYSTEMS["raftlite"], 5, json.dumps(settings), stack, CUT)
            for _ in range(kills):
                cluster.set_weather(WEATHER)
                time.sleep(random.random() * shortest)  # anywhere between two heartbeats
                line["seconds"].append(cluster.seconds_without_leader(KILL))
        except Exception as error:  # whatever it is: it must not cost the hours before it
            line["stuck"].append(reason(error))


def describe(result: Dict[str, Any]) -> List[str]:
    title = "**Figure 16 of the paper, five real processes**, 5 to 10 ms for each packet: ms to the next `on_elected`"
    if result["left_out"]:
        return ["", f"{title}: {result['left_out']}"]
    header = ("timeouts", "rules", "n", "median", "p90", "p99", "max", "paper's median", "paper's max", "")
    return ["", title, "", *table(header, map(_row, result["lines"])), "", describe_machine(result["machine"])]


def _row(line: Dict[str, Any]) -> List[Any]:
    published = published_for(line)
    name = "-".join(map(str, line["timeouts"])) + " ms"
    remark = f"{len(line['stuck'])} times: {line['stuck'][0]}" if line["stuck"] else ""
    figures = summary(each * 1e3 for each in line["seconds"]) if line["seconds"] else {}
    count = len(line["seconds"])
    shown = [figures.get(column, "-") if has_share(count, share) else "-" for column, share in COLUMNS.items()]
    return [name, f"raftlite, {line['variant']}", str(count), *shown, published["median"], published["max"], remark]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=30, help="of each line (default: 30)")
    parser.add_argument("--json", action="store_true", help="print everything measured as one JSON object")
    options = parser.parse_args()
    result = measure(options.kills, lambda text: print(text, file=sys.stderr, flush=True))
    print(json.dumps(result) if options.json else "\n".join(describe(result)))


if __name__ == "__main__":
    main()
