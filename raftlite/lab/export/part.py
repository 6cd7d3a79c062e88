"""Which records an export shows, and what the cluster was like before them."""

from __future__ import annotations

from typing import Dict, List, NamedTuple, Optional, Set, Tuple

from raftlite.lab.trace import Record, Trace, View, fold

BEATS = ("heartbeat", "heartbeat_resp")
_SEEN = ("role", "term", "vote", "leader")  # of a state, what people tell apart

_ACTING = ("candidate", "leader")


class Journey(NamedTuple):
    """A message from its sending to its end, which is a `recv`, a `lost` or, while it is in flight, None."""

    send: Optional[Record]  # None where the trace has lost it
    end: Optional[Record]


class Part:
    """The records of `trace` from `start` to `stop`, or those of a term, with or without heartbeats."""

    def __init__(
        self,
        trace: Trace,
        start: Optional[int] = None,
        stop: Optional[int] = None,
        heartbeats: bool = True,
        term: Optional[int] = None,
    ) -> None:
        self.trace = trace
        self.nodes = trace.nodes
        first, last = (1, trace.last) if term is None else span_of_term(trace, term)
        self.first = max(first, start or 1, 1)
        self.last = min(last, trace.last if stop is None else stop)
        self.before: View = fold(trace, self.first - 1)
        self._sends: Dict[int, Record] = {r["m"]: r for r in trace.records[: self.last] if r["k"] == "send"}
        beats = set() if heartbeats else {m for m, send in self._sends.items() if send["type"] in BEATS}
        self.records = _without_beats(self._inside(), self.before, beats, heartbeats)
        self._left_out = beats

    @property
    def t_first(self) -> float:
        return float(self.records[0]["t"]) if self.records else 0.0

    @property
    def t_last(self) -> float:
        return float(self.records[-1]["t"]) if self.records else 0.0

    def sending(self, record: Record) -> Optional[Record]:
        """The `send` of a message that arrives or is lost."""
        return self._sends.get(record.get("m", 0))

    def journeys(self) -> List[Journey]:
        """The messages that were under way in this part, in the order in which they left or, before it, arrived."""
        waiting = {m: send for m, send in self.before.in_flight.items() if m not in self._left_out}
        ended: Set[int] = set()
        found: List[Tuple[int, Journey]] = []
        for record in self.records:
            if record["k"] == "send":
                waiting[record["m"]] = record
            elif record["k"] in ("recv", "lost"):
                found.append((record["i"], Journey(self.sending(record), record)))
                ended.add(record["m"])
        found += [(send["i"], Journey(send, None)) for m, send in waiting.items() if m not in ended]
        found.sort(key=lambda each: each[1].send["i"] if each[1].send else each[0])
        return [journey for _, journey in found]

    def _inside(self) -> List[Record]:
        return self.trace.records[self.first - 1 : max(0, self.last)]


def span_of_term(trace: Trace, term: int) -> Tuple[int, int]:
    """From the first record of `term` to the last of its messages, or until nobody leads or stands in it any more.

    (1, 0) where nobody reached it. That somebody starts again with an old term, much later, does not count.
    """
    first, last = 1, 0
    acting: Set[str] = set()
    for record in trace.records:
        is_of_term, node = record.get("term") == term, record["n"]
        was_acting = bool(acting)
        if record["k"] in ("state", "stop"):
            acts = record["k"] == "state" and is_of_term and record["role"] in _ACTING
            (acting.add if acts else acting.discard)(node)
        if (is_of_term and (record["k"] != "state" or not last)) or was_acting or acting:
            first, last = first if last else record["i"], record["i"]
    return first, last


def _without_beats(records: List[Record], before: View, beats: Set[int], heartbeats: bool) -> List[Record]:
    """Without the messages in `beats`, and without the states and timers that are of no interest then."""
    if heartbeats:
        return records
    seen = {n: _seen(vars(view)) for n, view in before.nodes.items()}
    kept = []
    for record in records:
        kind = record["k"]
        if kind == "state":
            if seen.get(record["n"]) == _seen(record):
                continue
            seen[record["n"]] = _seen(record)
        elif kind == "start":
            seen.pop(record["n"], None)
        elif (kind == "timer" and record["timer"] == "heartbeat") or record.get("m") in beats:
            continue
        kept.append(record)
    return kept


def _seen(state: Record) -> Tuple[object, ...]:
    return (*(state.get(name) for name in _SEEN), *state.get("votes", ()))
