"""What every `Node` promises, over every transport: those of raftlite, and the one written in examples/own_node.py."""

from __future__ import annotations

import importlib.util
import queue
import signal
import socket
import tempfile
import threading
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from threads import PATIENCE, eventually

from raftlite import (
    ConfigError,
    ConnectionListener,
    ElectionThread,
    Heartbeat,
    HeartbeatResponse,
    Membership,
    Node,
    NodeInfo,
    QueueNode,
    RequestVote,
    RequestVoteResponse,
    TimeoutNow,
    Timing,
)
from raftlite.codec import encode

TIMING = Timing(heartbeat_interval=0.05, election_timeout=0.3, message_timeout=10.0)  # no message is late
IMPATIENT = Timing(heartbeat_interval=0.05, election_timeout=0.3, message_timeout=0.3)
MEMBERSHIP = Membership(3, 2, (NodeInfo("a", address="10.0.0.1:7600"), NodeInfo("b"), NodeInfo("ç", voter=False)))
MESSAGES = [
    RequestVote(4, "a", (3, 2), ("a", "b"), pre_vote=True),
    RequestVoteResponse(4, "a", False, reason="voted for ç in term 4", membership=MEMBERSHIP),
    Heartbeat(4, "a", 7, (3, 2), MEMBERSHIP),
    HeartbeatResponse(4, "a", 7, (3, 2), 1.5),
    TimeoutNow(4, "a"),
]
# Close to the longest message that there is, so that a peer that does not read is soon full.
LONG = Heartbeat(1, "a", 1, (1, 1), Membership(1, 1, tuple(NodeInfo(f"n{n}", address="x" * 900) for n in range(60))))

EXAMPLE = Path(__file__).resolve().parent.parent / "examples" / "own_node.py"


class Queues:
    """Threads of one process."""

    keeps_order = True
    stops = False  # a thread cannot be stopped with a signal
    timing = TIMING

    def __init__(self, folder):
        self.inboxes = {}

    def listen(self, node_id):
        self.inboxes[node_id] = queue.Queue()
        return self.inboxes[node_id]

    def node(self, sender_id, node_id):
        return QueueNode(node_id, self.inboxes[node_id])

    def stop_listening(self, node_id):
        """The thread ends; nobody reads its inbox any more."""

    def node_of_nobody(self, sender_id):
        return QueueNode("nobody", queue.Queue())

    def node_of_one_that_does_not_read(self, sender_id):
        return QueueNode("deaf", queue.Queue(maxsize=3))

    def close(self):
        pass


class Connections:
    """Processes and machines, by way of the address that `address_of` makes."""

    keeps_order = True
    stops = True
    timing = TIMING

    def __init__(self, folder):
        self.folder = folder
        self.listeners = {}
        self.sockets = []

    def address_of(self, name):
        raise NotImplementedError

    def listen(self, node_id):
        listener = ConnectionListener(self.address_of(node_id), node_id=node_id, authkey="key", timing=self.timing)
        self.listeners[node_id] = listener.start()
        return listener.inbox

    def node(self, sender_id, node_id):
        return self.listeners[sender_id].node(node_id, self.listeners[node_id].address)

    def stop_listening(self, node_id):
        self.listeners[node_id].close()

    def node_of_nobody(self, sender_id):
        """Its address exists, and nobody has ever listened there."""
        return self.listeners[sender_id].node("nobody", self.own_socket("nobody"))

    def node_of_one_that_does_not_read(self, sender_id):
        """It listens and accepts nothing: the connection is there, and nothing comes over it."""
        return self.listeners[sender_id].node("deaf", self.own_socket("deaf", backlog=1))

    def own_socket(self, name, backlog=None):
        address = self.address_of(name)
        sock, bound = bind(address)
        self.sockets.append(sock)
        if backlog is not None:
            sock.listen(backlog)
        return bound

    def start_process(self, start_child):
        """A process that prints what it receives as `b`, and a node to send to it as `a`."""
        child = start_child(RECEIVE, self.address_of("b"))
        return child, self.listeners["a"].node("b", child.read_line())

    def close(self):
        for listener in self.listeners.values():
            listener.close()
        for sock in self.sockets:
            sock.close()


