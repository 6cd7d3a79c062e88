"""Threads that wait for something to become true in a lab whose time goes on by itself."""

from __future__ import annotations

import threading
from typing import Callable, List, Optional

from raftlite.lab.links import NEVER
from raftlite.lab.stage import Condition, LabClosed


class _Waiter:
    """Somebody who waits for a condition, or for the time `end`."""

    def __init__(self, end: float, condition: Optional[Condition], do: Optional[Callable[[], None]]) -> None:
        self.end, self.condition, self.do = end, condition, do
        self.thread = threading.get_ident()
        self.is_done = self.holds = False
        self.error: Optional[BaseException] = None

    def look(self, now: float) -> None:
        try:
            self.holds = self.condition is not None and bool(self.condition())
            if self.holds and self.do is not None:
                self.do()
        except BaseException as error:  # it is the waiter's
            self.error = error
        self.is_done = self.holds or self.error is not None or now >= self.end


class Waiters:
    """All who wait. `changed` has the lock of the stage, which whoever calls holds; it is notified when one is done."""

    def __init__(self, changed: threading.Condition) -> None:
        self._changed = changed
        self._waiters: List[_Waiter] = []

    def __len__(self) -> int:
        return len(self._waiters)

    @property
    def next_end(self) -> float:
        """When the first of them has waited long enough."""
        return min((waiter.end for waiter in self._waiters), default=NEVER)

    def wait(
        self,
        end: float,
        condition: Optional[Condition],
        do: Optional[Callable[[], None]],
        is_closed: Callable[[], bool],
    ) -> bool:
        """Wait until `look` has found `condition` true, or has come to `end`; return whether it was true.

        Raises what `condition` or `do` has raised, and `LabClosed`.
        """
        waiter = _Waiter(end, condition, do)
        self._waiters.append(waiter)
        try:
            self._changed.wait_for(lambda: waiter.is_done or is_closed())
        finally:  # also where Ctrl-C has ended the wait
            if waiter in self._waiters:
                self._waiters.remove(waiter)
        if waiter.error is not None:
            raise waiter.error
        if not waiter.is_done:
            raise LabClosed("the lab was closed")
        return waiter.holds

    def look(self, now: float) -> List[int]:
        """Let each look, and do what it has waited to do; return the threads whose wait is over.

        Everything else stands still meanwhile.
        """
        for waiter in list(self._waiters):
            waiter.look(now)
        done = [waiter for waiter in self._waiters if waiter.is_done]
        if done:
            self._waiters = [waiter for waiter in self._waiters if not waiter.is_done]
            self._changed.notify_all()
        return [waiter.thread for waiter in done]
