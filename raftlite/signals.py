"""SIGINT and SIGTERM as something that a command waits for."""

from __future__ import annotations

import contextlib
import queue
import signal
import time
from typing import Iterator, Optional

# Seconds that one wait lasts at most: CPython runs no handler for a signal that comes just as a wait begins, or that
# another thread has received, until the wait is over.
LONGEST_WAIT = 0.5


class Ended:
    """What a signal handler sets and the body waits for.

    A handler interrupts the body anywhere, so it must not need a lock that the body may hold: `threading.Event` does.
    """

    def __init__(self) -> None:
        self.signal: Optional[int] = None
        self._wake: queue.SimpleQueue[None] = queue.SimpleQueue()

    def set(self, number: int) -> None:
        self.signal = number
        self._wake.put(None)

    def wait(self, timeout: float) -> bool:
        """Whether there was a signal, after `timeout` seconds or as soon as there is."""
        deadline = time.monotonic() + timeout
        while self.signal is None:
            remaining = deadline - time.monotonic()
            with contextlib.suppress(queue.Empty):
                self._wake.get(timeout=max(0.0, min(remaining, LONGEST_WAIT)))
            if remaining <= 0:
                break
        return self.signal is not None


@contextlib.contextmanager
def stop_signals() -> Iterator[Ended]:
    """Turn SIGINT and SIGTERM into an `Ended` for the body; a second one ends the process at once."""
    ended = Ended()
    numbers = (signal.SIGINT, signal.SIGTERM)

    def end(number: int, frame: object) -> None:
        for each in numbers:
            signal.signal(each, signal.SIG_DFL)
        ended.set(number)

    before = {number: signal.signal(number, end) for number in numbers}
    if hasattr(signal, "pthread_sigmask"):  # whoever started this process may have let them wait until now
        signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)
    try:
        yield ended
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
