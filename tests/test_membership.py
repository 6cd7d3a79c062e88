"""Who belongs: before the first leader, in judging what arrives, and while a leader changes it.

The protocol is that of Schultz, Dardik and Tripakis, "Design and Analysis of a Logless Dynamic Reconfiguration
Protocol" (OPODIS 2021): a membership has a position `(term, version)`, and takes the place of the log.
"""

from __future__ import annotations

import pytest
from harness import (
    LEASE,
    TIMING,
    Cluster,
    answer,
    answer_all,
    beat,
    become_candidate,
    become_leader,
    events,
    heartbeat,
    lead,
    members,
    new_member,
    old_member,
    only,
    request_vote,
    sent,
    vote,
)

from raftlite.codec import MAX_MESSAGE_BYTES, encode
from raftlite.election import Election, Role, Saved
from raftlite.errors import ConfigError
from raftlite.membership import Membership, NodeInfo, founding_membership
from raftlite.messages import (
    AddNode,
    ChangeRefused,
    Heartbeat,
    HeartbeatResponse,
    LeaderChanged,
    MembershipChanged,
    Removed,
    RemoveNode,
    RequestVote,
    TransferLeadership,
)

NEVER = float("inf")

# --- What a membership is ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("voters", "quorum"), [("a", 1), ("ab", 2), ("abc", 2), ("abcd", 3), ("abcde", 3)])
def test_a_quorum_is_a_majority_of_the_voters(voters, quorum):
    """So that any two of them meet."""
    assert members(1, 1, voters, observers="xyz").quorum == quorum


def test_a_membership_is_the_same_in_whatever_order_it_was_given():
    """Members compare theirs, and a status prints it."""
    assert members(1, 1, "cab") == members(1, 1, "abc")
    assert str(members(4, 2, "cab", observers="x")) == "a, b, c, x (observer) [4.2]"


def test_quorums_of_neighbouring_memberships_overlap():
    """Thesis 4.1: "When adding a single server to a cluster or removing a single server from a cluster, any majority of
    the old cluster overlaps with any majority of the new cluster"
    """
    for size in range(1, 30):
        before = members(1, 1, [f"n{number}" for number in range(size)])
        after = before.changed(before.with_node(NodeInfo("another")))
        assert before.quorum + after.quorum > len(before.voters | after.voters)


def test_a_node_is_described_by_an_id_an_entry_or_a_handle():
    """A handle that does not say otherwise is a voter without an address."""

    class Handle:
        node_id = "c"

    class Observer:
        node_id, voter, address = "d", False, "host:1"

    nodes = founding_membership("a", ["b", Handle(), Observer()]).nodes
    assert nodes == (NodeInfo("a"), NodeInfo("b"), NodeInfo("c"), NodeInfo("d", False, "host:1"))


@pytest.mark.parametrize("node_id", ["", "x" * 129, "two\nlines", 7, None])
def test_an_id_must_be_fit_to_print(node_id):
    """1 to 128 printable characters."""
    with pytest.raises(ConfigError, match="node id is"):
        Election(node_id, nodes=["b"])


def test_an_id_given_twice_is_refused():
    """Two members that answer to one name would vote twice."""
    with pytest.raises(ConfigError, match="'b' is given twice"):
        Election("a", nodes=["b", "c", "b"])


def test_what_is_no_node_is_refused():
    """An error where the mistake was made, not when the first message is sent."""
    with pytest.raises(ConfigError, match="is no node"):
        Election("a", nodes=[7])


# --- Before the first leader: bounds --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ids", "max_nodes", "min_nodes"),
    [
        *(("a", None, 2), ("ab", None, 2), ("abc", None, 2), ("abcd", None, 3), ("abcde", None, 3)),
        *(("a", 1, 1), ("a", 3, 2), ("ab", 5, 3), ("abc", 4, 3), ("abcde", 5, 3)),
    ],
)
def test_by_default_a_majority_must_be_known_and_never_less_than_two(ids, max_nodes, min_nodes):
    """A majority of the nodes given, or of those that there may be."""
    assert Election("a", nodes=ids, max_nodes=max_nodes).min_nodes == min_nodes


@pytest.mark.parametrize(
    ("bounds", "message"),
    [
        ({"min_nodes": 0}, "min_nodes is 0, but must be a whole number from 1"),
        ({"min_nodes": True}, "min_nodes is True, but must be a whole number"),
        ({"min_nodes": 2.0}, r"min_nodes is 2\.0, but must be a whole number"),
        ({"max_nodes": "5"}, "max_nodes is '5', but must be a whole number"),
        ({"max_nodes": -1}, "max_nodes is -1, but must be a whole number from 1"),
        ({"max_nodes": 2}, "max_nodes is 2, but 3 voters are given"),
        ({"min_nodes": 6, "max_nodes": 5}, r"min_nodes is 6, but must be at most max_nodes \(5\)"),
        ({"min_nodes": 3, "max_nodes": 6}, r"min_nodes is 3, but must be more than half of max_nodes \(6\)"),
        ({"min_nodes": 1, "max_nodes": 3}, r"min_nodes is 1, but must be more than half of max_nodes \(3\)"),
    ],
)
def test_unsafe_bounds_are_refused(bounds, message):
    """Or two halves could each elect a first leader. The message names the setting, the value and the bound."""
    with pytest.raises(ConfigError, match=message):
        Election("a", nodes="abc", **bounds)


def test_bounds_count_this_node_and_voters_only():
    """An observer neither helps to a first leader nor fills the cluster."""
    nodes = ["b", "c", NodeInfo("x", voter=False), NodeInfo("y", voter=False)]
    assert Election("a", nodes=nodes, max_nodes=3).min_nodes == 2
    waiting = new_member("a", nodes[2:])
    assert waiting.deadline == NEVER


def test_nothing_happens_before_min_nodes_are_known():
    """A node alone waits: nobody gets two leaders by forgetting a setting."""
    election = new_member("a", "ab", min_nodes=3)
    assert election.deadline == NEVER
    assert election.timeout(100.0).outbox == ()
    election.receive(AddNode("c"), 100.0)
    assert election.deadline == 101.5
    assert sorted(sent(election.timeout(101.5), RequestVote)) == ["b", "c"]


