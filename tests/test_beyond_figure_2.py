"""The rules beyond Figure 2: pre-vote, the promise behind the lease, check-quorum, abstaining, handing over.

Quotations are from Ongaro, "Consensus: Bridging Theory and Practice" (2014), with their section, where one is given.
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

from raftlite.election import NEVER, TAKEOVER_STEP, Election, Role, Saved
from raftlite.errors import ConfigError
from raftlite.membership import NodeInfo
from raftlite.messages import (
    AddNode,
    ChangeRefused,
    ConfirmLeadership,
    Heartbeat,
    LeaderChanged,
    LeadershipConfirmed,
    PeerDown,
    PeerUp,
    RemoveNode,
    RequestVote,
    RequestVoteResponse,
    Resign,
    Stop,
    TimeoutNow,
    TransferLeadership,
)
from raftlite.timing import Timing

# --- Pre-vote (9.6) ------------------------------------------------------------------------------------------------


def test_asks_whether_it_would_win_before_raising_its_term():
    """9.6: "In the Pre-Vote algorithm, a candidate only increments its term if it first learns from a majority of the
    cluster that they would be willing to grant the candidate their votes"
    """
    election = old_member("a", term=3, voted_for="c")
    ready = election.timeout(1.5)
    request = RequestVote(4, "a", (3, 1), ("a", "b", "c"), pre_vote=True)
    assert ready.outbox == (("b", request), ("c", request))
    assert ready.saved is None
    assert (election.role, election.current_term, election.voted_for) == (Role.PRE_CANDIDATE, 3, "c")


def test_raises_its_term_when_a_majority_would_vote_for_it():
    """9.6: "from a majority of the cluster" """
    election = new_member("a", "abcde")
    election.timeout(1.5)
    election.receive(vote(election, "b", pre_vote=True), 1.5)
    election.receive(vote(election, "b", pre_vote=True), 1.5)
    assert (election.role, election.current_term) == (Role.PRE_CANDIDATE, 0)
    ready = election.receive(vote(election, "c", pre_vote=True), 1.5)
    assert (election.role, election.current_term) == (Role.CANDIDATE, 1)
    assert sent(ready, RequestVote)["e"] == RequestVote(1, "a", (0, 1), tuple("abcde"))


def test_a_granted_pre_vote_changes_nothing_at_the_voter():
    """9.6: nobody has voted yet, so that several may be told the same."""
    election = old_member("c", term=3, voted_for="a")
    for candidate in ("a", "b"):
        ready = election.receive(request_vote(election, candidate, pre_vote=True), 1.25)
        assert ready.outbox == ((candidate, RequestVoteResponse(4, "c", True, pre_vote=True)),)
        assert (ready.saved, ready.events) == (None, ())
    assert (election.role, election.current_term, election.voted_for) == (Role.FOLLOWER, 3, "a")
    assert election.deadline == 1.5


@pytest.mark.parametrize("other", ["a", "c"])
def test_a_pre_candidate_grants_pre_votes_and_stays_one(other):
    """9.6: granting one changes neither role nor timer."""
    election = new_member("b")
    election.timeout(1.5)
    deadline = election.deadline
    assert only(election.receive(request_vote(election, other, pre_vote=True), 1.5)).vote_granted
    assert (election.role, election.deadline) == (Role.PRE_CANDIDATE, deadline)


@pytest.mark.parametrize(("other", "role"), [("a", Role.PRE_CANDIDATE), ("c", Role.CANDIDATE)])
def test_of_two_that_ask_at_the_same_time_the_lower_id_goes_on(other, role):
    """5.2: votes that are split cost one timeout more; here the other has this member's pre-vote, and its vote next."""
    election = new_member("b")
    election.timeout(1.5)
    election.receive(request_vote(election, other, pre_vote=True), 1.5)
    election.receive(vote(election, other, pre_vote=True), 1.5)
    assert election.role is role


def test_among_more_than_three_nobody_gives_way():
    """5.2: the others decide between the two, and each may well be elected without the other's vote."""
    election = new_member("b", "abcde")
    election.timeout(1.5)
    for other in "ac":
        election.receive(request_vote(election, other, pre_vote=True), 1.5)
        election.receive(vote(election, other, pre_vote=True), 1.5)
    assert election.role is Role.CANDIDATE


def test_a_request_that_is_refused_is_not_given_way_to():
    election = new_member("b")
    election.timeout(1.5)
    stale = request_vote(election, "a", pre_vote=True, member_ids=("a", "b"))
    assert not only(election.receive(stale, 1.5)).vote_granted
    election.receive(vote(election, "c", pre_vote=True), 1.5)
    assert election.role is Role.CANDIDATE


def test_whoever_gave_way_asks_again_if_the_other_does_not_lead():
    election = new_member("b")
    election.timeout(1.5)
    election.receive(request_vote(election, "a", pre_vote=True), 1.5)
    election.timeout(election.deadline)
    election.receive(vote(election, "c", pre_vote=True), 3.0)
    assert election.role is Role.CANDIDATE


def test_a_vote_to_come_is_no_way_given_before_this_member_asks():
    """It was a follower when the other asked: what came of that is unknown, and its own timer has run out since."""
    election = new_member("b")
    election.receive(request_vote(election, "a", pre_vote=True), 1.25)
    election.timeout(1.5)
    election.receive(vote(election, "c", pre_vote=True), 1.5)
    assert election.role is Role.CANDIDATE


def test_a_pre_candidate_votes_for_a_candidate_and_follows():
    """5.2 goes before 9.6: the other has a majority behind it already."""
    election = old_member("a", term=4)
    election.timeout(1.5)
    assert only(election.receive(request_vote(election, "b", term=4), 1.625)).vote_granted
    assert (election.role, election.voted_for, election.deadline) == (Role.FOLLOWER, "b", 3.125)
    election.receive(vote(election, "c", pre_vote=True), 1.625)
    assert election.role is Role.FOLLOWER


@pytest.mark.parametrize(("term", "granted"), [(2, False), (3, False), (4, True), (9, True)])
def test_a_pre_vote_is_granted_where_a_vote_would_be(term, granted):
    """9.6: stale terms are refused, and a term in which the vote is spent already."""
    election = old_member("c", term=3, voted_for="a")
    response = only(election.receive(request_vote(election, "b", term=term, pre_vote=True), 2.0))
    assert response.vote_granted is granted
    assert response.term == (term if granted else 3)
    assert election.current_term == 3


def test_pre_votes_are_not_counted_as_votes():
    """9.6: willing to grant is not granted."""
    election = new_member("a")
    become_candidate(election)
    election.receive(vote(election, "b", term=1, pre_vote=True), 2.0)
    election.receive(vote(election, "c", term=2, pre_vote=True), 2.0)
    assert election.role is Role.CANDIDATE


def test_votes_are_not_counted_as_pre_votes():
    """9.6: a late vote for an earlier candidacy says nothing about the next."""
    election = new_member("a")
    election.timeout(1.5)
    election.receive(vote(election, "b", term=0), 1.5)
    election.receive(vote(election, "b", term=1), 1.5)
    assert election.role is Role.PRE_CANDIDATE


def test_pre_votes_for_another_term_do_not_count():
    """9.6: they were asked for in another term."""
    election = old_member("a", term=3)
    election.timeout(1.5)
    for term in (3, 5):
        election.receive(vote(election, "b", term=term, pre_vote=True), 1.5)
    assert election.role is Role.PRE_CANDIDATE


def test_a_refused_pre_vote_brings_a_lagging_member_up_to_date():
    """9.6: without disturbing anyone, for it has raised no term of its own."""
    election = old_member("a", term=3)
    election.timeout(1.5)
    ready = election.receive(vote(election, "b", term=8, pre_vote=True, vote_granted=False), 1.5)
    assert (election.role, election.current_term) == (Role.FOLLOWER, 8)
    assert ready.saved == Saved(8, None, members(3, 1))


def test_a_pre_candidate_remembers_who_refused_and_why():
    """So that a status can say what an election waits for."""
    election = new_member("a")
    election.timeout(1.5)
    election.receive(vote(election, "b", term=0, pre_vote=True, vote_granted=False, reason="b leads"), 1.5)
    assert election.refusals == {"b": "b leads"}
    election.timeout(3.5)
    assert election.refusals == {}


def test_asks_again_without_raising_its_term():
    """9.6: a server that is cut off asks for ever, and its term stays where it was."""
    election = old_member("a", term=3)
    for now in (2.0, 4.0, 6.0, 8.0):
        assert {request.term for request in sent(election.timeout(now), RequestVote).values()} == {4}
    assert election.current_term == 3


