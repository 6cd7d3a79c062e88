"""What every `Node` does, whatever carries its messages: one suite for each transport that comes with raftlite.

A transport of your own passes it too, once it has an entry in `TRANSPORTS`.
"""

from __future__ import annotations

import contextlib
import importlib.util
import queue
import random
import socket
import tempfile
import threading
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

import pytest
from certificates import Authority
from conftest import everything_open
from threads import PATIENCE, eventually, is_inside

from raftlite import AddNode, ConnectionListener, ElectionThread, Membership, Node, NodeInfo, QueueNode, Timing
from raftlite.codec import MAX_MESSAGE_BYTES
from raftlite.messages import (
    ChangeRequest,
    ChangeResponse,
    Heartbeat,
    HeartbeatResponse,
    RequestVote,
    RequestVoteResponse,
    TimeoutNow,
)

UNHURRIED = Timing(message_timeout=PATIENCE)  # nothing is dropped for its age, however busy the machine is
HURRIED = Timing(message_timeout=0.1)  # what cannot be reached is given up soon
ELECTIONS = Timing(heartbeat_interval=0.05, election_timeout=0.3)

MEMBERSHIP = Membership(3, 7, (NodeInfo("a"), NodeInfo("üß 1", True, "[::1]:7000"), NodeInfo("c", False, "/run/c")))
MESSAGES = [
    RequestVote(1, "a", (0, 1), ("a", "b", "c"), pre_vote=True),
    RequestVote(2**53, "a", (3, 7), (), transfer=True),
    RequestVoteResponse(2, "a", False, True, 'no: "quoted", and ü', MEMBERSHIP),
    RequestVoteResponse(2, "a", True),
    Heartbeat(3, "a", 1, (3, 7), MEMBERSHIP),
    HeartbeatResponse(3, "a", 1, (3, 7), 0.1 + 0.2),
    TimeoutNow(4, "a"),
    ChangeRequest(4, "a", 9, "add", NodeInfo("d", True, "./with space")),
    ChangeResponse(4, "a", 9, "refused", "x" * 1000, MEMBERSHIP),
]


# --- The transports ----------------------------------------------------------------------------------------------


