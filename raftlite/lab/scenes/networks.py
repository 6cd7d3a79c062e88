"""Scenes about the network: partitions, pre-vote, one-way links, delays, chaos."""

from __future__ import annotations

from raftlite.lab.rules import ALL_RULES, Rules
from raftlite.lab.scenes import contracts_networks as contracts
from raftlite.lab.scenes.elections import calm_down, find_leader, rest
from raftlite.lab.scenes.scene import BY, Play, Scene, Stop

# --- 5 A leader in the minority ---------------------------------------------------------------------------------------


def _cut_off_leader(play: Play) -> None:
    """The leader and one other on one side, three on the other; until these have elected."""
    find_leader(play)
    leader = play.cast["leader"]
    mate, *majority = play.others(leader)
    play.lab.partition([leader, mate], majority, by=BY)
    play.spread(majority)
    play.until_settled(majority)


def heal(play: Play) -> None:
    play.lab.heal(by=BY)
    find_leader(play)


def _all_rules(play: Play) -> None:
    play.lab.set_rules(ALL_RULES, by=BY)
    play.wait(2 * play.heartbeat)


MINORITY_LEADER = Scene(
    "minority-leader",
    5,
    (
        Stop("calm", calm_down),
        Stop("cut", _cut_off_leader),
        Stop("heal", heal),
        Stop("rule", _all_rules),
        Stop("again", _cut_off_leader),
        Stop("end", heal),
    ),
    contracts.MINORITY_LEADER,
    rules=Rules(check_quorum=False),
    in_show=True,
)


# --- 7 and 8 The disruptive follower, and the pre-vote ----------------------------------------------------------------


def _cut_off_follower(play: Play) -> None:
    find_leader(play)
    loner, *others = play.others(play.cast["leader"])
    play.cast["loner"] = loner
    play.lab.partition([loner], [play.cast["leader"], *others], by=BY)


def _cut_until_term_ran_ahead(play: Play) -> None:
    _cut_off_follower(play)
    far = play.state(play.cast["leader"]).term + 3
    play.until(lambda: play.state(play.cast["loner"]).term >= far)


def _heal_until_deposed(play: Play) -> None:
    leader = play.cast["leader"]
    play.lab.heal(by=BY)
    play.until(lambda: play.state(leader).role != "leader")


DISRUPTIVE_FOLLOWER = Scene(
    "disruptive-follower",
    5,
    (
        Stop("calm", calm_down),
        Stop("cut", _cut_until_term_ran_ahead),
        Stop("heal", _heal_until_deposed),
        Stop("after", find_leader),
        Stop("moral", rest),
    ),
    contracts.DISRUPTIVE_FOLLOWER,
    rules=Rules(pre_vote=False),
    in_show=True,
)


def _cut_for_long(play: Play) -> None:
    """As long as it takes to lose patience two times, at least."""
    _cut_off_follower(play)
    play.wait(4.1 * play.timeout)


def _heal_and_look(play: Play) -> None:
    heal(play)
    play.wait(2 * play.heartbeat)


def _deafen(play: Play) -> None:
    """The follower does not hear the leader any more, but everybody else; until it was refused twice by all of them."""
    leader, loner = play.cast["leader"], play.cast["loner"]
    begin = play.lab.trace.last
    play.lab.cut(leader, loner, both=False, by=BY)
    others = play.others(leader, loner)
    play.until(lambda: play.count(begin, "recv", n=loner, type="pre_vote_resp") >= 2 * len(others))


PRE_VOTE = Scene(
    "pre-vote",
    5,
    (
        Stop("calm", calm_down),
        Stop("cut", _cut_for_long),
        Stop("heal", _heal_and_look),
        Stop("deaf", _deafen),
        Stop("end", heal),
    ),
    contracts.PRE_VOTE,
    in_show=True,
)


# --- 11 A one-way link ------------------------------------------------------------------------------------------------


def _deafen_leader(play: Play) -> None:
    find_leader(play)
    for n in play.others(play.cast["leader"]):
        play.lab.cut(n, play.cast["leader"], both=False, by=BY)
    play.wait(play.timeout)


def _wait_in_vain(play: Play) -> None:
    play.wait(2 * play.timeout)


def _count_answers(play: Play) -> None:
    play.lab.set_rules(ALL_RULES, by=BY)
    play.until_settled(play.others(play.cast["leader"]))


ONE_WAY = Scene(
    "one-way",
    5,
    (
        Stop("calm", calm_down),
        Stop("deaf", _deafen_leader),
        Stop("long", _wait_in_vain),
        Stop("rule", _count_answers),
        Stop("end", heal),
    ),
    contracts.ONE_WAY,
    rules=Rules(check_quorum=False),
)


# --- 12 A slow network ------------------------------------------------------------------------------------------------


def _slow_down(play: Play) -> None:
    """There and back takes longer than a candidate ever waits, so nobody can be elected."""
    find_leader(play)
    leader, timeout = play.cast["leader"], play.timeout
    play.lab.delay((1.2 * timeout, 1.4 * timeout), by=BY)
    play.until(lambda: play.state(leader).role != "leader")


def _try_in_vain(play: Play) -> None:
    """Until somebody has stood for election and seen its time run out; twice."""
    begin = play.lab.trace.last
    play.until(lambda: play.count(begin, "state", role="candidate") >= 2)
    play.wait(2 * play.timeout)


def _speed_up(play: Play) -> None:
    play.lab.delay(play.scene.delay, by=BY)
    find_leader(play)


SLOW_NETWORK = Scene(
    "slow-network",
    5,
    (
        Stop("calm", calm_down),
        Stop("slow", _slow_down),
        Stop("never", _try_in_vain),
        Stop("fast", _speed_up),
        Stop("moral", rest),
    ),
    contracts.SLOW_NETWORK,
)


# --- 15 Chaos ---------------------------------------------------------------------------------------------------------


def _round(play: Play) -> None:
    """Three members are alone, each by itself; the other four have a leader; then all have."""
    torn_off = sorted(play.random.sample(play.lab.nodes, len(play.lab.nodes) // 2))
    others = [n for n in play.lab.nodes if n not in torn_off]
    play.lab.partition(*([n] for n in torn_off), others, by=BY)
    play.until_settled(others)
    play.lab.heal(by=BY)
    play.until_settled()


def _first_round(play: Play) -> None:
    find_leader(play)
    _round(play)


def _more_rounds(play: Play) -> None:
    for _ in range(contracts.ROUNDS - 1):
        _round(play)


CHAOS = Scene(
    "chaos",
    7,
    (Stop("calm", calm_down), Stop("first", _first_round), Stop("nine", _more_rounds), Stop("count", rest)),
    contracts.CHAOS,
)
