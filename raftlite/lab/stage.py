"""`Stage`: where the members of a lab live, and the time they live in. Each backend is one.

`Lab` decides what happens and writes it down; the stage makes it happen to its members. Calls other than `wait`, `step`
and `close` are made under `quiet()`, while no member is amid a step.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Callable, ContextManager, List, Optional, Tuple, TypeVar

from raftlite.errors import RaftliteError
from raftlite.lab.links import Agenda, Flight, Links
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

    def draws(self, n: str, inc: int) -> Draws:
        """The random numbers of one life of a member."""
        return Draws(f"{self.seed} {n} {inc}", self.book)


class Stage(ABC):
    """Holds the members of `plan`; `open` gives it the links over which they talk, and the recorder of their steps."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.agenda = Agenda()

    def open(self, links: Links, recorder: Recorder) -> None:
        self.links, self.recorder = links, recorder

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
