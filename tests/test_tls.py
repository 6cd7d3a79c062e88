"""Encrypted connections: who is let in by a certificate, what the others are told, and that nothing else has changed.

`tests/test_nodes.py` runs its contract over TLS as well.
"""

from __future__ import annotations

import contextlib
import json
import logging
import pickle
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from certificates import CLIENTS_ONLY, DAY, SERVERS_ONLY, Authority, password_pem
from children import Child
from middleman import Middleman
from peers import connected, lines, read, wait_for_line
from threads import PATIENCE, eventually

import raftlite
from raftlite import ConfigError, Heartbeat, Member, PeerDown, TimeoutNow, Timing
from raftlite.cli import main
from raftlite.nodes import secure
from raftlite.nodes.address import dial
from raftlite.nodes.channel import Channel, Disagreed, Identity, Refused
from raftlite.nodes.request import ask_member
from raftlite.nodes.tls import names_in

ELECTIONS = Timing(heartbeat_interval=0.05, election_timeout=1.0, message_timeout=1.0)
HURRIED = Timing(message_timeout=0.2)
TOP = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def ca(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("certificates") / "ca")


@pytest.fixture(scope="module")
def other_ca(tmp_path_factory):
    """Signs for others, under the very same name."""
    return Authority(tmp_path_factory.mktemp("certificates") / "other")


@pytest.fixture
def join(listen, node_to):
    """A listener a with these files, whose node dials a listener b with those; None is one without TLS."""

    def join(of_a, of_b, **settings):
        a, b = (
            listen(node_id, "127.0.0.1:0", ssl_context=files and files.context, **settings)
            for node_id, files in (("a", of_a), ("b", of_b))
        )
        return b, node_to("b", b.address, of=a)

    return join


@contextlib.contextmanager
def channel_to(listener, files):
    """A channel to `listener`, authenticated, whose user may say what it likes."""
    channel = secure.dialled(dial(listener.address, PATIENCE), files.context)
    try:
        with channel.limited(PATIENCE):
            channel.authenticate_as_dialler(listener.identity.authkey)
            yield channel
    finally:
        channel.close()


# --- Members --------------------------------------------------------------------------------


def test_members_over_tls_elect_a_leader_without_any_other_secret(ca):
    """The certificates prove who is a member: no key is needed even where other machines can connect."""
    with contextlib.ExitStack() as stack:
        a, b, c = (
            Member(each, listen="0.0.0.0:0", ssl_context=ca.files(each).context, min_nodes=least, timing=ELECTIONS)
            for each, least in (("a", 1), ("b", None), ("c", None))
        )
        stack.enter_context(a).wait_until_leader(PATIENCE)
        for member in (b, c):
            stack.enter_context(member)
            a.add_node(member.node_id, member.address.replace("0.0.0.0", "127.0.0.1"), timeout=PATIENCE)
        assert [member.wait_for_leader(PATIENCE) for member in (b, c)] == ["a", "a"]
        a.stop()
        for member in (b, c):
            eventually(lambda of=member: of.leader_id in ("b", "c"), "led by another")


def test_who_carries_the_packets_can_neither_read_nor_alter_them(ca, join, listen, node_to, log):
    seen = bytearray()
    b, _ = join(ca.files("a"), ca.files("b"))
    c = listen("c", "127.0.0.1:0", ssl_context=ca.files("c").context)
    with Middleman() as middleman, read(b.inbox) as messages:
        middleman.target = b.address
        middleman.alter = lambda data: seen.extend(data) or data
        node = connected(node_to("b", middleman.address, of=c))
        node.send_message(TimeoutNow(7, "c"))
        assert messages.get(timeout=PATIENCE) == TimeoutNow(7, "c")
        assert len(seen) > 500
        assert not any(word in seen for word in (b"node_id", b"incarnation", b"TimeoutNow", b"CHALLENGE"))
        middleman.alter = lambda data: data[:-1] + bytes([data[-1] ^ 1])
        node.send_message(TimeoutNow(8, "c"))
        wait_for_line(log, "what was said was altered on its way", "b: closed the connection from c at 127.0.0.1")
        middleman.alter = lambda data: data
    assert all(isinstance(message, PeerDown) or message.term == 7 for message in list(messages.queue))


