"""Connections between processes: who is let in, what a stranger can do (nothing), and what happens when one ends."""

from __future__ import annotations

import contextlib
import errno
import itertools
import json
import logging
import os
import pickle
import queue
import re
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from multiprocessing import AuthenticationError
from multiprocessing.connection import deliver_challenge
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

import pytest
from threads import PATIENCE, Gate, eventually, is_inside

from raftlite import ConfigError, ConnectionListener, Heartbeat, Member, Membership, NodeInfo, PeerDown, PeerUp, Timing
from raftlite.codec import MAX_MESSAGE_BYTES, decode, encode
from raftlite.nodes import ConnectionNode, connection, listener
from raftlite.nodes.address import dial, normalize
from raftlite.nodes.channel import Channel, Identity, Refused
from raftlite.nodes.inbox import CAN_POLL
from raftlite.nodes.request import ask_member

KEY = "the key of these tests"
UNHURRIED = Timing(message_timeout=PATIENCE)
HURRIED = Timing(message_timeout=1.0)  # longer than a handshake takes, whatever else the machine does

needs_signals = pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="this system cannot stop a process")
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
needs_unix = pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="this Python has no AF_UNIX")


class Place:
    """Listeners and handles of one test, all closed at its end."""

    def __init__(self, stack: contextlib.ExitStack, folder: str) -> None:
        self._stack, self.folder = stack, folder

    def listener(self, node_id: str, address: str = "127.0.0.1:0", **settings: Any) -> ConnectionListener:
        settings = {"authkey": KEY, "timing": UNHURRIED, **settings}
        listener = ConnectionListener(address, node_id=node_id, **settings).start()
        self._stack.callback(listener.close)
        return listener

    def node(self, listener: ConnectionListener, node_id: str, address: str) -> ConnectionNode:
        node = listener.node(node_id, address)
        self._stack.callback(node.close)
        return node

    def socket(self, address: str) -> socket.socket:
        """A connection over which nothing has been said."""
        sock = self._stack.enter_context(dial(address, PATIENCE))
        sock.settimeout(PATIENCE)
        return sock

    def server(self, address: str) -> socket.socket:
        """A listening socket whose connections the test serves."""
        family = socket.AF_UNIX if "/" in address else socket.AF_INET
        server = self._stack.enter_context(socket.socket(family, socket.SOCK_STREAM))
        server.settimeout(PATIENCE)
        server.bind(address if "/" in address else ("127.0.0.1", 0))
        server.listen()
        return server

    def accept(self, server: socket.socket) -> socket.socket:
        sock = self._stack.enter_context(server.accept()[0])
        sock.settimeout(PATIENCE)
        return sock

    def accept_channel(self, server: socket.socket) -> Channel:
        """A connection to a listener that the test plays."""
        sock = self.accept(server)
        sock.settimeout(None)  # the channel has deadlines of its own
        channel = Channel(sock)
        self._stack.callback(channel.close)
        return channel

    def channel(self, address: str, key: Optional[str] = KEY) -> Channel:
        """A connection, authenticated if a key is given."""
        channel = Channel(dial(address, PATIENCE))
        self._stack.callback(channel.close)
        if key is not None:
            channel.authenticate_as_dialler(key.encode())
        return channel

    def peer(self, to: ConnectionListener, node_id: str = "b") -> Channel:
        """A connection over which the test speaks as the member `node_id`."""
        channel = self.channel(to.address)
        channel.exchange(Identity(node_id, b"").hello(kind="peer", to=to.node_id))
        return channel


@pytest.fixture
def place() -> Iterator[Place]:
    with contextlib.ExitStack() as stack:
        yield Place(stack, stack.enter_context(tempfile.TemporaryDirectory()))


class Log:
    """What the listeners and handles have written."""

    def __init__(self, caplog: Any) -> None:
        self._caplog = caplog

    @property
    def lines(self) -> List[str]:
        return [record.getMessage() for record in list(self._caplog.records)]

    def wait_for(self, *parts: str) -> str:
        """Wait for a line that has all the parts."""

        def found() -> Optional[str]:
            return next((line for line in self.lines if all(part in line for part in parts)), None)

        return eventually(found, f"written {parts} among {self.lines}")

    def count(self, part: str) -> int:
        return sum(part in line for line in self.lines)


@pytest.fixture
def log(caplog: Any) -> Log:
    caplog.set_level(logging.DEBUG, "raftlite")
    return Log(caplog)


def beat(round_number: int, sender_id: str = "a") -> Heartbeat:
    return Heartbeat(1, sender_id, round_number, (0, 1))


def received(listener: ConnectionListener) -> Any:
    """What a peer says next; not that one was reached, or replaced, which many a peer here does under one id."""
    while True:
        message = listener.inbox.get(timeout=PATIENCE)
        if not isinstance(message, (PeerUp, PeerDown)):
            return message


def connected(node: ConnectionNode) -> None:
    eventually(lambda: not node.trouble, "connected")


def wait_for_end(channel: Channel) -> None:
    """Wait until the other side has ended the connection."""
    with channel.limited(PATIENCE), contextlib.suppress(EOFError, ConnectionError):
        while True:
            channel.recv_bytes()


def wait_for_end_of_socket(sock: socket.socket) -> None:
    with contextlib.suppress(ConnectionError):
        while sock.recv(65536):
            pass


# --- Who is let in -----------------------------------------------------------------------------------------------


def test_a_wrong_key_is_refused_and_both_sides_say_why(place: Place, log: Log) -> None:
    here, there = place.listener("a"), place.listener("b", authkey="another")
    node = place.node(here, "b", there.address)
    node.send_message(beat(1))
    log.wait_for("b: turned away 127.0.0.1:", "authentication failed: the keys differ")
    log.wait_for("a: b cannot be reached: authentication failed: the keys differ")
    assert "the keys differ" in node.trouble
    assert there.inbox.empty()


def test_a_listener_that_does_not_know_the_key_gets_no_message(place: Place, log: Log) -> None:
    """Both ends prove it: whoever has taken over a peer's address learns nothing and is told nothing."""
    server = place.server("")
    host, port = server.getsockname()
    node = place.node(place.listener("a"), "b", f"{host}:{port}")
    node.send_message(beat(1))
    impostor = place.accept_channel(server)
    with impostor.limited(PATIENCE), pytest.raises(Refused, match="the keys differ"):
        impostor.authenticate_as_listener(b"another")
    log.wait_for("a: b cannot be reached: authentication failed")
    server.close()  # the handle has dialled it again, and would wait for it