def test_a_heartbeat_ends_a_pre_candidacy():
    """9.6: there is a valid leader after all."""
    election = new_member("a")
    election.timeout(1.5)
    election.receive(heartbeat(election, "b", term=1), 1.5)
    assert (election.role, election.leader_id) == (Role.FOLLOWER, "b")


def test_a_member_that_returns_disturbs_nobody():
    """9.6: "a server that has been partitioned from the cluster is likely to cause a disruption when it regains
    connectivity" - without pre-vote.
    """
    cluster = Cluster("abc")
    cluster.run_until(2.0)
    cluster.cut = {"c"}
    cluster.run_until(60.0)
    cluster.cut = set()
    cluster.run_until(65.0)
    assert cluster.winners == {1: {"a"}}
    assert cluster.elections["c"].leader_id == "a"


def test_one_that_cannot_hear_the_leader_disturbs_nobody():
    """4.2.3: pre-vote protects only together with members that refuse while they hear a leader."""
    cluster = Cluster("abc")
    cluster.run_until(2.0)
    deliver = cluster.deliver

    def without_heartbeats_to_c(sender, receiver, message):
        if not (receiver == "c" and isinstance(message, Heartbeat)):
            deliver(sender, receiver, message)

    cluster.deliver = without_heartbeats_to_c
    cluster.run_until(30.0)
    assert cluster.winners == {1: {"a"}}


# --- No vote while a leader is alive (4.2.3, 6.4) -------------------------------------------------------------------


@pytest.mark.parametrize("pre_vote", [False, True])
def test_no_vote_within_an_election_timeout_of_hearing_from_a_leader(pre_vote):
    """4.2.3: "if a server receives a RequestVote request within the minimum election timeout of hearing from a current
    leader, it does not update its term or grant its vote."
    """
    election = old_member("c", term=3)
    election.receive(heartbeat(election, "a"), 2.0)
    request = request_vote(election, "b", term=7, pre_vote=pre_vote)
    response = only(election.receive(request, 2.9375))
    assert (response.vote_granted, response.term, response.pre_vote) == (False, 3, pre_vote)
    assert "a was heard from" in response.reason
    assert (election.current_term, election.leader_id) == (3, "a")
    assert only(election.receive(request, 3.0)).vote_granted


@pytest.mark.parametrize("pre_vote", [False, True])
def test_a_leader_with_a_lease_refuses(pre_vote):
    """6.4: its own vote is part of what the lease stands on."""
    election = old_member("a", term=3)
    lead(election)
    response = only(election.receive(request_vote(election, "b", term=9, pre_vote=pre_vote), 2.875))
    assert (response.vote_granted, response.term, response.reason) == (False, 4, "a leads")
    assert (election.role, election.current_term) == (Role.LEADER, 4)


def test_a_leader_without_a_lease_does_not_refuse():
    """6.4: votes are no lease, and nobody has promised it anything yet."""
    election = old_member("a", term=3)
    become_leader(election)
    assert only(election.receive(request_vote(election, "b", term=5), 2.0)).vote_granted
    assert election.role is Role.FOLLOWER


def test_the_promise_is_the_members_own_election_timeout():
    """6.4: the leader may count on what this member refuses, not on what the leader itself would refuse."""
    election = new_member("b", timing=Timing(heartbeat_interval=0.25, election_timeout=4.0))
    assert only(election.receive(heartbeat(election, "a"), 0.5)).promise == 4.0
    assert not only(election.receive(request_vote(election, "c"), 4.25)).vote_granted
    assert only(election.receive(request_vote(election, "c"), 4.5)).vote_granted


def test_a_handover_is_the_exception_for_followers():
    """4.2.3, 6.4: the leader itself has asked for this election."""
    election = old_member("c", term=3)
    election.receive(heartbeat(election, "a"), 2.0)
    assert only(election.receive(request_vote(election, "b", transfer=True), 2.0)).vote_granted
    assert election.current_term == 4


def test_a_leader_that_hands_over_keeps_its_own_promise_until_its_lease_would_have_ended():
    """6.4: or whoever has not heard it lately could lead before its `on_lost` has finished."""
    election = old_member("a", term=3)
    lead(election)
    lease = election.lease_expires_at
    election.receive(TransferLeadership("b"), 2.0)
    assert election.role is Role.FOLLOWER
    assert not only(election.receive(request_vote(election, "c", term=5), lease - 0.01)).vote_granted
    assert only(election.receive(request_vote(election, "b", term=5, transfer=True), lease - 0.01)).vote_granted
    assert only(election.receive(request_vote(election, "c", term=6), lease)).vote_granted


def test_a_handover_does_not_spend_a_vote_twice():
    """5.2 holds for it as for every other: one vote per term."""
    election = old_member("c", term=4, voted_for="a")
    assert not only(election.receive(request_vote(election, "b", term=4, transfer=True), 2.0)).vote_granted
    assert not only(election.receive(request_vote(election, "b", term=3, transfer=True), 2.0)).vote_granted


# --- The promise survives a restart --------------------------------------------------------------------------------


@pytest.mark.parametrize("pre_vote", [False, True])
def test_a_member_that_remembers_a_term_refuses_for_an_election_timeout_after_its_start(pre_vote):
    """It may have answered a heartbeat just before it went down, and a leader counts on that."""
    election = old_member("c", term=3)
    request = request_vote(election, "b", term=5, pre_vote=pre_vote)
    assert not only(election.receive(request, 0.9375)).vote_granted
    assert election.current_term == 3
    assert only(election.receive(request, 1.0)).vote_granted


def test_a_member_that_never_took_part_votes_at_once():
    """It has promised nobody anything, and a first start should be quick."""
    assert only(new_member("c").receive(request_vote(new_member("c"), "a"), 0.0)).vote_granted


def test_a_restart_does_not_break_the_lease():
    """6.4: the lease stands on a voter that has just answered, and that starts again when another asks for its vote."""
    cluster = Cluster("abc")
    cluster.run_until(2.0)
    cluster.cut = {"c"}
    cluster.run_until(5.0)
    cluster.run_until(cluster.elections["c"].deadline - 0.0625)
    cluster.cut = {"a"}
    cluster.start("b", "abc")
    assert cluster.leases == ["a"]
    step_until(cluster, lambda: cluster.leases in (["b"], ["c"]))


def step_until(cluster, condition):
    """Let time pass, and look after every step that no two leases overlap."""
    for _ in range(1_000):
        if condition():
            return
        cluster.now = min(election.deadline for election in cluster.elections.values())
        cluster.settle()
        assert len(cluster.leases) <= 1, f"at {cluster.now}: {cluster.leases}"
    raise AssertionError("never came true")


# --- Proof of the leader's death -----------------------------------------------------------------------------------


def test_proof_of_the_leaders_death_voids_the_promise():
    """The leader's process is gone, and its lease with it."""
    election = old_member("c", term=3)
    election.receive(heartbeat(election, "a"), 2.0)
    ready = election.receive(PeerDown("a"), 2.25)
    assert election.leader_id is None
    assert events(ready, LeaderChanged) == [LeaderChanged(None, 3)]
    assert only(election.receive(request_vote(election, "b"), 2.25)).vote_granted


def test_the_death_of_another_member_changes_nothing():
    """The promise was made to the leader, and it lives."""
    election = old_member("c", term=3)
    election.receive(heartbeat(election, "a"), 2.0)
    ready = election.receive(PeerDown("b"), 2.25)
    assert (ready.events, election.leader_id) == ((), "a")
    assert not only(election.receive(request_vote(election, "b"), 2.25)).vote_granted


def test_a_leader_does_not_step_down_when_others_die():
    """It has its lease to tell whether enough are left."""
    election = new_member("a")
    lead(election)
    for node_id in ("b", "c", "a"):
        assert election.receive(PeerDown(node_id), 2.125).events == ()
    assert (election.role, election.leader_id) == (Role.LEADER, "a")


def survivor(node_id="c", ids="abc", **settings):
    """A member of term 3 that has just heard its leader a, and then that a is dead."""
    election = old_member(node_id, membership=members(3, 1, ids), **settings)
    election.receive(heartbeat(election, "a"), 2.0)
    election.receive(PeerDown("a"), 2.25)
    return election


