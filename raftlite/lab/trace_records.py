"""The records of a trace in memory, numbered as they come."""

from __future__ import annotations

import queue
import threading
from typing import Any, Dict, List, Optional

from raftlite.errors import RaftliteError

FORMAT = "raftlite-trace"
VERSION = 1

Record = Dict[str, Any]


class TraceError(RaftliteError, ValueError):
    """A file is no trace that this raftlite can read; the message names the line and says why."""


class Trace:
    """Records in the order in which they were made: only ever added to, by one thread while any number reads.

    Whatever was recorded, the record at `records[i - 1]` has the number `i`, and its time `t` is not before that of the
    one before it. Records are never changed once they are here.
    """

    def __init__(self, header: Record) -> None:
        self.header: Record = {"k": "header", "format": FORMAT, "v": VERSION, **plain(header)}
        self.records: List[Record] = []
        self.truncated = ""  # where a file ends amid a record: the sentence that says so
        self.problems: List[str] = []  # what was put right while reading a file, for `lint`
        self._listeners: List[queue.Queue[Record]] = []
        self._missed: Dict[int, int] = {}
        self._appending = threading.Lock()

    def append(self, kind: str, n: Optional[str], t: float, /, **fields: Any) -> Record:
        """Number and keep a record; tell whoever listens. Never waits for them."""
        with self._appending:
            record = {"i": self.last + 1, "t": self._not_before(t), "k": kind, "n": n}
            for name, value in fields.items():
                record[name] = plain(value)
            self.records.append(record)
            for listener in self._listeners:
                self._tell(listener, record)
            return record

    def after(self, i: int, limit: int = 500) -> List[Record]:
        """At most `limit` of the records that follow the one with the number `i`."""
        first = max(0, i)
        return self.records[first : first + max(0, limit)]

    @property
    def last(self) -> int:
        """The number of the latest record; 0 without any."""
        return len(self.records)

    @property
    def t(self) -> float:
        """When the latest record was made, in seconds of the cluster's clock."""
        return float(self.records[-1]["t"]) if self.records else 0.0

    @property
    def nodes(self) -> List[str]:
        """The members: those of the header first, then those that turned up later."""
        found = dict.fromkeys(self.header.get("nodes", ()))
        found.update(dict.fromkeys(record["n"] for record in self.records if record["n"] is not None))
        return list(found)

    def add_listener(self, listener: queue.Queue[Record]) -> None:
        """Put every later record into `listener` too. One that is full misses records: see `missed`."""
        with self._appending:
            self._listeners = [*self._listeners, listener]

    def remove_listener(self, listener: queue.Queue[Record]) -> None:
        with self._appending:
            self._listeners = [each for each in self._listeners if each is not listener]
            self._missed.pop(id(listener), None)

    def missed(self, listener: queue.Queue[Record]) -> int:
        """How many records `listener` has had no room for; they are still in `records`."""
        return self._missed.get(id(listener), 0)

    def _tell(self, listener: queue.Queue[Record], record: Record) -> None:
        try:
            listener.put_nowait(record)
        except queue.Full:
            self._missed[id(listener)] = self._missed.get(id(listener), 0) + 1

    def _not_before(self, t: float) -> float:
        # Two threads may have read the clock in one order and arrive here in the other.
        return max(round(float(t), 6), self.t)


def plain(value: Any) -> Any:
    """`value` as a file would give it back: lists for tuples and sets, floats of six digits."""
    kind = type(value)
    if kind is str or kind is int or kind is bool or value is None:  # nearly always, and there are many records
        return value
    if isinstance(value, float):
        return round(value, 6)
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    if isinstance(value, dict):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, (set, frozenset)):
        return sorted((plain(each) for each in value), key=str)
    return value
