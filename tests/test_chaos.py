"""Real processes under faults, in short (`make chaos` is the long one), and that its checker finds what is wrong."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import socket
import struct
from types import SimpleNamespace

import pytest
from chaos.checker import Heal, Heard, Span, violations
from chaos.cluster import Cluster
from chaos.faults import FAULTS, missing_here
from chaos.links import Weather
from chaos.looks import Looks
from chaos.namespaces import NamespaceNetwork, why_not
from chaos.proxy import HANDSHAKE_FRAMES, ProxyNetwork
from chaos.runner import Run
from threads import PATIENCE

from raftlite import Timing
from raftlite.clock import boot_clock
from raftlite.leadership import Leadership

needs_signals = pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="this system cannot stop a process")
needs_unix = pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="this Python has no AF_UNIX")


# --- The checker ------------------------------------------------------------------------------------------------------


def test_leaders_one_after_the_other_with_growing_tokens_are_what_is_wanted():
    spans = [Span("a", 1, 0.0, 1.0), Span("b", 2, 1.1, 2.0), Span("a", 5, 2.1, 3.0)]
    first_life = [Heard("a#1", "a", "elected", 1), Heard("a#1", "a", "lost", 1), Heard("a#1", "a", "stopped")]
    heard = [*first_life, Heard("a#2", "a", "elected", 5), Heard("b#1", "b", "stopped")]
    assert violations(spans, heard, [Heal("loss", 3.0, 0.2, 1.0)]) == []


def test_two_that_led_at_one_instant_are_found():
    """Also where a third came between, and whichever of them ended first."""
    long, short, third = Span("a", 1, 0.0, 9.0), Span("b", 2, 1.0, 2.0), Span("c", 3, 8.5, 10.0)
    found = [line for line in violations([third, long, short], []) if line.startswith("two led at one instant")]
    assert [line.split(":")[0] for line in found] == [
        "two led at one instant, for 1000.000 ms",
        "two led at one instant, for 500.000 ms",
    ]


def test_a_single_look_proves_no_moment_between_its_two_readings_of_the_clock():
    """The process may have been suspended in the middle of it."""
    assert violations([Span("a", 1, 9.0, 0.0), Span("b", 2, 1.0, 2.0)], []) == []


def test_a_token_that_falls_or_stays_is_found():
    for token in (3, 4):
        (found,) = violations([Span("a", 4, 0.0, 1.0), Span("a", token, 2.0, 3.0)], [])
        assert found.startswith("a token did not grow: a with token 4")


def test_a_token_that_two_members_had_is_found():
    spans, heard = [Span("a", 4, 0.0, 1.0)], [Heard("b#1", "b", "elected", 4), Heard("b#1", "b", "lost", 4)]
    assert violations(spans, heard) == ["both a and b had token 4"]


@pytest.mark.parametrize(
    "told",
    [[("lost", 1)], [("elected", 1), ("elected", 2)], [("elected", 1), ("lost", 2)]]
    + [[("elected", 2), ("lost", 2), ("elected", number)] for number in (1, 2)]
    + [[("stopped",), ("elected", 1)]],
)
def test_a_process_that_is_not_told_of_elected_and_lost_in_turn_is_found(told):
    (found,) = violations([], [Heard("a#1", "a", *what) for what in told])
    assert found.startswith("a#1 said")


def test_a_member_that_stops_in_order_and_is_not_told_that_its_grant_is_over_is_found():
    """One that is killed may have been elected last."""
    killed, stopped = [Heard("a#1", "a", "elected", 1)], [Heard("a#2", "a", "elected", 2), Heard("a#2", "a", "stopped")]
    assert violations([], killed + stopped) == ["a#2 said stopped after elected 2"]


@pytest.mark.parametrize("leader_after", [1.1, None])
def test_a_leader_that_comes_too_late_or_never_is_found(leader_after):
    (found,) = violations([], [], [Heal("loss", 3.0, leader_after, 1.0)])
    assert found.startswith("no leader within 1.0 s after loss was over")


def test_what_one_process_saw_of_its_leadership_another_reads(tmp_path):
    """And what it saw once is no stretch of time yet."""
    writer = Looks(str(tmp_path / "looks"), create=True)
    reader = Looks(str(tmp_path / "looks"))
    with contextlib.closing(writer), contextlib.closing(reader):
        assert reader.grants() == []
        for token, at in ((1, 10.0), (1, 11.0), (1, 12.0), (3, 20.0)):
            writer.note_true(token, at, at + 0.5)
        writer.note_look(21.0, leader=2)
        assert reader.grants() == [(1, 10.5, 12.0), (3, 20.5, 20.0)]
        assert (reader.looks, reader.looked_at, reader.true_at, reader.leader) == (1, 21.0, 20.0, 2)


class Playing:
    """A member that says that it leads, and from then on is in the last of these states, `(term, grant)`."""

    def __init__(self, *states):
        self._threads = [SimpleNamespace(current_term=term, _leadership=held) for term, held in states]
        self._thread = self._threads[0]

    @property
    def is_leader(self):
        self._thread = self._threads[-1]
        return True


def grant(token, expires_at=math.inf):
    return Leadership("a", token, expires_at, boot_clock)


@pytest.mark.parametrize("state", [(7, grant(7, expires_at=0.0)), (8, grant(7)), (7, None)])
def test_a_member_that_says_that_it_leads_is_seen_to_whatever_it_goes_by(tmp_path, state):
    """Its lease has run out, or it knows of a later term, or it has no grant at all."""
    with contextlib.closing(Looks(str(tmp_path / "looks"), create=True)) as looks:
        began_at = boot_clock()
        assert looks.look_at(Playing(state)) and looks.look_at(Playing(state))
        ((token, first, last),) = looks.grants()
        assert token == 7
        assert began_at <= first <= last <= boot_clock()


def test_a_look_in_which_another_grant_has_begun_counts_for_neither(tmp_path):
    with contextlib.closing(Looks(str(tmp_path / "looks"), create=True)) as looks:
        for states in ([(1, grant(1)), (3, grant(3))], [(2, None), (3, grant(3))], [(1, grant(1)), (2, None)]):
            assert looks.look_at(Playing(*states))
        assert looks.grants() == []


# --- The proxy --------------------------------------------------------------------------------------------------------


def frame(content):
    return struct.pack("!i", len(content)) + content


@contextlib.contextmanager
def connection_through_a_proxy():
    """The network, and both ends of a connection that a has dialled to b."""
    with ProxyNetwork(["a", "b"]) as network, contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        server.bind(network.listen("b"))
        server.listen()
        server.settimeout(PATIENCE)
        dialler = stack.enter_context(dial(network))
        listener = stack.enter_context(server.accept()[0])
        listener.settimeout(PATIENCE)
        yield network, dialler, listener


def dial(network):
    host, port = network.peers("a")["b"].split(":")
    return socket.create_connection((host, int(port)), timeout=PATIENCE)


@needs_unix
def test_what_meets_a_cut_arrives_when_it_is_healed_and_the_other_direction_goes_on():
    with connection_through_a_proxy() as (network, dialler, listener):
        network.cut([("a", "b")])
        dialler.sendall(frame(b"there"))
        listener.sendall(frame(b"back"))
        assert dialler.recv(100) == frame(b"back")
        dialler.close()
        listener.setblocking(False)
        with pytest.raises(BlockingIOError):
            listener.recv(100)
        network.heal()
        listener.settimeout(PATIENCE)
        assert listener.recv(100) == frame(b"there")
        assert listener.recv(100) == b""  # the end, too, had to wait


@needs_unix
def test_loss_drops_whole_messages_and_only_delays_a_handshake():
    with connection_through_a_proxy() as (network, dialler, listener):
        network.set_weather(Weather(loss=1.0))
        dialler.sendall(frame(b"shake") * HANDSHAKE_FRAMES + frame(b"lost") * 3)
        arrived = b""
        while len(arrived) < HANDSHAKE_FRAMES * len(frame(b"shake")):
            arrived += listener.recv(100)
        network.heal()
        dialler.sendall(frame(b"heard"))
        assert arrived == frame(b"shake") * HANDSHAKE_FRAMES
        assert listener.recv(100) == frame(b"heard")


@needs_unix
def test_a_refused_connection_is_reset_unless_the_link_is_cut():
    """A reset is proof of death to a member, so that a proxy must not make one up."""
    with ProxyNetwork(["a", "b"]) as network:
        network.cut([("b", "a")])
        with dial(network) as dialler:
            dialler.settimeout(0.05)
            with pytest.raises(socket.timeout):
                dialler.recv(1)
            network.heal()
            dialler.settimeout(PATIENCE)
            with pytest.raises(ConnectionResetError):
                dialler.recv(1)


# --- Processes --------------------------------------------------------------------------------------------------------


@needs_unix
def test_a_process_that_has_ended_by_itself_before_it_is_killed_is_found_and_one_that_stops_says_so():
    """Whoever kills it would put it away unread."""
    with ProxyNetwork("abc") as network, contextlib.closing(Cluster(network, Timing.fast())) as cluster:
        for node_id in "abc":
            cluster.start(node_id)
        cluster.lives["a"].send_signal(signal.SIGTERM)
        cluster.lives["a"]._popen.wait(PATIENCE)
        cluster.lives["b"].may_fail = True
        cluster.lives["b"].send_signal(signal.SIGTERM)
        cluster.lives["b"]._popen.wait(PATIENCE)
        for node_id in "abc":
            cluster.kill(node_id)
        cluster.start("a")
    (found,) = cluster.troubles
    assert found.startswith(f"a#1 ended by itself with status {-signal.SIGTERM}")
    assert [heard.process for heard in cluster.heard() if heard.what == "stopped"] == ["a#2"]


# --- Short runs -------------------------------------------------------------------------------------------------------


def run(network, names, broken=()):
    """Have each fault once; return the run, of which all processes have ended."""
    with network, Cluster(network, Timing.fast(), broken) as cluster:
        run = Run(cluster, seed=1, bound=PATIENCE)
        assert run.wait_for_first_leader()
        run.run(names, seconds=PATIENCE, limit=len(names))
    assert len(run.outcomes) == len(names)
    return run


@needs_signals
def test_three_processes_keep_their_promises_while_one_thing_after_the_other_fails():
    """On whichever machine: through the proxy."""
    names = [
        "partition, leader alone",
        "partition, one-way",
        "loss",
        "delay and jitter",
        "SIGSTOP, SIGCONT",
        "disk full",
    ]
    done = run(ProxyNetwork("abc"), [*names, "kill and restart, again and again"])
    assert done.violations() == []
    assert done.cluster.looks() > 0
    assert sum(outcome.leader_changes for outcome in done.outcomes) > 0


@pytest.mark.slow
@needs_signals
def test_members_that_believe_in_their_lease_for_ever_are_found_out():
    """Planted: whoever is cut off goes on leading, and another is elected, if a busy machine leaves it the time."""
    done = run(ProxyNetwork("abc"), 4 * ["partition, leader alone"], broken="abc")
    assert any(found.startswith("two led at one instant") for found in done.violations())
    of_each = [found for outcome in done.outcomes for found in outcome.violations]
    assert any(found.startswith("two led at one instant") for found in of_each)


@pytest.mark.slow
@pytest.mark.long
def test_three_processes_in_network_namespaces_keep_their_promises_through_every_fault():
    missing = why_not()
    if missing:
        pytest.skip(f"no network namespaces: {missing}")
    done = run(NamespaceNetwork("abc"), [name for name in FAULTS if name not in missing_here(steps_clock=False)])
    assert done.violations() == []
    assert not [name for name in os.listdir("/run/netns") if f"-{os.getpid()}-" in name]