def test_a_cluster_of_one_is_asked_for():
    """By `min_nodes=1`."""
    assert new_member("a", "a").role is Role.FOLLOWER
    assert new_member("a", "a", min_nodes=1).role is Role.LEADER


@pytest.mark.parametrize("term", [0, 1])
def test_a_first_leader_needs_min_nodes_votes(term):
    """More than a majority, if min_nodes says so; for the pre-vote and for the vote."""
    election = new_member("a", "abcde", min_nodes=4)
    election.timeout(1.5)
    if term:
        for voter in "bcd":
            election.receive(vote(election, voter, pre_vote=True), 1.5)
    waiting = election.role
    for voter in "bc":
        election.receive(vote(election, voter, pre_vote=not term), 1.5)
        assert (election.role, election.current_term) == (waiting, term)
    election.receive(vote(election, "d", pre_vote=not term), 1.5)
    assert election.role is (Role.LEADER if term else Role.CANDIDATE)


def test_a_first_leader_needs_a_majority_even_if_min_nodes_is_less():
    """min_nodes only ever asks for more."""
    election = new_member("a", "abcde", min_nodes=1)
    become_candidate(election)
    election.receive(vote(election, "b"), 2.0)
    assert election.role is Role.CANDIDATE
    election.receive(vote(election, "c"), 2.0)
    assert election.role is Role.LEADER


def test_a_later_leader_needs_a_majority_and_no_more():
    """min_nodes is about the first leader; afterwards the membership is known."""
    election = old_member("a", membership=members(3, 1, "abc"), min_nodes=3)
    become_candidate(election)
    election.receive(vote(election, "b"), 2.0)
    assert election.role is Role.LEADER


# --- Before the first leader: the list ------------------------------------------------------------------------------


def test_the_list_is_a_nodes_own_until_the_first_term():
    """Itself, the nodes it was given, and what its program adds and removes."""
    election = new_member("a", "ab")
    ready = election.receive(AddNode(NodeInfo("c", address="host:1")), 0.5)
    expected = Membership(0, 1, (NodeInfo("a"), NodeInfo("b"), NodeInfo("c", address="host:1")))
    assert ready.events == (MembershipChanged(expected),)
    election.receive(RemoveNode("b"), 0.5)
    assert election.membership.ids == {"a", "c"}
    assert election.membership.position == (0, 1)


def test_the_list_changes_before_a_node_asks_with_it():
    """A pre-candidate asked with the old list; it starts over."""
    election = new_member("a", "abc")
    election.timeout(1.5)
    election.receive(AddNode("d"), 1.5)
    assert election.role is Role.FOLLOWER
    assert election.deadline == 3.0
    assert sent(election.timeout(3.0), RequestVote)["d"].member_ids == ("a", "b", "c", "d")


@pytest.mark.parametrize("first", [lambda e: request_vote(e, "b"), lambda e: vote(e, "b", term=1, vote_granted=False)])
@pytest.mark.parametrize("change", [AddNode("d"), RemoveNode("c")])
def test_the_list_is_frozen_from_the_first_vote_or_term_on(first, change):
    """From then on only a leader changes it, or two lists could each have a majority."""
    election = new_member("a")
    election.receive(first(election), 0.5)
    assert election.current_term == 1
    election.receive(change, 0.5)
    assert election.membership == members(0, 1, "abc")


def test_the_frozen_list_is_saved_and_survives_a_restart_with_another_one():
    """What a member voted with is what it comes back with."""
    election = new_member("c", "abc")
    saved = election.receive(request_vote(election, "a"), 0.5).saved
    assert saved == Saved(1, "a", members(0, 1, "abc"))
    again = Election("c", saved, nodes="abcdefg")
    assert again.membership == members(0, 1, "abc")


def test_a_list_that_was_never_voted_with_is_what_the_program_gives():
    """Nothing binds a member that took no part."""
    assert Election("a", Saved(0, None, members(0, 1, "ab")), nodes="abc").membership == members(0, 1, "abc")


def test_max_nodes_bounds_the_list():
    """An AddNode beyond it is refused; a known node may be named again, and an observer does not count."""
    election = new_member("a", "abc", max_nodes=3)
    ready = election.receive(AddNode("d"), 0.5)
    refusal = ChangeRefused(AddNode("d"), "the cluster has 3 voters already, and max_nodes is 3")
    assert ready.events == (refusal,)
    election.receive(AddNode(NodeInfo("c", address="host:1")), 0.5)
    election.receive(AddNode(NodeInfo("x", voter=False)), 0.5)
    election.receive(AddNode("d"), 0.5)
    assert election.membership.ids == {"a", "b", "c", "x"}


def test_a_list_may_grow_up_to_max_nodes():
    """The bound itself is allowed."""
    election = new_member("a", "ab", max_nodes=3)
    assert events(election.receive(AddNode("c"), 0.5), ChangeRefused) == []
    assert election.membership.voters == {"a", "b", "c"}


def test_a_list_that_is_long_enough_is_not_made_too_short():
    """One that is too short elects nobody, and may be corrected."""
    enough, short = new_member("a", "abc", min_nodes=3), new_member("a", "ab", min_nodes=3)
    ready = enough.receive(RemoveNode("c"), 0.0)
    assert ready.events == (ChangeRefused(RemoveNode("c"), "only 2 voters would be left, and min_nodes is 3"),)
    short.receive(RemoveNode("b"), 0.0)
    assert (enough.membership.voters, short.membership.voters) == (set("abc"), {"a"})


def test_a_node_does_not_remove_itself_from_its_list():
    """It would have nothing to ask with."""
    election = new_member("a")
    ready = election.receive(RemoveNode("a"), 0.5)
    assert len(events(ready, ChangeRefused)) == 1
    assert "a" in election.membership.voters


