"""Whether a trace keeps the rules of its format: what the page, the exporters and the contracts of the scenes rely on.

Whether the *members* keep the rules of Raft is another question, and the `check` records of the trace answer it.
"""

from __future__ import annotations

from typing import Dict, List, Optional, Set, Tuple

from raftlite.lab.trace_records import Record, Trace
from raftlite.lab.trace_schema import why_wrong

MOST_PROBLEMS = 1_000  # listed; a file with more is no trace of anything
_OF_THE_LIVING = ("state", "timer", "send", "recv", "proof", "event", "pause", "resume", "stop")
_OF_THE_AWAKE = ("state", "timer", "send", "recv", "proof", "event")
_COMPLETE = ("vote", "votes", "leader", "deadline", "span", "lease", "why")


def lint(trace: Trace) -> List[str]:
    """What is wrong with `trace`, a sentence each with the number of its record. Empty for a sound one."""
    problems = [*trace.problems, *([trace.truncated] if trace.truncated else [])]
    linter = _Linter()
    for record in trace.records:
        problems += [f"record {record['i']}: {problem}" for problem in linter.problems(record)]
        if len(problems) >= MOST_PROBLEMS:
            return [*problems[:MOST_PROBLEMS], "and more"]
    return problems


class _Node:
    """What the records of one node have said so far."""

    def __init__(self) -> None:
        self.is_up = False
        self.is_paused = False
        self.inc = 0
        self.has_state = False  # since it was started
        self.term = 0
        self.vote: Optional[str] = None


class _Linter:
    """Goes through the records once."""

    def __init__(self) -> None:
        self._count = 0
        self._t = 0.0
        self._end: Optional[int] = None
        self._nodes: Dict[str, _Node] = {}
        self._sent: Dict[int, Record] = {}
        self._ended: Set[Tuple[int, int]] = set()  # messages and copies

    def problems(self, record: Record) -> List[str]:
        reason = why_wrong(record)
        if reason:
            return [reason]
        found = self._order(record)
        if record["n"] is not None:
            found += self._life(record, self._nodes.setdefault(record["n"], _Node()))
        check = _CHECKS.get(record["k"])
        return found + (check(self, record) if check is not None else [])

    def _order(self, record: Record) -> List[str]:
        found = []
        self._count += 1
        if record["i"] != self._count:
            found.append(f"the number should be {self._count}")
        if record["t"] < self._t:
            found.append(f"the time falls from {self._t:g} to {record['t']:g}")
        if self._end is not None:
            found.append(f"it comes after the end, which is record {self._end}")
        self._t = max(self._t, record["t"])
        return found

    def _life(self, record: Record, node: _Node) -> List[str]:
        kind, n = record["k"], record["n"]
        if kind in _OF_THE_LIVING and not node.is_up:
            return [f'"{kind}" of {n}, which is {"stopped" if node.inc else "not started"}']
        if kind in _OF_THE_AWAKE and node.is_paused:
            return [f'"{kind}" of {n}, which is paused']
        if kind in ("timer", "send", "recv") and not node.has_state:
            return [f'"{kind}" of {n} before its first state']
        return []

    def _start(self, record: Record) -> List[str]:
        node = self._nodes[record["n"]]
        found = [f"{record['n']} is started twice"] if node.is_up else []
        if record["inc"] != node.inc + 1:
            found.append(f"start {record['inc']} of {record['n']} follows start {node.inc}")
        node.is_up, node.is_paused, node.has_state, node.inc = True, False, False, record["inc"]
        node.term, node.vote = 0, None  # what it had saved may be lost
        return found

    def _stop(self, record: Record) -> List[str]:
        node = self._nodes[record["n"]]
        node.is_up = node.is_paused = False
        if record.get("inc", node.inc) != node.inc:
            return [f"{record['n']} stops as start {record['inc']}, but was start {node.inc}"]
        return []

    def _pause(self, record: Record) -> List[str]:
        node = self._nodes[record["n"]]
        was_paused, node.is_paused = node.is_paused, record["k"] == "pause"
        if was_paused == node.is_paused:
            return [f"{record['n']} is {'paused already' if was_paused else 'not paused'}"]
        return []

    def _state(self, record: Record) -> List[str]:
        node, n = self._nodes[record["n"]], record["n"]
        term, vote = record["term"], record.get("vote")
        missing = [name for name in _COMPLETE if name not in record]
        found = [f"the state of {n} lacks {', '.join(missing)}"] if missing else []
        if term < node.term:
            found.append(f"the term of {n} falls from {node.term} to {term}")
        if term == node.term and node.vote is not None and vote != node.vote:
            found.append(f"{n} has voted for {node.vote} in term {term}, and now for {vote or 'nobody'}")
        node.term, node.vote, node.has_state = term, vote, True
        return found

    def _send(self, record: Record) -> List[str]:
        before = self._sent.setdefault(record["m"], record)
        found = [f"message {record['m']} was sent before, as record {before['i']}"] if before is not record else []
        if record["to"] == record["n"]:
            found.append(f"{record['n']} sends to itself")
        if record.get("eta") is not None and record["eta"] < record["t"]:
            found.append(f"message {record['m']} is to arrive before it is sent")
        return found

    def _arrival(self, record: Record) -> List[str]:
        m, copy = record["m"], record.get("copy") or 0
        sent = self._sent.get(m)
        if sent is None:
            return [f"message {m} arrives or is lost, but was never sent"]
        found = []
        if (m, copy) in self._ended:
            found.append(f"message {m} has arrived or was lost before{f', as copy {copy}' if copy else ''}")
        self._ended.add((m, copy))
        if (record["from"], record["n"]) != (sent["n"], sent["to"]):
            found.append(
                f"message {m} goes from {sent['n']} to {sent['to']}, not from {record['from']} to {record['n']}"
            )
        for name in ("type", "term"):
            if name in record and name in sent and record[name] != sent[name]:
                found.append(f"message {m} was sent with {name} {sent[name]}, and here has {record[name]}")
        return found

    def _finish(self, record: Record) -> List[str]:
        self._end = record["i"]
        found = []
        if record.get("events", self._count - 1) != self._count - 1:
            found.append(f"{record['events']} records are said to come before the end, but there are {self._count - 1}")
        if record.get("dropped"):
            found.append(f"{record['dropped']} records were lost while recording")
        return found


_CHECKS = {
    "start": _Linter._start,
    "stop": _Linter._stop,
    "pause": _Linter._pause,
    "resume": _Linter._pause,
    "state": _Linter._state,
    "send": _Linter._send,
    "recv": _Linter._arrival,
    "lost": _Linter._arrival,
    "end": _Linter._finish,
}
