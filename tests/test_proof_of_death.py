"""A promise to a leader is released on proof that its process is gone, and never on a suspicion.

The members here promise a day of loyalty, and the leader's lease lasts as long. So whoever follows another leader
within the patience of a test has taken something for proof; if the first one is alive then, two have a lease at once.
"""

from __future__ import annotations

import contextlib
import errno
import signal
import socket
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, Callable, Dict, Iterator, List

import pytest
from children import Child
from middleman import Middleman
from peers import connected, lead, peer_of
from threads import PATIENCE, eventually

from raftlite import Member, PeerDown, RequestVote, RequestVoteResponse, Timing
from raftlite.nodes import address, connection
from raftlite.nodes.address import host_and_port

DAY = 86_400.0
LOYAL = Timing(heartbeat_interval=0.05, election_timeout=DAY, message_timeout=0.1)
UNHURRIED = replace(LOYAL, message_timeout=PATIENCE)  # a handshake may take as long as it likes
WARY = Timing(heartbeat_interval=0.05, election_timeout=DAY, message_timeout=0.1, trust_refused=False)
LOOKS = 2  # so often each follower looks whether the leader is gone

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="this system cannot stop a process")


def slowly(*values: Any) -> Any:
    """A case that differs little from one of the quick tests."""
    return pytest.param(*values, marks=pytest.mark.slow)


KILL = "os.kill(os.getpid(), signal.SIGKILL)"
each_kind = pytest.mark.parametrize("kind", ["unix", "tcp"])

LEADER = '''
import os, resource, signal, subprocess, sys, time
from raftlite import *

listen, b, c = sys.argv[1:]
loyal = Timing(0.05, 86400.0, 0.1)
member = Member("l", peers={"b": b, "c": c}, listen=listen, authkey="k", min_nodes=3, timing=loyal).start()
print(member.address)

def lead():
    while not member.is_leader:
        member._thread.inbox.put(TimeoutNow(member.status().current_term + 1, "b"))
        try:
            member.wait_until_leader(5.0)
        except TimeoutError:
            pass
    print("leads")

def exhaust():
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/dev/fd")) + 20, 20_000))
    try:
        while True:
            taken.append(os.open("/dev/null", os.O_RDONLY))
    except OSError as error:
        print(error.errno)

def fork():
    for _ in range(3):
        if os.fork() == 0:
            sys.stdin.read()
            os._exit(0)
    print("forked")

AGAIN = """
import sys
from raftlite import *
with Member("l", listen=sys.argv[1], authkey="k", timing=Timing(0.05, 86400.0, 0.1)):
    print("again")
    sys.stdin.read()
"""
taken = []
for line in sys.stdin:
    exec(line)
'''


class Follower(Member):
    """Notes what it is told of deaths and votes."""

    def start(self) -> Member:
        super().start()
        self.deaths: List[str] = []
        self.refusals: List[str] = []
        self._get = self._listener.inbox.get
        self._listener.inbox.get = self._get_and_note
        return self

    def _get_and_note(self, *how: Any, **more: Any) -> Any:
        message = self._get(*how, **more)
        self._note(message)
        return message

    def _note(self, message: Any) -> None:
        if isinstance(message, PeerDown):
            self.deaths.append(message.node_id)
        if isinstance(message, RequestVoteResponse):
            self.refusals.append(message.reason)

    def is_led(self) -> bool:
        """Whether it follows the leader, and they have reached each other: before that nothing can be proved."""
        is_known = "l" in self._listener._alive and self._thread._handles["l"]._answered is not None
        return is_known and self.leader_id == "l" and self.membership.term > 0

    def ask_for_vote(self, of: str) -> str:
        """Ask that member whether it would vote for this one in the next term; return why not."""
        known = self.status()
        ids = tuple(sorted(known.membership.ids))
        request = RequestVote(known.current_term + 1, self.node_id, known.membership.position, ids, pre_vote=True)
        del self.refusals[:]
        eventually(lambda: self._thread._handles[of].send_message(request) or self.refusals, "answered")
        return self.refusals[-1]


