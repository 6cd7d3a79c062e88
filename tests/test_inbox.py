"""The inbox whose reader reads the sockets of peers itself: what arrives, in which order, what ends a connection."""

from __future__ import annotations

import contextlib
import os
import queue
import threading

import pytest
from children import FORKS_ON_PURPOSE
from peers import Played, connected, peer_of, read, wait_for_line
from threads import PATIENCE, eventually, is_inside

from raftlite import Heartbeat, PeerDown, PeerUp
from raftlite.codec import encode
from raftlite.nodes.inbox import CAN_POLL, PollingInbox

pytestmark = pytest.mark.skipif(not CAN_POLL, reason="this system has no epoll, and each connection's thread reads")


def beat(number, sender="b"):
    return Heartbeat(1, sender, number, (0, 1))


@pytest.fixture
def inbox():
    inbox = PollingInbox()
    yield inbox
    inbox.close()


def test_whoever_waits_is_woken_by_what_is_put_in(inbox):
    got = queue.Queue()
    reader = threading.Thread(target=lambda: [got.put(inbox.get()) for _ in range(200)])
    reader.start()
    for number in range(200):
        inbox.put(number)
        assert got.get(timeout=PATIENCE) == number
    reader.join()


def test_it_waits_no_longer_than_it_is_told(inbox):
    for options in ({"timeout": 0.01}, {"block": False}, {"timeout": 0}):
        with pytest.raises(queue.Empty):
            inbox.get(**options)


def test_what_peers_send_is_counted_before_anybody_has_read_it(listen):
    listener = listen("a")
    with pytest.raises(queue.Empty):
        listener.inbox.get(timeout=0)  # from now on there is a reader
    with peer_of(listener, "b") as peer:
        for number in range(50):
            peer.send_bytes(encode(beat(number)))
        eventually(lambda: listener.inbox.qsize() == 50, "all are there")
        assert [listener.inbox.get_nowait() for _ in range(50)] == [beat(number) for number in range(50)]
        assert listener.inbox.empty()


def test_a_frame_may_come_byte_by_byte_and_many_at_once(listen):
    listener = listen("a")
    data = [encode(beat(number)) for number in range(3)]
    wire = b"".join(len(each).to_bytes(4, "big") + each for each in data)
    with read(listener.inbox) as messages, peer_of(listener, "b") as peer:
        for byte in wire:
            peer.send_rest(bytes([byte]))
        peer.send_rest(wire * 1_000)
        got = [messages.get(timeout=PATIENCE) for _ in range(3 * 1_001)]
    assert got == [beat(number) for number in range(3)] * 1_001


def test_what_a_dead_peer_said_last_is_heard_before_the_news_of_its_death(listen, folder):
    """Its connection's thread sees the end at the same time as the reader sees the bytes."""
    for number in range(20):
        (folder / f"{number}").mkdir()
        with contextlib.closing(Played(folder / f"{number}", "b")) as played:
            assert_that_its_death_is_told_last(listen("a", "127.0.0.1:0"), played)


def assert_that_its_death_is_told_last(listener, played):
    """`played` listens as the member b; here it speaks to `listener` as well, and dies as processes do."""
    with pytest.raises(queue.Empty):
        listener.inbox.get(timeout=0)  # from now on there is a reader
    with contextlib.closing(listener.node("b", played.address)) as node:
        to_played, _ = played.accept_peer()
        connected(node)
        with peer_of(listener, "b", incarnation=played.identity.incarnation) as peer:
            eventually(lambda: listener.inbox._lent, "left to the reader, which reads nothing yet")
            for number in range(20):
                peer.send_bytes(encode(beat(number)))
            # The system ends its connections one after the other, and this one last: there is proof before.
            played.close()
            to_played.close()
            node.hint()
            eventually(lambda: "refused" in node.trouble and is_inside(node._thread, "_pause"), "proved")
            with read(listener.inbox) as messages:
                peer.close()
                heard = [messages.get(timeout=PATIENCE)]
                while type(heard[-1]) is not PeerDown:
                    heard.append(messages.get(timeout=PATIENCE))
                listener.close()
    *heard, death = (each for each in heard if type(each) is not PeerUp)
    assert heard == [beat(number) for number in range(20)]
    assert death.node_id == "b"
    assert messages.empty()