def test_a_listener_that_lets_everybody_in_is_not_believed(place: Place, log: Log) -> None:
    server = place.server("")
    host, port = server.getsockname()
    place.node(place.listener("a"), "b", f"{host}:{port}")
    impostor = place.accept_channel(server)
    with impostor.limited(PATIENCE):
        impostor.send_bytes(b"#CHALLENGE#" + bytes(20))
        impostor.recv_bytes()
        impostor.send_bytes(b"#WELCOME#")
        impostor.recv_bytes()  # the dialler's own challenge
        impostor.send_bytes(bytes(16))
        log.wait_for("a: b cannot be reached: authentication failed: the keys differ")
    server.close()  # the handle has dialled it again, and would wait for it


def test_another_cluster_is_refused_and_both_sides_say_why(place: Place, log: Log) -> None:
    here, there = place.listener("a", cluster="red"), place.listener("b", cluster="blue")
    node = place.node(here, "b", there.address)
    node.send_message(beat(1))
    log.wait_for("b: turned away", "a names the cluster 'red', but b names it 'blue'")
    log.wait_for("a: b cannot be reached: a names the cluster 'red', but b names it 'blue'")
    assert there.inbox.empty()


def test_who_is_taken_for_another_refuses_and_both_sides_say_why(place: Place, log: Log) -> None:
    """An address that was given to the wrong member."""
    here, there = place.listener("a"), place.listener("c")
    place.node(here, "b", there.address).send_message(beat(1))
    log.wait_for("c: turned away", "'b' is meant, but this is 'c'")
    log.wait_for("a: b cannot be reached: 'b' is meant, but this is 'c'")
    assert there.inbox.empty()


@pytest.mark.parametrize("has_read, end", [(True, ""), (False, ": Connection reset by peer")])
def test_a_peer_that_dies_amid_the_handshake_is_no_news(
    has_read: bool, end: str, place: Place, log: Any, caplog: Any
) -> None:
    """Others say soon enough whether it comes back; whoever cannot agree is told from that."""
    listener = place.listener("b")
    with closing(dial(listener.address, PATIENCE)) as sock:
        sock.recv(1000, 0 if has_read else socket.MSG_PEEK)  # the challenge; unread, it has the system say "reset"
        sock.sendall(b"\0\0\0\x20half an answer")
    log.wait_for("b: turned away", f"the connection ended during the handshake{end}")
    assert {record.levelname for record in caplog.records if "turned away" in record.message} == {"DEBUG"}


def test_an_unknown_id_is_refused_and_both_sides_say_why(place: Place, log: Log) -> None:
    here, there = place.listener("x"), place.listener("b")
    here.watch_membership(lambda: Membership(2, 5, (NodeInfo("b"), NodeInfo("x"))))
    there.watch_membership(lambda: Membership(2, 5, (NodeInfo("a"), NodeInfo("b"))))
    place.node(here, "b", there.address).send_message(beat(1, "x"))
    log.wait_for("b: turned away", "x is no member; b knows a, b")
    log.wait_for("x: b cannot be reached: x is no member; b knows a, b")
    assert there.inbox.empty()


def test_an_unknown_id_that_knows_another_membership_is_heard(place: Place) -> None:
    """One of the two lags behind, and only messages can tell which."""
    here, there = place.listener("x"), place.listener("b")
    here.watch_membership(lambda: Membership(2, 6, (NodeInfo("b"), NodeInfo("x"))))
    there.watch_membership(lambda: Membership(2, 5, (NodeInfo("a"), NodeInfo("b"))))
    place.node(here, "b", there.address).send_message(beat(1, "x"))
    assert received(there) == beat(1, "x")


def test_two_processes_with_one_id_are_found_out_and_both_sides_say_so(place: Place, log: Log) -> None:
    here, first, second = place.listener("a"), place.listener("b"), place.listener("b")
    connected(place.node(here, "b", first.address))
    place.node(second, "a", here.address).send_message(beat(2, "b"))
    log.wait_for("a: turned away", f"another process answers as b at {first.address}: two processes use one id")
    log.wait_for("b: a cannot be reached: another process answers as b", "two processes use one id")
    place.node(first, "a", here.address).send_message(beat(1, "b"))
    assert received(here) == beat(1, "b")
    assert here.inbox.empty()


PATIENT = Timing(election_timeout=3 * PATIENCE, message_timeout=PATIENCE)  # whoever has spoken counts as alive


def test_two_processes_with_one_id_that_both_dial_are_found_out_and_both_sides_say_so(place: Place, log: Log) -> None:
    """Also where the listener has no handle by which it could ask."""
    there, second = place.listener("a", timing=PATIENT), place.listener("b")
    first = place.peer(there, "b")
    place.node(second, "a", there.address).send_message(beat(2, "b"))
    log.wait_for("a: turned away", "another process is connected as b: two processes use one id")
    log.wait_for("b: a cannot be reached: another process is connected as b: two processes use one id")
    first.send_bytes(encode(beat(1, "b")))
    assert received(there) == beat(1, "b")
    assert there.inbox.empty()


def test_a_process_that_restarts_is_let_in_before_its_old_connection_has_ended(place: Place, monkeypatch: Any) -> None:
    """The system ends a dead process's connections one after the other."""
    monkeypatch.setattr(listener, "HINT_PATIENCE", PATIENCE)
    there = place.listener("a", timing=PATIENT)
    former = place.peer(there, "b")
    with ThreadPoolExecutor() as pool:
        let_in = pool.submit(place.peer, there, "b")
        eventually(lambda: [thread for thread in there._acceptor._threads if is_inside(thread, "wait_for")], "waiting")
        former.shut_down()
        let_in.result().send_bytes(encode(beat(2, "b")))
    assert received(there) == beat(2, "b")


def test_a_process_that_was_cut_off_is_replaced_and_refused_when_it_comes_back(
    place: Place, log: Log, monkeypatch: Any
) -> None:
    """A machine that lost its power says no goodbye; one that comes back has shown that two processes use one id."""
    passed = [0.0]
    monkeypatch.setattr(listener, "time", SimpleNamespace(monotonic=lambda: time.monotonic() + passed[0]))
    there, identity = place.listener("a", timing=PATIENT), Identity("b", b"")
    former = place.channel(there.address)
    former.exchange(identity.hello(kind="peer", to="a"))
    passed[0] += 2 * PATIENT.election_timeout
    place.peer(there, "b").send_bytes(encode(beat(2, "b")))
    assert received(there) == beat(2, "b")
    wait_for_end(former)
    passed[0] += 2 * PATIENT.election_timeout
    with pytest.raises(Refused, match="another process is connected as b: two processes use one id"):
        place.channel(there.address).exchange(identity.hello(kind="peer", to="a"))
    log.wait_for("a: turned away", "two processes use one id")


