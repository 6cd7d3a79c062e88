"""`raftlite status`: what one member says, a table of several, live, for scripts and for probes."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import pty
import queue
import re
import select
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace

import pytest
from children import environment
from peers import lines, wait_for_line
from test_cli import COMMAND, KEY, LOYAL, TIMING
from threads import PATIENCE, Clock, a_candidate, a_leader, eventually, settle

from raftlite import Heartbeat, Member, Timing, cli
from raftlite.cli import main
from raftlite.command.printer import LOOKS_EVERY, SAID_AGAIN, LeaderlessLog
from raftlite.command.watch import Answer, Cluster, Poll, describe, with_leader
from raftlite.membership import NodeInfo, founding_membership
from raftlite.status import Role, Status

# No lease runs out while a machine stands still for a moment. Where several campaign at once in a first election, and
# block each other, the next attempt is an election timeout away: that much is waited for.
STEADY = Timing(heartbeat_interval=0.05, election_timeout=5.0, message_timeout=10.0)


@pytest.fixture(autouse=True)
def key(monkeypatch):
    """The key is in the environment, where the command looks for it."""
    monkeypatch.setenv("RAFTLITE_AUTHKEY", KEY)


def said(node, leader, term=4, lease=None, heard=None, why="", unreachable=None, ids="abc", witnesses=()):
    """What a member says of itself; it listens at `<id>.sock`."""
    return {
        "node": node,
        "role": "leader" if node == leader else "follower",
        "term": term,
        "leader": leader,
        "membership": {"term": 1, "version": 1, "nodes": [[each, True, f"/{each}.sock"] for each in ids]},
        "witnesses": list(witnesses),
        "why": why,
        "error": "",
        "lease_remaining": lease,
        "leader_heard_ago": heard,
        "unreachable": unreachable or {},
    }


def cluster(*views):
    """A dictionary is what the member says, a text why it says nothing."""
    answers = []
    for node_id, view in zip("abcde", views):
        place = f"/{node_id}.sock"
        answers.append(Answer(place, None, view) if isinstance(view, str) else Answer(place, view))
    return Cluster(answers)


LED = said("a", "a", lease=0.83), said("b", "a", heard=0.05), "cannot connect to /c.sock: Connection refused"


# --- The table -----------------------------------------------------------------------------------------------------


def test_a_table_says_who_answers_and_who_leads():
    """A follower knows when it heard the leader, and the leader how long its lease holds."""
    assert cluster(*LED).table().splitlines() == [
        "ADDRESS  NODE  ROLE      TERM  LEADER  LEASE   HEARD",
        "/a.sock  a     leader    4     a       0.83 s  -",
        "/b.sock  b     follower  4     a       -       0.05 s ago",
        "/c.sock  no answer: Connection refused",
        "",
        "2 of 3 answer; a leads in term 4, its lease holds for 0.83 s",
    ]


def test_a_table_says_why_nobody_leads_who_is_missing_and_who_was_not_asked():
    waits = said("a", None, why="2 of 4 answer, c is unreachable since 3 s")
    table = cluster(waits, said("b", "d", heard=0.9, unreachable={"c": "unreachable since 3 s"}, ids="abcd")).table()
    assert table.splitlines()[-7:] == [
        "2 of 2 answer; d is said to lead, but has not confirmed its lease",
        "they disagree on the leader: none (a); d (b)",
        "they disagree on the members: a, b, c (a); a, b, c, d (b)",
        "a says: no leader: 2 of 4 answer, c is unreachable since 3 s",
        "b says: c is unreachable since 3 s",
        "not asked: c at /c.sock",
        "not asked: d at /d.sock",
    ]


def test_two_terms_are_a_disagreement():
    split = cluster(said("a", "a", term=4), said("b", "b", term=5, lease=0.5), said("c", "b", term=5))
    assert split.disagreements() == [
        "they disagree on the term: 4 (a); 5 (b, c)",
        "they disagree on the leader: a (a); b (b, c)",
    ]
    assert split.leader_id == "b"
    assert cluster(*LED).disagreements() == []


def test_members_that_take_different_voters_for_witnesses_are_told():
    """Each of them would hand over to a voter that another one never lets lead."""
    differ = cluster(said("a", "a", lease=0.5, witnesses="c"), said("b", "a", heard=0.1))
    assert differ.disagreements() == ["they disagree on the witnesses: c (a); none (b)"]


def test_witnesses_and_observers_are_marked():
    view = said("a", "a", lease=0.5, witnesses="b")
    view["membership"]["nodes"][2][1] = False
    assert describe(view).endswith("members  a, b (witness), c (observer)")


def test_one_member_at_two_addresses_is_named():
    """More likely a mistake than two roads to it."""
    assert cluster(LED[0], LED[0]).disagreements() == ["a answers at /a.sock, /b.sock"]


def test_a_table_is_one_object_for_scripts():
    plain = json.loads(json.dumps(cluster(*LED).to_plain()))
    assert isinstance(plain.pop("t"), float)
    members = plain.pop("members")
    assert plain == {
        "leader": "a", "term": 4, "lease_remaining": 0.83, "asked": 3, "answered": 2, "disagreements": [],
    }  # fmt: skip
    assert members[0] == {"address": "/a.sock", **LED[0]}
    assert members[2] == {"address": "/c.sock", "error": "cannot connect to /c.sock: Connection refused"}


def test_an_older_member_may_leave_out_what_is_new():
    """While the members are upgraded one by one."""
    new = ("lease_remaining", "leader_heard_ago", "unreachable", "witnesses")
    old = {name: value for name, value in said("b", "a").items() if name not in new}
    assert cluster(old).table().splitlines()[1] == "/a.sock  b     follower  4     a       -      -"
    assert describe(old).endswith("members  a, b, c")


# --- Exit codes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "views, code",
    [
        (LED, 0),
        ((said("a", None, why="?"), said("b", "a")), 0),
        ((said("a", None, why="?"), "no answer"), 75),
        (("no answer", "no answer"), 69),
    ],
)
def test_status_exits_with_0_if_anybody_knows_of_a_leader(views, code):
    assert cluster(*views).exit_code() == code


def no_more(address):
    raise ConnectionRefusedError(111, f"cannot connect to {address}: Connection refused")


@pytest.mark.parametrize(
    "views, at_leader, code",
    [
        (LED, no_more, 0),  # the leader was among them
        ((said("b", "a", heard=0.1),), lambda address: LED[0], 0),
        ((said("b", "a", heard=0.1),), no_more, 75),  # a follower cannot know that the lease holds
        ((said("b", "a", heard=0.1),), lambda address: said("a", "a", lease=None), 75),
        ((said("b", "a", heard=0.1),), lambda address: said("a", "c"), 75),
        ((said("a", None, why="?"),), no_more, 75),
        (("no answer",), no_more, 69),
    ],
)
def test_a_probe_succeeds_only_if_a_leader_confirms_its_lease(views, at_leader, code):
    """`--exit-code`: where only followers were asked, their leader is asked too."""
    asked = []

    def ask(address):
        asked.append(address)
        return at_leader(address)

    known = Cluster(with_leader(Poll(ask, PATIENCE), cluster(*views).answers))
    assert known.exit_code(needs_lease=True) == code
    assert asked in ([], ["/a.sock"])


# --- Asking --------------------------------------------------------------------------------------------------------


def test_all_are_asked_at_the_same_time():
    """Each waits until all have been asked."""
    everybody = threading.Barrier(3)
    poll = Poll(lambda address: {"node": address, "turn": everybody.wait(PATIENCE)}, PATIENCE)
    answers = poll.answers(["x", "y", "z", "x"])
    assert [answer.address for answer in answers] == ["x", "y", "z"]
    assert [answer.said["node"] for answer in answers] == ["x", "y", "z"]


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="signals here know no threads")
def test_ctrl_c_that_another_thread_receives_ends_the_wait_for_answers():
    """CPython has the main thread handle it, but does not wake it; nor does a signal that comes as the wait begins."""
    go_on = threading.Event()

    def ask(address):
        time.sleep(0.05)  # until the wait has begun, as a rule
        signal.pthread_kill(threading.get_ident(), signal.SIGINT)
        go_on.wait(PATIENCE)
        return {}

    try:
        with pytest.raises(KeyboardInterrupt):
            Poll(ask, 3_600.0).answers(["hangs"])
    finally:
        go_on.set()


@pytest.mark.slow
def test_whoever_does_not_answer_in_time_delays_nobody_and_is_not_asked_twice_at_once():
    go_on, asked = threading.Event(), queue.SimpleQueue()

    def ask(address):
        asked.put(address)
        if address == "hangs":
            go_on.wait(PATIENCE)
        return {}

    poll = Poll(ask, 0.001)
    try:
        for _ in range(3):
            slow, fast = poll.answers(["hangs", "answers"])
            assert (slow.said, slow.error, fast.said) == (None, "no answer within 0.001 s", {})
        assert sorted(asked.get() for _ in range(asked.qsize())) == ["answers"] * 3 + ["hangs"]
    finally:
        go_on.set()


# --- With members --------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def members(folder):
    """Three members on threads of this process, of whom `a` is elected."""
    addresses = {node_id: f"{folder}/{node_id}.sock" for node_id in "abc"}
    with contextlib.ExitStack() as stack:
        found = {}
        for node_id, address in addresses.items():
            member = Member(node_id, peers=addresses, listen=address, authkey=KEY, timing=STEADY, data_dir=folder)
            found[node_id] = stack.enter_context(member)
        eventually(lambda: {member.leader_id for member in found.values()} in ({"a"}, {"b"}, {"c"}), "agreed")
        elected = found["a"].leader_id
        if elected != "a":
            found[elected].transfer_leadership("a")
        eventually(lambda: {member.leader_id for member in found.values()} == {"a"}, "agreed on a")
        yield found


def test_status_of_several_members_is_a_table(capsys, caplog, folder):
    """Also through a follower alone a probe finds the leader; and a place where nobody listens is a row."""
    with members(folder) as found:
        addresses = [member.address for member in found.values()]
        assert main(["status", *addresses, f"{folder}/nobody"]) == 0
        table = capsys.readouterr().out
        term = found["a"].status().current_term
        assert f"3 of 4 answer; a leads in term {term}, its lease holds for " in table
        assert f"{folder}/nobody  no answer: No such file or directory\n" in table
        for address in addresses:
            assert main(["status", "--exit-code", address]) == 0
        capsys.readouterr()
        assert main(["status", "--exit-code", *addresses[1:]]) == 0
        assert "3 of 3 answer; a leads in term" in capsys.readouterr().out  # what it goes by, it shows
        assert main(["status", "--json", *addresses]) == 0
        plain = json.loads(capsys.readouterr().out)
        assert [member["node"] for member in plain["members"]] == ["a", "b", "c"]
        assert lines(caplog, "", logging.WARNING) == []  # a probe every second must not fill the log


def test_a_probe_of_a_member_without_a_leader_fails(capsys, folder):
    with Member("a", listen=f"{folder}/a.sock", min_nodes=3, authkey=KEY, timing=TIMING) as member:
        assert main(["status", "--exit-code", member.address]) == 75
    assert "leader   none: knows 1 of 3 nodes" in capsys.readouterr().out
    assert main(["status", "--exit-code", f"{folder}/a.sock"]) == 69
    assert capsys.readouterr().err.startswith("raftlite status: cannot connect to ")


def test_watching_and_an_exit_code_exclude_each_other(capsys):
    with pytest.raises(SystemExit) as end:
        main(["status", "--watch", "--exit-code", "127.0.0.1:1"])
    assert end.value.code == 64
    assert "give one of them" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("as_json", [False, True])
def test_watching_through_a_pipe_appends_until_ctrl_c(start_child, folder, as_json):
    """Blocks for people, an object a line for scripts; Ctrl-C ends it at once and quietly."""
    with Member("a", listen=f"{folder}/a.sock", min_nodes=1, authkey=KEY, timing=LOYAL) as member:
        member.wait_until_leader(PATIENCE)
        options = ["--json"] if as_json else []
        child = start_child(COMMAND, "status", "--watch", "--interval", "0.01", *options, member.address)
        if as_json:
            assert [json.loads(child.read_line())["leader"] for _ in range(3)] == ["a"] * 3
        else:
            block = [child.read_line() for _ in range(6)]
            assert block[1:] == ["node     a (leader)", "term     1", "leader   a", "members  a", ""]
            assert [child.read_line() for _ in range(6)][1:] == block[1:]
        child.send_signal(signal.SIGINT)
        assert (child.wait(), child.errors) == (130, "")


def test_ctrl_c_ends_watching_also_while_a_member_does_not_answer(start_child, played):
    """The connection is accepted and nothing is said, as by a process that is stopped."""
    child = start_child(COMMAND, "status", "--watch", "--timeout", "3000", played.address)
    with contextlib.closing(played.accept()):
        child.send_signal(signal.SIGINT)
        assert (child.wait(), child.errors) == (130, "")


def test_watching_on_a_terminal_draws_in_the_same_place(folder):
    """From the top left corner again, and what was there before is cleared."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "raftlite", "status", "--watch", "--interval", "0.01", f"{folder}/nobody"]
    child = subprocess.Popen(
        command, stdout=theirs, env={**environment(), "TERM": "xterm"}, stderr=subprocess.PIPE, text=True
    )
    os.close(theirs)
    with child:
        screen = b""
        while screen.count(b"\x1b[H") < 4:
            assert select.select([ours], [], [], PATIENCE)[0], screen
            screen += os.read(ours, 65536)
        child.send_signal(signal.SIGINT)
        assert (child.wait(PATIENCE), child.stderr.read()) == (130, "")
    os.close(ours)
    drawing = screen.split(b"\x1b[H")[2].decode()
    assert f"{folder}/nobody: no answer: No such file or directory\x1b[K\r\n" in drawing
    assert drawing.endswith("\x1b[J")


