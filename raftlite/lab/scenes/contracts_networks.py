"""The contracts of the scenes about the network: partitions, pre-vote, one-way links, delays, chaos."""

from __future__ import annotations

from typing import List

from raftlite.lab.scenes.contracts import (
    ONE_LEADER,
    Contract,
    Verdict,
    everybody_follows,
    fails,
    follows_at_last,
    holds_if,
    judged,
    leads,
    was_elected,
)
from raftlite.lab.scenes.evidence import Evidence, NotSeen
from raftlite.lab.trace import Record

# --- 5 A leader in the minority ---------------------------------------------------------------------------------------


def _majority_side(cut: Record) -> List[str]:
    groups: List[List[str]] = cut["groups"]
    return max(groups, key=len)


def majority_elects(e: Evidence) -> Verdict:
    cut, heal = e.fault("partition"), e.fault("heal")
    old, new = e.reign_at(cut["i"]), e.next_reign(cut["i"], heal["i"])
    majority = _majority_side(cut)
    is_right = old.leader not in majority and new.leader in majority and new.term > old.term
    return judged(is_right and old.lasts(cut["i"], new.began), "terms", before=old.term, after=new.term)


def terms_differ(e: Evidence) -> Verdict:
    pairs = [(a, b) for a in e.reigns for b in e.reigns if a.began < b.began and a.overlaps(b)]
    if not pairs:
        raise NotSeen
    for a, b in pairs:
        if a.term == b.term:
            return fails("two-leaders", term=a.term, nodes=f"{a.leader}, {b.leader}")
    return judged(True, "terms", before=pairs[0][0].term, after=pairs[0][1].term)


def steps_down_on_heal(e: Evidence) -> Verdict:
    cut, heal = e.fault("partition"), e.fault("heal")
    old, new = e.reign_at(cut["i"]), e.next_reign(cut["i"])
    if not heal["i"] < old.ended < e.fault("partition", 1)["i"]:
        return leads(old, "still-leads")
    return holds_if(e.term_at(old.leader, old.ended) >= new.term, "terms", before=old.term, after=new.term)


def steps_down_before(e: Evidence) -> Verdict:
    cut = e.fault("partition", 1)
    old, new = e.reign_at(cut["i"]), e.next_reign(cut["i"])
    is_right = old.leader not in _majority_side(cut) and old.ended < new.began and new.term > old.term
    return holds_if(is_right, "still-leads", node=old.leader, term=old.term)


MINORITY_LEADER = Contract(
    ("majority-elects", majority_elects),
    ("terms-differ", terms_differ),
    ("steps-down-on-heal", steps_down_on_heal),
    ("steps-down-before", steps_down_before),
    ONE_LEADER,
)


# --- 7 and 8 The disruptive follower, and the pre-vote ----------------------------------------------------------------


def _loner(cut: Record) -> str:
    groups: List[List[str]] = cut["groups"]
    return min(groups, key=len)[0]


def term_ran_ahead(e: Evidence) -> Verdict:
    cut, heal = e.fault("partition"), e.fault("heal")
    before, after = e.reign_at(cut["i"]).term, e.term_at(_loner(cut), heal["i"])
    return judged(after >= before + 3, "term-grew", before=before, after=after)


def undisturbed(e: Evidence) -> Verdict:
    cut, heal = e.fault("partition"), e.fault("heal")
    if not e.reign_at(cut["i"]).lasts(cut["i"], heal["i"]):
        return fails("no-leader")
    strays = e.strays(heal["i"], _majority_side(cut))
    return holds_if(not strays, "not-following", nodes=", ".join(strays), leader=e.reign_at(heal["i"]).leader)


def deposed(e: Evidence) -> Verdict:
    heal = e.fault("heal")
    reign = e.reign_at(heal["i"])
    is_alive = e.is_up(reign.leader, min(reign.ended, e.last))
    return holds_if(reign.ended <= e.last and is_alive, "still-leads", node=reign.leader, term=reign.term)


def new_term(e: Evidence) -> Verdict:
    """In the end: somebody may be elected in a lower term before the one that came back has been heard by all."""
    cut, heal = e.fault("partition"), e.fault("heal")
    reign = e.reign_at(e.last)
    is_right = reign.began > heal["i"] and reign.term >= e.term_at(_loner(cut), heal["i"])
    return judged(is_right, "led", node=reign.leader, term=reign.term)


DISRUPTIVE_FOLLOWER = Contract(
    ("term-ran-ahead", term_ran_ahead),
    ("undisturbed", undisturbed),
    ("deposed", deposed),
    ("new-term", new_term),
    ONE_LEADER,
)


def term_stayed(e: Evidence) -> Verdict:
    cut, heal = e.fault("partition"), e.fault("heal")
    loner = _loner(cut)
    if len(list(e.of_kind("timer", cut["i"], heal["i"], n=loner, timer="election"))) < 2:
        raise NotSeen
    before = e.term_at(loner, cut["i"])
    after = max(e.term_at(loner, e.last), *(state["term"] for state in e.states(loner, cut["i"])))
    return judged(before == after, "terms", before=before, after=after)


