"""What the invariants of the simulation see: for each check, a step by hand that breaks its rule and no other.

A wrong rule of the election breaks several at once, and the first check that sees it ends the simulation: that is for
test_planted_faults.py. The checks that stand behind another one never fail there, and are asked here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, Iterable, Tuple

import pytest
from harness import TIMING, answer, checks_in, heartbeat, members, old_member, request_vote, violation, vote
from test_planted_faults import FAULTS

import raftlite.simulation
from raftlite.election import Election, Ready, Role, Saved
from raftlite.leader import LeaderState
from raftlite.messages import AddNode, ChangeRefused, Heartbeat, LeaderChanged, MembershipChanged, TimeoutNow
from raftlite.simulation import Invariants

SIMULATION = Path(raftlite.simulation.__file__).parent


def step(
    seen: Invariants,
    election: Election,
    message: Any = None,
    sends: Iterable[Tuple[str, Any]] = (),
    tells: Iterable[Any] = (),
    **becomes: Any,
) -> None:
    """One step of a member at 2.0: what it becomes by it, and saves; what it tells its program, and sends."""
    before = seen.before_step(election)
    for name, value in becomes.items():
        setattr(election, name, value)
    saved = Saved(election.current_term, election.voted_for, election.membership)
    seen.after_step(election, message, before, Ready(saved, tuple(sends), tuple(tells)), real=2.0, rate=1.0)


def win(seen: Invariants, election: Election, term: int, votes: str) -> LeaderState:
    """The member becomes the leader of `term` by these votes; it holds no lease yet."""
    seen.vote_of.update({(voter, term): election.node_id for voter in votes})
    leader = LeaderState(election.node_id, term, election.membership, TIMING, now=2.0)
    itself = {"voted_for": election.node_id, "leader_id": election.node_id}
    step(seen, election, current_term=term, role=Role.LEADER, _leader=leader, **itself)
    return leader


def test_every_check_of_a_simulation_has_been_seen_to_fail() -> None:
    """By a planted fault, or by a step in this file."""
    checks = checks_in(SIMULATION / "invariants.py", "Violation") | checks_in(SIMULATION / "simulation.py", "Violation")
    assert {fault.check for fault in FAULTS} | checks_in(Path(__file__), "violation") == checks


# --- Terms and votes -------------------------------------------------------------------------------------------------


def test_a_disk_on_which_the_term_shrinks() -> None:
    """The process that does so was started anew, and knows of no later term."""
    seen = Invariants()
    step(seen, old_member(term=4))
    with violation("terms only grow"):
        step(seen, old_member(term=3))


def test_a_member_whose_term_shrinks() -> None:
    with violation("terms only grow"):
        step(Invariants(), old_member(term=4), current_term=3)


def test_two_leaders_in_a_term() -> None:
    seen = Invariants()
    win(seen, old_member("a"), term=4, votes="ab")
    with violation("one leader per term"):
        win(seen, old_member("c"), term=4, votes="c")


def test_a_leader_that_voted_for_another() -> None:
    with violation("a leader voted for itself"):
        step(Invariants(), old_member("a"), current_term=4, voted_for="b", role=Role.LEADER, leader_id="a")


def test_a_leader_without_a_vote() -> None:
    with violation("a leader is a voter"):
        win(Invariants(), old_member("a", membership=members(3, 1, "bcd", observers="a")), term=4, votes="bc")


def test_heartbeats_of_one_that_has_not_won() -> None:
    with violation("only leaders send heartbeats"):
        step(Invariants(), old_member("a"), sends=[("b", Heartbeat(3, "a", 1, (3, 1)))])


def test_an_order_to_take_over_from_one_that_has_not_won() -> None:
    with violation("only leaders send heartbeats"):
        step(Invariants(), old_member("a"), sends=[("b", TimeoutNow(3, "a"))])


# --- The timer, and who is listened to -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [
        lambda election: vote(election, "b"),
        lambda election: request_vote(election, "b"),
        lambda election: answer(heartbeat(election, "a"), "b"),
    ],
    ids=["a vote for this member", "a request that it does not grant", "an answer to a heartbeat"],
)
def test_a_timer_that_is_reset_by_what_is_no_heartbeat(make: Callable[[Election], Any]) -> None:
    follower = old_member("a")
    with violation("only heartbeats and votes reset the timer"):
        step(Invariants(), follower, make(follower), _election_at=9.0)


def test_a_stranger_that_raises_the_term() -> None:
    member = old_member("a")
    with violation("strangers change nothing"):
        step(Invariants(), member, heartbeat(member, "x", term=5), current_term=5)


# --- What the program is told ----------------------------------------------------------------------------------------


def test_a_token_that_is_given_twice() -> None:
    seen, member = Invariants(), old_member("a")
    leader = win(seen, member, term=4, votes="ab")
    seen.promise_of["b"] = (3.0, "a", 4)  # until when, to whom, and in which term
    leader.lease_expires_at = 3.0
    step(seen, member, tells=[LeaderChanged("a", 4)])
    with violation("tokens only grow"):
        step(seen, member, tells=[LeaderChanged("a", 4)])


def test_a_request_that_is_answered_twice() -> None:
    seen, member, request = Invariants(), old_member("a"), AddNode("d")
    step(seen, member, tells=[ChangeRefused(request, "not now")])
    with violation("a request is answered once"):
        step(seen, member, tells=[ChangeRefused(request, "not now")])


# --- Memberships -----------------------------------------------------------------------------------------------------


def test_two_memberships_of_one_version() -> None:
    seen = Invariants()
    step(seen, old_member("a", membership=members(3, 1, "abc")))
    with violation("a membership version means one set of nodes"):
        step(seen, old_member("b", membership=members(3, 1, "abd")))


def test_a_change_before_anybody_holds_the_one_before() -> None:
    seen, leader = Invariants(), old_member("a")
    win(seen, leader, term=4, votes="ab")
    step(seen, leader, membership=members(4, 1, "abc"))
    with violation("a change waits for the one before"):
        step(seen, leader, membership=members(4, 2, "abcd"))


def test_a_leader_that_does_not_know_what_was_committed_before_it() -> None:
    seen, grown = Invariants(), members(3, 2, "abcd")
    for holder in "bcd":
        step(seen, old_member(holder, membership=grown))
    step(seen, old_member("b", membership=grown), tells=[MembershipChanged(grown, AddNode("d"))])
    with violation("a committed membership is known to later leaders"):
        win(seen, old_member("a", membership=members(3, 1, "abc")), term=4, votes="ab")
