"""What a caller may catch. Every wait that runs out of time raises the builtin `TimeoutError` instead."""

from __future__ import annotations

from typing import Any, Tuple


class RaftliteError(Exception):
    """The base of every error that raftlite raises on its own account."""


class ConfigError(RaftliteError, ValueError):
    """A setting or an argument is out of range; the message names it, its value and the bound."""


class NotLeader(RaftliteError):
    """The call needs this member to lead, and it does not."""


class LeadershipLost(RaftliteError):
    """`Leadership.check()` found that this grant of leadership is over."""


class StaleToken(RaftliteError):
    """A write came with a token older than the newest that its resource has seen: somebody else has led since."""

    def __init__(self, resource: str, token: int, newest: int) -> None:
        super().__init__(
            f"{resource} refuses token {token}: it has seen token {newest}, so another member has led since"
        )
        self.resource = resource
        self.token = token
        self.newest = newest

    def __reduce__(self) -> Tuple[Any, ...]:
        return type(self), (self.resource, self.token, self.newest)


class MembershipError(RaftliteError):
    """The cluster did not change its membership as it was asked to; the message says why."""


class MemberStopped(RaftliteError, RuntimeError):
    """The member is not running; where a failure stopped it, that failure is the `__cause__`."""


class ForkedError(RaftliteError, RuntimeError):
    """A member was used in a fork of the process that started it. A daemon starts it after its forks; a worker needs
    a member of its own, under an id of its own."""


class StorageError(RaftliteError, OSError):
    """Votes cannot be read or saved: the file is damaged, foreign, in use by another process, or its disk failed."""


class StorageInUse(StorageError):
    """Another process, or another member of this one, holds the lock on the votes; it may be free a moment later."""


class MalformedMessage(RaftliteError, ValueError):
    """Bytes that are not a raftlite message. The connection they came from is closed."""