@pytest.mark.parametrize(
    ("dead", "survivor", "place"),
    [("a", "c", 1), ("a", "d", 2), ("c", "a", 1), ("c", "b", 2)],
)
def test_survivors_campaign_one_after_the_other(dead, survivor, place):
    """The voter after the dead one at once, the next a step later: no collision as long as the first is up."""
    election = old_member(survivor, membership=members(3, 1, "abcd"))
    election.receive(heartbeat(election, dead), 2.0)
    election.receive(PeerDown(dead), 2.25)
    assert election.deadline == 2.25 + place * TAKEOVER_STEP


def test_whoever_takes_over_asks_for_votes_at_once():
    """9.6: a pre-vote keeps a cluster that has a leader from being disturbed; here is proof that it has none."""
    election = old_member("b")
    election.receive(heartbeat(election, "a"), 2.0)
    ready = election.receive(PeerDown("a"), 2.25)
    assert ready.saved == Saved(4, "b", members(3, 1))
    assert {request.pre_vote for request in sent(ready, RequestVote).values()} == {False}
    assert {request.transfer for request in sent(ready, RequestVote).values()} == {False}


def test_whoever_is_awaited_may_ask_before_its_own_vote_is_saved():
    """After proof of death and in a handover nobody leads, and every millisecond counts."""
    taking_over = old_member("b")
    taking_over.receive(heartbeat(taking_over, "a"), 2.0)
    assert taking_over.receive(PeerDown("a"), 2.25).may_ask_first
    assert not taking_over.receive(vote(taking_over, "c"), 2.25).may_ask_first
    assert old_member("b").receive(TimeoutNow(3, "a"), 2.0).may_ask_first


def test_nobody_else_asks_before_it_has_saved():
    """Neither after an election timeout, nor where there is more to save than its vote: here, the leader's term."""
    assert not become_candidate(old_member("b")).may_ask_first
    assert not old_member("b").receive(TimeoutNow(7, "a"), 2.0).may_ask_first


def test_a_takeover_that_fails_is_tried_again_within_milliseconds():
    """After pauses that double, up to the usual election timeout; the first attempt alone goes without a pre-vote."""
    election = survivor("b")
    pauses = []
    while not pauses or pauses[-1] < TIMING.election_timeout:
        now = election.deadline
        ready = election.timeout(now)
        assert {request.pre_vote for request in sent(ready, RequestVote).values()} == {True}
        pauses.append(election.deadline - now)
    assert pauses[:3] == pytest.approx([0.015, 0.030, 0.060])
    assert pauses[-1] == 1.5
    assert election.current_term == 4


def test_a_short_election_timeout_makes_the_steps_shorter():
    """A twentieth of it at most, so that everybody has had a turn before it is over."""
    election = survivor("c", timing=Timing(heartbeat_interval=0.003, election_timeout=0.012))
    assert election.deadline - 2.25 == pytest.approx(0.012 / 20)


def test_on_a_slow_network_the_steps_are_longer():
    """A vote takes a round trip: whoever asks again before that competes with its own first attempt."""
    election = old_member("c")
    election.receive(heartbeat(election, "a"), 2.0)
    election.receive(PeerDown("a", round_trip=0.02), 2.25)
    assert election.deadline - 2.25 == pytest.approx(0.04)
    election.timeout(election.deadline)
    assert election.deadline - 2.29 == pytest.approx(0.04 * 1.5)


@pytest.mark.parametrize("round_trip", [0.5, 1e9, float("inf")])
def test_a_proof_that_took_long_delays_a_takeover_by_a_fifth_of_a_timeout(round_trip):
    """A packet of the dial may have been lost; that says nothing of how long votes take."""
    election = old_member("c")
    election.receive(heartbeat(election, "a"), 2.0)
    election.receive(PeerDown("a", round_trip), 2.25)
    assert election.deadline - 2.25 == pytest.approx(TIMING.election_timeout / 5)


def test_a_request_is_held_back_for_as_long_as_its_sender_waits():
    """On a slow network the proofs of two survivors come further apart, too."""
    election = old_member("c")
    election.receive(heartbeat(election, "a"), 2.0)
    election.receive(request_vote(election, "b"), 2.25)
    assert only(election.receive(PeerDown("a", round_trip=0.02), 2.28)).vote_granted


@pytest.mark.parametrize("pre_vote", [True, False])
def test_a_request_that_comes_before_the_proof_is_granted_with_the_proof(pre_vote):
    """The other survivor learnt of the death a moment before, and need not ask again."""
    election = old_member("c")
    election.receive(heartbeat(election, "a"), 2.0)
    assert not only(election.receive(request_vote(election, "b", pre_vote=pre_vote), 2.25)).vote_granted
    ready = election.receive(PeerDown("a"), 2.25 + TAKEOVER_STEP / 2)
    assert only(ready).vote_granted
    assert (ready.saved is not None) is not pre_vote


def test_a_request_that_came_long_before_the_proof_is_forgotten():
    """Whoever asked has given up by then, and the vote would be wasted."""
    election = old_member("c")
    election.receive(heartbeat(election, "a"), 2.0)
    election.receive(request_vote(election, "b"), 2.125)
    assert election.receive(PeerDown("a"), 2.25).outbox == ()


@pytest.mark.parametrize("message", ["heartbeat", "vote"])
def test_a_takeover_ends_with_a_new_leader_or_a_vote_for_another(message):
    """From then on the usual timeouts apply."""
    election = survivor("c")
    if message == "vote":
        election.receive(request_vote(election, "b"), 2.25)
    else:
        election.receive(heartbeat(election, "b", term=4), 2.25)
    assert election.deadline == 2.25 + 1.5
    assert {request.pre_vote for request in sent(election.timeout(4.0), RequestVote).values()} == {True}
    assert election.deadline == 4.0 + 1.5


@pytest.mark.parametrize("ids", ["ab", "abx"])
def test_whoever_has_no_vote_does_not_take_over(ids):
    """An observer knows that there is no leader, and waits."""
    election = old_member("o", membership=members(3, 1, ids, observers="o"))
    election.receive(heartbeat(election, "a"), 2.0)
    election.receive(PeerDown("a"), 2.25)
    assert (election.leader_id, election.deadline) == (None, NEVER)


def test_whoever_cannot_know_how_it_voted_does_not_take_over():
    """A candidacy is a vote."""
    election = new_member("b", draw=0.0)
    election.receive(heartbeat(election, "a", term=3, membership=members(3, 1)), 0.25)
    election.receive(PeerDown("a"), 0.5)
    assert (election.role, election.current_term, election.voted_for) == (Role.FOLLOWER, 3, None)
    assert not sent(election.timeout(election.deadline), RequestVote)
    assert (election.current_term, election.voted_for) == (3, None)


@pytest.mark.parametrize("ids", ["abc", "abcde"])
def test_a_dead_leader_is_replaced_at_once(ids):
    """No time passes at all, and nobody collides."""
    cluster = Cluster(ids)
    cluster.run_until(5.0625)
    del cluster.elections["a"]
    for survivor_id in ids[1:]:
        cluster.tell(survivor_id, PeerDown("a"))
    cluster.settle()
    assert cluster.leases == ["b"]
    assert cluster.winners == {1: {"a"}, 2: {"b"}}


# --- The transport has reached a member ------------------------------------------------------------------------------


def founder(node_id="a", reached="bc", now=1.0, **settings):
    """A member whose disk says that it never voted, and that reaches others now."""
    election = new_member(node_id, **{"keeps_votes": True, **settings})
    for other in reached:
        election.receive(PeerUp(other), now)
    return election


@pytest.mark.parametrize(("node_id", "place"), [("a", 0), ("b", 1), ("c", 2)])
def test_a_first_election_begins_when_all_are_reached(node_id, place):
    """Nobody can have been heard before, so there is no silence to wait for; one begins after the other."""
    others = "abc".replace(node_id, "")
    assert founder(node_id, others).deadline == 1.0 + place * TAKEOVER_STEP


@pytest.mark.parametrize(
    ("reached", "settings"), [("b", {}), ("bx", {}), ("bc", {"keeps_votes": False}), ("bc", {"min_nodes": 5})]
)
def test_a_first_election_begins_with_the_usual_timeout_where_anything_is_missing(reached, settings):
    """A member, or the certainty that this one has promised nobody anything."""
    assert founder("a", reached, **settings).deadline >= 1.5


def test_a_member_that_has_voted_waits_as_always():
    """It may have answered a leader just before."""
    election = old_member("a", term=3, keeps_votes=True)
    for other in "bc":
        election.receive(PeerUp(other), 0.25)
    assert election.deadline >= 1.5


