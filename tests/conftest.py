"""Fixtures for every test: what a test starts and opens is gone at its end, and children are there for the asking."""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Callable, Dict, Iterator, Set

import pytest
from children import Child
from peers import folder, listen, log, node_to, played  # noqa: F401  # fixtures too
from programs import start_program  # noqa: F401

# A shell that runs the tests in the background has them ignore Ctrl-C, and with them every child that tests it.
signal.signal(signal.SIGINT, signal.default_int_handler)
if hasattr(signal, "SIGHUP"):
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup, the same

PATIENCE = 2.0  # seconds that threads, processes and files have to end, on a machine that is busy


@pytest.fixture(autouse=True)
def nothing_is_left_behind() -> Iterator[None]:
    """Fail a test that ends while a thread, a child process or an open file of its own is still there."""
    before = everything_open()
    yield
    left = new_since(before)
    deadline = time.monotonic() + PATIENCE
    while left and time.monotonic() < deadline:
        gc.collect()
        threading.Event().wait(0.01)
        left = new_since(before)
    assert not left, f"the test left behind: {', '.join(sorted(left.values()))}"


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock of a lab of threads waits for the next line of the script, however busy the machine is.

    Not for a script whose thread waits for anything but the lab: the clock would wait with it.
    """
    from raftlite.lab import threads

    monkeypatch.setattr(threads, "GRACE", 60.0)


@pytest.fixture
def start_child() -> Iterator[Callable[..., Child]]:
    """Start `Child(source, *arguments)`; what still runs at the end of the test is killed."""
    children = []

    def start(*args: str, **options: str) -> Child:
        children.append(Child(*args, **options))
        return children[-1]

    yield start
    for child in children:
        child.end()


def new_since(before: Dict[object, str]) -> Dict[object, str]:
    return {key: text for key, text in everything_open().items() if key not in before}


def everything_open() -> Dict[object, str]:
    """Every live thread, child process and file descriptor, by what tells it from others, with a name to show."""
    threads = {thread: f"thread {thread.name}" for thread in threading.enumerate()}
    processes = {("process", pid): f"process {pid}" for pid in child_processes()}
    return {**threads, **processes, **descriptors()}


def child_processes() -> Set[int]:
    """The processes started and not waited for, except those that `multiprocessing` keeps for life."""
    if not hasattr(os, "waitid"):
        return set()
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return set()  # by far the most frequent, and quick
    return {
        pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if parent_of(pid) == os.getpid()
    } - helpers()


def parent_of(pid: int) -> int:
    with suppress(OSError):
        return int(Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[1])
    return 0


def helpers() -> Set[int]:
    tracker = sys.modules.get("multiprocessing.resource_tracker")
    server = sys.modules.get("multiprocessing.forkserver")
    found = [tracker and tracker._resource_tracker._pid, server and server._forkserver._forkserver_pid]
    return {pid for pid in found if pid}


def descriptors() -> Dict[object, str]:
    """The open file descriptors, where the system lists them."""
    found: Dict[object, str] = {}
    with suppress(OSError):
        for name in os.listdir("/proc/self/fd"):
            with suppress(OSError):  # the one of this very listing is closed by now
                target = os.readlink(f"/proc/self/fd/{name}")
                found["file", name, target] = f"file descriptor {name} ({target})"
    return found
