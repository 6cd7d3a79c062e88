"""One run: a cluster, one fault after the other, what came of each, and what the checker says of all of it."""

from __future__ import annotations

import contextlib
import random
import statistics
import time
from dataclasses import dataclass
from typing import Any, Callable, Dict, Iterable, List, Optional, Sequence, Tuple

from raftlite import Timing
from raftlite.clock import boot_clock
from raftlite.nodes.connection import LONGEST_PAUSE

from .checker import Heal, violations
from .cluster import ENDS_WITHIN, Cluster
from .faults import FAULTS, Scene, schedule
from .links import Network

GIVEN_UP_AFTER = 4.0  # seconds for which TCP tries to send what nobody acknowledges; where the system lets us say so
BUSY_MACHINE = 2.0  # seconds that Python takes to start and to be scheduled, on two cores with other work


@dataclass
class Outcome:
    """What came of one fault."""

    fault: str
    what: str
    at: float  # seconds since the start of the run
    lasted: float
    led_before: Optional[str]
    led_during: Optional[str]
    leader: Optional[str]
    leader_after: Optional[float]  # seconds after the heal
    agreed_after: Optional[float]  # seconds after which all knew it
    leader_changes: int
    violations: List[str]


def bound_after(lasted: float, timing: Timing, network: Network) -> float:
    """Within how many seconds after a fault that `lasted` so long somebody leads again.

    An attempt to connect may just have begun to fail, and is tried again after a pause. A silence is borne for up to
    two election timeouts, a restarted member refuses its vote for one, and two or three elections may end without a
    winner, each for up to two. TCP sends again what was lost after as long a silence as there was already, until it is
    given up for a new connection.
    """
    connecting = timing.message_timeout + LONGEST_PAUSE
    backing_off = min(lasted, GIVEN_UP_AFTER) if network.keeps_backing_off else 0.0
    return connecting + 9 * timing.election_timeout + BUSY_MACHINE + backing_off


class Run:
    """`outcomes` and `violations` grow while it runs, and hold after an interruption too."""

    def __init__(
        self,
        cluster: Cluster,
        seed: int,
        tell: Callable[[Outcome], Any] = lambda outcome: None,
        bound: Optional[float] = None,  # seconds, instead of those that follow from the timing
    ) -> None:
        self.cluster = cluster
        self._given_bound = bound
        self.outcomes: List[Outcome] = []
        self.heals: List[Heal] = []
        self._rng = random.Random(seed)
        self._tell = tell
        self._started_at = time.monotonic()

    def wait_for_first_leader(self) -> Optional[str]:
        return self.cluster.wait(self.cluster.agreed_leader, ENDS_WITHIN)

    def run(self, names: Sequence[str], seconds: float, limit: Optional[int] = None) -> None:
        """One fault after the other, for so many seconds, or so many faults."""
        end_at = time.monotonic() + seconds
        for number, name in enumerate(schedule(names, self._rng)):
            if time.monotonic() >= end_at or number == limit:
                return
            self._inflict(name)

    def violations(self) -> List[str]:
        """Everything that was wrong. The processes should have ended, so that all that they said is here."""
        return violations(self.cluster.spans(), self.cluster.heard(), self.heals) + self.cluster.troubles

    def _inflict(self, name: str) -> None:
        cluster = self.cluster
        began_at, clock, led_before = time.monotonic(), boot_clock(), cluster.leader()
        grants, troubles = len(cluster.spans()), len(cluster.troubles)
        seconds = self._rng.uniform(2.0, 8.0) * cluster.timing.election_timeout
        with contextlib.closing(FAULTS[name](Scene(cluster, self._rng, seconds))) as happening:
            what = next(happening)
            time.sleep(max(0.0, began_at + seconds - time.monotonic()))
            led_during = cluster.leader()
            cluster.note_those_that_ended()
        lasted = time.monotonic() - began_at
        heal, agreed_after = self._heal(name, lasted)
        recent = [span for span in cluster.spans() if span.last >= clock]
        outcome = Outcome(
            fault=name,
            what=what,
            at=began_at - self._started_at,
            lasted=lasted,
            led_before=led_before,
            led_during=led_during,
            leader=cluster.leader(),
            leader_after=heal.leader_after,
            agreed_after=agreed_after,
            leader_changes=len(cluster.spans()) - grants,
            violations=violations(recent, [], [heal]) + cluster.troubles[troubles:],
        )
        self.outcomes.append(outcome)
        self._tell(outcome)

    def _heal(self, name: str, lasted: float) -> Tuple[Heal, Optional[float]]:
        """Undo every fault, and wait until somebody leads and until all agree on it."""
        cluster = self.cluster
        bound = self._given_bound or bound_after(lasted, cluster.timing, cluster.network)
        cluster.network.heal()
        cluster.restore()
        healed_at = boot_clock()
        leader_after = cluster.wait(lambda: cluster.first_true_after(healed_at), 2 * bound)
        agreed = cluster.wait(cluster.agreed_leader, 2 * bound)
        agreed_after = None if agreed is None else boot_clock() - healed_at
        if leader_after is not None and (agreed_after is None or agreed_after > 2 * bound):
            known = {node_id: life.looks.leader for node_id, life in cluster.lives.items()}
            cluster.troubles.append(f"not all knew the leader {2 * bound:.1f} s after {name} was over, but {known}")
        heal = Heal(name, healed_at, leader_after, bound)
        self.heals.append(heal)
        return heal, agreed_after


# --- The output -------------------------------------------------------------------------------------------------------


def progress(outcome: Outcome) -> str:
    """A line for one fault."""
    recovery = (
        f"{outcome.leader} leads {_ms(outcome.leader_after)} after the heal, all know it {_ms(outcome.agreed_after)}"
    )
    led = f"{outcome.led_before or 'nobody'} led, then {outcome.led_during or 'nobody'}"
    lines = [f"{outcome.at:7.1f} s  {outcome.fault}: {outcome.what}; {outcome.lasted:.1f} s; {led}; {recovery}"]
    return "\n".join(lines + [f"           VIOLATION: {violation}" for violation in outcome.violations])


def summary(outcomes: Iterable[Outcome]) -> List[Dict[str, Any]]:
    """A row for each fault that happened."""
    by_fault: Dict[str, List[Outcome]] = {}
    for outcome in outcomes:
        by_fault.setdefault(outcome.fault, []).append(outcome)
    return [_row(fault, by_fault[fault]) for fault in sorted(by_fault)]


def table(rows: Sequence[Dict[str, Any]]) -> str:
    """The summary, for people."""
    width = max([len(row["fault"]) for row in rows] + [5])
    lines = [f"{'fault':{width}}  times  leader changes  leader after heal: median     max  violations"]
    for row in rows:
        median, worst = _ms(row["median"]), _ms(row["max"])
        lines.append(
            f"{row['fault']:{width}}  {row['times']:5}  {row['leader_changes']:14}  "
            f"{median:>25}  {worst:>6}  {row['violations']:10}"
        )
    return "\n".join(lines)


def _row(fault: str, outcomes: Sequence[Outcome]) -> Dict[str, Any]:
    known = [outcome.leader_after for outcome in outcomes if outcome.leader_after is not None]
    return {
        "fault": fault,
        "times": len(outcomes),
        "leader_changes": sum(outcome.leader_changes for outcome in outcomes),
        "median": statistics.median(known) if known else None,
        "max": max(known) if len(known) == len(outcomes) else None,
        "violations": sum(len(outcome.violations) for outcome in outcomes),
    }


def _ms(seconds: Optional[float]) -> str:
    return "never" if seconds is None else f"{1000 * seconds:.0f} ms"
