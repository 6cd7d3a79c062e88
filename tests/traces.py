"""Traces made by hand: a cluster that does what it is told, for tests that need a recording and no cluster.

It knows just enough of Raft to tell a believable story: `Story` sends messages and lets them arrive, `elect` has a node
win, `show` goes through what a lecture shows.
"""

from __future__ import annotations

import heapq
from typing import Any, Callable, Dict, List, Optional, Set, Tuple

from raftlite.lab.trace import Record, Trace

DELAY = 0.5
HEARTBEAT = 1.0
FIVE = ("n1", "n2", "n3", "n4", "n5")
REPLY = {"vote_req": "vote_resp", "heartbeat": "heartbeat_resp"}


def header(nodes: Any = FIVE, **changes: Any) -> Record:
    config = {"heartbeat": 1.0, "election": [3.0, 6.0], "delay": [0.4, 0.6], "loss": 0.0}
    config.update(pre_vote=False, check_quorum=True, proof=False)
    values = {"raftlite": "0.1.0", "created": None, "backend": "virtual", "scale": 1.0, "seed": 7}
    first = {"k": "header", "format": "raftlite-trace", "v": 1}
    return {
        **first,
        **values,
        "nodes": list(nodes) if isinstance(nodes, tuple) else nodes,
        "config": config,
        "scene": None,
        **changes,
    }


class Story:
    """A cluster whose every move is told to it, and the trace of that."""

    def __init__(self, *nodes: str, **changes: Any) -> None:
        self.nodes = nodes or FIVE
        self.trace = Trace(header(self.nodes, **changes))
        self.now = 0.0
        self.cut: Set[Tuple[str, str]] = set()
        self.states: Dict[str, Dict[str, Any]] = {}
        self.inc: Dict[str, int] = {}
        self.up: Set[str] = set()
        self._agenda: List[Tuple[float, int, Callable[[], None]]] = []
        self._order = 0
        self._m = 0

    # --- time ---

    def add(self, kind: str, n: Optional[str] = None, /, **fields: Any) -> Record:
        return self.trace.append(kind, n, self.now, **fields)

    def later(self, seconds: float, action: Callable[[], None]) -> None:
        self._order += 1
        heapq.heappush(self._agenda, (self.now + seconds, self._order, action))

    def run(self, seconds: float) -> None:
        """Let everything happen that is due within `seconds`."""
        end = self.now + seconds
        while self._agenda and self._agenda[0][0] <= end:
            self.now, _, action = heapq.heappop(self._agenda)
            action()
        self.now = end

    # --- nodes ---

    def start(self, *nodes: str) -> None:
        for n in nodes or self.nodes:
            self.inc[n] = self.inc.get(n, 0) + 1
            self.up.add(n)
            kept = self.states.get(n, {"term": 0, "vote": None})
            self.add("start", n, inc=self.inc[n])
            self.states[n] = {"role": "follower", "term": kept["term"], "vote": kept["vote"]}
            self.state(n, votes=[], leader=None, deadline=self.now + 4.2, span=4.2, lease=None, why="started")

    def state(self, n: str, **changes: Any) -> None:
        self.states[n].update(changes)
        self.add("state", n, **self.states[n])

    def follow(self, n: str, term: int, leader: Optional[str], why: str, vote: Optional[str] = None) -> None:
        before = self.states[n]
        vote = vote or (before["vote"] if term == before["term"] else None)
        due = {"deadline": self.now + 4.0, "span": 4.0, "lease": None}
        self.state(n, role="follower", term=term, vote=vote, votes=[], leader=leader, **due, why=why)

    def stop(self, n: str, why: str = "killed") -> None:
        self.add("fault", n, op="kill", by="scene")
        self.up.discard(n)
        self.add("stop", n, inc=self.inc[n], why=why)

    # --- messages ---

    def send(
        self, sender: str, receiver: str, type: str, then: Optional[Callable[[], None]] = None, **fields: Any
    ) -> int:
        """Send a message; when it has arrived, do `then`, which is to record the receipt. A cut link loses it."""
        self._m += 1
        m, delay, lost = self._m, fields.pop("delay", DELAY), fields.pop("lost", None)
        lost = "cut" if (sender, receiver) in self.cut else lost
        fields.setdefault("term", self.states[sender]["term"])
        eta = None if lost else round(self.now + delay, 6)
        self.add("send", sender, m=m, to=receiver, type=type, eta=eta, **fields)
        self.later(delay if not lost else delay / 2, lambda: self._arrive(m, sender, receiver, type, lost, then))
        return m

    def _arrive(self, m: int, sender: str, receiver: str, type: str, lost: Optional[str], then: Any) -> None:
        lost = lost or (None if receiver in self.up else "down")
        if lost:
            self.add("lost", receiver, **{"from": sender}, to=receiver, m=m, type=type, why=lost)
        elif then is None:
            self.receive(m, sender, receiver, type, "accepted", "")
        else:
            then()

    def receive(self, m: int, sender: str, receiver: str, type: str, result: str, why: str) -> None:
        self.add("recv", receiver, **{"from": sender}, m=m, type=type, result=result, why=why)

    def partition(self, *groups: List[str]) -> None:
        self.add("fault", op="partition", by="scene", groups=[list(group) for group in groups])
        side = {n: number for number, group in enumerate(groups) for n in group}
        self.cut = {(a, b) for a in self.nodes for b in self.nodes if side.get(a) != side.get(b)}
        self.links()

    def heal(self) -> None:
        self.add("fault", op="heal", by="scene")
        self.cut = set()
        self.links()

    def links(self) -> None:
        self.add("links", cut=sorted(map(list, self.cut)), delay=[0.4, 0.6], loss=0.0)

    # --- a little Raft ---

    def campaign(self, n: str, refused: Tuple[str, ...] = (), leads: bool = True, **delays: float) -> None:
        """`n` asks everybody for their vote; it leads once a majority has answered. `delays`: of its requests."""
        term = self.states[n]["term"] + 1
        self.add("timer", n, timer="election")
        why, due = "election timer ran out", {"deadline": self.now + 5.0, "span": 5.0, "lease": None}
        self.state(n, role="candidate", term=term, vote=n, votes=[n], leader=None, **due, why=why)
        for other in self.nodes:
            if other != n:
                self._ask(n, other, term, other in refused, delays.get(other, DELAY))

    def _ask(self, n: str, other: str, term: int, is_refused: bool, delay: float) -> None:
        def arrive() -> None:
            state = self.states[other]
            is_free = state["term"] < term or state["vote"] in (None, n)
            granted = is_free and not is_refused and state["term"] <= term
            why = f"first request seen in term {term}" if granted else self._why_not(other, term)
            self.receive(m, n, other, "vote_req", "granted" if granted else "refused", why)
            if granted:
                self.follow(other, term, None, f"vote granted to {n}", vote=n)
            self._answer(other, n, term, granted, why)

        m = self.send(n, other, "vote_req", arrive, text=f"asks {other} for its vote", delay=delay)

    def _why_not(self, n: str, term: int) -> str:
        state = self.states[n]
        if state["term"] > term:
            return f"term {state['term']} is newer"
        return f"voted for {state['vote']} in term {term}" if state["vote"] else "a leader is alive"

    def _answer(self, voter: str, candidate: str, term: int, granted: bool, why: str) -> None:
        def arrive() -> None:
            state = self.states[candidate]
            counts = granted and state["role"] == "candidate" and state["term"] == term
            self.receive(m, voter, candidate, "vote_resp", "counted" if counts else "ignored", why)
            if counts:
                self.state(candidate, votes=[*state["votes"], voter], why=f"vote of {voter}")
                if 2 * len(self.states[candidate]["votes"]) > len(self.nodes):
                    self.lead(candidate)

        words = f"{'grants' if granted else 'refuses'} {candidate} its vote"
        m = self.send(voter, candidate, "vote_resp", arrive, term=term, granted=granted, why=why, text=words)

    def lead(self, n: str) -> None:
        """`n` has won; its first heartbeats leave."""
        state = self.states[n]
        due = {"deadline": self.now + HEARTBEAT, "span": HEARTBEAT, "lease": self.now + 2.85}
        self.state(n, role="leader", leader=n, **due, why=f"{len(state['votes'])} of {len(self.nodes)} votes")
        self.add("event", n, event="elected", leader=n, token=state["term"])
        self.beat(n)

    def beat(self, n: str, again: bool = True) -> None:
        state = dict(self.states[n])
        for other in self.nodes:
            if other != n:
                self._beat_at(n, other, state["term"])
        if again:
            self.later(HEARTBEAT, lambda: self._beat_again(n, state["term"]))

    def _beat_again(self, n: str, term: int) -> None:
        state = self.states[n]
        if n in self.up and state["role"] == "leader" and state["term"] == term:
            self.add("timer", n, timer="heartbeat")
            self.state(n, deadline=self.now + HEARTBEAT, lease=self.now + 2.85, why="heartbeat sent")
            self.beat(n)

    def _beat_at(self, n: str, other: str, term: int) -> None:
        def arrive() -> None:
            stale = self.states[other]["term"] > term
            self.receive(m, n, other, "heartbeat", "refused" if stale else "accepted", "an old term" if stale else "")
            if not stale:
                self.follow(other, term, n, f"heartbeat of {n}")
            self._echo(other, n)

        m = self.send(n, other, "heartbeat", arrive, term=term, text="leads")

    def _echo(self, n: str, leader: str) -> None:
        def arrive() -> None:
            term = self.states[n]["term"]
            if term > self.states[leader]["term"]:
                self.receive(m, n, leader, "heartbeat_resp", "stepped down", f"term {term} is newer")
                self.follow(leader, term, None, f"{n} has term {term}")
            else:
                self.receive(m, n, leader, "heartbeat_resp", "counted", "")

        m = self.send(n, leader, "heartbeat_resp", arrive, text="has heard it")