# --- Members that are not reached ----------------------------------------------------------------------------------


def test_a_member_added_where_nobody_listens_is_marked(capsys, monkeypatch, folder):
    """The change succeeds, since a newcomer may be started later; what is wrong is said at once and from then on."""
    monkeypatch.setattr(cli, "FIRST_DIAL", PATIENCE)
    with members(folder) as found:
        place = found["b"].address
        assert main(["add", place, f"d={folder}/nobody"]) == 0
        added = capsys.readouterr().out
        assert re.search(r"members  a, b, c, d\nmissing  d is unreachable since \d+ s \(cannot connect to ", added)
        assert main(["status", place]) == 0
        assert "missing  d is unreachable since " in capsys.readouterr().out
        assert main(["status", "--json", place]) == 0
        missing = json.loads(capsys.readouterr().out)["unreachable"]
    assert list(missing) == ["d"]
    assert "No such file or directory" in missing["d"]


def test_a_leader_marks_members_that_it_does_not_hear():
    """They are connected, but stopped or deaf."""
    with a_leader() as scene:
        assert scene.thread.status().unreachable == ()
        scene.followers[1].answers = False
        for _ in range(12):
            scene.pass_time(0.125)
            settle(scene.thread)
        status = scene.thread.status()
        assert (status.leader_id, status.unreachable, status.why) == ("a", (("c", "silent since 2 s"),), "")
        scene.followers[1].answers = True
        scene.pass_time(0.125)
        eventually(lambda: scene.thread.status().unreachable == (), "heard again")


