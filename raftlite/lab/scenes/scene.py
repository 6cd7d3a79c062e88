"""What a scene is, and one performance of it on a lab.

Scene: stops, a contract ─▶ Play ─▶ acts on the Lab ─▶ Trace ─▶ contract ─▶ Checks
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Optional, Sequence, Tuple, Union

from raftlite.errors import ConfigError, RaftliteError
from raftlite.lab.rules import ALL_RULES, Rules
from raftlite.lab.scenes.contracts import Contract, Finding
from raftlite.lab.scenes.words import check_words, text, why_words
from raftlite.timing import Timing

if TYPE_CHECKING:
    from raftlite.lab.lab import Lab
    from raftlite.lab.trace import NodeView

BACKENDS = ("threads", "virtual", "processes")
PATIENCE = 40  # election timeouts that a stop waits for what is bound to come
BY = "scene"  # who does things, in the trace


@dataclass(frozen=True)
class Check:
    """Whether something was to be seen that ought to be, in words."""

    name: str
    ok: bool
    why: str = ""


@dataclass(frozen=True)
class Stop:
    """A stop of a scene: its words are under `key` in the text of the scene; `act` is what happens at it."""

    key: str
    act: Callable[[Play], None]


@dataclass(frozen=True)
class Scene:
    """What a lecturer shows. `contract` says, from the trace alone, whether that was to be seen.

    `sizes` are other numbers of members with which it makes sense.
    """

    name: str
    nodes: int
    stops: Tuple[Stop, ...]
    contract: Contract
    rules: Rules = ALL_RULES
    delay: Tuple[float, float] = (0.4, 0.6)
    timing: Optional[Timing] = None
    proof: bool = False
    backends: Tuple[str, ...] = BACKENDS
    sizes: Tuple[int, ...] = ()
    in_show: bool = False

    def settings(self, nodes: Optional[int] = None) -> Dict[str, Any]:
        """What to give `Lab` for this scene. Raises `ConfigError` for a number of members it is not made for."""
        if nodes not in (None, self.nodes, *self.sizes):
            known = ", ".join(map(str, sorted({self.nodes, *self.sizes})))
            raise ConfigError(f"the scene {self.name} has {known} members, not {nodes}")
        settings = {"nodes": nodes or self.nodes, "rules": self.rules, "delay": self.delay, "scene": self.name}
        if self.timing is not None:
            settings["timing"] = self.timing
        return {**settings, "proof": self.proof}


class SceneStuck(RaftliteError):
    """A stop has waited in vain. Whoever performs the scene says so in a check and goes on to the contract."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"waited for {seconds:g} s in vain")
        self.seconds = seconds


class SceneCancelled(RaftliteError):
    """A stop was waiting when the performance was cancelled."""


