"""The handles by which a member sends to its peers: made, kept, told of trouble once, and closed.

Only the election thread calls these, except where it says otherwise. A `Node` may be of the user's making: whatever it
raises is logged, and neither ends the election nor keeps it from ending.
"""

from __future__ import annotations

import logging
import threading
from typing import Callable, Dict, FrozenSet, Iterable, List, Optional

from raftlite.membership import Membership, NodeInfo
from raftlite.messages import Message
from raftlite.nodes.base import Node

logger = logging.getLogger(__name__)

MOST_STRANGERS = 16  # handles on those that are no members

NodeFactory = Callable[[NodeInfo], Optional[Node]]


class Handles:
    """One `Node` for each peer of the member `node_id`; `factory` makes those that were not given."""

    def __init__(self, node_id: str, nodes: Iterable[Node], factory: Optional[NodeFactory]) -> None:
        self.sent = 0  # messages
        self._node_id = node_id
        self._factory = factory
        self._nodes = {node.node_id: node for node in nodes if node.node_id != node_id}
        self._left: FrozenSet[str] = frozenset()  # members that were removed, and may not have learnt it yet
        self._strangers: List[str] = []  # no members, but answered; in the order of their coming
        self._dropped = 0  # messages, of nodes that are closed or raised
        self._troubled: Dict[str, str] = {}  # peers whose handle raised, so that it is logged once
        self._closers: List[threading.Thread] = []
        self._unclosed: List[Node] = []  # for want of a thread

    # --- Any thread -------------------------------------------------------------------------------

    @property
    def ids(self) -> List[str]:
        """The peers that there is a handle on."""
        return list(self._nodes)

    @property
    def dropped(self) -> int:
        """How many messages were not sent."""
        return self._dropped + sum(node.dropped for node in list(self._nodes.values()))

    @property
    def trouble(self) -> Dict[str, str]:
        """Which peers cannot be reached, and since when and why, in words."""
        return {node_id: node.trouble for node_id, node in list(self._nodes.items()) if node.trouble}

    def __contains__(self, node_id: str) -> bool:
        return node_id in self._nodes

    def __getitem__(self, node_id: str) -> Node:
        return self._nodes[node_id]

    # --- The election thread ----------------------------------------------------------------------

    def send(self, node_id: str, message: Message) -> None:
        node = self._nodes.get(node_id) or self._make_for_stranger(node_id)
        if node is None:
            return  # known by name only: AddNode may bring its handle
        try:
            node.send_message(message)
            self.sent += 1
        except Exception as error:
            self._dropped += 1
            self._log_trouble(node_id, error, f"sending to {node!r} failed")

    def keep(self, node: Node) -> None:
        """Send over `node` from now on, and close the handle that it replaces."""
        if node.node_id == self._node_id:
            return
        former = self._nodes.get(node.node_id)
        self._nodes[node.node_id] = node
        self._strangers = [stranger for stranger in self._strangers if stranger != node.node_id]
        if former is not None and former is not node:
            self._part_from(former)

    def adopt(self, before: Membership, after: Membership) -> None:
        """Make handles for members that have none or another address than before."""
        for info in after.nodes:
            if info.node_id != self._node_id and self._is_needed(info, before):
                self._make(info)
        self._left = (self._left | before.ids) - after.ids
        self._strangers = [stranger for stranger in self._strangers if stranger not in after.ids]

    def close_departed(self, departing: Iterable[str]) -> FrozenSet[str]:
        """Close the handles of members that were removed and have learnt it, as all but `departing` have."""
        if not self._left:
            return self._left
        learnt_it = self._left - frozenset(departing)
        self._left -= learnt_it
        for node_id in learnt_it:
            node = self._nodes.pop(node_id, None)
            if node is not None:
                self._part_from(node)
        return learnt_it

    def close(self) -> None:
        """Close them all, side by side: many peers that are cut off take no longer than one."""
        for node in list(self._nodes.values()):
            self._close_aside(node)
        for node in self._unclosed:
            self._close(node)
        for closer in self._closers:
            closer.join()

    def _is_needed(self, info: NodeInfo, before: Membership) -> bool:
        if info.node_id not in self._nodes:
            return True
        known = before.get(info.node_id)
        # Where others spell the addresses of the founding list differently, this program's own list counts.
        may_have_moved = known is None or (before.term > 0 and known.address != info.address)
        return may_have_moved and info.address not in (None, getattr(self._nodes[info.node_id], "address", None))

    def _make_for_stranger(self, node_id: str) -> Optional[Node]:
        """Each holds a thread that dials, and whoever comes under ever new ids would leave one behind each time."""
        node = self._make(NodeInfo(node_id))
        if node is not None:
            self._strangers.append(node_id)
        if len(self._strangers) > MOST_STRANGERS:
            self._part_from(self._nodes.pop(self._strangers.pop(0)))
        return node

    def _make(self, info: NodeInfo) -> Optional[Node]:
        if self._factory is None:
            return None
        try:
            node = self._factory(info)
        except Exception as error:  # what another member said of it may mean nothing here
            self._log_trouble(info.node_id, error, f"making a handle for {info} failed")
            return None
        if node is not None:
            self.keep(node)
        return node

    def _part_from(self, node: Node) -> None:
        self._dropped += node.dropped
        self._closers = [closer for closer in self._closers if closer.is_alive()]
        self._close_aside(node)

    def _close_aside(self, node: Node) -> None:
        """On another thread: it may wait for a connection that hangs."""
        if getattr(node.close, "__func__", None) is Node.close:
            return  # it holds nothing, and a hundred members of one process have ten thousand such handles
        name = f"raftlite-{self._node_id}-closes-{node.node_id}"
        closer = threading.Thread(target=self._close, args=(node,), name=name, daemon=True)
        try:
            closer.start()
        except RuntimeError:  # no more threads can be had; `close` does it
            self._unclosed.append(node)
        else:
            self._closers.append(closer)

    def _close(self, node: Node) -> None:
        try:
            node.close()
        except Exception:  # the node may be of the user's own making
            logger.exception("%s: closing %r failed", self._node_id, node)

    def _log_trouble(self, node_id: str, error: Exception, what: str) -> None:
        if self._troubled.get(node_id) != repr(error):
            self._troubled[node_id] = repr(error)
            logger.error("%s: %s", self._node_id, what, exc_info=error)
