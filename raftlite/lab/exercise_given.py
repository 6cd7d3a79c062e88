"""The recording that part A of the exercise is about, and what is right to say of it, computed from it."""

from __future__ import annotations

from typing import Any, Dict, List, Set

from raftlite.lab.lab import Lab
from raftlite.lab.rules import Rules
from raftlite.lab.trace import Record, Trace, leaders_by_term

SEED = 1
NOBODY = "nobody"

LOSSES = {"cut": "the link was cut", "down": "the receiver did not run", "loss": "the network lost it by chance"}


def make_given() -> Trace:
    """Three leaders, one after the other: the second is cut off, the third comes after a term that nobody leads."""
    with Lab(5, backend="virtual", seed=SEED, rules=Rules(pre_vote=False)) as lab:
        first = lab.elected()
        lab.wait(7.5)  # until nobody abstains any more because it has just started
        lab.kill(first)
        second = lab.elected(lab.state(first).term)
        lab.wait(2.5)
        lab.start(first)
        lab.wait(2.5)
        lab.partition([second], [n for n in lab.nodes if n != second])
        _stand_together(lab, [n for n in lab.nodes if n not in (first, second)])
        lab.elected(lab.state(second).term)
        lab.wait(2.5)
        lab.heal()
        lab.loss(0.15)
        lab.wait(3.5)
        return lab.trace


def _stand_together(lab: Lab, able: List[str]) -> None:
    """Two stand in the same term, and none of them gets a majority of five."""
    lab.wait_for(lambda: all(lab.state(n).role != "leader" for n in lab.nodes), 30.0)
    lab.align(able[:2])
    lab.wait_for(lambda: all(lab.state(n).role == "candidate" for n in able[:2]), 30.0)


def key_of(trace: Trace) -> Dict[str, Any]:
    """The right answers of part A, and the numbers of the messages that are asked about."""
    leaders = leaders_by_term(trace)
    terms = range(1, max(record["term"] for record in _states(trace)) + 1)
    asked = _last_contest(trace)
    lost = {reason: _first_lost(trace, reason) for reason in LOSSES}
    refused = _first_refused(trace)
    return {
        "leaders": {str(term): (leaders.get(term) or [NOBODY])[0] for term in terms},
        "term": asked,
        "votes": votes_of(trace, asked),
        "refused": refused["why"].split()[2] if refused else "",
        "refused_message": refused["m"] if refused else 0,
        "lost": {str(record["m"]): reason for reason, record in lost.items() if record},
    }


def votes_of(trace: Trace, term: int) -> Dict[str, str]:
    """For whom each member voted in a term, itself included; `nobody` where it did not."""
    found = dict.fromkeys(trace.nodes, NOBODY)
    for record in _states(trace):
        if record["term"] == term and record.get("vote"):
            found[record["n"]] = record["vote"]
    return found


def _states(trace: Trace) -> List[Record]:
    return [record for record in trace.records if record["k"] == "state"]


def _last_contest(trace: Trace) -> int:
    """The last term in which two stood."""
    candidates: Dict[int, Set[str]] = {}
    for record in _states(trace):
        if record["role"] == "candidate":
            candidates.setdefault(record["term"], set()).add(record["n"])
    return max((term for term, names in candidates.items() if len(names) > 1), default=0)


def _first_refused(trace: Trace) -> Dict[str, Any]:
    """A request that was refused because the vote was given already."""
    for record in trace.records:
        is_refusal = record["k"] == "recv" and record["type"] == "vote_req" and record["result"] == "refused"
        if (
            is_refusal
            and record["why"].startswith("voted for ")
            and not record["why"].startswith(f"voted for {record['n']} ")
        ):
            return record
    return {}


def _first_lost(trace: Trace, reason: str) -> Dict[str, Any]:
    return next((record for record in trace.records if record["k"] == "lost" and record.get("why") == reason), {})