def test_a_message_that_is_written_in_parts_arrives(ca, join):
    """More than the system takes at once: what is encrypted once is sent, all of it and in order."""
    b, node = join(ca.files("a"), ca.files("b"))
    connected(node)
    nodes = tuple(raftlite.NodeInfo(f"{number:0100}", True, "x" * 300) for number in range(140))
    messages = [Heartbeat(1, "a", n, (1, 1), raftlite.Membership(1, 1, nodes)) for n in range(40)]
    for message in messages:
        node.send_message(message)
    assert [b.inbox.get(timeout=PATIENCE) for _ in messages] == messages


# --- Who is refused, and what both sides say ----------------------------------------------------------------------


REFUSED = {
    "expired": ({"lasts": -DAY / 24}, "has expired", "this side's certificate has expired"),
    "self-signed": ({"self_signed": True}, "is self-signed", "was not signed by the CA of the other side"),
    "for servers": ({"usage": SERVERS_ONLY}, "is not meant for this", "this side's certificate is not meant for this"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_dialler_with_such_a_certificate_is_refused_and_both_sides_say_why(ca, join, log, kind):
    bad, why, echo = REFUSED[kind]
    b, node = join(ca.files("a", **bad), ca.files("b"))
    wait_for_line(log, f"the other side's certificate {why}", "b: turned away 127.0.0.1:")
    line = wait_for_line(log, echo, "a: b cannot be reached: refused there:")
    eventually(lambda: line.partition("reached: ")[2] in node.trouble, "said")
    assert f"a: others will not accept this member's certificate: it {why}" in " ".join(lines(log, "others"))
    assert b.inbox.empty()


LISTENERS = {**REFUSED, "for servers": ({"usage": CLIENTS_ONLY}, *REFUSED["for servers"][1:])}


@pytest.mark.parametrize("kind", LISTENERS)
def test_a_listener_with_such_a_certificate_is_refused_and_both_sides_say_why(ca, join, log, kind):
    bad, why, echo = LISTENERS[kind]
    b, node = join(ca.files("a"), ca.files("b", **bad))
    wait_for_line(log, echo, "b: turned away 127.0.0.1: refused there:")
    wait_for_line(log, f"the other side's certificate {why}", "a: b cannot be reached:")
    eventually(lambda: f"the other side's certificate {why}" in node.trouble, "said")
    assert b.inbox.empty()


def test_a_certificate_of_another_ca_is_refused_and_both_sides_say_why(ca, other_ca, join, log):
    _, node = join(other_ca.files("a"), ca.files("b"))
    wait_for_line(log, "was not signed by the CA of this side", "a: b cannot be reached:")
    wait_for_line(log, "was not signed by the CA of the other side", "b: turned away 127.0.0.1: refused there:")
    eventually(lambda: "was not signed by the CA of this side" in node.trouble, "said")


def test_where_the_ca_has_expired_both_sides_say_so(tmp_path, join, log):
    old = Authority(tmp_path / "old", lasts=-DAY / 24)
    join(old.files("a"), old.files("b"))
    wait_for_line(log, "certificate has expired, or its CA has", "a: b cannot be reached:")
    wait_for_line(log, "certificate has expired, or its CA has", "b: turned away 127.0.0.1:")


def test_a_dialler_whose_certificate_another_ca_has_signed_is_refused(ca, other_ca, join, log):
    """It knows the right CA, so the listener pleases it."""
    stolen = other_ca.files("a")._replace(ca=ca.path)
    b, _ = join(stolen, ca.files("b"))
    wait_for_line(log, "was not signed by the CA of this side", "b: turned away 127.0.0.1:")
    wait_for_line(log, "was not signed by the CA of the other side", "a: b cannot be reached: refused there:")
    assert b.inbox.empty()


def test_a_dialler_with_the_certificate_of_another_member_is_refused_and_both_sides_say_why(ca, join, log):
    b, node = join(ca.files("x"), ca.files("b"))
    wait_for_line(log, "the certificate names 'x', but 'a' is meant", "b: turned away 127.0.0.1:")
    wait_for_line(log, "the certificate names 'x', but 'a' is meant", "a: b cannot be reached:")
    eventually(lambda: "the certificate names 'x', but 'a' is meant" in node.trouble, "said")
    assert b.inbox.empty()


def test_a_listener_with_the_certificate_of_another_member_is_refused_and_both_sides_say_why(ca, join, log):
    _, node = join(ca.files("a"), ca.files("x"))
    wait_for_line(log, "the certificate names 'x', but 'b' is meant", "b: turned away 127.0.0.1:")
    wait_for_line(log, "the certificate names 'x', but 'b' is meant", "a: b cannot be reached:")
    eventually(lambda: "the certificate names 'x', but 'b' is meant" in node.trouble, "said")


def test_a_listener_that_welcomes_everybody_does_not_pass_for_another(ca, listen, node_to, log, monkeypatch):
    """What counts is what its certificate names, not what it says."""
    b = listen("b", "127.0.0.1:0", ssl_context=ca.files("x").context)
    monkeypatch.setattr(b, "_why_refuse", lambda hello, channel: "")
    a = listen("a", "127.0.0.1:0", ssl_context=ca.files("a").context)
    node = node_to("b", b.address, of=a)
    wait_for_line(log, "the certificate names 'x', but 'b' is meant", "a: b cannot be reached:")
    node.send_message(TimeoutNow(1, "a"))
    assert node.peer_incarnation is None


def test_whoever_has_a_certificate_speaks_for_no_other_member(ca, listen):
    b = listen("b", "127.0.0.1:0", ssl_context=ca.files("b").context)
    with channel_to(b, ca.files("c")) as channel, pytest.raises(Disagreed, match="names 'c', but 'a' is meant"):
        channel.exchange(Identity("a", b"").hello(kind="peer", to="b"))


def test_who_shows_no_certificate_is_refused_and_both_sides_say_why(ca, listen, log):
    b = listen("b", "127.0.0.1:0", ssl_context=ca.files("b").context)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(ca.path)
    with pytest.raises(Refused, match="this side shows no certificate"):
        ask_member(b.address, secure.CERTIFIED, "raftlite", PATIENCE, "status", (ca.files("a").context.server, context))
    wait_for_line(log, "the other side shows no certificate", "b: turned away 127.0.0.1:")


@pytest.mark.parametrize("is_encrypted", [True, False], ids=["TLS dials", "plain dials"])
def test_a_member_with_and_one_without_tls_say_what_is_wrong(ca, join, log, is_encrypted):
    files = [ca.files("a"), None] if is_encrypted else [None, ca.files("b")]
    b, node = join(*files, timing=HURRIED)
    one, other = ("there, but not here", "here, but not there")
    wait_for_line(log, f"TLS is spoken {other if is_encrypted else one}", "a: b cannot be reached:")
    wait_for_line(log, f"TLS is spoken {one if is_encrypted else 'here, but nothing was said there'}", "b: turned away")
    eventually(lambda: "TLS is spoken" in node.trouble, "said")
    assert b.inbox.empty()


def test_the_key_still_counts_where_there_is_one(ca, listen, node_to, log):
    a, b = (listen(each, "127.0.0.1:0", ssl_context=ca.files(each).context, authkey=each) for each in "ab")
    node_to("b", b.address, of=a)
    wait_for_line(log, "the keys differ", "a: b cannot be reached:")
    wait_for_line(log, "the keys differ", "b: turned away 127.0.0.1:")


@pytest.mark.parametrize(
    "names",
    [
        {"dns_names": ["host.example", "n_1"], "common_name": "whatever"},
        {"common_name": "n_1", "dns_names": ["host.example"]},
        {"common_name": "n_1"},
    ],
    ids=["a DNS name", "the common name beside DNS names", "the common name"],
)
def test_a_certificate_names_its_member_in_one_of_two_ways(ca, names):
    context = ca.files("", **names).context
    assert context.why_refused("n_1") == ""
    assert "but 'N_1' is meant" in context.why_refused("N_1")


def test_names_that_are_no_dns_names_are_common_names(ca):
    assert ca.files("üß 1").context.why_refused("üß 1") == ""


def test_wildcards_and_other_kinds_of_names_mean_nobody():
    certificate = {
        "subject": ((("organizationName", "o"),),),
        "subjectAltName": (("DNS", "*"), ("IP Address", "10.0.0.1"), ("email", "a")),
    }
    assert names_in(certificate) == ["*"]
    assert names_in({}) == []


# --- Strangers --------------------------------------------------------------------------------


def test_a_stranger_who_says_nothing_keeps_nobody_out(ca, join, log):
    """Each handshake is on a thread of its own, and has a limit."""
    b, node = join(ca.files("a"), ca.files("b"), timing=HURRIED)
    with contextlib.ExitStack() as stack:
        strangers = [stack.enter_context(dial(b.address, PATIENCE)) for _ in range(20)]
        strangers[0].sendall(b"\x16\x03\x01\x02\x00\x01")  # the beginning of a hello
        connected(node)
        for sock in strangers:
            sock.settimeout(PATIENCE)
            while sock.recv(1000):
                pass
    wait_for_line(log, "TLS handshake failed", "b: turned away")


def test_a_look_whether_the_listener_lives_is_nothing_to_warn_of(ca, listen, log):
    b = listen("b", "127.0.0.1:0", ssl_context=ca.files("b").context)
    dial(b.address, PATIENCE).close()
    eventually(lambda: lines(log, "b: turned away", logging.DEBUG), "noticed")
    assert not lines(log, "b: turned away")


@contextlib.contextmanager
def two_ends(dialler, listener):
    """Two channels that have shaken hands, the listener's and the dialler's."""
    ends = [secure.accepted, secure.dialled]
    with contextlib.ExitStack() as stack, ThreadPoolExecutor() as pool:
        channels = [make(sock, tls) for make, sock, tls in zip(ends, socket.socketpair(), (listener, dialler))]
        for channel in channels:
            stack.callback(channel.close)
        for done in [pool.submit(channel.shake_hands) for channel in channels]:
            done.result(PATIENCE)
        yield channels


def test_what_tls_says_for_itself_is_not_taken_for_the_end(ca):
    """Here it is session tickets, which come to a dialler that only writes."""
    talkative = ca.files("b").context
    talkative.server.num_tickets = 2
    with two_ends(ca.files("a").context, talkative) as (listener, dialler):
        assert Channel.has_input(dialler), "no ticket has come"
        assert not dialler.has_input()
        assert dialler.send_at_once(b"x" * 20_000) == b""
        assert listener.recv_bytes() == b"x" * 20_000
        listener.send_bytes(b"y")
        eventually(dialler.has_input, "heard")
        assert dialler.recv_bytes() == b"y"
        listener.shut_down()
        eventually(dialler.has_input, "ended")


def test_what_could_not_be_written_at_once_is_not_encrypted_again(ca):
    """The other end could make nothing of it."""
    with two_ends(ca.files("a").context, ca.files("b").context) as (listener, dialler), ThreadPoolExecutor() as pool:
        rests = []
        while not rests or not rests[-1]:
            rests.append(dialler.send_at_once(bytes([len(rests)]) * 30_000))
        rests.append(dialler.send_at_once(b""))
        writing = pool.submit(lambda: [dialler.send_rest(rest) for rest in rests])
        heard = [listener.recv_bytes() for _ in rests]
        writing.result(PATIENCE)
    assert heard == [bytes([number]) * 30_000 for number in range(len(rests) - 1)] + [b""]


# --- Fast takeover --------------------------------------------------------------------------------

LOYAL = Timing(heartbeat_interval=0.05, election_timeout=600.0, message_timeout=0.5)


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="this system cannot stop a process")
def test_a_leader_that_is_killed_is_replaced_at_once_over_tls_too(ca, start_child, log):
    """The others would have waited for ten minutes: only the proof of its death can have let them vote."""
    with contextlib.ExitStack() as stack:
        ways = {each: stack.enter_context(Middleman()) for each in "bc"}
        child, address = start_leader(start_child, ca, ways)
        members = {}
        for each, other in ("bc", "cb"):
            peers = {"l": address, other: ways[other].address}
            settings = {"listen": "127.0.0.1:0", "min_nodes": 3, "timing": LOYAL, "ssl_context": ca.files(each).context}
            members[each] = stack.enter_context(Member(each, peers=peers, **settings))
            ways[each].target = members[each].address
        for member in members.values():
            eventually(lambda of=member: is_led(of), "led by l, and connected to it")
        child.kill()
        for member in members.values():
            eventually(lambda of=member: of.leader_id in ("b", "c"), "led by another")
    assert not lines(log, "turned away", logging.WARNING)


def start_leader(start_child, ca, ways):
    """`raftlite node` as a process that campaigns first; return it and its address."""
    peers = [f"--peer={node_id}={way.address}" for node_id, way in ways.items()]
    # Were its lease over before both have answered, they would vote for nobody for ten minutes.
    timing = ["--heartbeat-interval=0.05", "--election-timeout=1.0"]
    options = [*peers, *timing, "--min-nodes=3", *ca.files("l").options, "--json"]
    child = start_child(COMMAND, "node", "--id=l", "--listen=127.0.0.1:0", *options)
    return child, address_of(child)


def address_of(child):
    """Where it listens; one that is a cluster of its own may say first that it leads."""
    while True:
        event = json.loads(child.read_line())
        if event["event"] == "started":
            return event["address"]


COMMAND = "import sys; from raftlite.cli import main; sys.exit(main())"


def is_led(member: Member) -> bool:
    """Whether it follows l, and they have reached each other: before that nothing can be proved."""
    is_known = "l" in member._listener._alive and member._thread._handles["l"]._answered is not None
    return (
        is_known and member.leader_id == "l" and member.membership.term > 0 and not member._thread._handles["l"].trouble
    )


# --- From the command line --------------------------------------------------------------------------------


@pytest.fixture
def node(start_child, ca) -> Child:
    """`raftlite node` over TLS, a cluster of one without a key; and its address."""
    options = ["--id=a", "--listen=127.0.0.1:0", "--min-nodes=1", "--json"]
    child = start_child(COMMAND, "node", *options, *ca.files("a").options)
    child.address = address_of(child)
    return child


@pytest.mark.slow
def test_the_command_asks_with_any_certificate_of_the_ca(node, ca, other_ca, capsys, monkeypatch):
    monkeypatch.delenv("RAFTLITE_AUTHKEY", raising=False)
    options = ca.files("an operator").options
    eventually(lambda: main(["status", node.address, *options]) == 0, "led")
    assert "leader   a" in capsys.readouterr().out
    assert main(["transfer", node.address, "--to", "a", *options]) in (0, 69)
    assert main(["add", node.address, "o=127.0.0.1:1", "--observer", "--json", *options]) == 0
    assert main(["remove", node.address, "o", *options]) == 0
    capsys.readouterr()
    assert main(["status", node.address, *other_ca.files("a")._replace(ca=ca.path).options]) == 69
    assert "this side's certificate was not signed by the CA of the other side" in capsys.readouterr().err
    assert main(["status", node.address, *ca.files("a", lasts=-DAY / 24).options]) == 69
    assert "this side's certificate has expired" in capsys.readouterr().err
    monkeypatch.setenv("RAFTLITE_AUTHKEY", "k")
    assert main(["status", node.address]) == 69
    assert f"{node.address}: TLS is spoken there, but not here" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["node", "--id=a", "--listen=127.0.0.1:0"], ["status", "127.0.0.1:1"]])
