"""Programs that people copy, run as they would run them: commands of the documentation, files in examples/."""

from __future__ import annotations

import os
import random
import re
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Match, Optional, Tuple

import pytest
from children import environment
from threads import eventually

TOP = Path(__file__).resolve().parent.parent
EXAMPLES = TOP / "examples"
PATIENCE = 60  # seconds that a program has from its start to its end


def run(*command: Any, cwd: Path) -> List[str]:
    """Run Python with these arguments to the end; return what was printed.

    What was logged is left aside: on a machine that is busy, members say on standard error that they have waited.
    """
    return _finished(*command, cwd=cwd).stdout.splitlines()


def logged(*command: Any, cwd: Path) -> List[str]:
    """Run Python with these arguments to the end; return what was written to its standard error."""
    return _finished(*command, cwd=cwd).stderr.splitlines()


def _finished(*command: Any, cwd: Path) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=cwd,
        # Unbuffered, a line and its end would be written apart, and those of several processes mixed.
        env={name: value for name, value in environment().items() if name != "PYTHONUNBUFFERED"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


class Program:
    """A command line in a session of its own; what it and its children print goes to one file."""

    def __init__(self, folder: Path, *command: object, **variables: str) -> None:
        self.log = folder / f"{len(list(folder.glob('*.log')))}.log"
        python_path = f"{environment()['PYTHONPATH']}{os.pathsep}{EXAMPLES}"
        with self.log.open("w") as out:
            self._popen = subprocess.Popen(
                [sys.executable, *map(str, command)],
                cwd=folder,
                env={**environment(), "PYTHONPATH": python_path, "HOME": str(folder), **variables},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.pid = self._popen.pid

    def printed(self, pattern: str) -> List[Match[str]]:
        """The lines so far that have `pattern` in them."""
        return list(re.finditer(pattern, self.text))

    def wait_for(self, pattern: str, count: int = 1) -> List[Match[str]]:
        """Wait until so many lines have `pattern` in them; return those and any more."""
        return eventually(lambda: self._at_least(pattern, count), f"printed {count} times: {pattern}")

    def _at_least(self, pattern: str, count: int) -> List[Match[str]]:
        ended, found = self.has_ended, self.printed(pattern)
        assert len(found) >= count or not ended, f"the program ended, having said:\n{self.text}"
        return found if len(found) >= count else []

    @property
    def text(self) -> str:
        """What was printed so far, in whole lines."""
        return self.log.read_text(encoding="utf-8", errors="replace").rpartition("\n")[0]

    def kill(self) -> None:
        """`kill -9`, this one process alone."""
        self._popen.kill()
        self._popen.wait()

    def interrupt(self) -> None:
        """Ctrl-C, for every process in the terminal."""
        os.killpg(self.pid, signal.SIGINT)

    def terminate(self) -> None:
        """What a service manager sends, to this one process alone."""
        self._popen.terminate()

    def wait(self) -> int:
        """Wait until the program has ended, and every process that it has started; return its exit status."""
        eventually(lambda: self.has_ended and not self.is_there, "ended with all its processes")
        return self._popen.wait()

    @property
    def has_ended(self) -> bool:
        """Whether the process itself has; what it has started may be left."""
        return self._popen.poll() is not None

    @property
    def is_there(self) -> bool:
        """Whether any process of its group is left."""
        try:
            os.killpg(self.pid, 0)
        except ProcessLookupError:
            return False
        return True

    def end(self) -> None:
        """Leave nothing behind, whatever happened."""
        if self.is_there:
            os.killpg(self.pid, signal.SIGKILL)
        self._popen.wait()


@pytest.fixture
def start_program(tmp_path: Path) -> Iterator[Callable[..., Program]]:
    """Start `Program(*command)` in a folder of the test; what still runs at its end is killed."""
    programs: List[Program] = []

    def start(*command: object, **variables: str) -> Program:
        programs.append(Program(tmp_path, *command, **variables))
        return programs[-1]

    yield start
    for program in programs:
        program.end()


def free_ports(count: int) -> List[int]:
    """Not among those that the system gives to whoever asks for any: the programs here bind them later."""
    with ExitStack() as stack:
        sockets: List[socket.socket] = []
        while len(sockets) < count:
            with suppress(OSError):
                address = "127.0.0.1", random.randrange(20_000, 32_000)
                sockets.append(stack.enter_context(socket.create_server(address)))
        return [sock.getsockname()[1] for sock in sockets]


def one_that_leads(programs: Dict[str, Program], pattern: str, after: int = 0) -> Tuple[str, int]:
    """Wait until one of the programs has printed this, its group `token` above `after`; return its name and that token.

    Whether another has printed it too by then is a matter of time, but never is it the same token.
    """

    def look() -> Optional[Tuple[str, int]]:
        for program in programs.values():
            assert not program.has_ended, f"a program ended, having said:\n{program.text}"
        check_tokens(programs, pattern)
        found = [(name, token) for name, program in programs.items() for token in tokens_of(program, pattern)]
        return next((each for each in found if each[1] > after), None)

    return eventually(look, f"printed with a token above {after}: {pattern}")


def check_tokens(programs: Dict[str, Program], pattern: str) -> None:
    """Each token that was printed is one program's alone, and whatever a program prints later bears no lower one."""
    owners: Dict[int, str] = {}
    for name, program in programs.items():
        tokens = tokens_of(program, pattern)
        assert tokens == sorted(tokens), f"{name} had the tokens {tokens}"
        for token in tokens:
            assert owners.setdefault(token, name) == name, f"both {owners[token]} and {name} had token {token}"


def tokens_of(program: Program, pattern: str) -> List[int]:
    return [int(match["token"]) for match in program.printed(pattern)]