class Cluster:
    """A leader l, and b and c, which follow it. Whoever dials b or c goes through a middleman."""

    def __init__(self, stack: ExitStack, folder: Any, kind: str, timing: Timing) -> None:
        self._stack, self._folder, self._kind, self._timing = stack, folder, kind, timing
        self.to_leader, self._to_b, self._to_c = (
            stack.enter_context(Middleman(self.place(f"to-{name}"))) for name in "lbc"
        )
        self.followers: Dict[str, Follower] = {}

    def place(self, name: str) -> str:
        return f"{self._folder}/{name}.sock" if self._kind == "unix" else "127.0.0.1:0"

    def lead_here(self) -> Member:
        """Let a member of this process lead, behind a middleman."""
        peers = {"b": self._to_b.address, "c": self._to_c.address}
        leader = Member("l", peers=peers, listen=self.place("l"), authkey="k", min_nodes=3, timing=LOYAL)
        self._stack.enter_context(leader)
        self.to_leader.target = leader.address
        self._start_followers(self.to_leader.address)
        lead(leader, list(self.followers.values()))
        self._wait_until_led()
        return leader

    def lead_in(self, start_child: Callable[..., Child]) -> Child:
        """Let a process lead, which the followers reach without any middleman."""
        child = start_child(LEADER, self.place("l"), self._to_b.address, self._to_c.address)
        self.address = child.read_line()
        self._start_followers(self.address)
        for follower in self.followers.values():
            connected(follower._thread._handles["l"])
        child.tell("lead()")
        child.expect("leads")
        self._wait_until_led()
        return child

    def _start_followers(self, leader: str) -> None:
        for node_id, other, way in (("b", "c", self._to_c), ("c", "b", self._to_b)):
            peers = {"l": leader, other: way.address}
            self.followers[node_id] = member = Follower(
                node_id, peers=peers, listen=self.place(node_id), authkey="k", min_nodes=3, timing=self._timing
            )
            self._stack.enter_context(member)
        self._to_b.target, self._to_c.target = (self.followers[node_id].address for node_id in "bc")

    def _wait_until_led(self) -> None:
        for member in self.followers.values():
            eventually(lambda of=member: of.is_led(), "following l")
            assert member.deaths == []

    def cut(self, treat: str, ending: str = "end") -> None:
        """End what the leader has dialled and what was dialled to it; `treat` what is dialled next."""
        for way in (self._to_b, self._to_c, self.to_leader):
            way.treat = treat
            way.reset() if ending == "reset" else way.cut()

    def wait_until_dialled(self) -> None:
        """Wait until both followers have dialled again where the leader was."""
        arrived = self.to_leader.arrivals
        eventually(lambda: self.to_leader.arrivals >= arrived + 2, "dialled again")

    def wait_until_heard(self) -> None:
        """Wait until both followers have the leader on the line again."""
        for follower in self.followers.values():
            eventually(lambda of=follower._listener: "l" in of._visitors, "heard again")

    def look_for_proof(self, looks: List[bool]) -> None:
        """End what the leader has dialled, and let both followers look again and again; they must find nothing."""
        del looks[:]
        self.cut("swallow")
        eventually(lambda: len(looks) >= 2, "looked")
        for follower in self.followers.values():
            eventually(lambda of=follower._listener: "l" not in of._visitors, "cut off")
            for _ in range(LOOKS):
                follower._listener._prove_death("l", follower._listener._alive["l"])
        assert len(looks) >= 2 + 2 * LOOKS and not any(looks)

    def expect_loyalty(self) -> None:
        """Nobody has been told of a death, and nobody would vote for another."""
        b, c = self.followers.values()
        assert (b.deaths, c.deaths) == ([], [])
        self._to_b.treat = self._to_c.treat = "pass"
        for one, other in ((b, c), (c, b)):
            assert "heard from" in one.ask_for_vote(other.node_id)
        assert (b.leader_id, c.leader_id) == ("l", "l")

    def expect_takeover(self) -> None:
        """Nobody follows the old leader any more, and one of the others leads."""
        self._skip_where_nothing_is_proof()
        for follower in self.followers.values():
            eventually(lambda of=follower: of.leader_id in ("b", "c"), "taken over")
            assert set(follower.deaths) <= {"l"}
        assert any(follower.deaths for follower in self.followers.values())

    def _skip_where_nothing_is_proof(self) -> None:
        if self._kind == "unix" and not address._UNIX_REFUSES_FOR_THE_DEAD_ALONE:
            pytest.skip("this system refuses connections to a Unix socket also where its owner is busy")

    def wait_for_deaths(self) -> None:
        self._skip_where_nothing_is_proof()
        for follower in self.followers.values():
            eventually(lambda of=follower: of.deaths == ["l"], "told")


