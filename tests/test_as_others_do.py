"""The election tests of other implementations, as far as they mean something without a log.

Every docstring names the test that it follows: those of etcd are in raft_test.go of etcd-io/raft (TiKV's raft-rs has
most of them under the same names), those of hashicorp/raft in its raft_test.go, those of MIT in labrpc's test_test.go.
"""

from __future__ import annotations

import random

import pytest
from harness import (
    LEASE,
    Cluster,
    answer,
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

from raftlite.election import Role, Saved
from raftlite.membership import NodeInfo
from raftlite.messages import (
    AddNode,
    ChangeRefused,
    ChangeResponse,
    Heartbeat,
    HeartbeatResponse,
    LeaderChanged,
    MembershipChanged,
    PeerDown,
    RemoveNode,
    RequestVote,
    RequestVoteResponse,
    Resign,
    TimeoutNow,
    TransferLeadership,
)


class Network(Cluster):
    """A cluster in which single links may be cut, and single kinds of messages lost."""

    def __init__(self, ids="abc", **settings):
        self.blocked = set()  # (sender, receiver)
        self.lost = ()  # kinds of messages that nobody receives
        super().__init__(ids, **settings)

    def part(self, *pairs):
        for one, other in pairs:
            self.blocked |= {(one, other), (other, one)}

    def heal(self):
        self.cut, self.blocked, self.lost = set(), set(), ()

    def deliver(self, sender, receiver, message):
        if (sender, receiver) not in self.blocked and not isinstance(message, self.lost):
            super().deliver(sender, receiver, message)

    def terms(self):
        return {node_id: election.current_term for node_id, election in self.elections.items()}

    def followed(self):
        """Whom those that are not cut off follow."""
        return {election.leader_id for node_id, election in self.elections.items() if node_id not in self.cut}

    def crash(self, node_id, proof=False):
        del self.elections[node_id]
        for other in list(self.elections) if proof else ():
            self.carry_out(other, self.elections[other].receive(PeerDown(node_id), self.now))
        self.settle()


def settled(ids="abc", until=5.0625, **settings):
    """A cluster that a has led for a while, between two heartbeats."""
    cluster = Network(ids, **settings)
    cluster.run_until(until)
    assert cluster.leases == ["a"]
    return cluster


# --- etcd: elections -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ids", "down", "role", "term"),
    [
        ("abc", "", Role.LEADER, 1),
        ("abc", "c", Role.LEADER, 1),
        ("abc", "bc", Role.PRE_CANDIDATE, 0),
        ("abcd", "bc", Role.PRE_CANDIDATE, 0),
        ("abcde", "bc", Role.LEADER, 1),
        ("abcde", "bcd", Role.PRE_CANDIDATE, 0),
    ],
)
def test_a_majority_that_can_be_reached_elects(ids, down, role, term):
    """etcd, TestLeaderElectionPreVote: without a majority it stays a pre-candidate and its term stays what it was."""
    cluster = Network(ids)
    cluster.cut = set(down)
    cluster.run_until(1.0)
    assert (cluster.elections["a"].role, cluster.elections["a"].current_term) == (role, term)


def test_each_member_can_be_elected_in_its_turn():
    """etcd, TestLeaderCyclePreVote: whoever led before, and whatever terms there were."""
    cluster = settled()
    for number, successor in enumerate("bcabca", start=2):
        cluster.tell(cluster.leases[0], TransferLeadership(successor))
        assert (cluster.leases, cluster.winners[number]) == ([successor], {successor})
        assert cluster.followed() == {successor}


STATES = {
    "follower": lambda: old_member("a"),
    "follower of c": lambda: following("c"),
    "pre-candidate": lambda: asked_for_votes(old_member("a")),
    "candidate": lambda: asked_for_votes(old_member("a"), pre_vote=False),
    "leader": lambda: won(old_member("a")),
}


def following(leader_id):
    election = old_member("a")
    election.receive(heartbeat(election, leader_id), 0.5)
    return election


def asked_for_votes(election, pre_vote=True):
    if pre_vote:
        election.timeout(1.5)
    else:
        become_candidate(election, 1.5)
    return election


def won(election):
    become_leader(election, 1.5)
    return election


@pytest.mark.parametrize("state", STATES)
def test_votes_from_every_state(state):
    """etcd, TestVoteFromAnyState: a newer term makes anybody a follower that votes, once its promise is over."""
    election = STATES[state]()
    term = election.current_term + 1
    response = only(election.receive(request_vote(election, "b"), 1.5))
    assert response == RequestVoteResponse(term, "a", True)
    assert (election.role, election.current_term, election.voted_for) == (Role.FOLLOWER, term, "b")
    assert election.deadline == 3.0


