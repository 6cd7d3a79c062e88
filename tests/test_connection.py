"""`ConnectionListener` and `ConnectionNode`: whom they let in, what they make of nonsense, what strangers can do."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import pickle
import queue
import re
import select
import socket
import struct
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from peers import (
    IMPATIENT,
    KEY,
    TIMING,
    channel_to,
    connected,
    ends,
    lines,
    peer_of,
    stranger,
    wait_for_line,
)
from threads import PATIENCE, eventually

from raftlite import ConfigError, ConnectionListener, ElectionThread, Membership, NodeInfo, TimeoutNow
from raftlite.codec import dump, encode
from raftlite.nodes.address import dial
from raftlite.nodes.channel import PROTOCOL, Channel, Identity, Refused

# --- Whom they let in -------------------------------------------------------------------------------------------------


def both_say_why(log, why, dialler="b: a"):
    """Wait until the listener `a` and the dialler have logged it."""
    for start in ("a: turned away ", f"{dialler} cannot be reached: "):
        wait_for_line(log, why, start)


@pytest.mark.parametrize("address", [None, "127.0.0.1:0"])
def test_a_member_with_another_key_is_turned_away_and_both_sides_say_why(listen, node_to, log, address):
    listener = listen("a", address)
    node = node_to("a", listener.address, authkey="an0ther-key")
    both_say_why(log, "authentication failed: the keys differ")
    node.send_message(TimeoutNow(1, "b"))
    assert "the keys differ" in eventually(lambda: node.trouble, "in trouble")
    assert listener.inbox.empty()


def test_a_listener_that_does_not_know_the_key_gets_no_message(node_to, played, log):
    """The dialler lets the listener prove that it knows the key, too."""
    node = node_to("p", played.address)
    channel = Channel(played.accept())
    with closing(channel), channel.limited(PATIENCE):
        # Accept whatever answer comes, and then answer the dialler's own challenge with another key.
        channel.send_bytes(b"#CHALLENGE#" + bytes(20))
        channel.recv_bytes(256)
        channel.send_bytes(b"#WELCOME#")
        challenge = channel.recv_bytes(256)
        channel.send_bytes(bytes(16))
        assert challenge.startswith(b"#CHALLENGE#")
        assert channel.recv_bytes(256) == b"#FAILURE#"
        assert ends(channel) == b""
    wait_for_line(log, "b: p cannot be reached: authentication failed: the keys differ")
    assert node.trouble


def test_a_key_may_be_text_or_bytes(listen, node_to):
    listener = listen("a", authkey=KEY.encode())
    connected(node_to("a", listener.address, authkey=KEY))


@pytest.mark.parametrize("authkey", ["", b"", 7, ["k"]])
def test_a_key_that_is_none_is_a_config_error(folder, authkey):
    with pytest.raises(ConfigError, match="authkey must be bytes or a string, and not empty"):
        ConnectionListener(str(folder / "a.sock"), node_id="a", authkey=authkey)


def test_processes_of_one_family_have_a_key_already(listen, node_to):
    """The one of `multiprocessing`."""
    listener = listen("a", authkey=None)
    connected(node_to("a", listener.address, authkey=bytes(multiprocessing.current_process().authkey)))


def test_a_member_of_another_cluster_is_turned_away_and_both_sides_say_why(listen, node_to, log):
    """Two clusters may share a key, and someone may mistake an address."""
    listener = listen("a", cluster="blue")
    node_to("a", listener.address, cluster="red")
    why = "cluster is 'red' there, but 'blue' here"
    both_say_why(log, why)


def test_who_means_another_member_is_turned_away_and_both_sides_say_why(listen, node_to, log):
    """The addresses of two peers were mixed up."""
    listener = listen("a")
    node_to("c", listener.address)
    why = "'c' is meant, but this is 'a'"
    both_say_why(log, why, dialler="b: c")


def test_a_member_that_dials_itself_is_turned_away(listen, node_to, log):
    """Or another process that uses its id."""
    listener = listen("a")
    node_to("a", listener.address, sender_id="a")
    both_say_why(log, "this is a itself: two processes use one id", dialler="a: a")


def test_an_unknown_id_is_turned_away_and_both_sides_say_why(listen, node_to, log):
    """Where both know the same version of the membership, it is no matter of one that lags behind."""
    membership = Membership(3, 2, (NodeInfo("a"), NodeInfo("b")))
    listener = listen("a")
    listener.watch_membership(lambda: membership)
    node_to("a", listener.address, sender_id="x", membership=lambda: membership)
    why = "x is no member; a knows a, b"
    both_say_why(log, why, dialler="x: a")


@pytest.mark.parametrize("version", [(3, 1), (3, 3), (2, 9), None])
def test_an_unknown_id_with_another_membership_is_let_in(listen, node_to, version):
    """One of the two lags behind, and only messages can tell which."""
    listener = listen("a")
    listener.watch_membership(lambda: Membership(3, 2, (NodeInfo("a"), NodeInfo("b"))))
    theirs = None if version is None else Membership(*version, (NodeInfo("a"), NodeInfo("x")))
    connected(node_to("a", listener.address, sender_id="x", membership=lambda: theirs))


def test_a_known_id_is_let_in(listen, node_to):
    membership = Membership(3, 2, (NodeInfo("a"), NodeInfo("b")))
    listener = listen("a")
    listener.watch_membership(lambda: membership)
    connected(node_to("a", listener.address, membership=lambda: membership))


def test_of_two_processes_with_one_id_the_second_is_turned_away_and_both_sides_say_why(listen, node_to, log):
    """A copied configuration: the one that answers at the address of that id is heard, the other is not."""
    a, b = listen("a"), listen("b")
    connected(node_to("b", b.address, of=a))
    first = connected(node_to("a", a.address, of=b))
    second = node_to("a", a.address, sender_id="b")
    why = f"another process answers as b at {b.address}: two processes use one id"
    both_say_why(log, why)
    second.send_message(TimeoutNow(2, "b"))
    first.send_message(TimeoutNow(3, "b"))
    assert a.inbox.get(timeout=PATIENCE) == TimeoutNow(3, "b")
    assert why in second.trouble
    assert a.inbox.empty()


HELLO = Identity("b", b"").hello(kind="peer", to="a")


@pytest.mark.parametrize(
    "hello, why",
    [
        ({**HELLO, "protocol": PROTOCOL + 1}, f"protocol {PROTOCOL + 1} is spoken there, but {PROTOCOL} here"),
        ({**HELLO, "protocol": None}, f"protocol None is spoken there, but {PROTOCOL} here"),
        ({}, f"protocol None is spoken there, but {PROTOCOL} here"),
        ({**HELLO, "cluster": ["raftlite"]}, "cluster is ['raftlite'] there, but 'raftlite' here"),
        ({**HELLO, "to": None}, "None is meant, but this is 'a'"),
        ({**HELLO, "node_id": None}, "node id is None, but must be 1 to 128 printable characters"),
        ({**HELLO, "node_id": ["b"]}, "node id is ['b'], but must be 1 to 128 printable characters"),
        ({**HELLO, "node_id": ""}, "node id is '', but must be 1 to 128 printable characters"),
        ({**HELLO, "node_id": "b\n"}, "but must be 1 to 128 printable characters"),
        ({**HELLO, "incarnation": None}, "incarnation is None, but must be a text"),
        ({**HELLO, "incarnation": [[]]}, "incarnation is [[]], but must be a text"),
        ({**HELLO, "kind": "request"}, "no requests are answered here"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_hello_that_is_not_understood_is_refused_with_a_sentence(listen, log, hello, why):
    """A later version of raftlite, or a program that only knows the key."""
    listener = listen("a")
    with channel_to(listener) as channel:
        with pytest.raises(Refused, match=re.escape(why)):
            channel.exchange(hello)
        assert ends(channel) == b""
    assert len(lines(log, why)) == 1
    assert not listener._peers


@pytest.mark.parametrize("depth", [10, 900, 5_000, 30_000])
@pytest.mark.parametrize("field", ["protocol", "cluster", "to", "node_id", "incarnation"])
def test_a_hello_that_is_nested_deeply_is_refused_with_a_short_line(listen, log, field, depth):
    """Python gives up on printing what it could still read."""
    listener = listen("a")
    with channel_to(listener) as channel:
        channel.send_bytes(dump({**HELLO, field: "HERE"}).replace(b'"HERE"', b"[" * depth + b"]" * depth))
        ends(channel)
    assert len(wait_for_line(log, "a: turned away")) < 300
    assert not lines(log, "", logging.ERROR)


@pytest.mark.parametrize(
    "data",
    [b"", b"hello", b"[]", b'{"protocol":', b"\xff", b"x" * 70_000, pickle.dumps(HELLO), encode(TimeoutNow(1, "b"))],
)
def test_a_stranger_that_knows_the_key_and_speaks_nonsense_is_turned_away(listen, log, data):
    listener = listen("a")
    with channel_to(listener) as channel:
        with contextlib.suppress(OSError):  # it may hang up before it has read all of that
            channel.send_bytes(data)
        ends(channel)
    wait_for_line(log, "a: turned away")
    assert not lines(log, "", logging.ERROR)
    assert listener.inbox.empty()


# --- What a peer may say ----------------------------------------------------------------------------------------------


def test_a_message_of_a_peer_goes_into_the_inbox(listen):
    listener = listen("a")
    with peer_of(listener, "b") as channel:
        channel.send_bytes(encode(TimeoutNow(1, "b")))
        assert listener.inbox.get(timeout=PATIENCE) == TimeoutNow(1, "b")


class Bomb:
    """Makes a file where it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return (open, (self.path, "w"))