class Play:
    """One performance of `scene` on `lab`; what the stops do, they do by its methods.

    `cast` remembers who plays which part: members are found at run time, never named beforehand.
    """

    def __init__(self, scene: Scene, lab: Lab, language: str = "en") -> None:
        self.scene, self.lab = scene, lab
        self.words = text(language)
        self.random = random.Random(f"{lab.seed} {scene.name}")
        self.cast: Dict[str, str] = {}
        self.position = 0  # how many stops have begun
        self.stuck = ""  # why it cannot go on, in words
        self.begun: List[int] = []  # the number of the record with which each stop began
        self.checks: List[Check] = []
        self._asked: Optional[Dict[str, Any]] = None  # the words of the stop whose question is open
        self._answered: Optional[Dict[str, Any]] = None
        self._is_cancelled = False
        self.before_asking: Callable[[], None] = lambda: None  # called on the thread of `act`

    # --- From stop to stop ------------------------------------------------------------------------

    @property
    def is_over(self) -> bool:
        return bool(self.stuck) or self.position >= len(self.scene.stops)

    def next(self) -> None:
        """Perform the next stop; with the last one, look whether the contract was kept."""
        if not self.is_over:
            self.begin()
            self.act()

    def begin(self) -> None:
        """Begin the next stop: say what is to be seen. `act` has to follow."""
        self.position += 1
        self._answered = None
        self._note(self._stop_words["text"], "narration")
        self.begun.append(self.lab.trace.last)

    def act(self) -> None:
        """Do what happens at the stop that has begun."""
        try:
            self.scene.stops[self.position - 1].act(self)
        except SceneStuck as stuck:
            self.stuck = why_words(self.words, "stuck", {"stop": self.position, "seconds": f"{stuck.seconds:g}"})
        except (ConfigError, TimeoutError) as error:  # what it was about to do makes no sense: somebody interfered
            self.stuck = why_words(self.words, "failed", {"stop": self.position, "reason": str(error)})
        self._answer()
        if not self.stuck:
            self._ask()
        if self.is_over:
            self._conclude()

    def cancel(self) -> None:
        """Whatever stop is waiting gives up, with `SceneCancelled`. Any thread may call it."""
        self._is_cancelled = True

    @property
    def _stop_words(self) -> Dict[str, Any]:
        words: Dict[str, Any] = self.words["scenes"][self.scene.name]
        stop: Dict[str, Any] = words["stops"][self.scene.stops[self.position - 1].key] if self.position else {}
        return stop

    def text(self) -> Dict[str, Any]:
        """What to show now, in words.

        `title` and `summary` of the scene; `text` of the stop `stop` of `of`; `question` and `answers` once it is
        `asked`, with `answer` (an index) and `because`; `answered` is the question of the stop before, once its answer
        was to be seen; `stuck` says why the scene cannot go on.
        """
        scene, asked, answered = self.words["scenes"][self.scene.name], self._asked, self._answered
        question = ("question", "answers", "answer", "because")
        return {
            "title": scene["title"],
            "summary": scene["summary"],
            "text": self._stop_words.get("text", ""),
            "stop": self.position,
            "of": len(self.scene.stops),
            "asked": asked is not None,
            **{name: asked[name] if asked else None for name in question},
            "answered": {name: answered[name] for name in question} if answered else None,
            "stuck": self.stuck,
        }

    def _ask(self) -> None:
        words = self._stop_words
        if "question" in words:
            self.before_asking()
            self._asked = words
            answers = "".join(f"\n{letter}) {answer}" for letter, answer in zip("ABCDEFGH", words["answers"]))
            self._note(words["question"] + answers, "question")

    def _answer(self) -> None:
        asked = self._answered = self._asked
        self._asked = None
        if asked is not None:
            self._note(
                f"{'ABCDEFGH'[asked['answer']]}) {asked['answers'][asked['answer']]}. {asked['because']}", "answer"
            )

    def _note(self, words: str, kind: str) -> None:
        self.lab.note(words, by=BY, kind=kind)

    def _conclude(self) -> None:
        findings = self.scene.contract(self.lab.trace)
        self.checks = [Check(self._check_words(each.name), each.ok, self.say(each)) for each in findings]
        if self.stuck:
            self.checks.append(Check(self._check_words("as-planned"), False, self.stuck))
        for check in self.checks:
            self.lab.check(check.name, check.ok, check.why)

    def _check_words(self, name: str) -> str:
        return check_words(self.words, self.scene.name, name)

    def say_finding(self, finding: Finding) -> None:
        """Record a finding at once, before the scene is over."""
        self.lab.check(self._check_words(finding.name), finding.ok, self.say(finding))

    def say(self, finding: Finding) -> str:
        """The reason of a finding, in words."""
        return why_words(self.words, finding.why, finding.values)

    # --- What stops wait for ----------------------------------------------------------------------

    @property
    def timeout(self) -> float:
        """The shortest election timeout."""
        return self.lab.timing.election_timeout

    @property
    def heartbeat(self) -> float:
        return self.lab.timing.heartbeat_interval

    @property
    def slowest(self) -> float:
        """Longer than a message takes."""
        return 1.2 * self.scene.delay[1]

    def wait(self, seconds: float) -> None:
        self._wait_for(lambda: False, seconds)

    def _wait_for(self, condition: Callable[[], bool], seconds: float) -> bool:
        holds = self.lab.wait_for(lambda: self._is_cancelled or condition(), seconds)
        if self._is_cancelled:
            raise SceneCancelled("the scene was ended in the middle of a stop")
        return holds

    def until(self, condition: Callable[[], bool], seconds: Optional[float] = None) -> None:
        """Wait for what is bound to come. Raises `SceneStuck` if it does not."""
        seconds = PATIENCE * self.timeout if seconds is None else seconds
        if not self._wait_for(condition, seconds):
            raise SceneStuck(seconds)

    def until_settled(self, among: Optional[Sequence[str]] = None) -> str:
        """Wait until one of `among` (else of all) leads and all of these that are awake follow it; return its id."""
        members = list(among or self.lab.nodes)
        self.until(lambda: self._leader_of(members) is not None)
        leader = self._leader_of(members)
        return leader if leader is not None else self.until_settled(among)  # it was lost at that very moment

    def _leader_of(self, members: Sequence[str]) -> Optional[str]:
        leader = self.lab.leader()
        if leader is None or leader not in members:
            return None
        term = self.state(leader).term
        awake = [state for state in map(self.state, members) if state.is_up and not state.is_paused]
        return leader if all((state.leader, state.term) == (leader, term) for state in awake) else None

    def spread(self, members: Sequence[str]) -> None:
        """Let the election timers of `members` run out one after the other, where each of their votes is needed.

        Otherwise two who stand at once would keep everybody waiting for half a minute, time and again.
        """
        self.lab.spread(members, by=BY)

    def until_role(self, members: Union[str, Sequence[str]], *roles: str) -> str:
        """Wait until one of `members` has one of `roles`; return its id."""
        names = [members] if isinstance(members, str) else list(members)
        found: List[str] = []

        def look() -> bool:
            found[:] = [n for n in names if self.state(n).role in roles]
            return bool(found)

        self.until(look)
        return found[0]

    def state(self, n: str) -> NodeView:
        return self.lab.state(n)

    def count(self, after: int, kind: str, **fields: Any) -> int:
        """How many records of a kind, with these fields, have come after a number."""
        records = self.lab.trace.records[after:]
        return sum(
            record["k"] == kind and all(record.get(name) == value for name, value in fields.items())
            for record in records
        )

    def others(self, *without: str) -> List[str]:
        """The members that run, but for these."""
        return [n for n in self.lab.nodes if n not in without and self.lab.is_up(n)]


def play(scene: Scene, lab: Lab, language: str = "en") -> List[Check]:
    """Perform a whole scene, one stop right after the other; return what the contract finds."""
    performance = Play(scene, lab, language)
    while not performance.is_over:
        performance.next()
    return performance.checks