@pytest.mark.parametrize(
    "given, missing", [(["--cert=x"], "--key and --ca are missing"), (["--cert=x", "--ca=x"], "--key is missing")]
)
def test_tls_needs_all_three_files(command, given, missing, capsys):
    with pytest.raises(SystemExit) as end:
        main([*command, *given])
    assert end.value.code == 64
    assert f"{missing}: TLS needs --cert, --key and --ca" in capsys.readouterr().err


def test_flags_whose_variables_are_not_set_do_not_mean_no_tls(capsys, monkeypatch):
    monkeypatch.setenv("RAFTLITE_AUTHKEY", "k")
    assert main(["status", "127.0.0.1:1", "--cert=", "--key=", "--ca="]) == 78
    assert "cert is ''" in capsys.readouterr().err


# --- Settings --------------------------------------------------------------------------------


def test_a_file_that_does_not_do_is_named_before_anything_starts(ca, other_ca, tmp_path):
    good, other = ca.files("a"), other_ca.files("a")
    empty, locked = tmp_path / "empty", tmp_path / "locked"
    empty.write_text("")
    locked.write_bytes(password_pem())
    damaged = tmp_path / "damaged"
    damaged.write_text("-----BEGIN CERTIFICATE-----\nno\n-----END CERTIFICATE-----\n")
    for wrong, said in (
        (good._replace(cert=tmp_path / "none"), "cert is '.*none', but cannot be read: No such file"),
        (good._replace(key=tmp_path), "key is '.*', but cannot be read: Is a directory"),
        (good._replace(ca=empty), "ca is '.*empty', but there is no certificate in PEM format in it"),
        (good._replace(cert=good.key), "cert is '.*key', but there is no certificate in PEM"),
        (good._replace(key=good.cert), "key is '.*', but there is no private key in PEM"),
        (good._replace(key=other.key), "key is '.*', which does not fit the certificate in"),
        (good._replace(key=locked), "key is '.*locked', which has a password"),
        (good._replace(cert=damaged), "cert is '.*damaged' and key '.*', but cannot be read"),
        (good._replace(ca=damaged), "ca is '.*damaged', but cannot be read"),
    ):
        with pytest.raises(ConfigError, match=said):
            _ = wrong.context


