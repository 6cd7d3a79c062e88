"""The members of a cluster change while it runs: any member may be asked, of any other, and says what came of it."""

from __future__ import annotations

import contextlib
import queue
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from threads import PATIENCE, eventually, is_inside

from raftlite.election import Role
from raftlite.errors import ConfigError, MembershipError, MemberStopped
from raftlite.member import Member
from raftlite.messages import Removed
from raftlite.timing import Timing

TIMING = Timing(heartbeat_interval=0.05, election_timeout=3.0)  # no pause of the machine takes the lead from anybody
KEY = b"the secret that all members share"


class Cluster:
    """Members of one process, with Unix sockets and saved votes in one folder. Also a context manager."""

    def __init__(self, folder, **settings):
        self.members = {}
        self.grants = queue.Queue()
        self._folder, self._settings, self._stack = folder, settings, contextlib.ExitStack()

    def address(self, node_id):
        return str(self._folder / f"{node_id}.sock")

    def start(self, node_id, peers="", **settings):
        """A member that knows `peers`, or one that waits to be let in."""
        self.members[node_id] = self._stack.enter_context(
            Member(
                node_id,
                authkey=KEY,
                data_dir=self._folder,
                timing=TIMING,
                on_elected=lambda leadership: self.grants.put(leadership.token),
                **{
                    "peers": {peer: self.address(peer) for peer in peers if peer != node_id},
                    "listen": self.address(node_id),
                    **self._settings,
                    **settings,
                },
            )
        )
        return self.members[node_id]

    def found(self, node_ids):
        """Start these as a cluster, and wait for its leader."""
        for node_id in node_ids:
            self.start(node_id, node_ids)
        return self.agree()

    def agree(self, but_not=()):
        """Wait until all members have the same leader, which leads, and the same members; return its id."""

        def agreed():
            leaders = {member.leader_id for member in self.members.values()}
            lists = {member.membership.ids for member in self.members.values()}
            leader_id = leaders.pop()
            alike = not leaders and lists == {frozenset(self.members)} and leader_id not in but_not
            return leader_id if alike and leader_id in self.members and self.members[leader_id].is_leader else None

        return eventually(agreed, f"agreed on a leader of {sorted(self.members)}")

    def another(self, *node_ids):
        """A member that is none of these."""
        return next(member for node_id, member in self.members.items() if node_id not in node_ids)

    def tokens(self):
        return [self.grants.get_nowait() for _ in range(self.grants.qsize())]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._stack.close()


@pytest.fixture
def cluster(tmp_path):
    with Cluster(tmp_path) as cluster:
        yield cluster


def gone(member):
    """Wait until a removed member has learnt it and ended; return its last status."""
    eventually(lambda: member.status().role is Role.STOPPED, f"{member.node_id} told that it was removed")
    return member.status()


# --- Growing and shrinking -----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_change_that_is_asked_for_before_the_first_leader_waits_for_it(cluster):
    """Lists that were changed on one member alone could never agree on a leader."""
    first = cluster.start("a", "ab")
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(first.add_node, "c", cluster.address("c"), timeout=PATIENCE)
        eventually(lambda: any(is_inside(thread, "_wait") for thread in threading.enumerate()), "waiting")
        assert first.membership.ids == {"a", "b"}
        cluster.start("b", "ab")
        cluster.start("c")
        assert asked.result(PATIENCE).ids == {"a", "b", "c"}
    cluster.agree()


def test_a_cluster_grows_from_three_to_five_and_shrinks_to_three(cluster):
    """Each change is asked of another member; tokens only grow all the while."""
    cluster.found("abc")
    for node_id, asked in (("d", "a"), ("e", "d")):
        newcomer = cluster.start(node_id)
        membership = cluster.members[asked].add_node(node_id, newcomer.address, timeout=PATIENCE)
        assert node_id in membership.voters
        cluster.agree()
    for node_id, asked in (("a", "e"), ("b", "c")):
        leaving = cluster.members.pop(node_id)
        assert node_id not in cluster.members[asked].remove_node(node_id, timeout=PATIENCE).ids
        assert gone(leaving).why == "stopped"
        cluster.agree()
    assert set(cluster.members) == {"c", "d", "e"}
    tokens = cluster.tokens()
    assert tokens == sorted(set(tokens))