@pytest.fixture
def cluster(folder: Any, request: Any) -> Iterator[Callable[..., Cluster]]:
    with ExitStack() as stack:
        yield lambda kind, timing=LOYAL: Cluster(stack, folder, kind, timing)


@contextlib.contextmanager
def silent(address: str, number: int) -> Iterator[None]:
    """So many strangers who wait at `address` and say nothing; those for whom there is no room go."""
    with ExitStack() as stack:
        for _ in range(number):
            sock = stack.enter_context(socket.socket(socket.AF_UNIX if "/" in address else socket.AF_INET))
            sock.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                sock.connect(address if "/" in address else host_and_port(address))
        yield


@pytest.fixture
def looks(monkeypatch: Any) -> List[bool]:
    """What each look for a proof has found; the looks are the library's own."""
    found: List[bool] = []
    is_gone = connection.ConnectionNode.is_gone

    def noting(node: connection.ConnectionNode, incarnation: str) -> bool:
        found.append(is_gone(node, incarnation))
        return found[-1]

    monkeypatch.setattr(connection.ConnectionNode, "is_gone", noting)
    return found


# --- Never on a suspicion ---------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "ending"), [("unix", "end"), slowly("tcp", "end"), ("tcp", "reset")])
@pytest.mark.parametrize("treat", ["pass", "swallow", slowly("end")])
def test_cut_connections_prove_nothing(cluster: Any, looks: List[bool], kind: str, ending: str, treat: str) -> None:
    """The leader lives, whatever becomes of the connections that are dialled next."""
    those = cluster(kind)
    leader = those.lead_here()
    del looks[:]
    for _ in range(LOOKS):
        those.cut(treat, ending)
        those.wait_until_heard() if treat == "pass" else those.wait_until_dialled()
    eventually(lambda: len(looks) >= 2, "looked")
    those.expect_loyalty()
    assert leader.is_leader, leader.status()
    assert not any(looks)


@pytest.mark.parametrize(("kind", "treat"), [("unix", "refuse"), ("tcp", "refuse"), ("tcp", "reset")])
def test_refusals_and_resets_prove_nothing_where_they_are_not_trusted(
    cluster: Any, looks: List[bool], kind: str, treat: str
) -> None:
    those = cluster(kind, WARY)
    leader = those.lead_here()
    del looks[:]
    if treat == "refuse":
        those.to_leader.refuse()
    those.cut(treat, "reset")
    eventually(lambda: len(looks) >= 2 * LOOKS, "looked")
    those.expect_loyalty()
    assert leader.is_leader, leader.status()
    assert not any(looks)