def test_a_first_vote_is_for_the_same_list_only():
    """The refusal says which lists differ, so that somebody can mend one."""
    election = new_member("c", "abc")
    response = only(election.receive(request_vote(election, "b", member_ids=("b", "c", "d")), 0.5))
    assert not response.vote_granted
    assert response.reason == "b was started with b, c, d, but c with a, b, c"
    assert election.current_term == 0


def test_a_first_vote_goes_to_a_candidate_of_an_established_cluster_too():
    """It may be asked by a cluster that has added it already."""
    election = new_member("c", "abc")
    request = request_vote(election, "x", term=5, membership_version=(4, 2), member_ids=("c", "x", "y"))
    assert only(election.receive(request, 2.0)).vote_granted


def test_two_halves_with_different_lists_elect_nobody():
    """Each list lacks votes for a leader of its own."""
    cluster = Cluster("")
    for number, (node_id, nodes) in enumerate([("a", "abc"), ("b", "abd"), ("c", "acd"), ("d", "bcd")]):
        cluster.start(node_id, nodes, draw=number / 4)
    cluster.run_until(20.0)
    assert cluster.winners == {}


# --- Judging a request for a vote -----------------------------------------------------------------------------------


def test_a_newer_membership_is_listened_to_whoever_sends_it():
    """The receiver may not know the sender yet."""
    election = old_member("c", membership=members(3, 1, "abc"))
    request = request_vote(election, "x", membership_version=(3, 2), member_ids=("a", "b", "c", "x"))
    response = only(election.receive(request, 2.0))
    assert (response.vote_granted, response.membership) == (True, None)
    assert election.membership == members(3, 1, "abc")


@pytest.mark.parametrize(("sender", "granted"), [("b", True), ("o", False), ("x", False)])
def test_the_same_membership_is_listened_to_from_its_voters_only(sender, granted):
    """Whoever claims it without being in it, or without a vote, has nothing to say; not even a term."""
    election = old_member("c", membership=members(3, 1, "abc", observers="o"))
    response = only(election.receive(request_vote(election, sender, term=9), 2.0))
    assert response.vote_granted is granted
    assert election.current_term == (9 if granted else 3)


@pytest.mark.parametrize("pre_vote", [False, True])
def test_an_older_membership_is_refused_and_told_the_newer(pre_vote):
    """Its term is not adopted: a member that was removed must not disturb the others. The answer lets it learn."""
    newest = members(3, 2, "abc")
    election = old_member("c", membership=newest)
    request = RequestVote(9, "x", (3, 1), ("a", "b", "c", "x"), pre_vote)
    response = only(election.receive(request, 2.0))
    assert (response.vote_granted, response.term, response.membership) == (False, 3, newest)
    assert "older" in response.reason
    assert election.current_term == 3


def test_a_candidate_is_told_only_what_it_lacks():
    """A granted vote carries no membership, nor does a refusal to somebody who holds the newest."""
    election = old_member("c", voted_for="a")
    assert only(election.receive(request_vote(election, "b"), 2.0)).membership is None
    assert only(election.receive(request_vote(election, "a", term=4), 2.0)).membership is None


def test_nobody_votes_in_a_membership_that_gives_it_no_vote():
    """Neither an observer nor a member that the candidate does not count."""
    observer = old_member("o", membership=members(3, 1, "abc", observers="o"))
    assert not only(observer.receive(request_vote(observer, "a"), 2.0)).vote_granted
    left_out = old_member("c", membership=members(3, 1, "abc"))
    request = request_vote(left_out, "a", membership_version=(3, 2), member_ids=("a", "b"))
    assert not only(left_out.receive(request, 2.0)).vote_granted
    assert left_out.voted_for is None


def test_observers_are_not_asked_for_votes():
    """They have none to give."""
    election = old_member("a", membership=members(3, 1, "abc", observers="o"))
    request = RequestVote(4, "a", (3, 1), ("a", "b", "c"), pre_vote=True)
    assert election.timeout(1.5).outbox == (("b", request), ("c", request))


def test_an_observer_never_campaigns():
    """It follows the leader and knows who leads."""
    election = old_member("o", membership=members(3, 1, "abc", observers="o"))
    assert election.deadline == NEVER
    ready = election.receive(heartbeat(election, "a"), 2.0)
    assert ready.events == (LeaderChanged("a", 3),)
    assert only(ready).promise == 1.0


# --- Judging a heartbeat --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "brought", [None, members(2, 9, "abcx"), members(3, 1, "abcx"), members(3, 2, "abc"), members(3, 2, "abx")]
)
def test_a_strangers_heartbeat_is_ignored(brought):
    """Unless it carries a newer membership that holds both the sender and the receiver."""
    election = old_member("c", membership=members(3, 1, "abc"))
    ready = election.receive(heartbeat(election, "x", term=9, membership=brought), 2.0)
    assert (ready.saved, ready.outbox, ready.events) == (None, (), ())
    assert (election.current_term, election.leader_id) == (3, None)


def test_a_strangers_heartbeat_is_listened_to_with_a_newer_membership_that_holds_both():
    """It was added by a leader that this member has not heard of."""
    election = old_member("c", membership=members(3, 1, "abc"))
    newest = members(4, 2, "bcx")
    election.receive(heartbeat(election, "x", term=4, membership=newest), 2.0)
    assert (election.leader_id, election.membership) == ("x", newest)


def test_a_leader_ignores_a_rival_of_its_own_term():
    """There is none; whoever says so is mistaken."""
    election = new_member("a")
    lead(election)
    assert election.receive(heartbeat(election, "b", term=1), 2.0).outbox == ()
    assert election.role is Role.LEADER


@pytest.mark.parametrize("term", [4, 9])
def test_a_strangers_answers_are_ignored(term):
    """Neither its promise nor its term counts."""
    election = old_member("a")
    ready = become_leader(election)
    message = sent(ready, Heartbeat)["b"]
    for stranger in "xyz":
        election.receive(answer(message, stranger, term=term), 2.0)
    assert (election.lease_expires_at, election.current_term) == (None, 4)
    election.receive(vote(election, "x", term=9, vote_granted=False, membership=members(8, 1, "abc")), 2.0)
    assert (election.role, election.current_term) == (Role.LEADER, 4)