def test_a_process_that_dials_again_replaces_its_own_connection(place: Place) -> None:
    there, identity = place.listener("a", timing=PATIENT), Identity("b", b"")
    former, again = place.channel(there.address), place.channel(there.address)
    former.exchange(identity.hello(kind="peer", to="a"))
    again.exchange(identity.hello(kind="peer", to="a"))
    wait_for_end(former)
    again.send_bytes(encode(beat(2, "b")))
    assert received(there) == beat(2, "b")


def test_a_process_that_uses_the_listeners_own_id_is_refused(place: Place, log: Log) -> None:
    first, second = place.listener("a"), place.listener("a")
    place.node(second, "a", first.address).send_message(beat(1))
    log.wait_for("a: turned away", "this is a itself: two processes use one id")
    log.wait_for("a: a cannot be reached: this is a itself: two processes use one id")
    assert first.inbox.empty()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"protocol": 2}, "b speaks protocol 2, but a 1"),
        ({"protocol": None}, "b speaks protocol None, but a 1"),
        ({"node_id": None}, "node id is None, but must be"),
        ({"node_id": ["b"]}, "node id is ['b'], but must be"),
        ({"node_id": ""}, "node id is ''"),
        ({"incarnation": None}, "incarnation is None, but must be a text"),
        ({"cluster": {}}, "b names the cluster {}, but a"),
        ({"kind": "request", "request": "status"}, "no requests are answered here"),
    ],
)
def test_a_hello_that_is_not_understood_is_refused_with_the_reason(
    place: Place, log: Log, change: Dict[str, Any], reason: str
) -> None:
    there = place.listener("a")
    channel = place.channel(there.address)
    hello = Identity("b", b"").hello(kind="peer", to="a")
    with pytest.raises(Refused, match=re.escape(reason)):
        channel.exchange({**hello, **change})
    log.wait_for("a: turned away", reason)
    wait_for_end(channel)


def test_a_message_in_the_name_of_another_ends_the_connection(place: Place, log: Log) -> None:
    there = place.listener("a")
    channel = place.peer(there, "b")
    channel.send_bytes(encode(beat(1, "b")))
    channel.send_bytes(encode(beat(2, "c")))
    channel.send_bytes(encode(beat(3, "b")))
    wait_for_end(channel)
    log.wait_for("a: closed the connection from b", "a message of c came over the connection of b")
    assert received(there) == beat(1, "b")
    assert there.inbox.empty()


@pytest.mark.parametrize("address", ["0.0.0.0:0", "[::]:0", ":0", "192.0.2.1:7000", ("", 7000)])
def test_an_address_that_others_can_reach_needs_a_key(address: Any) -> None:
    with pytest.raises(ConfigError, match="authkey is missing, but other machines can reach") as raised:
        ConnectionListener(address, node_id="a")
    assert isinstance(raised.value, ValueError)


@pytest.mark.parametrize("address", ["127.0.0.1:0", "localhost:0"])
def test_processes_of_one_family_need_no_key_on_this_machine(place: Place, address: str) -> None:
    here, there = place.listener("a", authkey=None), place.listener("b", address, authkey=None)
    place.node(here, "b", there.address).send_message(beat(1))
    assert received(there) == beat(1)


@pytest.mark.parametrize("key", [b"", "", 5, ["key"]])
def test_a_key_that_is_none_is_refused(key: Any) -> None:
    with pytest.raises(ConfigError, match="authkey"):
        ConnectionListener("127.0.0.1:0", node_id="a", authkey=key)


def test_the_key_is_in_no_text(place: Place, log: Log) -> None:
    key = "xyzzy-and-nobody-reads-it"
    here, there = place.listener("a", authkey=key), place.listener("b", authkey=key)
    other = place.listener("c", authkey="plugh")
    node, refused = place.node(here, "b", there.address), place.node(here, "c", other.address)
    connected(node)
    log.wait_for("a: c cannot be reached")
    member = Member("m", authkey=key, listen="127.0.0.1:0")
    things = [here, here.identity, node, refused, member, here.node_id, node.trouble, refused.trouble]
    texts = [text for thing in things for text in (repr(thing), str(thing))] + log.lines
    for secret in (key, key.encode().hex(), repr(key.encode())):
        assert not [text for text in texts if secret in text]


# --- Strangers in the middle --------------------------------------------------------------------------------------


class Stranger:
    """Knows no key. Sits at an address that a member dials, and passes on what the two ends say to each other."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._server = place.server("")
        self.address = "{}:{}".format(*self._server.getsockname())

    def accept(self) -> Channel:
        return self._place.accept_channel(self._server)

    def relay_handshake(self, to: str) -> Tuple[Channel, Channel]:
        """Let whoever dials here prove to the listener at `to` that it knows the key, and the other way round."""
        dialler, listener = self.accept(), self._place.channel(to, None)
        for _ in range(3):
            dialler.send_bytes(listener.recv_bytes())
            listener.send_bytes(dialler.recv_bytes())
        return dialler, listener


def altered(frame: bytes, **change: Any) -> bytes:
    start = frame.index(b'{"protocol"')
    return frame[:start] + json.dumps({**json.loads(frame[start:]), **change}).encode()


@pytest.mark.parametrize("listener", ["a", "c"])
@pytest.mark.parametrize("change", [{}, {"to": "a"}, {"to": "c"}, {"to": "c", "node_id": "b"}])
def test_what_is_said_to_one_listener_is_worth_nothing_at_another(
    place: Place, log: Log, listener: str, change: Dict[str, Any]
) -> None:
    """Neither at a third member nor at the dialler's own listener, for a stranger at the address of a dead member."""
    here, third, stranger = place.listener("a"), place.listener("c"), Stranger(place)
    place.node(here, "b", stranger.address)
    victim = {"a": here, "c": third}[listener]
    dialler, relayed = stranger.relay_handshake(victim.address)
    relayed.send_bytes(altered(dialler.recv_bytes(), **change) if change else dialler.recv_bytes())
    relayed.send_bytes(encode(beat(1, "a")))
    wait_for_end(relayed)
    log.wait_for(f"{listener}: turned away", "was altered" if change else f"'b' is meant, but this is '{listener}'")
    assert here.inbox.empty() and third.inbox.empty()


