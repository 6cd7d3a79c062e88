"""The exhaustive exploration: it finds faults planted into the rules and says how it came there, and none without."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Any, List, Set

import pytest
from harness import checks_in, violation
from test_planted_faults import FAULTS, plant

from raftlite.election import Role
from raftlite.membership import Membership, NodeInfo
from raftlite.simulation import exploration
from raftlite.simulation.exploration import Bounds, Explorer

# --- Planted faults ------------------------------------------------------------------------------------------------

SMALL = Bounds(members=3, terms=1, in_flight=2, crashes=0, changes=0)

FOUND = [
    ("votes twice in a term", SMALL, "one vote per term"),
    ("stays a candidate with a newer membership", SMALL, "a candidate keeps its membership"),
    ("wins one vote short", Bounds(2, 1, in_flight=2, crashes=0, changes=0), "one leader per term"),
    ("wins one vote short", Bounds(3, 1, in_flight=4, crashes=0, changes=0), "active memberships know newer terms"),
    ("installs an older membership", Bounds(2, 1, in_flight=3, crashes=0, changes=1), "memberships only get newer"),
    ("exchanges one voter for another", Bounds(3, 1, in_flight=3, crashes=0, changes=1), "active memberships overlap"),
]


@pytest.mark.parametrize("name, bounds, check", FOUND, ids=[check.replace(" ", "_") for *_, check in FOUND])
def test_a_planted_fault_is_found_with_the_way_there(name: str, bounds: Bounds, check: str) -> None:
    (fault,) = [fault for fault in FAULTS if fault.name == name]
    with violation(check) as found:
        Explorer(bounds, plant(fault)).explore()
    said, *states = str(found.value).split("\nstate ")
    assert said.startswith(check)
    assert said.count(check) == 1
    assert [state.splitlines()[0] for state in states] == [str(number) for number in range(len(states))]
    assert len(states) > 1


@pytest.mark.slow
@pytest.mark.parametrize("bounds", [bounds for _, bounds, _ in FOUND[1:]], ids=str)  # the first two share theirs
def test_the_same_bounds_are_clean_without_a_fault(bounds: Bounds) -> None:
    explored = Explorer(bounds).explore()
    assert explored.is_complete
    assert explored.with_leader > 0


# --- Checks that no planted fault reaches within bounds so small -----------------------------------------------------


def local(term: int, membership_term: int, ids: str = "abc") -> Any:
    """A follower, as the exploration keeps it."""
    membership = Membership(membership_term, 1, tuple(map(NodeInfo, ids)))
    return (term, None, membership, Role.FOLLOWER, None, frozenset(), None, False)


def check_state(*members: Any) -> None:
    explorer = Explorer(Bounds(members=len(members), changes=0))
    explorer._check(tuple(map(explorer._locals.number, members)))


def test_a_term_that_shrinks() -> None:
    with violation("terms only grow"):
        exploration._check_step("a", local(term=2, membership_term=1), local(term=1, membership_term=1))


def test_a_term_older_than_the_membership() -> None:
    with violation("a term is as new as its membership"):
        check_state(local(term=2, membership_term=2), local(term=1, membership_term=2))


def test_two_memberships_of_one_version() -> None:
    with violation("a membership version means one set of nodes"):
        check_state(local(term=1, membership_term=1, ids="abc"), local(term=1, membership_term=1, ids="abd"))


def quorums(voters: str) -> List[Set[str]]:
    return [set(quorum) for quorum in combinations(voters, len(voters) // 2 + 1)]


@pytest.mark.parametrize("first", ["a", "ab", "abc", "abcd", "abcde"])
@pytest.mark.parametrize("second", ["b", "bc", "abd", "bcd", "abde", "abcdef"])
def test_memberships_overlap_where_every_quorum_meets_every_other(first: str, second: str) -> None:
    meet = all(one & other for one in quorums(first) for other in quorums(second))
    assert exploration.overlapping(frozenset(first), frozenset(second)) is meet


def test_every_check_of_the_exploration_has_been_seen_to_fail() -> None:
    seen = {check for *_, check in FOUND} | checks_in(Path(__file__), "violation")
    assert seen == checks_in(Path(exploration.__file__), "Violation")


# --- Every interleaving ----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_every_interleaving_of_two_members_that_may_crash_is_explored() -> None:
    explored = Explorer(Bounds(members=2, terms=2, in_flight=2, crashes=1, changes=0)).explore()
    assert explored.is_complete
    assert min(explored.with_leader, explored.with_two_leaders) > 5_000


@pytest.mark.slow
@pytest.mark.long
def test_every_interleaving_of_three_members_and_a_change_is_explored() -> None:
    explored = Explorer(Bounds(members=3, terms=2, in_flight=2, crashes=0, changes=1)).explore()
    assert explored.is_complete
    assert explored.states > 50_000
    assert min(explored.with_leader, explored.with_two_leaders, explored.with_committed_change) > 1_000


@pytest.mark.slow
def test_every_interleaving_of_two_members_that_let_a_third_in_is_explored() -> None:
    """The third votes before it has got the membership that it is voted into: its term counts too."""
    explored = Explorer(Bounds(members=2, terms=2, in_flight=2, crashes=1, changes=1)).explore()
    assert explored.is_complete
    assert min(explored.with_leader, explored.with_two_leaders, explored.with_committed_change) > 10_000


@pytest.mark.slow
@pytest.mark.long
def test_every_interleaving_with_crashes_is_explored() -> None:
    explored = Explorer(Bounds(members=3, terms=2, in_flight=2, crashes=2, changes=0)).explore()
    assert explored.is_complete
    assert explored.with_two_leaders > 10_000


def test_transfers_are_explored() -> None:
    without = Explorer(Bounds(members=2, terms=2, in_flight=2, crashes=0, changes=0)).explore()
    explored = Explorer(Bounds(members=2, terms=2, in_flight=2, crashes=0, changes=0, transfers=1)).explore()
    assert explored.is_complete
    assert explored.with_two_leaders > without.with_two_leaders
