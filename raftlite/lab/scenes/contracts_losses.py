"""The contracts of the scenes about members that are lost: no quorum, a paused leader, amnesia, even or odd."""

from __future__ import annotations

from typing import List, Tuple

from raftlite.lab.scenes.contracts import (
    ONE_LEADER,
    Contract,
    Finding,
    Verdict,
    follows_at_last,
    holds_if,
    in_seconds,
    judged,
    leads,
    one_leader_each,
    was_elected,
)
from raftlite.lab.scenes.evidence import Evidence, NotSeen, Reign, Span
from raftlite.lab.trace import Record, Trace

# --- 6 No quorum ------------------------------------------------------------------------------------------------------


def three_are_enough(e: Evidence) -> Verdict:
    second, third = e.fault("kill", 1), e.fault("kill", 2)
    reign = e.reign_at(second["i"])
    is_long = third["t"] - second["t"] > e.shortest  # a leader that nobody answers would be gone by then
    return holds_if(reign.lasts(second["i"], third["i"]) and is_long, "no-leader")


def _only_two(e: Evidence) -> Tuple[Record, Record]:
    third = e.fault("kill", 2)
    return third, e.fault("start", after=third["i"])


def steps_down_without_quorum(e: Evidence) -> Verdict:
    third, start = _only_two(e)
    reign = e.reign_at(third["i"])
    return holds_if(reign.ended < start["i"], "still-leads", node=reign.leader, term=reign.term)


def nobody_leads(e: Evidence) -> Verdict:
    third, start = _only_two(e)
    for reign in e.reigns_begun(third["i"], start["i"]):
        return leads(reign)
    waited = start["t"] - third["t"]
    return judged(waited > e.longest, "took", seconds=in_seconds(waited))


def terms_stay(e: Evidence) -> Verdict:
    third, start = _only_two(e)
    terms = {state["term"] for state in e.states(after=third["i"], before=start["i"])}
    if not terms:
        raise NotSeen
    return holds_if(len(terms) == 1, "term-grew", before=min(terms), after=max(terms))


def leads_again(e: Evidence) -> Verdict:
    third, start = _only_two(e)
    return was_elected(e, start["i"], term_above=e.reign_at(third["i"]).term)


NO_QUORUM = Contract(
    ("three-are-enough", three_are_enough),
    ("steps-down", steps_down_without_quorum),
    ("nobody-leads", nobody_leads),
    ("terms-stay", terms_stay),
    ("leads-again", leads_again),
    ONE_LEADER,
)


# --- 9 The paused leader ----------------------------------------------------------------------------------------------


def _sleep(e: Evidence) -> Tuple[Reign, Record, Record]:
    """The leader that was frozen, and from when to when."""
    freeze = e.fault("freeze")
    return e.reign_at(freeze["i"]), freeze, e.fault("thaw", after=freeze["i"])


def second_leader(e: Evidence) -> Verdict:
    old, freeze, thaw = _sleep(e)
    new = e.next_reign(freeze["i"], thaw["i"])
    is_right = old.leader == freeze["n"] != new.leader and new.term > old.term
    return judged(is_right and old.lasts(freeze["i"], thaw["i"]), "led", node=new.leader, term=new.term)


def _late_acts(e: Evidence) -> List[Record]:
    old, _, thaw = _sleep(e)
    return list(e.of_kind("act", thaw["i"], by=old.leader, token=old.term))


def acts_once(e: Evidence) -> Verdict:
    acts = _late_acts(e)
    return holds_if(len(acts) <= 1, "count", count=len(acts), needed=1)


def old_token_refused(e: Evidence) -> Verdict:
    acts = _late_acts(e)
    if not acts:
        raise NotSeen
    written = [act for act in acts if act["ok"]]
    return holds_if(not written, "count", count=len(acts) - len(written), needed=len(acts))


