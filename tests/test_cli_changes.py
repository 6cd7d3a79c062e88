"""`raftlite add`, `remove` and `transfer`: a cluster of processes is changed by asking any member of it."""

from __future__ import annotations

import json
import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from threads import PATIENCE, eventually, is_inside

from raftlite.cli import main
from raftlite.member import MOST_WAITING, Member
from raftlite.nodes.channel import Refused
from raftlite.nodes.request import ask_member
from raftlite.timing import Timing

KEY = "the secret that all members share"
LOYAL = Timing(heartbeat_interval=0.05, election_timeout=600.0, message_timeout=10.0)  # no lease runs out meanwhile
HASTY = Timing(heartbeat_interval=0.05, election_timeout=0.15, message_timeout=10.0)  # and yet waits for whoever asks
COMMAND = "import sys; from raftlite.cli import main; sys.exit(main())"


@pytest.fixture(autouse=True)
def key(monkeypatch):
    """The key is in the environment, where the commands look for it."""
    monkeypatch.setenv("RAFTLITE_AUTHKEY", KEY)


@pytest.fixture
def ask(capsys):
    """Run a command in this process; return its exit code, what it prints and what it complains of."""

    def run(*arguments):
        code = main([str(argument) for argument in arguments])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


@pytest.fixture
def processes(start_child, tmp_path):
    """Start `raftlite node` with these peers; without any it waits to be let in."""

    def start(node_id, peers="", *more):
        options = [f"--peer={peer}={tmp_path}/{peer}.sock" for peer in peers if peer != node_id]
        timing = ["--heartbeat-interval", "0.05", "--election-timeout", "0.4"]
        place = ["--listen", tmp_path / f"{node_id}.sock", "--data-dir", tmp_path]
        return start_child(COMMAND, "node", "--json", "--id", node_id, *place, *timing, *options, *more)

    return start


def test_processes_are_added_handed_over_to_and_removed(processes, ask, tmp_path):
    """Three become four, each takes over when it is told to, and the leader is removed: it says so and exits with 0."""
    children = {node_id: processes(node_id, "abc") for node_id in "abc"}

    def at(node_id):
        return tmp_path / f"{node_id}.sock"

    def view(node_id):
        code, said, _ = ask("status", "--json", at(node_id))
        return json.loads(said) if code == 0 else None

    def insist(command, place, *arguments):
        """Ask again while there is no leader; on a busy machine that may be at any moment."""

        def done():
            code, said, complaint = ask(command, place, *arguments)
            if "there is no member" in complaint:  # a request before, of whose outcome nobody was told, has done it
                code, said, _ = ask("status", place)
            return said if code == 0 else None

        return eventually(done, f"{command} done")

    def agree():
        views = [view(node_id) for node_id in children]
        leaders = {each and each["leader"] for each in views}
        lists = {each and tuple(node[0] for node in each["membership"]["nodes"]) for each in views}
        return leaders.pop() if len(leaders) == 1 and None not in leaders and lists == {tuple(children)} else None

    eventually(agree, "agreed")
    children["d"] = processes("d")
    assert "members  a, b, c, d\n" in insist("add", at("b"), f"d={at('d')}")
    leader = eventually(agree, "agreed on four")

    heir = "a" if leader != "a" else "b"
    asked = next(node_id for node_id in children if node_id not in (leader, heir))
    eventually(
        lambda: f"leader   {heir}\n" in ask("transfer", at(asked), "--to", heir, "--timeout", 1)[1], f"{heir} leading"
    )
    leader = eventually(agree, "agreed on the heir")

    removed = children.pop(leader)
    assert f"members  {', '.join(children)}\n" in insist("remove", at(min(children)), leader)
    events = [json.loads(line) for line in removed.read_all()]
    assert removed.wait() == 0
    assert events[-1]["event"] == "removed"
    assert eventually(agree, "agreed on three") in children


def test_a_witness_that_is_let_in_votes_and_never_leads(processes, ask, tmp_path):
    """Of two and a witness one is killed: the other is elected by its vote, and may not hand over to it."""
    at = {node_id: tmp_path / f"{node_id}.sock" for node_id in "abc"}

    def leader_of(node_id):
        code, said, _ = ask("status", "--json", at[node_id])
        return json.loads(said)["leader"] if code == 0 else None

    children = {node_id: processes(node_id, "ab") for node_id in "ab"}
    witness = processes("c", "", "--witness", "c")
    eventually(lambda: ask("add", at["a"], f"c={at['c']}", "--timeout", 5)[0] == 0, "added")
    leader = eventually(lambda: leader_of("c"), "followed")
    children[leader].kill()
    left = "b" if leader == "a" else "a"
    eventually(lambda: leader_of("c") == left, "elected")
    eventually(lambda: "c may not campaign" in ask("transfer", at[left], "--to", "c", "--timeout", 5)[2], "refused")
    witness.send_signal(signal.SIGTERM)
    events = [json.loads(line) for line in witness.read_all()]
    assert {event["leader"] for event in events if event["event"] == "leader"} >= {leader, left}
    assert "elected" not in {event["event"] for event in events}


@pytest.fixture
def alone(tmp_path):
    """A cluster of one that has room for nobody else."""
    # A lease that ran out, on a machine that is busy, would leave the outcome of a change unknown.
    settings = {"authkey": KEY, "min_nodes": 1, "max_nodes": 1, "timing": LOYAL}
    with Member("a", listen=str(tmp_path / "a.sock"), **settings) as member:
        member.wait_until_leader(PATIENCE)
        yield member


