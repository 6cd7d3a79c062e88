"""Who belongs to the cluster: a versioned set of nodes, and which version is newer."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import AbstractSet, Any, Collection, FrozenSet, Iterable, List, Mapping, Optional, Tuple, TypeVar

from raftlite.errors import ConfigError

MembershipVersion = Tuple[int, int]
"""`(term, version)`, compared in this order: a leader's first change is newer than anything of the terms before."""

LONGEST_ID = 128
LONGEST_ADDRESS = 300
MOST_BYTES = 60_000  # of a membership in a message, which has its own limit

_Node = TypeVar("_Node")


@dataclass(frozen=True)
class NodeInfo:
    """One entry of a membership: an id, whether it votes, and the address under which other processes reach it."""

    node_id: str
    voter: bool = True
    address: Optional[str] = None

    def __post_init__(self) -> None:
        check_node_id(self.node_id)
        if not isinstance(self.voter, bool):
            raise ConfigError(f"voter is {self.voter!r}, but must be True or False")
        if self.address is not None:
            check_address(self.address)

    @property
    def most_bytes(self) -> int:
        """How many bytes it takes in a message at most."""
        return 40 + sum(1 if char.isascii() else 12 for char in self.node_id + (self.address or ""))

    @classmethod
    def of(cls, node: Any) -> NodeInfo:
        """Describe `node`: a `NodeInfo`, an id, or a `Node` (anything that has a `node_id`)."""
        if isinstance(node, cls):
            return node
        if isinstance(node, str):
            return cls(node)
        if not hasattr(node, "node_id"):
            raise ConfigError(f"{node!r} is no node: give an id, a NodeInfo or a Node")
        address = getattr(node, "address", None)  # of whatever kind a transport of the user's likes
        return cls(node.node_id, getattr(node, "voter", True), address if isinstance(address, str) else None)


