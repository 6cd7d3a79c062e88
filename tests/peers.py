"""What the tests of connections share: listeners and nodes, closed at the end, and peers that the test plays."""

from __future__ import annotations

import contextlib
import logging
import queue
import socket
import tempfile
import threading
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from threads import PATIENCE, eventually

from raftlite import ConnectionListener, ConnectionNode, TimeoutNow, Timing
from raftlite.nodes.address import dial
from raftlite.nodes.channel import Channel, Identity

KEY = "k3y-of-the-cluster"
TIMING = Timing(heartbeat_interval=0.05, election_timeout=0.3, message_timeout=10.0)  # nobody is too late
LONG_ENOUGH = 5.0  # seconds; an election takes milliseconds
IMPATIENT = Timing(heartbeat_interval=0.05, election_timeout=0.3, message_timeout=0.25)


@pytest.fixture
def folder():
    """A short path, because that of a Unix socket has about 100 characters."""
    with tempfile.TemporaryDirectory(prefix="raftlite-") as folder:
        yield Path(folder)


@pytest.fixture
def listen(folder):
    """Start a listener for a node id; all are closed at the end."""
    with ExitStack() as stack:

        def listen(node_id="a", address=None, **options):
            options = {"authkey": KEY, "timing": TIMING, **options}
            address = str(folder / f"{node_id}.sock") if address is None else address
            return stack.enter_context(ConnectionListener(address, node_id=node_id, **options))

        yield listen


@contextlib.contextmanager
def read(inbox):
    """Read `inbox` all the time on a thread, as an election does; yield a queue of what is read."""
    messages = queue.Queue()
    thread = threading.Thread(target=lambda: [messages.put(message) for message in iter(inbox.get, None)])
    thread.start()
    try:
        yield messages
    finally:
        inbox.put(None)
        thread.join()


@pytest.fixture
def node_to(folder):
    """Make a node, under an identity of its own or as one `of` a listener; all are closed at the end."""
    with ExitStack() as stack:

        def node_to(node_id, address, sender_id="b", authkey=KEY, timing=TIMING, of=None, **identity):
            if of is not None:
                return stack.enter_context(closing(of.node(node_id, address)))
            key = authkey.encode() if isinstance(authkey, str) else authkey
            identity = Identity(sender_id, key, **identity)
            return stack.enter_context(closing(ConnectionNode(node_id, address, identity, timing=timing)))

        yield node_to


@pytest.fixture
def log(caplog):
    """Everything that is logged, from DEBUG on."""
    caplog.set_level(logging.DEBUG, "raftlite")
    return caplog


def lines(log, part, level=logging.INFO):
    """The lines at `level` or above that have `part` in them."""
    found = [record.getMessage() for record in list(log.records) if record.levelno >= level]
    return [line for line in found if part in line]


def wait_for_line(log, part, start=""):
    """Wait for such a line that begins with `start`, and return it."""

    def found():
        return next((line for line in lines(log, part) if line.startswith(start)), None)

    return eventually(found, f"logged: {start} ... {part}")


def connected(node):
    eventually(lambda: not node.trouble, f"connected to {node.node_id}")
    return node


def lead(member, followers):
    """Let it win the first election before its time; return the grant. Nobody's timeout need be short for that."""
    for follower in followers:
        connected(member._thread._handles[follower.node_id])
        connected(follower._thread._handles[member.node_id])
    while not member.is_leader:
        member._thread.inbox.put(TimeoutNow(member.status().current_term + 1, followers[0].node_id))
        with contextlib.suppress(TimeoutError):
            member.wait_until_leader(LONG_ENOUGH)
    return member.wait_until_leader(PATIENCE)


# --- Strangers and peers that the test plays itself -------------------------------------------------------------------


@contextlib.contextmanager
def stranger(listener):
    """A bare socket, connected to `listener`."""
    with eventually(lambda: dialled(listener), "connected") as sock:
        sock.settimeout(PATIENCE)
        yield sock


def dialled(listener):
    with contextlib.suppress(BlockingIOError):  # so many dial at once that the system cannot keep them
        return dial(listener.address, PATIENCE)


@contextlib.contextmanager
def channel_to(listener, authkey=KEY):
    """A channel to `listener` whose ends have proved that they know the key."""
    channel = Channel(dial(listener.address, PATIENCE))
    try:
        with channel.limited(PATIENCE):
            channel.authenticate_as_dialler(authkey.encode())
        yield channel
    finally:
        channel.close()


@contextlib.contextmanager
def peer_of(listener, node_id="b", **hello):
    """A channel that `listener` takes for one of the member `node_id`."""
    with channel_to(listener) as channel:
        channel.exchange({**Identity(node_id, b"").hello(kind="peer", to=listener.node_id), **hello})
        yield channel


def ends(sock_or_channel):
    """Wait until the other side has ended the connection; return what it said before."""
    said = b""
    if isinstance(sock_or_channel, Channel):
        with contextlib.suppress(OSError, EOFError), sock_or_channel.limited(PATIENCE):
            while True:
                said += sock_or_channel.recv_bytes()
        assert sock_or_channel.has_input(0), "the connection is still open"
        return said
    with contextlib.suppress(ConnectionError):
        while True:
            part = sock_or_channel.recv(65536)
            if not part:
                break
            said += part
    return said


class Played:
    """The listening side of a peer, of which the test plays as much as it likes."""

    def __init__(self, folder, node_id="p"):
        self.identity = Identity(node_id, KEY.encode())
        self.address = str(folder / f"{node_id}.played")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.bind(self.address)
        self._socket.listen(16)
        self._socket.settimeout(PATIENCE)

    def accept(self):
        return self._socket.accept()[0]

    def accept_peer(self, **welcome):
        """Authenticate the next dialler and welcome it; return the channel and its hello."""
        channel = Channel(self.accept())
        with channel.limited(PATIENCE):
            channel.authenticate_as_listener(KEY.encode())
            hello = channel.recv_hello()
        channel.send_json({**self.identity.hello(refused=""), **welcome})
        return channel, hello

    def close(self):
        self._socket.close()


@pytest.fixture
def played(folder):
    with closing(Played(folder)) as played:
        yield played