def test_what_has_no_secrets_shows_none(ca, log):
    """Neither a repr nor a pickle nor the log has what is in the key's file; a pickle is made of paths."""
    files = ca.files("a", lasts=-DAY / 24)
    context = files.context
    secret = files.key.read_text().splitlines()[1]
    with Member("a", listen="127.0.0.1:0", ssl_context=context, min_nodes=1) as member:
        shown = [repr(context), repr(member), repr(member._listener.identity), pickle.dumps(context), log.text]
    assert all(secret not in str(each) and "PRIVATE" not in str(each) for each in shown)
    assert str(files.key) in repr(context)
    assert pickle.loads(pickle.dumps(context)).cert == context.cert


def own_pair(ca, node_id, **settings):
    """Contexts as a program makes them that wants something else than `tls_context`."""
    files, made = ca.files(node_id), []
    for role in (ssl.PROTOCOL_TLS_SERVER, ssl.PROTOCOL_TLS_CLIENT):
        context = ssl.SSLContext(role)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_REQUIRED
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(files.cert, files.key)
        context.load_verify_locations(files.ca)
        for name, value in settings.items():
            setattr(context, name, value)
        made.append(context)
    return tuple(made)


def test_a_pair_of_ones_own_contexts_does_too(ca, listen, node_to):
    """With an older TLS, say; one that tls_context makes wants the newest."""
    a, b = (listen(each, "127.0.0.1:0", ssl_context=own_pair(ca, each)) for each in "ab")
    node = connected(node_to("b", b.address, of=a))
    node.send_message(TimeoutNow(1, "a"))
    assert b.inbox.get(timeout=PATIENCE) == TimeoutNow(1, "a")