def test_a_stranger_cannot_speak_for_a_listener_of_another_cluster(place: Place, log: Log) -> None:
    """Two clusters with one key and the same ids: the name of the cluster is part of what is proved."""
    red, blue, stranger = place.listener("a", cluster="red"), place.listener("b", cluster="blue"), Stranger(place)
    place.node(red, "b", stranger.address)
    dialler, relayed = stranger.relay_handshake(blue.address)
    relayed.send_bytes(altered(dialler.recv_bytes(), cluster="blue"))
    wait_for_end(relayed)
    log.wait_for("b: turned away", "was altered")


def test_a_stranger_cannot_alter_a_welcome(place: Place, log: Log) -> None:
    here, there, stranger = place.listener("a"), place.listener("b"), Stranger(place)
    place.node(here, "b", stranger.address)
    dialler, relayed = stranger.relay_handshake(there.address)
    relayed.send_bytes(dialler.recv_bytes())
    dialler.send_bytes(altered(relayed.recv_bytes(), incarnation="another"))
    log.wait_for("a: b cannot be reached: authentication failed:", "was altered")


def test_a_challenge_is_not_answered_by_the_one_who_set_it(place: Place, log: Log) -> None:
    """A stranger whom a member dials twice holds the one connection's challenge against the other one."""
    here, stranger = place.listener("a"), Stranger(place)
    place.node(here, "b", stranger.address), place.node(here, "c", stranger.address)
    first, second = stranger.accept(), stranger.accept()
    first.send_bytes(b"#CHALLENGE#" + bytes(20))
    first.recv_bytes()
    first.send_bytes(b"#WELCOME#")
    second.send_bytes(first.recv_bytes())
    first.send_bytes(second.recv_bytes())
    assert first.recv_bytes() == b"#FAILURE#"
    log.wait_for("cannot be reached: authentication failed: the keys differ")


def test_no_challenge_of_another_program_with_the_same_key_is_answered(place: Place) -> None:
    """A manager of `multiprocessing` unpickles what it is sent by whoever answers its challenge."""
    stranger = Stranger(place)
    place.node(place.listener("a"), "b", stranger.address)
    with pytest.raises(AuthenticationError):
        deliver_challenge(stranger.accept(), KEY.encode())


@pytest.mark.parametrize("change", [{"kind": "peer", "to": "a"}, {"request": "remove"}, {"cluster": "blue"}])
def test_a_request_can_be_neither_altered_nor_made_into_a_peer(place: Place, log: Log, change: Dict[str, Any]) -> None:
    there, stranger = place.listener("a"), Stranger(place)
    requests: queue.Queue[Any] = queue.Queue()
    there.answer_request = lambda request: requests.put(request) or {}
    with ThreadPoolExecutor() as pool:
        asked = pool.submit(ask_member, stranger.address, KEY.encode(), "raftlite", PATIENCE, "status")
        dialler, relayed = stranger.relay_handshake(there.address)
        relayed.send_bytes(altered(dialler.recv_bytes(), **change))
        wait_for_end(relayed)
        dialler.shut_down()
        with pytest.raises(Refused):
            asked.result()
    log.wait_for("a: turned away", "was altered")
    assert there.inbox.empty() and requests.empty()


# --- Strangers and bad bytes -------------------------------------------------------------------------------------


def framed(data: bytes) -> bytes:
    return struct.pack("!i", len(data)) + data


class Bomb:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Tuple[Callable[..., Any], Tuple[Any, ...]]:
        return Path.touch, (self.path,)


BAD_BYTES = {
    "text that is no frame": b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "a frame that is too long": framed(b" " * (MAX_MESSAGE_BYTES + 1)),
    "a frame of gigabytes": struct.pack("!i", 2**31 - 1) + b"x" * 100,
    "a frame of exabytes": struct.pack("!iQ", -1, 2**60) + b"x" * 100,
    "a frame of less than nothing": struct.pack("!i", -2) + b"x" * 4,
    "an empty frame": framed(b""),
    "no JSON": framed(b"\xff\xfe\x00"),
    "deeply nested JSON": framed(b"[" * 60_000),
    "JSON that is no object": framed(b"[1, 2]"),
    "an unknown message": framed(json.dumps({"type": "Stop"}).encode()),
    "a message that lacks a field": framed(json.dumps({"type": "TimeoutNow", "term": 1}).encode()),
    "a term of the wrong type": framed(json.dumps({"type": "TimeoutNow", "term": "1", "sender_id": "b"}).encode()),
    "a negative term": framed(json.dumps({"type": "TimeoutNow", "term": -1, "sender_id": "b"}).encode()),
    "a huge term": framed(json.dumps({"type": "TimeoutNow", "term": 10**40, "sender_id": "b"}).encode()),
    "a pickle": b"",  # made by the test
}


def write(channel: Channel, data: bytes) -> None:
    """Write bytes as they are; the other side may have ended the connection before it has them all."""
    with socket.socket(fileno=os.dup(channel._socket.fileno())) as sock, contextlib.suppress(ConnectionError):
        sock.sendall(data)


@pytest.mark.slow
@pytest.mark.parametrize("name", BAD_BYTES)
@pytest.mark.parametrize("stage", ["before the key", "instead of a hello", "as a peer"])
def test_bad_bytes_end_their_connection_with_one_line_and_change_nothing(
    place: Place, log: Log, name: str, stage: str
) -> None:
    there = place.listener("a")
    crater = Path(place.folder, "crater")
    data = BAD_BYTES[name] or framed(pickle.dumps(Bomb(crater)))
    for _ in range(3):
        if stage == "as a peer":
            channel = place.peer(there, "b")
        else:
            channel = place.channel(there.address, None if stage == "before the key" else KEY)
        write(channel, data)
        wait_for_end(channel)
    line = log.wait_for("a: closed the connection from b" if stage == "as a peer" else "a: turned away 127.0.0.1")
    good = place.peer(there, "c")
    good.send_bytes(encode(beat(1, "c")))
    assert received(there) == beat(1, "c")
    assert there.inbox.empty()
    assert not crater.exists()
    warnings = [known for known in log.lines if "turned away" in known or "closed the connection" in known]
    assert warnings == [line]


