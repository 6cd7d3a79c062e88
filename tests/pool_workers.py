"""What the workers of `test_pool.py` do: a module of its own, which one that is not forked imports in no time."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import threading
import time
from pathlib import Path
from typing import Any, Callable, Dict, List

from chaos.checker import Span
from chaos.looks import Looks

from raftlite import MemberStopped, Timing
from raftlite.clock import boot_clock
from raftlite.pool import PoolElection, current

PATIENCE = 30.0  # seconds, on a machine that is busy
QUICK = Timing(heartbeat_interval=0.05, election_timeout=0.3)
STEADY = Timing(heartbeat_interval=0.05, election_timeout=3.0)  # a machine that stands still for a moment ends no lease


def note(path: str, what: str, leadership: Any) -> None:
    """A callback: one line in the journal, which several processes may write."""
    told = {"t": boot_clock(), "what": what, "slot": leadership.node_id, "pid": os.getpid(), "token": leadership.token}
    append(path, told)


def append(path: str, told: Dict[str, Any]) -> None:
    with open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(told) + "\n")


def read(path: str) -> List[Dict[str, Any]]:
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def noted(path: str, workers: int, **options: Any) -> PoolElection:
    """An election whose grants are written to the journal at `path`."""
    callbacks = {
        "on_elected": functools.partial(note, path, "elected"),
        "on_lost": functools.partial(note, path, "lost"),
    }
    return PoolElection(workers, **{"timing": QUICK, **callbacks, **options})


def wait_until(look: Callable[[], Any], what: str = "") -> Any:
    """What `look` finds, as soon as it is something."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        found = look()
        if found:
            return found
        time.sleep(0.005)
    raise AssertionError(f"not within {PATIENCE:g} s: {what or look}")


# --- Tasks -------------------------------------------------------------------------------------------------------


def slot(_: Any = None) -> str:
    """This worker's slot, or why it has none."""
    try:
        return current().node_id
    except MemberStopped as error:
        return str(error)


def meet(folder: str, count: int, _: Any = None) -> str:
    """A task that ends once `count` workers are in it, so that each has one."""
    Path(folder, f"here-{os.getpid()}").touch()
    wait_until(lambda: len(list(Path(folder).glob("here-*"))) >= count, "all workers are there")
    return slot()


def work_until(folder: str, gate: str, _: Any = None) -> str:
    """A task that ends when the file `gate` is there, and says in another that it has begun."""
    Path(folder, f"busy-{os.getpid()}").touch()
    wait_until(Path(folder, gate).exists, gate)
    return slot()


def change_seats(folder: str, count: int, _: Any = None) -> str:
    """The one on w0 gives its slot up, and one that has none waits for it; both then say w0."""
    found = slot()
    if found == "w0":
        current().stop()
    elif not found.startswith("w"):
        found = wait_until(lambda: current().node_id if slot() == "w0" else "", "a slot")
    meet(folder, count)
    return found


def lead(_: Any = None) -> str:
    """A task that ends once this worker coordinates."""
    current().wait_until_leader(PATIENCE)
    return current().node_id


def leader(_: Any = None) -> str:
    """Who leads, as a worker sees it that has just joined."""
    return current().wait_for_leader(PATIENCE)


def membership(_: Any = None) -> List[str]:
    current().wait_for_leader(PATIENCE)
    return sorted(current().membership.ids)


def ask_in_a_fork(_: Any = None) -> int:
    """What `current` does in a fork of the worker."""
    pid = os.fork()
    if pid == 0:
        try:
            current()
        except BaseException as error:
            os._exit(7 if type(error).__name__ == "ForkedError" else 8)
        os._exit(9)
    return os.WEXITSTATUS(os.waitpid(pid, 0)[1])


# --- Who led when, as the workers themselves saw it ---------------------------------------------------------------


def watch_until(folder: str, gate: str, _: Any = None) -> str:
    """A task that reads `is_leader` until the file `gate` is there, and keeps what it saw where `kill -9` leaves it."""
    member, path = current(), Path(folder, gate)
    with contextlib.closing(Looks(str(Path(folder, f"seen-{os.getpid()}")), create=True)) as looks:
        Path(folder, f"busy-{os.getpid()}").touch()
        while not path.exists():
            for _ in range(20):
                looks.look_at(member)
                time.sleep(0.0005)
    return member.node_id


def seen(folder: str) -> List[Span]:
    """The times for which somebody said that it led."""
    found = []
    for path in Path(folder).glob("seen-*"):
        with contextlib.closing(Looks(str(path))) as looks:
            found += [Span(path.name, *grant) for grant in looks.grants()]
    return found


# --- Callbacks that do what they should not ----------------------------------------------------------------------


def hang(path: str, leadership: Any) -> None:
    note(path, "elected", leadership)
    threading.Event().wait()


def fail(path: str, leadership: Any) -> None:
    note(path, "elected", leadership)
    raise RuntimeError("as it was told")


def stop_itself(path: str, leadership: Any) -> None:
    note(path, "elected", leadership)
    current().stop()


def fork_away(path: str, leadership: Any) -> None:
    note(path, "elected", leadership)
    if os.fork() == 0:
        append(path, {"what": "forked", "pid": os.getpid(), "slot": slot_or_error(), "t": 0, "token": 0})
        os._exit(0)
    os.wait()


def slot_or_error() -> str:
    try:
        return current().node_id
    except Exception as error:
        return type(error).__name__


def initialize(join: Callable[[], None], path: str) -> None:
    """An initializer of the user's own, which joins twice."""
    join()
    join()
    append(path, {"what": "initialized", "pid": os.getpid(), "slot": slot(), "t": 0, "token": 0})