def test_before_a_hurried_election_all_must_agree():
    """One may have forgotten, with its process, what it has promised a moment ago to the one that says no."""
    election = founder()
    ready = election.timeout(1.0)
    assert {request.pre_vote for request in sent(ready, RequestVote).values()} == {True}
    election.receive(vote(election, "b", pre_vote=True), 1.0)
    assert election.role is Role.PRE_CANDIDATE
    election.receive(vote(election, "c", pre_vote=True), 1.0)
    assert (election.role, election.current_term) == (Role.CANDIDATE, 1)
    election.receive(vote(election, "c"), 1.0)
    assert election.role is Role.LEADER


@pytest.mark.parametrize("every", [0.01, 0.3, 0.9, 100.0])
def test_where_one_does_not_agree_a_majority_is_enough_after_the_usual_timeout(every):
    """As if nobody had hurried, however often that one is reached anew, as where its program ends again and again."""
    election = new_member("a", keeps_votes=True)
    due, next_up = election.deadline, 1.0
    election.receive(PeerUp("b"), 1.0)
    now, attempts = 1.0, 0
    while election.role is not Role.CANDIDATE:
        now = min(election.deadline, next_up)
        if now == next_up:
            election.receive(PeerUp("c"), now)
            next_up += every
        else:
            attempts += 1
            election.timeout(now)
            election.receive(vote(election, "b", pre_vote=True), now)
        assert now <= due
    assert (now, election.current_term) == (due, 1)
    assert attempts > 1


def test_hurry_delays_nobody():
    """Where a round trip is long, the turn of the last may come after its usual timeout."""
    election = new_member("i", ids="abcdefghi", keeps_votes=True, draw=0.0)
    due = election.deadline
    for other in "abcdefgh":
        election.receive(PeerUp(other, round_trip=0.5), 0.75)
    assert election.deadline == due


def test_a_takeover_gives_the_others_time_to_vote_though_the_first_election_was_hurried():
    """Else the candidacy would be over as soon as it begins, and no attempt after it goes without a pre-vote."""
    election = founder()
    election.timeout(1.0)
    election.receive(heartbeat(election, "c"), 1.0)
    election.receive(PeerDown("c"), 2.0)
    assert election.role is Role.CANDIDATE
    assert election.deadline > 2.0


def test_who_has_voted_in_the_first_election_does_not_abstain_though_its_term_is_over():
    """The first leader died before all had its membership: the survivors have voted since, and know for whom."""
    election = new_member("c")
    assert only(election.receive(request_vote(election, "a", term=1), 0.0)).vote_granted
    election.receive(heartbeat(election, "a", term=1), 0.0)
    election.receive(PeerDown("a"), 0.0)
    election.timeout(election.deadline)
    assert (election.role, election.current_term, election.membership.term) == (Role.CANDIDATE, 2, 0)
    election.receive(vote(election, "b", vote_granted=False, membership=members(1, 1)), 0.0)
    assert only(election.receive(request_vote(election, "b", term=3), 0.0)).vote_granted


def test_a_leader_greets_whoever_is_reached():
    """A member that has just come back need not wait for the next heartbeat; nobody else is told anything."""
    election = new_member("a")
    lead(election)
    greeting = election.receive(PeerUp("c"), 2.03125)
    assert sent(greeting, Heartbeat).keys() == {"c"}
    assert election.receive(PeerUp("stranger"), 2.03125).outbox == ()


@pytest.mark.parametrize("ids", ["abc", "abcde"])
def test_a_cluster_that_is_all_there_elects_at_once(ids):
    """No time passes at all, and nobody collides."""
    cluster = Cluster(ids, keeps_votes=True)
    for node_id in ids:
        for other in set(ids) - {node_id}:
            cluster.tell(node_id, PeerUp(other))
    cluster.settle()
    assert cluster.leases == ["a"]
    assert (cluster.now, cluster.winners) == (0.0, {1: {"a"}})


# --- Leadership begins with the first answered round (6.4) ----------------------------------------------------------


def test_leadership_begins_when_a_quorum_has_answered_the_first_round():
    """6.4: votes are no lease; until then a leader cannot know that it has not been replaced already."""
    election = new_member("a", "abcde")
    ready = become_leader(election)
    assert events(ready, LeaderChanged) == []
    assert election.lease_expires_at is None
    heartbeats = sent(ready, Heartbeat)
    assert election.receive(answer(heartbeats["b"], "b"), 2.0).events == ()
    assert election.receive(answer(heartbeats["c"], "c"), 2.0).events == (LeaderChanged("a", 1),)
    assert election.receive(answer(heartbeats["d"], "d"), 2.0).events == ()


def test_a_cluster_of_one_voter_leads_at_once():
    """Its own vote and its own promise are the quorum."""
    cluster = Cluster("a", min_nodes=1)
    assert cluster.leases == ["a"]
    assert cluster.events["a"] == [LeaderChanged("a", 1)]
    cluster.run_until(10.0)
    assert cluster.winners == {1: {"a"}}
    cluster.start("a", min_nodes=1)
    assert cluster.winners == {1: {"a"}, 2: {"a"}}


def test_a_cluster_of_one_voter_that_was_suspended_leads_again():
    """Its lease has run out meanwhile; nobody else can have led, but its program was told so."""
    cluster = Cluster("a", min_nodes=1)
    cluster.now = 10.0
    cluster.settle()
    assert cluster.leases == []
    cluster.run_until(12.0)
    assert cluster.leases == ["a"]
    assert cluster.events["a"] == [LeaderChanged("a", 1), LeaderChanged(None, 1), LeaderChanged("a", 2)]


def test_one_voter_with_observers_leads_at_once():
    """Observers do not count in a quorum."""
    election = old_member("a", membership=members(3, 1, "a", observers="x"))
    assert (election.role, election.current_term) == (Role.LEADER, 4)


# --- Lease and check-quorum (6.2, 6.4) -----------------------------------------------------------------------------


def test_the_lease_counts_from_when_the_round_was_sent():
    """6.4.1, Figure 6.3: "start + election timeout / clock drift bound, since the followers shouldn't time out before
    then."
    """
    election = new_member("a")
    ready = become_leader(election, now=2.0)
    election.receive(answer(sent(ready, Heartbeat)["b"], "b"), 2.5)
    assert election.lease_expires_at == 2.0 + LEASE


def test_each_answered_round_prolongs_the_lease():
    """6.4.1: "Once the leader's heartbeats were acknowledged by a majority of the cluster" it "could extend its lease
    accordingly."
    """
    election = new_member("a")
    lead(election)
    for number in range(1, 30):
        now = 2.0 + 0.125 * number
        beat(election, now)
        assert election.lease_expires_at == now + LEASE


def test_a_late_answer_counts_for_the_round_it_answers():
    """6.4.1: a promise made before the round was sent again is worth no more than it was then."""
    election = new_member("a")
    first = sent(become_leader(election), Heartbeat)
    election.timeout(2.125)
    election.receive(answer(first["b"], "b"), 2.5)
    assert election.lease_expires_at == 2.0 + LEASE


def test_an_answer_that_overtook_another_still_counts():
    """Messages may arrive out of order: an older one takes nothing away."""
    election = new_member("a")
    first = sent(become_leader(election), Heartbeat)
    second = sent(election.timeout(2.125), Heartbeat)
    election.receive(answer(second["b"], "b"), 2.25)
    election.receive(answer(first["b"], "b"), 2.25)
    assert election.lease_expires_at == 2.125 + LEASE


def test_an_answer_to_a_round_that_was_never_sent_counts_for_nothing():
    """The lease is counted from a time of sending, and there is none."""
    election = new_member("a")
    ready = become_leader(election)
    election.receive(answer(sent(ready, Heartbeat)["b"], "b", round=99), 2.0)
    assert election.lease_expires_at is None


def test_a_first_answer_that_comes_too_late_begins_no_leadership():
    """6.4: what it promised is over when it arrives."""
    election = new_member("a")
    ready = become_leader(election)
    late = election.receive(answer(sent(ready, Heartbeat)["b"], "b"), 2.0 + LEASE)
    assert late.events == ()


def test_an_answer_of_an_earlier_term_counts_for_nothing():
    """6.4.1: it was given to an earlier leader."""
    election = old_member("a", term=3)
    ready = become_leader(election)
    election.receive(answer(sent(ready, Heartbeat)["b"], "b", term=3), 2.0)
    assert election.lease_expires_at is None