def show() -> Trace:
    """An election, a leader in the minority, a kill, a split vote, a restart: about half a minute, five nodes."""
    story = Story(scene="hand-made")
    story.start()
    story.run(3.4)
    story.campaign("n2")
    story.run(4.0)
    story.add("note", text="predict: who leads when the leader is cut off?", by="scene", kind="question")
    story.partition(["n1", "n2"], ["n3", "n4", "n5"])
    story.run(3.6)
    story.campaign("n4")
    story.run(3.2)
    story.heal()
    story.run(2.6)
    story.add("check", name="one leader per term", ok=True, why="")
    story.stop("n4")
    story.run(3.4)
    story.campaign("n1", n2=0.4, n3=0.9, n5=0.9)
    story.campaign("n5", n3=0.4, n1=0.9, n2=0.9)
    story.run(4.4)
    story.campaign("n3")
    story.run(2.0)
    story.add("fault", "n4", op="start", by="scene")
    story.start("n4")
    story.run(2.8)
    story.send("n3", "n4", "heartbeat", lost="loss", text="leads")
    story.run(0.9)
    return story.trace


def long(records: int) -> Trace:
    """A healthy cluster that beats for as long as it takes to make `records`."""
    story = Story()
    story.start()
    story.run(3.0)
    story.campaign("n1")
    while story.trace.last < records:
        story.run(10.0)
    return story.trace
