"""The clock of a cluster of threads: scaled, paused and stepped; and the inbox whose owner waits on it.

It stands still while anything happens, so that what a member does takes none of the cluster's time, and flows from one
thing that is due to the next, at so many real seconds for each of its own.
"""

from __future__ import annotations

import queue
import threading
import time
from typing import Any, Callable, Optional

from raftlite.lab.links import NEVER, Flight

MOST_LAG = 0.1  # real seconds that a cluster makes up for: after a longer stall of the machine it is simply later


class LabClock:
    """Seconds of a cluster. Whoever reads or changes more than `now` holds `lock`."""

    def __init__(self, scale: float, real_clock: Callable[[], float] = time.monotonic) -> None:
        self.lock = threading.RLock()
        self.is_paused = False
        self._real_clock = real_clock
        self._scale = scale
        self._now = 0.0
        self._real = real_clock()  # when it was `_now`
        self._horizon = 0.0  # it flows no further

    def __call__(self) -> float:
        with self.lock:
            return self._now if self._horizon <= self._now else min(self._flowing(), self._horizon)

    def _flowing(self) -> float:
        return self._now + (self._real_clock() - self._real) / self._scale

    def hold(self) -> float:
        """Stand still here, and return the time."""
        now = self()
        self._set(now)
        return now

    def jump(self, now: float) -> None:
        """It is so late now, and it stands still."""
        self._set(max(now, self._now))

    def _set(self, now: float) -> None:
        self._real = min(self._real + (now - self._now) * self._scale, self._real_clock())
        self._now = self._horizon = now

    def forget_lag(self) -> None:
        """What has kept it from going on is over and took none of its time."""
        if self._horizon <= self._now:
            self._real = self._real_clock()

    def flow(self, due: float) -> Optional[float]:
        """Go on until `due`, when the next thing happens; return the real seconds until then, None for a paused clock.

        0 if it is due already.
        """
        if self.is_paused:
            return None
        if self._horizon <= self._now:  # it stood still until now
            self._real = max(self._real, self._real_clock() - MOST_LAG)
        self._horizon = max(due, self._now)
        return max(0.0, (self._horizon - self._flowing()) * self._scale)

    def pause(self) -> None:
        self.hold()
        self.is_paused = True

    def play(self) -> None:
        if self.is_paused:
            self.is_paused, self._real = False, self._real_clock()

    def set_scale(self, scale: float) -> None:
        self.hold()
        self._scale, self._real = scale, self._real_clock()


class LabInbox(queue.Queue[Any]):
    """An inbox whose owner sleeps until the stage rings: when there is a message, or when `due` has come.

    `is_idle` says that the owner waits for more, and `on_idle` is called then, under the clock's lock. What is put in
    may be a `Flight`: then the owner gets its message, and `flight` is the one it got last.
    """

    def __init__(self, clock: LabClock, on_idle: Callable[[], None]) -> None:
        super().__init__()
        self.is_idle = self.is_frozen = False
        self.due = NEVER
        self.flight: Optional[Flight] = None
        self._clock, self._on_idle = clock, on_idle
        self._bell = threading.Condition(clock.lock)
        self._rings = False

    # --- The owner --------------------------------------------------------------------------------

    def get(self, block: bool = True, timeout: Optional[float] = None) -> Any:
        with self._clock.lock:
            self.flight = None
            self.due = self._clock() + (NEVER if timeout is None else timeout)
            while block and not self.queue and not self._rings:
                self.is_idle = True
                self._on_idle()
                self._bell.wait()
            self._rings, self.due = False, NEVER
            if not self.queue:
                raise queue.Empty
            item = self.queue.popleft()
            self.flight = item if isinstance(item, Flight) else None
            return item.message if isinstance(item, Flight) else item

    def take_flight(self) -> Optional[Flight]:
        """What brought the message that the owner is dealing with; once."""
        flight, self.flight = self.flight, None
        return flight

    # --- The stage --------------------------------------------------------------------------------

    def put(self, item: Any, block: bool = True, timeout: Optional[float] = None) -> None:
        with self._clock.lock:
            self.queue.append(item)
            self._wake()

    def ring(self) -> None:
        """`due` has come."""
        self._rings = True
        self._wake()

    def freeze(self) -> None:
        """Give nothing until `thaw`. The owner waits for more, as it always does while nothing happens."""
        self.is_frozen = True

    def thaw(self) -> None:
        self.is_frozen = False
        if self.queue:
            self._wake()

    def end_with(self, last: Any) -> None:
        """Give this one, whatever else there is."""
        with self._clock.lock:
            self.queue.clear()
            self.is_frozen = False
            self.put(last)

    def _wake(self) -> None:
        if self.is_idle and not self.is_frozen:
            self.is_idle = False
            self._bell.notify()