@pytest.mark.slow
@pytest.mark.parametrize("asks_the_leader", [True, False], ids=["asked of the leader", "asked of a follower"])
def test_a_newcomer_votes_and_may_lead(cluster, asks_the_leader):
    """It is told who belongs, and is as good a member as any."""
    leader = cluster.members[cluster.found("abc")]
    asked = leader if asks_the_leader else cluster.another(leader.node_id)
    newcomer = cluster.start("d")
    assert newcomer.status().why.startswith("knows 1 of 2 nodes")
    assert asked.add_node("d", newcomer.address, timeout=PATIENCE).voters == {"a", "b", "c", "d"}

    def leads():
        if not newcomer.is_leader:  # with a new file for its votes it abstains for a while, and takes nothing over
            asked.transfer_leadership(to="d")
        return newcomer.is_leader

    eventually(leads, "taken over")
    assert newcomer.status().current_term > 1


@pytest.mark.slow
def test_a_member_may_be_added_before_it_is_started(cluster):
    """It is waited for; the others are a quorum without it."""
    cluster.found("abc")
    membership = cluster.members["b"].add_node("d", cluster.address("d"), timeout=PATIENCE)
    assert "d" in membership.ids
    cluster.start("d")
    cluster.agree()


@pytest.mark.slow
def test_an_observer_may_become_a_voter_and_a_voter_an_observer(cluster):
    """To add a member again changes what is known of it."""
    leader_id = cluster.found("abc")
    other = cluster.another(leader_id)
    for voter in (False, True):
        membership = other.add_node(other.node_id, other.address, voter=voter, timeout=PATIENCE)
        assert (other.node_id in membership.voters) is voter
        assert membership.ids == {"a", "b", "c"}


# --- Removing ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("asked", ["itself", "another"])
def test_a_leader_may_be_removed_and_hands_over_first(cluster, asked):
    """Nobody else could remove it: a leader keeps itself."""
    leader = cluster.members[cluster.found("abc")]
    lost = queue.Queue()
    leader.on_lost(lost.put)
    grant = leader.wait_until_leader(PATIENCE)
    asked_member = leader if asked == "itself" else cluster.another(leader.node_id)
    del cluster.members[leader.node_id]
    # A member that is removed may end before it is told that the change it asked for is committed.
    with contextlib.suppress(MembershipError, MemberStopped) if asked == "itself" else contextlib.nullcontext():
        assert asked_member.remove_node(leader.node_id, timeout=PATIENCE).ids == set(cluster.members)
    status = gone(leader)
    assert (status.leader_id, status.error) == (None, "")
    assert lost.get(timeout=PATIENCE) is grant
    assert cluster.members[cluster.agree()].wait_until_leader(PATIENCE).token > grant.token


@pytest.mark.slow
def test_a_removed_member_says_so_in_its_events_and_to_whoever_waits(cluster):
    """`Removed` among its events, and a sentence for every waiter."""
    leader_id = cluster.found("abc")
    removed = cluster.another(leader_id)
    told = queue.Queue()

    def wait():
        try:
            told.put(removed.wait_until_leader(PATIENCE))
        except MemberStopped as error:
            told.put(str(error))

    waiter = threading.Thread(target=wait)
    waiter.start()
    cluster.members[leader_id].remove_node(removed.node_id, timeout=PATIENCE)
    gone(removed)
    said = told.get(timeout=PATIENCE)
    waiter.join(PATIENCE)
    assert said == f"{removed.node_id} was removed from the cluster and has stopped"
    events = removed._thread.events
    assert [event for event in (events.get_nowait() for _ in range(events.qsize())) if isinstance(event, Removed)]
    assert not removed.is_leader


@pytest.mark.slow
def test_a_removed_member_may_come_back(cluster):
    """Started again with its old votes, it waits until it is added."""
    leader_id = cluster.found("abc")
    removed = cluster.another(leader_id)
    del cluster.members[removed.node_id]
    cluster.members[leader_id].remove_node(removed.node_id, timeout=PATIENCE)
    gone(removed)
    removed.stop(PATIENCE)
    cluster.agree()
    cluster.start(removed.node_id)
    cluster.members[leader_id].add_node(removed.node_id, removed.listen, timeout=PATIENCE)
    cluster.agree()


# --- Refused, or without an answer ---------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_change_that_is_refused_raises_the_leaders_reason_wherever_it_is_asked(tmp_path):
    """Below `min_nodes` and beyond `max_nodes`, at the leader and at the others."""
    with Cluster(tmp_path, min_nodes=3, max_nodes=3) as cluster:
        cluster.found("abc")
        for member in cluster.members.values():
            with pytest.raises(MembershipError, match="the cluster has 3 voters already, and max_nodes is 3"):
                member.add_node("d", cluster.address("d"), timeout=PATIENCE)
            with pytest.raises(MembershipError, match="only 2 voters would be left, and min_nodes is 3"):
                member.remove_node(cluster.another(cluster.agree()).node_id, timeout=PATIENCE)
        assert cluster.agree()


