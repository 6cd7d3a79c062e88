"""What a lab and the processes of its members say to each other, as JSON data. Nothing is ever unpickled."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Dict, Optional, Tuple

from raftlite import codec
from raftlite.election import Role
from raftlite.isolated.line import Content
from raftlite.lab.rules import SetTimer
from raftlite.messages import LeaderChanged, PeerDown, Resign, TransferLeadership
from raftlite.steps import Step

_CONTROLS: Dict[str, Any] = {kind.__name__: kind for kind in (PeerDown, Resign, SetTimer, TransferLeadership)}


def message_to_plain(message: Any) -> str:
    return codec.encode(message).decode("ascii")


def message_from_plain(text: str) -> Any:
    """Raises `MalformedMessage`."""
    return codec.decode(text.encode("utf-8"))


def control_to_plain(message: Any) -> Content:
    return {"kind": type(message).__name__, "fields": asdict(message)}


def control_from_plain(plain: Content) -> Any:
    return _CONTROLS[plain["kind"]](**plain["fields"])


def step_to_plain(step: Step, flight: Optional[Tuple[int, int]]) -> Content:
    """`flight` is the number and the copy of what brought the message; whoever sent it knows the message."""
    is_control = type(step.heard).__name__ in _CONTROLS
    return {
        "is": "step",
        "number": step.number,
        "at": step.at,
        "heard": control_to_plain(step.heard) if is_control else None,
        "flight": flight,
        "role": step.role.value,
        "term": step.current_term,
        "vote": step.voted_for,
        "votes": step.votes,
        "leader": step.leader_id,
        "deadline": step.deadline,
        "lease": step.lease_expires_at,
        "membership": codec.membership_to_plain(step.membership),
        "sent": [[receiver, message_to_plain(message)] for receiver, message in step.sent],
        "events": [[event.leader_id, event.term] for event in step.events if isinstance(event, LeaderChanged)],
    }


def step_from_plain(n: str, plain: Content, message: Any) -> Step:
    """The step of `n`; `message` is what its flight has brought."""
    heard = message if plain["heard"] is None else control_from_plain(plain["heard"])
    return Step(
        number=plain["number"],
        at=plain["at"],
        node_id=n,
        heard=heard,
        role=Role(plain["role"]),
        current_term=plain["term"],
        voted_for=plain["vote"],
        votes=tuple(plain["votes"]),
        leader_id=plain["leader"],
        deadline=plain["deadline"],
        lease_expires_at=plain["lease"],
        membership=codec.membership_from_plain(plain["membership"]),
        sent=tuple((receiver, message_from_plain(text)) for receiver, text in plain["sent"]),
        events=tuple(LeaderChanged(leader, term) for leader, term in plain["events"]),
    )