@dataclass(frozen=True)
class Membership:
    """The nodes of one version, ordered by id. `term` is 0 until a first leader stamps it with its own."""

    term: int
    version: int
    nodes: Tuple[NodeInfo, ...]
    # Derived once from the fields above, because every message asks for them.
    position: MembershipVersion = field(init=False, repr=False, compare=False)
    ids: FrozenSet[str] = field(init=False, repr=False, compare=False)
    voters: FrozenSet[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        nodes = tuple(sorted((NodeInfo.of(node) for node in self.nodes), key=lambda node: node.node_id))
        for earlier, later in zip(nodes, nodes[1:]):
            if earlier.node_id == later.node_id:
                raise ConfigError(f"node id {later.node_id!r} is given twice, but must be unique in a cluster")
        object.__setattr__(self, "nodes", nodes)
        object.__setattr__(self, "position", (self.term, self.version))
        object.__setattr__(self, "ids", frozenset(node.node_id for node in nodes))
        object.__setattr__(self, "voters", frozenset(node.node_id for node in nodes if node.voter))

    @property
    def quorum(self) -> int:
        """How many voters are a majority."""
        return len(self.voters) // 2 + 1

    def get(self, node_id: str) -> Optional[NodeInfo]:
        """The entry of `node_id`, or None."""
        return next((node for node in self.nodes if node.node_id == node_id), None)

    def with_node(self, node: NodeInfo) -> Tuple[NodeInfo, ...]:
        """The nodes with `node` added, or put in the place of the one with its id."""
        return tuple(sorted((*self.without(node.node_id), node), key=lambda entry: entry.node_id))

    def without(self, node_id: str) -> Tuple[NodeInfo, ...]:
        """The nodes but for `node_id`."""
        return tuple(node for node in self.nodes if node.node_id != node_id)

    def stamped(self, term: int) -> Membership:
        """The same version and nodes under a new leader's `term` (section 3.1 of the logless protocol)."""
        return replace(self, term=term)

    def changed(self, nodes: Iterable[NodeInfo]) -> Membership:
        """The next version of the same term."""
        return Membership(self.term, self.version + 1, tuple(nodes))

    def __str__(self) -> str:
        names = ", ".join(node.node_id if node.voter else f"{node.node_id} (observer)" for node in self.nodes)
        return f"{names} [{self.term}.{self.version}]"


def founding_membership(node_id: str, nodes: Iterable[Any]) -> Membership:
    """The membership of a node that has not heard of any leader yet: itself and the nodes it was given.

    Raises `ConfigError` for an id that is empty, too long or given twice.
    """
    others = tuple(NodeInfo.of(node) for node in check_nodes(nodes))
    itself = () if any(node.node_id == node_id for node in others) else (NodeInfo(node_id),)
    return Membership(0, 1, itself + others)


def check_nodes(nodes: Iterable[_Node]) -> List[_Node]:
    """Return `nodes` as a list; raise `ConfigError` for what is none, such as the mapping that `Member.peers` is."""
    if isinstance(nodes, Mapping) or not isinstance(nodes, Iterable):
        raise ConfigError(f"nodes is {nodes!s:.60}, but must be several nodes: Node, NodeInfo or id")
    return list(nodes)


def check_node_id(node_id: object) -> None:
    """Raise `ConfigError` unless `node_id` is a printable string of 1 to 128 characters."""
    if not isinstance(node_id, str):
        raise ConfigError(f"node id is {node_id!r}, but must be a string")
    if not 1 <= len(node_id) <= LONGEST_ID or not node_id.isprintable():
        raise ConfigError(f"node id is {node_id!r}, but must be 1 to {LONGEST_ID} printable characters")


def check_address(address: object) -> None:
    """Raise `ConfigError` unless `address` is a string that every member can save and pass on."""
    if not isinstance(address, str) or len(address) > LONGEST_ADDRESS:
        raise ConfigError(f"address is {address!r:.60}, but must be a string of at most {LONGEST_ADDRESS} characters")


def check_witnesses(
    founding: Membership, witnesses: Collection[str], observers: AbstractSet[str] = frozenset()
) -> FrozenSet[str]:
    """Return the voters that never campaign; raise `ConfigError` for ids that are none of the nodes, or all voters."""
    found = _check_ids("witnesses", witnesses, founding.ids)
    is_known = len(founding.ids) > 1  # else it was given no others: it joins later, and learns who they are
    if is_known and founding.voters and founding.voters <= found:
        raise ConfigError(f"witnesses is {sorted(found)}, but then no voter of {founding} could ever lead")
    if found & observers:
        raise ConfigError(f"witnesses and observers both name {min(found & observers)!r}, but only witnesses vote")
    return found


def check_observers(ids: AbstractSet[str], observers: Collection[str]) -> FrozenSet[str]:
    """Return those of `ids` that never vote; raise `ConfigError` for others."""
    return _check_ids("observers", observers, ids)


def _check_ids(name: str, some: Collection[str], ids: AbstractSet[str]) -> FrozenSet[str]:
    if isinstance(some, (str, bytes)) or not isinstance(some, Collection):
        raise ConfigError(f"{name} is {some!r}, but must be several ids, for instance ['c']")
    for node_id in some:
        check_node_id(node_id)
    unknown = set(some) - ids
    if unknown and len(ids) > 1:  # see above
        raise ConfigError(f"{name} names {min(unknown)!r}, but the nodes given are {', '.join(sorted(ids))}")
    return frozenset(some)


def check_bounds(founding: Membership, min_nodes: Optional[int], max_nodes: Optional[int]) -> int:
    """Return the `min_nodes` to use; raise `ConfigError` where two halves could each elect a first leader."""
    for name, value in (("min_nodes", min_nodes), ("max_nodes", max_nodes)):
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
            raise ConfigError(f"{name} is {value!r}, but must be a whole number from 1")
    least = max(2, founding.quorum) if min_nodes is None else min_nodes
    if max_nodes is None:
        return least
    if len(founding.voters) > max_nodes:
        raise ConfigError(f"max_nodes is {max_nodes}, but {len(founding.voters)} voters are given, this node included")
    if min_nodes is None:
        least = max(least, max_nodes // 2 + 1) if max_nodes > 1 else 1
    if least > max_nodes:
        raise ConfigError(f"min_nodes is {least}, but must be at most max_nodes ({max_nodes})")
    if 2 * least <= max_nodes:
        raise ConfigError(
            f"min_nodes is {least}, but must be more than half of max_nodes ({max_nodes}): "
            "otherwise two halves of the cluster could each elect a first leader"
        )
    return least
