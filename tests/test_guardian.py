"""The guardian alone, spoken to as `raftlite run` does: what it starts, what it does not, and what it answers."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, Iterator

import pytest
from children import PATIENCE, environment
from threads import eventually

from raftlite.clock import CLOCK_ID, boot_clock
from raftlite.command.guardian import LOOK_EVERY
from raftlite.command.guardian_process import GUARDIAN
from raftlite.runner import Plan

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="it is looked at in /proc")

PLAN = Plan(grace=PATIENCE, reserve=1.0, margin=0.5)
LEASE = 600.0  # seconds; none runs out while a test runs


class Guarded:
    """A guardian, and this end of the line to it."""

    def __init__(self, *program: object) -> None:
        self._line, theirs = socket.socketpair()
        self._line.settimeout(PATIENCE)
        with theirs:
            command = [sys.executable, *map(str, program), str(theirs.fileno()), str(CLOCK_ID), *map(str, PLAN)]
            self._popen = subprocess.Popen(command, env=environment(), pass_fds=[theirs.fileno()])
        self._answers = self._line.makefile("rb")

    def tell(self, what: str, **details: Any) -> None:
        self._line.sendall(json.dumps({"do": what, **details}).encode() + b"\n")

    def start(self, *command: object, lease: float = LEASE) -> None:
        self.tell("start", command=[*map(str, command)], variables={}, until=boot_clock() + lease)

    def answer(self) -> Dict[str, Any]:
        answer: Dict[str, Any] = json.loads(self._answers.readline())
        return answer

    def hold(self) -> None:
        """Stop it, as somebody may, or as a suspended machine does to everything."""
        os.kill(self._popen.pid, signal.SIGSTOP)
        stat = Path(f"/proc/{self._popen.pid}/stat")
        eventually(lambda: stat.read_text().rpartition(")")[2].split()[0] == "T", "stopped")

    def go_on(self) -> None:
        self._popen.send_signal(signal.SIGCONT)

    def end(self) -> None:
        """Twice is fine."""
        self._answers.close()
        self._line.close()
        self.go_on()
        self._popen.wait(PATIENCE)


@pytest.fixture
def guarded() -> Iterator[Guarded]:
    guarded = Guarded("-I", "-S", GUARDIAN)
    yield guarded
    guarded.end()


def test_what_is_asked_for_is_started_and_ends_as_it_is_told_to(guarded):
    guarded.start("sleep", 100)
    started = guarded.answer()
    assert started["is"] == "started"
    guarded.tell("stop")
    gone = guarded.answer()
    assert (gone["is"], gone["pid"], gone["reason"], gone["killed"]) == ("gone", started["pid"], "stop", False)


@pytest.mark.parametrize("left", [-1.0, PLAN.reserve])
def test_nothing_is_started_when_its_lease_is_over_or_as_good_as_over(guarded, tmp_path, left):
    """By then another member may lead, whose command runs. A later lease is another matter."""
    guarded.hold()
    guarded.start("touch", tmp_path / "begun", lease=left)
    guarded.go_on()
    assert guarded.answer() == {"is": "not_started"}
    assert not (tmp_path / "begun").exists()
    guarded.start("true")
    assert [guarded.answer()["is"] for _ in range(2)] == ["started", "gone"]


def test_nothing_is_started_that_is_to_stop_already(guarded, tmp_path):
    """Both requests were waiting when it went on."""
    guarded.hold()
    guarded.start("touch", tmp_path / "begun")
    guarded.tell("stop")
    guarded.go_on()
    assert guarded.answer() == {"is": "not_started"}
    assert not (tmp_path / "begun").exists()


def test_nothing_is_started_for_a_process_that_has_ended(guarded, tmp_path):
    """It was killed just after it had asked."""
    guarded.hold()
    guarded.start("touch", tmp_path / "begun")
    guarded.end()
    assert not (tmp_path / "begun").exists()


def test_a_lease_that_was_renewed_while_a_request_waited_is_long_enough(guarded):
    guarded.hold()
    guarded.start("true", lease=-1.0)
    guarded.tell("lease", until=boot_clock() + LEASE)
    guarded.go_on()
    assert guarded.answer()["is"] == "started"


WAITS_WRITTEN_DOWN = """
import select, sys
from raftlite.command.guardian import main

def wait(*arguments, select=select.select):
    with open(path, "a") as file:
        print(arguments[3], file=file)
    return select(*arguments)

path = sys.argv.pop(1)
select.select = wait
main()
"""


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Guarded]:
    """One that writes down for how long it waits each time."""
    guarded = Guarded("-c", WAITS_WRITTEN_DOWN, tmp_path / "waits")
    yield guarded
    guarded.end()


def test_a_guardian_with_nothing_to_guard_sleeps_until_it_is_spoken_to(watched, tmp_path):
    """Also when it has ended a command, and the member follows for months."""
    watched.start("sleep", 100)
    assert watched.answer()["is"] == "started"
    watched.tell("stop")
    assert watched.answer()["is"] == "gone"
    watched.end()
    assert (tmp_path / "waits").read_text().split()[-1] == "None"


def test_a_guardian_on_its_own_looks_again_until_nothing_is_left_of_the_command(watched, tmp_path):
    """A fork that was being made when everything was killed is found the next time."""
    watched.start("sleep", 100)
    assert watched.answer()["is"] == "started"
    watched.end()
    assert (tmp_path / "waits").read_text().split()[-1] == str(LOOK_EVERY)