@pytest.mark.parametrize("state", STATES)
def test_pre_votes_from_every_state(state):
    """etcd, TestPreVoteFromAnyState: the same, except that nothing changes."""
    election = STATES[state]()
    before = (election.role, election.current_term, election.voted_for, election.deadline, election.leader_id)
    response = only(election.receive(request_vote(election, "b", pre_vote=True), 1.5))
    assert response == RequestVoteResponse(election.current_term + 1, "a", True, pre_vote=True)
    assert (election.role, election.current_term, election.voted_for, election.deadline, election.leader_id) == before


def test_of_two_that_ask_at_once_the_one_with_a_majority_leads_and_no_term_is_raised():
    """etcd, TestDuelingPreCandidates: a and c do not reach each other, b hears both."""
    cluster = Network("abc")
    cluster.part("ac")
    cluster.run_until(4.0)
    assert cluster.roles() == {"a": Role.LEADER, "b": Role.FOLLOWER, "c": Role.PRE_CANDIDATE}
    assert set(cluster.terms().values()) == {1}
    cluster.heal()
    cluster.run_until(8.0)
    assert cluster.winners == {1: {"a"}}
    assert cluster.terms() == {"a": 1, "b": 1, "c": 1}
    assert cluster.followed() == {"a"}


def test_a_candidate_concedes_to_the_leader_of_its_term():
    """etcd, TestCandidateConcede: a campaigned unheard in the very term in which c then wins."""
    cluster = Network("abc")
    cluster.lost = (RequestVote,)
    cluster.start("a", "abc", draw=0.9)
    candidate = cluster.elections["a"]
    candidate.timeout(1.9)
    cluster.carry_out("a", candidate.receive(vote(candidate, "b", pre_vote=True), 1.9))
    assert (candidate.role, candidate.current_term) == (Role.CANDIDATE, 1)
    cluster.cut, cluster.lost, cluster.now = {"a"}, (), 1.9
    cluster.settle()
    cluster.run_until(3.5)
    (leader,) = cluster.leases
    assert cluster.winners == {1: {leader}}
    cluster.heal()
    cluster.run_until(3.75)
    assert (candidate.role, candidate.current_term, candidate.leader_id) == (Role.FOLLOWER, 1, leader)
    assert candidate.voted_for == "a"


def test_a_heartbeat_of_an_old_term_counts_for_nothing():
    """etcd, TestOldMessages: a led in term 1 and leads again in term 3; its message of term 2 comes late."""
    cluster = settled()
    for successor in "bca":
        cluster.tell(cluster.leases[0], TransferLeadership(successor))
    assert cluster.leases == ["a"]
    for node_id in "abc":
        before = (cluster.elections[node_id].role, cluster.terms(), cluster.elections[node_id].deadline)
        ready = cluster.elections[node_id].receive(Heartbeat(2, "b", 1, (2, 1), members(2, 1)), cluster.now)
        assert ready.saved is None and ready.events == ()
        assert before == (cluster.elections[node_id].role, cluster.terms(), cluster.elections[node_id].deadline)
        assert all(response.promise == 0.0 for response in sent(ready, HeartbeatResponse).values())


def test_a_candidate_whose_vote_for_itself_is_late_does_not_win_with_it():
    """etcd, TestCandidateSelfVoteAfterLostElection: here the own vote counts at once, and is forgotten as the rest."""
    election = old_member("a", membership=members(3, 1, "abcde"))
    become_candidate(election, 1.5)
    election.receive(vote(election, "b"), 1.5)
    election.receive(heartbeat(election, "c"), 1.625)
    for voter in "bcde":
        election.receive(vote(election, voter), 1.75)
    assert (election.role, election.leader_id) == (Role.FOLLOWER, "c")


def test_the_votes_of_the_pre_vote_are_not_taken_into_the_election():
    """etcd, TestCandidateDeliversPreCandidateSelfVoteAfterBecomingCandidate."""
    election = old_member("a", membership=members(3, 1, "abcde"))
    election.timeout(1.5)
    for voter in "bc":
        election.receive(vote(election, voter, pre_vote=True), 1.5)
    assert election.role is Role.CANDIDATE
    election.receive(vote(election, "b"), 1.5)
    assert election.role is Role.CANDIDATE
    election.receive(vote(election, "c"), 1.5)
    assert election.role is Role.LEADER


@pytest.mark.parametrize("ask", [TransferLeadership("a"), TimeoutNow(4, "b"), TimeoutNow(3, "b")])
def test_a_leader_does_not_campaign(ask):
    """etcd, TestCampaignWhileLeader: whatever asks it to, it leads on in its term."""
    election = old_member("a")
    lead(election)
    election.receive(ask, 2.0)
    assert (election.role, election.current_term) == (Role.LEADER, 4)


def test_a_restarted_leader_is_a_follower():
    """etcd, TestRestart: whatever it was, and with the term and the vote it had."""
    cluster = settled()
    cluster.lost = (Heartbeat,)
    restarted = cluster.start("a")
    assert (restarted.role, restarted.current_term, restarted.voted_for) == (Role.FOLLOWER, 1, "a")
    assert (restarted.leader_id, restarted.lease_expires_at) == (None, None)


