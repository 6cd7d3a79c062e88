"""What the student's election of part E is made of, and the scenes that it has to pass.

class Voter(StudentElection):
    def _on_request_vote(self, request, now): ...

try_out(Voter)     # runs everything, in this process
"""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Set, Tuple, Type

from raftlite.election import Election, Ready, Role, Saved
from raftlite.lab.lab import Lab
from raftlite.lab.rules import LabElection, RuleBook, Rules
from raftlite.lab.scenes import SCENES, play
from raftlite.lab.stage import Plan, Stage
from raftlite.lab.trace import Trace, to_jsonl
from raftlite.lab.virtual import VirtualStage
from raftlite.messages import Heartbeat, RequestVote, RequestVoteResponse
from raftlite.timing import Timing

SCENES_TO_PASS = (
    "cold-start",
    "heartbeats",
    "leader-dies",
    "split-vote",
    "minority-leader",
    "no-quorum",
    "disruptive-follower",
    "pre-vote",
)
SEEDS = (0, 1, 2)


class StudentElection(LabElection):
    """raftlite's election without its answer to a RequestVote, which is yours to write."""

    def _on_request_vote(self, request: RequestVote, now: float) -> None:
        """A candidate asks for a vote. Call `answer` exactly once."""
        raise NotImplementedError("_on_request_vote is not written yet")

    # --- What you may look at, beside self.node_id, self.current_term and self.voted_for ---

    def leader_is_alive(self, request: RequestVote, now: float) -> str:
        """Why nobody else may be elected now; empty if somebody may. It knows the exception for a leader that hands
        over."""
        return self._leader_is_alive(request, now)

    def may_have_forgotten(self, request: RequestVote, now: float) -> str:
        """Why this member must not vote yet: it has started without any saved vote. Empty if it may."""
        return self._abstains(request, now)

    # --- What you may do ---

    def begin_term(self, term: int, now: float) -> None:
        """Set the current term, which has to be newer, without a vote, and become a follower."""
        self._become_follower(term, now)

    def vote_for(self, candidate_id: str, now: float) -> None:
        """Vote in the current term; it is saved before anything is sent. Sets the election timer anew."""
        self._grant_vote(candidate_id, now)

    def answer(self, request: RequestVote, granted: bool, why: str = "") -> None:
        """Send the answer; a refusal says why."""
        self._answer_vote(request, "" if granted else why or "refused")

    # --- How it is called ---

    def receive(self, message: Any, now: float) -> Ready:
        if type(message) is not RequestVote:
            return super().receive(message, now)
        if self.role is Role.STOPPED or message.sender_id == self.node_id:
            return Ready()
        self._step_down_without_lease(now)
        self._receive_request_vote(message, now)
        return self._ready(now)

    def _receive_request_vote(self, request: RequestVote, now: float) -> None:
        stranger = self._stranger(request)
        if stranger:
            self._answer_vote(request, stranger)
        else:
            self._on_request_vote(request, now)


class StudentLab(Lab):
    """A lab on the virtual clock whose members are of a class of the student's."""

    def __init__(self, election_class: Type[LabElection], **settings: Any) -> None:
        self._election_class = election_class
        super().__init__(backend="virtual", **settings)

    def _make_stage(self, plan: Plan) -> Stage:
        stage = VirtualStage(plan)
        stage.election_class = self._election_class
        return stage


class Outcome(NamedTuple):
    """Whether something that is asked of the student's election holds; otherwise why not, and where to look."""

    name: str
    ok: bool
    why: str = ""
    trace: str = ""  # the file of the recording


# --- Single questions ---------------------------------------------------------------------------------

_TIMING = Timing(heartbeat_interval=1.0, election_timeout=3.0, message_timeout=1.0)
_LATE = 100.0  # when nothing is left of how it began

Situation = Tuple[str, Saved, Callable[[Election], None], Dict[str, Any]]


def _nothing(_: Election) -> None:
    pass


def _hears_leader(election: Election) -> None:
    version = election.membership.position
    election.receive(Heartbeat(4, "n2", 1, version), _LATE - 1)


def _stands(election: Election) -> None:
    election.timeout(_LATE - 1)


_SITUATIONS: Tuple[Situation, ...] = (
    ("a first request in a newer term", Saved(4, "n2"), _nothing, {"term": 5}),
    ("a request of a term that is over", Saved(4, None), _nothing, {"term": 3}),
    ("a request, and no vote given in this term", Saved(4, None), _nothing, {"term": 4}),
    ("a request, but the vote of this term is given", Saved(4, "n2"), _nothing, {"term": 4}),
    ("the same candidate asks again", Saved(4, "n3"), _nothing, {"term": 4}),
    ("a request, but the member stands itself", Saved(4, "n2"), _stands, {"term": 5}),
    ("a newer term, but a leader is alive", Saved(4, "n2"), _hears_leader, {"term": 5}),
    ("a newer term, and the leader itself asked for it", Saved(4, "n2"), _hears_leader, {"term": 5, "transfer": True}),
    ("a pre-vote, which changes nothing", Saved(4, "n2"), _nothing, {"term": 5, "pre_vote": True}),
    ("a pre-vote of a term that is over", Saved(4, None), _nothing, {"term": 3, "pre_vote": True}),
    ("a pre-vote while a leader is alive", Saved(4, "n2"), _hears_leader, {"term": 5, "pre_vote": True}),
)


