"""How messages travel: `Node` is the seam; queues join threads, connections join processes and machines."""

from raftlite.nodes.base import Node
from raftlite.nodes.connection import ConnectionListener, ConnectionNode
from raftlite.nodes.queue import QueueNode

__all__ = ["ConnectionListener", "ConnectionNode", "Node", "QueueNode"]
