"""Two recordings side by side, by what people tell apart: who was what, in which term, in which order."""

from __future__ import annotations

import difflib
from typing import Dict, List, NamedTuple, Optional, Tuple

from raftlite.lab.trace import Trace

MOST_CHANGES = 3_000  # of a recording: beyond it only the part up to the first difference is compared
SIDES = {"both": " ", "first": "-", "second": "+"}


class Change(NamedTuple):
    """A member becomes something, in both recordings or in one of them."""

    side: str  # "both", "first" or "second"
    node: str
    became: str
    first_t: Optional[float]  # seconds; None where it is in the other only
    second_t: Optional[float]

    def line(self) -> str:
        times = " ".join(f"{t:>10.3f}" if t is not None else " " * 10 for t in (self.first_t, self.second_t))
        return f"{SIDES[self.side]} {times}  {self.node} {self.became}"


Step = Tuple[str, str]  # a member and what it becomes


def compare(first: Trace, second: Trace) -> List[Change]:
    """The changes of role and term of both, in order; when they happened does not count."""
    ones, others = changes(first), changes(second)
    if max(len(ones), len(others)) > MOST_CHANGES:
        ones, others = _up_to_difference(ones, others)
    matcher = difflib.SequenceMatcher(None, [step for step, _ in ones], [step for step, _ in others], autojunk=False)
    found: List[Change] = []
    for what, i1, i2, j1, j2 in matcher.get_opcodes():
        if what == "equal":
            found += [Change("both", *step, t, other) for (step, t), (_, other) in zip(ones[i1:i2], others[j1:j2])]
        else:
            found += [Change("first", *step, t, None) for step, t in ones[i1:i2]]
            found += [Change("second", *step, None, t) for step, t in others[j1:j2]]
    return found


def changes(trace: Trace) -> List[Tuple[Step, float]]:
    """What each member became, and when."""
    found: List[Tuple[Step, float]] = []
    last: Dict[str, str] = {}
    for record in trace.records:
        if record["k"] == "state":
            became = f"{record['role']}, term {record['term']}"
        elif record["k"] in ("stop", "pause", "resume"):
            became = {"stop": "stopped", "pause": "paused", "resume": "goes on"}[record["k"]]
        else:
            continue
        if last.get(record["n"]) != became:
            last[record["n"]] = became
            found.append(((record["n"], became), record["t"]))
    return found


def _up_to_difference(
    ones: List[Tuple[Step, float]], others: List[Tuple[Step, float]]
) -> Tuple[List[Tuple[Step, float]], List[Tuple[Step, float]]]:
    shorter = min(len(ones), len(others))
    at = next((at for at in range(shorter) if ones[at][0] != others[at][0]), shorter)
    return ones[: at + 1], others[: at + 1]