def nonsense(folder):
    """What no peer may send, and the sentence for the log."""
    return {
        "garbage": (b"\xff\x00garbage", "no JSON"),
        "nothing": (b"", "no JSON"),
        "no object": (b"[1]", "JSON, but no object"),
        "a control message": (b'{"type":"Stop"}', "unknown message type 'Stop'"),
        "a pickle": (pickle.dumps(Bomb(folder / "bomb")), "no JSON"),
        "an early pickle": (pickle.dumps(Bomb(folder / "bomb"), 0), "no JSON"),
        "too much": (b"x" * 65_537, "a frame is longer than 65536 bytes"),
        "another's message": (encode(TimeoutNow(1, "c")), "a message of c came over the connection of b"),
        "the receiver's own": (encode(TimeoutNow(1, "a")), "a message of a came over the connection of b"),
        "a huge number": (b'{"type":"TimeoutNow","term":%s,"sender_id":"b"}' % (b"9" * 4_000), "term is 999"),
    }


@pytest.mark.parametrize("address", [None, "127.0.0.1:0"])
@pytest.mark.parametrize("what", nonsense(Path()))
def test_nonsense_ends_the_connection_with_one_line_and_changes_nothing_else(
    listen, node_to, folder, log, what, address
):
    """The inbox gets nothing of it; what came before it and what others say is heard."""
    data, why = nonsense(folder)[what]
    listener = listen("a", address)
    other = connected(node_to("a", listener.address, sender_id="c"))
    with peer_of(listener, "b") as channel:
        channel.send_bytes(encode(TimeoutNow(1, "b")))
        with contextlib.suppress(OSError):
            channel.send_bytes(data)
            channel.send_bytes(encode(TimeoutNow(2, "b")))  # too late
        assert ends(channel) == b""
    other.send_message(TimeoutNow(3, "c"))
    assert {listener.inbox.get(timeout=PATIENCE), listener.inbox.get(timeout=PATIENCE)} == {
        TimeoutNow(1, "b"),
        TimeoutNow(3, "c"),
    }
    assert len(lines(log, "a: closed the connection from b at ")) == 1
    assert len(wait_for_line(log, why)) < 300
    assert listener.inbox.empty()
    assert not (folder / "bomb").exists()
    with peer_of(listener, "b") as channel:
        channel.send_bytes(encode(TimeoutNow(4, "b")))
        assert listener.inbox.get(timeout=PATIENCE) == TimeoutNow(4, "b")


