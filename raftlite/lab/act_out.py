"""You are n3: for each message that a member heard, what it knew, what it might do, what it did and why.

Everything is read off the recording: there is no rule of Raft in here that could be wrong.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Dict, List, Optional, Tuple

from raftlite.lab.trace import NodeView, Record, Trace, View

_GRANT = "Grant the vote"
_REFUSALS = (
    "Refuse: that term is over",
    "Refuse: it has voted for somebody else in that term",
    "Refuse: it leads itself, or has just heard a leader",
    "Refuse: it may have forgotten a vote, or they do not agree on who belongs to the cluster",
)
_RESPONSE = {
    "counted": "Count it",
    "noted": "Note the refusal and go on",
    "ignored": "Ignore it",
    "stepped down": "Become a follower: the answer brings a newer term",
}
_BEAT = {
    "accepted": "Follow the sender: set the election timer anew and answer",
    "refused": "Refuse, and tell the sender that its term is over",
    "stepped down": "Give up its own role and follow the sender",
    "ignored": "Ignore it",
}
_BEAT_RESPONSE = {
    "counted": "Count it: the lease lasts longer with the answers of a majority",
    "ignored": "Ignore it",
    "stepped down": "Step down: the answer brings a newer term",
}
_TAKE_OVER = {
    "accepted": "Stand for election at once",
    "refused": "Hand it back: it may not campaign now",
    "ignored": "Ignore it",
}
_CHOICES: Dict[str, Dict[str, str]] = {
    "vote_resp": _RESPONSE,
    "pre_vote_resp": _RESPONSE,
    "heartbeat": _BEAT,
    "heartbeat_resp": _BEAT_RESPONSE,
    "timeout_now": _TAKE_OVER,
}
_REQUESTS = ("vote_req", "pre_vote_req")


@dataclass(frozen=True)
class Turn:
    """A message that the member has heard at record `i`, and the question what it made of it.

    `before` is what it knew of itself then. `answer` is the place among `choices` of what raftlite did, for the reason
    `why`, which is empty where there is nothing to explain.
    """

    i: int
    t: float
    heard: str
    sender: str
    type: str
    term: int
    before: Dict[str, Any]
    choices: Tuple[str, ...]
    answer: int
    why: str

    @property
    def did(self) -> str:
        return self.choices[self.answer]


def turns(trace: Trace, n: str = "n3", heartbeats: bool = False) -> List[Turn]:
    """What `n` had to decide, in order. Unless `heartbeats` is set, only the first one of each leader, and none of the
    answers to its own."""
    view, player = View(trace.header), _Acting(trace, n, heartbeats)
    for record in trace.records:
        if record["k"] == "recv" and record["n"] == n:
            player.hear(record, view)
        elif record["k"] == "send":
            player.sent[record["m"]] = record
        view.apply(record)
    return player.found


def turns_as_json(trace: Trace, n: str = "n3", heartbeats: bool = False) -> Dict[str, Any]:
    """The same for a page: the questions, and apart from them the answers."""
    found = turns(trace, n, heartbeats)
    hidden = ("answer", "why")
    questions = [{name: value for name, value in asdict(turn).items() if name not in hidden} for turn in found]
    answers = [{"answer": turn.answer, "did": turn.did, "why": turn.why} for turn in found]
    return {"node": n, "nodes": trace.nodes, "turns": questions, "answers": answers}


class _Acting:
    """Goes through what one member hears."""

    def __init__(self, trace: Trace, n: str, heartbeats: bool) -> None:
        self.n, self.heartbeats = n, heartbeats
        self.sent: Dict[int, Record] = {}
        self.found: List[Turn] = []
        self._majority = trace.header.get("config", {}).get("majority")
        self._followed: Dict[Tuple[str, Any], int] = {}
        self._beat_at: Optional[float] = None

    def hear(self, record: Record, view: View) -> None:
        judged = _judge(record)
        if judged is not None and (self.heartbeats or self._is_worth_asking(record)):
            self._ask(record, view.nodes.get(self.n) or NodeView(), *judged)
        if record.get("type") == "heartbeat" and record.get("result") in ("accepted", "stepped down"):
            self._beat_at = record["t"]

    def _is_worth_asking(self, record: Record) -> bool:
        if record["type"] == "heartbeat_resp":
            return bool(record["result"] == "stepped down")
        if record["type"] != "heartbeat":
            return True
        key = (record["from"], record.get("term"))
        self._followed[key] = self._followed.get(key, 0) + 1
        return self._followed[key] == 1 or record["result"] != "accepted"

    def _ask(self, record: Record, state: NodeView, choices: Tuple[str, ...], answer: int) -> None:
        sent = self.sent.get(record["m"], {})
        term = record.get("term") or sent.get("term") or 0
        before = {
            "role": state.role,
            "term": state.term,
            "vote": state.vote,
            "votes": list(state.votes),
            "leader": state.leader,
            "majority": self._majority,
            "heartbeat": None if self._beat_at is None else round(record["t"] - self._beat_at, 3),
        }
        heard = _heard(record, sent, self.n, term)
        why = str(record.get("why") or "")
        turn = Turn(record["i"], record["t"], heard, record["from"], record["type"], term, before, choices, answer, why)
        self.found.append(turn)


def _judge(record: Record) -> Optional[Tuple[Tuple[str, ...], int]]:
    """The choices and which of them was taken; None for a message about which there is nothing to ask."""
    kind, result = record.get("type"), record.get("result")
    if kind in _REQUESTS and result in ("granted", "refused"):
        return (_GRANT, *_REFUSALS), 0 if result == "granted" else 1 + _reason(str(record.get("why") or ""))
    choices = _CHOICES.get(str(kind), {})
    if result not in choices:
        return None
    return tuple(choices.values()), list(choices).index(str(result))


def _reason(why: str) -> int:
    """Which of the refusals a reason of the election belongs to."""
    if " is over, " in why:
        return 0
    if why.startswith("voted for "):
        return 1
    if why.endswith(" leads") or " was heard from " in why:
        return 2
    return 3


def _heard(record: Record, sent: Record, n: str, term: int) -> str:
    sender, granted = record["from"], sent.get("granted")
    yes = "gives" if granted else "refuses"
    words = {
        "vote_req": f"{sender} asks {n} for its vote in term {term}",
        "pre_vote_req": f"{sender} asks whether {n} would vote for it in term {term}",
        "vote_resp": f"{sender} {yes} {n} its vote (message of term {term})",
        "pre_vote_resp": f"{sender} says that it would {'' if granted else 'not '}vote for {n} (term {term})",
        "heartbeat": f"{sender} says that it leads in term {term}",
        "heartbeat_resp": f"{sender} answers a heartbeat (message of term {term})",
        "timeout_now": f"{sender}, leader of term {term}, asks {n} to take over",
    }
    return words[record["type"]]
