"""Scenes about elections: cold start, heartbeats, the leader's death, split votes, handing over."""

from __future__ import annotations

from dataclasses import replace
from typing import Sequence

from raftlite.lab.scenes import contracts_elections as contracts
from raftlite.lab.scenes.scene import BY, Play, Scene, Stop

ELECTED = ("candidate", "leader")


def rest(play: Play) -> None:
    """A stop at which nothing is done: a heartbeat, to look at."""
    play.wait(play.heartbeat)


def find_leader(play: Play) -> None:
    """Wait for a leader that all follow, whoever it is by now; it gets the part of "leader"."""
    play.cast["leader"] = play.until_settled()


def calm_down(play: Play) -> None:
    """A healthy cluster, some heartbeats old, so that what is to be shown is not disturbed by how it began.

    By then all know that the first election is over. Until then, whoever had no vote in it abstains for two election
    timeouts after its start, and a candidate may not have heard of the membership that others have.
    """
    find_leader(play)
    play.wait(max(2 * play.heartbeat, 2.1 * play.timeout - play.lab.now))
    find_leader(play)


# --- 1 Cold start -----------------------------------------------------------------------------------------------------


def _first_timer(play: Play) -> None:
    play.until_role(play.lab.nodes, "pre-candidate", *ELECTED)


def _first_candidate(play: Play) -> None:
    play.until_role(play.lab.nodes, *ELECTED)


def _few_heartbeats(play: Play) -> None:
    play.until_settled()
    play.wait(3 * play.heartbeat)


COLD_START = Scene(
    "cold-start",
    5,
    (
        Stop("boot", rest),
        Stop("timer", _first_timer),
        Stop("votes", _first_candidate),
        Stop("leader", find_leader),
        Stop("calm", _few_heartbeats),
    ),
    contracts.COLD_START,
    in_show=True,
)


# --- 2 Heartbeats -----------------------------------------------------------------------------------------------------


def _two_rounds(play: Play) -> None:
    play.wait(2 * play.heartbeat)


def _ten_rounds(play: Play) -> None:
    play.wait(10 * play.heartbeat)


HEARTBEATS = Scene(
    "heartbeats",
    5,
    (Stop("elected", calm_down), Stop("round", _two_rounds), Stop("ten", _ten_rounds), Stop("lease", rest)),
    contracts.HEARTBEATS,
    in_show=True,
)


# --- 3 The leader dies ------------------------------------------------------------------------------------------------


def kill_leader(play: Play) -> None:
    """Kill whoever leads by now, and wait until somebody has noticed."""
    find_leader(play)
    play.lab.kill(play.cast["leader"], by=BY)
    play.until_role(play.others(), "pre-candidate", *ELECTED)


def survivors_elect(play: Play) -> None:
    play.until_settled(play.others())


def _return(play: Play) -> None:
    play.lab.start(play.cast["leader"], by=BY)
    play.until_settled()


LEADER_DIES = Scene(
    "leader-dies",
    5,
    (
        Stop("calm", calm_down),
        Stop("kill", kill_leader),
        Stop("election", survivors_elect),
        Stop("return", _return),
        Stop("gap", rest),
    ),
    contracts.LEADER_DIES,
    in_show=True,
)


# --- 4 Split vote -----------------------------------------------------------------------------------------------------


def _split(play: Play) -> None:
    """Two candidates in one term, of whom each reaches another voter first: neither gets a third vote.

    Their timers run out when nobody keeps a promise to the dead leader any more. With links of exact delays both hear
    the same at the same times, so both stand at the same time, too.
    """
    find_leader(play)
    play.lab.kill(play.cast["leader"], by=BY)
    over = play.lab.now + play.timeout + 2 * play.slowest
    first, second, *voters = play.others()
    _shape(play, (first, second), voters)
    play.lab.align([first, second], at=over, by=BY)
    for candidate in (first, second):
        play.until_role(candidate, "candidate")
    play.until(lambda: all(len(play.state(n).votes) == 2 for n in (first, second)))
    play.wait(play.slowest)  # until the late requests have been refused, too
    play.lab.heal(by=BY)


def _shape(play: Play, candidates: Sequence[str], voters: Sequence[str]) -> None:
    """Each candidate is near one of the voters and far from the other; all else takes as long as usual."""
    least, most = play.scene.delay
    usual = (least + most) / 2
    for sender in (*candidates, *voters):
        for receiver in (*candidates, *voters):
            if sender != receiver:
                play.lab.shape(sender, receiver, usual, by=BY)
    for near, candidate in enumerate(candidates):
        play.lab.shape(candidate, voters[near], 0.6 * usual, by=BY)
        play.lab.shape(candidate, voters[1 - near], 1.8 * usual, by=BY)


SPLIT_VOTE = Scene(
    "split-vote",
    5,
    (
        Stop("calm", calm_down),
        Stop("plan", rest),
        Stop("split", _split),
        Stop("retry", survivors_elect),
        Stop("moral", rest),
    ),
    contracts.SPLIT_VOTE,
    in_show=True,
)


# --- 4b Why timeouts are random ---------------------------------------------------------------------------------------

LEADERLESS = 3  # terms to be seen


def _fix_timeouts(play: Play) -> None:
    """All timeouts are equal from the next heartbeat on, which reaches everybody at the same time."""
    play.lab.set_rules(replace(play.lab.rules, jitter=0.0), by=BY)
    play.wait(2.5 * play.heartbeat)


def _stand_together(play: Play) -> None:
    find_leader(play)
    last = play.state(play.cast["leader"]).term + LEADERLESS
    play.lab.kill(play.cast["leader"], by=BY)
    survivors = play.others()
    play.until(lambda: all(_has_failed_in(play, n, last) for n in survivors))


def _has_failed_in(play: Play, n: str, term: int) -> bool:
    state = play.state(n)
    return state.term > term or (state.term == term and state.role == "pre-candidate")


def _random_again(play: Play) -> None:
    play.lab.set_rules(replace(play.lab.rules, jitter=1.0), by=BY)
    play.until_settled(play.others())


NO_JITTER = Scene(
    "no-jitter",
    5,
    (
        Stop("calm", calm_down),
        Stop("fixed", _fix_timeouts),
        Stop("stuck", _stand_together),
        Stop("random", _random_again),
        Stop("moral", rest),
    ),
    contracts.NO_JITTER,
    delay=(0.5, 0.5),
)


# --- 14 Handing over --------------------------------------------------------------------------------------------------


def _resign(play: Play) -> None:
    find_leader(play)
    term = play.state(play.cast["leader"]).term
    play.lab.resign(play.cast["leader"], by=BY)
    play.until(lambda: any(play.state(n).term > term and play.state(n).role == "leader" for n in play.lab.nodes))


RESIGN = Scene(
    "resign",
    5,
    (Stop("calm", calm_down), Stop("resign", _resign), Stop("after", find_leader), Stop("moral", rest)),
    contracts.RESIGN,
)