def test_the_lease_needs_a_quorum_of_voters():
    """6.4.1: "acknowledged by a majority of the cluster", in which observers have no part."""
    membership = members(3, 1, "abcd", observers="xy")
    election = old_member("a", membership=membership)
    heartbeats = sent(become_leader(election), Heartbeat)
    for member in "bxy":
        election.receive(answer(heartbeats[member], member), 2.0)
        assert election.lease_expires_at is None
    election.receive(answer(heartbeats["c"], "c"), 2.0)
    assert election.lease_expires_at == 2.0 + LEASE


def test_a_quorum_may_be_spread_over_several_rounds():
    """6.4.1: what counts is that a majority keeps its promise, whichever round each of it answered last."""
    election = new_member("a", "abcde")
    first = sent(become_leader(election), Heartbeat)
    election.receive(answer(first["b"], "b"), 2.0)
    second = sent(election.timeout(2.125), Heartbeat)
    election.receive(answer(second["c"], "c"), 2.125)
    assert election.lease_expires_at == 2.0 + LEASE
    election.receive(answer(second["d"], "d"), 2.125)
    assert election.lease_expires_at == 2.125 + LEASE


def test_the_smallest_promise_of_the_quorum_decides():
    """Members with other settings, as during a rolling upgrade, cannot break the lease."""
    election = new_member("a", "abcde")
    heartbeats = sent(become_leader(election), Heartbeat)
    election.receive(answer(heartbeats["b"], "b", promise=8.0), 2.0)
    election.receive(answer(heartbeats["c"], "c", promise=0.5), 2.0)
    assert election.lease_expires_at == 2.0 + 0.5 * LEASE
    election.receive(answer(heartbeats["d"], "d", promise=4.0), 2.0)
    assert election.lease_expires_at == 2.0 + LEASE


def test_the_lease_is_shortened_by_the_clock_drift():
    """6.4.1: "The lease approach assumes a bound on clock drift across servers" """
    election = new_member("a", timing=Timing(0.125, 1.0, clock_drift=0.25))
    lead(election)
    assert election.lease_expires_at == 2.75


def test_a_leader_steps_down_when_its_lease_runs_out():
    """6.2: "a leader in Raft steps down if an election timeout elapses without a successful round of heartbeats to a
    majority of its cluster"
    """
    election = new_member("a", draw=0.5)
    lead(election)
    for now in (2.25, 2.5, 2.75):
        assert sent(election.timeout(now), Heartbeat)
    assert election.deadline == 2.875
    election.timeout(2.875)
    assert election.deadline == 2.0 + LEASE
    ready = election.timeout(2.0 + LEASE)
    assert (election.role, election.leader_id, election.current_term) == (Role.FOLLOWER, None, 1)
    assert ready.events == (LeaderChanged(None, 1),)
    assert ready.outbox == ()
    assert election.deadline == 2.0 + LEASE + 1.5


def test_a_leader_finds_out_by_whatever_comes_first():
    """6.4: woken after a pause, it steps down before it looks at what has arrived meanwhile."""
    election = new_member("a")
    heartbeats = sent(lead(election), Heartbeat)
    election.receive(answer(heartbeats["b"], "b"), 2.0 + LEASE)
    assert (election.role, election.lease_expires_at) == (Role.FOLLOWER, None)


def test_a_leader_that_nobody_ever_answered_steps_down():
    """6.2: it gets one election timeout to earn its first lease."""
    election = new_member("a")
    become_leader(election)
    for number in range(1, 8):
        election.timeout(2.0 + 0.125 * number)
        assert election.role is Role.LEADER
    ready = election.timeout(3.0)
    assert election.role is Role.FOLLOWER
    assert ready.events == ()


def test_no_vote_is_given_away_before_the_lease_has_run_out():
    """6.4: up to that instant the leader keeps its vote, from then on it gives it."""
    election = new_member("a")
    lead(election)
    request = request_vote(election, "b", term=2)
    assert not only(election.receive(request, 2.0 + LEASE - 2**-10)).vote_granted
    assert only(election.receive(request, 2.0 + LEASE)).vote_granted


def test_the_cut_off_leader_gives_up_before_another_can_lead():
    """6.4.1: that is what a lease is for."""
    cluster = Cluster("abcde")
    cluster.run_until(5.0)
    cluster.cut = {"a"}
    step_until(cluster, lambda: cluster.leases == [])
    step_until(cluster, lambda: cluster.leases == ["b"])
    assert cluster.now <= 5.0 + 2.0


def test_a_cluster_without_a_majority_has_no_leader():
    """6.2: a leader that reaches only a minority lets go, and nobody else can win."""
    cluster = Cluster("abcde")
    cluster.run_until(5.0)
    cluster.cut = {"a", "b", "c"}
    cluster.run_until(20.0)
    assert cluster.leases == []
    assert set(cluster.winners) == {1}


# --- Is it still the leader? (6.4) ---------------------------------------------------------------------------------


def test_a_leader_is_confirmed_by_a_majority_that_answers_a_round_sent_after_the_question():
    """6.4: "It issues a new round of heartbeats and waits for their acknowledgments from a majority of the cluster.
    Once these acknowledgments are received, the leader knows that there could not have existed a leader for a greater
    term at the moment it sent the heartbeats."
    """
    election = new_member("a", "abcde")
    lead(election)
    earlier = sent(election.timeout(2.125), Heartbeat)
    asked = election.receive(ConfirmLeadership(), 2.25)
    assert (asked.events, election.deadline) == ((), 2.25)
    later = sent(election.timeout(2.25), Heartbeat)
    for member in "bcde":
        assert not events(election.receive(answer(earlier[member], member), 2.25), LeadershipConfirmed)
    assert not events(election.receive(answer(later["b"], "b"), 2.25), LeadershipConfirmed)
    confirmed = events(election.receive(answer(later["c"], "c"), 2.25), LeadershipConfirmed)
    assert confirmed == [LeadershipConfirmed(1)]
    assert not events(election.receive(answer(later["d"], "d"), 2.25), LeadershipConfirmed)


def test_questions_that_come_together_share_a_round():
    election = new_member("a")
    lead(election)
    first, second = ConfirmLeadership(), ConfirmLeadership()
    election.receive(first, 2.0625)
    election.receive(second, 2.0625)
    ready = election.timeout(2.0625)
    assert len(sent(ready, Heartbeat)) == 2
    confirmed = events(election.receive(answer(sent(ready, Heartbeat)["b"], "b"), 2.0625), LeadershipConfirmed)
    assert [id(event.control_message) for event in confirmed] == [id(first), id(second)]
    assert election.deadline == 2.0625 + TIMING.heartbeat_interval


def test_a_question_in_the_first_round_does_not_keep_the_membership_from_being_stamped():
    election = new_member("a")
    answer_all(election, become_leader(election), 2.0)
    election.receive(ConfirmLeadership(), 2.0)
    ready = election.timeout(2.0)
    assert ready.saved.membership.term == 1
    assert all(message.membership for message in sent(ready, Heartbeat).values())


def test_a_member_alone_confirms_itself():
    election = Election("a", timing=TIMING, min_nodes=1)
    election.start(0.0)
    election.receive(ConfirmLeadership(), 0.0)
    assert events(election.timeout(0.0), LeadershipConfirmed) == [LeadershipConfirmed(1)]


@pytest.mark.parametrize("begin", [lambda election: None, become_leader])
def test_nobody_confirms_a_leadership_that_is_not_there(begin):
    """Neither a follower's, nor one that no round has earned a lease for yet."""
    election = new_member("a")
    begin(election)
    refused = events(election.receive(ConfirmLeadership(), 2.0), ChangeRefused)
    assert refused == [ChangeRefused(ConfirmLeadership(), "a does not lead")]


def test_a_leader_that_is_superseded_is_not_confirmed():
    election = new_member("a")
    lead(election)
    election.receive(ConfirmLeadership(), 2.125)
    heartbeats = sent(election.timeout(2.125), Heartbeat)
    ready = election.receive(answer(heartbeats["b"], "b", term=2), 2.125)
    assert events(ready, ChangeRefused) == [ChangeRefused(ConfirmLeadership(), "a has ceased to lead")]
    assert not events(election.receive(answer(heartbeats["c"], "c"), 2.125), LeadershipConfirmed)


# --- Votes that may be forgotten -----------------------------------------------------------------------------------


@pytest.mark.parametrize("pre_vote", [False, True])
def test_a_voter_that_cannot_know_its_votes_abstains_in_an_established_cluster(pre_vote):
    """It may have voted before it lost its disk: an earlier election must be over before it votes again."""
    election = new_member("c")
    request = request_vote(election, "a", term=5, membership_version=(4, 1), pre_vote=pre_vote)
    response = only(election.receive(request, 1.9375))
    assert not response.vote_granted
    assert "abstains" in response.reason
    assert only(election.receive(request, 2.0)).vote_granted