def test_a_status_says_how_long_the_lease_holds_or_when_the_leader_was_heard():
    with a_leader() as scene:
        status = scene.thread.status()
        assert (status.lease_remaining, status.leader_heard_ago) == (0.9375, None)
        assert status.to_plain()["lease_remaining"] == 0.938
        scene.silence()
        scene.pass_time(0.9375)
        assert (scene.thread.status().lease_remaining, scene.thread.status().leader_id) == (None, None)


def test_a_follower_says_when_it_heard_its_leader():
    """How long the lease holds, it cannot know."""
    with a_candidate() as scene:
        settle(scene.thread)
        scene.thread.inbox.put(Heartbeat(1, "b", 1, (0, 0)))
        settle(scene.thread)
        scene.clock.now += 0.25
        status = scene.thread.status()
        assert (status.leader_id, status.leader_heard_ago, status.lease_remaining) == ("b", 0.25, None)


@pytest.mark.skipif(sys.platform != "linux", reason="members can be isolated on Linux only")
def test_the_status_of_an_isolated_member_is_complete(folder):
    """It crosses a line between two processes."""
    peers = {"b": f"{folder}/nobody"}
    with Member("a", min_nodes=1, timing=LOYAL, isolated=True) as member:
        member.wait_until_leader(PATIENCE)
        assert 0 < member.status().lease_remaining <= 600
        assert member.status().leader_heard_ago is None
    with Member("a", peers=peers, listen=f"{folder}/a", isolated=True, authkey=KEY) as member:
        reason = eventually(lambda: dict(member.status().unreachable).get("b"), "missing")
        assert reason.startswith("unreachable since ")
    assert member.status().unreachable == ()


