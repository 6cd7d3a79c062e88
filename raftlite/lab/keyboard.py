"""Keys of a terminal, one at a time and without Enter. Where the input is no terminal, there are none."""

from __future__ import annotations

import contextlib
import os
import re
import select
import sys
from types import TracebackType
from typing import Any, List, Optional, Type

_NAMES = {
    "\x1b[5~": "PageUp",
    "\x1b[6~": "PageDown",
    "\x1b[C": "Right",
    "\x1bOC": "Right",
    "\x1b": "Escape",
    "\r": "Enter",
    "\n": "Enter",
}
_KEY = re.compile(r"\x1b\[[0-9;]*[~A-Za-z]|\x1bO[A-Z]|.", re.DOTALL)


def names_of(typed: str) -> List[str]:
    """What was typed, key by key: `PageDown`, `Enter`, or the letter itself. Other special keys are left out."""
    keys = _KEY.findall(typed)
    return [_NAMES.get(key, key) for key in keys if key in _NAMES or len(key) == 1]


class Keyboard:
    """Reads keys while it is open. A context manager: the terminal is afterwards as it was."""

    def __init__(self) -> None:
        self.is_there = False
        self._fd = -1
        self._before: Any = None

    def __enter__(self) -> Keyboard:
        with contextlib.suppress(ImportError, OSError, ValueError, AttributeError):  # no terminal, or another system's
            import termios
            import tty

            self._fd = sys.stdin.fileno()
            self._before = termios.tcgetattr(self._fd) if os.isatty(self._fd) else None
            if self._before is not None:
                tty.setcbreak(self._fd)  # Ctrl-C stays a signal
                self.is_there = True
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        if self._before is not None:
            import termios

            with contextlib.suppress(termios.error):  # the terminal may be gone
                termios.tcsetattr(self._fd, termios.TCSADRAIN, self._before)

    def read(self, seconds: float) -> List[str]:
        """The keys that have been pressed, after `seconds` at most. None where the terminal is gone."""
        if not self.is_there or not select.select([self._fd], [], [], seconds)[0]:
            return []
        typed = os.read(self._fd, 1024)
        if not typed:
            self.is_there = False
        return names_of(typed.decode("utf-8", "replace"))