def test_in_a_first_election_it_votes_at_once():
    """Candidate and voter both hold a membership of term 0: nobody has been elected yet."""
    election = new_member("c")
    assert only(election.receive(request_vote(election, "a", term=1), 0.0)).vote_granted


@pytest.mark.parametrize(("leader", "term"), [("a", 1), ("b", 2)])
def test_whoever_voted_by_the_term_of_the_first_leader_abstains_no_longer(leader, term):
    """It knows all its votes: there was no election before the first. Whom it voted for may have been overtaken."""
    election = new_member("c")
    election.receive(request_vote(election, "a", term=1), 0.25)
    election.receive(heartbeat(election, leader, term=term, membership=members(term, 1)), 0.25)
    assert only(election.receive(request_vote(election, "a", term=term + 1), 1.25)).vote_granted


def test_the_first_leader_itself_does_not_abstain():
    """It has voted in that election, too."""
    election = new_member("a", draw=0.0)
    lead(election, now=1.0)
    assert election.membership.term == 1
    assert only(election.receive(request_vote(election, "b", term=2), 1.0 + LEASE)).vote_granted


def test_whoever_voted_for_the_first_leader_need_not_have_heard_that_it_led():
    """It was killed at once; the candidate that takes over knows more of its reign."""
    election = new_member("c")
    election.receive(request_vote(election, "a", term=1), 0.25)
    assert only(election.receive(request_vote(election, "b", term=2, membership_version=(1, 1)), 0.25)).vote_granted


def test_whoever_voted_in_a_later_election_than_the_first_goes_on_abstaining():
    """It learns that there was a leader before: of that election it may have lost its vote."""
    election = new_member("c")
    election.receive(request_vote(election, "b", term=2), 0.25)
    election.receive(vote(election, "a", vote_granted=False, membership=members(1, 1)), 0.25)
    election.receive(heartbeat(election, "b", term=2, membership=members(2, 1)), 0.25)
    assert election.membership == members(2, 1)
    assert "abstains" in only(election.receive(request_vote(election, "b", term=3), 1.9375)).reason


def test_a_voter_that_remembers_does_not_abstain():
    """Its votes are on stable storage; the promise of one election timeout is all it has to wait for."""
    election = old_member("c")
    assert only(election.receive(request_vote(election, "a"), 1.0)).vote_granted


@pytest.mark.parametrize("message", [None, TimeoutNow(3, "a")])
def test_whoever_abstains_does_not_vote_for_itself_either(message):
    """A candidacy is a vote."""
    election = new_member("c", draw=0.0)
    election.receive(heartbeat(election, "a", term=3, membership=members(3, 1)), 0.25)
    ready = election.receive(message, 1.5) if message else election.timeout(1.5)
    assert not sent(ready, RequestVote)
    assert (election.role, election.current_term, election.voted_for) == (Role.FOLLOWER, 3, None)
    assert sorted(sent(election.timeout(2.5), RequestVote)) == ["a", "b"]


# --- Leadership transfer (3.10) ------------------------------------------------------------------------------------


def test_a_leader_hands_over_to_the_voter_heard_from_last():
    """3.10: "The prior leader sends a TimeoutNow request to the target server." """
    election = new_member("a")
    ready = become_leader(election)
    answer_all(election, ready, 2.0)
    second = sent(election.timeout(2.125), Heartbeat)
    election.receive(answer(second["c"], "c"), 2.125)
    ready = election.receive(TransferLeadership(), 2.25)
    assert ready.outbox == (("c", TimeoutNow(1, "a")),)


def test_a_leader_gives_up_its_lease_and_its_role_before_it_hands_over():
    """6.4.1: "a leader would need to expire its lease before transferring leadership." """
    election = new_member("a")
    lead(election)
    ready = election.receive(TransferLeadership("b"), 2.25)
    assert ready.outbox == (("b", TimeoutNow(1, "a")),)
    assert ready.events == (LeaderChanged(None, 1),)
    assert (election.role, election.lease_expires_at) == (Role.FOLLOWER, None)
    assert election.deadline == 2.25 + 1.5


def test_a_leader_brings_its_successor_up_to_date():
    """3.10: "The prior leader fully updates the target server's log"; the membership is what voters compare here."""
    election = new_member("a")
    lead(election)
    heartbeats = sent(election.receive(AddNode(NodeInfo("o", voter=False)), 2.0), Heartbeat)
    election.receive(answer(heartbeats["c"], "c"), 2.0)
    ready = election.receive(TransferLeadership("b"), 2.0)
    assert [type(message) for to, message in ready.outbox if to == "b"] == [Heartbeat, TimeoutNow]
    assert sent(ready, Heartbeat)["b"].membership == election.membership


@pytest.mark.parametrize("to", ["a", "x", "o"])
def test_a_leader_hands_over_to_another_voter_only(to):
    """3.10: the target has to be able to win."""
    election = old_member("a", membership=members(3, 1, "abc", observers="o"))
    lead(election)
    ready = election.receive(TransferLeadership(to), 2.25)
    assert [event.control_message for event in events(ready, ChangeRefused)] == [TransferLeadership(to)]
    assert to in events(ready, ChangeRefused)[0].reason
    assert (election.role, ready.outbox) == (Role.LEADER, ())


def test_a_leader_that_heard_from_nobody_keeps_leading():
    """3.10: there is no target."""
    election = new_member("a")
    become_leader(election)
    ready = election.receive(TransferLeadership(), 2.25)
    assert len(events(ready, ChangeRefused)) == 1
    assert election.role is Role.LEADER


@pytest.mark.parametrize(
    ("ids", "settings", "reason"),
    [
        ("a", {"min_nodes": 1}, "no other voter may lead now"),
        ("ab", {"witnesses": ["b"]}, "no other voter may lead now"),
        ("abcd", {"witnesses": ["d"]}, "no answer from b, c, and no other voter may lead now"),
    ],
    ids=["alone", "with a witness", "in its first moments"],
)
def test_a_leader_without_a_successor_says_why(ids, settings, reason):
    """3.10: there is no target, and whoever asked for none in particular hears a sentence all the same."""
    election, now = new_member("a", ids, **settings), 0.25
    if election.role is not Role.LEADER:
        become_leader(election, now := 2.25)
    ready = election.receive(TransferLeadership(), now)
    assert events(ready, ChangeRefused) == [ChangeRefused(TransferLeadership(), reason)]


def test_only_a_leader_hands_over():
    """3.10: the others have nothing to hand over."""
    election = new_member("a")
    ready = election.receive(TransferLeadership("b"), 0.5)
    assert ready.events == (ChangeRefused(TransferLeadership("b"), "a does not lead and knows of nobody who does"),)
    assert ready.outbox == ()


def test_the_target_starts_an_election_at_once():
    """3.10: "This request has the same effect as the target server's election timer firing", without a pre-vote."""
    election = old_member("b", term=3)
    election.receive(heartbeat(election, "a"), 2.0)
    ready = election.receive(TimeoutNow(3, "a"), 2.0)
    request = RequestVote(4, "b", (3, 1), ("a", "b", "c"), transfer=True)
    assert ready.outbox == (("a", request), ("c", request))
    assert ready.saved == Saved(4, "b", members(3, 1))
    assert (election.role, election.deadline) == (Role.CANDIDATE, 3.5)


def test_a_target_that_has_missed_a_term_campaigns_for_the_one_after_the_leaders():
    """3.10: the term of the request is that of the leader that gave it up."""
    election = old_member("b", term=3, voted_for="c")
    ready = election.receive(TimeoutNow(7, "a"), 2.0)
    assert ready.saved == Saved(8, "b", members(3, 1))


def test_a_leader_that_has_missed_a_term_takes_over_as_well():
    """3.10: its own leadership is over; only two leaders of one term would be rivals."""
    election = new_member("a")
    lead(election)
    ready = election.receive(TimeoutNow(2, "b"), 2.0)
    assert ready.saved == Saved(3, "a", members(1, 1))
    assert election.role is Role.CANDIDATE


def test_a_stale_or_strange_handover_is_ignored():
    """3.10: only the leader of the current term can give up its lease for this election."""
    election = old_member("b", term=3, membership=members(3, 1, "abc", observers="o"))
    for request in (TimeoutNow(2, "a"), TimeoutNow(3, "x"), TimeoutNow(3, "o")):
        assert election.receive(request, 2.0).outbox == ()
    assert (election.role, election.current_term) == (Role.FOLLOWER, 3)