def test_contexts_that_would_not_do_are_refused(ca):
    server, client = own_pair(ca, "a")
    lax = own_pair(ca, "a", verify_mode=ssl.CERT_NONE)
    strict = own_pair(ca, "a", check_hostname=True)
    for wrong, said in (
        (server, "of one role alone"),
        (client, "of one role alone"),
        ((client, server), "of one role alone or of the wrong one"),
        ((server, lax[1]), "does not require a certificate"),
        ((lax[0], client), "does not require a certificate"),
        ((server, strict[1]), "has check_hostname"),
        ("a.pem", "ssl_context is 'a.pem', but must be an SSLContext"),
        ((server,), "must be an SSLContext"),
    ):
        with pytest.raises(ConfigError, match=said):
            Member("a", listen="127.0.0.1:0", ssl_context=wrong)
    with pytest.raises(TypeError, match="cannot be given to another process"):
        pickle.dumps(secure.checked((server, client)))


def test_without_tls_ssl_is_not_even_imported():
    """It would cost every process a megabyte."""
    program = "import sys; from raftlite import Member; from raftlite import cli; sys.exit('ssl' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], cwd=TOP).returncode == 0


# --- The README --------------------------------------------------------------------------------


@pytest.mark.skipif(shutil.which("openssl") is None, reason="this machine has no openssl")
def test_the_certificates_that_the_readme_makes_do(tmp_path):
    """Its commands, run one after the other."""
    readme = (TOP / "README.md").read_text(encoding="utf-8")
    (block,) = [block for block in re.findall(r"```console\n(.*?)```", readme, re.DOTALL) if "openssl" in block]
    commands = [line[2:].split("  #")[0] for line in block.splitlines() if line.startswith("$ openssl")]
    script = "set -e\n" + "\n".join(commands)
    subprocess.run(["sh", "-c", script], cwd=tmp_path, check=True, capture_output=True)
    context = raftlite.tls_context(cert=tmp_path / "a.pem", key=tmp_path / "a.key", ca=tmp_path / "ca.pem")
    assert context.why_refused("a") == ""


@pytest.mark.parametrize("name", ["cert", "key", "ca"])
@pytest.mark.parametrize("path", [None, b"a.pem", 5], ids=repr)
def test_a_file_that_is_no_path_is_named(name, path):
    """Most often a variable that is not set."""
    with pytest.raises(ConfigError, match=f"{name} is {path!r}, but must be the path of a file"):
        raftlite.tls_context(**{"cert": "a.pem", "key": "a.key", "ca": "ca.pem", name: path})
