"""`raftlite run` starts the guardian of its command and talks to it: one end of the line whose other is guardian.py."""

from __future__ import annotations

import contextlib
import json
import multiprocessing.spawn
import os
import queue
import signal
import socket
import subprocess
import threading
from pathlib import Path
from typing import Any, Dict, Iterator, Optional, Sequence

from raftlite.clock import CLOCK_ID, boot_clock
from raftlite.command.guardian import become_reaper, descendants
from raftlite.command.options import AUTHKEY_VARIABLE

PATIENCE = 1.0  # seconds beyond the guardian's time until it is taken for stopped
GUARDIAN = Path(__file__).with_name("guardian.py")


class GuardianProcess:
    """This end of the line to the process that runs the command. `happenings` gets what that says.

    `plan` are the seconds that it goes by: see `runner.Plan`.
    """

    def __init__(self, plan: Sequence[float], happenings: queue.SimpleQueue[Any]) -> None:
        self._plan = plan
        self._happenings = happenings
        self._is_closing = False

    def __enter__(self) -> GuardianProcess:
        self._is_reaper = become_reaper()  # should the guardian be killed, it is what it has started that is left
        self._line, theirs = socket.socketpair()
        with theirs:
            theirs.set_inheritable(True)
            self._popen = self._start(theirs.fileno())
        self._reader = threading.Thread(target=self._read, name="raftlite-guardian", daemon=True)
        self._reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _start(self, descriptor: int) -> subprocess.Popen[bytes]:
        """Not among this process's foreground: Ctrl-C and Ctrl-Z are for this process to answer.

        What this process inherited, the command inherits too; Python's own descriptors are not inheritable.
        """
        command = [os.fsdecode(multiprocessing.spawn.get_executable()), "-I", "-S"]
        command += [str(GUARDIAN), str(descriptor), str(CLOCK_ID), *map(str, self._plan)]
        variables = {name: value for name, value in os.environ.items() if name != AUTHKEY_VARIABLE}
        return subprocess.Popen(command, env=variables, close_fds=False, start_new_session=True)

    def hold(self, descriptor: Optional[int]) -> None:
        """Have it keep a copy of the listening socket, so that peers take nobody for dead before the command is."""
        if descriptor is not None:
            socket.send_fds(self._line, [b'{"do": "hold"}\n'], [descriptor])

    def tell(self, what: str, **details: Any) -> None:
        with contextlib.suppress(OSError):  # it is gone, as the reader finds out
            self._line.sendall(json.dumps({"do": what, **details}).encode("ascii") + b"\n")

    def kill(self, group: int) -> None:
        """Kill the command."""
        with contextlib.suppress(OSError):
            os.killpg(group, signal.SIGKILL)

    def go_on(self) -> None:
        """Let the guardian go on if somebody has stopped it."""
        self._popen.send_signal(signal.SIGCONT)

    def kill_what_is_left_of(self, group: int) -> None:
        """Kill what is left of the command; it is still seen until whoever is its parent now looks at it."""
        self._popen.poll()
        give_up_at = boot_clock() + PATIENCE
        while boot_clock() < give_up_at and (self._kill_descendants() or self._kill_group(group)):
            threading.Event().wait(0.01)

    def _kill_descendants(self) -> bool:
        """Whether there were any: of a command whose guardian is gone, this process is the parent."""
        left = descendants() if self._is_reaper else {}
        for pid in left:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, os.WNOHANG)
        return bool(left)

    def _kill_group(self, group: int) -> bool:
        try:
            os.killpg(group, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            return False
        return True

    def close(self) -> None:
        """Let it end, with whatever it runs."""
        if not self._is_closing:
            self._is_closing = True
            with contextlib.suppress(OSError):
                self._line.shutdown(socket.SHUT_RDWR)
            self.go_on()
            self._popen.wait()
            self._reader.join()
            self._line.close()

    def _read(self) -> None:
        for content in self._contents():
            what = content.pop("is")
            self._happenings.put((what, *content.values()))
        if not self._is_closing:
            self._happenings.put(("unguarded",))

    def _contents(self) -> Iterator[Dict[str, Any]]:
        with contextlib.suppress(OSError), self._line.makefile("rb") as lines:
            for line in lines:
                yield json.loads(line)
