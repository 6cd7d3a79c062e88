"""Requests to change the membership: what one does, why it may not, and which still wait for an answer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import AbstractSet, List, Optional, Tuple, Union

from raftlite.membership import MOST_BYTES, Membership, NodeInfo
from raftlite.messages import AddNode, ChangeRequest, RemoveNode, TransferLeadership

MembershipRequest = Union[AddNode, RemoveNode]

PATIENCE = 5  # election timeouts for which a change waits until enough of the new voters answer


def nodes_after(membership: Membership, request: MembershipRequest) -> Tuple[NodeInfo, ...]:
    """The nodes of `membership` once `request` is carried out, ordered by id."""
    if isinstance(request, RemoveNode):
        return membership.without(request.node_id)
    return membership.with_node(NodeInfo.of(request.node))


def why_not(
    membership: Membership,
    request: MembershipRequest,
    own_id: str,
    min_nodes: int,
    max_nodes: Optional[int],
    witnesses: AbstractSet[str] = frozenset(),
) -> str:
    """Why `own_id` may not carry out `request`; empty if it may. Both bounds count voters."""
    if isinstance(request, AddNode) and NodeInfo.of(request.node).node_id == own_id:
        return f"{own_id} cannot change its own entry; let another member lead first"
    if isinstance(request, AddNode) and sum(node.most_bytes for node in nodes_after(membership, request)) > MOST_BYTES:
        return "the ids and addresses of all members would be too long for one message"
    before = len(membership.voters)
    left = {node.node_id for node in nodes_after(membership, request) if node.voter}
    after = len(left)
    if max_nodes is not None and before < after > max_nodes:
        return f"the cluster has {before} voters already, and max_nodes is {max_nodes}"
    if before > after < min_nodes:
        return f"only {after} voters would be left, and min_nodes is {min_nodes}"
    if before > after and left <= witnesses:
        return f"only witnesses would be left, which never lead: {', '.join(sorted(left))}"
    return ""


def newcomer(membership: Membership, request: MembershipRequest) -> Optional[NodeInfo]:
    """The node that `request` brings as a voter and that `membership` does not have at all, or None."""
    node = NodeInfo.of(request.node) if isinstance(request, AddNode) else None
    return node if node is not None and node.voter and node.node_id not in membership.ids else None


def what_stays(membership: Membership, request: Union[MembershipRequest, TransferLeadership]) -> str:
    """The end of a sentence for whoever hears that `request` is refused, where it was to give an observer a vote."""
    node = NodeInfo.of(request.node) if isinstance(request, AddNode) else None
    if node is None or not node.voter or node.node_id not in membership.ids - membership.voters:
        return ""
    return f"; {node.node_id} stays an observer: add it again later, or remove it"


@dataclass
class Change:
    """A request in the hands of the leader: who asked for it, under which number."""

    origin: str
    number: int
    request: Union[MembershipRequest, TransferLeadership]
    since: Optional[float] = field(default=None, compare=False)  # when it began to wait for the new voters
    begun_with: Optional[NodeInfo] = field(default=None, compare=False)  # the newcomer, let in without a vote first


def to_wire(
    term: int, sender_id: str, number: int, request: Union[MembershipRequest, TransferLeadership]
) -> ChangeRequest:
    """The message that passes `request` on to the leader."""
    if isinstance(request, TransferLeadership):
        return ChangeRequest(term, sender_id, number, "transfer", NodeInfo(request.to) if request.to else None)
    if isinstance(request, RemoveNode):
        return ChangeRequest(term, sender_id, number, "remove", NodeInfo(request.node_id))
    return ChangeRequest(term, sender_id, number, "add", NodeInfo.of(request.node))


def from_wire(message: ChangeRequest) -> Union[MembershipRequest, TransferLeadership, None]:
    """The request in a message that a member passed on; None if it is none."""
    node = message.node
    if message.action == "transfer":
        return TransferLeadership(node.node_id if node else None)
    if node is None:
        return None
    return AddNode(node) if message.action == "add" else RemoveNode(node.node_id)


@dataclass
class _Pending:
    number: int
    request: MembershipRequest
    asked_in: Optional[int] = None  # the term of the leader that was asked
    not_before: int = 0  # the leaders of earlier terms have gone without beginning with it
    overdue_at: Optional[float] = None  # when no answer of that leader is expected any more


class Requests:
    """What this member's own program has asked for, in order, until it is answered."""

    def __init__(self) -> None:
        self._pending: List[_Pending] = []

    def __bool__(self) -> bool:
        return bool(self._pending)

    def add(self, number: int, request: MembershipRequest) -> None:
        """Note a request that no leader knows yet."""
        self._pending.append(_Pending(number, request))

    def to_ask(self, term: int, most: Optional[int] = None) -> List[Tuple[int, MembershipRequest]]:
        """What to ask, or ask once more, of the leader of `term`: the first `most`, which keeps them in order.

        Nothing overtakes a request that an earlier leader may still answer.
        """
        asked = []
        for pending in self._pending[:most]:
            if pending.asked_in not in (None, term) or term < pending.not_before:
                break
            pending.asked_in = term
            asked.append((pending.number, pending.request))
        return asked

    def ask_again(self, number: int, term: int) -> None:
        """The leader of `term` has gone without beginning with this request: it is for the next one."""
        for pending in self._pending:
            if pending.number == number and pending.asked_in == term:
                pending.asked_in = pending.overdue_at = None
                pending.not_before = term + 1

    def take(self, number: int) -> Optional[MembershipRequest]:
        """The request is answered: forget it and return it, or None if it was before."""
        for pending in self._pending:
            if pending.number == number:
                self._pending.remove(pending)
                return pending.request
        return None

    def take_equal(self, request: MembershipRequest) -> List[MembershipRequest]:
        """Forget and return every request for the same."""
        equal = [pending.request for pending in self._pending if pending.request == request]
        self._pending = [pending for pending in self._pending if pending.request != request]
        return equal

    def take_overdue(self, term: int, now: float, patience: float) -> List[MembershipRequest]:
        """Forget and return what an earlier leader was asked, and has not answered `patience` seconds after its reign.

        A leader that hands over answers what it did not begin, but the heartbeat of the next may arrive before that.
        """
        overdue = []
        for pending in list(self._pending):
            if pending.asked_in in (None, term):
                continue
            if pending.overdue_at is None:
                pending.overdue_at = now + patience
            if now >= pending.overdue_at:
                self._pending.remove(pending)
                overdue.append(pending.request)
        return overdue

    def take_all(self) -> List[MembershipRequest]:
        """Forget and return everything."""
        pending, self._pending = self._pending, []
        return [each.request for each in pending]