def new_may_write(e: Evidence) -> Verdict:
    _, freeze, thaw = _sleep(e)
    new = e.next_reign(freeze["i"], thaw["i"])
    acts = list(e.of_kind("act", new.began, by=new.leader, token=new.term))
    if not acts:
        raise NotSeen
    return holds_if(all(act["ok"] for act in acts), "never-happened")


def sleeper_follows(e: Evidence) -> Verdict:
    return follows_at_last(e, e.fault("freeze")["n"])


PAUSED_LEADER = Contract(
    ("second-leader", second_leader),
    ("acts-once", acts_once),
    ("refused", old_token_refused),
    ("new-may-write", new_may_write),
    ("old-follows", sleeper_follows),
    ONE_LEADER,
)


# --- 10 Amnesia -------------------------------------------------------------------------------------------------------


def _kept(e: Evidence) -> Span:
    return e.stop(0)[0], e.stop(2)[0]


def kept_one_leader(e: Evidence) -> Verdict:
    """Two members are elected after another, with the help of the same voter, in different terms."""
    reigns = e.reigns_begun(*_kept(e))
    if len({reign.leader for reign in reigns}) < 2:
        raise NotSeen
    return one_leader_each(reigns)


def two_leaders(trace: Trace) -> Finding:
    """What the check of all other scenes finds here: it is red, as it ought to be."""
    e = Evidence(trace)
    verdict = one_leader_each(e.reigns_begun(*e.stop(2)))
    return Finding(ONE_LEADER[0], verdict.ok, verdict.why, verdict.values)


def lost_two_leaders(e: Evidence) -> Verdict:
    found = one_leader_each(e.reigns_begun(*e.stop(2)))
    return Verdict(not found.ok, found.why or "never-happened", found.values)


def _guarded(e: Evidence) -> Tuple[Record, Record]:
    """The death of the leader, and the start of the one that has lost its disk."""
    kill = e.fault("kill", after=e.stop(3)[0])
    wipe = e.fault("wipe", after=kill["i"])
    return kill, e.fault("start", after=wipe["i"])


def abstains(e: Evidence) -> Verdict:
    kill, start = _guarded(e)
    reign = e.next_reign(kill["i"])
    seconds = reign.t_began - start["t"]
    return judged(seconds >= 2 * e.shortest, "took", seconds=in_seconds(seconds))


def leader_after_all(e: Evidence) -> Verdict:
    kill, _ = _guarded(e)
    return was_elected(e, kill["i"], term_above=e.reign_at(kill["i"] - 1).term)


AMNESIA = Contract(
    ("kept-one-leader", kept_one_leader),
    ("lost-two-leaders", lost_two_leaders),
    ("abstains", abstains),
    ("then-a-leader", leader_after_all),
)


# --- 13 Even or odd? --------------------------------------------------------------------------------------------------


def _losses(e: Evidence) -> List[Tuple[int, bool]]:
    """After each kill: how many are alive, and whether somebody led before the next thing was done."""
    back = e.fault("start")["i"]
    kills = e.faults("kill", before=back)
    ends = [kill["i"] for kill in kills[1:]] + [back]
    alive = len(e.nodes)
    found = []
    for end in ends:
        alive -= 1
        found.append((alive, any(reign.lasts(end - 1, end - 1) for reign in e.reigns)))
    return found


def majority_leads(e: Evidence) -> Verdict:
    wrong = [alive for alive, has_leader in _losses(e) if has_leader != (alive >= e.majority)]
    return holds_if(not wrong, "count", count=wrong[0] if wrong else 0, needed=e.majority)


def losses(e: Evidence) -> Verdict:
    borne = sum(has_leader for _, has_leader in _losses(e))
    needed = (len(e.nodes) + 1) // 2 - 1
    return judged(borne == needed, "count", count=borne, needed=needed)


def leads_with_majority(e: Evidence) -> Verdict:
    return was_elected(e, e.fault("start")["i"])


EVEN_OR_ODD = Contract(
    ("majority-leads", majority_leads), ("losses", losses), ("leads-again", leads_with_majority), ONE_LEADER
)
