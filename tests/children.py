"""Python programs that a test runs beside itself, talks to over pipes, and may kill."""

from __future__ import annotations

import os
import re
import selectors
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any, Dict, List

import raftlite

FORKS_ON_PURPOSE = "ignore:This process:DeprecationWarning"  # Python 3.12 and later warn of a fork beside threads
# What members rightly say on standard error where the machine has other things to do.
OF_A_BUSY_MACHINE = r".* (the election was not run for|no leader for|leads, after) [\d.]+ s\b.*\n"
PATIENCE = 20.0  # seconds until a child that says nothing is taken for stuck: starting Python may take a while


class Child:
    """`python -c source arguments...` with this very raftlite; its lines are read one by one; it must not be silent."""

    def __init__(self, source: str, *arguments: object, python: str = sys.executable, prefix: Any = ()) -> None:
        command = [*prefix, python, "-W", FORKS_ON_PURPOSE, "-c", textwrap.dedent(source), *map(str, arguments)]
        self._popen = subprocess.Popen(
            command, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0
        )
        self.pid = self._popen.pid
        self._unread: Dict[Any, bytes] = {self._popen.stdout: b"", self._popen.stderr: b""}

    def read_line(self) -> str:
        """The next line that the child prints; an AssertionError with its last words if it ends or is silent."""
        stdout = self._popen.stdout
        self._read_while(lambda: b"\n" not in self._unread[stdout])
        line, newline, self._unread[stdout] = self._unread[stdout].partition(b"\n")
        assert newline, f"the child ended after {line!r}, saying: {self._last_words()}"
        return line.decode()

    def expect(self, line: str) -> None:
        """Fail unless the child's next line is `line`."""
        assert self.read_line() == line

    def read_all(self) -> List[str]:
        """The lines until the child, and every fork that has its output open, has ended."""
        stdout = self._popen.stdout
        self._read_while(lambda: True)
        lines, self._unread[stdout] = self._unread[stdout].decode().splitlines(), b""
        return lines

    def tell(self, line: str) -> None:
        """Give the child a line to read."""
        assert self._popen.stdin is not None
        self._popen.stdin.write(line.encode() + b"\n")

    def close_stdin(self) -> None:
        """Let the child, and every fork of it, read the end of its input."""
        assert self._popen.stdin is not None
        self._popen.stdin.close()

    def send_signal(self, number: int) -> None:
        self._popen.send_signal(number)

    def kill(self) -> None:
        """`kill -9`, and wait until the process is gone; a fork of it lives on."""
        self._popen.kill()
        self._popen.wait()

    def wait(self) -> int:
        """Wait until the process ends by itself; return its exit status."""
        self._read_while(lambda: True)
        return self._popen.wait(PATIENCE)

    @property
    def errors(self) -> str:
        """What the child has written to its standard error so far."""
        return self._unread[self._popen.stderr].decode(errors="replace")

    def end(self) -> None:
        """Leave nothing behind, whatever happened."""
        if self._popen.poll() is None:
            self._popen.send_signal(signal.SIGCONT)
            self.kill()
        for stream in (self._popen.stdin, self._popen.stdout, self._popen.stderr):
            if stream is not None:
                stream.close()

    def _read_while(self, wanted: Any) -> None:
        """Read both outputs, so that the child never waits for a reader, until `wanted` is false or both have ended."""
        with selectors.DefaultSelector() as selector:
            for stream in self._unread:
                selector.register(stream, selectors.EVENT_READ)
            while wanted() and selector.get_map():
                ready = selector.select(PATIENCE)  # anew each time: one that goes on printing is not silent
                assert ready, f"the child says nothing for {PATIENCE:g} s after: {self._last_words()}"
                for key, _ in ready:
                    data = os.read(key.fd, 65536)
                    self._unread[key.fileobj] += data
                    if not data:
                        selector.unregister(key.fileobj)

    def _last_words(self) -> str:
        return "\n".join(part.decode(errors="replace") for part in self._unread.values())


def complaints(errors: str) -> str:
    """What was written to standard error, but for what a busy machine alone is to blame for."""
    return re.sub(OF_A_BUSY_MACHINE, "", errors)


def environment() -> Dict[str, str]:
    """The variables for a child: it imports the raftlite that is tested, and nothing else of ours."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return {**clean, "PYTHONPATH": str(Path(raftlite.__file__).parent.parent), "PYTHONUNBUFFERED": "1"}
