"""A trace as a log for ShiViz: two lines an event, the second with the node and its vector clock.

The first line of the file is the expression that takes an event apart, the second the one that would tell several runs
apart, and is empty. ShiViz wants of the clocks that a node's own count goes 1, 2, 3 ... without a gap, also where the
node has started again: what is left out is therefore left out before anything is counted.
"""

from __future__ import annotations

import json
import re
from typing import Dict, List, Optional

from raftlite.lab.export.part import Part
from raftlite.lab.export.words import clean, describe
from raftlite.lab.trace import Record, Trace, clocks

PARSER = r"(?<t>\d+\.\d+) (?<kind>\w+) (?<term>\d+) (?<role>\w+) (?<event>.*)\n(?<host>\S+) (?<clock>\{.*\})"
NETWORK = "net"  # the host on which losses are shown
_NETWORK_ID = "\n"  # which no member can have
LONGEST_EVENT = 35  # characters that its left column has room for
_BY_HAND = ("kill", "power", "start", "freeze", "thaw")  # the record after it tells the same
_RESERVED = {  # the properties that every object of JavaScript has: its page looks hosts up in such
    *("__proto__", "__defineGetter__", "__defineSetter__", "__lookupGetter__", "__lookupSetter__", "constructor"),
    *("hasOwnProperty", "isPrototypeOf", "propertyIsEnumerable", "toLocaleString", "toString", "valueOf"),
    NETWORK,
}


def to_shiviz(
    trace: Trace,
    start: Optional[int] = None,
    stop: Optional[int] = None,
    heartbeats: bool = True,
    term: Optional[int] = None,
    losses: bool = False,
) -> str:
    """The trace as a file to pick with "Select a file" on ShiViz's page.

    With `losses` there is one more host, `net`, and a line to it for every message that was lost.
    """
    part = Part(trace, start, stop, heartbeats, term)
    log = _Log(part)
    hosts = {**_hosts(part.nodes), _NETWORK_ID: NETWORK}
    lines = [PARSER, ""]
    for record, clock in clocks(_events(part, losses)):
        shown = {hosts[n]: count for n, count in clock.items()}
        lines += [log.event(record), f"{hosts[record['n']]} {json.dumps(shown, ensure_ascii=False)}"]
    return "\n".join(lines) + "\n"


class _Log:
    """Writes the first line of each event; knows what each node was when it happened."""

    def __init__(self, part: Part) -> None:
        self._part = part
        self._states: Dict[str, Record] = {
            n: {"k": "state", **vars(view)} for n, view in part.before.nodes.items() if view.is_up
        }

    def event(self, record: Record) -> str:
        node = record["n"]
        before = self._states.get(node)
        if record["k"] == "state":
            self._states[node] = record
        now = self._states.get(node, {"term": 0, "role": "stopped"})
        if record["k"] == "stop":
            self._states[node] = {**now, "role": "stopped"}
        number = f" (#{record['m']})" if "m" in record else ""
        text = _short(describe(record, before), LONGEST_EVENT - len(number)) + number
        return f"{record['t']:.3f} {_word(record['k'])} {now['term']} {_word(now['role'])} {text}"


def _events(part: Part, losses: bool) -> List[Record]:
    """What a node has noticed, and what the network did to messages if that is asked for."""
    found: List[Record] = []
    for record in part.records:
        if record["k"] == "lost":
            if losses:
                found.append({**record, "k": "recv", "n": _NETWORK_ID, "result": "loses"})
        elif record["n"] is not None and not (record["k"] == "fault" and record["op"] in _BY_HAND):
            found.append(record)
    return found


def _hosts(nodes: List[str]) -> Dict[str, str]:
    """A name without spaces for each node, and no two the same."""
    names: Dict[str, str] = {}
    for node in nodes:
        name = re.sub(r"\s", "_", node)
        while name in names.values() or name in _RESERVED:
            name += "_"
        names[node] = name
    return names


def _short(text: str, room: int) -> str:
    """Without the reason, or cut, where there is no room for more."""
    return text if len(text) <= room else clean(text.split(": ")[0], room)


def _word(text: str) -> str:
    return re.sub(r"\W", "_", text, flags=re.ASCII) or "_"
