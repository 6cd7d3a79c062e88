"""Hostile input: no bytes that anybody sends end a thread, change a state, grow without bound or stop an election.

`HOSTILE_INPUTS=1000000 pytest -m slow tests/test_hostile.py` says how many inputs the slow tests draw.
"""

from __future__ import annotations

import base64
import contextlib
import json
import logging
import os
import random
import resource
import signal
import socket
import struct
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, Callable, Iterator, List, Tuple

import pytest
from peers import KEY, channel_to, connected, ends, lead, lines, peer_of, read, wait_for_line
from test_codec import MESSAGES, WRONG, is_refused_or_sound, mutated, plain
from threads import PATIENCE

from raftlite import ConnectionListener, Heartbeat, Member, PeerDown, Timing
from raftlite.cli import main
from raftlite.codec import MAX_MESSAGE_BYTES, decode, encode
from raftlite.errors import MalformedMessage
from raftlite.nodes.acceptor import MOST_STRANGERS
from raftlite.nodes.address import dial
from raftlite.nodes.channel import Channel, Identity, Refused
from raftlite.nodes.request import ask_member

DAY = 86_400.0
LOYAL = Timing(heartbeat_interval=0.02, election_timeout=DAY, message_timeout=5.0)
UNHURRIED = Timing(message_timeout=PATIENCE)
INPUTS = int(os.environ.get("HOSTILE_INPUTS", "0"))

ENCODED = [encode(message) for message in MESSAGES]
VALUES = [value for message in MESSAGES for value in plain(message).values()]
VALUES += [value for wrong in WRONG.values() for value in wrong if value == value]

FOUND = [  # the shortest by which a fuzzer that is guided by coverage came to another branch; none did any harm
    b"l",
    b'{"":6e5,"":[3.2],"":0.0',
    b"1e2",
    b"{",
    b'{"":[3.2],"":[3.2],"":[3.2],"":3.2',
    b"1y",
    b'{"type":""}',
    b"{}",
    b'{"":8,"":""}',
    b"}",
    b'{"":{"":{}}}',
    b"2",
    b"NaN",
]


# --- What strangers send ----------------------------------------------------------------------------------------------


def random_bytes(rng: random.Random) -> bytes:
    return rng.randbytes(rng.randrange(200)) if hasattr(rng, "randbytes") else os.urandom(rng.randrange(200))


def truncated(rng: random.Random) -> bytes:
    data = rng.choice(ENCODED)
    return data[: rng.randrange(len(data))]


def mutant(rng: random.Random) -> bytes:
    return mutated(rng.choice(ENCODED), rng)


def with_values_from_elsewhere(rng: random.Random) -> bytes:
    content = json.loads(rng.choice(ENCODED))
    for field in rng.sample(sorted(content), rng.randrange(1, 3)):
        content[field] = rng.choice(VALUES)
    return json.dumps(content).encode()