# --- etcd: check-quorum ----------------------------------------------------------------------------------------------


def test_a_leader_whose_quorum_is_active_stays():
    """etcd, TestLeaderStepdownWhenQuorumActive: one of two answers, each time, for ten election timeouts."""
    election = new_member("a")
    ready = lead(election)
    for number in range(1, 80):
        now = 2.0 + number * 0.125
        ready = election.timeout(now)
        election.receive(answer(sent(ready, Heartbeat)["b"], "b"), now)
    assert (election.role, election.current_term) == (Role.LEADER, 1)


def test_a_leader_whose_quorum_is_lost_steps_down():
    """etcd, TestLeaderStepdownWhenQuorumLost: within one election timeout, in its term."""
    cluster = settled()
    cluster.cut = {"b", "c"}
    cluster.run_until(6.0625)
    assert (cluster.elections["a"].role, cluster.elections["a"].leader_id) == (Role.FOLLOWER, None)
    cluster.run_until(12.0)
    assert cluster.terms() == {"a": 1, "b": 1, "c": 1}


def test_a_leader_is_superseded_only_when_the_others_no_longer_hear_from_it():
    """etcd, TestLeaderSupersedingWithCheckQuorum: b refuses c while it has heard from a; later it votes for c."""
    cluster = settled()
    cluster.cut = {"a"}
    voter = cluster.elections["b"]
    heard_at = 5.0
    request = RequestVote(2, "c", voter.membership.position, ("a", "b", "c"))
    assert not only(voter.receive(request, heard_at + 1.0 - 2**-10)).vote_granted
    assert voter.current_term == 1
    assert only(voter.receive(request, heard_at + 1.0)).vote_granted


def test_a_candidate_that_is_a_term_ahead_frees_itself():
    """etcd, TestFreeStuckCandidateWithCheckQuorum: its answers carry the newer term, which ends the stale reign."""
    cluster = settled()
    cluster.lost = (RequestVote,)
    cluster.carry_out("c", cluster.elections["c"].receive(TimeoutNow(1, "a"), cluster.now))
    cluster.settle()
    assert cluster.terms() == {"a": 1, "b": 1, "c": 2}
    assert cluster.leases == ["a"]
    cluster.heal()
    cluster.run_until(8.0)
    assert len(cluster.leases) == 1
    assert set(cluster.terms().values()) == {3}
    assert cluster.followed() == set(cluster.leases)


def test_whoever_cannot_be_promoted_follows_and_never_asks():
    """etcd, TestNonPromotableVoterWithCheckQuorum: it knows of no membership with itself in it as a voter."""
    cluster = settled()
    cluster.start("d", draw=0.0)
    cluster.run_until(9.0625)
    assert cluster.elections["d"].deadline == float("inf")
    cluster.tell("a", AddNode(NodeInfo("d", voter=False)))
    cluster.run_until(10.0625)
    assert cluster.elections["d"].leader_id == "a"
    cluster.cut = {"a", "b", "c"}
    cluster.run_until(20.0)
    assert (cluster.elections["d"].role, cluster.elections["d"].current_term) == (Role.FOLLOWER, 1)


def test_a_follower_that_misses_heartbeats_disrupts_nobody():
    """etcd, TestDisruptiveFollowerPreVote: it asks, is refused, and the leader's term is not raised."""
    cluster = settled()
    cluster.cut = {"c"}
    cluster.run_until(12.0625)
    assert cluster.roles() == {"a": Role.LEADER, "b": Role.FOLLOWER, "c": Role.PRE_CANDIDATE}
    cluster.heal()
    cluster.carry_out("c", cluster.elections["c"].timeout(cluster.elections["c"].deadline))
    cluster.run_until(14.0)
    assert cluster.winners == {1: {"a"}}
    assert cluster.terms() == {"a": 1, "b": 1, "c": 1}


def test_a_grown_cluster_does_not_cost_the_leader_its_quorum():
    """etcd, TestAddNodeCheckQuorum: no step-down when a node is added, but one when it, too, is needed and silent."""
    cluster = settled("ab")
    cluster.start("c")
    cluster.tell("a", AddNode("c"))
    cluster.run_until(5.25)
    assert cluster.leases == ["a"]
    assert cluster.elections["a"].membership.voters == set("abc")
    cluster.cut = {"b", "c"}
    cluster.run_until(6.5)
    assert cluster.elections["a"].role is not Role.LEADER


# --- etcd: pre-vote --------------------------------------------------------------------------------------------------


def lagging(until=6.0):
    """a and b in term 3, c still in term 1, cut off."""
    cluster = settled()
    cluster.cut = {"c"}
    for successor in "ba":
        cluster.tell(cluster.leases[0], TransferLeadership(successor))
    cluster.run_until(until)
    assert cluster.terms() == {"a": 3, "b": 3, "c": 1}
    assert cluster.leases == ["a"]
    return cluster


