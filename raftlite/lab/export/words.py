"""Records in words: what exporters and the terminal write beside a node's name."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Optional

from raftlite.lab.trace import Record

LONGEST = 300  # characters of a text from outside

TYPES = {
    "vote_req": "vote?",
    "pre_vote_req": "pre-vote?",
    "pre_vote_resp": "pre-vote",
    "vote_resp": "vote",
    "heartbeat": "heartbeat",
    "heartbeat_resp": "answer",
    "timeout_now": "your turn",
    "change_req": "change?",
    "change_resp": "change",
}
ASKS = ("vote_req", "pre_vote_req")
STOPS = {
    "killed": "is killed",
    "power": "loses its power",
    "removed": "is removed and stops",
    "failed": "fails",
}
_LOSSES = {
    "cut": "the link is cut",
    "loss": "the network lost it",
    "down": "nobody is there",
    "paused": "the receiver is paused",
    "operator": "it was dropped by hand",
    "expired": "it came too late",
}


def clean(text: Any, longest: int = LONGEST) -> str:
    """A text of one line without control characters, cut where it is too long."""
    words = "".join(each if each.isprintable() else " " for each in str(text)[: longest + 1])
    return words if len(words) <= longest else words[: longest - 1] + "…"


def describe(record: Record, before: Optional[Record] = None) -> str:
    """What happened, without the node that it happened to. `before`: the node's last state, to say what changed."""
    if record["k"] == "state":
        return _state(record, before)
    words = _WORDS.get(record["k"])
    return clean(words(record)) if words is not None else clean(record["k"])


class Narrator:
    """Goes through records and puts each into words; remembers what each node was, to say what has changed."""

    def __init__(self) -> None:
        self._states: Dict[str, Record] = {}

    def tell(self, record: Record) -> str:
        node = record["n"] or ""
        words = describe(record, self._states.get(node))
        if record["k"] == "state":
            self._states[node] = record
        elif record["k"] == "start":
            self._states.pop(node, None)
        return words


def role_words(record: Record) -> str:
    """A state in short: `follower of n2, term 4`."""
    role, leader = record["role"], record.get("leader")
    of = f" of {leader}" if role == "follower" and leader else ""
    return f"{role}{of}, term {record['term']}"


def loss_words(reason: str) -> str:
    return _LOSSES.get(reason, reason or "it was lost")


def verdict(record: Optional[Record]) -> str:
    """✓ for a message that brought what it asked for or a vote, ✗ for a refusal, else nothing."""
    if record is None:
        return ""
    granted = record.get("granted")
    if record["k"] == "send" and isinstance(granted, bool):
        return "✓" if granted else "✗"
    return {"granted": "✓", "refused": "✗"}.get(record.get("result", ""), "")


def pair_words(pair: List[str], both: bool) -> str:
    return f"{pair[0]} {'—' if both else '→'} {pair[1]}"


# --- One for each kind ------------------------------------------------------------------------------


def _state(record: Record, before: Optional[Record]) -> str:
    because = f": {record['why']}" if record.get("why") else ""
    votes = record.get("votes") or []
    if before is None or any(record.get(name) != before.get(name) for name in ("role", "term", "leader")):
        return clean(f"is {role_words(record)}{because}")
    if votes != (before.get("votes") or []):
        return clean(f"has {len(votes)} vote{'s' if len(votes) != 1 else ''}{because}")
    if record.get("vote") != before.get("vote"):
        return clean(f"votes for {record.get('vote') or 'nobody'}{because}")
    return clean(f"sets its timer{because}")


def _start(record: Record) -> str:
    process = f" as process {record['pid']}" if record.get("pid") else ""
    return ("starts" if record["inc"] == 1 else f"starts again (#{record['inc']})") + process


def _stop(record: Record) -> str:
    return STOPS.get(record.get("why", ""), "stops")


def _timer(record: Record) -> str:
    return f"{record['timer']} timer runs out"


def _send(record: Record) -> str:
    text, to = record.get("text"), record["to"]
    if not text:
        text = _SAYS.get(record["type"], lambda each: TYPES.get(each["type"], each["type"]))(record)
    return str(text) if to in str(text) else f"{text}, to {to}"


_SAYS: Dict[str, Callable[[Record], str]] = {
    "vote_req": lambda record: f"asks {record['to']} for its vote",
    "pre_vote_req": lambda record: f"asks {record['to']} whether it would vote for it",
    "vote_resp": lambda record: f"{'grants' if record.get('granted') else 'refuses'} {record['to']} its vote",
    "heartbeat": lambda record: f"tells {record['to']} that it leads",
    "heartbeat_resp": lambda record: f"answers {record['to']}",
    "timeout_now": lambda record: f"hands over to {record['to']}",
}