def oversized(rng: random.Random) -> bytes:
    """Longer than any message, or deeper than Python likes to go."""
    return rng.choice([b" ", b"[", b'{"a":', b"9", b"\xff", b'"']) * (MAX_MESSAGE_BYTES // rng.choice([1, 2, 3]) + 1)


KINDS = [random_bytes, truncated, mutant, with_values_from_elsewhere]


def hostile(rng: random.Random) -> bytes:
    """One input; few are oversized, since they take long."""
    return oversized(rng) if rng.random() < 0.002 else rng.choice(KINDS)(rng)


def framed(data: bytes) -> bytes:
    return struct.pack("!i", len(data)) + data


# --- Against the codec ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", FOUND)
def test_what_a_fuzzer_has_found_is_refused_or_sound(data: bytes) -> None:
    is_refused_or_sound(data)


def expect_codec_stands(inputs: int, seed: int) -> None:
    rng = random.Random(seed)
    refused = sum(is_refused_or_sound(hostile(rng)) for _ in range(inputs))
    assert inputs * 0.7 < refused < inputs, "the inputs are too wild or too tame to say anything"


def test_hostile_bytes_are_refused_or_sound() -> None:
    expect_codec_stands(10_000, seed=1)


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(7200)
def test_a_million_hostile_inputs_are_refused_or_sound() -> None:
    expect_codec_stands(INPUTS or 1_000_000, seed=2)


# --- Against a listener -----------------------------------------------------------------------------------------------


@contextlib.contextmanager
def unauthenticated(listener: ConnectionListener) -> Iterator[Channel]:
    """A channel over which nothing has been said; the listener may end it at any time."""
    with ExitStack() as stack:
        channel = stack.enter_context(closing(Channel(dial(listener.address, PATIENCE))))
        stack.enter_context(contextlib.suppress(OSError, EOFError))
        stack.enter_context(channel.limited(PATIENCE))
        yield channel


class Attacker:
    """Sends hostile bytes to a listener at each stage of a connection, and knows what may come of it: nothing."""

    def __init__(self, listener: ConnectionListener, seed: int) -> None:
        self.listener, self.rng = listener, random.Random(seed)
        self.inputs = 0
        self._stages = [self.before_the_key, self.instead_of_the_answer, self.instead_of_a_hello, self.as_a_hello]

    def attack(self) -> None:
        """A few inputs over one connection."""
        self.rng.choice(self._stages)()

    def before_the_key(self) -> None:
        """Bytes, or a frame, where the answer to the challenge is due; the stranger may go at once."""
        data = hostile(self.rng)
        with closing(dial(self.listener.address, PATIENCE)) as sock, contextlib.suppress(OSError):
            sock.sendall(data if self.rng.random() < 0.5 else framed(data))
        self.inputs += 1

    def instead_of_the_answer(self) -> None:
        """A frame at each step of the authentication, the former steps being as they should be."""
        with unauthenticated(self.listener) as channel:
            channel.recv_bytes()
            channel.send_bytes(hostile(self.rng)[:200])
            channel.recv_bytes()
        self.inputs += 1

    def instead_of_a_hello(self) -> None:
        """A frame that is not sealed, from one who knows the key."""
        with channel_to(self.listener) as channel, contextlib.suppress(OSError):
            channel.send_bytes(hostile(self.rng))
        self.inputs += 1

    def as_a_hello(self) -> None:
        """A sealed hello that is no hello: of the wrong types, or any message."""
        with channel_to(self.listener) as channel, contextlib.suppress(OSError):
            data = hostile(self.rng) if self.rng.random() < 0.5 else json.dumps(self._bad_hello()).encode()
            channel.send_bytes(channel._handshake.seal(data) + data)
            with channel.limited(PATIENCE), contextlib.suppress(EOFError, MalformedMessage):
                channel.recv_bytes()
        self.inputs += 1

    def _bad_hello(self) -> Any:
        hello = Identity("x", b"").hello(kind=self.rng.choice(["peer", "request", None]), to=self.listener.node_id)
        for field in self.rng.sample(sorted(set(hello) - {"to"}), self.rng.randrange(1, 4)):
            hello[field] = self.rng.choice(VALUES)
        return {**hello, "cluster": self.rng.choice(["another", 1, None, [], {}])}

    def as_a_peer(self, peer: str) -> List[Any]:
        """Frames from a peer that knows the key, until one ends the connection; what may arrive of them."""
        expected: List[Any] = []
        with peer_of(self.listener, peer) as channel, contextlib.suppress(OSError):
            while True:
                data = hostile(self.rng)
                self.inputs += 1
                channel.send_bytes(data)
                try:
                    message = decode(data)
                except MalformedMessage:
                    break
                if message.sender_id != peer:
                    break
                expected.append(message)
            ends(channel)
        return expected


def expect_listener_stands(listen: Any, log: Any, inputs: int, seconds: float, seed: int) -> int:
    """Attack until there were so many inputs, or for so long; return how many there were."""
    listener = listen("l", "127.0.0.1:0", timing=UNHURRIED)
    attacker, give_up_at = Attacker(listener, seed), time.monotonic() + seconds
    threads = threading.active_count() + 1
    with read(listener.inbox) as messages:
        while attacker.inputs < inputs and time.monotonic() < give_up_at:
            for _ in range(4):
                attacker.attack()
            expected = attacker.as_a_peer("a")
            with peer_of(listener, "b") as good:
                expected.append(Heartbeat(1, "b", attacker.inputs, (0, 1)))
                good.send_bytes(encode(expected[-1]))
                assert [next_of(messages) for _ in expected] == expected
            assert messages.empty()
            assert threading.active_count() <= threads + MOST_STRANGERS + 4
    assert not lines(log, "", logging.ERROR)
    return attacker.inputs


def next_of(messages: Any) -> Any:
    """The next message; not that a process was replaced, as many a one here is."""
    while True:
        message = messages.get(timeout=PATIENCE)
        if not isinstance(message, PeerDown):
            return message


def test_hostile_bytes_leave_no_trace_in_a_listener(listen: Any, log: Any) -> None:
    """Only what is a message, and of its sender, arrives; the next peer is heard after every connection."""
    assert expect_listener_stands(listen, log, 1_000, DAY, seed=3) >= 1_000


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(7200)
def test_a_million_hostile_inputs_leave_no_trace_in_a_listener(listen: Any, log: Any) -> None:
    """As many as fit into a minute, unless a number is asked for; its memory does not grow meanwhile."""
    expect_listener_stands(listen, log, 2_000, DAY, seed=4)
    before = memory()
    done = expect_listener_stands(listen, log, INPUTS or 10**9, DAY if INPUTS else 60.0, seed=5)
    grown = memory() - before
    print(f"{done} hostile inputs; this process has grown by {grown // 1024} KiB")
    assert grown < 30 * 2**20


def memory() -> int:
    """The bytes that this process has in memory, where the system says so."""
    with contextlib.suppress(OSError):
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    return 0


def test_elections_go_on_under_attack(folder: Path, log: Any) -> None:
    """Nobody's term moves for what strangers send, and a leader that stops is replaced."""
    addresses = {node_id: f"{folder}/{node_id}" for node_id in "abc"}
    with ExitStack() as stack:
        members = {}
        for node_id in addresses:
            options = {"peers": addresses, "listen": addresses[node_id], "authkey": KEY, "timing": LOYAL}
            members[node_id] = stack.enter_context(Member(node_id, min_nodes=3, **options))
        leader = members["a"]
        lead(leader, [members["b"], members["c"]])
        assert {member.wait_for_leader(PATIENCE) for member in members.values()} == {"a"}
        attackers = [Attacker(member._listener, seed) for seed, member in enumerate(members.values())]
        others = [members["b"], members["c"]]
        term = leader.status().current_term
        for _ in range(60):
            for attacker in attackers:
                attacker.attack()
        assert {member.status().current_term for member in members.values()} == {term}
        assert leader.is_leader
        with ThreadPoolExecutor() as pool:
            stopped = pool.submit(leader.stop)
            while not stopped.done() or any(member.leader_id not in ("b", "c") for member in others):
                for attacker in attackers[1:]:
                    attacker.attack()
            stopped.result()
    assert not lines(log, "", logging.ERROR)


def test_a_refusal_that_a_peer_gives_stays_one_line_of_the_log(listen: Any, log: Any) -> None:
    """It may hold what begins a new line, what moves a terminal's cursor, and what no file can be written with."""
    here = listen("a")
    refused = "no\n0.1 INFO forged \x1b[2J\ud800"
    with channel_to(here) as channel, pytest.raises(Refused):
        channel.exchange({**Identity("b", b"").hello(kind="peer", to="a"), "refused": refused})
    assert wait_for_line(log, "forged", "a: turned away").isprintable()


# --- Strangers who say nothing ----------------------------------------------------------------------------------------


def test_a_thousand_silent_strangers_keep_nobody_out(listen: Any, node_to: Any, start_child: Any) -> None:
    """The listener gives each half a minute, and yet has few threads and descriptors for them."""
    here = listen("a", timing=UNHURRIED)
    child = start_child(LISTENER, KEY)
    host, _, port = child.read_line().rpartition(":")
    with ExitStack() as stack, plenty_of_descriptors():
        for _ in range(1_000):
            sock = stack.enter_context(socket.socket())
            sock.setblocking(False)
            sock.connect_ex((host, int(port)))
        node = node_to("b", f"{host}:{port}", of=here)
        connected(node)
        node.send_message(Heartbeat(1, "a", 7, (0, 1)))
        child.expect("7")
        child.tell("")
        assert int(child.read_line()) < 150


LISTENER = """
import sys, threading
from raftlite import ConnectionListener, Timing

listener = ConnectionListener("127.0.0.1:0", node_id="b", authkey=sys.argv[1], timing=Timing(message_timeout=30.0))
print(listener.start().address)
print(listener.inbox.get().round)
sys.stdin.readline()
print(threading.active_count())
"""


@contextlib.contextmanager
def plenty_of_descriptors() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = 4_096 if before[1] == resource.RLIM_INFINITY else min(4_096, before[1])
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(most, before[0]), before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


# --- What was said before is worth nothing ----------------------------------------------------------------------------


class Tape:
    """What a dialler and a listener say to each other until the dialler is let in, taken down between the two."""

    def __init__(self, dialler: Channel, listener: Channel) -> None:
        self.of_listener: List[bytes] = []
        self.of_dialler: List[bytes] = []
        for _ in range(4):  # challenge and digest, welcome and challenge, digest and welcome, then the hellos
            if len(self.of_dialler) < 3:
                self._pass(listener, dialler, self.of_listener)
            self._pass(dialler, listener, self.of_dialler)
        self._pass(listener, dialler, self.of_listener)

    def _pass(self, speaker: Channel, hearer: Channel, tape: List[bytes]) -> None:
        with speaker.limited(PATIENCE):
            tape.append(speaker.recv_bytes(2 * MAX_MESSAGE_BYTES))
        hearer.send_bytes(tape[-1])


@pytest.fixture
def tape(listen: Any, node_to: Any, played: Any) -> Iterator[Tuple[Tape, ConnectionListener]]:
    """A handshake that has succeeded, and the listener that let its dialler in."""
    here, there = listen("a", timing=UNHURRIED), listen("p", timing=UNHURRIED)
    node = node_to("p", played.address, of=here)
    with closing(Channel(played.accept())) as dialler, closing(Channel(dial(there.address, PATIENCE))) as listener:
        tape = Tape(dialler, listener)
        connected(node)
        yield tape, there


def test_a_handshake_that_is_replayed_is_refused(tape: Any, log: Any) -> None:
    recorded, there = tape
    with unauthenticated(there) as channel:
        for frame in recorded.of_dialler:
            channel.recv_bytes()
            channel.send_bytes(frame)
    assert "the keys differ" in wait_for_line(log, "authentication failed", "p: turned away")
    assert there.inbox.empty()


def test_a_listener_that_replays_what_another_has_said_is_not_believed(
    tape: Any, listen: Any, node_to: Any, played: Any, log: Any
) -> None:
    recorded, _ = tape
    node_to("p", played.address, of=listen("c", timing=UNHURRIED))
    with (
        closing(Channel(played.accept())) as channel,
        contextlib.suppress(OSError, EOFError),
        channel.limited(PATIENCE),
    ):
        for frame in recorded.of_listener:
            channel.send_bytes(frame)
            channel.recv_bytes()
    assert "the keys differ" in wait_for_line(log, "authentication failed", "c: p cannot be reached")


# --- The key is nowhere -----------------------------------------------------------------------------------------------


def test_the_key_is_nowhere(listen: Any, node_to: Any, folder: Path, log: Any, tape: Any) -> None:
    """Neither in what is logged, printed, raised and said between members, nor in the arguments of a process."""
    here, other = listen("m"), listen("n", authkey="another key")
    nodes = [node_to("n", other.address, of=here), node_to("p", tape[1].address, of=here)]
    connected(nodes[1])
    wait_for_line(log, "the keys differ", "m: n cannot be reached")
    member = Member("x", listen=f"{folder}/x", authkey=KEY)
    texts = [record.getMessage() + str(record.exc_text) for record in log.records]
    texts += [text for thing in (here, here.identity, member, *nodes) for text in (repr(thing), str(thing))]
    texts += [node.trouble for node in nodes] + raised_with(KEY, here)
    texts += [frame.decode("latin-1") for frame in tape[0].of_dialler + tape[0].of_listener]
    assert len(texts) > 30
    expect_absent(KEY, texts)


def raised_with(key: str, listener: ConnectionListener) -> List[str]:
    """What is raised where the key, or something beside it, is wrong."""
    calls: List[Callable[[], Any]] = [
        lambda: ConnectionListener(listener.address, node_id="m", authkey=key),
        lambda: ConnectionListener("127.0.0.1:0", node_id="m", authkey=[key]),
        lambda: ConnectionListener("127.0.0.1:0", node_id="m", authkey=f"{key}\ud800"),
        lambda: Member("m", authkey=f"{key}\ud800"),
        lambda: Member("m", peers={"n": "127.0.0.1"}, listen=listener.address, authkey=key),
        lambda: ask_member(listener.address, key.encode() + b"!", "raftlite", PATIENCE, "status"),
        lambda: ask_member(listener.address, key.encode(), "another", PATIENCE, "status"),
    ]
    texts = []
    for call in calls:
        with pytest.raises((OSError, ValueError)) as error:
            call()
        texts += [
            str(error.value),
            repr(error.value),
            repr(error.value.__context__),
            "".join(traceback.format_exception_only(error.type, error.value)),
        ]
    return texts


def expect_absent(key: str, texts: List[str]) -> None:
    raw = key.encode()
    forms = [
        key,
        raw.hex(),
        repr(raw)[2:-1],
        *(base64.b64encode(b"\0" * shift + raw)[4:-4].decode() for shift in range(3)),
    ]
    assert not [text for text in texts for form in forms if form in text]


COMMAND = """
import sys
from raftlite.cli import main
main(sys.argv[1:])
"""


@pytest.mark.slow
@pytest.mark.parametrize("way", ["variable", "file"])
def test_the_key_is_in_no_output_of_a_command(start_child: Any, folder: Path, monkeypatch: Any, way: str) -> None:
    """Its arguments are the user's own; those of what it starts are read in test_isolated.py, test_cli.py and so on."""
    if way == "variable":
        monkeypatch.setenv("RAFTLITE_AUTHKEY", KEY)
    else:
        (folder / "key").write_text(KEY)
    options = ["--authkey-file", f"{folder}/key"] if way == "file" else []
    node = ["node", "--id", "a", "--listen", f"{folder}/a", "--min-nodes", "1", "--verbose", "--json"]
    member = start_child(COMMAND, *node, *options)
    texts = [member.read_line()]  # it has started
    status = start_child(COMMAND, "status", f"{folder}/a", *options)
    texts += status.read_all()
    member.send_signal(signal.SIGTERM)
    texts += member.read_all()
    assert (status.wait(), member.wait()) == (0, 0)
    expect_absent(KEY, [*texts, member.errors, status.errors])


@pytest.mark.parametrize("option", [("--authkey", KEY), (f"--authkey={KEY}",)], ids=["apart", "joined"])
def test_a_key_among_the_arguments_is_refused_and_not_repeated(capsys: Any, folder: Path, option: Any) -> None:
    with pytest.raises(SystemExit) as error:
        main(["node", "--id", "a", "--listen", f"{folder}/a", *option])
    said = "".join(capsys.readouterr())
    assert error.value.code == 64
    assert "put the secret into RAFTLITE_AUTHKEY or a file" in said
    expect_absent(KEY, [said])