@pytest.mark.parametrize("size", [65_537, 2**30, 2**31 - 1, -1, -5])
def test_a_frame_whose_length_is_nonsense_is_not_waited_for(listen, log, size):
    """Nor is memory set aside for it. -1 announces a length of eight bytes."""
    listener = listen("a")
    with peer_of(listener, "b") as channel:
        header = struct.pack("!i", size) + (struct.pack("!Q", 2**62) if size == -1 else b"")
        os.write(channel._connection.fileno(), header)
        ends(channel)
    wait_for_line(log, "a: closed the connection from b at ")


def test_a_peer_that_knocks_again_and_again_fills_no_log(listen, log):
    """One line, although a dialler has another port each time."""
    listener = listen("a", "127.0.0.1:0")
    for _ in range(10):
        with channel_to(listener) as channel, pytest.raises(Refused):
            channel.exchange({**HELLO, "cluster": "red"})
        with peer_of(listener, "b") as channel:
            channel.send_bytes(b"garbage")
            ends(channel)
        with stranger(listener) as sock:
            sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
            ends(sock)
    assert len(lines(log, "a: turned away")) == 2
    assert len(lines(log, "a: closed the connection from b at ")) == 1


def test_a_pickle_before_the_authentication_has_no_effect(listen, folder, log):
    listener = listen("a")
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with stranger(listener) as sock:
            bomb = pickle.dumps(Bomb(folder / "bomb"), protocol)
            with contextlib.suppress(OSError):
                for data in (struct.pack("!i", len(bomb)) + bomb, bomb):
                    sock.sendall(data)
            ends(sock)
    wait_for_line(log, "a: turned away")
    assert not (folder / "bomb").exists()


