"""How messages travel: `Node` is the seam; queues join threads, connections join processes and machines."""

from raftlite.nodes.base import Node
from raftlite.nodes.connection import ConnectionNode
from raftlite.nodes.listener import ConnectionListener
from raftlite.nodes.queue import QueueNode

__all__ = ["ConnectionListener", "ConnectionNode", "Node", "QueueNode"]
