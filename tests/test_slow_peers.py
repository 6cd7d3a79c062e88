"""A peer that is stopped, cannot be reached or says nothing costs the others nothing."""

from __future__ import annotations

import contextlib
import resource
import signal
import socket
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List

import pytest
from children import Child
from peers import KEY, connected, lead
from threads import eventually

from raftlite import Heartbeat, Member, Membership, NodeInfo, Timing
from raftlite.nodes import connection
from raftlite.nodes.channel import Channel

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="this system cannot stop a process")

TIMING = Timing(heartbeat_interval=0.02, election_timeout=5.0, message_timeout=0.2)
WELL = "labc"
HEARTBEATS = 40
LARGE = Heartbeat(1, "l", 1, (1, 1), Membership(1, 1, tuple(NodeInfo(f"{number:0100}") for number in range(400))))

MEMBER = """
import sys
from raftlite import Member

with Member("stopped", listen="127.0.0.1:0", authkey=sys.argv[1]) as member:
    print(member.address)
    sys.stdin.read()
"""


@contextlib.contextmanager
def listening(backlog: int) -> Iterator[socket.socket]:
    """A socket whose connections nobody accepts."""
    with socket.create_server(("127.0.0.1", 0), backlog=backlog) as server:
        yield server


@contextlib.contextmanager
def unreachable() -> Iterator[str]:
    """An address that answers nobody who wants to connect."""
    with listening(0) as server, ExitStack() as stack:
        for _ in range(8):
            sock = stack.enter_context(socket.socket())
            sock.setblocking(False)
            sock.connect_ex(server.getsockname())
        yield "{}:{}".format(*server.getsockname())


class Sick:
    """Three peers: one that will be stopped, one that cannot be reached, one that accepts and says nothing."""

    def __init__(self, child: Child, *addresses: str) -> None:
        self.child = child
        self.addresses = dict(zip(("stopped", "unreachable", "silent"), addresses))


@pytest.fixture
def sick(start_child: Callable[..., Child]) -> Iterator[Sick]:
    with unreachable() as nowhere, listening(100) as silent:
        child = start_child(MEMBER, KEY)
        yield Sick(child, child.read_line(), nowhere, "{}:{}".format(*silent.getsockname()))


def is_of_leader() -> bool:
    """Whether this is a thread of the handles of l."""
    return threading.current_thread().name.startswith("raftlite-l-to-")


class Count:
    """How many heartbeats have arrived, also during one handshake of l's, and how often l has dialled each address."""

    def __init__(self, monkeypatch: Any) -> None:
        self.heartbeats: Counter[str] = Counter()
        self.dials: Counter[str] = Counter()
        self.most_in_a_handshake = 0
        dial, authenticate = connection.dial, Channel.authenticate_as_dialler

        def counting(address: str, timeout: float) -> socket.socket:
            self.dials[address] += is_of_leader()
            return dial(address, timeout)

        def counting_meanwhile(channel: Channel, authkey: bytes) -> None:
            before = sum(self.heartbeats.values())
            try:
                authenticate(channel, authkey)
            finally:
                if is_of_leader():
                    self.most_in_a_handshake = max(self.most_in_a_handshake, sum(self.heartbeats.values()) - before)

        monkeypatch.setattr(connection, "dial", counting)
        monkeypatch.setattr(Channel, "authenticate_as_dialler", counting_meanwhile)

    def watch(self, member: Member) -> None:
        inbox = member._listener.inbox
        get = inbox.get

        def counting(*how: Any, **more: Any) -> Any:
            message = get(*how, **more)
            self.heartbeats[member.node_id] += isinstance(message, Heartbeat)
            return message

        inbox.get = counting


def fill(node: connection.ConnectionNode) -> None:
    """Write until the system takes no more, and the queue has no more room either."""
    eventually(lambda: node.send_message(LARGE) or len(node._queue) == connection.QUEUE_LENGTH, "full")


@contextlib.contextmanager
def cluster(addresses: Dict[str, str]) -> Iterator[List[Member]]:
    """The four members that are well, of which l leads; they are stopped side by side, as each waits for the sick."""
    with ThreadPoolExecutor() as pool:
        members = []
        try:
            for node_id in WELL:
                member = Member(node_id, peers=addresses, listen=addresses[node_id], authkey=KEY, timing=TIMING)
                members.append(member.start())
            yield members
        finally:
            list(pool.map(Member.stop, members))


def test_three_sick_peers_of_seven_cost_the_others_nothing(sick: Sick, folder: Path, monkeypatch: Any) -> None:
    """The leader stays, and its heartbeats reach the others while it waits in vain for the sick."""
    count = Count(monkeypatch)
    with cluster({**{node_id: f"{folder}/{node_id}" for node_id in WELL}, **sick.addresses}) as members:
        leader, *followers = members
        grant = lead(leader, followers)
        nodes = {node_id: leader._thread._handles[node_id] for node_id in sick.addresses}
        connected(nodes["stopped"])
        sick.child.send_signal(signal.SIGSTOP)
        fill(nodes["stopped"])
        for follower in followers:
            count.watch(follower)
        dials = Counter(count.dials)
        eventually(lambda: min(count.heartbeats[each] for each in "abc") >= HEARTBEATS, "heard")
        assert grant.valid and {member.leader_id for member in members} == {"l"}
        for address in sick.addresses.values():
            attempts = count.dials[address] - dials[address]
            assert attempts * 2 < HEARTBEATS, "the heartbeats waited for the attempts to connect"
        # One to each follower may be under way when a handshake begins; more than two are sent while it lasts.
        eventually(lambda: count.most_in_a_handshake > 2 * len(followers), "heard while l waits for an answer")
        assert all(len(node._queue) <= connection.QUEUE_LENGTH for node in nodes.values())
        eventually(lambda: all(node.trouble for node in nodes.values()), "in trouble")


@pytest.mark.slow
def test_what_is_sent_to_sick_peers_takes_no_memory(sick: Sick, listen: Any, node_to: Any) -> None:
    """Forty megabytes for each of them."""
    listener = listen("l", "127.0.0.1:0", timing=TIMING)
    nodes = [node_to(node_id, address, of=listener) for node_id, address in sick.addresses.items()]
    connected(nodes[0])
    sick.child.send_signal(signal.SIGSTOP)
    for node in nodes:
        fill(node)
    before = memory()
    for number in range(1_000):
        for node in nodes:
            node.send_message(replace(LARGE, round=number, membership=replace(LARGE.membership, version=number)))
    assert memory() - before < 20 * 2**20
    assert all(len(node._queue) == connection.QUEUE_LENGTH for node in nodes)


def memory() -> int:
    """The bytes that this process has in memory; where the system does not say, the most that it has ever had."""
    with contextlib.suppress(OSError):
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