def test_a_node_with_a_smaller_term_can_complete_an_election():
    """etcd, TestNodeWithSmallerTermCanCompleteElection: b alone cannot win; c catches up by being refused."""
    cluster = lagging(until=10.0)
    cluster.heal()
    cluster.cut = {"a"}
    cluster.run_until(14.0)
    assert len(cluster.leases) == 1
    assert cluster.leases[0] in "bc"
    assert cluster.terms()["b"] == cluster.terms()["c"] == 4


def ahead(term=4):
    """a leads b in term 1; c starts in a later term, as it left a version that knew no pre-vote."""
    cluster = settled()
    cluster.saved["c"] = Saved(term, "c", cluster.saved["c"].membership)
    cluster.cut = {"c"}
    cluster.start("c", draw=0.5)
    cluster.run_until(8.0625)
    assert cluster.terms() == {"a": 1, "b": 1, "c": term}
    return cluster


def test_a_member_that_is_terms_ahead_does_not_stop_the_others_from_electing():
    """etcd, TestPreVoteMigrationCanCompleteElection: the leader is gone, and the two that are left differ in term."""
    cluster = ahead()
    cluster.cut = {"a"}
    cluster.run_until(12.0)
    assert cluster.leases in (["b"], ["c"])
    assert cluster.terms()["b"] == cluster.terms()["c"] == 5


def test_a_member_that_is_terms_ahead_is_freed():
    """etcd, TestPreVoteMigrationWithFreeStuckPreCandidate: it refuses the leader's heartbeat, and one election later
    follows.
    """
    cluster = ahead()
    cluster.heal()
    cluster.run_until(12.0)
    assert set(cluster.terms().values()) == {5}
    assert cluster.followed() == set(cluster.leases)
    assert len(cluster.winners) == 2


def test_of_two_that_ask_at_the_same_time_one_is_elected_at_once():
    """etcd, TestPreVoteWithSplitVote: there each votes for itself in term 2, and only term 3 has a leader."""
    cluster = settled()
    cluster.cut = {"a"}
    b, c = cluster.elections["b"], cluster.elections["c"]
    cluster.now = 7.0
    asked = [only_to(b.timeout(7.0), "c"), only_to(c.timeout(7.0), "b")]
    granted = [c.receive(asked[0], 7.0), b.receive(asked[1], 7.0)]
    cluster.carry_out("c", c.receive(only(granted[1]), 7.0))
    cluster.carry_out("b", b.receive(only(granted[0]), 7.0))
    assert (b.role, c.role, b.current_term, c.current_term) == (Role.CANDIDATE, Role.PRE_CANDIDATE, 2, 1)
    cluster.settle()
    assert cluster.winners[2] == {"b"} == set(cluster.leases)


def only_to(ready, receiver):
    return dict(ready.outbox)[receiver]


def test_one_that_has_lost_its_leader_may_be_refused_and_asks_again():
    """etcd, TestPreVoteWithCheckQuorum: b still relies on a when c asks first; when b asks too, one of them wins."""
    cluster = settled()
    cluster.cut = {"a"}
    cluster.carry_out("c", cluster.elections["c"].timeout(cluster.elections["c"].deadline))
    cluster.settle()
    assert cluster.elections["c"].role is Role.PRE_CANDIDATE
    cluster.run_until(9.0)
    assert cluster.leases in (["b"], ["c"])
    assert cluster.terms()[cluster.leases[0]] == 2


# --- etcd: leadership transfer ---------------------------------------------------------------------------------------


def test_leadership_goes_to_a_member_and_back():
    """etcd, TestLeaderTransferToUpToDateNode, TestLeaderTransferWithCheckQuorum: at once, though everybody has just
    heard from the leader.
    """
    cluster = settled()
    cluster.tell("a", TransferLeadership("b"))
    assert (cluster.leases, cluster.followed()) == (["b"], {"b"})
    cluster.tell("b", TransferLeadership("a"))
    assert (cluster.leases, cluster.followed()) == (["a"], {"a"})
    assert set(cluster.terms().values()) == {3}


def test_a_follower_may_ask_for_leadership_for_itself():
    """etcd, TestLeaderTransferToUpToDateNodeFromFollower."""
    cluster = settled()
    cluster.tell("b", TransferLeadership("b"))
    assert cluster.leases == ["b"]


def test_leadership_goes_to_a_follower_that_was_away():
    """etcd, TestLeaderTransferToSlowFollower: c has missed a term."""
    cluster = lagging()
    cluster.heal()
    cluster.tell("a", TransferLeadership("c"))
    assert cluster.leases == ["a"]  # c is not known to be back
    cluster.run_until(6.125)
    cluster.tell("a", TransferLeadership("c"))
    assert cluster.leases == ["c"]