# --- A node that finds nobody --------------------------------------------------------------------------------------


def test_the_log_says_why_there_is_no_leader_then_rarely_and_once_more_at_the_end(caplog):
    """After three election timeouts: two are what an election may take."""
    clock = Clock()
    log = LeaderlessLog(1.0, clock)
    nobody = Status("a", Role.FOLLOWER, 0, None, founding_membership("a", [NodeInfo("b")]), 2, why="b is unreachable")
    somebody = Status("a", Role.FOLLOWER, 1, "b", nobody.membership, 2)

    def within(seconds, status):
        caplog.clear()
        for _ in range(int(seconds / LOOKS_EVERY)):
            clock.now += LOOKS_EVERY
            log.look(status)
        return [record.getMessage() for record in caplog.records]

    assert within(2.0, nobody) == []
    assert within(1.0, nobody) == ["a: no leader for 3 s: b is unreachable"]
    assert within(SAID_AGAIN - 1.0, nobody) == []
    assert within(2.0, nobody) == ["a: no leader for 63 s: b is unreachable"]
    assert within(0.5, somebody) == ["a: b leads, after 64 s without a leader"]
    assert within(2.0, somebody) == []
    assert within(2.0, nobody) == []
    assert within(0.5, somebody) == []
    assert within(3.0, nobody) == ["a: no leader for 3 s: b is unreachable"]


