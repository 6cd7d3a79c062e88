"""`Node`: the handle by which a member sends to one peer. Write your own, and the transport is yours."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Optional

from raftlite.membership import check_node_id
from raftlite.messages import Message


class Node(ABC):
    """A handle on one peer. The transport's other half puts what arrives for this member into its inbox.

    A transport may lose, delay, repeat and reorder messages: elections stay safe. It must not alter them or say
    that a message comes from a sender that it does not come from.
    """

    voter = True
    address: Optional[str] = None  # where other processes reach the peer, if it can be named to them
    trouble = ""  # why the peer cannot be reached, in words that follow "b is", as in "unreachable since 12 s"
    dropped = 0  # messages that were not sent, as far as the handle knows

    def __init__(self, node_id: str) -> None:
        check_node_id(node_id)
        self.node_id = node_id

    @abstractmethod
    def send_message(self, message: Message) -> None:
        """Send `message` or drop it. Runs on the election thread: it must return at once and never raise."""

    def close(self) -> None:
        """Give back what the handle holds. Called once, when the member stops or the peer is removed.

        Runs on a thread of its own, beside the closing of other handles: it may wait for a peer.
        """

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.node_id!r})"
