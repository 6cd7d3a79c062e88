"""A trace as a sequence diagram in Mermaid's language, which many pages draw that show Markdown."""

from __future__ import annotations

import re
from typing import Dict, List, Optional, Set, Tuple

from raftlite.lab.export.part import Part
from raftlite.lab.export.words import ASKS, TYPES, clean, describe, fault_words, loss_words, role_words, verdict
from raftlite.lab.trace import Record, Trace

MOST_CHARACTERS = 48_000  # Mermaid draws no text of more than 50,000
LONGEST_LABEL = 60
_PLAIN_ID = re.compile(r"[a-z]{1,3}\d{1,3}\Z")  # no word of Mermaid's language; others get an alias
_NOT_PLAIN = re.compile(r"[^\w .,:?!()+=*/'→✓✗…|-]")
_QUIET = ("timer", "links", "send", "event", "clock", "end")


def to_mermaid(
    trace: Trace,
    start: Optional[int] = None,
    stop: Optional[int] = None,
    heartbeats: bool = True,
    term: Optional[int] = None,
) -> str:
    """The trace as the text of a sequence diagram: put it between ```` ```mermaid ```` and ```` ``` ````.

    A message stands where it arrives or is lost; one that is still in flight stands at the end. While a node leads,
    its line is a bar. What goes beyond the length that Mermaid draws is left out, and a note says so.
    """
    return _Diagram(Part(trace, start, stop, heartbeats, term)).text()


class _Diagram:
    def __init__(self, part: Part) -> None:
        self._part = part
        self._names = _aliases(part.nodes)
        self._leads: Set[str] = set()
        self._states: Dict[str, Tuple[object, ...]] = {}
        self._lines = ["sequenceDiagram"]
        self._length = 0

    def text(self) -> str:
        for node, alias in self._names.items():
            self._add(f"participant {alias} as {_escaped(node, 130)}")
        for n, view in self._part.before.nodes.items():
            self._states[n] = (view.role, view.term)
            if view.role == "leader" and view.is_up:
                self._lead(n, True)
        left_out = self._records()
        if left_out:
            self._over_all(f"{left_out} more records are not shown")
        else:
            for journey in self._part.journeys():
                if journey.end is None and journey.send is not None:
                    self._message(journey.send, journey.send["n"], journey.send["to"], ")", " (in flight)")
        return "\n".join(self._lines) + "\n"

    def _records(self) -> int:
        """Write the records; return how many there was no room for."""
        for done, record in enumerate(self._part.records):
            if self._length > MOST_CHARACTERS:
                return len(self._part.records) - done
            self._record(record)
        return 0

    def _record(self, record: Record) -> None:
        kind, node = record["k"], record["n"]
        if kind in ("recv", "lost"):
            self._arrival(record)
        elif kind == "state":
            self._state(record)
        elif kind == "fault":
            self._over_all(f"⚡ {fault_words(record)}")
        elif kind in _QUIET or (kind == "start" and record["inc"] == 1):
            return
        elif node is None:
            self._over_all(describe(record))
        else:
            if kind == "stop":
                self._lead(node, False)
            self._over(node, describe(record))

    def _arrival(self, record: Record) -> None:
        send = self._part.sending(record) or record
        detail = f": {loss_words(record.get('why', ''))}" if record["k"] == "lost" else _answer(send, record)
        self._message(send, record["from"], record["n"], "x" if record["k"] == "lost" else ">>", detail)

    def _message(self, send: Record, sender: str, receiver: str, head: str, detail: str) -> None:
        if sender not in self._names or receiver not in self._names:
            return  # somebody of whom the trace knows nothing else
        kind = str(send.get("type", "message"))
        term = f", term {send['term']}" if "term" in send else ""
        line = "--" if kind.endswith("_resp") else "-"
        words = _escaped(f"{TYPES.get(kind, kind)}{term}{detail}", LONGEST_LABEL)
        self._add(f"{self._names[sender]}{line}{head}{self._names[receiver]}: {words}")

    def _state(self, record: Record) -> None:
        node, now = record["n"], (record["role"], record["term"])
        if self._states.get(node) != now:
            self._states[node] = now
            self._over(node, role_words(record))
        self._lead(node, record["role"] == "leader")

    def _lead(self, node: str, leads: bool) -> None:
        if leads == (node in self._leads):
            return
        (self._leads.add if leads else self._leads.discard)(node)
        self._add(f"{'activate' if leads else 'deactivate'} {self._names[node]}")

    def _over(self, node: str, words: str) -> None:
        self._add(f"Note over {self._names[node]}: {_escaped(words, LONGEST_LABEL)}")

    def _over_all(self, words: str) -> None:
        names = list(self._names.values())
        if names:
            both = names[0] if len(names) == 1 else f"{names[0]},{names[-1]}"
            self._add(f"Note over {both}: {_escaped(words, 2 * LONGEST_LABEL)}")

    def _add(self, line: str) -> None:
        self._lines.append(f"    {line}")
        self._length += len(line) + 5


def _aliases(nodes: List[str]) -> Dict[str, str]:
    """A name of Mermaid's kind for each node: its own where that can be one."""
    taken = {n for n in nodes if _PLAIN_ID.match(n)}
    names: Dict[str, str] = {}
    for number, node in enumerate(nodes, 1):
        alias = node if node in taken else f"node{number}"
        while alias in taken and alias != node:
            alias += "_"
        names[node] = alias
        taken.add(alias)
    return names


def _answer(send: Record, record: Record) -> str:
    """What a reply says, and why if it is a refusal; of a request its reply tells that."""
    mark = "" if send.get("type") in ASKS else verdict(send) or verdict(record)
    why = str((send if send.get("granted") is not None else record).get("why", "")) if mark == "✗" else ""
    return f" {mark} {why}".rstrip()


def _escaped(text: str, longest: int) -> str:
    """Text that means nothing to Mermaid: whatever might is written as the number of its letter."""
    return _NOT_PLAIN.sub(lambda found: f"#{ord(found.group())};", clean(text, longest)).strip() or "#32;"