@pytest.mark.parametrize("timeout, suspended", [(1.0, 12.0), (0.4, 1.5)])
def test_a_program_that_was_suspended_does_not_say_that_nobody_led_meanwhile(timeout, suspended, caplog):
    """It cannot know; nor can one that had no reason to look, as while its command runs."""
    clock = Clock()
    log = LeaderlessLog(timeout, clock)
    nobody = Status("a", Role.FOLLOWER, 1, None, founding_membership("a", [NodeInfo("b")]), 2, why="b is unreachable")
    log.look(nobody)
    clock.now += suspended
    log.look(nobody)
    assert not caplog.records
    for _ in range(6):
        clock.now += LOOKS_EVERY
        log.look(nobody)
    assert len(caplog.records) == 1


def test_what_was_said_is_taken_back_also_after_a_time_in_which_nobody_looked(caplog):
    """With how long it has been, as far as anybody knows."""
    clock = Clock()
    log = LeaderlessLog(1.0, clock)
    nobody = Status("a", Role.FOLLOWER, 1, None, founding_membership("a", [NodeInfo("b")]), 2, why="b is unreachable")
    for _ in range(7):
        log.look(nobody)
        clock.now += LOOKS_EVERY
    clock.now += 20.0
    log.look(replace(nobody, leader_id="b"))
    assert [record.getMessage() for record in caplog.records][1:] == ["a: b leads, after 24 s without a leader"]


@pytest.mark.slow
def test_a_node_that_reaches_nobody_says_so_by_itself(start_child, tmp_path):
    """On its standard error, also with `--json`; and once more when somebody leads."""
    timing = ["--election-timeout", "0.2", "--heartbeat-interval", "0.05"]
    place = ["--listen", tmp_path / "a.sock", "--peer", f"b={tmp_path}/b.sock", "--data-dir", tmp_path]
    child = start_child(COMMAND, "node", "--id", "a", *place, *timing, "--json")
    peers = {"a": f"{tmp_path}/a.sock"}
    eventually(lambda: "no leader for" in errors_of(child), "said")
    reason = f"b is unreachable since \\d+ s \\(cannot connect to {tmp_path}/b.sock: No such file or directory\\)"
    assert re.search(f"a: no leader for \\d+ s: .*{reason}", errors_of(child))
    timing = Timing(heartbeat_interval=0.05, election_timeout=0.2)
    with Member("b", peers=peers, listen=f"{tmp_path}/b.sock", authkey=KEY, timing=timing):
        eventually(lambda: "leads, after" in errors_of(child), "over")
    child.send_signal(signal.SIGTERM)
    assert child.wait() == 0


def errors_of(child):
    """What it has written to its standard error until now."""
    stream = child._popen.stderr
    os.set_blocking(stream.fileno(), False)
    with contextlib.suppress(BlockingIOError):
        child._unread[stream] += os.read(stream.fileno(), 65536)
    os.set_blocking(stream.fileno(), True)
    return child.errors


# --- The log -------------------------------------------------------------------------------------------------------


def test_a_healthy_cluster_logs_a_line_for_each_change_of_role_and_no_warning(caplog, folder):
    """From the start over a transfer to the end; under `raftlite`, where a program finds it."""
    caplog.set_level("INFO", "raftlite")
    with members(folder) as found:
        found["a"].transfer_leadership("b")
        found["b"].wait_until_leader(PATIENCE)
        wait_for_line(caplog, "-> leader (", "b term ")
    assert lines(caplog, "", level=logging.WARNING) == []
    assert {record.name.split(".")[0] for record in caplog.records} == {"raftlite"}
    for node_id in found:
        told = [line for line in lines(caplog, " -> ") if line.startswith(f"{node_id} term ")]
        changes = [line.split(": ")[1].split(" (")[0].split(" -> ") for line in told]
        assert changes[0][0] == "follower"
        assert changes[-1][1] == "stopped"
        assert [after for _, after in changes[:-1]] == [before for before, _ in changes[1:]]


def test_a_candidate_that_nobody_answers_is_no_reason_for_a_warning(caplog):
    """The reason is in its status, and whoever wants to be told has `on_leader_changed`."""
    caplog.set_level("INFO", "raftlite")
    with a_candidate() as scene:
        scene.silence()
        settle(scene.thread)
    assert lines(caplog, "", level=logging.WARNING) == []
