"""The clock of a running member: seconds that never go back, and go on while the machine is suspended."""

from __future__ import annotations

import sys
import time


def _clock_id() -> int:
    if sys.platform == "darwin":
        return time.CLOCK_MONOTONIC  # counts through sleep there, unlike time.monotonic()
    return getattr(time, "CLOCK_BOOTTIME", -1)


_CLOCK_ID = _clock_id()


def boot_clock() -> float:
    """Return seconds since some fixed moment. A laptop that wakes up must not believe in its lease of yesterday."""
    return time.monotonic() if _CLOCK_ID < 0 else time.clock_gettime(_CLOCK_ID)


def boot_clock_ns() -> int:
    """The same in nanoseconds, which two processes can share without rounding."""
    return time.monotonic_ns() if _CLOCK_ID < 0 else time.clock_gettime_ns(_CLOCK_ID)
