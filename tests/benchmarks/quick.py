"""`make bench-quick`: has anything become slower since the last result that was committed?

Two machines, or one on two days, agree on no absolute time. So everything is divided by something that was measured by
turns with it and that raftlite has no part in: a takeover by that of the floor, the processor's time by that of a loop.
A ratio has moved if the ranges in which nine of ten such measurements would lie, then and now, do not touch, and if it
differs by more than it does from one day to the next.
"""

from __future__ import annotations

import heapq
import json
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Callable, Dict, List, Sequence, Tuple

from . import idle, scale
from .figures import describe_machine, machine, movement, ratio_with_noise, table
from .peers.cluster import Cluster
from .peers.systems import FAST, FLOOR, HANDOVER, HEAVY_FLOOR, KILL, SILENCE, SYSTEMS

LAST = Path(__file__).resolve().parent / "last.json"
TURNS = 5
FAULTS = 5  # of each kind in a turn
LOOPS = 40_000

Measured = Dict[str, List[float]]

# What is divided by what.
RATIOS: Dict[str, Tuple[str, str]] = {
    "takeover after kill -9, to the floor's": (KILL, "the floor's takeover"),
    "handover on stop(), to the floor's": (HANDOVER, "the floor's handover"),
    "takeover from a silent leader, to the election timeout": (SILENCE, "election timeout"),
    "cold start, to the floor's": ("cold start", "the floor's cold start"),
    "import of raftlite, to the start of Python": ("import", "interpreter"),
    "20,000 steps of the rules, to a loop": ("steps", "loop"),
    "20 virtual seconds of the simulation, to a loop": ("simulation", "loop"),
    "5,000 explored states, to a loop": ("states", "loop"),
    "101 members elect on a virtual clock, to a loop": ("members", "loop"),
}

FAULTY = (
    (HEAVY_FLOOR, KILL, "the floor's takeover"),
    ("raftlite", KILL, KILL),
    (FLOOR, HANDOVER, "the floor's handover"),
    ("raftlite", HANDOVER, HANDOVER),
    ("raftlite", SILENCE, SILENCE),
)


def measure(say: Callable[[str], None]) -> Measured:
    """Every turn measures everything, in seconds, so that a disturbance hits both sides of a ratio."""
    measured: Measured = {name: [] for pair in RATIOS.values() for name in pair}
    measured["election timeout"] = [SYSTEMS["raftlite"].timeouts[FAST]]
    for turn in range(TURNS):
        say(f"turn {turn + 1} of {TURNS}")
        for name, work in WORK.items():
            measured[name] += [_processor_time(work) for _ in range(2)]
        for name, source in (("interpreter", "pass"), ("import", "import raftlite; raftlite.Member")):
            measured[name] += [_run(source) for _ in range(3)]
        for system, fault, name in FAULTY:
            with ExitStack() as stack:
                cluster = Cluster(SYSTEMS[system], 3, FAST, stack)
                start = "cold start" if system == "raftlite" else "the floor's cold start"
                measured[start].append(cluster.cold_start)
                measured[name] += [cluster.seconds_without_leader(fault) for _ in range(FAULTS)]
    return measured


class _Thing:
    def __init__(self, at: int, name: str) -> None:
        self.at, self.name = at, name

    def comes_before(self, other: _Thing) -> bool:
        return self.at < other.at


def _loop() -> None:
    """Objects, a heap, sets and dictionaries, as the rules have: what slows those on a busy machine slows this too."""
    waiting: List[Tuple[int, int, _Thing]] = []
    known: Dict[str, _Thing] = {}
    for number in range(LOOPS):
        thing = _Thing(number * 7919 % 1000, f"n{number % 101}")
        heapq.heappush(waiting, (thing.at, number, thing))
        if len(waiting) > 100:
            _, _, first = heapq.heappop(waiting)
            before = known.get(first.name)
            if before is None or before.comes_before(first):
                known[first.name] = first
            sorted({first.name, thing.name})


def _members_elect() -> None:
    cluster = scale.VirtualCluster(101, seed=1)
    cluster.run_until(lambda: False, 2.0)


WORK: Dict[str, Callable[[], None]] = {
    "loop": _loop,
    "steps": lambda: scale._heartbeats(20_000),
    "simulation": lambda: scale._simulated(20),
    "states": lambda: scale._explored(5_000),
    "members": _members_elect,
}


def _processor_time(work: Callable[[], None]) -> float:
    began_at = time.process_time()
    work()
    return time.process_time() - began_at


def _run(source: str) -> float:
    began_at = time.monotonic()
    subprocess.run([sys.executable, "-c", source], env=idle.environment(), check=True)  # which keeps what it compiles
    return time.monotonic() - began_at


# --- Comparing -------------------------------------------------------------------------------------------------------


def ratios(measured: Measured) -> Dict[str, Sequence[float]]:
    """Each ratio, and the range of its noise."""
    return {name: ratio_with_noise(measured[above], measured[below]) for name, (above, below) in RATIOS.items()}


def compare(before: Dict[str, Sequence[float]], after: Dict[str, Sequence[float]]) -> Tuple[List[str], int]:
    """A table, and how many ratios have risen by more than their noise: those are slower."""
    rows, slower = [], 0
    for name, now in after.items():
        then = before.get(name)
        moved = "new" if then is None else movement(then, now)
        slower += bool(moved and moved.startswith("rose"))
        rows.append([name, _range(then) if then else "-", _range(now), moved or "as before"])
    return table(("", "last", "now", ""), rows), slower


def _range(ratio: Sequence[float]) -> str:
    return "{:.3g} ({:.3g} to {:.3g})".format(*ratio)


def main(keep: bool) -> int:
    """Print the comparison; return 1 if something has become slower. With `keep` the result is the last one now."""
    facts: Dict[str, Any] = machine()
    found = ratios(measure(lambda text: print(text, file=sys.stderr, flush=True)))
    last = json.loads(LAST.read_text(encoding="utf-8")) if LAST.exists() else {"ratios": {}}
    lines, slower = compare(last["ratios"], found)
    print("\n".join(lines))
    if last["ratios"]:
        print(f"\nlast: {describe_machine(last['machine'])}")
    print(f"now: {describe_machine(facts)}")
    print(f"{slower} of {len(found)} rose by more than their noise" if last["ratios"] else "there was no last result")
    if keep:
        LAST.write_text(json.dumps({"machine": facts, "ratios": found}, indent=1) + "\n", encoding="utf-8")
    return 1 if slower else 0