def test_a_member_that_is_asked_to_remove_itself_has_done_so(alone, ask, tmp_path):
    """It knows of no leader any more, and need not: only `status` asks for one."""
    with Member("o", voter=False, listen=str(tmp_path / "o.sock"), authkey=KEY) as observer:
        alone.add_node("o", observer.address, voter=False, timeout=PATIENCE)
        observer.wait_for_leader(PATIENCE)
        code, said, complaint = ask("remove", observer.address, "o")
        assert alone.membership.ids == {"a"}
    assert (code, complaint) == (0, "")
    assert "leader   none: " in said


@pytest.mark.parametrize(
    "command, arguments, reason",
    [
        ("add", ["d=h:1"], "the cluster has 1 voters already, and max_nodes is 1"),
        ("remove", ["d"], "there is no member 'd': the members are a [1.1]"),
        ("transfer", ["--to", "d"], "d is no other voter of "),
    ],
)
def test_what_a_member_refuses_exits_with_69_and_its_reason(alone, ask, command, arguments, reason):
    """One sentence, which names the member that was asked."""
    code, said, complaint = ask(command, alone.address, *arguments)
    assert (code, said) == (69, "")
    assert complaint.startswith(f"raftlite {command}: {alone.address}: {reason}")
    assert complaint.count("\n") == 1
    assert alone.membership.ids == {"a"}


@pytest.mark.parametrize(
    "command, arguments, sentence",
    [
        ("add", ["d"], "the second argument is 'd', but must be ID=ADDRESS"),
        ("add", ["=h:1"], "the second argument is '=h:1', but must be ID=ADDRESS"),
        ("add", ["d="], "the second argument is 'd=', but must be ID=ADDRESS"),
        ("add", ["d\n=h:1"], "node id is 'd\\n', but must be 1 to 128 printable characters"),
        (
            "add",
            ["d=h"],
            "the address of d is 'h', but must be 'host:port' or the path of a Unix socket, which needs a slash: ./h",
        ),
        ("add", ["d=h:99999"], "the address of d is 'h:99999', but its port must be from 0 to 65535"),
        ("remove", [""], "node id is '', but must be 1 to 128 printable characters"),
        ("transfer", ["--to", ""], "node id is '', but must be 1 to 128 printable characters"),
    ],
)
def test_what_is_no_member_is_refused_before_anybody_is_asked(ask, command, arguments, sentence):
    """EX_CONFIG, though nobody listens there."""
    assert ask(command, "127.0.0.1:1", *arguments) == (78, "", f"raftlite {command}: {sentence}\n")


@pytest.mark.parametrize(
    "request_, details, reason",
    [
        ("add", {"id": "d", "at": "nowhere", "voter": True}, "the address of d is 'nowhere', but must be 'host:port'"),
        ("add", {"id": "", "at": "h:1", "voter": True}, "node id is '', but must be 1 to 128 printable characters"),
        ("remove", {"id": ""}, "node id is '', but must be 1 to 128 printable characters"),
        ("remove", {}, "the request lacks something or has it wrong"),
    ],
)
def test_a_member_does_not_rely_on_the_command_line(alone, request_, details, reason):
    """Another program may speak its protocol."""
    with pytest.raises(Refused, match=f"{alone.address}: {reason}"):
        ask_member(alone.address, KEY.encode(), "raftlite", PATIENCE, request_, **details)
    assert alone.membership.ids == {"a"}


def test_requests_that_wait_are_so_many_and_no_more(tmp_path):
    """Each holds a thread of the member. Its status is there all the while, and once they have ended it takes more."""
    member = Member("a", listen=str(tmp_path / "a.sock"), authkey=KEY, timing=HASTY, min_nodes=3)

    def transfer(timeout):
        return ask_member(member.address, KEY.encode(), "raftlite", timeout, "transfer", to=None)

    def waiting():
        ours = [thread for thread in threading.enumerate() if thread.name.startswith("raftlite-a-from-")]
        return sum(is_inside(thread, "hand_over") for thread in ours)

    with ThreadPoolExecutor(MOST_WAITING) as pool:
        with member:
            asked = [pool.submit(transfer, PATIENCE) for _ in range(MOST_WAITING)]
            eventually(lambda: waiting() == MOST_WAITING, "waiting")
            with pytest.raises(Refused, match=f"{MOST_WAITING} requests wait already: ask another member, or later"):
                transfer(PATIENCE)
            assert main(["status", member.address]) == 75
        assert {type(each.exception(PATIENCE)) for each in asked} == {Refused}
    with member, pytest.raises(Refused, match=r"no leader after 0\.01 s"):
        transfer(0.01)


@pytest.mark.slow
def test_a_change_without_a_quorum_gives_up_when_it_was_told_to_and_says_what_is_missing(ask, tmp_path):
    """The member goes on trying."""
    at = {node_id: str(tmp_path / f"{node_id}.sock") for node_id in "ab"}
    a, b = (Member(each, peers=at, listen=at[each], authkey=KEY, timing=HASTY) for each in "ab")
    with a:
        with b:
            a.wait_for_leader(PATIENCE)
        eventually(lambda: "1 of 2 answer, b is unreachable" in a.status().why, "asked the other, which is gone")
        code, said, complaint = ask("remove", a.address, "b", "--timeout", "0.05")
    assert (code, said) == (69, "")
    assert "the membership is not changed yet, but will be once a majority answers, after 0.05 s: " in complaint
    assert "b is unreachable since" in complaint
