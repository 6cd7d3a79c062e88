"""`QueueNode`: members that are threads of one process."""

from __future__ import annotations

import queue
from typing import Any

from raftlite.messages import Message
from raftlite.nodes.base import Node


class QueueNode(Node):
    """Puts the message itself into another thread's inbox; what does not fit into a bounded inbox is lost."""

    def __init__(self, node_id: str, inbox: queue.Queue[Any], *, voter: bool = True) -> None:
        super().__init__(node_id)
        self.inbox = inbox
        self.voter = voter

    def send_message(self, message: Message) -> None:
        try:
            self.inbox.put_nowait(message)
        except queue.Full:  # the next heartbeat, or the next election, makes up for it
            self.dropped += 1