def test_leadership_goes_to_a_follower_that_lacks_the_newest_membership():
    """etcd, TestLeaderTransferAfterSnapshot; hashicorp, TestRaft_LeadershipTransferToBehindServer. Thesis 3.10: "The
    prior leader fully updates the target server's log to match its own log" first.
    """
    cluster = settled()
    cluster.cut = {"c"}
    cluster.start("o", nodes="")
    cluster.tell("a", AddNode(NodeInfo("o", voter=False)))
    cluster.run_until(5.1875)
    cluster.heal()
    assert cluster.elections["c"].membership.position < cluster.elections["a"].membership.position
    cluster.run_until(5.25)
    cluster.tell("a", TransferLeadership("c"))
    assert cluster.leases == ["c"]


@pytest.mark.parametrize("to", ["a", "x", "o"])
def test_leadership_goes_to_no_stranger_no_observer_and_not_to_the_leader(to):
    """etcd, TestLeaderTransferToSelf, ToNonExistingNode, ToLearner: refused, and the leader leads on."""
    election = old_member("a", membership=members(3, 1, "abc", observers="o"))
    lead(election)
    ready = election.receive(TransferLeadership(to), 2.25)
    assert (len(events(ready, ChangeRefused)), ready.outbox, election.role) == (1, (), Role.LEADER)


@pytest.mark.parametrize("change", [RemoveNode("c"), AddNode(NodeInfo("c", voter=False))])
def test_leadership_does_not_go_to_one_that_was_removed_or_demoted(change):
    """etcd, TestLeaderTransferRemoveNode, TestLeaderTransferDemoteNode."""
    cluster = settled("abcd")
    cluster.tell("a", change)
    cluster.tell("a", TransferLeadership("c"))
    assert isinstance(cluster.events["a"][-1], ChangeRefused)
    assert cluster.leases == ["a"]


@pytest.mark.parametrize("again", [TransferLeadership("c"), TransferLeadership("b"), TransferLeadership("a")])
def test_a_second_transfer_during_the_first_is_refused_and_prolongs_nothing(again):
    """etcd, TestLeaderTransferSecondTransferToSameNode, ...ToAnotherNode, TestLeaderTransferBackToSelf: here the leader
    has no role left to hand over.
    """
    election = new_member("a")
    lead(election)
    election.receive(TransferLeadership("c"), 2.25)
    deadline = election.deadline
    ready = election.receive(again, 2.5)
    assert [event.control_message for event in events(ready, ChangeRefused)] == [again]
    assert (ready.outbox, election.deadline) == ((), deadline)


def test_a_transfer_to_one_that_is_gone_costs_no_more_than_an_election():
    """etcd, TestLeaderTransferTimeout: etcd's leader leads on after one election timeout; this one has to win again."""
    cluster = settled()
    cluster.crash("c")
    cluster.tell("a", TransferLeadership("c"))
    assert cluster.leases == []
    cluster.run_until(5.0625 + 2.0)
    assert len(cluster.leases) == 1


def test_a_change_asked_for_during_a_transfer_is_made_by_the_next_leader():
    """etcd, TestLeaderTransferIgnoreProposal: the former leader does not begin it."""
    cluster = settled()
    cluster.carry_out("a", cluster.elections["a"].receive(TransferLeadership("b"), cluster.now))
    cluster.carry_out("a", cluster.elections["a"].receive(RemoveNode("c"), cluster.now))
    assert cluster.elections["a"].membership.voters == set("abc")
    cluster.settle()
    cluster.run_until(5.5)
    assert cluster.leases == ["b"]
    assert cluster.elections["b"].membership.voters == set("ab")
    assert MembershipChanged(members(2, 2, "ab"), RemoveNode("c")) in cluster.events["a"]


def test_a_newer_term_ends_a_transfer():
    """etcd, TestLeaderTransferReceiveHigherTermVote: c wins term 2 while b, the target, is away."""
    cluster = settled()
    cluster.cut = {"b"}
    cluster.tell("a", TransferLeadership("b"))
    cluster.now += 1.0  # etcd's leader has no lease to wait for
    asked = RequestVote(2, "c", cluster.elections["a"].membership.position, ("a", "b", "c"))
    assert only(cluster.elections["a"].receive(asked, cluster.now)).vote_granted
    assert cluster.elections["a"].receive(TimeoutNow(1, "b"), cluster.now).outbox == ()


def test_a_non_member_neither_campaigns_on_request_nor_wins():
    """etcd, TestTransferNonMember: it is asked to take over, and votes arrive that it never asked for."""
    election = old_member("a", membership=members(3, 1, "bcd"))
    assert not sent(election.receive(TimeoutNow(3, "b"), 2.0), RequestVote)
    for voter in "bcd":
        election.receive(vote(election, voter), 2.0)
    assert (election.role, election.current_term) == (Role.FOLLOWER, 3)


