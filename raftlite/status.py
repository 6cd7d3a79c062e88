"""What a member knows at one moment, for the program, the command line and the log."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, Optional, Tuple

from raftlite.codec import membership_to_plain
from raftlite.election import Role
from raftlite.membership import Membership

LONGEST_REASON = 200  # characters: what a hundred members lack must fit into one answer


@dataclass(frozen=True)
class Status:
    """One member's view at one moment; a value that never changes, so it may be kept and compared.

    `role`, `current_term` and `membership` are what the member last knew, `leader_id` is who leads as far as it knows.
    A member that leads says for how long its lease holds (`lease_remaining`, in seconds). A follower cannot know that;
    it says how long ago it heard the leader (`leader_heard_ago`, in seconds). `unreachable` are the members that it
    cannot reach or, while it leads, does not hear, each with since when and why. Without a leader, `why` says what is
    missing. A member that has failed is `Role.STOPPED` and has the reason in `error`.

    The rest explains how it voted: `min_nodes` voters must be known before the first election, `answers` and
    `refusals` came to its last request for votes; `lease_expires_at` is on the clock of leases (None of an isolated
    member); `witnesses` are the voters that, as far as it knows, never lead.
    """

    node_id: str
    role: Role
    current_term: int
    leader_id: Optional[str]
    membership: Membership
    min_nodes: int
    lease_expires_at: Optional[float] = None
    answers: Tuple[str, ...] = ()  # voters that answered the last (pre-)vote, this member included
    refusals: Tuple[Tuple[str, str], ...] = ()  # voters that refused it, and why
    why: str = ""
    error: str = ""
    lease_remaining: Optional[float] = None  # None unless this member leads
    leader_heard_ago: Optional[float] = None  # None where nobody leads, or this member itself does
    unreachable: Tuple[Tuple[str, str], ...] = ()  # members, and since when and why they are not reached
    witnesses: Tuple[str, ...] = ()

    def to_plain(self) -> Dict[str, Any]:
        """The status as JSON data."""
        return {
            "node": self.node_id,
            "role": self.role.value,
            "term": self.current_term,
            "leader": self.leader_id,
            "membership": membership_to_plain(self.membership),
            "witnesses": list(self.witnesses),
            "why": self.why,
            "error": self.error,
            "lease_remaining": _rounded(self.lease_remaining),
            "leader_heard_ago": _rounded(self.leader_heard_ago),
            "unreachable": {node_id: words[:LONGEST_REASON] for node_id, words in self.unreachable},
        }


def _rounded(seconds: Optional[float]) -> Optional[float]:
    return None if seconds is None else round(seconds, 3)


def explain(status: Status, unreachable: Dict[str, str], resigned_for: float = 0.0) -> str:
    """Why there is no leader; empty if there is one.

    `unreachable` says of peers since when, in words; `resigned_for` are the seconds for which this member leaves the
    lead to the others.
    """
    if status.role is Role.STOPPED:
        return f"stopped: {status.error}" if status.error else "stopped"
    if status.leader_id is not None:
        return ""
    voters = status.membership.voters
    if status.node_id not in status.membership.ids:
        return f"{status.node_id} was removed from the cluster and waits to be added again"
    if status.node_id not in voters:
        return "an observer waits for the voters to elect a leader"
    if status.membership.term == 0 and len(voters) < status.min_nodes:
        return f"knows {len(voters)} of {status.min_nodes} nodes"
    resigned = f"it has resigned, and leaves the lead to others for {resigned_for:.1f} s more; " * (resigned_for > 0)
    return resigned + _explain_answers(status, unreachable)


def _explain_answers(status: Status, unreachable: Dict[str, str]) -> str:
    voters = sorted(status.membership.voters)
    missing = [f"{voter} is {unreachable[voter]}" for voter in voters if voter in unreachable]
    silent = [voter for voter in voters if voter not in status.answers and voter not in unreachable]
    if not status.answers or not (missing or silent or status.refusals):  # those were of an election that is over
        return "; ".join(["waits for a heartbeat or an election", *missing])
    parts = [f"{len(status.answers)} of {len(voters)} answer", *missing]
    parts += [f"{voter} does not answer" for voter in silent]
    parts += [f"{voter} refuses: {reason}" for voter, reason in status.refusals]
    return ", ".join(parts)
