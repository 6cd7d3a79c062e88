"""A log line for a trouble that repeats is written once, then again after a while with how often it came."""

from __future__ import annotations

import logging
import threading
import time
from typing import Dict, Tuple

QUIET_SECONDS = 30.0
MOST_LINES = 100


class QuietLog:
    """Rate-limits log lines, so that a stranger who knocks for ever cannot fill a disk."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._lock = threading.Lock()
        self._seen: Dict[str, Tuple[float, int]] = {}  # line -> when it was last written, how often held back since

    def log(self, level: int, line: str) -> None:
        """Write `line` unless the same was written a short while ago."""
        now = time.monotonic()
        with self._lock:
            written_at, held_back = self._seen.get(line, (float("-inf"), 0))
            if now - written_at < QUIET_SECONDS:
                self._seen[line] = (written_at, held_back + 1)
                return
            if len(self._seen) >= MOST_LINES:
                self._seen = {known: seen for known, seen in self._seen.items() if now - seen[0] < QUIET_SECONDS}
            if len(self._seen) >= MOST_LINES:
                return
            self._seen[line] = (now, 0)
        again = f" ({held_back} more since)" if held_back else ""
        self._logger.log(level, "%s%s", line, again)

    def reset(self) -> None:
        """Forget what was written: the trouble is over."""
        with self._lock:
            self._seen.clear()
