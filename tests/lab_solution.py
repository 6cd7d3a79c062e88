"""A student who knows everything: fills the folder of the exercise as it ought to be handed in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, List

from raftlite.lab import Lab, Rules
from raftlite.lab.act_out import turns
from raftlite.lab.exercise import write_handout
from raftlite.lab.exercise_given import key_of, make_given
from raftlite.lab.measure import Row, medians, one_election, to_csv, to_svg
from raftlite.lab.scenes import SCENES, play
from raftlite.lab.trace import Trace, to_jsonl

SPREADS = (0.0, 0.2, 1.0, 2.0)
WORDS = "Two majorities share a member, and one that has forgotten its vote gives it to somebody else once more."

VOTER = """
from raftlite.lab.student import StudentElection


class Voter(StudentElection):
    def _on_request_vote(self, request, now):
        why = self.leader_is_alive(request, now)
        if why:
            return self.answer(request, False, why)
        if request.term > self.current_term and not request.pre_vote:
            self.begin_term(request.term, now)
        if request.term < self.current_term:
            return self.answer(request, False, "that term is over")
        if request.term == self.current_term and self.voted_for not in (None, request.sender_id):
            return self.answer(request, False, "voted already")
        why = self.may_have_forgotten(request, now)
        if why:
            return self.answer(request, False, why)
        if not request.pre_vote:
            self.vote_for(request.sender_id, now)
        self.answer(request, True)
"""


def write_solution(folder: Path, rows: List[Row]) -> None:
    """A new folder with all that is right."""
    write_handout(folder)
    (folder / "answers.json").write_text(json.dumps(answers(rows)), encoding="utf-8")
    save(folder / "two-leaders.jsonl", two_leaders())
    save(folder / "no-leader.jsonl", no_leader())
    (folder / "elections.csv").write_text(to_csv(rows), encoding="utf-8")
    (folder / "elections.svg").write_text(to_svg(rows), encoding="utf-8")
    save(folder / "amnesia.jsonl", amnesia())
    (folder / "student.py").write_text(VOTER, encoding="utf-8")
    (folder / "n3.json").write_text(json.dumps({"node": "n3", "answers": letters()}), encoding="utf-8")


def save(path: Path, trace: Trace) -> None:
    path.write_text(to_jsonl(trace), encoding="utf-8")


def answers(rows: List[Row]) -> Dict[str, Any]:
    key = key_of(make_given())
    return {
        "A": {name: key[name] for name in ("leaders", "votes", "refused", "lost")},
        "C": {"medians": {f"{spread:g}": value for spread, value in medians(rows).items()}, "why": WORDS},
        "D": {"term": 1, "leaders": ["n1", "n3"], "voted_twice": "n2", "why": WORDS},
    }


def letters() -> Dict[str, str]:
    return {str(turn.i): "abcdefgh"[turn.answer] for turn in turns(make_given(), "n3")}


def two_leaders(seed: int = 0) -> Trace:
    """A leader that is frozen does not learn that it leads no more."""
    with Lab(5, backend="virtual", seed=seed) as lab:
        first = lab.elected()
        lab.wait(7.5)
        lab.freeze(first)
        lab.elected(lab.state(first).term)
        return lab.trace


def no_leader(seed: int = 0) -> Trace:
    """Whoever stands is killed before it has its votes."""
    with Lab(5, backend="virtual", seed=seed) as lab:
        first = lab.elected()
        lab.wait(7.5)
        lab.kill(first)
        lab.wait_for(lambda: _candidate(lab) is not None, 60.0)
        term = lab.state(_candidate(lab)).term
        lab.kill(_candidate(lab))
        lab.elected(term)
        return lab.trace


def _candidate(lab: Lab) -> Any:
    return next((n for n in lab.nodes if lab.state(n).role == "candidate"), None)


def amnesia(seed: int = 0) -> Trace:
    scene = SCENES["amnesia"]
    with Lab(**scene.settings(), backend="virtual", seed=seed) as lab:
        play(scene, lab)
        return lab.trace


def healthy() -> Trace:
    """Nothing of what part B asks for."""
    with Lab(3, backend="virtual", rules=Rules()) as lab:
        lab.elected()
        lab.kill(lab.nodes[0])
        return lab.trace


def elections(count: int) -> List[Row]:
    return [one_election(spread, seed) for spread in SPREADS for seed in range(count)]