@pytest.mark.parametrize("data", [b"no JSON", b"", encode(beat(1, sender="c")), b"{}"])
def test_bad_bytes_end_their_connection_and_no_other(data, listen, caplog):
    caplog.set_level("WARNING", logger="raftlite")
    listener = listen("a", "127.0.0.1:0")
    with read(listener.inbox) as messages, peer_of(listener, "b") as bad, peer_of(listener, "d") as good:
        bad.send_bytes(encode(beat(1)))
        bad.send_bytes(data)
        wait_for_line(caplog, "", "a: closed the connection from b at 127.0.0.1")
        assert bad.has_input(PATIENCE)
        good.send_bytes(encode(beat(2, sender="d")))
        eventually(lambda: beat(2, sender="d") in list(messages.queue), "the other is heard")
        assert [message for message in messages.queue if message != PeerDown("b")] == [beat(1), beat(2, sender="d")]


def test_a_frame_that_is_too_long_is_not_waited_for(listen, caplog):
    caplog.set_level("WARNING", logger="raftlite")
    listener = listen("a", "127.0.0.1:0")
    with read(listener.inbox) as messages, peer_of(listener, "b") as bad:
        bad.send_rest((2**30).to_bytes(4, "big") + b"x")
        wait_for_line(caplog, "a frame is longer than", "a: closed the connection from b at 127.0.0.1")
        assert messages.empty()


def test_a_flood_of_one_peer_keeps_no_other_from_being_heard(listen):
    listener = listen("a")
    flood = b"".join(len(data).to_bytes(4, "big") + data for data in [encode(beat(0))] * 1_000)
    over = threading.Event()

    def pour(peer):
        while not over.is_set():
            peer.send_rest(flood)

    with pytest.raises(queue.Empty):
        listener.inbox.get(timeout=0)  # from now on there is a reader; before, what comes too fast is dropped
    with peer_of(listener, "b") as loud, peer_of(listener, "c") as quiet:
        pouring = threading.Thread(target=pour, args=(loud,))
        pouring.start()
        quiet.send_bytes(encode(beat(7, sender="c")))
        while listener.inbox.get(timeout=PATIENCE) != beat(7, sender="c"):
            pass
        over.set()
        with read(listener.inbox):
            pouring.join()


def test_closing_leaves_what_is_in_the_queue_and_wakes_whoever_waits(inbox):
    got = queue.Queue()
    reader = threading.Thread(target=lambda: got.put(inbox.get()))
    reader.start()
    eventually(lambda: inbox._is_asleep, "it waits")
    inbox.close()
    inbox.close()
    inbox.put("last")
    assert got.get(timeout=PATIENCE) == "last"
    reader.join()
    inbox.put("more")
    assert inbox.qsize() == 1 and inbox.get_nowait() == "more" and inbox.empty()


@pytest.mark.filterwarnings(FORKS_ON_PURPOSE)
def test_a_forked_copy_takes_nothing_from_its_parent(listen):
    listener = listen("a")
    with read(listener.inbox) as messages, peer_of(listener, "b") as peer:
        peer.send_bytes(encode(beat(1)))
        assert messages.get(timeout=PATIENCE) == beat(1)
        pid = os.fork()
        if pid == 0:
            try:
                listener.inbox.put("of the child")
                os._exit(0 if listener.inbox.get_nowait() == "of the child" else 1)
            finally:
                os._exit(2)
        assert os.WEXITSTATUS(os.waitpid(pid, 0)[1]) == 0
        peer.send_bytes(encode(beat(2)))
        assert messages.get(timeout=PATIENCE) == beat(2)
