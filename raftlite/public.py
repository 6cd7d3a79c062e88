"""The public names of raftlite, each with the module that it comes from; `raftlite` itself hands them out."""

from raftlite.election import Election, Ready, Role, Saved
from raftlite.errors import (
    ConfigError,
    ForkedError,
    LeadershipLost,
    MalformedMessage,
    MembershipError,
    MemberStopped,
    NotLeader,
    RaftliteError,
    StaleToken,
    StorageError,
    StorageInUse,
)
from raftlite.fencing import FencingGate, SQLiteFencingGate
from raftlite.leadership import Leadership
from raftlite.member import Member
from raftlite.membership import Membership, NodeInfo
from raftlite.messages import (
    AddNode,
    ChangeRefused,
    ConfirmLeadership,
    Heartbeat,
    HeartbeatResponse,
    LeaderChanged,
    LeadershipConfirmed,
    MembershipChanged,
    PeerDown,
    PeerUp,
    Removed,
    RemoveNode,
    RequestVote,
    RequestVoteResponse,
    Resign,
    Stop,
    TimeoutNow,
    TransferLeadership,
)
from raftlite.nodes import ConnectionListener, ConnectionNode, Node, QueueNode
from raftlite.nodes.secure import tls_context
from raftlite.status import Status
from raftlite.steps import Step
from raftlite.storage import MemoryStorage, SQLiteStorage, Storage
from raftlite.thread import ElectionThread
from raftlite.timing import Timing

__all__ = [
    "AddNode",
    "ChangeRefused",
    "ConfigError",
    "ConfirmLeadership",
    "ConnectionListener",
    "ConnectionNode",
    "Election",
    "ElectionThread",
    "FencingGate",
    "ForkedError",
    "Heartbeat",
    "HeartbeatResponse",
    "LeaderChanged",
    "Leadership",
    "LeadershipConfirmed",
    "LeadershipLost",
    "MalformedMessage",
    "Member",
    "MemberStopped",
    "Membership",
    "MembershipChanged",
    "MembershipError",
    "MemoryStorage",
    "Node",
    "NodeInfo",
    "NotLeader",
    "PeerDown",
    "PeerUp",
    "QueueNode",
    "RaftliteError",
    "Ready",
    "RemoveNode",
    "Removed",
    "RequestVote",
    "RequestVoteResponse",
    "Resign",
    "Role",
    "SQLiteFencingGate",
    "SQLiteStorage",
    "Saved",
    "StaleToken",
    "Status",
    "Step",
    "Stop",
    "Storage",
    "StorageError",
    "StorageInUse",
    "TimeoutNow",
    "Timing",
    "TransferLeadership",
    "tls_context",
]