def test_a_handover_that_arrives_twice_starts_one_election():
    """3.10: the second is of an earlier term already."""
    election = old_member("b", term=3)
    election.receive(TimeoutNow(3, "a"), 2.0)
    assert election.receive(TimeoutNow(3, "a"), 2.0).outbox == ()
    assert election.current_term == 4


def test_an_observer_does_not_take_over():
    """It never campaigns; it hands back, once, and the former leader need not wait for an election timeout."""
    election = old_member("o", membership=members(3, 1, "abc", observers="o"))
    assert election.receive(TimeoutNow(3, "a"), 2.0).outbox == (("a", TimeoutNow(3, "o")),)
    assert election.receive(TimeoutNow(3, "a"), 2.0).outbox == ()
    assert election.role is Role.FOLLOWER


def handed_over(request=None, now=2.25):
    """A leader of a, b and c that has just handed over to b."""
    election = new_member("a")
    lead(election)
    ready = election.receive(request or TransferLeadership("b"), now)
    assert sent(ready, TimeoutNow) == {"b": TimeoutNow(1, "a")}
    return election


def test_a_leader_whose_successor_declines_campaigns_itself_at_once():
    """3.10: only the target was told to campaign; nobody else can be doing so on the leader's word."""
    election = handed_over()
    ready = election.receive(TimeoutNow(1, "b"), 2.25)
    refused = events(ready, ChangeRefused)
    reason = "b may not campaign: it has no vote, never leads, abstains or has resigned"
    assert refused == [ChangeRefused(TransferLeadership("b"), reason)]
    assert all(request.transfer and request.term == 2 for request in sent(ready, RequestVote).values())
    assert sorted(sent(ready, RequestVote)) == ["b", "c"]


def test_a_successor_that_declined_is_not_chosen_for_a_while():
    """It would decline again. Whoever names it may still try."""
    election = handed_over()
    election.receive(TimeoutNow(1, "b"), 2.25)
    ready = election.receive(vote(election, "c"), 2.25)
    answer_all(election, ready, 2.25)
    assert sorted(sent(election.receive(TransferLeadership(), 2.25), TimeoutNow)) == ["c"]


@pytest.mark.parametrize("message", [TimeoutNow(0, "b"), TimeoutNow(1, "x"), RequestVoteResponse(1, "b", False)])
def test_only_what_was_handed_over_is_handed_back(message):
    """A late refusal of an earlier vote is something else."""
    election = handed_over()
    assert not sent(election.receive(message, 2.25), RequestVote)
    assert election.role is Role.FOLLOWER


def test_a_decline_that_arrives_twice_starts_one_election():
    """The second is of an earlier term already."""
    election = handed_over()
    election.receive(TimeoutNow(1, "b"), 2.25)
    assert election.receive(TimeoutNow(1, "b"), 2.25).outbox == ()
    assert election.current_term == 2


def test_whoever_resigned_does_not_campaign_when_its_successor_declines():
    """It has been asked to let the others lead."""
    election = handed_over(Resign())
    assert election.receive(TimeoutNow(1, "b"), 2.25).outbox == ()
    assert election.deadline >= 2.25 + 2 * TIMING.election_timeout


def test_a_newcomer_that_is_named_declines_and_the_leader_leads_on():
    """It joined without saved votes, and abstains for two election timeouts."""
    cluster = Cluster("abc")
    cluster.run_until(5.0625)
    cluster.start("d")
    cluster.tell("a", AddNode("d"))
    cluster.tell("a", TransferLeadership("d"))
    assert cluster.leases == ["a"]
    assert cluster.winners == {1: {"a"}, 2: {"a"}}
    cluster.run_until(8.0)
    cluster.tell("a", TransferLeadership("d"))
    assert cluster.leases == ["d"]


def test_a_handover_takes_no_time():
    """3.10: nobody waits for an election timeout, and there is one lease at a time."""
    cluster = Cluster("abc")
    cluster.run_until(5.0625)
    cluster.tell("a", TransferLeadership("c"))
    assert cluster.leases == ["c"]
    assert cluster.winners == {1: {"a"}, 2: {"c"}}
    assert cluster.elections["a"].leader_id == "c"
    cluster.run_until(20.0)
    assert cluster.leases == ["c"]


def test_a_handover_that_fails_costs_an_election_and_no_more():
    """3.10: the target may be gone; the others time out as usual, the former leader among them."""
    cluster = Cluster("abc")
    cluster.run_until(5.0625)
    cluster.cut = {"c"}
    cluster.tell("a", TransferLeadership("c"))
    assert cluster.leases == []
    cluster.run_until(7.5)
    assert cluster.leases == ["a"]


def test_a_leader_that_stops_hands_over_first():
    """3.10: "When it steps down, the cluster will be idle for an election timeout" - unless it hands over."""
    cluster = Cluster("abc")
    cluster.run_until(5.0625)
    cluster.tell("a", Stop())
    assert cluster.elections["a"].role is Role.STOPPED
    assert cluster.events["a"][-1] == LeaderChanged(None, 1)
    assert len(cluster.leases) == 1
    assert cluster.leases != ["a"]


def test_a_leader_that_nobody_answered_just_stops():
    """There is no target."""
    election = new_member("a")
    become_leader(election)
    ready = election.receive(Stop(), 2.0)
    assert (ready.outbox, ready.events) == ((), ())
    assert election.role is Role.STOPPED


def test_a_follower_that_stops_says_nothing_to_the_others():
    """It owes them nothing; its own program hears that it follows nobody any more."""
    election = new_member("b")
    election.receive(heartbeat(election, "a"), 0.5)
    ready = election.receive(Stop(), 0.5)
    assert ready.outbox == ()
    assert ready.events == (LeaderChanged(None, 1),)


def test_a_leader_that_resigns_lets_the_others_campaign_first():
    """It hands over like one that stops, but stays."""
    election = new_member("a", draw=0.0)
    lead(election)
    ready = election.receive(Resign(), 2.25)
    assert ready.outbox[0][1] == TimeoutNow(1, "a")
    assert election.role is Role.FOLLOWER
    assert election.deadline >= 2.25 + 2 * TIMING.election_timeout


def test_a_leader_does_not_hand_over_to_a_voter_that_does_not_answer():
    """3.10: the cluster would be without a leader for an election timeout, for nothing."""
    cluster = Cluster("abc")
    cluster.run_until(5.0625)
    cluster.cut = {"c"}
    cluster.run_until(7.0)
    cluster.tell("a", TransferLeadership("c"))
    assert cluster.events["a"][-1] == ChangeRefused(TransferLeadership("c"), "c does not answer")
    assert cluster.leases == ["a"]
    cluster.tell("a", TransferLeadership())
    assert cluster.leases == ["b"]


def leader_that_waits_for_c():
    """It has its lease by the answer of b, and was asked to hand over to c."""
    election = new_member("a", draw=0.0)
    first_round = sent(become_leader(election), Heartbeat)
    election.receive(answer(first_round["b"], "b"), 2.0)
    ready = election.receive(TransferLeadership("c"), 2.0)
    assert (election.role, ready.events, ready.outbox) == (Role.LEADER, (), ())
    return election, first_round


def test_a_transfer_in_the_first_moments_of_a_reign_waits_for_the_successor_to_answer():
    """Who is slow looks like who is down until then: the lease was earned without it."""
    election, first_round = leader_that_waits_for_c()
    ready = election.receive(answer(first_round["c"], "c"), 2.125)
    assert ready.outbox[-1] == ("c", TimeoutNow(1, "a"))
    assert election.role is Role.FOLLOWER


def test_a_transfer_that_waits_is_refused_when_the_successor_has_been_silent_for_an_election_timeout():
    """The leader leads on."""
    election, _ = leader_that_waits_for_c()
    refused = []
    while not refused:
        now = election.deadline
        ready = election.timeout(now)
        refused = events(ready, ChangeRefused)
        election.receive(answer(sent(ready, Heartbeat)["b"], "b"), now)
    assert refused == [ChangeRefused(TransferLeadership("c"), "c does not answer")]
    assert 3.0 <= now < 3.0 + 2 * TIMING.heartbeat_interval
    assert election.role is Role.LEADER


def test_a_transfer_that_waits_is_refused_when_the_leader_ceases_to_be_one():
    """Every request is answered, also where it has come to nothing."""
    election, _ = leader_that_waits_for_c()
    ready = election.receive(heartbeat(election, "b", term=2), 2.125)
    assert ChangeRefused(TransferLeadership("c"), "a has ceased to lead") in ready.events