def test_another_process_at_the_leaders_address_proves_nothing_where_a_refusal_would_not(
    cluster: Any, listen: Any, looks: List[bool]
) -> None:
    """The address has passed to another machine, with the same member on it, while the leader lives, cut off."""
    those = cluster("tcp", WARY)
    leader = those.lead_here()
    successor = listen("l", authkey="k", timing=UNHURRIED)
    those.to_leader.target = successor.address
    del looks[:]
    those.cut("swallow")
    those.to_leader.treat = "pass"
    those.to_leader.cut()
    for follower in those.followers.values():
        node = follower._thread._handles["l"]
        eventually(lambda of=node: of.peer_incarnation == successor.identity.incarnation, "answered by another")
        eventually(lambda of=follower._listener: "l" not in of._visitors, "cut off")
        follower._listener._prove_death("l", leader._listener.identity.incarnation)
    those.expect_loyalty()
    assert leader.is_leader, leader.status()
    assert len(looks) >= 2 and not any(looks)


@each_kind
def test_a_refusal_is_proof_where_it_is_trusted(cluster: Any, kind: str) -> None:
    """What the other tests here would see, if they saw it: a middleman that refuses is taken for the leader."""
    those = cluster(kind)
    those.lead_here()
    those.to_leader.refuse()
    those.cut("end")
    those.wait_for_deaths()


# --- The leader is stopped, or cannot answer --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "strangers"), [slowly("unix", 0), ("tcp", 0), ("unix", 140), slowly("tcp", 140)], ids=str
)
def test_a_leader_that_is_stopped_is_not_dead(
    cluster: Any, looks: List[bool], start_child: Any, kind: str, strangers: int
) -> None:
    """The system accepts for it as long as there is room, and then lets diallers wait or go."""
    those = cluster(kind)
    leader = those.lead_in(start_child)
    leader.send_signal(signal.SIGSTOP)
    with silent(those.address, strangers):
        those.look_for_proof(looks)
    those.expect_loyalty()
    leader.send_signal(signal.SIGCONT)
    leader.tell("print(member.is_leader)")
    leader.expect("True")


@pytest.mark.slow
@pytest.mark.parametrize("kind", [slowly("unix"), "tcp"])
def test_a_leader_without_file_descriptors_is_not_dead(
    cluster: Any, looks: List[bool], start_child: Any, kind: str
) -> None:
    those = cluster(kind)
    leader = those.lead_in(start_child)
    leader.tell("exhaust()")
    leader.expect(str(errno.EMFILE))
    those.look_for_proof(looks)
    those.expect_loyalty()
    leader.tell("print(member.is_leader)")
    leader.expect("True")


@each_kind
@pytest.mark.parametrize("cluster_name", ["raftlite", slowly("another")])
def test_a_listener_that_refuses_in_its_hello_proves_nothing(
    cluster: Any, looks: List[bool], listen: Any, kind: str, cluster_name: str
) -> None:
    """Whoever the middleman passes new connections on to is alive, and is not the leader."""
    those = cluster(kind)
    leader = those.lead_here()
    those.to_leader.target = listen("x", those.place("x"), authkey="k", cluster=cluster_name).address
    del looks[:]
    for _ in range(LOOKS):
        those.cut("pass")
        those.wait_until_dialled()
    eventually(lambda: len(looks) >= 2, "looked")
    those.expect_loyalty()
    assert leader.is_leader, leader.status()
    assert not any(looks)


@each_kind
def test_a_dialler_without_file_descriptors_has_no_proof(folder: Any, start_child: Any, kind: str) -> None:
    child = start_child(
        """
import os, resource, socket, sys
from raftlite.nodes.address import nobody_listens

with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
    sock.bind(("127.0.0.1", 0))
    place = (socket.AF_INET, sock.getsockname()) if sys.argv[1] == "tcp" else (socket.AF_UNIX, sys.argv[2])
if sys.argv[1] == "unix":
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.bind(sys.argv[2])
before = nobody_listens(*place, 30.0)
resource.setrlimit(resource.RLIMIT_NOFILE, (3, 20_000))
print(before, nobody_listens(*place, 30.0))
""",
        kind,
        folder / "nobody",
    )
    child.expect("True False")


