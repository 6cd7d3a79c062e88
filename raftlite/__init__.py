"""raftlite elects one leader among the threads, processes or machines of a synchronous program."""

from raftlite.election import Election, Ready, Role, Saved
from raftlite.errors import (
    ConfigError,
    ForkedError,
    LeadershipLost,
    MalformedMessage,
    MemberStopped,
    NotLeader,
    RaftliteError,
    StorageError,
)