def _recv(record: Record) -> str:
    sender, result = record["from"], record.get("result", "")
    what = _WHAT.get(record.get("type", ""), "message")
    words = {
        "granted": f"grants {sender} its vote",
        "refused": f"refuses the {what} of {sender}",
        "counted": f"counts the {what} of {sender}",
        "noted": f"notes the refusal of {sender}",
        "ignored": f"ignores the {what} of {sender}",
        "accepted": f"hears the {what} of {sender}",
        "stepped down": f"steps down, at the {what} of {sender}",
    }.get(result, f"{result or 'receives'}: {what} of {sender}")
    return words + (f": {record['why']}" if record.get("why") else "")


_WHAT = {
    "vote_req": "request",
    "pre_vote_req": "pre-vote request",
    "pre_vote_resp": "pre-vote",
    "vote_resp": "vote",
    "heartbeat": "heartbeat",
    "heartbeat_resp": "answer",
    "timeout_now": "call to take over",
    "change_req": "request of a change",
    "change_resp": "answer to a change",
}


def _lost(record: Record) -> str:
    what = _WHAT.get(record.get("type", ""), "message")
    return f"never gets the {what} of {record['from']}: {loss_words(record.get('why', ''))}"


def fault_words(record: Record) -> str:
    """What somebody did to the cluster, with the node it was done to: `kill n3`, `cut n1 — n2`."""
    op, node = clean(record["op"], 40).replace("_", " "), record.get("n")
    if _is_ids(record, "a", "b"):
        op += " " + pair_words([record["a"], record["b"]], record.get("both") is not False)
    elif node is not None:
        op += f" {node}"
    groups = record.get("groups")
    if isinstance(groups, list) and groups and all(isinstance(group, list) for group in groups):
        op += " " + " | ".join(" ".join(clean(each, 130) for each in group[:20]) for group in groups[:20])
    if record.get("m") is not None:
        op += f" message {record['m']}"
    return clean(op + _arguments(record))


def _arguments(record: Record) -> str:
    found = []
    if _is_numbers(record.get("delay")):
        found.append(" to ".join(f"{each:g}" for each in record["delay"]) + " s")
    if _is_numbers([record.get("loss")]):
        found.append(f"{record['loss']:.0%}")
    if isinstance(record.get("nodes"), list):
        found.append(" ".join(clean(each, 130) for each in record["nodes"][:20]))
    if _is_numbers([record.get("scale")]):
        found.append(f"{record['scale']:g}")
    if isinstance(record.get("rules"), dict):
        found.append(", ".join(f"{clean(name, 40)} {clean(value, 40)}" for name, value in record["rules"].items()))
    return "".join(f" {each}" for each in found)


def _is_ids(record: Record, *names: str) -> bool:
    return all(isinstance(record.get(name), str) for name in names)


def _is_numbers(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(each, (int, float)) and not isinstance(each, bool) and abs(each) < 1e9 for each in value
    )


def _links(record: Record) -> str:
    cut = record["cut"]
    return f"{len(cut)} link{'s' if len(cut) != 1 else ''} cut" if cut else "every link works"


def _event(record: Record) -> str:
    token = f", token {record['token']}" if record.get("token") is not None else ""
    return {
        "elected": f"its program may lead{token}",
        "lost": f"its program no longer leads{token}",
        "leader": f"its program hears: {record.get('leader') or 'nobody'} leads",
    }.get(record["event"], f"its program hears: {record['event']}")


def _act(record: Record) -> str:
    result = "is accepted" if record["ok"] else "is refused"
    because = f": {record['why']}" if record.get("why") else ""
    token = f" with token {record['token']}" if record.get("token") is not None else ""
    return f"its write{token} {result}{because}"


def _check(record: Record) -> str:
    return f"{'✓' if record['ok'] else '✗'} {record['name']}" + (f": {record['why']}" if record.get("why") else "")


def _clock(record: Record) -> str:
    scale = f" {record['scale']:g}" if record["op"] == "scale" and record.get("scale") is not None else ""
    return f"the clock: {record['op']}{scale}"


def _end(record: Record) -> str:
    return "the recording ends" + (f"; {record['dropped']} records are missing" if record.get("dropped") else "")


_WORDS: Dict[str, Callable[[Record], str]] = {
    "start": _start,
    "stop": _stop,
    "pause": lambda record: "is frozen",
    "resume": lambda record: "goes on",
    "timer": _timer,
    "send": _send,
    "recv": _recv,
    "lost": _lost,
    "proof": lambda record: f"learns that the process of {record['of']} is gone",
    "fault": fault_words,
    "links": _links,
    "event": _event,
    "note": lambda record: str(record["text"]),
    "check": _check,
    "clock": _clock,
    "act": _act,
    "end": _end,
}
