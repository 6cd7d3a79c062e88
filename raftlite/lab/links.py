"""Who reaches whom, how fast and how safely, and what is on its way: the only truth about a lab's network.

member ─ send ─▶ Links ─▶ Flight on the agenda ─▶ deliver ─▶ member
                   └─▶ lost: cut, loss, down, operator
"""

from __future__ import annotations

import heapq
import random
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any, Callable, Dict, Iterable, List, Optional, Set, Tuple

from raftlite.errors import ConfigError

if TYPE_CHECKING:
    from raftlite.lab.recorder import Recorder

Pair = Tuple[str, str]
NEVER = float("inf")


class Agenda:
    """What is to happen, in the order of its time."""

    def __init__(self) -> None:
        self._heap: List[Tuple[float, int, Callable[[], None]]] = []
        self._numbers = count()

    @property
    def next_due(self) -> float:
        return self._heap[0][0] if self._heap else NEVER

    def at(self, due: float, do: Callable[[], None]) -> None:
        heapq.heappush(self._heap, (due, next(self._numbers), do))

    def do_next(self) -> None:
        heapq.heappop(self._heap)[2]()


@dataclass(eq=False)
class Flight:
    """One copy of a message on its way. `copy` is 0 for the message itself."""

    m: int
    copy: int
    sender: str
    receiver: str
    message: Any
    due: float = NEVER
    remaining: Optional[float] = None  # seconds that it had to go when it was held
    has_arrived: bool = False  # it waits for its receiver to hear it


class Links:
    """The link matrix, and the messages in flight. `deliver` takes a flight that arrives; False if nobody is there."""

    def __init__(
        self, recorder: Recorder, agenda: Agenda, now: Callable[[], float], deliver: Callable[[Flight], bool], seed: int
    ) -> None:
        self.cut: Set[Pair] = set()
        self.delay: Tuple[float, float] = (0.0, 0.0)
        self.loss = 0.0
        self.shape: Dict[Pair, float] = {}  # links that have a delay of their own
        self._recorder, self._agenda, self._now, self._deliver = recorder, agenda, now, deliver
        self._flights: List[Flight] = []
        self._copies: Dict[int, int] = {}  # of the messages that were duplicated, the latest
        self._numbers = count(1)
        self._random = random.Random(f"{seed} links").random

    # --- Sending and arriving ---------------------------------------------------------------------

    def send(self, sender: str, receiver: str, message: Any) -> None:
        """Put a message on its way, or lose it. None overtakes another over the same link, as over a connection."""
        flight = Flight(next(self._numbers), 0, sender, receiver, message)
        lost = self._why_lost(flight)
        now = self._now()
        due = max(now + self.seconds(sender, receiver), self.last_due(sender, receiver))
        self._recorder.sent(flight, now, None if lost else due)
        if lost:
            self._recorder.lost(flight, lost)
        else:
            self._flights.append(flight)
            self._set_out(flight, due)

    def _why_lost(self, flight: Flight) -> str:
        if (flight.sender, flight.receiver) in self.cut:
            return "cut"
        return "loss" if self.loss and self._random() < self.loss else ""

    def seconds(self, sender: str, receiver: str) -> float:
        """How long the next message takes over this link."""
        least, most = self.delay
        seconds = least + (most - least) * self._random()
        return self.shape.get((sender, receiver), seconds)

    def _set_out(self, flight: Flight, due: float) -> None:
        flight.due = due
        self._agenda.at(due, lambda: self._arrive(flight, due))

    def _arrive(self, flight: Flight, due: float) -> None:
        if flight.due != due or flight not in self._flights:
            return  # it was held, dropped or cut off since
        flight.due, flight.has_arrived = NEVER, True
        if not self._deliver(flight):
            self._lose(flight, "down")

    def heard(self, flight: Flight) -> None:
        """Its receiver has dealt with it."""
        self._flights.remove(flight)

    def close_down(self, n: str) -> None:
        """The process of `n` is gone, and with it whatever had arrived there and was not heard."""
        for flight in [each for each in self._flights if each.has_arrived and each.receiver == n]:
            self._lose(flight, "down")

    def _lose(self, flight: Flight, why: str) -> None:
        self._flights.remove(flight)
        self._recorder.lost(flight, why)

    # --- What is on its way -----------------------------------------------------------------------

    @property
    def is_quiet(self) -> bool:
        """Whether nothing is on its way; what is held, or waits for a frozen receiver, does not count."""
        return all(flight.due == NEVER for flight in self._flights)

    def last_due(self, sender: str, receiver: str) -> float:
        """When the last of what is on its way from one to the other arrives; 0 if nothing is. A copy is no matter."""
        link = [each for each in self._flights if each.receiver == receiver and each.sender == sender]
        return max((each.due for each in link if each.due != NEVER and not each.copy), default=0.0)

    @property
    def slowest(self) -> float:
        """The longest that a message may take, in seconds."""
        return max(self.delay[1], *self.shape.values()) if self.shape else self.delay[1]

    def flying(self, m: int) -> List[Flight]:
        """The copies of message `m` that have not arrived. Raises `ConfigError` if there are none."""
        found = [flight for flight in self._flights if flight.m == m and not flight.has_arrived]
        if not found:
            raise ConfigError(f"message {m!r} is not in flight: it has arrived, was lost, or was never sent")
        return found

    def drop(self, m: int) -> None:
        for flight in self.flying(m):
            self._lose(flight, "operator")

    def hold(self, m: int) -> None:
        for flight in self.flying(m):
            if flight.remaining is None:
                flight.remaining, flight.due = flight.due - self._now(), NEVER

    def release(self, m: int) -> None:
        for flight in self.flying(m):
            if flight.remaining is not None:
                remaining, flight.remaining = flight.remaining, None
                self._set_out(flight, self._now() + remaining)

    def next_copy(self, m: int) -> int:
        """The number that the next copy of `m` would have."""
        self.flying(m)
        return self._copies.get(m, 0) + 1

    def duplicate(self, m: int) -> None:
        """A second copy, which comes later than the first."""
        original = self.flying(m)[0]
        self._copies[m] = self.next_copy(m)
        copy = Flight(m, self._copies[m], original.sender, original.receiver, original.message)
        self._flights.append(copy)
        due = self._now() if original.due == NEVER else original.due
        self._set_out(copy, due + self.seconds(copy.sender, copy.receiver) / 2)

    # --- The matrix -------------------------------------------------------------------------------

    def cut_off(self, pairs: Iterable[Pair]) -> None:
        """What is on its way over a link that is cut is lost."""
        new = set(pairs) - self.cut
        self.cut |= new
        self.record()
        for flight in list(self._flights):
            if (flight.sender, flight.receiver) in new and not flight.has_arrived:
                self._lose(flight, "cut")

    def mend(self, pairs: Iterable[Pair]) -> None:
        self.cut -= set(pairs)
        self.record()

    def heal(self) -> None:
        """Every link is whole, and as fast as the others."""
        self.cut.clear()
        self.shape.clear()
        self.record()

    def record(self) -> None:
        """Write the whole matrix to the trace."""
        shape = [[a, b, seconds] for (a, b), seconds in sorted(self.shape.items())]
        cut = [list(pair) for pair in sorted(self.cut)]
        self._recorder.record("links", cut=cut, delay=list(self.delay), loss=self.loss, shape=shape)