def test_a_connection_that_ends_within_a_message_changes_nothing(place: Place) -> None:
    there = place.listener("a")
    channel = place.peer(there, "b")
    write(channel, framed(encode(beat(1, "b")))[:-1])
    channel.shut_down()
    good = place.peer(there, "b")
    good.send_bytes(encode(beat(2, "b")))
    assert received(there) == beat(2, "b")


@pytest.mark.slow
def test_two_hundred_silent_strangers_keep_nobody_out_and_are_ended(place: Place) -> None:
    here, there = place.listener("a"), place.listener("b", timing=Timing(message_timeout=1.0))
    strangers = [place.socket(there.address) for _ in range(200)]
    place.node(here, "b", there.address).send_message(beat(1))
    assert received(there) == beat(1)
    for stranger in strangers:
        wait_for_end_of_socket(stranger)


@pytest.mark.slow
@pytest.mark.parametrize("said", [b"", b"\0", framed(b"x" * 20)[:10]], ids=["nothing", "a byte", "half a frame"])
def test_a_stranger_who_stops_talking_is_ended(place: Place, said: bytes) -> None:
    there = place.listener("a", timing=HURRIED)
    stranger = place.socket(there.address)
    stranger.sendall(said)
    wait_for_end_of_socket(stranger)


def test_a_peer_that_is_let_in_may_be_silent_for_as_long_as_it_likes(place: Place) -> None:
    """Strangers who came later than the peer are ended for their silence, and the peer is not."""
    there = place.listener("a", timing=HURRIED)
    peer = place.peer(there, "b")
    for stranger in (place.socket(there.address), place.socket(there.address)):
        wait_for_end_of_socket(stranger)
    peer.send_bytes(encode(beat(1, "b")))
    assert received(there) == beat(1, "b")


def test_a_process_that_is_back_before_the_death_of_its_former_life_is_proved_is_spoken_to(place: Place) -> None:
    """Who is proved to be dead is parked; that must not silence the handle on who lives there now."""
    here, there = place.listener("a"), place.listener("b")
    node = place.node(here, "b", there.address)
    connected(node)
    node.park("its former life")
    node.send_message(beat(1))
    assert received(there) == beat(1)


def test_a_process_that_is_back_while_the_death_of_its_former_life_is_proved_is_spoken_to(
    place: Place, monkeypatch: Any
) -> None:
    """The proof comes while the handle connects to the new one, whose socket then does not take it all at once."""
    monkeypatch.setattr(Channel, "send_at_once", lambda channel, data: None)
    server = place.server("")
    host, port = server.getsockname()
    node = place.node(place.listener("a"), "b", f"{host}:{port}")
    peer = place.accept_channel(server)
    with peer.limited(PATIENCE):
        peer.authenticate_as_listener(KEY.encode())
        peer.recv_hello()
        node.park("its former life")
        peer.send_json(Identity("b", b"").hello())
        connected(node)
        node.send_message(beat(1))
        assert decode(peer.recv_bytes()) == beat(1)


@pytest.mark.slow
@pytest.mark.parametrize("said", [b"", b"\0", framed(b"x" * 20)[:10]], ids=["nothing", "a byte", "half a frame"])
def test_a_listener_that_stops_talking_is_given_up(place: Place, said: bytes) -> None:
    server = place.server("")
    host, port = server.getsockname()
    node = place.node(place.listener("a", timing=HURRIED), "b", f"{host}:{port}")
    for _ in range(2):  # and it is tried again
        sock = place.accept(server)
        sock.sendall(said)
        wait_for_end_of_socket(sock)
    assert "no answer in time" in eventually(lambda: node.trouble, "in trouble")


@pytest.mark.slow
def test_the_dialler_of_a_peer_that_does_not_read_gives_up_after_the_message_timeout(place: Place) -> None:
    """What was written stays unread; the connection is ended, and the handle says why."""
    server = place.server("")
    host, port = server.getsockname()
    node = place.node(place.listener("a", timing=HURRIED), "b", f"{host}:{port}")
    peer = place.accept_channel(server)
    with peer.limited(PATIENCE):
        peer.authenticate_as_listener(KEY.encode())
        peer.recv_hello()
        peer.send_json(Identity("b", b"").hello())
        connected(node)
        large = Membership(1, 1, tuple(NodeInfo(f"{number:0100}") for number in range(400)))

        def send() -> str:
            node.send_message(Heartbeat(1, "a", 1, (1, 1), large))
            return node.trouble

        assert "does not read" in eventually(send, "given up")


# --- Addresses ---------------------------------------------------------------------------------------------------


def test_port_0_becomes_one_that_others_can_connect_to(place: Place) -> None:
    here, there = place.listener("a"), place.listener("b", "127.0.0.1:0")
    assert re.fullmatch(r"127\.0\.0\.1:[1-9]\d*", there.address)
    assert there.identity.address == there.address
    place.node(here, "b", there.address).send_message(beat(1))
    assert received(there) == beat(1)
    assert here.claimed_addresses == {} and there.claimed_addresses == {"a": here.address}


@pytest.mark.parametrize("kind", ["port", "path"])
def test_an_address_in_use_is_an_error_that_names_it(place: Place, kind: str) -> None:
    taken = place.listener("a", "127.0.0.1:0" if kind == "port" else f"{place.folder}/a")
    with pytest.raises(OSError, match=re.escape(f"cannot listen on {taken.address}: ")) as raised:
        ConnectionListener(taken.address, node_id="b")
    assert raised.value.errno == errno.EADDRINUSE
    place.node(place.listener("c"), "a", taken.address).send_message(beat(1, "c"))
    assert received(taken) == beat(1, "c")


@pytest.mark.parametrize("kind", ["port", "path"])
@pytest.mark.parametrize("wanted", [1, 2] if CAN_POLL else [1], ids=str)
def test_a_listener_for_which_there_are_too_few_descriptors_gives_its_address_back(
    place: Place, monkeypatch: Any, kind: str, wanted: int
) -> None:
    """At once, though the error is kept: whoever tries again must not find the address in use.

    The first pair of sockets wakes the listener's thread, the second the reader of its inbox.
    """
    before = place.listener("a", "127.0.0.1:0" if kind == "port" else f"{place.folder}/a")
    before.close()
    pairs, pair = itertools.count(1), socket.socketpair

    def run_out() -> Tuple[socket.socket, socket.socket]:
        if next(pairs) == wanted:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return pair()

    with monkeypatch.context() as patch, pytest.raises(OSError, match="Too many open files") as kept:
        patch.setattr(socket, "socketpair", run_out)
        ConnectionListener(before.address, node_id="a", authkey=KEY)
    assert os.listdir(place.folder) == []
    place.listener("a", before.address)
    assert kept.value.errno == errno.EMFILE


