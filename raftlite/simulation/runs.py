"""Many seeds, on every core: what `raftlite simulate` runs, counts and prints."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from dataclasses import asdict, dataclass
from typing import Any, Callable, Dict, Iterable, Iterator, List, Optional, Tuple

from raftlite.simulation.faults import Faults
from raftlite.simulation.invariants import Violation
from raftlite.simulation.network import Network
from raftlite.simulation.simulation import Coverage, Simulation
from raftlite.timing import Timing

LINES_AROUND = 60  # of the trace, before a violation
SETTINGS: Dict[str, Dict[str, Any]] = {
    "faults": {},
    "rough network": {"network": Network.rough()},
    "churn": {"faults": Faults.churn()},
    "churn on a rough network": {"faults": Faults.churn(), "network": Network.rough()},
    "churn at fast timing": {"faults": Faults.churn(), "timing": Timing.fast()},
    "churn with mixed timings": {
        "faults": Faults.churn(),
        "network": Network.rough(),
        "timing": (Timing(), Timing(0.15, 1.5), Timing(0.05, 0.6)),  # as while new settings are rolled out
    },
    "one change after the other": {
        "faults": Faults(every=0.3, lasting=0.5, add=9.0, add_observer=3.0, remove=9.0, transfer=3.0),
        "network": Network(delay=(0.0005, 0.020), reordering=0.2, late=0.5),
        "timing": Timing.fast(),
    },
}


def setting_of(seed: int) -> str:
    """Seeds go through the settings in turn."""
    return list(SETTINGS)[seed % len(SETTINGS)]


def simulation_of(seed: int, nodes: int, keep_trace: bool = False) -> Simulation:
    """The simulation of one seed."""
    return Simulation(nodes, seed, keep_trace=keep_trace, **SETTINGS[setting_of(seed)])


@dataclass(frozen=True)
class Outcome:
    """What came of one seed; `violation` is empty where every invariant held."""

    seed: int
    coverage: Coverage
    violation: str = ""


def run_seed(arguments: Tuple[int, int, float]) -> Outcome:
    """Run one (seed, nodes, seconds)."""
    seed, nodes, seconds = arguments
    simulation = simulation_of(seed, nodes)
    try:
        return Outcome(seed, simulation.run(seconds))
    except Violation as violation:
        return Outcome(seed, simulation.coverage, str(violation))


def run_seeds(seeds: Iterable[int], nodes: int, seconds: float, jobs: int) -> Iterator[Outcome]:
    """Run `seeds` on `jobs` processes, in no particular order."""
    work = ((seed, nodes, seconds) for seed in seeds)
    if jobs == 1:
        yield from map(run_seed, work)
        return
    with multiprocessing.get_context().Pool(jobs, _ignore_interrupts) as pool:
        yield from pool.imap_unordered(run_seed, work, chunksize=4)


def _ignore_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends the pool


def simulate(
    count: int, nodes: int, seconds: float, jobs: Optional[int], show: Callable[[str], None]
) -> Dict[str, Any]:
    """Run the seeds 0 to `count` - 1, show progress, and return what was covered and which seeds failed."""
    jobs = jobs or os.cpu_count() or 1
    total, failures = Coverage(), {}
    started_at = time.monotonic()
    for number, outcome in enumerate(run_seeds(range(count), nodes, seconds, jobs), start=1):
        total.add(outcome.coverage)
        if outcome.violation:
            failures[outcome.seed] = outcome.violation
        show(_progress(number, count, time.monotonic() - started_at))
    took = time.monotonic() - started_at
    covered = {**asdict(total), "faults": dict(sorted(total.faults.items()))}
    return {"seeds": count, "nodes": nodes, "took": took, "jobs": jobs, "covered": covered, "failures": failures}


def _progress(done: int, count: int, seconds: float) -> str:
    filled = 30 * done // count
    left = seconds / done * (count - done)
    return f"[{'#' * filled}{'.' * (30 - filled)}] {done} of {count} seeds, {left:.0f} s left"


def describe(result: Dict[str, Any]) -> List[str]:
    """The result of `simulate` in words."""
    covered = result["covered"]
    lines = [
        f"{result['seeds']} seeds with {result['nodes']} members: {covered['seconds'] / 3600:.1f} virtual hours "
        f"in {result['took']:.0f} s on {result['jobs']} processes",
        f"  {covered['steps']} steps, {covered['messages']} messages",
        f"  {covered['elections']} elections, {covered['leaders']} leaders, {covered['grants']} grants of leadership, "
        f"{covered['memberships']} changes of the membership committed",
        "  faults: " + ", ".join(f"{number} {kind.replace('_', ' ')}" for kind, number in covered["faults"].items()),
    ]
    if not result["failures"]:
        return [*lines, "every invariant held after every step"]
    lines.append(f"{len(result['failures'])} seeds FAILED")
    for seed, violation in sorted(result["failures"].items()):
        lines.append(f"  {violation.splitlines()[0]}")
        lines.append(f"    see it again:  raftlite simulate --seed {seed} --nodes {result['nodes']}")
    return lines


def replay(seed: int, nodes: int, seconds: float, show: Callable[[str], None], whole: bool = False) -> int:
    """Run one seed with its trace; show its end, or the whole of it; return 1 if an invariant does not hold."""
    simulation = simulation_of(seed, nodes, keep_trace=True)
    violation = ""
    try:
        simulation.run(seconds)
    except Violation as found:
        violation = str(found)
    for line in simulation.trace if whole or not violation else simulation.trace[-LINES_AROUND:]:
        if whole or violation:
            show(line)
    show(violation or f"seed {seed} ({setting_of(seed)}): every invariant held after every step")
    return 1 if violation else 0


class ProgressLine:
    """One line that is written over and over, on a terminal only."""

    def __init__(self) -> None:
        self._shown_at = 0.0

    def show(self, text: str) -> None:
        """Show `text`, at most ten times a second."""
        now = time.monotonic()
        if sys.stderr.isatty() and now - self._shown_at > 0.1:
            self._shown_at = now
            print(f"\r{text}\033[K", end="", file=sys.stderr, flush=True)

    def clear(self) -> None:
        """Remove the line."""
        if self._shown_at:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
