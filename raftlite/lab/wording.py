"""What a member has done, in words: why it changed, and what became of the message that it heard.

Everything here is read off two steps of that member, the one before and the one after. Nothing is guessed.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple, Type

from raftlite.election import Role
from raftlite.lab.rules import SetTimer
from raftlite.messages import (
    ChangeRequest,
    ChangeResponse,
    Heartbeat,
    HeartbeatResponse,
    LeaderChanged,
    PeerDown,
    RequestVote,
    RequestVoteResponse,
    Resign,
    TimeoutNow,
    TransferLeadership,
)
from raftlite.steps import Step

CANDIDATES = (Role.CANDIDATE, Role.PRE_CANDIDATE)


class Result(NamedTuple):
    """What became of a message."""

    result: str
    why: str = ""


# --- Messages -------------------------------------------------------------------------------------

_TYPES: Dict[Type[Any], str] = {
    Heartbeat: "heartbeat",
    HeartbeatResponse: "heartbeat_resp",
    TimeoutNow: "timeout_now",
    ChangeRequest: "change_req",
    ChangeResponse: "change_resp",
}


def type_of(message: Any) -> str:
    """The `type` of a message in the trace."""
    if isinstance(message, RequestVote):
        return "pre_vote_req" if message.pre_vote else "vote_req"
    if isinstance(message, RequestVoteResponse):
        return "pre_vote_resp" if message.pre_vote else "vote_resp"
    return _TYPES[type(message)]


def details_of(message: Any) -> Dict[str, Any]:
    """What else a `send` record says of a message of this type."""
    if isinstance(message, (Heartbeat, HeartbeatResponse)):
        return {"round": message.round}
    if isinstance(message, RequestVoteResponse):
        return {"granted": message.vote_granted, **({} if message.vote_granted else {"why": message.reason})}
    return {}


def text_of(to: str, message: Any) -> str:
    """A few words for the arrow from its sender to `to`."""
    if isinstance(message, RequestVote):
        return f"asks {to} whether it would vote" if message.pre_vote else f"asks {to} for its vote"
    if isinstance(message, RequestVoteResponse):
        yes, no = ("would vote", "would not vote") if message.pre_vote else ("votes", "refuses its vote")
        return f"{yes if message.vote_granted else no} for {to}" if message.pre_vote or message.vote_granted else no
    if isinstance(message, Heartbeat):
        return f"heartbeat {message.round}"
    if isinstance(message, HeartbeatResponse):
        return f"answers heartbeat {message.round}"
    if isinstance(message, TimeoutNow):
        return f"asks {to} to take over"
    return f"asks {to} to {message.action}" if isinstance(message, ChangeRequest) else f"{message.outcome}"


# --- Why a member is as it is ---------------------------------------------------------------------


def cause_of(before: Optional[Step], step: Step) -> str:
    """Why `step` has changed the member."""
    if before is None:
        return "started"
    if lease_ran_out(before, step):
        return "its lease ran out: no majority answered"
    heard: Any = step.heard
    if heard is None:
        return _cause_of_timer(before, step)
    cause = _CAUSES.get(type(heard))
    return cause(before, step, heard) if cause is not None else f"heard {type(heard).__name__}"


def lease_ran_out(before: Optional[Step], step: Step) -> bool:
    """Whether the member has ceased to lead because its time was over, not because of what it heard."""
    if before is None or before.role is not Role.LEADER or step.role is Role.LEADER:
        return False
    lease = before.lease_expires_at
    return step.heard is None or (lease is not None and lease <= step.at and step.current_term == before.current_term)


def _cause_of_timer(before: Step, step: Step) -> str:
    if before.role is Role.LEADER:
        rounds = [message.round for _, message in step.sent if isinstance(message, Heartbeat)]
        return f"sends heartbeat {rounds[0]}" if rounds else "heartbeat due"
    if step.role not in (*CANDIDATES, Role.LEADER):
        return "election timer ran out, but it abstains: it may have forgotten a vote"
    return "election timer ran out"


def _newer_term(before: Step, step: Step, heard: Any) -> str:
    return f"term {step.current_term} in a message of {heard.sender_id}" if _term_grew(before, step) else ""


def _term_grew(before: Step, step: Step) -> bool:
    return step.current_term > before.current_term


def _cause_request(before: Step, step: Step, request: RequestVote) -> str:
    if not request.pre_vote and step.voted_for == request.sender_id and step.current_term == request.term:
        return f"vote granted to {request.sender_id}"
    return _newer_term(before, step, request) or f"request of {request.sender_id}"


def _cause_response(before: Step, step: Step, response: RequestVoteResponse) -> str:
    voters = len(step.membership.voters)
    if step.role is Role.LEADER and before.role is not Role.LEADER:
        return f"elected with {len(step.votes)} of {voters} votes"
    if step.role is Role.CANDIDATE and before.role is Role.PRE_CANDIDATE:
        return f"{len({*before.votes, response.sender_id})} of {voters} would vote for it"
    if len(step.votes) > len(before.votes):
        return f"{response.sender_id} would vote for it" if response.pre_vote else f"vote of {response.sender_id}"
    if step.membership != before.membership:
        return f"learns from {response.sender_id} who belongs to the cluster"
    return _newer_term(before, step, response) or f"answer of {response.sender_id}"


def _cause_heartbeat(before: Step, step: Step, heartbeat: Heartbeat) -> str:
    return f"heartbeat of {heartbeat.sender_id}"


def _cause_heartbeat_response(before: Step, step: Step, response: HeartbeatResponse) -> str:
    if before.lease_expires_at is None and step.lease_expires_at is not None:
        return "a majority has answered: its lease begins"
    return _newer_term(before, step, response) or f"answer of {response.sender_id} prolongs its lease"


def _cause_timeout_now(before: Step, step: Step, request: TimeoutNow) -> str:
    if step.role in (*CANDIDATES, Role.LEADER):
        return f"asked by {request.sender_id} to take over"
    return _newer_term(before, step, request) or f"{request.sender_id} has handed over"


_CAUSES: Dict[Type[Any], Callable[[Step, Step, Any], str]] = {
    RequestVote: _cause_request,
    RequestVoteResponse: _cause_response,
    Heartbeat: _cause_heartbeat,
    HeartbeatResponse: _cause_heartbeat_response,
    TimeoutNow: _cause_timeout_now,
    PeerDown: lambda before, step, proof: f"the process of {proof.node_id} is gone",
    SetTimer: lambda before, step, timer: str(timer.why),
    Resign: lambda before, step, request: "resigned",
    TransferLeadership: lambda before, step, request: "hands over",
}


# --- What became of a message ---------------------------------------------------------------------


def result_of(before: Step, step: Step) -> Result:
    """What `step`, which heard a message of another member, has made of it."""
    heard: Any = step.heard
    if step.role is Role.STOPPED:
        return Result("ignored", f"{step.node_id} has stopped")
    judge = _JUDGES.get(type(heard))
    return judge(before, step, heard) if judge is not None else Result("accepted" if step.sent else "ignored")


def _answer(step: Step, kind: Type[Any], heard: Any) -> Any:
    """What the member has sent back, or None."""
    answers = [message for to, message in step.sent if to == heard.sender_id and isinstance(message, kind)]
    return answers[0] if answers else None


def _judge_request(before: Step, step: Step, request: RequestVote) -> Result:
    answer = _answer(step, RequestVoteResponse, request)
    if answer is None:
        return Result("ignored")
    if not answer.vote_granted:
        return Result("refused", answer.reason)
    if request.pre_vote:
        return Result("granted", f"it would vote for {request.sender_id} in term {request.term}")
    again = before.current_term == request.term and before.voted_for == request.sender_id
    return Result("granted", f"it has voted for {request.sender_id} already" if again else _first(request))


def _first(request: RequestVote) -> str:
    return f"first request seen in term {request.term}"


def _judge_response(before: Step, step: Step, response: RequestVoteResponse) -> Result:
    if _term_grew(before, step) and not response.vote_granted:
        return _stepped_down(before, step, response)
    if not response.vote_granted:
        return Result("noted", response.reason)
    won = before.role in CANDIDATES and step.role in (Role.CANDIDATE, Role.LEADER) and step.role is not before.role
    if won or len(step.votes) > len(before.votes):
        share = f"{len({*before.votes, response.sender_id})} of {len(step.membership.voters)}"
        return Result("counted", f"{share} would vote for it" if response.pre_vote else f"{share} votes")
    return Result("ignored", _too_late(before, response))


def _too_late(before: Step, response: RequestVoteResponse) -> str:
    wanted = Role.PRE_CANDIDATE if response.pre_vote else Role.CANDIDATE
    if before.role is Role.FOLLOWER:
        return f"{before.node_id} is no candidate any more"
    if before.role is not wanted:
        return f"{before.node_id} is {before.role.value} already"
    if response.sender_id in before.votes:
        return "counted before"
    return f"an answer of term {response.term}, this is term {before.current_term}"


def _judge_heartbeat(before: Step, step: Step, heartbeat: Heartbeat) -> Result:
    answer = _answer(step, HeartbeatResponse, heartbeat)
    if answer is None:
        return Result("ignored", f"{heartbeat.sender_id} is no leader that {step.node_id} knows")
    if heartbeat.term < step.current_term:
        return Result("refused", f"term {heartbeat.term} is over, this is term {step.current_term}")
    if before.role in (*CANDIDATES, Role.LEADER):
        return _stepped_down(before, step, heartbeat)
    return Result("accepted", f"{heartbeat.sender_id} leads in term {heartbeat.term}")


def _judge_heartbeat_response(before: Step, step: Step, response: HeartbeatResponse) -> Result:
    if _term_grew(before, step):
        return _stepped_down(before, step, response)
    if before.role is not Role.LEADER or step.role is not Role.LEADER:
        return Result("ignored", f"{step.node_id} does not lead any more")
    if response.term != step.current_term:
        return Result("ignored", f"an answer of term {response.term}, this is term {step.current_term}")
    return Result("counted", f"{response.sender_id} follows in term {response.term}")


def _judge_timeout_now(before: Step, step: Step, request: TimeoutNow) -> Result:
    if step.role in (*CANDIDATES, Role.LEADER) and step.current_term > request.term:
        return Result("accepted", f"{request.sender_id} hands over")
    if _answer(step, TimeoutNow, request) is not None:
        return Result("refused", f"{step.node_id} may not campaign now")
    return Result("ignored", f"of term {request.term}, this is term {step.current_term}")


def _stepped_down(before: Step, step: Step, heard: Any) -> Result:
    why = (
        f"{heard.sender_id} is in term {step.current_term}"
        if _term_grew(before, step)
        else (f"{heard.sender_id} leads in term {step.current_term}")
    )
    return Result("noted" if before.role is Role.FOLLOWER else "stepped down", why)


_JUDGES: Dict[Type[Any], Callable[[Step, Step, Any], Result]] = {
    RequestVote: _judge_request,
    RequestVoteResponse: _judge_response,
    Heartbeat: _judge_heartbeat,
    HeartbeatResponse: _judge_heartbeat_response,
    TimeoutNow: _judge_timeout_now,
}


def timer_of(before: Optional[Step], step: Step) -> Optional[str]:
    """Which timer ran out in `step`, or None."""
    if before is None:
        return None
    if lease_ran_out(before, step):
        return "lease"
    if step.heard is not None:
        return None
    return "heartbeat" if before.role is Role.LEADER else "election"


def events_of(node_id: str, holds: Optional[int], step: Step) -> Tuple[Tuple[str, Optional[str], int], ...]:
    """What the program hears: kind, leader and token. `holds` is the token of the grant that it held before."""
    found: List[Tuple[str, Optional[str], int]] = []
    for event in step.events:
        if isinstance(event, LeaderChanged):
            if holds is not None:
                found.append(("lost", event.leader_id, holds))
                holds = None
            if event.leader_id == node_id:
                found.append(("elected", node_id, event.term))
                holds = event.term
            else:
                found.append(("leader", event.leader_id, event.term))
    return tuple(found)
