"""`Member`: what a program holds. Several in one process here, over Unix sockets and over TCP."""

from __future__ import annotations

import contextlib
import os
import queue
import socket
import threading

import pytest
from threads import PATIENCE, Gate, eventually, is_inside

from raftlite.errors import ConfigError, LeadershipLost, MembershipError, MemberStopped, StorageError
from raftlite.member import Member
from raftlite.nodes import ConnectionNode
from raftlite.storage import SQLiteStorage
from raftlite.thread import ElectionThread
from raftlite.timing import Timing

TIMING = Timing(heartbeat_interval=0.05, election_timeout=0.25)
# No pause of the machine ends a lease; and where votes are split, there is another election while the test waits.
STEADY = Timing(heartbeat_interval=0.05, election_timeout=5.0)
LOYAL = Timing(heartbeat_interval=0.05, election_timeout=600.0)  # no lease runs out while the test runs
KEY = b"the secret that all members share"


def alone(node_id="a", **settings):
    """A cluster of one, which leads at once."""
    settings.setdefault("min_nodes", 1)
    settings.setdefault("timing", LOYAL)
    return Member(node_id, **settings)


# --- Several members -----------------------------------------------------------------------------------------------


@pytest.fixture(params=["unix", "tcp"])
def addresses(request, tmp_path):
    """Where three members listen."""
    if request.param == "unix":
        return {node_id: str(tmp_path / f"{node_id}.sock") for node_id in "abc"}
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in "abc"]
        return {node_id: f"127.0.0.1:{sock.getsockname()[1]}" for node_id, sock in zip("abc", sockets)}


def member_of(addresses, node_id, **settings):
    peers = {peer: address for peer, address in addresses.items() if peer != node_id}
    settings.setdefault("timing", TIMING)
    return Member(node_id, peers=peers, listen=addresses[node_id], authkey=KEY, **settings)


@contextlib.contextmanager
def cluster(addresses, **settings):
    with contextlib.ExitStack() as stack:
        yield {node_id: stack.enter_context(member_of(addresses, node_id, **settings)) for node_id in addresses}


def agree(members):
    """Wait until every member names the same leader, and that one leads; return its id."""

    def agreed():
        (leader_id, *others) = {member.leader_id for member in members.values()}
        return leader_id if not others and leader_id in members and members[leader_id].is_leader else None

    return eventually(agreed, "agreed on a leader")


def connected(members):
    """Wait until each reaches all others: what is handed over needs the votes of any two of them."""
    for member in members.values():
        eventually(lambda of=member: not of.status().unreachable, "connected to all")


def test_three_members_elect_a_leader_and_another_one_when_it_stops(addresses, tmp_path):
    """The readme's program: a `with` statement and `is_leader`."""
    with cluster(addresses, data_dir=tmp_path, timing=STEADY) as members:
        assert members["a"].wait_for_leader(PATIENCE) in members
        first = members.pop(agree(members))
        token = first.wait_until_leader(PATIENCE).token
        first.stop(PATIENCE)
        assert not first.is_leader
        second = members[agree(members)]
        assert second.wait_until_leader(PATIENCE).token > token
        status = second.status()
        assert (status.node_id, status.leader_id, status.why) == (second.node_id, second.node_id, "")
        assert status.membership.ids == {"a", "b", "c"}


def test_a_witness_votes_and_never_leads(addresses, tmp_path):
    """Two members that can do the work, and a third that makes it a majority when one of them is gone."""
    with cluster(addresses, data_dir=tmp_path, witnesses=["a"]) as members:
        first = agree(members)
        members.pop(first).stop(PATIENCE)
        second = agree(members)
        assert {first, second} == {"b", "c"}
        members.pop(second).stop(PATIENCE)
        eventually(lambda: members["a"].leader_id is None, "known to be gone")
        eventually(lambda: len(members["a"].status().unreachable) == 2, "alone")
        with pytest.raises(TimeoutError, match=r"no leader after 0.01 s: .* is unreachable since"):
            members["a"].wait_for_leader(0.01)


def test_members_that_never_voted_elect_as_soon_as_they_reach_each_other(addresses, tmp_path):
    """Nobody could be elected within the hour otherwise."""
    with cluster(addresses, data_dir=tmp_path, timing=Timing(election_timeout=3600.0)) as members:
        assert agree(members) in members


