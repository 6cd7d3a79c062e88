"""What members say to each other, what a program says to its own member, and what it hears back.

Wire messages carry the sender's `term` and `sender_id` (the paper's candidateId or leaderId). Control messages come
from this member's own program or transport; they have no form on the wire, so no network can bring them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Optional, Tuple, Union

from raftlite.membership import Membership, MembershipVersion, NodeInfo

# --- Wire messages --------------------------------------------------------------------------------


@dataclass(frozen=True)
class RequestVote:
    """A candidate asks for a vote (Figure 2). With `pre_vote` it only asks whether it *would* get one (thesis 9.6).

    The log of the paper is replaced by the membership: a voter judges how new the candidate's is. `transfer` says
    that the leader itself asked for this election (thesis 3.10). `term` is the term in which the candidate wants to
    lead, for a pre-vote one above its own.
    """

    term: int
    sender_id: str
    membership_version: MembershipVersion
    member_ids: Tuple[str, ...]
    pre_vote: bool = False
    transfer: bool = False


@dataclass(frozen=True)
class RequestVoteResponse:
    """A voter's answer. A refusal says why, and brings the newer membership to a candidate that lacks it."""

    term: int
    sender_id: str
    vote_granted: bool
    pre_vote: bool = False
    reason: str = ""
    membership: Optional[Membership] = None


@dataclass(frozen=True)
class Heartbeat:
    """AppendEntries without entries (Figure 2). Rounds are numbered, so that a late answer cannot extend a lease."""

    term: int
    sender_id: str
    round: int
    membership_version: MembershipVersion
    membership: Optional[Membership] = None


@dataclass(frozen=True)
class HeartbeatResponse:
    """A member's answer to one round. For `promise` seconds from here on it refuses its vote to anyone else."""

    term: int
    sender_id: str
    round: int
    membership_version: MembershipVersion
    promise: float


@dataclass(frozen=True)
class TimeoutNow:
    """A leader that has given up its role asks its successor to start an election at once (thesis 3.10).

    A successor that may not campaign hands it back.
    """

    term: int
    sender_id: str


@dataclass(frozen=True)
class ChangeRequest:
    """A member passes on to the leader what its own program asked for: `action` is "add", "remove" or "transfer"."""

    term: int
    sender_id: str
    number: int
    action: str
    node: Optional[NodeInfo] = None


@dataclass(frozen=True)
class ChangeResponse:
    """The leader's answer: `outcome` is "done", "refused", or "again" where the next leader must be asked."""

    term: int
    sender_id: str
    number: int
    outcome: str
    reason: str = ""
    membership: Optional[Membership] = None


Message = Union[
    RequestVote, RequestVoteResponse, Heartbeat, HeartbeatResponse, TimeoutNow, ChangeRequest, ChangeResponse
]

# --- Control messages -----------------------------------------------------------------------------


@dataclass(frozen=True)
class AddNode:
    """Add `node` (a `Node`), or tell an existing member's new handle."""

    node: Any


@dataclass(frozen=True)
class RemoveNode:
    """Remove the node with this id."""

    node_id: str


@dataclass(frozen=True)
class TransferLeadership:
    """Hand leadership to the voter `to`, or to the one heard from last. The member stays and may lead again."""

    to: Optional[str] = None


@dataclass(frozen=True)
class Resign:
    """Give leadership up, to the voter heard from last where there is one, and let the others campaign first.

    With a `term`, only the leadership of that term: a later one is left alone.
    """

    term: Optional[int] = None


@dataclass(frozen=True)
class ConfirmLeadership:
    """Ask the voters whether this member still leads; the answer is an event (thesis 6.4)."""


@dataclass(frozen=True)
class PeerUp:
    """This member and `node_id`, whose process may be new, have reached each other. The transport says so.

    `round_trip` is how long a message and its answer take, in seconds, as far as is known.
    """

    node_id: str
    round_trip: float = 0.0


@dataclass(frozen=True)
class PeerDown:
    """The transport has *proof* that the process of `node_id` is gone. A broken connection is no proof.

    `round_trip` is how long it took to get it, in seconds: what a vote takes there and back, as far as is known.
    """

    node_id: str
    round_trip: float = 0.0


@dataclass(frozen=True)
class Stop:
    """Take no further part. A leader hands over first."""


ControlMessage = Union[AddNode, RemoveNode, TransferLeadership, Resign, ConfirmLeadership, PeerUp, PeerDown, Stop]

# --- Events ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LeaderChanged:
    """`leader_id` leads in `term`; with None, this member knows of no leader any more."""

    leader_id: Optional[str]
    term: int


@dataclass(frozen=True)
class MembershipChanged:
    """A follower now acts on `membership`; a leader, and whoever asked, knows it to be committed.

    With `control_message`, this is the answer to it: the change outlives any leader. Before the cluster's first term it
    is this member's own list that has changed, and that of nobody else.
    """

    membership: Membership
    control_message: Optional[ControlMessage] = field(default=None, compare=False)


@dataclass(frozen=True)
class ChangeRefused:
    """A control message was not carried out, for this reason."""

    control_message: ControlMessage
    reason: str


@dataclass(frozen=True)
class LeadershipConfirmed:
    """A majority has answered a heartbeat that the leader of `term` sent after it was asked to confirm."""

    term: int
    control_message: ControlMessage = field(default_factory=ConfirmLeadership, compare=False)


@dataclass(frozen=True)
class Removed:
    """The cluster has removed this member. It has stopped."""


Event = Union[LeaderChanged, MembershipChanged, ChangeRefused, LeadershipConfirmed, Removed]
