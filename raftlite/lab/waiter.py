"""Threads that wait for something to become true in a lab whose time goes on by itself."""

from __future__ import annotations

import threading
from typing import Callable, Optional

from raftlite.lab.stage import Condition, LabClosed


class Waiter:
    """Somebody who waits for a condition, or for the time `end`."""

    def __init__(self, end: float, condition: Optional[Condition], do: Optional[Callable[[], None]]) -> None:
        self.end, self.condition, self.do = end, condition, do
        self.thread = threading.get_ident()
        self.is_done = self.holds = False
        self.error: Optional[BaseException] = None

    def outcome(self) -> bool:
        """Whether the condition came true. Raises what it, or `do`, has raised, and `LabClosed`."""
        if self.error is not None:
            raise self.error
        if not self.is_done:
            raise LabClosed("the lab was closed")
        return self.holds

    def look(self, now: float) -> None:
        """Runs on the conductor, while everything stands still."""
        try:
            self.holds = self.condition is not None and bool(self.condition())
            if self.holds and self.do is not None:
                self.do()
        except BaseException as error:  # it is the waiter's
            self.error = error
        self.is_done = self.holds or self.error is not None or now >= self.end
