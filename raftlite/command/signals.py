"""Signals as something that a command waits for: one that ends it, or any of those that it hands on."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import time
from typing import Any, Dict, Iterator, Optional

from raftlite.command.output import EX_OK, INTERRUPTED

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

    @property
    def exit_code(self) -> int:
        """What a command that a signal ends in its own time exits with: only Ctrl-C is told apart."""
        return INTERRUPTED if self.signal == signal.SIGINT else EX_OK

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


_PASSED_ON = [name for name in ("SIGHUP", "SIGUSR1", "SIGUSR2", "SIGWINCH") if hasattr(signal, name)]


class SignalQueue:
    """Hands signals to a queue, as `("end", number)` or `("pass_on", number)`.

    A second TERM or INT ends the process at once.
    """

    def __init__(self) -> None:
        self.queue: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._before: Dict[int, Any] = {}
        self._had_terminal = _has_terminal()

    def __enter__(self) -> SignalQueue:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._end)
        for number in (getattr(signal, name) for name in _PASSED_ON):
            if signal.getsignal(number) is not signal.SIG_IGN:  # `nohup`
                self._before[number] = signal.signal(number, self._pass_on)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _end(self, number: int, frame: object) -> None:
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, signal.SIG_DFL)
        self.queue.put(("end", number))

    def _pass_on(self, number: int, frame: object) -> None:
        self.queue.put(("end" if self._is_hung_up(number) else "pass_on", number))

    def _is_hung_up(self, number: int) -> bool:
        """Whether HUP means what it meant first; to a daemon it says that its settings have changed."""
        return signal.Signals(number).name == "SIGHUP" and self._had_terminal and not _has_terminal()


def _has_terminal() -> bool:
    with contextlib.suppress(OSError):
        os.close(os.open("/dev/tty", os.O_RDWR | getattr(os, "O_NOCTTY", 0)))
        return True
    return False
