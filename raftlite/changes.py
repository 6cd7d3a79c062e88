"""Requests to change the membership: what one does, why it may not, and which still wait for an answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import List, Optional, Tuple, Union

from raftlite.membership import Membership, NodeInfo
from raftlite.messages import AddNode, ChangeRequest, RemoveNode

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
    if isinstance(request, AddNode) and NodeInfo.of(request.node).node_id == own_id:
        return f"{own_id} cannot change its own entry; let another member lead first"
    before = len(membership.voters)
    after = sum(node.voter for node in nodes_after(membership, request))
    if max_nodes is not None and before < after > max_nodes:
        return f"the cluster has {before} voters already, and max_nodes is {max_nodes}"
    if before > after < min_nodes:
        return f"only {after} voters would be left, and min_nodes is {min_nodes}"
    return ""


@dataclass
class Change:
    """A request in the hands of the leader: who asked for it, under which number."""

    origin: str
    number: int
    request: MembershipRequest


def to_wire(term: int, sender_id: str, number: int, request: MembershipRequest) -> ChangeRequest:
    """The message that passes `request` on to the leader."""
    if isinstance(request, RemoveNode):
        return ChangeRequest(term, sender_id, number, "remove", NodeInfo(request.node_id))
    return ChangeRequest(term, sender_id, number, "add", NodeInfo.of(request.node))


def from_wire(message: ChangeRequest) -> Optional[MembershipRequest]:
    """The request in a message that a member passed on; None if it is no change of the membership."""
    if message.node is None or message.action not in ("add", "remove"):
        return None
    return AddNode(message.node) if message.action == "add" else RemoveNode(message.node.node_id)


@dataclass
class _Pending:
    number: int
    request: MembershipRequest
    asked_in: Optional[int] = None  # the term of the leader that was asked


class Requests:
    """What this member's own program has asked for, in order, until it is answered."""

    def __init__(self) -> None:
        self._pending: List[_Pending] = []

    def __bool__(self) -> bool:
        return bool(self._pending)

    def add(self, number: int, request: MembershipRequest) -> None:
        """Note a request that no leader knows yet."""
        self._pending.append(_Pending(number, request))

    def to_ask(self, term: int) -> List[Tuple[int, MembershipRequest]]:
        """What to ask, or ask once more, of the leader of `term`."""
        for pending in self._pending:
            if pending.asked_in is None:
                pending.asked_in = term
        return [(pending.number, pending.request) for pending in self._pending if pending.asked_in == term]

    def ask_again(self, number: int) -> None:
        """The leader did not begin with this request: it is for the next one."""
        for pending in self._pending:
            if pending.number == number:
                pending.asked_in = None

    def take(self, number: int) -> Optional[MembershipRequest]:
        """The request is answered: forget it and return it, or None if it was before."""
        for pending in self._pending:
            if pending.number == number:
                self._pending.remove(pending)
                return pending.request
        return None

    def take_asked_before(self, term: int) -> List[MembershipRequest]:
        """Forget and return what a leader of another term was asked and has not answered."""
        lost = [pending for pending in self._pending if pending.asked_in not in (None, term)]
        self._pending = [pending for pending in self._pending if pending not in lost]
        return [pending.request for pending in lost]

    def take_all(self) -> List[MembershipRequest]:
        """Forget and return everything."""
        pending, self._pending = self._pending, []
        return [each.request for each in pending]