def bind(address):
    """A socket bound to `address`, and the address with the port that it got."""
    if "/" in address:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.bind(address)
        return sock, address
    host = address.rpartition(":")[0].strip("[]")
    family, *_, place = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)[0]
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.bind(place)
    return sock, f"{address.rpartition(':')[0]}:{sock.getsockname()[1]}"


RECEIVE = """
    import sys
    from raftlite import ConnectionListener
    from raftlite.codec import encode
    with ConnectionListener(sys.argv[1], node_id="b", authkey="key") as listener:
        print(listener.address)
        while True:
            print(encode(listener.inbox.get()).decode())
"""


class UnixSockets(Connections):
    def address_of(self, name):
        return str(self.folder / name)


class IPv4(Connections):
    def address_of(self, name):
        return "127.0.0.1:0"


class IPv6(Connections):
    def __init__(self, folder):
        super().__init__(folder)
        try:
            socket.create_server(("::1", 0), family=socket.AF_INET6).close()
        except OSError as error:
            pytest.skip(f"this machine has no IPv6: {error}")

    def address_of(self, name):
        return "[::1]:0"


class HostName(Connections):
    def address_of(self, name):
        return "localhost:0"


class OwnNode:
    """The transport of examples/own_node.py: datagrams, which may be lost and overtake each other."""

    keeps_order = False
    stops = True

    def __init__(self, folder):
        self.example = load_example()
        self.sockets = {}
        self.receivers = {}

    def listen(self, node_id):
        self.own_socket(node_id)
        inbox = queue.Queue()
        receiver = threading.Thread(target=self.example.receive, args=(self.sockets[node_id], inbox))
        self.receivers[node_id] = receiver
        receiver.start()
        return inbox

    def own_socket(self, name):
        self.sockets[name] = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sockets[name].bind(("127.0.0.1", 0))

    def node(self, sender_id, node_id):
        return self.example.UDPNode(node_id, self.sockets[node_id].getsockname())

    def stop_listening(self, node_id):
        receiver = self.receivers.pop(node_id)
        self.sockets[node_id].sendto(b"", self.sockets[node_id].getsockname())
        receiver.join(PATIENCE)
        self.sockets[node_id].close()

    def node_of_nobody(self, sender_id):
        self.own_socket("nobody")
        address = self.sockets["nobody"].getsockname()
        self.sockets["nobody"].close()
        return self.example.UDPNode("nobody", address)

    def node_of_one_that_does_not_read(self, sender_id):
        self.own_socket("deaf")
        return self.node(sender_id, "deaf")

    def start_process(self, start_child):
        child = start_child(RECEIVE_DATAGRAMS)
        return child, self.example.UDPNode("b", ("127.0.0.1", int(child.read_line())))

    def close(self):
        for node_id in list(self.receivers):
            self.stop_listening(node_id)
        for sock in self.sockets.values():
            sock.close()