def test_a_member_that_is_gone_and_removed_is_missed_no_more(cluster):
    """Though the leader goes on looking for it, to tell it."""
    cluster.found("abc")
    leader = cluster.members[cluster.agree()]
    gone = cluster.another(leader.node_id).node_id
    cluster.members.pop(gone).stop()
    eventually(lambda: gone in dict(leader.status().unreachable), "missed")
    leader.remove_node(gone, timeout=PATIENCE)
    assert gone in leader._thread._handles.trouble
    assert leader.status().unreachable == ()
    assert leader.metrics()["unreachable_members"] == 0


@pytest.mark.slow
def test_a_member_that_was_added_at_a_wrong_address_is_added_again_at_the_right_one(cluster):
    """Every member dials the new address, not only the one that was asked."""
    cluster.found("abc")
    cluster.start("d")
    asked = cluster.another("d")
    asked.add_node("d", cluster.address("typo"), timeout=PATIENCE)
    asked.add_node("d", cluster.address("d"), timeout=PATIENCE)
    cluster.agree()


@pytest.mark.slow
def test_a_member_that_was_removed_at_a_wrong_address_joins_at_the_right_one(cluster):
    """Nobody goes on dialling the old address, though what listens there never learnt of its removal."""
    cluster.found("abc")
    cluster.start("d")
    asked = cluster.another("d")
    asked.add_node("d", cluster.address("typo"), timeout=PATIENCE)
    asked.remove_node("d", timeout=PATIENCE)
    asked.add_node("d", cluster.address("d"), timeout=PATIENCE)
    cluster.agree()


@pytest.mark.slow
def test_a_member_may_move(cluster):
    """It is stopped, started again at another address, and added again there."""
    leader_id = cluster.found("abc")
    mover = next(node_id for node_id in "abc" if node_id != leader_id)
    cluster.members.pop(mover).stop()
    moved = cluster.start(mover, "abc", listen=cluster.address("elsewhere"))
    cluster.members[leader_id].add_node(mover, cluster.address("elsewhere"), timeout=PATIENCE)
    assert cluster.agree()
    eventually(lambda: moved.leader_id, "following")
    cluster.members[leader_id].transfer_leadership(mover)
    eventually(lambda: moved.is_leader, "leading, so that the others reach it and it reaches them")


@pytest.mark.parametrize("node_id, address", [("", "h:1"), ("d", "nowhere"), ("d", None), (7, "h:1")])
def test_a_member_that_cannot_exist_is_refused_at_once(cluster, node_id, address):
    """`ConfigError`, before anybody is asked."""
    member = cluster.start("a", min_nodes=1)
    member.wait_until_leader(PATIENCE)
    with pytest.raises(ConfigError, match="but must be"):
        member.add_node(node_id, address, timeout=PATIENCE)
    with pytest.raises(ConfigError, match="voter is 'no', but must be True or False"):
        member.add_node("d", "h:1", voter="no", timeout=PATIENCE)
    assert member.membership.ids == {"a"}


@pytest.mark.slow
def test_a_change_without_a_quorum_times_out_and_is_made_once_there_is_one(cluster):
    """The error says what is missing; the request goes on waiting."""
    cluster.found("abc")
    for node_id in "bc":
        cluster.members.pop(node_id).stop(PATIENCE)
    left = cluster.members["a"]
    eventually(lambda: left.leader_id is None and not left.is_leader, "without a leader")
    with pytest.raises(TimeoutError, match=r"but will be once .*, after 0\.01 s: .*unreachable|waits for"):
        left.add_node("d", cluster.address("d"), timeout=0.01)
    assert "d" not in left.membership.ids
    for node_id in "bcd":
        cluster.start(node_id, "abc" if node_id != "d" else "")
    cluster.agree()


def test_a_member_that_is_stopped_changes_nothing(cluster):
    """Neither does it wait for ever."""
    member = cluster.start("a", min_nodes=1)
    member.stop(PATIENCE)
    for change in (lambda: member.add_node("d", "h:1"), lambda: member.remove_node("b")):
        with pytest.raises(MemberStopped, match="a is stopped"):
            change()
