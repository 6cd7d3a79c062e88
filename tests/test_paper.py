"""The Raft paper, sentence by sentence: what it says about electing a leader, asked of one election or of a few.

Quotations are from Ongaro and Ousterhout, "In Search of an Understandable Consensus Algorithm" (ATC 2014), with their
section. Where a sentence speaks of the log, the membership stands in its place. An RPC is a request and its response;
AppendEntries without entries is a heartbeat. What goes beyond the paper is in test_beyond_figure_2.py.
"""

from __future__ import annotations

import random

import pytest
from harness import (
    TIMING,
    Cluster,
    Draws,
    answer,
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

from raftlite.election import Election, Role, Saved
from raftlite.messages import (
    Heartbeat,
    HeartbeatResponse,
    LeaderChanged,
    RequestVote,
    RequestVoteResponse,
    Stop,
    TimeoutNow,
    TransferLeadership,
)

# --- 5.1 Raft basics -----------------------------------------------------------------------------------------------


def test_a_server_is_follower_candidate_or_leader():
    """5.1: "At any given time each server is in one of three states: leader, follower, or candidate." """
    election = new_member()
    assert election.role is Role.FOLLOWER
    become_candidate(election)
    assert election.role is Role.CANDIDATE
    election.receive(vote(election), 2.0)
    assert election.role is Role.LEADER


def test_normal_operation_has_exactly_one_leader():
    """5.1: "In normal operation there is exactly one leader and all of the other servers are followers." """
    cluster = Cluster("abcde")
    cluster.run_until(20.0)
    assert sorted(role.value for role in cluster.roles().values()) == ["follower"] * 4 + ["leader"]
    assert cluster.winners == {1: {"a"}}


def test_followers_issue_no_requests_on_their_own():
    """5.1: "Followers are passive: they issue no requests on their own but simply respond to requests from leaders and
    candidates."
    """
    election = new_member(draw=0.5)
    assert election.timeout(1.25).outbox == ()
    assert type(only(election.receive(heartbeat(election), 1.25))) is HeartbeatResponse
    assert type(only(election.receive(request_vote(election), 2.25))) is RequestVoteResponse


def test_terms_are_consecutive_integers():
    """5.1: "Terms are numbered with consecutive integers. Each term begins with an election" """
    election = new_member()
    for term in (1, 2, 3):
        ready = become_candidate(election, now=3.0 * term)
        assert {request.term for request in sent(ready, RequestVote).values()} == {term}
        assert election.current_term == term


def test_a_winner_leads_for_the_rest_of_the_term():
    """5.1: "If a candidate wins the election, then it serves as leader for the rest of the term." """
    election = new_member()
    lead(election)
    for message in (vote(election, "c"), heartbeat(election, "b"), TimeoutNow(1, "b"), vote(election, "c", term=0)):
        election.receive(message, 2.0)
        assert election.role is Role.LEADER


def test_a_split_vote_ends_the_term_without_a_leader_and_a_new_term_begins():
    """5.1: "In some situations an election will result in a split vote. In this case the term will end with no leader;
    a new term (with a new election) will begin shortly."
    """
    cluster = Cluster("abcd")
    for node_id in "ab":
        cluster.carry_out(node_id, become_candidate(cluster.elections[node_id]))
    cluster.now = 2.0
    cluster.pass_on("a", "c")
    cluster.pass_on("b", "d")
    cluster.settle()
    assert {i: e.voted_for for i, e in cluster.elections.items()} == {"a": "a", "b": "b", "c": "a", "d": "b"}
    assert cluster.winners == {}
    cluster.run_until(4.0)
    assert set(cluster.winners) == {2}


@pytest.mark.parametrize("stale", [0, 1, 2])
def test_current_term_increases_monotonically(stale):
    """5.1: "Each server stores a current term number, which increases monotonically over time." """
    for make in (request_vote, heartbeat, vote):
        election = old_member(term=3)
        election.receive(make(election, "b", term=stale), 2.0)
        assert election.current_term == 3


NEWER = {
    "RequestVote": lambda election: request_vote(election, "b", term=7),
    "RequestVoteResponse": lambda election: vote(election, "b", term=7, vote_granted=False),
    "Heartbeat": lambda election: heartbeat(election, "b", term=7),
    "HeartbeatResponse": lambda election: answer(heartbeat(election, term=7), "b"),
}


@pytest.mark.parametrize("make", NEWER.values(), ids=NEWER)
def test_a_smaller_term_is_updated_to_the_larger_value_and_saved(make):
    """5.1: "if one server's current term is smaller than the other's, then it updates its current term to the larger
    value." Figure 2: currentTerm and votedFor are "Updated on stable storage before responding to RPCs".
    """
    election = old_member(term=3)
    ready = election.receive(make(election), 2.0)
    assert election.current_term == 7
    assert ready.saved is not None and ready.saved.current_term == 7


@pytest.mark.parametrize("reach", [become_candidate, become_leader], ids=["candidate", "leader"])
@pytest.mark.parametrize("make", NEWER.values(), ids=NEWER)
def test_a_candidate_or_leader_that_is_out_of_date_reverts_to_follower(make, reach):
    """5.1: "If a candidate or leader discovers that its term is out of date, it immediately reverts to follower
    state."
    """
    election = old_member(term=3)
    reach(election)
    election.receive(make(election), 2.0)
    assert election.role is Role.FOLLOWER
    assert election.lease_expires_at is None


def test_a_vote_request_with_a_stale_term_is_rejected():
    """5.1: "If a server receives a request with a stale term number, it rejects the request." Figure 2, RequestVote:
    "Reply false if term < currentTerm"; the result's term is "currentTerm, for candidate to update itself".
    """
    election = old_member(term=3)
    ready = election.receive(request_vote(election, "b", term=2), 2.0)
    assert (only(ready).vote_granted, only(ready).term, only(ready).sender_id) == (False, 3, "a")
    assert ready.saved is None


def test_a_heartbeat_with_a_stale_term_is_rejected():
    """Figure 2, AppendEntries: "Reply false if term < currentTerm"; the result's term is "currentTerm, for leader to
    update itself". Without a field `success` the rejection is that term, and that nothing is promised.
    """
    election = old_member(term=3)
    before = election.deadline
    ready = election.receive(heartbeat(election, "b", term=2, round=9), 1.25)
    assert ready.outbox == (("b", HeartbeatResponse(3, "a", 9, (3, 1), promise=0.0)),)
    assert (election.leader_id, election.deadline) == (None, before)


# --- 5.2 Leader election -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("saved", [Saved(), Saved(5, "a", members(5, 1))], ids=["first start", "restart"])
def test_servers_start_up_as_followers(saved):
    """5.2: "When servers start up, they begin as followers." """
    election = Election("a", saved, "abc", TIMING)
    ready = election.start(0.0)
    assert election.role is Role.FOLLOWER
    assert election.leader_id is None
    assert ready.outbox == ()


def test_remains_follower_while_a_leader_is_heard():
    """5.2: "A server remains in follower state as long as it receives valid RPCs from a leader or candidate." """
    election = new_member(draw=0.0)
    for tick in range(1, 50):
        assert not sent(election.timeout(tick * 0.875), RequestVote)
        election.receive(heartbeat(election), tick * 0.875)
    assert election.role is Role.FOLLOWER


def test_remains_follower_when_it_has_voted_for_a_candidate():
    """5.2: "A server remains in follower state as long as it receives valid RPCs from a leader or candidate." """
    election = new_member(draw=0.0)
    election.receive(request_vote(election), 0.875)
    assert election.timeout(1.75).outbox == ()
    assert election.deadline == 1.875


def test_leaders_send_periodic_heartbeats_to_all_followers():
    """5.2: "Leaders send periodic heartbeats (AppendEntries RPCs that carry no log entries) to all followers in order
    to maintain their authority."
    """
    election = new_member("a", "abcde")
    lead(election)
    for number in range(1, 20):
        assert election.deadline == 2.0 + 0.125 * number
        ready = beat(election, election.deadline)
        assert sorted(sent(ready, Heartbeat)) == ["b", "c", "d", "e"]
        assert {(message.term, message.sender_id) for message in sent(ready, Heartbeat).values()} == {(1, "a")}


def test_begins_an_election_when_nothing_was_heard_for_an_election_timeout():
    """5.2: "If a follower receives no communication over a period of time called the election timeout, then it assumes
    there is no viable leader and begins an election to choose a new leader."
    """
    election = new_member(draw=0.5)
    election.receive(heartbeat(election), 1.0)
    assert election.timeout(2.25).outbox == ()
    assert sorted(sent(election.timeout(2.5), RequestVote)) == ["b", "c"]
    assert election.leader_id is None


def test_a_candidate_increments_its_term_votes_for_itself_and_asks_all_others():
    """5.2: "To begin an election, a follower increments its current term and transitions to candidate state. It then
    votes for itself and issues RequestVote RPCs in parallel to each of the other servers in the cluster."
    """
    election = old_member("b", term=3)
    ready = become_candidate(election)
    request = RequestVote(4, "b", (3, 1), ("a", "b", "c"))
    assert (election.role, election.current_term, election.voted_for) == (Role.CANDIDATE, 4, "b")
    assert ready.outbox == (("a", request), ("c", request))
    assert ready.saved == Saved(4, "b", members(3, 1))


def test_a_candidate_continues_until_it_wins():
    """5.2: "A candidate continues in this state until one of three things happens: (a) it wins the election" """
    election = new_member("a", "abcde")
    become_candidate(election)
    election.receive(vote(election, "b"), 2.0)
    election.receive(vote(election, "c", vote_granted=False), 2.0)
    assert election.role is Role.CANDIDATE
    election.receive(vote(election, "d"), 2.0)
    assert election.role is Role.LEADER


def test_a_candidate_continues_until_another_establishes_itself_as_leader():
    """5.2: "(b) another server establishes itself as leader" """
    election = new_member()
    become_candidate(election)
    election.receive(heartbeat(election, "b", term=1), 2.0)
    assert (election.role, election.leader_id) == (Role.FOLLOWER, "b")
    election.receive(vote(election, "c"), 2.0)
    assert election.role is Role.FOLLOWER


def test_a_candidate_continues_until_a_period_goes_by_with_no_winner():
    """5.2: "or (c) a period of time goes by with no winner." Figure 2, candidates: "If election timeout elapses: start
    new election"
    """
    election = new_member(draw=0.5)
    become_candidate(election)
    assert election.deadline == 3.5
    assert election.timeout(3.25).outbox == ()
    assert sorted(sent(election.timeout(3.5), RequestVote)) == ["b", "c"]
    assert election.role is not Role.CANDIDATE
    election.receive(vote(election, "b", term=1), 3.5)
    assert election.role is not Role.LEADER


@pytest.mark.parametrize(("size", "majority"), [(2, 2), (3, 2), (4, 3), (5, 3), (6, 4), (7, 4)])
def test_wins_with_votes_from_a_majority_of_the_full_cluster(size, majority):
    """5.2: "A candidate wins an election if it receives votes from a majority of the servers in the full cluster for
    the same term."
    """
    ids = "abcdefg"[:size]
    election = new_member("a", ids)
    become_candidate(election)
    for voters, voter in enumerate(ids[1:majority], start=1):
        assert (voters, election.role) == (voters, Role.CANDIDATE)
        election.receive(vote(election, voter), 2.0)
    assert election.role is Role.LEADER


def test_a_voter_counts_once_however_often_it_answers():
    """5.2: "votes from a majority of the servers", not a majority of answers."""
    election = new_member("a", "abcde")
    become_candidate(election)
    for _ in range(5):
        election.receive(vote(election, "b"), 2.0)
    election.receive(vote(election, "a"), 2.0)
    assert election.role is Role.CANDIDATE


def test_votes_of_an_earlier_term_do_not_count():
    """5.2: "for the same term" """
    election = old_member(term=3)
    become_candidate(election)
    for term in (3, 2, 0):
        election.receive(vote(election, "b", term=term), 2.0)
    assert election.role is Role.CANDIDATE


def test_votes_from_outside_the_cluster_do_not_count():
    """5.2: "of the servers in the full cluster"; one that has no vote is not one of them either."""
    election = old_member("a", membership=members(3, 1, "abc", observers="o"))
    become_candidate(election)
    for stranger in ("x", "y", "o"):
        election.receive(vote(election, stranger), 2.0)
    assert election.role is Role.CANDIDATE


def test_votes_for_one_candidate_per_term():
    """5.2: "Each server will vote for at most one candidate in a given term, on a first-come-first-served basis" """
    election = new_member("c")
    first, second = request_vote(election, "a"), request_vote(election, "b")
    assert only(election.receive(first, 0.5)).vote_granted
    refusal = only(election.receive(second, 0.5))
    assert not refusal.vote_granted
    assert "a" in refusal.reason
    assert election.voted_for == "a"


def test_a_candidate_votes_for_no_other():
    """5.2: "at most one candidate in a given term", and it has voted for itself."""
    election = new_member("a")
    become_candidate(election)
    assert not only(election.receive(request_vote(election, "b", term=1), 2.0)).vote_granted
    assert (election.role, election.voted_for) == (Role.CANDIDATE, "a")


def test_votes_anew_in_a_new_term():
    """5.2: "in a given term": the vote of an earlier term binds nobody."""
    election = new_member("c")
    election.receive(request_vote(election, "a", term=1), 0.5)
    ready = election.receive(request_vote(election, "b", term=2), 0.5)
    assert only(ready).vote_granted
    assert ready.saved == Saved(2, "b", election.membership)


@pytest.mark.parametrize("seed", range(60))
def test_at_most_one_leader_can_be_elected_in_a_given_term(seed):
    """Figure 3, Election Safety: "at most one leader can be elected in a given term." Messages are lost, doubled and
    overtake each other here, and members start again with what they saved.
    """
    rng = random.Random(seed)
    cluster = Cluster("abc")
    for _ in range(400):
        take_a_random_step(cluster, rng)
        assert all(len(winners) == 1 for winners in cluster.winners.values()), cluster.winners
        assert len(cluster.leases) <= 1, cluster.leases
    assert cluster.winners, "a run in which nobody is elected proves nothing"


def take_a_random_step(cluster, rng):
    dice = rng.random()
    node_id = rng.choice(sorted(cluster.elections))
    if dice < 0.6 and cluster.mail:
        message = cluster.mail.pop(rng.randrange(len(cluster.mail)))
        if rng.random() < 0.2:
            cluster.mail.append(message)
        if rng.random() < 0.9:
            cluster.deliver(*message)
    elif dice < 0.64:
        cluster.start(node_id, "abc", rng=rng)
    elif dice < 0.66:
        cluster.carry_out(node_id, cluster.elections[node_id].receive(TransferLeadership(), cluster.now))
    elif dice < 0.9:
        cluster.now += rng.choice((0.0, 0.0, 0.0625, 0.25))
        cluster.carry_out(node_id, cluster.elections[node_id].timeout(cluster.now))
    else:
        cluster.now = max(cluster.now, min(election.deadline for election in cluster.elections.values()))


def test_a_winner_sends_heartbeats_to_all_others():
    """5.2: "Once a candidate wins an election, it becomes leader. It then sends heartbeat messages to all of the other
    servers to establish its authority and prevent new elections." Figure 2: "Upon election: send initial empty
    AppendEntries RPCs (heartbeat) to each server"
    """
    election = new_member("a", "abcde")
    heartbeats = sent(become_leader(election), Heartbeat)
    assert sorted(heartbeats) == ["b", "c", "d", "e"]
    assert heartbeats["b"].term == 1
    assert heartbeats["b"].sender_id == "a"


@pytest.mark.parametrize("term", [4, 5, 9])
def test_a_candidate_recognizes_a_leader_of_its_term_or_a_later_one(term):
    """5.2: "If the leader's term (included in its RPC) is at least as large as the candidate's current term, then the
    candidate recognizes the leader as legitimate and returns to follower state."
    """
    election = old_member(term=3)
    become_candidate(election)
    response = only(election.receive(heartbeat(election, "c", term=term, round=2), 2.0))
    assert (election.role, election.leader_id, election.current_term) == (Role.FOLLOWER, "c", term)
    assert response == HeartbeatResponse(term, "a", 2, (3, 1), promise=1.0)


def test_a_candidate_rejects_a_leader_of_an_earlier_term():
    """5.2: "If the term in the RPC is smaller than the candidate's current term, then the candidate rejects the RPC and
    continues in candidate state."
    """
    election = old_member(term=3)
    become_candidate(election)
    response = only(election.receive(heartbeat(election, "c", term=3), 2.0))
    assert (election.role, election.leader_id) == (Role.CANDIDATE, None)
    assert (response.term, response.promise) == (4, 0.0)


def test_after_a_split_vote_each_candidate_starts_a_new_election_in_a_new_term():
    """5.2: "When this happens, each candidate will time out and start a new election by incrementing its term and
    initiating another round of RequestVote RPCs."
    """
    election = new_member("a", "abcd")
    become_candidate(election)
    election.receive(vote(election, "c"), 2.0)
    ready = become_candidate(election, now=4.0)
    assert election.current_term == 2
    assert {request.term for request in sent(ready, RequestVote).values()} == {2}


@pytest.mark.parametrize(("draw", "deadline"), [(0.0, 1.0), (0.25, 1.25), (0.75, 1.75), (1 - 2**-10, 2 - 2**-10)])
def test_election_timeouts_are_chosen_from_a_fixed_interval(draw, deadline):
    """5.2: "election timeouts are chosen randomly from a fixed interval (e.g., 150-300ms)." Here from [1.0, 2.0)."""
    assert new_member(draw=draw).deadline == deadline


def test_election_timeouts_are_chosen_randomly():
    """5.2: "Raft uses randomized election timeouts to ensure that split votes are rare" """
    deadlines = set()
    for _ in range(50):
        election = Election("a", nodes="abc", timing=TIMING)
        election.start(0.0)
        deadlines.add(election.deadline)
    assert len(deadlines) == 50
    assert all(1.0 <= deadline < 2.0 for deadline in deadlines)


def test_a_candidate_restarts_its_timeout_at_the_start_of_an_election():
    """5.2: "Each candidate restarts its randomized election timeout at the start of an election, and it waits for that
    timeout to elapse before starting the next election"
    """
    election = Election("a", nodes="abc", timing=TIMING, rng=Draws(0.5, 0.75, 0.25))
    election.start(0.0)
    election.timeout(1.5)
    assert election.deadline == 1.5 + 1.75
    election.receive(vote(election, "b", pre_vote=True), 1.625)
    assert election.role is Role.CANDIDATE
    assert election.deadline == 1.625 + 1.25


# --- Figure 2: state -----------------------------------------------------------------------------------------------


def test_terms_start_at_zero_with_no_vote():
    """Figure 2: "currentTerm: latest term server has seen (initialized to 0 on first boot, increases monotonically)",
    "votedFor: candidateId that received vote in current term (or null if none)".
    """
    election = new_member()
    assert (election.current_term, election.voted_for) == (0, None)


def test_a_vote_is_given_for_saving_together_with_the_answer():
    """Figure 2: "Persistent state on all servers: (Updated on stable storage before responding to RPCs)" """
    election = new_member("c")
    ready = election.receive(request_vote(election, "a", term=4), 0.5)
    assert only(ready).vote_granted
    assert ready.saved == Saved(4, "a", election.membership)


def test_a_vote_is_given_for_saving_even_if_the_term_is_not_new():
    """Figure 2: votedFor is persistent whether or not currentTerm changes with it."""
    election = old_member("c", term=4, voted_for=None)
    ready = election.receive(request_vote(election, "a", term=4), 2.0)
    assert only(ready).vote_granted
    assert ready.saved == Saved(4, "a", members(3, 1))


def test_a_vote_survives_a_restart():
    """Figure 2: votedFor is persistent, or a member that starts again could vote twice in a term."""
    election = old_member("c", term=4, voted_for="a")
    assert not only(election.receive(request_vote(election, "b", term=4), 2.0)).vote_granted
    assert only(election.receive(request_vote(election, "a", term=4), 2.0)).vote_granted


def test_a_steady_cluster_saves_nothing():
    """Figure 2: currentTerm and votedFor are all that is stored; heartbeats change neither."""
    leader, follower = new_member("a"), new_member("b")
    follower.receive(heartbeat(follower, "a"), 0.5)
    assert follower.receive(heartbeat(follower, "a"), 1.0).saved is None
    lead(leader)
    assert beat(leader, 2.125).saved is None


def test_what_a_leader_keeps_is_reinitialized_after_election():
    """Figure 2: "Volatile state on leaders: (Reinitialized after election)" """
    election = new_member()
    lead(election)
    election.receive(heartbeat(election, "b", term=2), 2.5)
    ready = become_leader(election, now=4.0)
    assert election.current_term == 3
    assert election.lease_expires_at is None
    assert sent(ready, Heartbeat)["b"].round == 1


# --- Figure 2: rules for servers -----------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [NEWER["Heartbeat"], NEWER["RequestVoteResponse"], NEWER["HeartbeatResponse"]])
def test_a_newer_term_makes_a_follower_that_has_not_voted(make):
    """Figure 2, all servers: "If RPC request or response contains term T > currentTerm: set currentTerm = T, convert to
    follower"; votedFor is the vote "in current term".
    """
    election = old_member(term=3, voted_for="c")
    election.receive(make(election), 2.0)
    assert (election.current_term, election.voted_for) == (7, None)


def test_a_newer_term_ends_what_was_known_of_the_leader():
    """Figure 2: the leader was that of another term."""
    election = old_member("c", term=3)
    election.receive(heartbeat(election, "a"), 2.0)
    ready = election.receive(request_vote(election, "b"), 3.0)
    assert election.leader_id is None
    assert events(ready, LeaderChanged) == [LeaderChanged(None, 4)]


def test_a_follower_knows_its_leader():
    """Figure 2, AppendEntries: "leaderId: so follower can redirect clients" """
    election = new_member("b")
    ready = election.receive(heartbeat(election, "a", term=1), 0.5)
    assert election.leader_id == "a"
    assert ready.events == (LeaderChanged("a", 1),)
    assert election.receive(heartbeat(election, "a"), 0.625).events == ()


def test_the_same_leader_in_a_new_term_is_told_anew():
    """Figure 2: whatever is written under the old term is stale, even if it is the same server that leads."""
    election = new_member("b")
    election.receive(heartbeat(election, "a", term=1), 0.5)
    assert election.receive(heartbeat(election, "a", term=2), 0.5).events == (LeaderChanged("a", 2),)


def test_followers_respond_to_candidates_and_leaders():
    """Figure 2, followers: "Respond to RPCs from candidates and leaders" """
    election = old_member("c", term=3)
    granted = election.receive(request_vote(election, "a"), 2.0)
    assert granted.outbox == (("a", RequestVoteResponse(4, "c", True)),)
    beaten = election.receive(heartbeat(election, "a", round=5), 2.0)
    assert beaten.outbox == (("a", HeartbeatResponse(4, "c", 5, (3, 1), promise=1.0)),)


def test_the_timer_is_reset_by_a_heartbeat_and_by_granting_a_vote():
    """Figure 2, followers: "If election timeout elapses without receiving AppendEntries RPC from current leader or
    granting vote to candidate: convert to candidate"
    """
    election = new_member("c", draw=0.5)
    election.receive(request_vote(election, "a"), 1.0)
    assert election.deadline == 2.5
    election.receive(heartbeat(election, "a"), 1.25)
    assert election.deadline == 2.75


NO_REASON = {
    "a vote refused": lambda e: request_vote(e, "b", term=3),
    "a newer term, vote refused": lambda e: request_vote(e, "b", membership_version=(2, 1)),
    "a stale request": lambda e: request_vote(e, "b", term=2),
    "a granted pre-vote": lambda e: request_vote(e, "b", pre_vote=True),
    "a stale heartbeat": lambda e: heartbeat(e, "b", term=2),
    "a stranger's heartbeat": lambda e: heartbeat(e, "x"),
    "a late vote": lambda e: vote(e, "b"),
    "a newer term in an answer": lambda e: vote(e, "b", term=9, vote_granted=False),
    "a newer term in another": lambda e: answer(heartbeat(e, term=9), "b"),
}


@pytest.mark.parametrize("make", NO_REASON.values(), ids=NO_REASON)
def test_the_timer_is_reset_by_nothing_else(make):
    """Figure 2, followers: "receiving AppendEntries RPC from current leader or granting vote to candidate" is all."""
    election = old_member("a", term=3, voted_for="c")
    election.receive(make(election), 1.25)
    assert election.deadline == 1.5


def test_heartbeats_are_repeated_to_prevent_election_timeouts():
    """Figure 2, leaders: "repeat during idle periods to prevent election timeouts" """
    cluster = Cluster("abc")
    cluster.run_until(2.0)
    deadlines = [cluster.elections[node_id].deadline for node_id in "bc"]
    cluster.run_until(2.5)
    assert all(cluster.elections[i].deadline > before for i, before in zip("bc", deadlines))
    assert cluster.elections["a"].current_term == 1


def test_a_timeout_that_is_called_early_does_nothing():
    """Figure 2: "If election timeout elapses", not before."""
    election = new_member(draw=0.5)
    ready = election.timeout(1.4375)
    assert (ready.saved, ready.outbox, ready.events) == (None, (), ())
    assert election.role is Role.FOLLOWER


# --- 5.4 and 5.5 ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("version", "granted"), [((2, 9), False), ((3, 1), False), ((3, 2), True), ((4, 1), True)])
def test_a_vote_is_denied_to_a_candidate_that_is_less_up_to_date(version, granted):
    """5.4.1: "the RPC includes information about the candidate's log, and the voter denies its vote if its own log is
    more up-to-date than that of the candidate." Without a log it is the membership that a leader must not lack.
    """
    election = old_member("c", term=4, membership=members(3, 2))
    response = only(election.receive(request_vote(election, "a", membership_version=version), 2.0))
    assert response.vote_granted is granted


def test_a_repeated_request_is_answered_as_before():
    """5.5: "Raft RPCs are idempotent, so this causes no harm." Figure 2: votedFor is null "or candidateId"."""
    election = new_member("c")
    request = request_vote(election, "a")
    first = only(election.receive(request, 0.5))
    again = election.receive(request, 0.5)
    assert only(again) == first
    assert again.saved is None


def test_a_leader_that_crashes_is_replaced():
    """5.2 and 5.5: the others time out, and one of them wins the next term."""
    cluster = Cluster("abc")
    cluster.run_until(5.0)
    del cluster.elections["a"]
    cluster.run_until(8.0)
    assert cluster.leases == ["b"]
    assert cluster.winners == {1: {"a"}, 2: {"b"}}
    assert cluster.elections["c"].leader_id == "b"


def test_everybody_can_crash_and_terms_go_on():
    """5.5 and Figure 2: what was saved is all that is needed."""
    cluster = Cluster("abc")
    cluster.run_until(5.0)
    for number, node_id in enumerate("abc"):
        cluster.start(node_id, "abc", draw=number / 3)
    cluster.run_until(10.0)
    assert cluster.winners == {1: {"a"}, 2: {"a"}}


# --- What is no server's message at all -----------------------------------------------------------------------------


def test_what_is_no_message_is_an_error_of_the_caller():
    """Only wire messages and control messages have a rule."""
    with pytest.raises(TypeError, match="neither a wire message nor a control message"):
        new_member().receive("hello", 0.5)


def test_a_message_of_its_own_is_ignored():
    """A server asks the others: one that hears itself must not count twice."""
    election = new_member("a", "abcd")
    become_candidate(election)
    ready = election.receive(heartbeat(election, "a"), 2.0)
    assert ready.outbox == ()
    assert election.role is Role.CANDIDATE


def test_a_stopped_member_takes_no_part():
    """It neither answers nor campaigns; what it voted stays as it was."""
    election = new_member("c")
    election.receive(Stop(), 0.5)
    assert election.role is Role.STOPPED
    assert election.receive(request_vote(election, "a"), 0.5).outbox == ()
    assert election.receive(heartbeat(election, "a"), 0.5).outbox == ()
    assert election.deadline == float("inf")
    assert election.timeout(9.0).outbox == ()
    assert election.voted_for is None