# --- Adopting a newer membership ------------------------------------------------------------------------------------


def test_a_heartbeat_brings_a_newer_membership():
    """It is saved before anything is answered, and the answer says which one this member now holds."""
    newest = members(3, 2, "abcd")
    election = old_member("c", membership=members(3, 1, "abc"))
    ready = election.receive(heartbeat(election, "a", membership=newest, round=7), 2.0)
    assert ready.saved == Saved(3, None, newest)
    assert ready.outbox == (("a", HeartbeatResponse(3, "c", 7, (3, 2), promise=1.0)),)
    assert ready.events == (MembershipChanged(newest), LeaderChanged("a", 3))


def test_an_answer_says_which_membership_this_member_holds():
    """Not the one that the leader holds: so the leader knows whom to send it to."""
    election = old_member("c", membership=members(3, 1, "abc"))
    response = only(election.receive(heartbeat(election, "a", membership_version=(3, 2)), 2.0))
    assert response.membership_version == (3, 1)


def test_a_refused_vote_brings_a_newer_membership():
    """So a member that lags behind learns, and may win the next time."""
    newest = members(3, 2, "abcd")
    election = old_member("a", membership=members(3, 1, "abc"))
    election.timeout(1.5)
    refusal = vote(election, "b", term=3, pre_vote=True, vote_granted=False, membership=newest)
    ready = election.receive(refusal, 1.5)
    assert ready.saved == Saved(3, None, newest)
    assert events(ready, MembershipChanged) == [MembershipChanged(newest)]
    assert sorted(sent(election.timeout(4.0), RequestVote)) == ["b", "c", "d"]


def test_the_term_rises_to_that_of_the_membership_first():
    """Nobody may hold a membership of a term that it could still vote in."""
    newest = members(6, 1, "abc")
    election = old_member("a", term=3, voted_for="a")
    ready = election.receive(vote(election, "b", term=3, vote_granted=False, membership=newest), 2.0)
    assert ready.saved == Saved(6, None, newest)
    assert not only(election.receive(request_vote(election, "c", term=5), 2.0)).vote_granted


def test_a_candidacy_is_given_up_even_in_the_same_term():
    """The votes were asked for with another membership: counting them on could make a second leader of this term."""
    election = old_member("a", term=3, membership=members(3, 1, "abcde"))
    become_candidate(election)
    election.receive(vote(election, "b"), 2.0)
    newest = members(3, 2, "abcd")
    election.receive(vote(election, "c", vote_granted=False, membership=newest), 2.0)
    assert (election.role, election.current_term, election.membership) == (Role.FOLLOWER, 4, newest)
    for late in "bcd":
        election.receive(vote(election, late), 2.0)
    assert election.role is Role.FOLLOWER


def test_a_leader_that_meets_a_newer_membership_steps_down():
    """It can only be that of a later term."""
    election = old_member("a")
    lead(election)
    newest = members(6, 1, "abc")
    election.receive(vote(election, "b", term=4, vote_granted=False, membership=newest), 2.0)
    assert (election.role, election.current_term, election.membership) == (Role.FOLLOWER, 6, newest)


@pytest.mark.parametrize("brought", [members(3, 2, "ab"), members(3, 1, "ab"), members(2, 9, "ab")])
def test_an_older_membership_is_never_installed_over_a_newer(brought):
    """`(term, version)`, compared in this order; late messages bring old ones."""
    newest = members(3, 2, "abc")
    election = old_member("c", membership=newest)
    ready = election.receive(heartbeat(election, "a", membership=brought), 2.0)
    assert (ready.saved, election.membership, election.leader_id) == (None, newest, "a")


def test_the_term_of_a_membership_goes_before_its_version():
    """A leader's first change is newer than anything of the terms before."""
    election = old_member("c", term=5, membership=members(3, 8, "abc"))
    election.receive(heartbeat(election, "a", membership=members(5, 1, "abcd")), 2.0)
    assert election.membership == members(5, 1, "abcd")


# --- Being removed, and joining -------------------------------------------------------------------------------------


def test_a_removed_member_learns_it_answers_and_stops():
    """Its answer says that it knows, and promises nothing."""
    newest = members(3, 2, "ab")
    election = old_member("c", membership=members(3, 1, "abc"))
    election.receive(heartbeat(election, "a"), 1.875)
    ready = election.receive(heartbeat(election, "a", membership=newest, round=4), 2.0)
    assert ready.saved == Saved(3, None, newest)
    assert ready.outbox == (("a", HeartbeatResponse(3, "c", 4, (3, 2), promise=0.0)),)
    assert ready.events == (MembershipChanged(newest), Removed(), LeaderChanged(None, 3))
    assert (election.role, election.deadline) == (Role.STOPPED, NEVER)


def test_a_removed_member_that_was_away_learns_it_from_a_refused_vote():
    """Nobody sends it heartbeats any more, but whoever it asks tells it."""
    election = old_member("c", membership=members(3, 1, "abc"))
    election.timeout(1.5)
    refusal = vote(election, "b", term=4, pre_vote=True, vote_granted=False, membership=members(4, 2, "ab"))
    ready = election.receive(refusal, 1.5)
    assert events(ready, Removed) == [Removed()]
    assert election.role is Role.STOPPED


def test_a_joining_node_waits_until_a_heartbeat_brings_a_membership_that_holds_it():
    """Started with no other nodes it knows fewer than min_nodes, and does nothing of its own accord."""
    election = new_member("d", "d")
    assert election.deadline == NEVER
    newest = members(7, 3, "abcd")
    ready = election.receive(heartbeat(election, "a", term=7, membership=newest), 50.0)
    assert ready.saved == Saved(7, None, newest)
    assert ready.events == (MembershipChanged(newest), LeaderChanged("a", 7))
    assert only(ready).membership_version == (7, 3)
    assert election.deadline == 51.5