def test_a_member_that_comes_back_is_told_at_once_who_leads(addresses, tmp_path):
    """It is not in time for any heartbeat: the next is due in half an hour."""
    timing = Timing(election_timeout=3600.0, heartbeat_interval=1800.0)
    with cluster(addresses, data_dir=tmp_path, timing=timing) as members:
        leader_id = agree(members)
        member = next(member for node_id, member in members.items() if node_id != leader_id)
        member.stop(PATIENCE)
        member.start()
        assert member.wait_for_leader(PATIENCE) == leader_id


def test_members_on_ports_that_the_system_chose_are_let_in_one_by_one():
    """`listen` with port 0: the address is known once the member runs."""
    with contextlib.ExitStack() as stack:
        members = {}
        for node_id in "abc":
            founding = {"min_nodes": 1} if node_id == "a" else {}
            member = Member(node_id, listen="127.0.0.1:0", authkey=KEY, timing=STEADY, **founding)
            assert member.address == "127.0.0.1:0"
            members[node_id] = stack.enter_context(member)
            assert not member.address.endswith(":0")
        members["a"].wait_until_leader(PATIENCE)
        for node_id in "bc":
            assert node_id in members["a"].add_node(node_id, members[node_id].address, timeout=PATIENCE).ids
        assert agree(members) == "a"
        eventually(lambda: members["b"].membership.ids == {"a", "b", "c"}, "told of the third")
        assert members["c"].remove_node("b", timeout=PATIENCE).ids == {"a", "c"}
        eventually(lambda: members["b"].status().why == "stopped", "told that it was removed")


def test_a_member_that_listens_everywhere_is_found_where_it_connects_from():
    """So it needs no `advertise`: what others make of `0.0.0.0` is the address that they see."""
    with Member("a", listen="0.0.0.0:0", min_nodes=1, authkey=KEY, timing=STEADY) as first:
        first.wait_until_leader(PATIENCE)
        with Member("b", listen="127.0.0.1:0", authkey=KEY, timing=STEADY) as second:
            first.add_node("b", second.address, timeout=PATIENCE)
            assert agree({"a": first, "b": second}) == "a"


@pytest.mark.parametrize("address", ["0.0.0.0:7600", "127.0.0.1:0"])
def test_a_new_member_must_be_somewhere(address):
    """The others would be told to look for it there."""
    with alone() as member, pytest.raises(ConfigError, match=f"the address of b is '{address}', but "):
        member.add_node("b", address, timeout=PATIENCE)


def test_a_member_that_nobody_can_reach_lets_nobody_in():
    """The newcomer would be counted, and neither hear of it nor be heard."""
    with alone() as member:
        member.wait_until_leader(PATIENCE)
        with pytest.raises(ConfigError, match="listen is missing: b needs an address to reach a under"):
            member.add_node("b", "127.0.0.1:7600", timeout=PATIENCE)
        assert member.membership.ids == {"a"}


@pytest.mark.slow
def test_removing_whoever_is_no_member_is_refused_wherever_it_is_asked(addresses, tmp_path):
    """A slip of the finger must not look like a success; the second of two removals finds nobody either."""
    with cluster(addresses, data_dir=tmp_path, timing=STEADY) as members:
        leader_id = agree(members)
        removed = next(node_id for node_id in members if node_id != leader_id)
        for member in members.values():
            with pytest.raises(MembershipError, match=r"there is no member 'd': the members are a, b, c \["):
                member.remove_node("d", timeout=PATIENCE)
        left = members[leader_id].remove_node(removed, timeout=PATIENCE).ids
        assert left == set(members) - {removed}
        with pytest.raises(MembershipError, match=f"there is no member '{removed}'"):
            members[leader_id].remove_node(removed, timeout=PATIENCE)


@pytest.mark.parametrize("node_id", ["", 5, None])
def test_a_change_that_names_no_node_is_refused_at_once(node_id):
    """The member would leave it aside, and the caller would wait for ever."""
    with alone() as member:
        member.wait_until_leader(PATIENCE)
        with pytest.raises(ConfigError, match=f"node id is {node_id!r}, but must be"):
            member.remove_node(node_id, timeout=PATIENCE)
        with pytest.raises(ConfigError, match=f"node id is {node_id!r}, but must be"):
            member.add_node(node_id, "127.0.0.1:1", timeout=PATIENCE)