# --- etcd: learners --------------------------------------------------------------------------------------------------


def test_an_observer_never_times_out():
    """etcd, TestLearnerElectionTimeout."""
    election = old_member("o", membership=members(3, 1, "ab", observers="o"))
    assert election.deadline == float("inf")
    assert election.timeout(1_000.0).outbox == ()


def test_an_observer_that_is_promoted_can_lead():
    """etcd, TestLearnerPromotion."""
    cluster = settled()
    cluster.start("d", nodes="")
    cluster.tell("a", AddNode(NodeInfo("d", voter=False)))
    cluster.run_until(8.0625)
    cluster.tell("a", TransferLeadership("d"))
    assert cluster.leases == ["a"]
    cluster.tell("a", AddNode("d"))
    cluster.tell("a", TransferLeadership("d"))
    assert cluster.leases == ["d"]


def test_an_observer_that_has_not_heard_of_its_promotion_votes():
    """etcd, TestLearnerCanVote: the candidate may know better who is a voter. Not for one that knows no more."""
    election = old_member("o", membership=members(3, 1, "ab", observers="o"))
    promoted = request_vote(election, "b", membership_version=(3, 2), member_ids=("a", "b", "o"))
    assert only(election.receive(promoted, 2.0)).vote_granted
    other = old_member("o", membership=members(3, 1, "ab", observers="o"))
    assert not only(other.receive(request_vote(other, "b"), 2.0)).vote_granted


# --- hashicorp/raft --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("proof", [False, True])
def test_a_leader_that_fails_is_replaced_in_a_newer_term(proof):
    """hashicorp, TestRaft_LeaderFail."""
    cluster = settled()
    cluster.crash("a", proof)
    cluster.run_until(7.5)
    assert cluster.leases in (["b"], ["c"])
    assert set(cluster.terms().values()) == {2}


def test_a_leader_without_followers_gives_up_when_its_lease_ends():
    """hashicorp, TestRaft_LeaderLeaseExpire: two members, one cut off; the follower forgets it too."""
    cluster = settled("ab")
    cluster.cut = {"b"}
    cluster.run_until(5.0 + LEASE)
    assert (cluster.leases, cluster.elections["a"].leader_id) == ([], None)
    cluster.run_until(8.0)
    assert cluster.elections["b"].leader_id is None


def test_a_leader_that_is_alone_cannot_hand_over():
    """hashicorp, TestRaft_LeadershipTransferWithOneNode: refused, and it leads on."""
    cluster = Network("a", min_nodes=1)
    cluster.tell("a", TransferLeadership())
    assert isinstance(cluster.events["a"][-1], ChangeRefused)
    assert cluster.leases == ["a"]


def test_leadership_that_goes_to_nobody_in_particular_never_goes_to_an_observer():
    """hashicorp, TestRaft_LeadershipTransferPickServer, ...IgnoresNonvoters: though it was heard from last."""
    election = old_member("a", membership=members(3, 1, "abc", observers="o"))
    ready = become_leader(election)
    for member in "bco":
        election.receive(answer(sent(ready, Heartbeat)[member], member), 2.0 + 0.0625 * "bco".index(member))
    assert sorted(sent(election.receive(TransferLeadership(), 2.25), TimeoutNow)) == ["c"]


def test_a_leader_is_removed_and_the_others_lead():
    """hashicorp, TestRaft_RemoveLeader: it hears that it is out, and takes no further part."""
    cluster = settled()
    cluster.tell("a", RemoveNode("a"))
    cluster.run_until(6.0)
    assert cluster.elections["a"].role is Role.STOPPED
    assert len(cluster.leases) == 1
    assert cluster.elections[cluster.leases[0]].membership.voters == set("bc")


def test_a_leader_that_is_cut_off_removes_nobody():
    """hashicorp, TestRaft_RemoveFollower_SplitCluster: with two of four it commits nothing; the outcome is unknown."""
    cluster = settled("abcd")
    cluster.part("ac", "ad", "bc", "bd")
    cluster.tell("a", RemoveNode("b"))
    cluster.run_until(8.0)
    assert cluster.leases == []
    assert [type(event) for event in cluster.events["a"] if getattr(event, "control_message", None)] == [ChangeRefused]
    cluster.heal()
    cluster.run_until(12.0)
    assert len(cluster.leases) == 1


def test_a_removed_follower_causes_no_election():
    """hashicorp, TestRaft_FollowerRemovalNoElection: it was down when it was removed, and starts again."""
    cluster = settled()
    cluster.crash("c")
    cluster.tell("a", RemoveNode("c"))
    cluster.run_until(7.0625)
    cluster.start("c", "abc")
    cluster.run_until(20.0)
    assert cluster.winners == {1: {"a"}}
    assert cluster.leases == ["a"]


