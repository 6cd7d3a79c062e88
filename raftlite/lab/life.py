"""One process of a member, as its lab sees it."""

from __future__ import annotations

import contextlib
import multiprocessing.spawn
import os
import signal
import subprocess
import sys
from multiprocessing.connection import wait as wait_for_any
from pathlib import Path
from typing import Any, Dict, List, Tuple

from raftlite.isolated.line import Content, Line
from raftlite.lab.links import Flight
from raftlite.nodes import forks

_BOOTSTRAP = "import sys; sys.path.insert(0, sys.argv[1]); from raftlite.lab.member_process import main; main()"


class Life:
    """Starts the process of `n`, which begins to take part when it is told the cluster's `origin`.

    Nothing here waits for it: what a frozen process is told is kept until it is thawed.
    """

    def __init__(self, n: str, settings: Content) -> None:
        self.n = n
        self.line, self.process = _start_process()
        self.is_ready = self.has_begun = self.has_spoken = self.is_frozen = self.talks_nonsense = False
        self.flights: Dict[Tuple[int, int], Flight] = {}  # that it has been given and not dealt with
        self._waiting: List[Content] = []  # what it is to hear when it is no longer frozen
        self.say(**settings)

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def was_killed(self) -> bool:
        return self.process.returncode == -signal.SIGKILL

    @property
    def has_ended(self) -> bool:
        return self.process.returncode is not None

    def say(self, **content: Any) -> None:
        if self.is_frozen:
            self._waiting.append(content)
            return
        try:
            self.line.send(content)
        except OSError:  # it is gone, or reads nothing for so long that the line is of no use any more
            self.process.kill()

    def hears_more(self) -> bool:
        """Whether it has said something that was not heard yet."""
        return bool(wait_for_any([self.line.fileno()], 0))

    def freeze(self) -> None:
        """Returns when it does nothing more."""
        self.process.send_signal(signal.SIGSTOP)
        if hasattr(os, "waitid"):
            with contextlib.suppress(ChildProcessError):  # it has ended, as the end of the line says
                os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        self.is_frozen = True

    def thaw(self) -> None:
        self.is_frozen = False
        self.process.send_signal(signal.SIGCONT)
        waiting, self._waiting = self._waiting, []
        for content in waiting:
            self.say(**content)

    def kill(self) -> None:
        self.process.kill()

    def bury(self) -> None:
        """It has ended, or does now. Nothing of it is left."""
        self.process.kill()
        self.process.wait()
        self.line.close()

    def abandon_after_fork(self) -> None:
        self.line.close()
        self.process.returncode = 0  # it is the parent's child: nothing of it to wait for here


def _start_process() -> Tuple[Line, subprocess.Popen[bytes]]:
    with forks.lock:
        line, theirs = Line.pair()
        try:
            with theirs:
                command = [os.fsdecode(multiprocessing.spawn.get_executable()), "-I", "-S"]
                command += ["-B"] if sys.dont_write_bytecode else []
                place = str(Path(__file__).resolve().parent.parent.parent)
                command += ["-c", _BOOTSTRAP, place, str(theirs.fileno())]
                null = subprocess.DEVNULL
                return line, subprocess.Popen(command, stdin=null, stdout=null, pass_fds=(theirs.fileno(),))
        except BaseException:  # Ctrl-C, too, leaves nothing open
            line.close()
            raise