@pytest.mark.parametrize(
    "data", [b"\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00", b"\0\0\0\0" * 100, b"\xff" * 4096]
)
def test_a_stranger_that_speaks_another_protocol_is_turned_away(listen, log, data):
    """A browser, a port scanner."""
    listener = listen("a")
    with stranger(listener) as sock:
        with contextlib.suppress(OSError):
            sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)
        ends(sock)
    assert "authentication failed" in wait_for_line(log, "a: turned away")


def test_a_flood_of_messages_is_bounded(listen, monkeypatch):
    """The program may be stuck; what is dropped will be said again."""
    monkeypatch.setattr("raftlite.nodes.connection.INBOX_LENGTH", 5)
    listener = listen("a")
    with peer_of(listener, "b") as channel:
        for term in range(50):
            channel.send_bytes(encode(TimeoutNow(term, "b")))
        channel.send_bytes(b"end")
        ends(channel)
        assert [listener.inbox.get_nowait().term for _ in range(listener.inbox.qsize())] == list(range(5))


def test_a_bounded_inbox_of_the_programs_own_loses_what_does_not_fit(listen):
    listener = listen("a", inbox=queue.Queue(3))
    with peer_of(listener, "b") as channel:
        for term in range(9):
            channel.send_bytes(encode(TimeoutNow(term, "b")))
        channel.send_bytes(b"end")
        ends(channel)
        assert [listener.inbox.get_nowait().term for _ in range(listener.inbox.qsize())] == [0, 1, 2]


def test_elections_go_on_while_strangers_wait_and_a_mad_peer_talks(listen):
    """Three members find each other and a leader through a crowd; the mad one knows the key and an id."""
    listeners = {node_id: listen(node_id) for node_id in "abc"}
    members = []
    with ExitStack() as stack:
        for listener in listeners.values():
            for _ in range(20):
                stack.enter_context(stranger(listener))
            for _ in range(5):
                stack.enter_context(peer_of(listener, "mad")).send_bytes(b"garbage")
        for node_id, listener in listeners.items():
            peers = [listener.node(peer, other.address) for peer, other in listeners.items() if peer != node_id]
            members.append(ElectionThread(node_id, peers, timing=TIMING, inbox=listener.inbox))
            stack.enter_context(members[-1])
        eventually(
            lambda: {member.leader_id for member in members} in ({"a"}, {"b"}, {"c"}), "a leader that all follow"
        )


# --- Strangers that say nothing, or too little ------------------------------------------------------------------------


@pytest.mark.parametrize("address", [None, "127.0.0.1:0"])
def test_two_hundred_silent_strangers_keep_no_peer_out(listen, node_to, address):
    """They have all the time they want here: it is their number that is bounded."""
    listener = listen("a", address)
    with ExitStack() as stack:
        strangers = [stack.enter_context(stranger(listener)) for _ in range(200)]
        node = connected(node_to("a", listener.address))
        node.send_message(TimeoutNow(1, "b"))
        assert listener.inbox.get(timeout=PATIENCE) == TimeoutNow(1, "b")
        for sock in strangers[:136]:  # the oldest; the others may wait on
            ends(sock)
        assert len(listener._acceptor._strangers) <= 64


@pytest.mark.parametrize("address", [None, "127.0.0.1:0"])
def test_silent_strangers_are_ended_after_the_message_timeout(listen, log, address):
    listener = listen("a", address, timing=IMPATIENT)
    with ExitStack() as stack:
        for sock in [stack.enter_context(stranger(listener)) for _ in range(20)]:
            ends(sock)
    eventually(lambda: not listener._acceptor._threads, "without a thread for a stranger")
    assert 1 <= len(lines(log, "a: turned away")) <= 2  # one when its own time is up, or when it is ended from outside