@needs_unix
def test_a_file_that_is_no_socket_is_left_alone(place: Place) -> None:
    path = Path(place.folder, "notes")
    path.write_text("precious")
    with pytest.raises(OSError, match=re.escape(f"cannot listen on {path}: ")):
        ConnectionListener(str(path), node_id="a")
    assert path.read_text() == "precious"


@needs_unix
def test_a_folder_that_does_not_exist_is_an_error_that_names_the_address(place: Place) -> None:
    with pytest.raises(OSError, match=re.escape(f"cannot listen on {place.folder}/no/a: ")):
        ConnectionListener(f"{place.folder}/no/a", node_id="a")


@needs_unix
def test_the_socket_file_is_gone_after_close(place: Place) -> None:
    listener = place.listener("a", f"{place.folder}/a")
    assert os.listdir(place.folder) == ["a"]
    listener.close()
    listener.close()
    assert os.listdir(place.folder) == []


def unresolvable(*_: Any, **__: Any) -> Any:
    raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")


def test_a_name_that_is_not_known_is_an_error_of_the_listener_that_names_it(monkeypatch: Any) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", unresolvable)
    with pytest.raises(OSError, match=re.escape("cannot listen on no.such.host:7000: Name or service not known")):
        ConnectionListener("no.such.host:7000", node_id="a", authkey=KEY)


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="this system does not limit how long TCP tries")
def test_a_connection_is_given_up_soon_after_the_network_was_cut_but_not_for_one_lost_packet(place: Place) -> None:
    """TCP tries again after ever longer pauses: after a long cut, members would not hear of each other for as long."""
    sock = place.socket(place.listener("a").address)

    def seconds(option: int) -> int:
        return sock.getsockopt(socket.IPPROTO_TCP, option)

    given_up_after = seconds(socket.TCP_USER_TIMEOUT) / 1_000
    assert 0 < given_up_after <= 4
    assert (given_up_after - seconds(socket.TCP_KEEPIDLE)) / seconds(socket.TCP_KEEPINTVL) >= 3  # probes must be lost


def test_a_name_that_is_not_known_is_a_trouble_of_the_handle_that_says_so(place: Place, monkeypatch: Any) -> None:
    here = place.listener("a")
    monkeypatch.setattr(socket, "getaddrinfo", unresolvable)
    node = place.node(here, "b", "no.such.host:7000")
    node.send_message(beat(1))
    eventually(lambda: "cannot connect to no.such.host:7000: Name or service not known" in node.trouble, "said")