def load_example():
    spec = importlib.util.spec_from_file_location("own_node", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


RECEIVE_DATAGRAMS = """
    import socket
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    print(sock.getsockname()[1])
    while True:
        print(sock.recv(65536).decode())
"""

TRANSPORTS = [Queues, UnixSockets, IPv4, IPv6, HostName, OwnNode]


@pytest.fixture(params=TRANSPORTS, ids=lambda transport: transport.__name__)
def transport(request):
    if request.param is UnixSockets and not hasattr(socket, "AF_UNIX"):
        pytest.skip("this system has no Unix sockets")
    with tempfile.TemporaryDirectory(prefix="raftlite-") as folder:  # short: the path of a socket has 100 characters
        transport = request.param(Path(folder))
        yield transport
        transport.close()


@pytest.fixture
def pair(transport):
    """A handle by which `a` sends to `b`, connected, and the inbox of `b`."""
    transport.listen("a")
    inbox = transport.listen("b")
    node = transport.node("a", "b")
    eventually(lambda: not node.trouble, "connected")
    yield node, inbox
    node.close()


def within_patience(call):
    """Run `call` on a thread of its own, and fail if it raises or has not returned after a long time."""
    outcome = queue.Queue()

    def run():
        try:
            outcome.put((call(), None))
        except BaseException as error:
            outcome.put((None, error))

    threading.Thread(target=run, name="call", daemon=True).start()
    try:
        result, error = outcome.get(timeout=PATIENCE)
    except queue.Empty:
        pytest.fail("it has not returned")
    if error is not None:
        raise error
    return result


def arrives(node, inbox):
    """Whether a message does, sent anew each time, since it may be too late on a busy machine."""
    node.send_message(TimeoutNow(2, "a"))
    with suppress(queue.Empty):
        return inbox.get(timeout=0.1) == TimeoutNow(2, "a")


def send_a_lot(node):
    """More than fits into any buffer between here and a peer that does not read."""
    for _ in range(2_000):
        node.send_message(TimeoutNow(1, "a"))
    for _ in range(300):
        node.send_message(LONG)


# --- Messages ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_a_message_arrives_unchanged(pair, message):
    """Equal, and of the same types inside."""
    node, inbox = pair
    node.send_message(message)
    received = inbox.get(timeout=PATIENCE)
    assert received == message
    assert repr(received) == repr(message)
    assert inbox.empty()


def test_messages_to_one_peer_keep_their_order(transport, pair):
    """Where the transport promises it, as those of raftlite do while the connection holds."""
    if not transport.keeps_order:
        pytest.skip("datagrams may overtake each other")
    node, inbox = pair
    for burst in range(0, 300, 50):
        sent = [Heartbeat(1, "a", number, (1, 1)) for number in range(burst, burst + 50)]
        for message in sent:
            node.send_message(message)
        assert [inbox.get(timeout=PATIENCE) for _ in sent] == sent


def test_messages_of_several_peers_arrive_in_one_inbox(transport):
    for node_id in "abc":
        transport.listen(node_id)
    inbox = transport.listen("d")
    nodes = {sender_id: transport.node(sender_id, "d") for sender_id in "abc"}
    eventually(lambda: not any(node.trouble for node in nodes.values()), "connected")
    for sender_id, node in nodes.items():
        node.send_message(TimeoutNow(1, sender_id))
    assert sorted(inbox.get(timeout=PATIENCE).sender_id for _ in nodes) == ["a", "b", "c"]
    for node in nodes.values():
        node.close()


# --- Peers that are not there -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["never existed", "is gone", "does not read"])
def test_sending_to_a_peer_that_is_not_there_returns_at_once_and_raises_nothing(transport, what):
    """And another peer gets its messages meanwhile."""
    transport.timing = IMPATIENT
    transport.listen("a")
    inbox = transport.listen("b")
    other = transport.node("a", "b")
    eventually(lambda: not other.trouble, "connected")
    if what == "never existed":
        node = transport.node_of_nobody("a")
    elif what == "does not read":
        node = transport.node_of_one_that_does_not_read("a")
    else:
        transport.listen("c")
        node = transport.node("a", "c")
        eventually(lambda: not node.trouble, "connected")
        transport.stop_listening("c")
    within_patience(lambda: send_a_lot(node))
    eventually(lambda: arrives(other, inbox), "heard of by the other peer")
    within_patience(node.close)
    within_patience(other.close)


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="this system cannot stop a process")
def test_sending_to_a_process_that_is_stopped_returns_at_once_and_raises_nothing(transport, start_child):
    """A stopped process accepts connections and reads nothing. When it goes on, so do the messages."""
    if not transport.stops:
        pytest.skip("the peer is a thread of this process")
    transport.timing = IMPATIENT
    transport.listen("a")
    inbox = transport.listen("c")
    other = transport.node("a", "c")
    child, node = transport.start_process(start_child)
    eventually(lambda: not node.trouble and not other.trouble, "connected")
    child.send_signal(signal.SIGSTOP)
    within_patience(lambda: send_a_lot(node))
    eventually(lambda: arrives(other, inbox), "heard of by the other peer")

    child.send_signal(signal.SIGCONT)
    last = encode(TimeoutNow(3, "a")).decode()

    def is_heard_again():
        node.send_message(TimeoutNow(3, "a"))
        return child.read_line() == last

    eventually(is_heard_again, "heard again")
    within_patience(node.close)
    within_patience(other.close)


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="this system cannot stop a process")
def test_closing_the_handle_of_a_process_that_is_stopped_leaves_nothing(transport, start_child):
    """Also while more waits to be sent than the process will ever read."""
    if not transport.stops:
        pytest.skip("the peer is a thread of this process")
    transport.timing = IMPATIENT
    transport.listen("a")
    child, node = transport.start_process(start_child)
    eventually(lambda: not node.trouble, "connected")
    child.send_signal(signal.SIGSTOP)
    send_a_lot(node)
    within_patience(node.close)
    assert not threads_to("b")