def test_a_joining_node_that_was_given_the_others_waits_as_well():
    """It never belonged, so that what lacks it does not remove it: it promises nothing until a leader lets it in."""
    election = new_member("d", "abcd")
    ready = election.receive(heartbeat(election, "a", term=7, membership=members(7, 2, "abc")), 0.5)
    assert (events(ready, Removed), only(ready).promise) == ([], 0.0)
    assert (election.role, election.leader_id) == (Role.FOLLOWER, None)
    election.receive(heartbeat(election, "a", term=7, membership=members(7, 3, "abcd")), 1.0)
    assert (election.leader_id, election.membership) == ("a", members(7, 3, "abcd"))


def test_a_joining_node_that_asks_too_early_is_not_removed_by_the_answer():
    """It is told a membership that lacks it, and goes on waiting."""
    election = new_member("d", "abcd")
    election.timeout(1.5)
    refusal = vote(election, "a", term=7, pre_vote=True, vote_granted=False, membership=members(7, 2, "abc"))
    assert election.receive(refusal, 1.5).events == ()
    assert election.role is not Role.STOPPED
    assert election.membership == members(0, 1, "abcd")


def test_a_member_removed_for_good_does_not_campaign_after_a_restart():
    """It has saved the membership that lacks it."""
    election = old_member("c", membership=members(3, 2, "ab"))
    assert election.deadline == NEVER


# --- A leader's heartbeats ------------------------------------------------------------------------------------------


def test_a_new_leader_earns_its_lease_before_anybody_has_to_save_anything():
    """The first round names the membership that it was elected with, which it has saved; the second follows at once."""
    election = old_member("a", term=3, membership=members(2, 5, "abc"))
    ready = become_leader(election)
    assert ready.saved is None
    assert sent(ready, Heartbeat)["b"] == Heartbeat(4, "a", 1, (2, 5))
    ready = election.receive(answer(sent(ready, Heartbeat)["b"], "b"), 2.0)
    assert (ready.saved, ready.events) == (None, (LeaderChanged("a", 4),))
    assert election.deadline == 2.0


def test_a_leader_stamps_its_membership_with_its_term_before_it_tells_it():
    """Same version, same nodes: it tells the changes of this leader from those of any other."""
    election = old_member("a", term=3, membership=members(2, 5, "abc"))
    answer_all(election, become_leader(election), 2.0)
    ready = election.timeout(2.0)
    assert ready.saved == Saved(4, "a", members(4, 5, "abc"))
    assert sent(ready, Heartbeat)["b"] == Heartbeat(4, "a", 2, (4, 5), members(4, 5, "abc"))


def test_a_leader_that_nobody_has_answered_stamps_its_membership_with_the_second_round_too():
    """A member that knows nobody yet answers only to that."""
    election = new_member("a")
    become_leader(election)
    assert election.deadline == 2.0 + TIMING.heartbeat_interval
    assert sent(election.timeout(2.125), Heartbeat)["b"] == Heartbeat(1, "a", 2, (1, 1), members(1, 1, "abc"))


def test_heartbeats_carry_the_membership_to_whoever_has_not_answered_with_it():
    """The others are told its position only."""
    election = new_member("a", "abcd")
    answer_all(election, become_leader(election), 2.0)
    heartbeats = sent(election.timeout(2.0), Heartbeat)
    assert [message.membership for message in heartbeats.values()] == [members(1, 1, "abcd")] * 3
    election.receive(answer(heartbeats["b"], "b"), 2.0)
    election.receive(answer(heartbeats["c"], "c", membership_version=(0, 1)), 2.0)
    heartbeats = sent(election.timeout(2.125), Heartbeat)
    assert [member for member, message in heartbeats.items() if message.membership] == ["c", "d"]
    assert {message.membership_version for message in heartbeats.values()} == {(1, 1)}


def test_heartbeats_carry_the_membership_again_to_one_that_went_silent():
    """It may have come back without its disk, and know nobody."""
    election = new_member("a")
    lead(election)
    for number in range(1, 7):
        heartbeats = sent(election.timeout(2.0 + 0.125 * number), Heartbeat)
        election.receive(answer(heartbeats["b"], "b"), 2.0 + 0.125 * number)
        assert heartbeats["c"].membership is None
    election.timeout(2.875)
    heartbeats = sent(election.timeout(3.0), Heartbeat)
    assert (heartbeats["b"].membership, heartbeats["c"].membership) == (None, members(1, 1))


def test_observers_get_heartbeats():
    """They know who leads."""
    election = old_member("a", membership=members(3, 1, "abc", observers="o"))
    assert sorted(sent(become_leader(election), Heartbeat)) == ["b", "c", "o"]


# --- A leader's changes ---------------------------------------------------------------------------------------------


def test_a_change_is_the_next_version_of_the_leaders_term():
    """Saved before it is sent; sent at once, the new node included; and nobody is told that it is done."""
    election = old_member("a", term=3, membership=members(2, 5, "abc"))
    lead(election)
    ready = election.receive(AddNode("d"), 2.0)
    newest = members(4, 6, "abcd")
    assert ready.saved == Saved(4, "a", newest)
    assert {i: message.membership for i, message in sent(ready, Heartbeat).items()} == dict.fromkeys("bcd", newest)
    assert ready.events == ()


def test_a_change_is_reported_when_a_quorum_of_the_new_membership_has_answered_with_it():
    """Three of four here: the old majority of two is not enough."""
    election = new_member("a")
    lead(election)
    heartbeats = sent(election.receive(AddNode("d"), 2.0), Heartbeat)
    assert election.receive(answer(heartbeats["b"], "b"), 2.0).events == ()
    assert election.receive(answer(heartbeats["c"], "c", membership_version=(1, 1)), 2.0).events == ()
    ready = election.receive(answer(heartbeats["d"], "d"), 2.0)
    assert ready.events == (MembershipChanged(members(1, 2, "abcd")),)


def test_a_removal_is_committed_by_those_who_stay():
    """The vote of whoever goes is not asked for."""
    election = new_member("a", "abcd")
    lead(election)
    heartbeats = sent(election.receive(RemoveNode("d"), 2.0), Heartbeat)
    assert election.receive(answer(heartbeats["d"], "d"), 2.0).events == ()
    ready = election.receive(answer(heartbeats["b"], "b"), 2.0)
    assert ready.events == (MembershipChanged(members(1, 2, "abc")),)