class Transport:
    """Joins the members of a test. What it opens is closed at the end of it, or before."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        self.stack = stack

    def open(self, node_id: str, timing: Timing = UNHURRIED, length: int = 0) -> queue.Queue[Any]:
        """Begin to receive as `node_id`, into an inbox that holds `length` messages (0: any number)."""
        raise NotImplementedError

    def node(self, sender_id: str, to: str) -> Node:
        """A handle by which `sender_id`, which receives already, sends to `to`, which may or may not."""
        raise NotImplementedError

    def shut(self, node_id: str) -> None:
        """Receive no more as `node_id`: its process is gone."""
        raise NotImplementedError

    def hang(self, node_id: str) -> None:
        """Be there as `node_id`, and never read."""
        raise NotImplementedError


class Queues(Transport):
    def __init__(self, stack: contextlib.ExitStack) -> None:
        super().__init__(stack)
        self.inboxes: Dict[str, queue.Queue[Any]] = {}

    def open(self, node_id: str, timing: Timing = UNHURRIED, length: int = 0) -> queue.Queue[Any]:
        self.inboxes[node_id] = queue.Queue(length)
        return self.inboxes[node_id]

    def node(self, sender_id: str, to: str) -> Node:
        return QueueNode(to, self.inboxes.setdefault(to, queue.Queue(1)))

    def shut(self, node_id: str) -> None:
        pass  # the thread has ended and nobody takes anything out of its inbox any more

    def hang(self, node_id: str) -> None:
        self.open(node_id, length=1)


class Connections(Transport):
    """`host` is what the addresses begin with; for None they are the paths of Unix sockets."""

    def __init__(self, stack: contextlib.ExitStack, host: Optional[str], is_encrypted: bool = False) -> None:
        super().__init__(stack)
        self.host = host
        self.authority = Authority(Path(stack.enter_context(tempfile.TemporaryDirectory()))) if is_encrypted else None
        self.folder = stack.enter_context(tempfile.TemporaryDirectory()) if host is None else ""
        self.listeners: Dict[str, ConnectionListener] = {}
        self.addresses: Dict[str, str] = {}

    def open(self, node_id: str, timing: Timing = UNHURRIED, length: int = 0) -> queue.Queue[Any]:
        listener = self._listen(node_id, timing, length).start()
        eventually(lambda: is_inside(listener._acceptor._thread, "select"), "listening")
        return listener.inbox

    def node(self, sender_id: str, to: str) -> Node:
        if to not in self.addresses:
            self._listen(to).close()  # its address is nobody's from now on
        return self.listeners[sender_id].node(to, self.addresses[to])

    def shut(self, node_id: str) -> None:
        self.listeners[node_id].close()

    def hang(self, node_id: str) -> None:
        self._listen(node_id)  # the system accepts connections; the listener never does

    def _listen(self, node_id: str, timing: Timing = HURRIED, length: int = 0) -> ConnectionListener:
        address = f"{self.folder}/{node_id}" if self.host is None else f"{self.host}:0"
        context = self.authority and self.authority.files(node_id).context
        inbox: queue.Queue[Any] = queue.Queue(length)
        listener = ConnectionListener(address, inbox, node_id=node_id, timing=timing, ssl_context=context)
        self.stack.callback(listener.close)
        self.listeners[node_id], self.addresses[node_id] = listener, listener.address
        return listener


class Datagrams(Transport):
    """The example of a transport of one's own."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        super().__init__(stack)
        self.example = load_example("own_node")
        self.sockets: Dict[str, socket.socket] = {}
        self.addresses: Dict[str, Tuple[str, int]] = {}
        self.receivers: Dict[str, threading.Thread] = {}

    def open(self, node_id: str, timing: Timing = UNHURRIED, length: int = 0) -> queue.Queue[Any]:
        inbox: queue.Queue[Any] = queue.Queue(length)
        receive, sock = self.example.receive, self._bind(node_id)
        self.receivers[node_id] = threading.Thread(target=receive, args=(sock, inbox), name=f"receives-{node_id}")
        self.receivers[node_id].start()
        self.stack.callback(self.shut, node_id)
        return inbox

    def node(self, sender_id: str, to: str) -> Node:
        if to not in self.sockets:
            self._bind(to).close()  # its address is nobody's from now on
        return self.example.UDPNode(to, self.addresses[to])

    def shut(self, node_id: str) -> None:
        sock, receiver = self.sockets[node_id], self.receivers[node_id]
        if receiver.is_alive():
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as knocker:
                knocker.sendto(b"", sock.getsockname())
            receiver.join(PATIENCE)

    def hang(self, node_id: str) -> None:
        self._bind(node_id)

    def _bind(self, node_id: str) -> socket.socket:
        sock = self.stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        sock.bind(("127.0.0.1", 0))
        self.sockets[node_id], self.addresses[node_id] = sock, sock.getsockname()
        return sock