def test_a_removed_follower_gets_no_vote():
    """hashicorp, TestRaft_VoteNotGranted_WhenNodeNotInCluster: not even when the leader is gone as well."""
    cluster = settled("abcd")
    cluster.cut = {"d"}
    cluster.tell("a", RemoveNode("d"))
    cluster.cut = {"a", "d"}
    cluster.run_until(6.5)
    old = cluster.elections["d"].membership
    request = RequestVote(9, "d", old.position, tuple("abcd"))
    for voter in "bc":
        assert not only(cluster.elections[voter].receive(request, cluster.now)).vote_granted
        assert cluster.elections[voter].current_term < 9


@pytest.mark.parametrize("voter", [True, False])
def test_the_cluster_regains_stability_when_a_member_with_a_much_higher_term_joins(voter):
    """hashicorp, TestRaft_ClusterCanRegainStability_WhenNonVoterWithHigherTermJoin, ...WhenOtherNodeWithHigherTermJoin:
    it was removed unheard, and its term is twenty ahead when it is let in again.
    """
    cluster = settled()
    cluster.cut = {"c"}
    cluster.tell("a", RemoveNode("c"))
    cluster.run_until(6.0625)
    cluster.saved["c"] = Saved(21, "c", cluster.saved["c"].membership)
    cluster.start("c")
    cluster.tell("a", AddNode(NodeInfo("c", voter)))
    cluster.heal()
    cluster.run_until(12.0)
    assert len(cluster.leases) == 1
    assert cluster.followed() == set(cluster.leases)
    assert set(cluster.terms().values()) == {22}


def test_a_vote_for_the_leader_and_for_the_one_it_hands_over_to():
    """hashicorp, TestRaft_Voting: a follower that knows a leader votes for the flagged candidate, and for no other."""
    election = old_member("c")
    election.receive(heartbeat(election, "a"), 2.0)
    assert not only(election.receive(request_vote(election, "b", term=13), 2.0)).vote_granted
    assert only(election.receive(request_vote(election, "b", term=13, transfer=True), 2.0)).vote_granted


def test_a_partitioned_follower_avoids_an_election_when_it_returns():
    """hashicorp's test of pre-vote and a partition: five members, one away for long; nobody's term changes."""
    cluster = settled("abcde")
    cluster.cut = {"e"}
    cluster.run_until(15.0625)
    cluster.heal()
    cluster.run_until(20.0)
    assert cluster.winners == {1: {"a"}}
    assert set(cluster.terms().values()) == {1}


def test_members_that_were_added_as_observers_and_demoted_ones_do_not_count():
    """hashicorp, AddNonvoter and DemoteVoter: of three voters and one demoted, two elect."""
    cluster = settled("abcd")
    cluster.tell("a", AddNode(NodeInfo("d", voter=False)))
    assert cluster.elections["d"].membership.voters == set("abc")
    cluster.cut = {"a"}
    cluster.run_until(12.0)
    assert cluster.leases in (["b"], ["c"])
    assert cluster.elections["d"].leader_id == cluster.leases[0]


def test_removing_an_unknown_member_and_adding_a_known_one_changes_nothing():
    """hashicorp, TestRaft_RemoveUnknownPeer, TestRaft_AddKnownPeer."""
    cluster = settled()
    before = cluster.elections["a"].membership
    cluster.tell("a", RemoveNode("x"))
    cluster.tell("a", AddNode("b"))
    assert cluster.elections["a"].membership == before
    assert len(events_of(cluster, "a", MembershipChanged)) == 2


def events_of(cluster, node_id, kind):
    return [event for event in cluster.events[node_id] if isinstance(event, kind)]


# --- MIT 6.824, lab 2A -----------------------------------------------------------------------------------------------


def test_initial_election():
    """MIT, TestInitialElection2A: one leader, all agree on the term, and nothing changes without a failure."""
    cluster = Network("abc")
    cluster.run_until(2.0)
    assert len(cluster.leases) == 1
    terms = cluster.terms()
    cluster.run_until(4.0)
    assert len(set(terms.values())) == 1
    assert cluster.terms() == terms


def test_election_after_network_failure():
    """MIT, TestReElection2A: a new leader, the old one back without disturbing it, no quorum, a quorum again, the last
    one back.
    """
    cluster = settled()
    cluster.cut = {"a"}
    cluster.run_until(8.0)
    (second,) = cluster.leases
    assert second != "a"
    cluster.heal()
    cluster.run_until(10.0)
    assert (cluster.leases, cluster.followed()) == ([second], {second})
    cluster.cut = {second, "a"}
    cluster.run_until(12.0)
    assert cluster.leases == []
    cluster.run_until(14.0)
    assert cluster.leases == []
    cluster.cut = {second}
    cluster.run_until(18.0)
    (third,) = cluster.leases
    cluster.heal()
    cluster.run_until(20.0)
    assert (cluster.leases, cluster.followed()) == ([third], {third})