def test_answers_of_observers_commit_nothing():
    """They do not count in a quorum."""
    election = old_member("a", membership=members(3, 1, "abc", observers="xy"))
    lead(election)
    heartbeats = sent(election.receive(AddNode("d"), 2.0), Heartbeat)
    for member in "xyb":
        assert election.receive(answer(heartbeats[member], member), 2.0).events == ()
    assert len(election.receive(answer(heartbeats["c"], "c"), 2.0).events) == 1


def test_changes_are_made_one_at_a_time_and_in_order():
    """Any quorums of neighbouring versions overlap; those of versions further apart need not."""
    election = new_member("a")
    lead(election)
    ready = election.receive(AddNode("d"), 2.0)
    for change in (AddNode("e"), RemoveNode("b")):
        assert election.receive(change, 2.0).outbox == ()
    reported = []
    for ids in ("abcd", "abcde", "acde"):
        assert election.membership.voters == set(ids)
        ready = answer_until_committed(election, ready)
        reported += ready.events
    assert reported == [
        MembershipChanged(members(1, 2, "abcd")),
        MembershipChanged(members(1, 3, "abcde")),
        MembershipChanged(members(1, 4, "acde")),
    ]


def answer_until_committed(election, ready):
    """Let members answer, the newest first, until the leader reports a change; return what it owes then."""
    for member, message in sorted(sent(ready, Heartbeat).items(), reverse=True):
        after = election.receive(answer(message, member), 2.0)
        if after.events:
            return after
    raise AssertionError("not committed")


def test_no_change_before_a_quorum_holds_the_leaders_own_stamp():
    """It takes the place of the entry that a leader of the paper commits first: earlier terms are over by then."""
    election = new_member("a")
    answer_all(election, become_leader(election), 2.0)
    assert election.lease_expires_at is not None
    assert election.receive(AddNode("d"), 2.0).saved is None
    ready = election.timeout(2.0)
    election.receive(answer(sent(ready, Heartbeat)["b"], "b", membership_version=(0, 1)), 2.0)
    assert election.membership == members(1, 1, "abc")
    ready = election.receive(answer(sent(ready, Heartbeat)["c"], "c"), 2.0)
    assert ready.saved == Saved(1, "a", members(1, 2, "abcd"))


def test_no_change_without_a_lease():
    """A leader that may have been replaced changes nothing."""
    election = new_member("a")
    become_leader(election)
    heartbeats = sent(election.timeout(2.125), Heartbeat)
    election.receive(answer(heartbeats["b"], "b", round=99), 2.125)
    assert election.lease_expires_at is None
    observer = AddNode(NodeInfo("d", voter=False))
    assert election.receive(observer, 2.125).saved is None
    ready = election.receive(answer(heartbeats["b"], "b"), 2.125)
    assert ready.saved == Saved(1, "a", members(1, 2, "abc", observers="d"))


def test_a_change_that_is_made_already_is_reported_at_once():
    """No new version for nothing."""
    election = new_member("a")
    lead(election)
    for change in (AddNode("b"), RemoveNode("x")):
        ready = election.receive(change, 2.0)
        assert ready.events == (MembershipChanged(members(1, 1, "abc")),)
        assert (ready.saved, ready.outbox) == (None, ())


def test_a_member_can_get_a_new_address_or_lose_its_vote():
    """Both are changes like any other."""
    election = new_member("a", "abcd")
    lead(election)
    election.receive(AddNode(NodeInfo("b", address="host:2")), 2.0)
    assert election.membership.get("b") == NodeInfo("b", address="host:2")
    assert election.membership.version == 2
    beat(election, 2.125)
    election.receive(AddNode(NodeInfo("b", voter=False, address="host:2")), 2.125)
    assert election.membership.voters == {"a", "c", "d"}
    assert election.membership.version == 3


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (AddNode("d"), "the cluster has 3 voters already, and max_nodes is 3"),
        (RemoveNode("c"), "only 2 voters would be left, and min_nodes is 3"),
        (AddNode(NodeInfo("c", voter=False)), "only 2 voters would be left, and min_nodes is 3"),
    ],
)
def test_a_leader_keeps_within_the_bounds(change, reason):
    """It refuses with a sentence, and goes on to the next request."""
    election = new_member("a", min_nodes=3, max_nodes=3)
    lead(election)
    ready = election.receive(change, 2.0)
    assert ready.events == (ChangeRefused(change, reason),)
    assert election.receive(AddNode(NodeInfo("x", voter=False)), 2.0).saved is not None


@pytest.mark.parametrize("change", [RemoveNode("a"), AddNode(NodeInfo("a", voter=False))])
def test_a_leader_keeps_itself(change):
    """Whoever leads belongs to what it leads."""
    election = new_member("a")
    lead(election)
    election.receive(change, 2.0)
    assert "a" in election.membership.voters


@pytest.mark.parametrize("end", [lambda e: heartbeat(e, "b", term=2), lambda e: TransferLeadership("b")])
def test_a_leader_that_loses_its_role_reports_the_outcome_as_unknown(end):
    """The change may still win: the next leader has it, or does not."""
    election = new_member("a")
    lead(election)
    for change in (AddNode("d"), AddNode("e")):
        election.receive(change, 2.0)
    ready = election.receive(end(election), 2.0)
    refusals = events(ready, ChangeRefused)
    assert [refusal.control_message for refusal in refusals] == [AddNode("d")]
    assert all("unknown" in refusal.reason for refusal in refusals)
    assert election.membership == members(1, 2, "abcd")


def test_a_follower_changes_nothing_itself():
    """Only the leader changes the membership."""
    election = old_member("c")
    election.receive(heartbeat(election, "a"), 2.0)
    for change in (AddNode("d"), RemoveNode("b")):
        assert election.receive(change, 2.0).saved is None
    assert election.membership == members(3, 1, "abc")