def test_nobody_waits_for_the_look_up_of_a_name(place: Place, monkeypatch: Any) -> None:
    here = place.listener("a")
    there = place.listener("b")
    gate, look_up = Gate(), socket.getaddrinfo

    def slow_look_up(host: Any, *args: Any, **kwargs: Any) -> Any:
        if host == "slow.host":
            gate.pass_through()
        return look_up("127.0.0.1" if host == "slow.host" else host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", slow_look_up)
    with gate:
        slow = place.node(here, "b", there.address.replace("127.0.0.1", "slow.host"))
        gate.wait_until_reached()
        slow.send_message(beat(1))
        other = place.node(here, "b", there.address)
        connected(other)
        other.send_message(beat(2))
        assert received(there) == beat(2)
    connected(slow)


def test_nobody_waits_for_a_handshake(place: Place, monkeypatch: Any) -> None:
    """A peer that is stopped, or busy, lets the system accept the connection and says nothing."""
    here, there = place.listener("a"), place.listener("b")
    gate, authenticate = Gate(), Channel.authenticate_as_dialler

    def authenticate_slowly(channel: Channel, authkey: bytes) -> None:
        if not gate.reached.is_set():  # the first one alone
            gate.pass_through()
        authenticate(channel, authkey)

    monkeypatch.setattr(Channel, "authenticate_as_dialler", authenticate_slowly)
    with gate:
        slow = place.node(here, "b", there.address)
        gate.wait_until_reached()
        slow.send_message(beat(1))
        slow.hint()
        assert slow.trouble
        other = place.node(here, "b", there.address)
        connected(other)
        other.send_message(beat(2))
        assert received(there) == beat(2)
    connected(slow)


def test_a_handle_that_is_closed_while_it_dials_says_nothing_when_it_gets_through(place: Place, log: Log) -> None:
    """The member may have started again meanwhile, and its former life would be taken for a second process."""
    here, there = place.listener("a", timing=HURRIED), place.listener("b")
    gate, look_up = Gate(), socket.getaddrinfo

    def slow_look_up(host: Any, *args: Any, **kwargs: Any) -> Any:
        gate.pass_through()
        return look_up(host, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch, gate:
        patch.setattr(socket, "getaddrinfo", slow_look_up)
        node = place.node(here, "b", there.address)
        node.send_message(beat(1))
        gate.wait_until_reached()
        node.close()
        gate.open()
        node._thread.join(PATIENCE)
    assert there.claimed_addresses == {}
    assert not log.count("connected to b")


@pytest.mark.parametrize("address", ["", "a", "a:b", "a:65536", "a:-1", "a:", ":٣", 7000, None, ("a",), ("a", "b", 1)])
def test_what_is_no_address_is_refused(address: Any) -> None:
    with pytest.raises(ConfigError, match="address is"):
        ConnectionListener(address, node_id="a", authkey=KEY)


@pytest.mark.parametrize(
    ("address", "text"),
    [
        ("unix:a.sock", "./a.sock"),
        ("unix:x:1", "./x:1"),
        (Path("a.sock"), "./a.sock"),
        (Path("/run/a.sock"), "/run/a.sock"),
        (("::1", 7600), "[::1]:7600"),
    ],
)
def test_an_address_as_text_means_the_same_when_it_is_read_again(address: Any, text: str) -> None:
    """A listener reads what a member has made of it, and a path without a slash would be the name of a host."""
    assert normalize(address) == text
    assert normalize(text) == text


# --- What is kept and what is dropped ----------------------------------------------------------------------------


def test_a_peer_that_is_away_is_sent_the_newest_messages_when_it_comes(place: Place) -> None:
    """Those that the queue has no room for any more are the oldest."""
    former = place.listener("b")
    former.close()
    node = place.node(place.listener("a"), "b", former.address)
    for number in range(1, 201):
        node.send_message(beat(number))
    there = place.listener("b", former.address)
    kept = connection.QUEUE_LENGTH
    assert [received(there).round for _ in range(kept)] == list(range(201 - kept, 201))
    assert there.inbox.empty()


def test_messages_older_than_the_message_timeout_are_not_sent(place: Place, monkeypatch: Any) -> None:
    passed = [0.0]
    clock = SimpleNamespace(monotonic=lambda: time.monotonic() + passed[0])
    monkeypatch.setattr(connection, "time", clock)
    former = place.listener("b")
    former.close()
    node = place.node(place.listener("a"), "b", former.address)
    node.send_message(beat(1))
    passed[0] += UNHURRIED.message_timeout
    node.send_message(beat(2))
    there = place.listener("b", former.address)
    assert received(there) == beat(2)


def test_an_inbox_that_is_full_loses_messages_and_holds_up_nobody(place: Place, log: Log) -> None:
    there = place.listener("b", inbox=queue.Queue(1))
    first, second = place.peer(there, "a"), place.peer(there, "c")
    first.send_bytes(encode(beat(1, "a")))
    eventually(there.inbox.full, "full")
    second.send_bytes(encode(beat(2, "c")))
    second.send_bytes(encode(beat(3, "a")))  # is found out only if the one before was dealt with
    wait_for_end(second)
    log.wait_for("b: closed the connection from c", "a message of a came over the connection of c")
    assert received(there) == beat(1, "a")
    assert there.inbox.empty()


# --- Peers that end, hang and come back --------------------------------------------------------------------------

LISTEN = f"""
import os, sys
from raftlite import ConnectionListener, Timing
listener = ConnectionListener(sys.argv[1], node_id="b", authkey={KEY!r}, timing=Timing(message_timeout=30.0)).start()
print(listener.address)
"""
ECHO = """
while True:
    print(listener.inbox.get().round)
"""


def expect_message(node: ConnectionNode, child: Any, number: int) -> None:
    """Send a message until the child prints its number; older messages may come before it."""
    with sending(node, number):
        while child.read_line() != str(number):
            pass


@contextlib.contextmanager
def sending(node: ConnectionNode, number: int) -> Iterator[None]:
    """Send it again and again, as the election does: one that waits for a slow machine, or a new line, is dropped."""
    arrived = threading.Event()

    def send() -> None:
        node.send_message(beat(number))
        while not arrived.wait(0.05):
            node.send_message(beat(number))

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        arrived.set()
        thread.join()


def send_until_trouble(node: ConnectionNode) -> str:
    return eventually(lambda: node.send_message(beat(0)) or node.trouble, "noticed")


@pytest.mark.slow
@needs_signals
@pytest.mark.parametrize("kind", ["port", "path"])
def test_a_peer_that_was_killed_is_reached_again_at_the_same_address(place: Place, start_child: Any, kind: str) -> None:
    """A process that is killed leaves its socket file behind."""
    child = start_child(LISTEN + ECHO, "127.0.0.1:0" if kind == "port" else f"{place.folder}/b")
    address = child.read_line()
    node = place.node(place.listener("a", timing=Timing()), "b", address)
    expect_message(node, child, 1)
    child.kill()
    assert re.search("cannot connect|connection lost", send_until_trouble(node))
    again = start_child(LISTEN + ECHO, address)
    again.expect(address)
    expect_message(node, again, 2)


def test_a_peer_that_was_closed_is_reached_again_at_the_same_address(place: Place) -> None:
    here, former = place.listener("a"), place.listener("b")
    node = place.node(here, "b", former.address)
    node.send_message(beat(1))
    assert received(former) == beat(1)
    former.close()
    send_until_trouble(node)
    there = place.listener("b", former.address)
    connected(node)
    node.send_message(beat(2))
    while received(there) != beat(2):
        pass


@needs_signals
def test_a_peer_that_is_stopped_holds_up_nobody_and_is_reached_again(place: Place, start_child: Any) -> None:
    child = start_child(LISTEN + ECHO, "127.0.0.1:0")
    here, other = place.listener("a", timing=Timing()), place.listener("c")
    node, node_of_other = place.node(here, "b", child.read_line()), place.node(here, "c", other.address)
    expect_message(node, child, 1)
    child.send_signal(signal.SIGSTOP)
    large = Membership(1, 1, tuple(NodeInfo(f"{number:0100}") for number in range(400)))

    def send() -> str:
        node.send_message(Heartbeat(1, "a", 2, (1, 1), large))
        return node.trouble

    eventually(send, "given up")
    with sending(node_of_other, 3):
        assert received(other) == beat(3)
    child.send_signal(signal.SIGCONT)
    expect_message(node, child, 4)


@needs_fork
def test_a_forked_child_does_not_hide_the_death_of_its_parent(place: Place, start_child: Any) -> None:
    """The listening socket, what was accepted and what was dialled: a fork that kept a copy would keep it alive."""
    server = place.server("")
    host, port = server.getsockname()
    child = start_child(
        LISTEN
        + """
node = listener.node("c", sys.argv[2])
assert sys.stdin.readline() == "fork\\n"
if os.fork() == 0:
    print("forked")
    sys.stdin.readline()
    print("alive")
    os._exit(0)
sys.stdin.readline()
""",
        f"{place.folder}/b",
        f"{host}:{port}",
    )
    address = child.read_line()
    dialled = place.channel(address)
    dialled.exchange(Identity("a", b"").hello(kind="peer", to="b"))
    accepted = place.accept_channel(server)
    with accepted.limited(PATIENCE):
        accepted.authenticate_as_listener(KEY.encode())
        accepted.recv_hello()
        accepted.send_json(Identity("c", b"").hello())
        child.tell("fork")
        child.expect("forked")
        child.kill()
        wait_for_end(dialled)
        wait_for_end(accepted)
        with pytest.raises(ConnectionRefusedError):
            dial(address, PATIENCE)
        place.listener("b", address)
        child.tell("")
        child.expect("alive")


@needs_fork
def test_a_forked_child_can_close_its_copies_and_the_parent_goes_on(place: Place, start_child: Any) -> None:
    child = start_child(
        LISTEN
        + """
node = listener.node("c", sys.argv[1] + "-nobody")
pid = os.fork()
if pid == 0:
    node.send_message("anything")
    node.close()
    listener.close()
    os._exit(7)
print(os.WEXITSTATUS(os.waitpid(pid, 0)[1]))
node.close()
"""
        + ECHO,
        f"{place.folder}/b",
    )
    address = child.read_line()
    child.expect("7")
    expect_message(place.node(place.listener("a"), "b", address), child, 1)


@needs_fork
def test_a_connection_that_was_being_made_at_a_fork_is_made_anew(place: Place, start_child: Any) -> None:
    """The child has a copy of a socket that nobody knows of yet."""
    server = place.server("")
    child = start_child(
        LISTEN
        + """
import threading
from raftlite.nodes import connection

def dial_and_fork(*arguments, dial=connection.dial):
    connection.dial = dial
    sock = dial(*arguments)
    if os.fork() == 0:
        print("forked")
        os.read(0, 1)
        os._exit(0)
    return sock

connection.dial = dial_and_fork
node = listener.node("c", sys.argv[2])
threading.Event().wait()
""",
        f"{place.folder}/b",
        "{}:{}".format(*server.getsockname()),
    )
    child.read_line()
    child.expect("forked")
    wait_for_end_of_socket(place.accept(server))
    accepted = place.accept_channel(server)
    with accepted.limited(PATIENCE):
        accepted.authenticate_as_listener(KEY.encode())
        child.kill()
        wait_for_end(accepted)


@pytest.mark.slow
@needs_fork
def test_a_forked_child_has_no_socket_of_a_listener_whose_connections_come_and_go(
    place: Place, start_child: Any
) -> None:
    child = start_child(
        LISTEN
        + """
def is_open_socket(number):
    try:
        return os.readlink(f"/proc/self/fd/{number}").startswith("socket:")
    except OSError:
        return False

def look():
    numbers = os.listdir("/proc/self/fd") if os.path.isdir("/proc/self/fd") else []
    left = sum(map(is_open_socket, numbers))
    listener.close()
    os._exit(left)

def fork():
    pid = os.fork()
    if pid == 0:
        look()
    return os.WEXITSTATUS(os.waitpid(pid, 0)[1])

print(sum(fork() for _ in range(300)))
listener.close()
""",
        f"{place.folder}/b",
    )
    address, done = child.read_line(), threading.Event()

    def come_and_go() -> None:
        while not done.is_set():
            with contextlib.suppress(OSError):
                dial(address, PATIENCE).close()

    with ThreadPoolExecutor() as pool:
        pool.submit(come_and_go)
        try:
            child.expect("0")
        finally:
            done.set()
    assert child.wait() == 0


@pytest.mark.slow
@needs_fork
@pytest.mark.parametrize("held", ["listener._acceptor._lock", "node._wake"])
def test_a_lock_that_is_held_at_a_fork_does_not_hang_the_child(place: Place, start_child: Any, held: str) -> None:
    child = start_child(
        LISTEN
        + f"""
node = listener.node("c", sys.argv[1] + "-nobody")
lock = {held}
"""
        + """
import threading
holding, done = threading.Event(), threading.Event()

def hold():
    with lock:
        holding.set()
        done.wait()

holder = threading.Thread(target=hold)
holder.start()
holding.wait()
pid = os.fork()
if pid == 0:
    node.send_message("anything")
    node.close()
    listener.close()
    os._exit(7)
print(os.WEXITSTATUS(os.waitpid(pid, 0)[1]))
done.set()
holder.join()
node.close()
listener.close()
""",
        f"{place.folder}/b",
    )
    child.read_line()
    child.expect("7")
    assert child.wait() == 0


@needs_fork
def test_a_forked_child_that_forks_can_have_a_listener_of_its_own(place: Place, start_child: Any) -> None:
    child = start_child(
        LISTEN
        + """
def fork(body):
    pid = os.fork()
    if pid == 0:
        body()
        os._exit(7)
    return os.WEXITSTATUS(os.waitpid(pid, 0)[1])

def fork_and_listen():
    fork(lambda: None)
    with ConnectionListener(sys.argv[1] + "-child", node_id="c", authkey="another") as own:
        node = own.node("b", sys.argv[1])
        while "the keys differ" not in node.trouble:
            pass
        node.close()

print(fork(fork_and_listen))
listener.close()
""",
        f"{place.folder}/b",
    )
    child.read_line()
    child.expect("7")
    assert child.wait() == 0


# --- Versions of Python ------------------------------------------------------------------------------------------

TALK = f"""
import sys
from raftlite import ConnectionListener, Heartbeat, Timing
node_id, peer, folder = sys.argv[1:]
timing = Timing(message_timeout=30.0)
with ConnectionListener(f"{{folder}}/{{node_id}}", node_id=node_id, authkey={KEY!r}, timing=timing) as listener:
    print("listening")
    sys.stdin.readline()
    node = listener.node(peer, f"{{folder}}/{{peer}}")
    node.send_message(Heartbeat(1, node_id, sys.version_info[1], (0, 1)))
    heard = iter(lambda: listener.inbox.get(timeout=30), None)
    message = next(each for each in heard if isinstance(each, Heartbeat))
    print(message.sender_id, message.round)
    sys.stdin.readline()
    node.close()
"""


def interpreter(version: str) -> str:
    """A CPython of this version that starts, from PATH or among those of pyenv."""
    installed = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))
    for candidate in (*installed, shutil.which(f"python{version}")):
        if candidate is not None:
            command = [str(candidate), "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
            with contextlib.suppress(OSError, subprocess.TimeoutExpired):
                done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=20)
                if done.stdout.decode().strip() == version:
                    return str(candidate)
    pytest.skip(f"there is no Python {version} here")


@needs_unix
def test_the_oldest_and_the_newest_python_understand_each_other(place: Place, start_child: Any) -> None:
    """What they prove to each other that they know the key with has changed in between."""
    old, new = interpreter("3.9"), interpreter("3.13")
    first = start_child(TALK, "a", "b", place.folder, python=old)
    second = start_child(TALK, "b", "a", place.folder, python=new)
    for child in (first, second):
        child.expect("listening")
    for child in (first, second):
        child.tell("")
    assert (first.read_line(), second.read_line()) == ("b 13", "a 9")
    for child in (first, second):
        child.tell("")
    assert (first.wait(), second.wait()) == (0, 0)
