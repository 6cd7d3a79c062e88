"""What a trace adds up to: the cluster as it was after any of its records.

Every `state` record holds all that can be seen of its node, so the last one wins: nothing here knows the rules of Raft.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Dict, List, Optional, Set, Tuple

from raftlite.lab.trace_records import Record, Trace


@dataclass(frozen=True)
class NodeView:
    """One member, as its records show it. Times are seconds of the cluster's clock."""

    role: str = "stopped"  # follower, pre-candidate, candidate, leader or stopped
    term: int = 0
    vote: Optional[str] = None  # whom it voted for in `term`
    votes: Tuple[str, ...] = ()  # who voted for it, while it is a candidate
    leader: Optional[str] = None  # whom it follows
    deadline: Optional[float] = None  # when its timer runs out
    span: Optional[float] = None  # for how long that timer was set
    lease: Optional[float] = None  # until when it may lead
    is_up: bool = False
    is_paused: bool = False
    inc: int = 0  # how many times it has started
    pid: Optional[int] = None  # its process, where it has one of its own
    why: str = ""  # the reason for its latest change


@dataclass(frozen=True)
class Links:
    """Who does not reach whom, and how fast and how safely messages travel otherwise."""

    cut: Tuple[Tuple[str, str], ...] = ()  # sender and receiver
    delay: Optional[Tuple[float, float]] = None  # seconds, the least and the most
    loss: float = 0.0  # share of the messages

    def is_cut(self, sender: str, receiver: str) -> bool:
        return (sender, receiver) in self.cut


class View:
    """The cluster after some records; `apply` takes it one further.

    The values in it are never changed, only replaced: a `NodeView` that was read stays as it was.
    """

    def __init__(self, header: Optional[Record] = None) -> None:
        header = header or {}
        config = header.get("config") or {}
        self.i = 0  # of the latest record
        self.t = 0.0
        self.nodes: Dict[str, NodeView] = {n: NodeView() for n in header.get("nodes", ())}
        self.in_flight: Dict[int, Record] = {}  # the `send` of each message that is neither received nor lost
        self.links = Links((), _pair(config.get("delay")), config.get("loss") or 0.0)
        self.checks: Dict[str, Record] = {}  # the latest result of each check
        self.is_clock_paused = False
        self.scale = float(header.get("scale") or 1.0)
        self._copies: Dict[int, Set[int]] = {}  # of a message that is in flight

    @property
    def leader(self) -> Optional[str]:
        """Who leads with a lease that holds at `t`; if several say so, the one of the latest term. None if nobody."""
        return self.leader_at(self.t)

    def leader_at(self, t: float) -> Optional[str]:
        holders = [(view.term, n) for n, view in self.nodes.items() if _leads(view, t)]
        return max(holders)[1] if holders else None

    def copy(self) -> View:
        """This view as it is now: the original may go on."""
        other = View()
        other.__dict__.update(self.__dict__)
        other.nodes, other.in_flight, other.checks = dict(self.nodes), dict(self.in_flight), dict(self.checks)
        other._copies = {m: set(copies) for m, copies in self._copies.items()}
        return other

    def apply(self, record: Record) -> None:
        """Take in the next record. One of an unknown kind changes nothing."""
        self.i, self.t = record["i"], max(self.t, record["t"])
        step = _STEPS.get(record["k"])
        if step is not None:
            step(self, record)

    # --- one step for each kind of record that changes something ---

    def _start(self, record: Record) -> None:
        before = self._node(record)
        self.nodes[record["n"]] = NodeView(
            "follower",
            before.term,
            before.vote,
            is_up=True,
            inc=record["inc"],
            pid=record.get("pid"),
            why="started",
        )

    def _stop(self, record: Record) -> None:
        before = self._node(record)
        why = record.get("why", "stopped")
        self.nodes[record["n"]] = NodeView("stopped", before.term, before.vote, inc=before.inc, why=why)

    def _pause(self, record: Record) -> None:
        self.nodes[record["n"]] = replace(self._node(record), is_paused=True)

    def _resume(self, record: Record) -> None:
        self.nodes[record["n"]] = replace(self._node(record), is_paused=False)

    def _state(self, record: Record) -> None:
        before = self._node(record)
        self.nodes[record["n"]] = NodeView(
            role=record["role"],
            term=record["term"],
            vote=record.get("vote"),
            votes=tuple(record.get("votes", ())),
            leader=record.get("leader"),
            deadline=record.get("deadline"),
            span=record.get("span"),
            lease=record.get("lease"),
            is_up=before.is_up,
            is_paused=before.is_paused,
            inc=before.inc,
            pid=before.pid,
            why=record.get("why", ""),
        )

    def _send(self, record: Record) -> None:
        self.in_flight[record["m"]] = record
        self._copies[record["m"]] = {0}

    def _arrive(self, record: Record) -> None:
        copies = self._copies.get(record["m"])
        if copies is None:
            return
        copies.discard(record.get("copy") or 0)
        if not copies:
            del self._copies[record["m"]], self.in_flight[record["m"]]

    def _fault(self, record: Record) -> None:
        copies = self._copies.get(record.get("m") or 0)
        if record["op"] == "duplicate" and copies is not None:
            copies.add(record.get("copy") or max(copies) + 1)

    def _links(self, record: Record) -> None:
        cut = tuple((sender, receiver) for sender, receiver in record["cut"])
        delay, loss = _pair(record.get("delay")) or self.links.delay, record.get("loss")
        self.links = Links(cut, delay, self.links.loss if loss is None else loss)

    def _check(self, record: Record) -> None:
        self.checks[record["name"]] = record

    def _clock(self, record: Record) -> None:
        self.scale = record.get("scale") or self.scale
        if record["op"] in ("pause", "play"):
            self.is_clock_paused = record["op"] == "pause"

    def _node(self, record: Record) -> NodeView:
        return self.nodes.get(record["n"]) or NodeView()


_STEPS = {
    "start": View._start,
    "stop": View._stop,
    "pause": View._pause,
    "resume": View._resume,
    "state": View._state,
    "send": View._send,
    "recv": View._arrive,
    "lost": View._arrive,
    "fault": View._fault,
    "links": View._links,
    "check": View._check,
    "clock": View._clock,
}


def fold(trace: Trace, upto: Optional[int] = None) -> View:
    """The cluster after the record with the number `upto`; after the latest without it."""
    view = View(trace.header)
    records: List[Record] = trace.records if upto is None else trace.records[: max(0, upto)]
    for record in records:
        view.apply(record)
    return view


def _leads(view: NodeView, t: float) -> bool:
    return view.role == "leader" and view.is_up and view.lease is not None and view.lease > t


def _pair(value: Any) -> Optional[Tuple[float, float]]:
    """The two numbers of a range, where it is one: a later version may have something else there."""
    if isinstance(value, list) and len(value) == 2 and all(isinstance(each, (int, float)) for each in value):
        return (value[0], value[1])
    return None