def alone():
    """A leader that has been the only voter until 2.0."""
    election = new_member("a", "a", min_nodes=1)
    for number in range(1, 17):
        election.timeout(0.125 * number)
    return election


def join(election, newcomer, now=2.0, **fields):
    """Let `newcomer` answer as an observer; return what the leader then owes."""
    election.receive(AddNode(newcomer), now)
    assert newcomer not in election.membership.voters
    return election.receive(
        answer(sent(election.timeout(election.deadline), Heartbeat)[newcomer], newcomer, **fields), now
    )


def test_a_newcomer_follows_without_a_vote_until_it_has_answered():
    """Thesis 4.2.1: "a new server joins the cluster as a non-voting member" first, where its vote would be needed."""
    election = alone()
    election.receive(AddNode("b"), 2.0)
    assert election.membership == members(1, 2, "a", observers="b")
    heartbeats = sent(election.timeout(2.125), Heartbeat)
    assert heartbeats["b"].membership == members(1, 2, "a", observers="b")
    ready = election.receive(answer(heartbeats["b"], "b"), 2.125)
    assert election.membership == members(1, 3, "ab")
    assert ready.events == ()
    ready = election.receive(answer(sent(ready, Heartbeat)["b"], "b"), 2.125)
    assert answers(ready) == [(AddNode("b"), "")]


def answers(ready):
    """What the program that asked for a change hears."""
    outcomes = [event for event in ready.events if getattr(event, "control_message", None)]
    return [(event.control_message, getattr(event, "reason", "")) for event in outcomes]


def test_a_newcomer_that_never_answers_costs_nobody_the_lease_and_is_refused():
    """It is waited for during five election timeouts, and forgotten then: the next request must not wait for ever."""
    election = alone()
    heard = answers(election.receive(AddNode("b"), 2.0))
    heard += answers(election.receive(AddNode(NodeInfo("o", voter=False)), 2.0))
    while election.deadline < 7.0:
        heard += answers(election.timeout(election.deadline))
        assert election.role is Role.LEADER
    assert heard == []
    while election.deadline < 7.5:
        heard += answers(election.timeout(election.deadline))
    refusal = "no answer from b, and 1 of 2 voters is no majority"
    assert heard == [(AddNode("b"), refusal), (AddNode(NodeInfo("o", voter=False)), "")]
    assert election.membership == members(1, 4, "a", observers="o")
    assert election.role is Role.LEADER


def test_an_observer_that_is_refused_a_vote_stays_one_and_whoever_asked_is_told():
    """The leader that let the newcomer in has handed over; the next cannot know whether it was to be an observer."""
    cluster = Cluster("abc")
    cluster.run_until(5.0)
    cluster.cut = {"c"}
    cluster.run_until(7.0)
    cluster.tell("a", AddNode("d"))
    cluster.run_until(8.0)
    cluster.tell("a", TransferLeadership("b"))
    assert cluster.leases == ["b"]
    cluster.run_until(14.0)
    refusal = (
        "no answer from c, d, and 2 of 4 voters is no majority; "
        "d stays an observer: add it again later, or remove it"
    )
    assert cluster.events["a"][-1] == ChangeRefused(AddNode("d"), refusal)
    assert cluster.elections["b"].membership.nodes == members(2, 2, "abc", observers="d").nodes


def test_a_voter_that_does_not_become_an_observer_is_not_said_to_be_one():
    """Without its vote, a majority of the others would need one that is down."""
    cluster = Cluster("abc")
    cluster.run_until(5.0)
    cluster.cut = {"c"}
    cluster.run_until(7.0)
    cluster.tell("a", AddNode(NodeInfo("b", voter=False)))
    cluster.run_until(14.0)
    refusal = "no answer from c, and 1 of 2 voters is no majority"
    assert cluster.events["a"][-1] == ChangeRefused(AddNode(NodeInfo("b", voter=False)), refusal)


def test_a_newcomer_whose_vote_is_not_needed_gets_it_at_once():
    """The others are a quorum without it."""
    election = new_member("a")
    lead(election)
    election.receive(AddNode("d"), 2.0)
    assert election.membership == members(1, 2, "abcd")


def test_a_voter_is_not_removed_where_too_few_of_the_others_answer():
    """Without b, a quorum of a and c would need c, which is down: there would never be a leader again."""
    cluster = Cluster("abc")
    cluster.run_until(5.0)
    cluster.cut = {"c"}
    cluster.run_until(7.0)
    cluster.tell("a", RemoveNode("b"))
    cluster.run_until(14.0)
    assert cluster.elections["a"].membership == members(1, 1, "abc")
    assert "no answer from c" in cluster.events["a"][-1].reason
    cluster.tell("a", RemoveNode("b"))
    cluster.run_until(15.0)
    cluster.cut = set()
    cluster.run_until(17.0)
    assert cluster.elections["a"].membership.ids == {"a", "c"}
    assert cluster.leases == ["a"]


def test_a_leader_does_not_go_where_too_few_of_the_others_answer():
    """It would be removed by a successor that could not lead."""
    cluster = Cluster("abc")
    cluster.run_until(5.0)
    cluster.cut = {"c"}
    cluster.run_until(7.0)
    cluster.tell("a", RemoveNode("a"))
    cluster.run_until(14.0)
    assert cluster.leases == ["a"]
    assert cluster.winners == {1: {"a"}}


def test_a_leader_that_adds_a_voter_keeps_its_lease():
    """The quorum grows with the change, and the new voter may have promised little yet; but any quorum of the new
    voters meets any quorum of the old ones, who keep their promise.
    """
    election = alone()
    before = election.lease_expires_at
    join(election, "b", promise=0.25)
    assert election.membership.voters == {"a", "b"}
    assert election.lease_expires_at >= before


def test_the_lease_of_the_old_voters_is_not_prolonged():
    """If the new one does not answer any more, it runs out when their promise does."""
    election = alone()
    join(election, "b", promise=0.25)
    before = election.lease_expires_at
    for now in (2.25, 2.5, 2.75):
        assert sent(election.timeout(now), Heartbeat)
        assert election.lease_expires_at == before
    election.timeout(before)
    assert election.role is Role.FOLLOWER