def same_leader(e: Evidence) -> Verdict:
    cut = e.fault("partition")
    for reign in e.reigns_begun(cut["i"]):
        return leads(reign)
    return holds_if(e.reign_at(cut["i"]).lasts(cut["i"], e.last), "no-leader")


def refused(e: Evidence) -> Verdict:
    """In the second half: the one that hears no heartbeat, but is heard."""
    deaf = e.fault("cut")["b"]
    answers = list(e.of_kind("recv", e.fault("cut")["i"], n=deaf, type="pre_vote_resp"))
    sent = {record["m"]: record for record in e.of_kind("send", to=deaf, type="pre_vote_resp")}
    granted = [answer for answer in answers if sent[answer["m"]]["granted"]]
    reasons = [answer for answer in answers if sent[answer["m"]].get("why")]
    if granted or len(reasons) < len(answers):
        return fails("count", count=len(reasons), needed=len(answers))
    return judged(len(answers) >= 3, "count", count=len(answers), needed=3)


PRE_VOTE = Contract(("term-stayed", term_stayed), ("same-leader", same_leader), ("refused", refused), ONE_LEADER)


# --- 11 A one-way link ------------------------------------------------------------------------------------------------


def leads_on(e: Evidence) -> Verdict:
    """For longer than a lease could last, without one answer."""
    cut, rule = e.fault("cut", -1), e.fault("rules")
    reign = e.reign_at(cut["i"])
    heard = list(e.of_kind("recv", cut["i"], rule["i"], n=reign.leader))
    is_long = rule["t"] - cut["t"] > e.longest
    return holds_if(reign.lasts(cut["i"], rule["i"]) and is_long and not heard, "no-leader")


def steps_down_by_rule(e: Evidence) -> Verdict:
    rule = e.fault("rules")
    old, new = e.reign_at(rule["i"]), e.next_reign(rule["i"])
    is_right = old.ended < new.began and new.leader != old.leader and new.term > old.term
    return judged(is_right, "led", node=new.leader, term=new.term)


def deaf_follows(e: Evidence) -> Verdict:
    return follows_at_last(e, e.reign_at(e.fault("rules")["i"]).leader)


ONE_WAY = Contract(("leads-on", leads_on), ("steps-down", steps_down_by_rule), ("follows", deaf_follows), ONE_LEADER)


# --- 12 A slow network ------------------------------------------------------------------------------------------------


def stepped_down(e: Evidence) -> Verdict:
    slow, fast = e.fault("delay"), e.fault("delay", 1)
    reign = e.reign_at(slow["i"])
    return holds_if(reign.ended < fast["i"], "still-leads", node=reign.leader, term=reign.term)


def nobody_leads_slowly(e: Evidence) -> Verdict:
    slow, fast = e.fault("delay"), e.fault("delay", 1)
    for reign in e.reigns_begun(slow["i"], fast["i"]):
        return leads(reign)
    terms = len(e.candidacies(slow["i"], fast["i"]))  # the old leader's term is one of them
    return judged(terms >= 2, "count", count=terms, needed=2)


def leader_when_fast(e: Evidence) -> Verdict:
    return was_elected(e, e.fault("delay", 1)["i"], term_above=e.reign_at(e.fault("delay")["i"]).term)


SLOW_NETWORK = Contract(
    ("stepped-down", stepped_down),
    ("nobody-leads", nobody_leads_slowly),
    ("then-a-leader", leader_when_fast),
    ONE_LEADER,
)


# --- 15 Chaos ---------------------------------------------------------------------------------------------------------

ROUNDS = 10


def leader_each_round(e: Evidence) -> Verdict:
    """At the end of each round, before the links are healed, one of the majority leads and the others follow it."""
    cuts, heals = e.faults("partition"), e.faults("heal")
    rounds = [(cut, heal) for cut, heal in zip(cuts, heals) if _majority_follows(e, cut, heal["i"])]
    return judged(len(rounds) == len(cuts) >= ROUNDS, "count", count=len(rounds), needed=ROUNDS)


def _majority_follows(e: Evidence, cut: Record, i: int) -> bool:
    majority = _majority_side(cut)
    return e.reign_at(i).leader in majority and not e.strays(i, majority)


def leader_each_heal(e: Evidence) -> Verdict:
    heals = e.faults("heal")
    ends = [cut["i"] for cut in e.faults("partition")[1:]] + [e.last]
    for heal, end in zip(heals, ends):
        verdict = everybody_follows(e, end)
        if not verdict.ok or end < heal["i"]:
            return verdict
    return judged(len(heals) >= ROUNDS, "count", count=len(heals), needed=ROUNDS)


CHAOS = Contract(("leader-each-round", leader_each_round), ("leader-each-heal", leader_each_heal), ONE_LEADER)
