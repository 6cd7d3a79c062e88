"""The clock of a running member: seconds that never go back, and go on while the machine is suspended; and waiting."""

from __future__ import annotations

import sys
import threading
import time
from functools import partial
from typing import Callable, Optional

from raftlite.errors import ConfigError
from raftlite.timing import is_number


def _clock_id() -> int:
    if sys.platform == "darwin":
        return time.CLOCK_MONOTONIC  # counts through sleep there, unlike time.monotonic()
    return getattr(time, "CLOCK_BOOTTIME", -1)


CLOCK_ID = _clock_id()


def boot_clock() -> float:
    """Return seconds since some fixed moment. A laptop that wakes up must not believe in its lease of yesterday."""
    return time.monotonic() if CLOCK_ID < 0 else time.clock_gettime(CLOCK_ID)


boot_clock_ns: Callable[[], int] = time.monotonic_ns if CLOCK_ID < 0 else partial(time.clock_gettime_ns, CLOCK_ID)
"""The same in nanoseconds, for two processes that share a moment without rounding, many times a second."""


def check_timeout(timeout: Optional[float]) -> Optional[float]:
    """What the system can wait for: None for what it calls too long, nothing for what is over already.

    Raises `ConfigError` for what is no number of seconds.
    """
    if timeout is None:
        return None
    if not is_number(timeout) or timeout != timeout:
        raise ConfigError(f"timeout is {timeout!r:.50}, but must be a number of seconds, or None to wait for ever")
    return None if timeout > threading.TIMEOUT_MAX else max(0, timeout)
