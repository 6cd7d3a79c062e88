"""`Stage`: where the members of a lab live, and the time they live in. Each backend is one.

`Lab` decides what happens and writes it down; the stage makes it happen to its members. Calls other than `wait`, `step`
and `close` are made under `quiet()`, while no member is amid a step.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Callable, ContextManager, Dict, Generic, List, Optional, Tuple, TypeVar

from raftlite.errors import RaftliteError
from raftlite.lab.links import NEVER, Agenda, Flight, Links
from raftlite.lab.recorder import Recorder
from raftlite.lab.rules import Draws, RuleBook
from raftlite.timing import Timing

Condition = Callable[[], bool]
T = TypeVar("T")


class LabClosed(RaftliteError):
    """The lab was closed while somebody waited for it, or before."""


@dataclass(frozen=True)
class Plan:
    """What members are made of."""

    nodes: Tuple[str, ...]
    seed: int
    timing: Timing
    scale: float
    book: RuleBook

    def others(self, n: str) -> List[str]:
        return [other for other in self.nodes if other != n]

    @property
    def min_nodes(self) -> Optional[int]:
        """A cluster of one has to be asked for."""
        return 1 if len(self.nodes) == 1 else None

    def seed_of(self, n: str, inc: int) -> str:
        """What the random numbers of one life of a member come from."""
        return f"{self.seed} {n} {inc}"

    def draws(self, n: str, inc: int) -> Draws:
        return Draws(self.seed_of(n, inc), self.book)


class Stage(ABC):
    """Holds the members of `plan`; `open` gives it the links over which they talk, and the recorder of their steps."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.agenda = Agenda()

    def open(self, links: Links, recorder: Recorder, on_lost: Callable[[str, str], None]) -> None:
        """`on_lost(n, why)` is called when a member has ended of its own accord."""
        self.links, self.recorder, self.on_lost = links, recorder, on_lost

    # --- Time -------------------------------------------------------------------------------------

    @property
    @abstractmethod
    def now(self) -> float:
        """Seconds of the cluster's clock since the start."""

    @abstractmethod
    def quiet(self) -> ContextManager[None]:
        """Nothing happens during the body. Raises `LabClosed`."""

    def look(self, read: Callable[[], T]) -> T:
        """What `read` finds, while nothing changes. Also after `close`."""
        return read()

    @abstractmethod
    def wait(
        self, seconds: float, condition: Optional[Condition] = None, do: Optional[Callable[[], None]] = None
    ) -> bool:
        """Let time pass until `condition` holds, at most `seconds`; True if it does, and then `do` is called at once.

        Raises `LabClosed`.
        """

    @abstractmethod
    def pause(self) -> None:
        """Stop the clock. Raises `ConfigError` where it cannot be stopped, as `play`, `step` and `set_scale` do."""

    @property
    def is_stopped(self) -> bool:
        """Whether time passes for nobody, however long one waits."""
        return False

    @abstractmethod
    def play(self) -> None:
        """Let the clock go on."""

    @abstractmethod
    def step(self, seconds: Optional[float]) -> None:
        """Let a stopped clock go on by `seconds`, or to the next thing that happens."""

    @abstractmethod
    def set_scale(self, scale: float) -> None:
        """From now on a second of the cluster takes `scale` seconds."""

    # --- Members ----------------------------------------------------------------------------------

    @abstractmethod
    def start(self, names: List[str]) -> None:
        """Start the processes of these members, with the votes that they had saved."""

    def await_start(self, names: List[str]) -> None:
        """Wait until these have begun to take part. Called without `quiet()`."""

    @abstractmethod
    def end(self, n: str) -> None:
        """End the process of `n` at once: it says and saves nothing more."""

    @abstractmethod
    def forget(self, n: str) -> None:
        """Lose the saved votes of `n`, which does not run."""

    @abstractmethod
    def freeze(self, n: str) -> None:
        """`n` does nothing, while its clock goes on and its messages pile up."""

    @abstractmethod
    def thaw(self, n: str) -> None:
        """`n` goes on."""

    def pid(self, n: str) -> Optional[int]:
        """The process of `n`, where it has one of its own."""
        return None

    @abstractmethod
    def deliver(self, flight: Flight) -> bool:
        """A message arrives; False if its receiver is down."""

    @abstractmethod
    def tell(self, n: str, message: Any) -> None:
        """Give a control message to `n`, if it runs."""

    @abstractmethod
    def apply_rules(self) -> None:
        """The rules in the plan's book have changed."""

    @abstractmethod
    def close(self) -> int:
        """End everything; return how many steps went unrecorded. Twice is fine."""


class Timed(ABC):
    """A member that has a timer."""

    @property
    @abstractmethod
    def due(self) -> float:
        """When it runs out."""


M = TypeVar("M", bound=Timed)


class Timeline(Stage, Generic[M]):
    """A stage on which one thing happens after the other, at the very time when it is due."""

    _members: Dict[str, M]

    @abstractmethod
    def _jump(self, now: float) -> None:
        """It is so late now."""

    @abstractmethod
    def _run_timer(self, member: M) -> None:
        """The timer of `member` has run out."""

    @property
    def _next_due(self) -> float:
        return min(self.agenda.next_due, *(member.due for member in self._members.values()))

    def _happen(self, due: float) -> None:
        """Let the next thing happen. What has arrived is heard before a timer fires."""
        self._jump(due)
        if self.agenda.next_due <= due:
            self.agenda.do_next()
        else:
            self._run_timer(min(self._members.values(), key=lambda member: member.due))

    def _advance(self, end: float, condition: Condition) -> bool:
        """Go on until `end`, or until `condition` holds; return whether it does."""
        while not condition():
            due = self._next_due
            if due > end or due == NEVER:
                if end < NEVER:
                    self._jump(end)
                return condition()
            self._happen(due)
        return True

    def _step_on(self, seconds: Optional[float]) -> None:
        if seconds is None:
            before = self.recorder.trace.last
            self._advance(NEVER, lambda: self.recorder.trace.last > before)
        else:
            self._advance(self.now + seconds, lambda: False)