def test_leaders_that_resign_one_after_the_other_do_so_at_the_pace_of_elections():
    """Their callbacks may all fail for the same reason: whoever has resigned is not made leader again at once."""
    cluster = Cluster("abc")
    for moment in range(1, 200):
        cluster.run_until(moment / 8)
        for leader in cluster.leases:
            cluster.tell(leader, Resign())
    assert 5 <= max(cluster.winners) <= 25


def test_whoever_has_resigned_hands_back_for_a_while():
    """It was asked to let the others lead; afterwards it takes over again."""
    election = handed_over(Resign())
    election.receive(heartbeat(election, "b", term=2), 2.25)
    assert election.receive(TimeoutNow(2, "b"), 2.5).outbox == (("b", TimeoutNow(2, "a")),)
    election.receive(heartbeat(election, "b", term=3), 4.0)
    assert sent(election.receive(TimeoutNow(3, "b"), 4.25), RequestVote)


def test_only_a_leader_resigns():
    """The others have nothing to give up."""
    ready = new_member("a").receive(Resign(), 0.5)
    assert ready.events == (ChangeRefused(Resign(), "a does not lead"),)


def test_a_grant_that_is_over_is_not_resigned_for_the_next_one():
    """Whoever held it may say so late, when this member leads again."""
    election = new_member("a")
    lead(election)
    ready = election.receive(Resign(term=7), 2.0)
    assert ready.events == (ChangeRefused(Resign(term=7), "a does not lead in term 7"),)
    assert election.role is Role.LEADER
    election.receive(Resign(term=1), 2.0)
    assert election.role is Role.FOLLOWER


def test_a_leader_that_is_alone_resigns_too():
    """Nobody takes over, but its program has asked for it."""
    election = new_member("a", "a", min_nodes=1)
    assert election.role is Role.LEADER
    ready = election.receive(Resign(), 0.5)
    assert ready.events == (LeaderChanged(None, 1),)
    assert (election.role, ready.outbox) == (Role.FOLLOWER, ())


# --- Witnesses ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "hear",
    [
        lambda election: election.timeout(100.0),
        lambda election: [election.receive(PeerUp(peer, 0.001), 0.25) for peer in "ab"][-1],
        lambda election: [
            election.receive(message, 0.25) for message in (heartbeat(election, "a"), PeerDown("a", 0.001))
        ][-1],
    ],
    ids=["silence", "everybody is there", "the leader is dead"],
)
def test_a_witness_never_campaigns(hear):
    """Thesis 3.1 asks of a leader that it was voted for, not that every voter wants to be one."""
    election = new_member("c", witnesses=["c"], keeps_votes=True)
    assert hear(election).outbox == ()
    assert (election.role, election.deadline) == (Role.FOLLOWER, NEVER)


@pytest.mark.parametrize("kind", ["witness", "observer"])
def test_whoever_never_campaigns_notices_that_its_leader_is_silent(kind):
    """5.2: "If a follower receives no communication over a period of time called the election timeout, then it assumes
    there is no viable leader" - all that is left for it is to say so, once.
    """
    observer = old_member("c", membership=members(3, 1, "ab", "c"))
    election = new_member("c", witnesses=["c"]) if kind == "witness" else observer
    election.receive(heartbeat(election, "a"), 0.5)
    assert election.deadline == 2.0
    ready = election.timeout(2.0)
    assert ready.events == (LeaderChanged(None, election.current_term),)
    assert (ready.outbox, ready.saved, election.leader_id, election.deadline) == ((), None, None, NEVER)
    election.receive(heartbeat(election, "a"), 2.5)
    assert (election.leader_id, election.deadline) == ("a", 4.0)


def test_a_witness_votes_and_promises_as_every_voter():
    """5.2, and the promise behind the lease: it counts in each majority."""
    election = new_member("c", witnesses=["c"])
    assert only(election.receive(request_vote(election, "a", pre_vote=True), 0.25)).vote_granted
    assert only(election.receive(request_vote(election, "a", term=1), 0.25)).vote_granted
    assert only(election.receive(heartbeat(election, "a"), 0.5)).promise == TIMING.election_timeout
    assert not only(election.receive(request_vote(election, "b", term=2), 1.0)).vote_granted


def test_a_witness_that_is_told_to_take_over_hands_back():
    """3.10: by a leader that does not know what it is; nobody waits for an election timeout."""
    election = new_member("c", witnesses=["c"])
    election.receive(heartbeat(election, "a"), 0.5)
    assert election.receive(TimeoutNow(1, "a"), 0.5).outbox == (("a", TimeoutNow(1, "c")),)


def test_a_leader_hands_over_to_no_witness():
    """3.10: the target has to be able to win. c was heard from last."""
    election = new_member("a", witnesses=["c"])
    answer_all(election, become_leader(election), 2.0)
    second = sent(election.timeout(2.125), Heartbeat)
    election.receive(answer(second["b"], "b"), 2.125)
    election.receive(answer(second["c"], "c"), 2.25)
    ready = election.receive(TransferLeadership("c"), 2.25)
    reason = "c is a witness, which votes and never leads"
    assert ready.events == (ChangeRefused(TransferLeadership("c"), reason),)
    assert election.receive(TransferLeadership(), 2.25).outbox == (("b", TimeoutNow(1, "a")),)


def test_a_takeover_loses_no_time_with_a_witness():
    """c is the voter after the dead b, and after c it is the turn of a."""
    election = new_member("a", witnesses=["c"])
    election.receive(heartbeat(election, "b"), 0.5)
    ready = election.receive(PeerDown("b", 0.0), 0.75)
    assert sorted(sent(ready, RequestVote)) == ["b", "c"]


def test_a_first_election_loses_no_time_with_a_witness():
    """The first in the order of ids would have the first turn."""
    election = new_member("b", witnesses=["a"], keeps_votes=True)
    for peer in "ac":
        election.receive(PeerUp(peer, 0.0), 0.25)
    assert election.deadline == 0.25


def test_a_leader_does_not_remove_the_last_that_could_lead_after_it():
    """No majority of witnesses elects anybody."""
    election = new_member("a", "abcd", witnesses=["c", "d"], min_nodes=2)
    lead(election)
    for message in sent(election.receive(RemoveNode("b"), 2.125), Heartbeat).values():
        for voter in "cd":
            election.receive(answer(message, voter), 2.125)
    assert sorted(election.membership.voters) == ["a", "c", "d"]
    ready = election.receive(RemoveNode("a"), 2.25)
    reason = "only witnesses would be left, which never lead: c, d"
    assert ready.events == (ChangeRefused(RemoveNode("a"), reason),)


@pytest.mark.parametrize(
    ("witnesses", "complaint"),
    [
        ("c", r"witnesses is 'c', but must be several ids, for instance \['c'\]"),
        ([""], "node id is ''"),
        (None, "witnesses is None, but must be several ids"),
        (5, "witnesses is 5, but must be several ids"),
        ((each for each in "c"), "witnesses is <generator object .*, but must be several ids"),
        (["c", "C"], r"witnesses names 'C', but the nodes given are a, b, c"),
        (["a", "b", "c"], r"witnesses is \['a', 'b', 'c'\], but then no voter of a, b, c \[0.1\] could ever lead"),
    ],
)
def test_witnesses_are_checked(witnesses, complaint):
    with pytest.raises(ConfigError, match=complaint):
        Election("a", nodes="bc", witnesses=witnesses)


def test_whoever_joins_later_may_know_the_witnesses_but_not_the_others():
    """It is given no nodes: the leader tells it who belongs."""
    assert Election("d", witnesses=["c"]).witnesses == {"c"}


def test_a_witness_may_join_later():
    """Nobody has told it of others that could lead, and it need not know them before it is let in."""
    cluster = Cluster("ab")
    cluster.run_until(5.0)
    witness = cluster.start("c", witnesses=["c"])
    cluster.run_until(20.0)
    assert (witness.role, witness.current_term) == (Role.FOLLOWER, 0)
    cluster.tell("a", AddNode("c"))
    cluster.run_until(22.0)
    del cluster.elections["a"]
    cluster.run_until(30.0)
    assert cluster.leases == ["b"]  # by its own vote and that of the witness
    assert witness.voted_for == "b"
    cluster.tell("b", TransferLeadership("c"))
    cluster.run_until(40.0)
    assert cluster.leases == ["b"]
    assert "c" not in set().union(*cluster.winners.values())