def test_an_observer_follows_and_never_leads(addresses, tmp_path):
    """Two voters and somebody who only wants to know."""
    del addresses["c"]
    with contextlib.ExitStack() as stack:
        place = {"data_dir": tmp_path, "timing": STEADY}
        voters = {node_id: stack.enter_context(member_of(addresses, node_id, **place)) for node_id in addresses}
        leader_id = agree(voters)
        observer = stack.enter_context(Member("o", listen="127.0.0.1:0", voter=False, authkey=KEY, timing=STEADY))
        assert observer.status().why == "an observer waits for the voters to elect a leader"
        voters[leader_id].add_node("o", observer.address, voter=False, timeout=PATIENCE)
        eventually(lambda: observer.leader_id is not None, "followed")
        assert not observer.is_leader
        assert voters[leader_id].membership.voters == {"a", "b"}


@pytest.mark.parametrize("isolated", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_an_observer_that_all_know_from_the_start_has_no_vote_in_the_first_election(addresses, tmp_path, isolated):
    """It is named in `peers` as everybody is, and in `observers`, on each member."""
    with cluster(addresses, data_dir=tmp_path, observers=["c"], isolated=isolated, timing=STEADY) as members:
        first = agree(members)
        assert {member.membership.voters for member in members.values()} == {frozenset("ab")}
        members[first].transfer_leadership(to="c")
        members[first].transfer_leadership()
        eventually(lambda: members[first].leader_id not in (None, first), "handed over")
        assert agree(members) in {"a", "b"} - {first}


def test_an_observer_that_the_others_count_as_a_voter_says_so(addresses, tmp_path, caplog):
    """Their lists found the cluster, not its own; and nobody looks for the reason in them when it leads one day."""
    with contextlib.ExitStack() as stack:
        for node_id in "ab":
            stack.enter_context(member_of(addresses, node_id, data_dir=tmp_path))
        observer = stack.enter_context(member_of(addresses, "c", data_dir=tmp_path, voter=False))
        observer.wait_for_leader(PATIENCE)
        eventually(lambda: "c" in observer.membership.voters, "told that it votes")
    assert "c: was started as an observer, but the others count it as a voter, so it votes and may lead" in caplog.text


@pytest.mark.slow
def test_a_member_without_peers_that_answer_says_who_is_missing(addresses):
    """A sentence for whoever looks after it."""
    with member_of(addresses, "a") as member:
        eventually(lambda: "1 of 3 answer" in member.status().why, "asked the others")
        why = member.status().why
        assert "b is unreachable since" in why
        assert "c is unreachable since" in why
        with pytest.raises(TimeoutError, match="no leader after 0 s: 1 of 3 answer, b is unreachable since"):
            member.wait_for_leader(0)


def test_leadership_may_be_handed_to_a_chosen_member(addresses, tmp_path):
    """`transfer_leadership(to=...)`; and `resign()` to whoever was heard from last."""
    with cluster(addresses, data_dir=tmp_path, timing=STEADY) as members:
        leader_id = agree(members)
        connected(members)
        heir = next(node_id for node_id in members if node_id != leader_id)
        members[leader_id].transfer_leadership(to=heir)
        members[heir].wait_until_leader(PATIENCE)
        members[heir].resign()
        eventually(lambda: not members[heir].is_leader, "resigned")
        agree(members)


@pytest.mark.parametrize("isolated", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_program_may_wait_until_another_member_leads(addresses, tmp_path, isolated):
    """Or hear why not; whichever member it asks."""
    with cluster(addresses, data_dir=tmp_path, timing=STEADY, isolated=isolated) as members:
        first = agree(members)
        second, third = sorted(set(members) - {first})
        connected(members)
        assert members[third].hand_over(to=second, timeout=PATIENCE) == second
        assert members[second].hand_over(to=second, timeout=PATIENCE) == second
        with pytest.raises(MembershipError, match="nobody is no other voter of"):
            members[second].hand_over(to="nobody", timeout=PATIENCE)
        members[third].stop(PATIENCE)
        for ask in (members[third].hand_over, members[third].transfer_leadership):
            with pytest.raises(MemberStopped, match=f"{third} is stopped"):
                ask()


# --- What a program holds ------------------------------------------------------------------------------------------


def test_a_grant_says_how_long_it_lasts_and_when_it_is_over():
    """Token, valid, remaining, lost and check; and `lost` wakes whoever waits for it."""
    with alone() as member:
        leadership = member.wait_until_leader(PATIENCE)
        assert member.is_leader
        assert (member.leader_id, leadership.node_id, leadership.token) == ("a", "a", 1)
        assert leadership.valid
        assert 0 < leadership.remaining <= LOYAL.election_timeout
        leadership.check()
        assert not leadership.lost.is_set()
    assert leadership.lost.wait(PATIENCE)
    assert not leadership.valid
    with pytest.raises(LeadershipLost, match="a no longer leads with token 1"):
        leadership.check()
    assert not member.is_leader


def test_callbacks_may_be_given_as_arguments_or_by_decorators():
    """They come in pairs and in order, also when the member stops and starts again."""
    calls = queue.Queue()
    member = alone(
        on_elected=lambda leadership: calls.put(("elected", leadership.token)),
        on_lost=lambda leadership: calls.put(("lost", leadership.token)),
        on_leader_changed=lambda leader_id, term: calls.put((leader_id, term)),
    )

    @member.on_elected
    def elected(leadership):
        calls.put(("elected too", leadership.token))

    @member.on_lost
    def lost(leadership):
        calls.put(("lost too", leadership.token))

    @member.on_leader_changed
    def leader_changed(leader_id, term):
        calls.put((f"{leader_id} too", term))

    for token in (1, 2):
        with member:
            member.wait_until_leader(PATIENCE)
        began = [("elected", token), ("elected too", token), ("a", token), ("a too", token)]
        ended = [("lost", token), ("lost too", token), (None, token), ("None too", token)]
        assert [calls.get(timeout=PATIENCE) for _ in range(8)] == began + ended
    assert calls.empty()
    assert callable(elected) and callable(lost) and callable(leader_changed)


def test_a_callback_that_is_registered_while_the_member_leads_is_called_at_once():
    """The decorator stands below the `with` statement in the readme."""
    with alone() as member:
        leadership = member.wait_until_leader(PATIENCE)
        given = queue.Queue()
        member.on_elected(given.put)
        assert given.get(timeout=PATIENCE) is leadership


@pytest.mark.parametrize("name", ["on_elected", "on_lost", "on_leader_changed"])
def test_a_callback_must_be_callable(name):
    """Said when it is given, not when it is due."""
    with pytest.raises(ConfigError, match=f"{name} is 'start', but must be callable"):
        getattr(alone(), name)("start")
    with pytest.raises(ConfigError, match=f"{name} is 'start', but must be callable"):
        alone(**{name: "start"})


# --- Starting and stopping -----------------------------------------------------------------------------------------


def threads_of(node_id):
    return sorted(t.name for t in threading.enumerate() if t.name.startswith(f"raftlite-{node_id}"))


def test_a_member_may_be_started_again_and_its_tokens_grow(tmp_path):
    """With saved votes and without."""
    for folder in (None, tmp_path):
        member = alone(data_dir=folder, listen=str(tmp_path / "a.sock"), authkey=KEY)
        for token in (1, 2, 3):
            with member:
                assert member.wait_until_leader(PATIENCE).token == token
            assert threads_of("a") == []
            assert not (tmp_path / "a.sock").exists()


def test_stopping_twice_or_before_starting_is_fine():
    """A program that fails early may clean up as always."""
    member = alone()
    member.stop()
    with member:
        member.stop(PATIENCE)
        member.stop(PATIENCE)
        assert threads_of("a") == []
    assert not member.is_leader
    assert member.leader_id is None


WAITS = {
    "wait_for_leader": lambda member, timeout: member.wait_for_leader(timeout),
    "wait_until_leader": lambda member, timeout: member.wait_until_leader(timeout),
    "add_node": lambda member, timeout: member.add_node("o", "127.0.0.1:1", voter=False, timeout=timeout),
    "remove_node": lambda member, timeout: member.remove_node("o", timeout=timeout),
    "stop": lambda member, timeout: member.stop(timeout),
}


@pytest.mark.parametrize("timeout", [None, float("inf"), 1e300, 10**400], ids=["None", "inf", "1e300", "10**400"])
def test_a_wait_for_ever_may_be_written_as_one_likes(timeout):
    """The system's own limit on waiting is nobody's business."""
    with alone(listen="127.0.0.1:0", authkey=KEY) as member:
        for wait in WAITS.values():
            wait(member, timeout)
        assert threads_of("a") == []


@pytest.mark.parametrize("timeout", [float("nan"), "5", True, 1j], ids=repr)
@pytest.mark.parametrize("wait", WAITS.values(), ids=WAITS)
def test_a_wait_that_is_no_number_is_refused_and_changes_nothing(wait, timeout):
    """NaN is neither short nor long."""
    with alone(listen="127.0.0.1:0", authkey=KEY) as member:
        leadership = member.wait_until_leader(PATIENCE)
        with pytest.raises(ConfigError, match=r"timeout is .*, but must be a number of seconds, or None to wait for"):
            wait(member, timeout)
        assert leadership.valid
        assert member.membership.ids == {"a"}


def test_a_wait_that_is_over_already_takes_no_time():
    """What is left until a deadline may be a little less than nothing."""
    with alone(min_nodes=2) as member:
        for wait in (member.wait_for_leader, member.wait_until_leader):
            with pytest.raises(TimeoutError, match="after 0 s: knows 1 of 2 nodes"):
                wait(-1)


def test_a_member_that_is_stopped_while_another_thread_starts_it_is_stopped(monkeypatch):
    """All of it: no thread of the new life goes on without its votes."""
    started = []
    member = alone()
    open_storage = member._open_storage

    def open_slowly():
        gate.pass_through()
        return open_storage()

    monkeypatch.setattr(member, "_open_storage", open_slowly)
    with Gate() as gate:
        starter = threading.Thread(target=lambda: started.append(member.start()))
        starter.start()
        gate.wait_until_reached()
        stopper = threading.Thread(target=member.stop, args=(PATIENCE,))
        stopper.start()
        eventually(lambda: is_inside(stopper, "stop"), "stopping")
    for thread in (starter, stopper):
        thread.join(PATIENCE)
    assert started and not member._thread.is_alive
    with member:
        assert member.wait_for_leader(PATIENCE) == "a"


def test_starting_twice_is_refused():
    """The first start goes on undisturbed."""
    with alone() as member:
        leadership = member.wait_until_leader(PATIENCE)
        with pytest.raises(MemberStopped, match=r"a runs already: call stop\(\) first"):
            member.start()
        assert leadership.valid


def test_a_member_that_was_never_started_says_so():
    """Instead of waiting for ever."""
    member = alone()
    assert (member.is_leader, member.leader_id, member.address) == (False, None, None)
    for call in (member.wait_for_leader, member.wait_until_leader, member.status, member.resign):
        with pytest.raises(MemberStopped, match=r"a is not started: call start\(\), or use it in a with statement"):
            call()


def test_a_callback_may_stop_its_member(tmp_path):
    """Its sockets and votes are free again when the call returns."""
    stopped = threading.Event()

    def stop(leadership):
        member.stop()
        stopped.set()

    member = alone(on_elected=stop, listen=str(tmp_path / "a.sock"), authkey=KEY, data_dir=tmp_path)
    member.start()
    assert stopped.wait(PATIENCE)
    assert not (tmp_path / "a.sock").exists()
    SQLiteStorage(tmp_path / "a.sqlite3").close()
    eventually(lambda: threads_of("a") == [], "ended")


@pytest.mark.slow
def test_a_busy_callback_does_not_keep_the_address_and_the_votes(tmp_path):
    """`stop` says what it could not wait for, and has ended everything else."""
    with Gate() as gate:
        member = alone(
            on_elected=lambda leadership: gate.pass_through(),
            listen=str(tmp_path / "a.sock"),
            authkey=KEY,
            data_dir=tmp_path,
        ).start()
        gate.wait_until_reached()
        with pytest.raises(TimeoutError, match=r"a has not ended within 0\.01 s"):
            member.stop(timeout=0.01)
        eventually(lambda: threads_of("a") == ["raftlite-a-callbacks"], "ended but for the callback")
        assert not (tmp_path / "a.sock").exists()


def test_a_member_does_not_start_beside_a_callback_of_its_former_life():
    """It would be elected again before the program has heard that the former grant is lost."""
    calls = queue.Queue()
    member = alone(on_lost=lambda leadership: calls.put(("lost", leadership.token)))

    @member.on_elected
    def elected(leadership):
        calls.put(("elected", leadership.token))
        gate.pass_through()

    with Gate() as gate:
        member.start()
        gate.wait_until_reached()
        with pytest.raises(TimeoutError):
            member.stop(timeout=0.01)
        with pytest.raises(MemberStopped, match="a cannot start yet: a callback of its former life is still running"):
            member.start()
        assert not member.is_leader
        gate.open()
        eventually(lambda: not member._thread.is_alive, "ended")
    with member:
        member.wait_until_leader(PATIENCE)
    began_and_ended = [("elected", 1), ("lost", 1), ("elected", 2), ("lost", 2)]
    assert [calls.get(timeout=PATIENCE) for _ in range(4)] == began_and_ended


def test_a_callback_that_stops_its_member_cannot_start_it_again_beside_itself():
    """The callbacks of the new life would run while this one still does."""
    refused = queue.Queue()

    def stop_and_start(leadership):
        if leadership.token > 1:
            return
        member.stop()
        try:
            member.start()
            refused.put("nothing")
        except MemberStopped as error:
            refused.put(str(error))

    member = alone(on_elected=stop_and_start)
    with member:
        assert refused.get(timeout=PATIENCE).startswith("a cannot start yet: a callback of its former life is still")
    eventually(lambda: threads_of("a") == [], "ended")
    with member:  # later it may
        assert member.wait_until_leader(PATIENCE).token == 2


# --- A start that fails leaves nothing behind ----------------------------------------------------------------------


def nothing_is_left(folder):
    """No thread; no lock on the votes; no socket."""
    eventually(lambda: threads_of("a") == [], "ended")  # one that dials may do so a little later
    assert list(folder.glob("*.sock")) == []
    if (folder / "a.sqlite3").exists():
        SQLiteStorage(folder / "a.sqlite3").close()


def test_an_address_in_use_is_named_and_nothing_is_left_behind(tmp_path):
    """And the same member starts once it is free."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        member = alone(listen=address, authkey=KEY, data_dir=tmp_path, peers={"b": str(tmp_path / "b")})
        with pytest.raises(OSError, match=f"cannot listen on {address}: Address already in use"):
            member.start()
        nothing_is_left(tmp_path)
        with pytest.raises(MemberStopped, match="a is not started"):
            member.wait_for_leader()
    with member:
        assert member.address == address


@pytest.mark.parametrize(
    "address, reason",
    [("name.invalid:7600", ""), ("192.0.2.1:7600", ""), ("/no/such/folder/a.sock", "No such file or directory")],
)
def test_an_address_that_cannot_be_used_is_named_and_nothing_is_left_behind(tmp_path, address, reason):
    """Unknown to the resolver, of another machine, or in no folder."""
    with pytest.raises(OSError, match=f"cannot listen on {address}: {reason}"):
        alone(listen=address, authkey=KEY, data_dir=tmp_path).start()
    nothing_is_left(tmp_path)


def test_votes_that_another_process_has_open_are_named_and_nothing_is_left_behind(tmp_path):
    """Two processes with one vote would vote twice."""
    storage = SQLiteStorage(tmp_path / "a.sqlite3")
    member = alone(listen=str(tmp_path / "a.sock"), authkey=KEY, data_dir=tmp_path)
    with pytest.raises(StorageError, match=r"a\.sqlite3: another process or member has it open"):
        member.start()
    storage.close()
    nothing_is_left(tmp_path)
    with member:
        member.wait_until_leader(PATIENCE)


def test_a_folder_that_cannot_hold_the_votes_is_named(tmp_path):
    """`StorageError`, as for everything else that keeps votes from being saved."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=f"cannot make the folder {tmp_path}/file: File exists"):
        alone(data_dir=tmp_path / "file").start()
    nothing_is_left(tmp_path)


@pytest.mark.parametrize("failing", ["__init__", "start"])
def test_a_start_that_fails_late_leaves_nothing_behind(tmp_path, monkeypatch, failing):
    """As where the system has no threads left: the connections to the peers have threads by then."""

    def fail(*_, **__):
        assert [name for name in threads_of("a") if name.startswith("raftlite-a-to-")]
        raise RuntimeError("can't start new thread")

    member = Member(
        "a", peers={"b": str(tmp_path / "b")}, listen=str(tmp_path / "a.sock"), authkey=KEY, data_dir=tmp_path
    )
    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="can't start new thread"):
        patch.setattr(ElectionThread, failing, fail)
        member.start()
    nothing_is_left(tmp_path)
    with member:
        pass


def test_a_connection_that_cannot_be_begun_leaves_nothing_behind(tmp_path, monkeypatch):
    """The first peer's has a thread already when there is none for the second's."""
    begun = []
    begin = ConnectionNode.__init__

    def fail_second(node, *arguments, **options):
        begun.append(node)
        if len(begun) == 2:
            raise RuntimeError("can't start new thread")
        begin(node, *arguments, **options)

    peers = {"b": str(tmp_path / "b"), "c": str(tmp_path / "c")}
    member = Member("a", peers=peers, listen=str(tmp_path / "a.sock"), authkey=KEY)
    monkeypatch.setattr(ConnectionNode, "__init__", fail_second)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        member.start()
    nothing_is_left(tmp_path)


# --- Settings out of bounds ----------------------------------------------------------------------------------------

WRONG_SETTINGS = [
    ({"node_id": ""}, "node id is '', but must be 1 to 128 printable characters"),
    ({"node_id": "x" * 129}, "node id is 'x+', but must be 1 to 128 printable characters"),
    ({"node_id": "a\n"}, r"node id is 'a\\n', but must be 1 to 128 printable characters"),
    ({"node_id": 5}, "node id is 5, but must be a string"),
    ({"peers": {"": "h:1"}, "listen": "h:2"}, "peers: node id is '', but must be"),
    ({"peers": {"a": "h:1"}, "listen": "h:2"}, "peers has 'a', this member itself, at h:1, but listen is 'h:2'"),
    ({"peers": {"a": "h:1"}}, "peers has 'a', this member itself, at h:1, but listen is None"),
    ({"peers": {"b": "h:1", "c": "h:1"}, "listen": "h:2"}, "peers gives b, c the same address h:1"),
    ({"peers": {"b": "h:2"}, "listen": "h:2"}, "peers gives b the address h:2, but this member itself listens there"),
    ({"peers": {"b": "h:1"}}, "listen is missing"),
    (
        {"peers": {"b": "nowhere"}, "listen": "h:2"},
        "the address of b is 'nowhere', but must be 'host:port' or the path",
    ),
    (
        {"peers": {"b": "h:65536"}, "listen": "h:2"},
        "the address of b is 'h:65536', but its port must be from 0 to 65535",
    ),
    ({"peers": {"b": "x..y:1"}, "listen": "h:2"}, r"the address of b is 'x\.\.y:1', but 'x\.\.y' is no name of a host"),
    ({"peers": {"b": "/\ud800"}, "listen": "h:2"}, r"the address of b is .* but '/\\ud800' is no name of a file"),
    ({"peers": {"b": None}, "listen": "h:2"}, "the address of b is None, but must be 'host:port' or the path"),
    ({"listen": "h"}, "listen is 'h', but must be 'host:port' or the path of a Unix socket"),
    ({"listen": ("h", 65_536)}, "listen is 'h:65536', but its port must be from 0 to 65535"),
    ({"listen": "h:2", "advertise": "there"}, "advertise is 'there', but must be 'host:port' or the path"),
    ({"listen": "h:2", "advertise": "0.0.0.0:7600"}, r"advertise is '0\.0\.0\.0:7600', but '0\.0\.0\.0' names no host"),
    ({"listen": "h:2", "advertise": "[::]:7600"}, r"advertise is '\[::\]:7600', but '::' names no host"),
    ({"listen": "h:2", "advertise": "[::0]:7600"}, r"advertise is '\[::0\]:7600', but '::0' names no host"),
    ({"listen": "h:2", "advertise": ("", 7600)}, "advertise is ':7600', but '' names no host"),
    ({"listen": "h:2", "advertise": "h:0"}, "advertise is 'h:0', but nobody can connect to port 0"),
    ({"listen": "h:2", "peers": {"b": "0:1"}}, "the address of b is '0:1', but '0' names no host to connect to"),
    ({"listen": "h:2", "peers": {"b": "h:00"}}, "the address of b is 'h:00', but nobody can connect to port 0"),
    ({"data_dir": ""}, "data_dir is '', but must be the path of a folder"),
    ({"data_dir": 5}, "data_dir is 5, but must be the path of a folder"),
    ({"peers": ["b"]}, r"peers is \['b'\], but must be a dict that gives each member's id its address"),
    ({"peers": "b=h:1"}, "peers is 'b=h:1', but must be a dict"),
    ({"timing": {}}, r"timing is {}, but must be a raftlite\.Timing"),
    ({"timing": 1.0}, r"timing is 1\.0, but must be a raftlite\.Timing"),
    ({"cluster": None}, "cluster is None, but must be a name that all members share"),
    ({"cluster": ""}, "cluster is '', but must be a name"),
    ({"voter": "no"}, "voter is 'no', but must be True or False"),
    ({"listen": "h:2", "authkey": b""}, "authkey must be bytes or a string, and not empty"),
    ({"listen": "h:2", "authkey": 7}, "authkey must be bytes or a string, and not empty"),
    ({"min_nodes": 0}, "min_nodes is 0, but must be a whole number from 1"),
    ({"min_nodes": 1.5}, "min_nodes is 1.5, but must be a whole number from 1"),
    ({"max_nodes": -1}, "max_nodes is -1, but must be a whole number from 1"),
    ({"min_nodes": 3, "max_nodes": 2}, r"min_nodes is 3, but must be at most max_nodes \(2\)"),
    ({"min_nodes": 2, "max_nodes": 4}, r"min_nodes is 2, but must be more than half of max_nodes \(4\)"),
    (
        {"peers": {"b": "h:1", "c": "h:3"}, "listen": "h:2", "max_nodes": 2},
        "max_nodes is 2, but 3 voters are given, this node included",
    ),
]


def test_a_job_that_cannot_be_called_is_refused_at_once():
    """And not when this member is elected, perhaps days later."""
    with pytest.raises(ConfigError, match="job is None, but must be a function of the leadership"):
        Member("a").run(None)


@pytest.mark.parametrize("settings, sentence", WRONG_SETTINGS)
def test_a_setting_out_of_bounds_is_refused_before_anything_starts(settings, sentence):
    """`ConfigError`, a `ValueError`, names the setting, its value and the bound."""
    with pytest.raises(ConfigError, match=sentence) as error:
        Member(**{"node_id": "a", **settings})
    assert isinstance(error.value, ValueError)


def test_itself_among_its_peers_is_fine_at_the_same_address(tmp_path):
    """One list of members serves all of them."""
    everybody = {node_id: str(tmp_path / node_id) for node_id in "ab"}
    assert Member("a", peers=everybody, listen=everybody["a"]).peers == {"b": everybody["b"]}


def test_an_address_that_other_machines_can_reach_needs_a_key():
    """Whoever can reach it could lead, otherwise."""
    with pytest.raises(ValueError, match=r"authkey is missing, but other machines can reach 0\.0\.0\.0:0"):
        alone(listen="0.0.0.0:0").start()
    assert threads_of("a") == []


def test_the_key_is_not_shown(tmp_path):
    """A log line or a traceback may show the member."""
    member = alone(listen=str(tmp_path / "a.sock"), authkey="very secret")
    assert "secret" not in repr(member)
    assert repr(alone()) == "Member('a', peers={}, listen=None)"


def test_a_member_whose_start_is_interrupted_has_not_begun_and_may_be_started_again(tmp_path, monkeypatch, caplog):
    """Ctrl-C, when its thread runs already: that must not go on as a member whose votes and listener are closed."""
    begin = ElectionThread.start

    def be_interrupted(thread):
        begin(thread)
        thread.wait_until_leader(PATIENCE)
        raise KeyboardInterrupt

    elected = queue.Queue()
    member = alone(listen=str(tmp_path / "a.sock"), authkey=KEY, data_dir=tmp_path, on_elected=elected.put)
    with monkeypatch.context() as patch:
        patch.setattr(ElectionThread, "start", be_interrupted)
        with pytest.raises(KeyboardInterrupt):
            member.start()
    assert elected.get(timeout=PATIENCE).lost.is_set()
    assert not member.is_leader
    with member:
        assert member.wait_until_leader(PATIENCE).token >= 2
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


def test_votes_stay_where_they_are_when_the_program_changes_its_folder(tmp_path, monkeypatch):
    """A daemon does so; a member that found another, empty folder would take itself for one that has never voted."""
    monkeypatch.chdir(tmp_path)
    member = alone(data_dir="votes")
    with member:
        assert member.wait_until_leader(PATIENCE).token == 1
    monkeypatch.chdir("/")
    with member:
        assert member.wait_until_leader(PATIENCE).token == 2


def test_what_nobody_can_be_told_is_not_advertised():
    with pytest.raises(ConfigError, match="listen is missing: nobody can reach this member under what it advertises"):
        Member("a", advertise="10.0.0.1:7600")


def test_a_key_that_is_no_text_is_refused_before_anything_starts():
    """A variable may have any bytes, of which Python makes a string that cannot be said."""
    with pytest.raises(ConfigError, match=r"authkey is no UTF-8, .*: give os.fsencode\(\) of it") as refusal:
        Member("a", authkey=os.fsdecode(b"\xff abracadabra"))
    assert "abracadabra" not in str(refusal.value)
