"""Scenes about members that are lost: no quorum, a paused leader, amnesia, even or odd."""

from __future__ import annotations

from typing import Tuple

from raftlite.lab.scenes import contracts_losses as contracts
from raftlite.lab.scenes.elections import calm_down, find_leader, rest
from raftlite.lab.scenes.scene import BY, Play, Scene, Stop

# --- 6 No quorum ------------------------------------------------------------------------------------------------------


def _kill_two(play: Play) -> None:
    find_leader(play)
    for n in play.others(play.cast["leader"])[:2]:
        play.lab.kill(n, by=BY)
    play.wait(1.5 * play.timeout)  # longer than a lease


def _kill_third(play: Play) -> None:
    leader = play.until_settled(play.others())
    play.lab.kill(play.others(leader)[0], by=BY)
    play.until(lambda: play.state(leader).role != "leader")
    play.wait(2 * play.timeout)


def _start_one(play: Play) -> None:
    play.lab.start(_dead(play)[0], by=BY)
    play.spread(play.others())
    play.until_settled(play.others())


def _dead(play: Play) -> Tuple[str, ...]:
    return tuple(n for n in play.lab.nodes if not play.lab.is_up(n))


def _start_all_at_once(play: Play) -> None:
    for n in _dead(play):
        play.lab.start(n, by=BY)


def _start_all(play: Play) -> None:
    _start_all_at_once(play)
    play.until_settled()


NO_QUORUM = Scene(
    "no-quorum",
    5,
    (
        Stop("calm", calm_down),
        Stop("two", _kill_two),
        Stop("three", _kill_third),
        Stop("one", _start_one),
        Stop("all", _start_all),
    ),
    contracts.NO_QUORUM,
    in_show=True,
)


# --- 9 The paused leader ----------------------------------------------------------------------------------------------


def _leader_writes(play: Play) -> None:
    calm_down(play)
    play.lab.act(play.cast["leader"])


def _freeze_leader(play: Play) -> None:
    play.lab.freeze(play.cast["leader"], by=BY)
    play.cast["successor"] = play.until_settled(play.others(play.cast["leader"]))


def _successor_writes(play: Play) -> None:
    play.lab.act(play.cast["successor"])
    play.wait(play.heartbeat)


def _wake_and_write(play: Play) -> None:
    """The first thing that the process does is the write that it was about to do."""
    play.lab.thaw(play.cast["leader"], by=BY)
    play.lab.act(play.cast["leader"])
    play.until_settled()


PAUSED_LEADER = Scene(
    "paused-leader",
    5,
    (
        Stop("calm", _leader_writes),
        Stop("freeze", _freeze_leader),
        Stop("write", _successor_writes),
        Stop("thaw", _wake_and_write),
        Stop("moral", rest),
    ),
    contracts.PAUSED_LEADER,
    in_show=True,
)


# --- 10 Amnesia -------------------------------------------------------------------------------------------------------


def _found_anew(play: Play) -> None:
    """A cluster in term 0, whatever there was before. Nobody reaches anybody until the last one has started."""
    lab = play.lab
    for n in lab.nodes:
        lab.wipe(n, by=BY)
    lab.partition(by=BY)  # and what was on its way is lost: it would tell the new cluster of the old one
    _start_all_at_once(play)
    lab.heal(by=BY)


def _vote_and_crash(play: Play) -> None:
    """The one in the middle votes for the first, which is elected, and crashes before it hears a heartbeat of it."""
    lab = play.lab
    first, voter, third = lab.nodes
    _found_anew(play)
    lab.cut(first, third, by=BY)
    lab.align([first], at=lab.now + play.heartbeat, by=BY)
    play.until(lambda: play.state(voter).vote == first)
    lab.cut(first, voter, both=False, by=BY)
    play.until_role(first, "leader")
    lab.power(voter, by=BY)


def _restart_with_vote(play: Play) -> None:
    """The third asks when the voter's promise is over, which holds for an election timeout after the start."""
    lab = play.lab
    _, voter, third = lab.nodes
    lab.start(voter, by=BY)
    lab.align([third], at=lab.now + play.timeout, by=BY)
    play.until(lambda: play.state(third).term > 0 and play.state(third).role in ("follower", "leader"))
    lab.time_out(third, by=BY)  # it has learnt that the term is taken, and need not wait for long
    play.until_role(third, "leader")
    play.wait(play.heartbeat)


def _restart_without_vote(play: Play) -> None:
    _vote_and_crash(play)
    lab = play.lab
    _, voter, third = lab.nodes
    lab.wipe(voter, by=BY)
    lab.start(voter, by=BY)
    lab.time_out(third, by=BY)
    play.until_role(third, "leader")
    play.say_finding(contracts.two_leaders(lab.trace))


def _guard(play: Play) -> None:
    """An established cluster; when its leader dies, one of the two survivors loses its disk as well."""
    lab = play.lab
    _found_anew(play)
    play.wait(2.1 * play.timeout)  # then nobody else has to abstain
    calm_down(play)
    leader = play.cast["leader"]
    victim, other = play.others(leader)
    lab.kill(leader, by=BY)
    play.wait(play.slowest)  # what the leader has sent last is not to reach the new life of the victim
    lab.wipe(victim, by=BY)
    lab.start(victim, by=BY)
    lab.align([other], at=lab.now + play.timeout, by=BY)  # as early as can be, and too early
    play.until_settled(play.others())


AMNESIA = Scene(
    "amnesia",
    3,
    (
        Stop("found", _vote_and_crash),
        Stop("kept", _restart_with_vote),
        Stop("lost", _restart_without_vote),
        Stop("guard", _guard),
        Stop("moral", rest),
    ),
    contracts.AMNESIA,
)


# --- 13 Even or odd? --------------------------------------------------------------------------------------------------


def _kill_leader_and_look(play: Play) -> None:
    """Either the others elect, or they try for as long as any timer runs."""
    find_leader_among_living(play)
    play.lab.kill(play.cast["leader"], by=BY)
    if _has_majority(play):
        play.wait(play.slowest)  # the last heartbeats arrive, and set timers anew
        play.spread(play.others())
        find_leader_among_living(play)
    else:
        play.wait(4 * play.timeout)


def find_leader_among_living(play: Play) -> None:
    play.cast["leader"] = play.until_settled(play.others())


def _has_majority(play: Play) -> bool:
    return 2 * len(play.others()) > len(play.lab.nodes)


def _kill_on(play: Play) -> None:
    while _has_majority(play):
        _kill_leader_and_look(play)


EVEN_OR_ODD = Scene(
    "even-or-odd",
    4,
    (
        Stop("calm", calm_down),
        Stop("first", _kill_leader_and_look),
        Stop("more", _kill_on),
        Stop("back", _start_one),
        Stop("moral", rest),
    ),
    contracts.EVEN_OR_ODD,
    sizes=(2, 3, 5),
)