def test_a_peer_is_not_ended_after_the_message_timeout(listen):
    """Only strangers are: a peer may be silent for as long as it likes."""
    listener = listen("a", timing=IMPATIENT)
    with peer_of(listener, "b") as peer, stranger(listener) as sock:
        ends(sock)
        with stranger(listener) as later:
            ends(later)
        peer.send_bytes(encode(TimeoutNow(1, "b")))
        assert listener.inbox.get(timeout=PATIENCE) == TimeoutNow(1, "b")


@pytest.mark.parametrize("drip", [b"\0", b"\0\0\x01\0" + b"x" * 255, b"\x7f" * 9])
def test_a_stranger_that_sends_a_byte_now_and_then_is_ended_too(listen, drip):
    """Each byte alone would come in time."""
    listener = listen("a", timing=IMPATIENT)
    with stranger(listener) as sock, contextlib.suppress(OSError):
        for number in range(10_000):
            sock.sendall(drip[number % len(drip) :][:1])
            if select.select([sock], [], [], 0.01)[0] and not sock.recv(4096):
                return
        pytest.fail("it is still connected")


@pytest.mark.parametrize("what", ["then waits", "then goes"])
@pytest.mark.parametrize("steps", range(3))
def test_half_a_handshake_leaves_nothing(listen, log, steps, what):
    """After the challenge, the answer, or the whole authentication but no hello."""
    listener = listen("a", timing=IMPATIENT if what == "then waits" else TIMING)
    channel = Channel(dial(listener.address, PATIENCE))
    with closing(channel), channel.limited(PATIENCE):
        if steps == 1:
            channel.recv_bytes()
        elif steps == 2:
            channel.authenticate_as_dialler(KEY.encode())
        if what == "then waits":
            ends(channel)
    wait_for_line(log, "a: turned away")
    eventually(lambda: not listener._acceptor._threads, "without a thread for a stranger")


def test_a_stranger_that_hangs_up_at_once_leaves_nothing(listen):
    """A load balancer that looks whether somebody listens, now and then with a reset."""
    listener = listen("a", "127.0.0.1:0")
    for is_reset in (True, False) * 10:
        with stranger(listener) as sock:
            if is_reset:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    with peer_of(listener, "b") as peer:
        peer.send_bytes(encode(TimeoutNow(1, "b")))
        assert listener.inbox.get(timeout=PATIENCE) == TimeoutNow(1, "b")
    eventually(lambda: not listener._acceptor._threads, "without a thread for a stranger")


# --- The key ----------------------------------------------------------------------------------------------------------


def test_the_key_is_never_shown(listen, node_to, log):
    """Neither in a repr, nor in a log at any level, nor in an error."""
    listener = listen("a")
    connected(node_to("a", listener.address))
    with pytest.raises(Refused) as error, channel_to(listener, "an0ther-key"):
        pass
    node = node_to("a", listener.address, sender_id="c", authkey="an0ther-key")
    wait_for_line(log, "c: a cannot be reached")
    shown = [
        log.text,
        repr(listener),
        repr(listener.identity),
        repr(node),
        repr(node._identity),
        node.trouble,
        str(error),
    ]
    for text in shown:
        assert KEY not in text
        assert "an0ther" not in text


@pytest.mark.parametrize("address", ["0.0.0.0:0", ":0", "[::]:0", "10.0.0.1:0", "raftlite.invalid:0"])
def test_an_address_that_others_can_reach_needs_a_key(address):
    """Refused before anything listens there, or anything is looked up twice."""
    with pytest.raises(ValueError, match=r"authkey is missing, but other machines can reach .*:0"):
        ConnectionListener(address, node_id="a")


@pytest.mark.parametrize("address", ["127.0.0.1:0", "localhost:0", "127.1.2.3:0"])
def test_an_address_of_this_machine_needs_no_key(address):
    with ConnectionListener(address, node_id="a"):
        pass


def test_an_address_that_others_can_reach_may_be_listened_at_with_a_key(listen, node_to):
    listener = listen("a", "0.0.0.0:0")
    port = listener.address.rpartition(":")[2]
    assert listener.address == f"0.0.0.0:{port}"
    connected(node_to("a", f"127.0.0.1:{port}"))
