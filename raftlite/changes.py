"""What one request does to a membership, and why it may not."""

from __future__ import annotations

from typing import Optional, Tuple, Union

from raftlite.membership import Membership, NodeInfo
from raftlite.messages import AddNode, RemoveNode

MembershipRequest = Union[AddNode, RemoveNode]


def nodes_after(membership: Membership, request: MembershipRequest) -> Tuple[NodeInfo, ...]:
    """The nodes of `membership` once `request` is carried out, ordered by id."""
    if isinstance(request, RemoveNode):
        return membership.without(request.node_id)
    return membership.with_node(NodeInfo.of(request.node))


def why_not(
    membership: Membership, request: MembershipRequest, own_id: str, min_nodes: int, max_nodes: Optional[int]
) -> str:
    """Why `own_id` may not carry out `request`; empty if it may. Both bounds count voters."""
    node_id = request.node_id if isinstance(request, RemoveNode) else NodeInfo.of(request.node).node_id
    if node_id == own_id:
        return f"{own_id} cannot add or remove itself; let another member lead first"
    before = len(membership.voters)
    after = sum(node.voter for node in nodes_after(membership, request))
    if max_nodes is not None and before < after > max_nodes:
        return f"the cluster has {before} voters already, and max_nodes is {max_nodes}"
    if before > after < min_nodes:
        return f"only {after} voters would be left, and min_nodes is {min_nodes}"
    return ""
