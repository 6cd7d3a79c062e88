"""What must have been seen when a scene is over: asserted on the trace alone, in the tests and in front of the class.

A contract is a list of checks. Each has a name, whose words are in the text of its scene, and a function that looks at
the evidence and says whether it holds, with a reason. What a check looks for may be missing: then it fails.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Callable, Dict, List, Tuple

from raftlite.lab.scenes.evidence import NEVER, Evidence, NotSeen, Reign
from raftlite.lab.trace import Trace

SLACK = 0.05  # of a second of the cluster: clocks of threads are read one after the other


@dataclass(frozen=True)
class Finding:
    """Whether a check holds; `why` is the key of a sentence, `values` are what it mentions."""

    name: str
    ok: bool
    why: str = ""
    values: Dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Verdict:
    ok: bool
    why: str
    values: Dict[str, Any]


Look = Callable[[Evidence], Verdict]


class Contract:
    """Checks, each a name and how to look. Called with a trace, it says what it finds."""

    def __init__(self, *checks: Tuple[str, Look]) -> None:
        self._checks = checks

    @property
    def names(self) -> List[str]:
        return [name for name, _ in self._checks]

    def __call__(self, trace: Trace) -> List[Finding]:
        evidence = Evidence(trace)
        return [_find(name, look, evidence) for name, look in self._checks]


def _find(name: str, look: Look, evidence: Evidence) -> Finding:
    try:
        verdict = look(evidence)
    except NotSeen:
        verdict = fails("never-happened")
    return Finding(name, verdict.ok, verdict.why, verdict.values)


def holds(why: str = "", **values: Any) -> Verdict:
    return Verdict(True, why, values)


def fails(why: str, **values: Any) -> Verdict:
    return Verdict(False, why, values)


def judged(ok: bool, why: str, **values: Any) -> Verdict:
    """The same sentence, whether it holds or not."""
    return Verdict(ok, why, values)


def holds_if(ok: bool, why: str, **values: Any) -> Verdict:
    """The sentence is said only where it does not hold."""
    return holds() if ok else fails(why, **values)


def leads(reign: Reign, why: str = "led") -> Verdict:
    return fails(why, node=reign.leader, term=reign.term)


# --- What several scenes have in common -------------------------------------------------------------------------------


def one_leader_per_term(e: Evidence) -> Verdict:
    """Figure 3 of the paper: at most one leader can be elected in a given term."""
    return one_leader_each(e.reigns)


def one_leader_each(reigns: List[Reign]) -> Verdict:
    leaders: Dict[int, List[str]] = {}
    for reign in reigns:
        if reign.leader not in leaders.setdefault(reign.term, []):
            leaders[reign.term].append(reign.leader)
    for term, names in sorted(leaders.items()):
        if len(names) > 1:
            return fails("two-leaders", term=term, nodes=", ".join(names))
    return holds()


ONE_LEADER = ("one-leader-per-term", one_leader_per_term)


def everybody_follows(e: Evidence, i: int) -> Verdict:
    strays = e.strays(i)
    return holds_if(not strays, "not-following", nodes=", ".join(strays), leader=e.reign_at(i).leader)


def all_follow(e: Evidence) -> Verdict:
    return everybody_follows(e, e.last)


def follows_at_last(e: Evidence, old: str) -> Verdict:
    """Whether `old` follows somebody else in the end."""
    reign = e.reign_at(e.last)
    is_fine = reign.leader != old and e.is_up(old, e.last) and old not in e.strays(e.last)
    return holds_if(is_fine, "not-following", nodes=old, leader=reign.leader)


def was_elected(e: Evidence, after: int, before: int = NEVER, term_above: int = -1) -> Verdict:
    reign = e.next_reign(after, before)
    return judged(reign.term > term_above, "led", node=reign.leader, term=reign.term)


def in_seconds(value: float) -> str:
    return f"{value:.1f}"