@pytest.mark.parametrize("seed", range(5))
def test_many_elections(seed):
    """MIT, TestManyElections2A: seven members, three of them away, ten times over; there is a leader each time."""
    rng = random.Random(seed)
    cluster = Network("abcdefg")
    for node_id in "abcdefg":
        cluster.start(node_id, "abcdefg", rng=random.Random(rng.random()))
    cluster.run_until(6.0)
    for _ in range(10):
        cluster.cut = set(rng.sample("abcdefg", 3))
        cluster.run_until(cluster.now + 6.0)
        assert len(cluster.leases) == 1
        assert cluster.leases[0] not in cluster.cut
        cluster.heal()
        cluster.run_until(cluster.now + 6.0)
        assert cluster.followed() == set(cluster.leases)
    assert all(len(winners) == 1 for winners in cluster.winners.values())


# --- TiKV ------------------------------------------------------------------------------------------------------------


def test_a_split_pre_vote_is_resolved_by_the_next_timeouts():
    """TiKV's test of a split pre-vote: of four, two ask at once, and each grants the other's pre-vote."""
    cluster = Network("abcd")
    cluster.start("b", "abcd", draw=0.0)
    cluster.now = 1.0
    cluster.settle()
    cluster.run_until(6.0)
    assert len(cluster.leases) == 1
    assert cluster.followed() == set(cluster.leases)


def test_a_pre_candidate_obeys_the_order_to_take_over():
    """etcd, TestLeaderTransferWithCheckQuorum, with the order arriving while the target's own pre-vote is open."""
    election = old_member("b", term=3)
    election.timeout(1.5)
    assert election.role is Role.PRE_CANDIDATE
    ready = election.receive(TimeoutNow(3, "a"), 1.5)
    assert all(request.transfer and not request.pre_vote for request in sent(ready, RequestVote).values())
    assert (election.role, election.current_term) == (Role.CANDIDATE, 4)


def test_who_resigns_does_not_come_back_before_the_others_had_their_chance():
    """etcd's Resign of an election (concurrency.Election): even where the order is lost, somebody else leads next."""
    cluster = settled()
    cluster.lost = (TimeoutNow,)
    cluster.tell("a", Resign())
    cluster.lost = ()
    cluster.run_until(8.0)
    assert cluster.leases in (["b"], ["c"])
    assert LeaderChanged(None, 1) in cluster.events["a"]


# --- What no test noticed --------------------------------------------------------------------------------------------
# Rules that could be broken without any test failing, found by breaking them on purpose.


def test_an_answer_of_almost_an_election_timeout_ago_still_counts():
    """6.4.1: the rounds that were sent since are no reason to forget the one that it answers."""
    election = new_member("a")
    first = sent(become_leader(election), Heartbeat)
    for number in range(1, 7):
        election.timeout(2.0 + 0.125 * number)
    election.receive(answer(first["b"], "b"), 2.875)
    assert election.lease_expires_at == 2.0 + LEASE


def test_whoever_hands_over_in_a_new_term_has_declined_nothing():
    """3.10: an order to take over is no answer to a transfer of an earlier term."""
    cluster = settled("ab")
    for leader, successor in ("ab", "ba", "ab"):
        cluster.tell(leader, TransferLeadership())
        assert cluster.leases == [successor]


def test_a_transfer_is_over_with_its_term():
    """A refusal that comes late is news of a transfer that a newer leader has made meaningless."""
    election = old_member("b")
    election.receive(heartbeat(election, "a"), 2.0)
    asked = only(election.receive(TransferLeadership("b"), 2.0))
    election.receive(heartbeat(election, "c", term=4), 2.25)
    late = ChangeResponse(3, "a", asked.number, "refused", "too late")
    assert election.receive(late, 2.25).events == ()


def test_a_new_leader_begins_nothing_that_an_earlier_request_has_to_go_before():
    """What was asked of the leader before may still be answered by it; the request after it waits until then."""
    election = old_member("b", membership=members(3, 1, "abcd"))
    election.receive(heartbeat(election, "a"), 2.0)
    election.receive(RemoveNode("d"), 2.0)
    election.receive(RemoveNode("c"), 2.0)
    lead(election, 4.0)
    assert election.membership == members(4, 1, "abcd")


def test_whoever_answered_is_known_even_if_it_refused():
    """The status shows whether a member is alone or refused."""
    election = old_member("a")
    election.timeout(1.5)
    election.receive(vote(election, "b", vote_granted=False, pre_vote=True), 1.5)
    assert election.answers == {"a", "b"}


@pytest.mark.parametrize("theirs", ["ab", "abcd", "abd"])
def test_a_first_vote_goes_to_no_shorter_and_to_no_longer_list(theirs):
    """A majority of a longer list and one of the own need not meet: two first leaders."""
    election = new_member("c")
    request = request_vote(election, "a", term=1, member_ids=tuple(theirs))
    assert not only(election.receive(request, 0.0)).vote_granted
    assert election.current_term == 0