def threads_to(node_id):
    return [thread.name for thread in threading.enumerate() if thread.name.endswith(f"-to-{node_id}")]


# --- Closing ----------------------------------------------------------------------------------------------------------


def test_after_closing_nothing_is_left_and_sending_is_harmless(transport):
    """No thread, no file. Whoever still holds the handle may send: it is as if the peer were gone."""
    before = set(threading.enumerate())
    transport.listen("a")
    transport.listen("b")
    node = transport.node("a", "b")
    eventually(lambda: not node.trouble, "connected")
    node.close()
    within_patience(lambda: send_a_lot(node))
    transport.close()
    assert set(threading.enumerate()) <= before


def test_what_was_sent_before_closing_still_arrives(transport, pair):
    """A leader that stops hands over with its last message."""
    node, inbox = pair
    for term in range(20):
        node.send_message(TimeoutNow(term, "a"))
    node.close()
    assert {inbox.get(timeout=PATIENCE).term for _ in range(20)} == set(range(20))


# --- The handle itself ------------------------------------------------------------------------------------------------


def test_a_handle_says_whom_it_is_for(transport, pair):
    """The election asks for the id, the membership for the vote, the log for the repr."""
    node, _ = pair
    assert isinstance(node, Node)
    assert node.node_id == "b"
    assert node.voter is True
    assert "'b'" in repr(node)
    assert NodeInfo.of(node) == NodeInfo("b", True, node.address)


@pytest.mark.parametrize("node_id", ["", "b\n", "b" * 129, None, 7, b"b"])
def test_a_handle_needs_a_proper_id(node_id):
    with pytest.raises(ConfigError, match="node id is"):
        QueueNode(node_id, queue.Queue())


# --- An election ------------------------------------------------------------------------------------------------------


@pytest.fixture
def members(transport):
    """Three members that reach each other over the transport."""
    inboxes = {node_id: transport.listen(node_id) for node_id in "abc"}
    with ExitStack() as stack:
        yield {node_id: stack.enter_context(new_member(transport, node_id, inboxes[node_id])) for node_id in "abc"}
        stack.close()
        assert not [thread for thread in threading.enumerate() if "-to-" in thread.name]


def new_member(transport, node_id, inbox):
    peers = [transport.node(node_id, peer) for peer in "abc" if peer != node_id]
    return ElectionThread(node_id, peers, timing=TIMING, inbox=inbox)


def agreement(members):
    """The leader that all follow and that holds its lease, if there is one at this moment."""
    leaders = {member.leader_id for member in members.values()}
    leader = leaders.pop() if len(leaders) == 1 else None
    return leader if leader in members and members[leader].is_leader else None


def test_three_members_elect_one_leader_and_another_when_it_stops(members):
    """Each leads in terms of its own; those that are left agree again."""
    tokens = {node_id: [] for node_id in members}
    for node_id, member in members.items():
        member.on_elected(lambda leadership, node_id=node_id: tokens[node_id].append(leadership.token))
    first = eventually(lambda: agreement(members), "a leader that all follow")
    term = members[first].current_term
    members.pop(first).stop()
    second = eventually(lambda: agreement(members), "another leader that all follow")
    assert second != first
    assert members[second].current_term > term
    for member in members.values():
        member.stop()
    granted = [token for grants in tokens.values() for token in grants]
    assert len(granted) == len(set(granted)), f"two members led in one term: {tokens}"
    assert tokens[first]
    assert tokens[second]