def test_the_lease_of_the_voters_before_the_old_ones_is_not_kept():
    """Their quorums need not meet those of the newest: here b and c are one, once their short promises are over."""
    election = alone()
    ready = join(election, "b", promise=0.25)
    election.receive(answer(sent(ready, Heartbeat)["b"], "b", promise=0.25), 2.0)
    ready = election.receive(AddNode("c"), 2.0)
    assert election.membership.voters == {"a", "b", "c"}
    assert election.lease_expires_at < 2.0 + 0.5 * LEASE


def test_a_dead_member_can_be_replaced():
    """Three of four are needed while the new one is added: the leader leads on until it has answered."""
    cluster = Cluster("abc")
    cluster.run_until(5.0)
    del cluster.elections["c"]
    cluster.run_until(10.0)
    cluster.start("d")
    cluster.tell("a", AddNode("d"))
    cluster.tell("a", RemoveNode("c"))
    cluster.run_until(12.0)
    assert cluster.elections["a"].membership.ids == {"a", "b", "d"}
    assert cluster.winners == {1: {"a"}}
    assert [event for event in cluster.events["a"] if isinstance(event, LeaderChanged)] == [LeaderChanged("a", 1)]


def test_a_removed_member_gets_heartbeats_until_it_has_answered():
    """So that it learns, even if the first is lost."""
    election = new_member("a", "abcd")
    lead(election)
    ready = election.receive(RemoveNode("d"), 2.0)
    for member in "bc":
        election.receive(answer(sent(ready, Heartbeat)[member], member), 2.0)
    again = sent(election.timeout(2.125), Heartbeat)
    assert again["d"].membership == members(1, 2, "abc")
    election.receive(answer(again["d"], "d", membership_version=(1, 1)), 2.125)
    for member in "bc":
        election.receive(answer(again[member], member), 2.125)
    again = sent(election.timeout(2.25), Heartbeat)
    assert sorted(again) == ["b", "c", "d"]
    for member in "bcd":
        election.receive(answer(again[member], member, promise=1.0), 2.25)
    assert sorted(sent(election.timeout(2.375), Heartbeat)) == ["b", "c"]


# --- A cluster that changes -----------------------------------------------------------------------------------------


def test_a_node_joins_a_running_cluster():
    """Started with no other nodes; added by the leader; there at once."""
    cluster = Cluster("abc")
    cluster.run_until(5.0)
    cluster.start("d")
    cluster.run_until(6.0)
    cluster.tell("a", AddNode("d"))
    assert cluster.events["a"][-1] == MembershipChanged(members(1, 2, "abcd"))
    assert cluster.elections["d"].leader_id == "a"
    cluster.run_until(6.5)
    assert {election.membership for election in cluster.elections.values()} == {members(1, 2, "abcd")}
    assert cluster.winners == {1: {"a"}}


def test_a_joined_node_votes_and_can_lead():
    """A member like any other, once it has been there for two election timeouts."""
    cluster = Cluster("ab")
    cluster.run_until(5.0)
    cluster.start("c")
    cluster.tell("a", AddNode("c"))
    cluster.run_until(10.0)
    cluster.tell("a", TransferLeadership("c"))
    assert cluster.leases == ["c"]
    del cluster.elections["a"]
    cluster.run_until(15.0)
    assert cluster.leases == ["c"]


def test_a_node_is_removed_from_a_running_cluster():
    """It learns it and stops; the others go on with a smaller quorum."""
    cluster = Cluster("abcd")
    cluster.run_until(5.0)
    cluster.tell("a", RemoveNode("d"))
    assert Removed() in cluster.events["d"]
    assert cluster.elections["d"].role is Role.STOPPED
    del cluster.elections["c"]
    cluster.run_until(10.0)
    assert cluster.leases == ["a"]
    assert cluster.winners == {1: {"a"}}


def test_a_node_that_was_away_when_it_was_removed_learns_it_from_the_next_leader():
    """Its requests for votes are answered with the membership that lacks it."""
    cluster = Cluster("abcd")
    cluster.run_until(5.0)
    cluster.cut = {"d"}
    cluster.run_until(6.0)
    cluster.tell("a", RemoveNode("d"))
    cluster.tell("a", TransferLeadership("b"))
    cluster.cut = set()
    cluster.run_until(10.0)
    assert Removed() in cluster.events["d"]
    assert cluster.leases == ["b"]
    assert set(cluster.winners) == {1, 2}


def test_a_change_that_its_leader_could_not_finish_is_finished_or_forgotten_by_the_next():
    """Whatever the outcome, all agree on it."""
    cluster = Cluster("abcde")
    cluster.run_until(5.0)
    cluster.cut = {"a", "b"}
    cluster.tell("a", RemoveNode("e"))
    cluster.run_until(10.0)
    cluster.cut = set()
    cluster.run_until(15.0)
    assert len(cluster.leases) == 1
    assert len({election.membership for election in cluster.elections.values()}) == 1
    assert any("unknown" in event.reason for event in cluster.events["a"] if isinstance(event, ChangeRefused))


@pytest.mark.parametrize("address", ["x" * 301, 7, ("host", 1)])
def test_an_address_must_fit_into_what_is_saved_and_sent(address):
    """What is adopted must be readable when it is loaded again, and by every other member."""
    with pytest.raises(ConfigError, match="address is"):
        NodeInfo("a", True, address)


@pytest.mark.slow
def test_a_membership_must_fit_into_a_message():
    """Or no heartbeat could bring it."""
    election = alone()
    refused = []
    for number in range(200):
        ready = election.receive(AddNode(NodeInfo(f"{number:03}" + "é" * 125, False, "h" * 300)), 2.0)
        refused += events(ready, ChangeRefused)
    assert len(encode(Heartbeat(1, "a", 1, election.membership.position, election.membership))) < MAX_MESSAGE_BYTES
    assert 5 < len(election.membership.ids) < 100
    reason = "the ids and addresses of all members would be too long for one message"
    assert {refusal.reason for refusal in refused} == {reason}