class Buses(Transport):
    """The example over ZeroMQ, in which every member knows the public keys of all."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        super().__init__(stack)
        import zmq

        self.example = load_example("zeromq_node")
        ids = ("a", "b", "c", "there", "gone", "hanging", "nobody")
        self.key_pairs = {node_id: zmq.curve_keypair() for node_id in ids}
        self.buses: Dict[str, Any] = {}
        self.receivers: Dict[str, threading.Thread] = {}

    def open(self, node_id: str, timing: Timing = UNHURRIED, length: int = 0) -> queue.Queue[Any]:
        inbox: queue.Queue[Any] = queue.Queue(length)
        receive = self._bind(node_id).receive
        self.receivers[node_id] = threading.Thread(target=receive, args=(inbox,), name=f"receives-{node_id}")
        self.receivers[node_id].start()
        return inbox

    def node(self, sender_id: str, to: str) -> Node:
        if to not in self.buses:
            self._bind(to)
            self.shut(to)  # its address is nobody's from now on
        node: Node = self.example.ZeroMQNode(to, self.buses[sender_id], self.buses[to].address)
        self.stack.callback(node.close)
        return node

    def shut(self, node_id: str) -> None:
        bus = self.buses[node_id]
        if bus.context.closed:
            return
        if node_id not in self.receivers:
            bus.pull.close()  # nobody receives, who would do it
        bus.close()
        if node_id in self.receivers:
            self.receivers[node_id].join(PATIENCE)

    def hang(self, node_id: str) -> None:
        self._bind(node_id)

    def _bind(self, node_id: str) -> Any:
        public_keys = {each: public for each, (public, _) in self.key_pairs.items()}
        self.buses[node_id] = self.example.Bus(self.key_pairs[node_id], public_keys)
        self.stack.callback(self.shut, node_id)
        return self.buses[node_id]


def load_example(name: str) -> Any:
    path = Path(__file__).resolve().parent.parent / "examples" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"example_{name}", path)
    assert spec is not None and spec.loader is not None
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    return example


def why_not(family: str, address: Tuple[Any, ...]) -> str:
    """Why this machine cannot listen on an address, or nothing."""
    if not hasattr(socket, family):
        return f"this Python has no {family}"
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(socket.socket(getattr(socket, family), socket.SOCK_STREAM)).bind(address)
        except OSError as error:
            return f"this machine has no {address[0]}: {error}"
    return ""


TRANSPORTS: Dict[str, Tuple[Callable[[contextlib.ExitStack], Transport], str]] = {
    "QueueNode": (Queues, ""),
    "ConnectionNode on a Unix socket": (
        lambda stack: Connections(stack, None),
        "" if hasattr(socket, "AF_UNIX") else "this Python has no AF_UNIX",
    ),
    "ConnectionNode on IPv4 over TLS": (lambda stack: Connections(stack, "127.0.0.1", is_encrypted=True), ""),
    "ConnectionNode on IPv4": (lambda stack: Connections(stack, "127.0.0.1"), ""),
    "ConnectionNode on IPv6": (lambda stack: Connections(stack, "[::1]"), why_not("AF_INET6", ("::1", 0))),
    "ConnectionNode on a host name": (lambda stack: Connections(stack, "localhost"), ""),
    "UDPNode of the examples": (Datagrams, ""),
    "ZeroMQNode of the examples": (Buses, "" if importlib.util.find_spec("zmq") else "pyzmq is not installed"),
}


@pytest.fixture(params=TRANSPORTS)
def transport(request: Any) -> Iterator[Transport]:
    make, reason_to_skip = TRANSPORTS[request.param]
    if reason_to_skip:
        pytest.skip(reason_to_skip)
    with contextlib.ExitStack() as stack:
        yield make(stack)


# --- The contract ------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def in_time(what: str) -> Iterator[Callable[[Callable[[], object]], None]]:
    """Run calls on a thread, so that one that hangs or raises fails the test instead of stopping it."""
    errors: List[BaseException] = []
    calls: List[Callable[[], object]] = []

    def run() -> None:
        try:
            for call in calls:
                call()
        except BaseException as error:
            errors.append(error)

    yield calls.append
    thread = threading.Thread(target=run, name="test-calls", daemon=True)
    thread.start()
    thread.join(PATIENCE)
    assert not thread.is_alive(), f"{what} hangs"
    assert not errors, f"{what} raised {errors[0]!r}"


def send_many(node: Node) -> None:
    """More than any queue or buffer holds; if one in ten waited for the shortest timeout, this would take too long."""
    large = Membership(1, 1, tuple(NodeInfo(f"{number:0100}") for number in range(200)))
    with in_time("send_message") as calls:
        for round_number in range(5_000):
            membership = large if round_number % 10 == 0 else None
            calls(lambda n=round_number, m=membership: node.send_message(Heartbeat(1, "a", n, (1, 1), m)))


def close(node: Node) -> None:
    with in_time("close") as calls:
        calls(node.close)


@contextlib.contextmanager
def closed(node: Node) -> Iterator[Node]:
    try:
        yield node
    finally:
        close(node)


def test_a_message_arrives_unchanged_and_in_order(transport: Transport) -> None:
    transport.open("a")
    inbox = transport.open("b")
    with closed(transport.node("a", "b")) as node:
        for message in MESSAGES:
            node.send_message(message)
        assert [inbox.get(timeout=PATIENCE) for _ in MESSAGES] == MESSAGES
    assert inbox.empty()


def test_each_of_two_senders_is_told_from_the_other(transport: Transport) -> None:
    transport.open("a")
    transport.open("c")
    inbox = transport.open("b")
    with closed(transport.node("a", "b")) as from_a, closed(transport.node("c", "b")) as from_c:
        from_a.send_message(TimeoutNow(1, "a"))
        from_c.send_message(TimeoutNow(1, "c"))
        assert {inbox.get(timeout=PATIENCE) for _ in range(2)} == {TimeoutNow(1, "a"), TimeoutNow(1, "c")}


def test_the_handle_knows_whom_it_reaches(transport: Transport) -> None:
    transport.open("a")
    transport.open("b")
    with closed(transport.node("a", "b")) as node:
        assert (node.node_id, node.voter) == ("b", True)
        assert "'b'" in repr(node)


@pytest.mark.slow
def test_sending_to_a_peer_that_never_existed_returns_at_once(transport: Transport) -> None:
    transport.open("a", HURRIED)
    with closed(transport.node("a", "nobody")) as node:
        send_many(node)


def test_sending_to_a_peer_that_has_gone_returns_at_once(transport: Transport) -> None:
    transport.open("a", HURRIED)
    inbox = transport.open("b")
    with closed(transport.node("a", "b")) as node:
        eventually(lambda: node.send_message(MESSAGES[-3]) or not inbox.empty(), "a message arrived")
        transport.shut("b")
        send_many(node)


def test_sending_to_a_peer_that_does_not_read_returns_at_once(transport: Transport) -> None:
    transport.open("a", HURRIED)
    transport.hang("b")
    with closed(transport.node("a", "b")) as node:
        send_many(node)


def test_closing_twice_is_fine_and_sending_afterwards_too(transport: Transport) -> None:
    transport.open("a")
    inbox = transport.open("b")
    node = transport.node("a", "b")
    node.send_message(MESSAGES[0])
    assert inbox.get(timeout=PATIENCE) == MESSAGES[0]
    close(node)
    close(node)
    with in_time("send_message") as calls:
        calls(lambda: node.send_message(MESSAGES[0]))


@pytest.mark.parametrize("peer", ["there", "gone", "hanging", "nobody"])
def test_nothing_is_left_of_a_handle_that_is_closed(transport: Transport, peer: str) -> None:
    transport.open("a", HURRIED)
    if peer in ("there", "gone"):
        transport.open(peer)
    if peer == "hanging":
        transport.hang(peer)
    transport.node("a", peer).close()  # what the peer has opened on its side is there from now on
    before = everything_open()
    node = transport.node("a", peer)
    if peer == "gone":
        transport.shut(peer)
    node.send_message(MESSAGES[0])
    close(node)

    def left() -> List[str]:
        return [text for key, text in everything_open().items() if key not in before]

    eventually(lambda: not left(), f"rid of {left()}")


def test_the_longest_message_that_may_be_sent_arrives(transport: Transport) -> None:
    transport.open("a")
    inbox = transport.open("b")
    nodes = tuple(NodeInfo(f"{number:0100}", True, "x" * 300) for number in range(145))
    message = Heartbeat(1, "a", 1, (1, 1), Membership(1, 1, nodes))
    assert len(repr(message)) > 0.9 * MAX_MESSAGE_BYTES
    if isinstance(transport, Datagrams):
        pytest.skip("a datagram is shorter")
    with closed(transport.node("a", "b")) as node:
        node.send_message(message)
        assert inbox.get(timeout=PATIENCE) == message


def test_three_members_elect_one_leader_and_another_when_it_stops(transport: Transport) -> None:
    grants: queue.Queue[Tuple[int, str]] = queue.Queue()
    inboxes = {node_id: transport.open(node_id, Timing(message_timeout=1.0)) for node_id in "abc"}
    members: Dict[str, ElectionThread] = {}
    with contextlib.ExitStack() as stack:
        for number, (node_id, inbox) in enumerate(inboxes.items()):
            nodes = [transport.node(node_id, peer) for peer in inboxes if peer != node_id]
            member = ElectionThread(node_id, nodes, timing=ELECTIONS, inbox=inbox, rng=random.Random(number))
            member.on_elected(lambda leadership: grants.put((leadership.token, leadership.node_id)))
            members[node_id] = stack.enter_context(member)
        first = eventually(lambda: agreed(members.values()), "agreed on a leader")
        members.pop(first).stop()
        assert eventually(lambda: agreed(members.values()), "agreed on another leader") != first
    history = [grants.get_nowait() for _ in range(grants.qsize())]
    assert len(history) >= 2, history
    assert len({term for term, _ in history}) == len(history), f"two leaders in one term: {history}"


def agreed(members: Any) -> Optional[str]:
    """The one whom all name, and who leads by its own account."""
    named = {member.leader_id for member in members}
    leading = {member.node_id for member in members if member.is_leader}
    return named.pop() if len(named) == 1 and named == leading else None


@pytest.mark.slow
def test_a_member_learns_of_its_peers_while_it_runs(transport: Transport) -> None:
    """A handle may come with the thread, or later in its inbox."""
    inboxes = {node_id: transport.open(node_id, Timing(message_timeout=1.0)) for node_id in "ab"}
    with contextlib.ExitStack() as stack:
        members = [
            stack.enter_context(ElectionThread(node_id, min_nodes=2, timing=ELECTIONS, inbox=inboxes[node_id]))
            for node_id in inboxes
        ]
        inboxes["a"].put(AddNode(transport.node("a", "b")))
        inboxes["b"].put(AddNode(transport.node("b", "a")))
        assert eventually(lambda: agreed(members), "agreed on a leader") in inboxes