def ask(election_class: Type[LabElection]) -> Iterator[Outcome]:
    """One situation after the other: does it answer as raftlite does, and remember the same?"""
    for situation in _SITUATIONS:
        name = f"alone: {situation[0]}"
        try:
            right, said = _play(LabElection, situation), _play(election_class, situation)
        except Exception as error:
            yield Outcome(name, False, where(error))
            continue
        yield Outcome(name, said == right, "" if said == right else f"{_words(said)}; right is: {_words(right)}")


def _play(election_class: Type[LabElection], situation: Situation) -> Dict[str, Any]:
    _, saved, prepare, asked = situation
    book = RuleBook(Rules(pre_vote=False, jitter=0.0))
    election = election_class(book, "n1", saved, ["n2", "n3", "n4", "n5"], _TIMING)
    election.start(0.0)
    prepare(election)
    members = tuple(sorted(election.membership.voters))
    request = RequestVote(sender_id="n3", membership_version=election.membership.position, member_ids=members, **asked)
    timer = election.deadline
    ready = election.receive(request, _LATE)
    answers = [each for to, each in ready.outbox if to == "n3" and isinstance(each, RequestVoteResponse)]
    return {
        "answers": [(each.vote_granted, each.term) for each in answers],
        "term": election.current_term,
        "vote": election.voted_for,
        "saved": None if ready.saved is None else (ready.saved.current_term, ready.saved.voted_for),
        "timer": election.deadline != timer,
    }


def _words(said: Dict[str, Any]) -> str:
    given = (
        " and ".join(f"{'yes' if granted else 'no'} (term {term})" for granted, term in said["answers"]) or "nothing"
    )
    timer = ", timer set anew" if said["timer"] else ""
    kept = "" if said["saved"] is None else ", saved"
    return f"answers {given}, then term {said['term']}, vote for {said['vote'] or 'nobody'}{kept}{timer}"


# --- Scenes -------------------------------------------------------------------------------------------


def perform(election_class: Type[LabElection], folder: Path) -> Iterator[Outcome]:
    """Each scene with each seed, until it fails; the recording of the first failure is left in `folder`."""
    for name in SCENES_TO_PASS:
        yield _scene(election_class, name, folder)


def _scene(election_class: Type[LabElection], name: str, folder: Path) -> Outcome:
    for seed in SEEDS:
        scene = SCENES[name]
        lab = StudentLab(election_class, seed=seed, **scene.settings())
        with lab:
            why = _why_failed(scene, lab)
        if why:
            path = folder / f"failed-{name}.jsonl"
            path.write_text(to_jsonl(lab.trace), encoding="utf-8")
            return Outcome(f"scene {name}", False, why, path.name)
    return Outcome(f"scene {name}", True)


def _why_failed(scene: Any, lab: Lab) -> str:
    try:
        checks = play(scene, lab)
    except Exception as error:
        return f"record {lab.trace.last}: {where(error)}"
    double = double_vote(lab.trace)
    if double:
        return double
    wrong = [check for check in checks if not check.ok]
    return f"not so: {wrong[0].name}. {wrong[0].why}".strip() if wrong else ""


def double_vote(trace: Trace) -> str:
    """Where a member gave its vote twice in a term; empty if none did."""
    given: Dict[Tuple[str, int], Set[str]] = {}
    for record in trace.records:
        if record["k"] == "send" and record["type"] == "vote_resp" and record.get("granted"):
            names = given.setdefault((record["n"], record["term"]), set())
            names.add(record["to"])
            if len(names) > 1:
                return f"record {record['i']}: {record['n']} votes for {record['to']} too in term {record['term']}"
    return ""


def where(error: BaseException) -> str:
    """An exception in a line, with the line of the student's file that raised it."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename).name == "student.py"]
    own = [frame for frame in frames if Path(frame.filename) != Path(__file__)]
    place = f" (line {own[-1].lineno} of student.py)" if own else ""
    return f"{type(error).__name__}: {error}{place}"[:500]


def try_out(election_class: Type[LabElection], folder: Optional[Path] = None) -> bool:
    """Run everything and print what comes of it; True if all is right."""
    outcomes: List[Outcome] = []
    for run in (ask(election_class), perform(election_class, folder or Path())):
        for outcome in run:
            outcomes.append(outcome)
            print(f"{'✓' if outcome.ok else '✗'} {outcome.name}" + (f": {outcome.why}" if outcome.why else ""))
            if outcome.trace:
                print(f"    raftlite lab {outcome.trace}")
    return all(outcome.ok for outcome in outcomes)
