"""What led to what in a trace, and who led."""

from __future__ import annotations

from typing import Callable, Dict, Iterable, Iterator, List, Optional, Tuple

from raftlite.lab.trace_records import Record, Trace

_WAKES = ("recv", "timer", "start", "proof", "resume")  # after which a node may do something of its own accord
_DOES = {"stop": ("kill", "power", "wipe", "freeze"), "start": ("start",), "pause": ("freeze",), "resume": ("thaw",)}
_LOST = {"down": "stop", "paused": "pause"}  # what had happened to the receiver of a message that was lost so


def leaders_by_term(trace: Trace) -> Dict[int, List[str]]:
    """Everybody who was leader in a term, for each term that had one, in the order in which they became it."""
    found: Dict[int, List[str]] = {}
    for record in trace.records:
        if record["k"] == "state" and record["role"] == "leader":
            leaders = found.setdefault(record["term"], [])
            if record["n"] not in leaders:
                leaders.append(record["n"])
    return found


def why(trace: Trace, i: int) -> List[int]:
    """The numbers of the records that caused the one with the number `i`, as far as the trace tells."""
    if not 1 <= i <= trace.last:
        return []
    record = trace.records[i - 1]
    finders = _FINDERS.get(record["k"], ())
    found = [finder(trace, record) for finder in finders]
    return sorted({cause["i"] for cause in found if cause is not None})


def clocks(records: Iterable[Record]) -> Iterator[Tuple[Record, Dict[str, int]]]:
    """Each record of a node with its vector clock: how many records of each node it may depend on, itself included.

    Only what is among `records` counts. A message ties its receipt to its sending, and nothing else ties two nodes. Of
    a loss no node knows.
    """
    now: Dict[str, Dict[str, int]] = {}
    sent: Dict[int, Dict[str, int]] = {}
    for record in records:
        node = record["n"]
        if node is None or record["k"] == "lost":
            continue
        clock = now.setdefault(node, {})
        if record["k"] == "recv":
            for other, count in sent.get(record["m"], {}).items():
                clock[other] = max(count, clock.get(other, 0))
        clock[node] = clock.get(node, 0) + 1
        if record["k"] == "send":
            sent[record["m"]] = dict(clock)
        yield record, dict(clock)


# --- How each cause is found ------------------------------------------------------------------------

Wanted = Callable[[Record], bool]
Finder = Callable[[Trace, Record], Optional[Record]]


def _latest(trace: Trace, before: int, wanted: Wanted) -> Optional[Record]:
    return next((trace.records[at] for at in range(before - 2, -1, -1) if wanted(trace.records[at])), None)


def _sending(trace: Trace, record: Record) -> Optional[Record]:
    return _latest(trace, record["i"], lambda each: each["k"] == "send" and each["m"] == record["m"])


def _wake_up(trace: Trace, record: Record) -> Optional[Record]:
    node = record["n"]
    return _latest(trace, record["i"], lambda each: each["n"] == node and each["k"] in (*_WAKES, "fault"))


def _state_before(trace: Trace, record: Record) -> Optional[Record]:
    """The state after the latest wake-up, where that changed it; otherwise the wake-up."""
    node = record["n"]
    kinds = (*_WAKES, "state", "fault")
    return _latest(trace, record["i"], lambda each: each["n"] == node and each["k"] in kinds)


def _armed(trace: Trace, record: Record) -> Optional[Record]:
    return _latest(trace, record["i"], lambda each: each["n"] == record["n"] and each["k"] == "state")


def _done_by(trace: Trace, record: Record) -> Optional[Record]:
    """The action from outside that ended, started, froze or thawed a node, if it was one."""
    cause = _latest(trace, record["i"], lambda each: each["n"] == record["n"] and each["k"] != "lost")
    ops = _DOES[record["k"]]
    return cause if cause is not None and cause["k"] == "fault" and cause["op"] in ops else None


def _what_lost(trace: Trace, record: Record) -> Optional[Record]:
    reason, message = record.get("why"), record["m"]
    if reason == "cut":
        return _latest(trace, record["i"], lambda each: each["k"] == "links")
    if reason == "operator":
        return _latest(trace, record["i"], lambda each: each["k"] == "fault" and each.get("m") == message)
    if reason in _LOST:
        return _latest(trace, record["i"], lambda each: each["n"] == record["n"] and each["k"] == _LOST[reason])
    return None


def _death(trace: Trace, record: Record) -> Optional[Record]:
    return _latest(trace, record["i"], lambda each: each["k"] == "stop" and each["n"] == record["of"])


def _fault(trace: Trace, record: Record) -> Optional[Record]:
    return _latest(trace, record["i"], lambda each: each["k"] == "fault")


def _grant(trace: Trace, record: Record) -> Optional[Record]:
    by = record.get("by") or record["n"]
    return _latest(trace, record["i"], lambda each: each["k"] == "event" and each["n"] == by)


_FINDERS: Dict[str, Tuple[Finder, ...]] = {
    "recv": (_sending,),
    "lost": (_sending, _what_lost),
    "state": (_wake_up,),
    "send": (_state_before,),
    "event": (_state_before,),
    "timer": (_armed,),
    "stop": (_done_by,),
    "start": (_done_by,),
    "pause": (_done_by,),
    "resume": (_done_by,),
    "proof": (_death,),
    "links": (_fault,),
    "act": (_grant,),
}