def test_a_refusal_of_a_unix_socket_proves_nothing_where_a_full_backlog_refuses_too(
    folder: Any, monkeypatch: Any
) -> None:
    """As on macOS: a leader that is stopped, or too busy to accept, looks like a dead one there."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as dead:
        dead.bind(str(folder / "dead"))
    for is_proof in (True, False):
        monkeypatch.setattr(address, "_UNIX_REFUSES_FOR_THE_DEAD_ALONE", is_proof)
        assert address.nobody_listens(socket.AF_UNIX, str(folder / "dead"), PATIENCE) is is_proof


def test_a_process_without_file_descriptors_keeps_the_connections_that_it_has(start_child: Any) -> None:
    """It must not take its own trouble for the peer's."""
    child = start_child(
        """
import resource, socket
from raftlite.nodes.channel import Channel

ours, theirs = socket.socketpair()
channel = Channel(ours)
resource.setrlimit(resource.RLIMIT_NOFILE, (3, 20_000))
before = channel.has_input(0.01)
theirs.close()
print(before, channel.has_input(30.0))
channel.close()
"""
    )
    child.expect("False True")


def test_a_unix_socket_is_looked_for_where_it_was_dialled(folder: Any, listen: Any, monkeypatch: Any) -> None:
    """A listener may have named it from another folder, where the same name is another's."""
    for name in ("here", "there"):
        (folder / name).mkdir()
    monkeypatch.chdir(folder / "there")
    there = listen("l", "./sock")
    monkeypatch.chdir(folder / "here")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as dead:
        dead.bind("./sock")
    here = listen("b", folder / "b.sock")
    with contextlib.closing(here.node("l", folder / "there" / "sock")) as node:
        incarnation = eventually(lambda: node.peer_incarnation, "connected")
        assert not node.is_gone(incarnation)
        monkeypatch.chdir(folder / "there")  # for its removal
        there.close()
        node.hint()


# --- Proof ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "end"),
    [
        ("unix", KILL),
        ("tcp", KILL),
        ("unix", "os._exit(0)"),
        ("tcp", "os.abort()"),
        slowly("unix", "os.kill(os.getpid(), signal.SIGSEGV)"),
        slowly("unix", f"fork(); {KILL}"),
        ("tcp", f"fork(); {KILL}"),
        ("tcp", "subprocess.Popen(['cat'], stdout=-3, stderr=-3); os._exit(0)"),
    ],
)
def test_a_leader_that_is_gone_is_replaced_at_once(cluster: Any, start_child: Any, kind: str, end: str) -> None:
    """Not after the day that was promised to it."""
    those = cluster(kind)
    leader = those.lead_in(start_child)
    leader.tell(end)
    those.expect_takeover()


@each_kind
def test_a_leader_that_is_started_again_at_once_has_died(cluster: Any, start_child: Any, kind: str) -> None:
    """A supervisor brings it back before anybody could be refused: another incarnation is proof too."""
    those = cluster(kind)
    leader = those.lead_in(start_child)
    leader.tell("os.execv(sys.executable, [sys.executable, '-c', AGAIN, member.address])")
    leader.expect("again")
    those.expect_takeover()


def test_a_second_process_with_the_leaders_id_is_no_proof_of_the_death_of_the_first(listen: Any, node_to: Any) -> None:
    """It dials while everything between the leader and its follower is cut: whoever answers there is not known."""
    leader, follower = listen("l", timing=UNHURRIED), listen("f", timing=UNHURRIED)
    with Middleman() as between:
        between.target = leader.address
        connected(node_to("l", between.address, of=follower))
        with peer_of(follower, "l", incarnation=leader.identity.incarnation):
            between.treat = "swallow"
            between.cut()
        with peer_of(follower, "l"):
            told = [follower.inbox.get() for _ in range(follower.inbox.qsize())]
            assert [message for message in told if isinstance(message, PeerDown)] == []
