"""What contracts ask of a trace: who led when and in which term, what was done, what a member was at a given record.

Everything is read off the records; nothing here knows the rules of Raft.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple, TypeVar

from raftlite.lab.trace import Record, Trace

NEVER = 2**53
T = TypeVar("T")
Span = Tuple[int, int]  # numbers of records: after the first and before the last


class NotSeen(Exception):
    """The trace does not show what a contract asks about."""


@dataclass(frozen=True)
class Reign:
    """From when to when somebody said that it led; record numbers, and times on the cluster's clock."""

    leader: str
    term: int
    began: int
    t_began: float
    ended: int = NEVER
    t_ended: float = float("inf")

    def lasts(self, first: int, last: int) -> bool:
        """Whether it had begun before the one record, and had not ended before the other."""
        return self.began <= first and self.ended > last

    def overlaps(self, other: Reign) -> bool:
        return self.began < other.ended and other.began < self.ended


class Evidence:
    """A trace, prepared for questions."""

    def __init__(self, trace: Trace) -> None:
        config = trace.header["config"]
        self.shortest, self.longest = config["election"]
        self.records, self.last = trace.records, trace.last
        self.nodes = list(trace.header["nodes"])
        self.majority = len(self.nodes) // 2 + 1
        self._lives: Dict[str, List[Record]] = {n: [] for n in self.nodes}  # `state` and `stop` of each
        self._numbers: Dict[str, List[int]] = {n: [] for n in self.nodes}
        self._faults: Dict[str, List[Record]] = {}
        self._stops: List[int] = []
        self.reigns: List[Reign] = []
        for record in trace.records:
            self._sort_in(record)
        self._find_reigns()

    def _sort_in(self, record: Record) -> None:
        kind = record["k"]
        if kind in ("state", "stop"):
            self._lives[record["n"]].append(record)
            self._numbers[record["n"]].append(record["i"])
        elif kind == "fault":
            self._faults.setdefault(record["op"], []).append(record)
        elif kind == "note" and record.get("kind") == "narration":
            self._stops.append(record["i"])

    def _find_reigns(self) -> None:
        for n in self.nodes:
            reign: Optional[Reign] = None
            for record in self._lives[n]:
                leads = record["k"] == "state" and record["role"] == "leader"
                if reign and not (leads and record["term"] == reign.term):
                    self.reigns.append(_ended(reign, record))
                    reign = None
                if leads and reign is None:
                    reign = Reign(n, record["term"], record["i"], record["t"])
            if reign:
                self.reigns.append(reign)
        self.reigns.sort(key=lambda each: each.began)

    # --- What was done ----------------------------------------------------------------------------

    def faults(self, op: str, after: int = 0, before: int = NEVER) -> List[Record]:
        return [record for record in self._faults.get(op, []) if after < record["i"] < before]

    def fault(self, op: str, which: int = 0, after: int = 0) -> Record:
        """One of these faults. Raises `NotSeen`, as all do that look for one thing."""
        return _pick(self.faults(op, after), which)

    def stop(self, which: int) -> Span:
        """From the narration of a stop to that of the next."""
        begins = _pick(self._stops, which)
        return begins, self._stops[which + 1] if which + 1 < len(self._stops) else NEVER

    def of_kind(self, kind: str, after: int = 0, before: int = NEVER, **fields: Any) -> Iterator[Record]:
        """The records between two that have these fields."""
        for record in self.records[after : min(before - 1, self.last)]:
            if record["k"] == kind and all(record.get(name) == value for name, value in fields.items()):
                yield record

    # --- Who led ----------------------------------------------------------------------------------

    def reign_at(self, i: int) -> Reign:
        """The reign that counts at a record: the one of the highest term."""
        found = [reign for reign in self.reigns if reign.lasts(i, i)]
        if not found:
            raise NotSeen
        return max(found, key=lambda reign: reign.term)

    def reigns_begun(self, after: int, before: int = NEVER) -> List[Reign]:
        return [reign for reign in self.reigns if after < reign.began < before]

    def next_reign(self, after: int, before: int = NEVER) -> Reign:
        return _pick(self.reigns_begun(after, before), 0)

    def elected_at(self, reign: Reign) -> float:
        """When the program of the leader heard of it: its lease had begun."""
        events = self.of_kind("event", reign.began - 1, reign.ended, event="elected", n=reign.leader)
        return float(_pick(list(events), 0)["t"])

    # --- What members were ------------------------------------------------------------------------

    def life_at(self, n: str, i: int) -> Record:
        """The last `state` or `stop` record of a member up to number `i`."""
        return _pick(self._lives[n][: bisect_right(self._numbers[n], i)], -1)

    def term_at(self, n: str, i: int) -> int:
        lives = self._lives[n][: bisect_right(self._numbers[n], i)]
        return int(_pick([life["term"] for life in lives if life["k"] == "state"], -1))

    def is_up(self, n: str, i: int) -> bool:
        return bool(self.life_at(n, i)["k"] == "state")

    def states(self, n: Optional[str] = None, after: int = 0, before: int = NEVER) -> List[Record]:
        """The `state` records between two, of one member or of all."""
        lives = [record for each in ([n] if n else self.nodes) for record in self._lives[each]]
        return [record for record in lives if record["k"] == "state" and after < record["i"] < before]

    def strays(self, i: int, members: Optional[Sequence[str]] = None) -> List[str]:
        """Those of `members` that run and do not follow the leader in its term at record `i`."""
        reign = self.reign_at(i)
        lives = {n: self.life_at(n, i) for n in members or self.nodes}
        return [n for n, life in lives.items() if life["k"] == "state" and not _follows(life, reign)]

    def candidacies(self, after: int, before: int = NEVER) -> Dict[int, Dict[str, int]]:
        """Term -> candidate -> the most votes that it had."""
        found: Dict[int, Dict[str, int]] = {}
        for state in self.states(None, after, before):
            if state["role"] in ("candidate", "leader"):
                votes = found.setdefault(state["term"], {})
                votes[state["n"]] = max(votes.get(state["n"], 0), len(state["votes"]))
        return found


def _ended(reign: Reign, record: Record) -> Reign:
    return Reign(reign.leader, reign.term, reign.began, reign.t_began, record["i"], record["t"])


def _follows(life: Record, reign: Reign) -> bool:
    return bool(life["leader"] == reign.leader and life["term"] == reign.term)


def _pick(found: Sequence[T], which: int) -> T:
    if not -len(found) <= which < len(found):
        raise NotSeen
    return found[which]
