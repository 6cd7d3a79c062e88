"""The contracts of the scenes about elections: cold start, heartbeats, a leader's death, split votes."""

from __future__ import annotations

from typing import Any, Callable, Dict, Tuple

from raftlite.lab.scenes.contracts import (
    ONE_LEADER,
    SLACK,
    Contract,
    Verdict,
    all_follow,
    fails,
    follows_at_last,
    holds,
    holds_if,
    in_seconds,
    judged,
    leads,
    was_elected,
)
from raftlite.lab.scenes.evidence import Evidence, NotSeen
from raftlite.lab.trace import Record

TERMS_UNTIL_SETTLED = 5  # that an election may take after a split vote
ROUNDS_UNTIL_SETTLED = 6  # of the longest election timeout, with bad luck: a vote may be split several times in a row


# --- 1 Cold start -----------------------------------------------------------------------------------------------------


def leader_in_time(e: Evidence) -> Verdict:
    reign = e.next_reign(0)
    at = e.elected_at(reign)
    values = {"node": reign.leader, "term": reign.term, "seconds": in_seconds(at)}
    return judged(at <= 3 * e.longest, "first-leader", **values)


COLD_START = Contract(("leader-in-time", leader_in_time), ("all-follow", all_follow), ONE_LEADER)


# --- 2 Heartbeats -----------------------------------------------------------------------------------------------------


def same_term(e: Evidence) -> Verdict:
    first, _ = e.stop(1)
    terms = {e.term_at(n, first) for n in e.nodes} | {state["term"] for state in e.states(after=first)}
    return holds_if(len(terms) == 1, "term-grew", before=min(terms), after=max(terms))


def timer_reset(e: Evidence) -> Verdict:
    """After each heartbeat that is heard, the next thing of its hearer is a state with a whole timeout before it."""
    first, _ = e.stop(1)
    heard: Dict[str, Record] = {}
    for record in e.records[first:]:
        n, kind = record["n"], record["k"]
        if kind == "state" and n in heard:
            if not e.shortest - SLACK <= record["deadline"] - heard.pop(n)["t"] <= e.longest + SLACK:
                return fails("not-reset", record=record["i"])
        elif kind in ("recv", "timer") and n in heard:
            return fails("not-reset", record=heard[n]["i"])
        if kind == "recv" and record["type"] == "heartbeat":
            heard[n] = record
    return holds()


def ten_rounds(e: Evidence) -> Verdict:
    first, _ = e.stop(1)
    leader = e.reign_at(first).leader
    counts = [len(list(e.of_kind("send", first, n=leader, to=n, type="heartbeat"))) for n in e.nodes if n != leader]
    return holds_if(min(counts) >= 10, "count", count=min(counts), needed=10)


HEARTBEATS = Contract(("same-term", same_term), ("timer-reset", timer_reset), ("ten-rounds", ten_rounds), ONE_LEADER)


# --- 3 The leader dies ------------------------------------------------------------------------------------------------


def new_leader(e: Evidence) -> Verdict:
    kill = e.fault("kill")
    old, new = e.reign_at(kill["i"]), e.next_reign(kill["i"])
    is_right = old.leader == kill["n"] and new.leader != old.leader and new.term > old.term
    return judged(is_right, "led", node=new.leader, term=new.term)


def gap(e: Evidence) -> Verdict:
    kill = e.fault("kill")
    seconds = e.elected_at(e.next_reign(kill["i"])) - kill["t"]
    return judged(seconds <= ROUNDS_UNTIL_SETTLED * e.longest, "took", seconds=in_seconds(seconds))


def old_follows(e: Evidence) -> Verdict:
    old, start = e.fault("kill")["n"], e.fault("start")
    again = [reign for reign in e.reigns_begun(start["i"]) if reign.leader == old]
    return leads(again[0]) if again else follows_at_last(e, old)


LEADER_DIES = Contract(("new-leader", new_leader), ("gap", gap), ("old-follows", old_follows), ONE_LEADER)


# --- 4 Split vote -----------------------------------------------------------------------------------------------------


def _split_term(e: Evidence) -> int:
    """The first term with two candidates of two votes each and without a leader."""
    led = {reign.term for reign in e.reigns}
    for term, votes in sorted(e.candidacies(e.fault("kill")["i"]).items()):
        if term not in led and list(votes.values()) == [2, 2]:
            return term
    raise NotSeen


def split(e: Evidence) -> Verdict:
    _split_term(e)
    return holds()


def leader_after_split(e: Evidence) -> Verdict:
    term = _split_term(e)
    later = [reign for reign in e.reigns if reign.term > term]
    if not later:
        return fails("no-leader")
    return judged(later[0].term <= term + TERMS_UNTIL_SETTLED, "led", node=later[0].leader, term=later[0].term)


SPLIT_VOTE = Contract(("split", split), ("then-a-leader", leader_after_split), ONE_LEADER)


# --- 4b Why timeouts are random ---------------------------------------------------------------------------------------


def _rules_set(e: Evidence, name: str, wanted: Callable[[Any], bool], after: int = 0) -> Record:
    for record in e.faults("rules", after):
        if wanted(record["rules"][name]):
            return record
    raise NotSeen


def _equal_timeouts(e: Evidence) -> Tuple[int, int]:
    """From the death of the leader to the end of equal timeouts."""
    fixed = _rules_set(e, "jitter", lambda jitter: jitter == 0)
    kill = e.fault("kill", after=fixed["i"])
    return kill["i"], _rules_set(e, "jitter", lambda jitter: jitter > 0, kill["i"])["i"]


def leaderless(e: Evidence) -> Verdict:
    first, last = _equal_timeouts(e)
    for reign in e.reigns_begun(first, last):
        return leads(reign)
    terms = len(e.candidacies(first, last))
    return judged(terms >= 3, "count", count=terms, needed=3)


def leader_with_random(e: Evidence) -> Verdict:
    return was_elected(e, _equal_timeouts(e)[1])


NO_JITTER = Contract(("leaderless", leaderless), ("then-random", leader_with_random), ONE_LEADER)


# --- 14 Handing over --------------------------------------------------------------------------------------------------


def next_term(e: Evidence) -> Verdict:
    resigned = e.fault("resign")
    old, new = e.reign_at(resigned["i"]), e.next_reign(resigned["i"])
    is_right = old.leader == resigned["n"] != new.leader and new.term == old.term + 1
    return judged(is_right, "led", node=new.leader, term=new.term)


def no_timeout(e: Evidence) -> Verdict:
    resigned = e.fault("resign")
    new = e.next_reign(resigned["i"])
    timers = list(e.of_kind("timer", resigned["i"], new.began, timer="election"))
    return holds_if(not timers, "count", count=len(timers), needed=0)


def handed_over_in_time(e: Evidence) -> Verdict:
    resigned = e.fault("resign")
    seconds = e.elected_at(e.next_reign(resigned["i"])) - resigned["t"]
    return judged(seconds < e.shortest, "took", seconds=in_seconds(seconds))


RESIGN = Contract(("next-term", next_term), ("no-timeout", no_timeout), ("in-time", handed_over_in_time), ONE_LEADER)
