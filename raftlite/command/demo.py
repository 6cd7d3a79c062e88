"""`raftlite demo`: real processes elect a leader, lose it to `kill -9`, elect another, and take the first one back."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Set, Tuple

from raftlite.clock import boot_clock
from raftlite.errors import ConfigError

PATIENCE = 10.0  # seconds for each step, many times what it takes
STARTUP = 30.0  # and for the first election, because starting Python on a busy machine takes its time


LONGEST_PATH = 100  # of a Unix socket; systems differ from 103 bytes on


class DemoFailed(Exception):
    """A step did not come out as it must; the message is the sentence to show."""


class _Process:
    """One member: `raftlite node --json` with its events put into a queue that all members share."""

    def __init__(self, node_id: str, command: List[str], environment: Dict[str, str], events: queue.Queue[Any]) -> None:
        self.node_id = node_id
        self.popen = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        self._events = events
        self._reader = threading.Thread(target=self._read, name=f"demo-{node_id}", daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.popen.stdout is not None
        for line in self.popen.stdout:
            with contextlib.suppress(ValueError):
                self._events.put({**json.loads(line), "pid": self.popen.pid})
        self._events.put({"event": "ended", "node": self.node_id, "pid": self.popen.pid})

    def wait(self, timeout: Optional[float] = None) -> int:
        """Wait for the process to end; return its exit status. Raises `subprocess.TimeoutExpired`."""
        status = self.popen.wait(timeout)
        self._reader.join()
        if self.popen.stdout is not None:
            self.popen.stdout.close()
        return status


class _Cluster:
    """The members as processes with Unix sockets and saved votes in one folder; loopback where there are none."""

    def __init__(self, ids: List[str], folder: str) -> None:
        self.ids = ids
        self.folder = folder
        self.events: queue.Queue[Any] = queue.Queue()
        self.processes: Dict[str, _Process] = {}
        self.addresses = _addresses(ids, folder)
        self._environment = {**os.environ, "RAFTLITE_AUTHKEY": secrets.token_hex(16)}
        package = str(Path(__file__).resolve().parents[2])
        self._environment["PYTHONPATH"] = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))

    def start(self, node_id: str) -> int:
        command = [sys.executable, "-m", "raftlite", "node", "--json", "--id", node_id]
        command += ["--listen", self.addresses[node_id], "--data-dir", self.folder]
        for peer in self.ids:
            if peer != node_id:
                command += ["--peer", f"{peer}={self.addresses[peer]}"]
        with _signals_wait():
            self.processes[node_id] = _Process(node_id, command, self._environment, self.events)
        return self.processes[node_id].popen.pid

    def kill(self, node_id: str) -> None:
        process = self.processes[node_id]
        process.popen.kill()
        process.wait()
        del self.processes[node_id]  # not before: Ctrl-C may come at any moment

    def wait(self, what: str, seconds: float, is_it: Callable[[Dict[str, Any]], bool]) -> Dict[str, Any]:
        """Return the next event that `is_it` accepts; raise `DemoFailed` with `what` if there is none in time."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                event: Dict[str, Any] = self.events.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise DemoFailed(f"{what} within {seconds:g} s") from None
            if event["event"] == "ended":
                self._check_end(event["node"], event["pid"])
            elif is_it(event):
                return event

    def _check_end(self, node_id: str, pid: int) -> None:
        process = self.processes.get(node_id)
        if process is not None and process.popen.pid == pid:
            raise DemoFailed(f"{node_id} ended by itself with status {process.popen.wait()}")

    def stop(self) -> None:
        """Tell every member to stop; raise `DemoFailed` unless all do so in order."""
        for process in self.processes.values():
            process.popen.terminate()
        for node_id, process in self.processes.items():
            try:
                status = process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                raise DemoFailed(f"{node_id} did not stop within {PATIENCE:g} s") from None
            if status != 0:
                raise DemoFailed(f"{node_id} ended with status {status} when it was told to stop")
        self.processes.clear()

    def __enter__(self) -> _Cluster:
        return self

    def __exit__(self, *_: object) -> None:
        """Whatever happened, no process is left behind."""
        with _signals_wait():
            for node_id in list(self.processes):
                self.kill(node_id)


def _addresses(ids: List[str], folder: str) -> Dict[str, str]:
    paths = {node_id: str(Path(folder) / f"{node_id}.sock") for node_id in ids}
    if hasattr(socket, "AF_UNIX") and max(map(len, paths.values())) <= LONGEST_PATH:
        return paths
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in ids]
        return {node_id: f"127.0.0.1:{sock.getsockname()[1]}" for node_id, sock in zip(ids, sockets)}


@contextlib.contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """Let SIGTERM leave the body as Ctrl-C does, so that no process outlives it."""

    def end(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def _signals_wait() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM take effect after the body, so that it leaves no process that nobody knows of.

    The process inherits that, and is not interrupted either until it has a handler for them (`stop_signals`).
    """
    if not hasattr(signal, "pthread_sigmask"):  # as on Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def run_demo(nodes: int, as_json: bool, show: Callable[[str], None]) -> int:
    """Show the main job; return 0, or 1 after a sentence that says which step failed."""
    if not 3 <= nodes <= 9:
        raise ConfigError(f"--nodes is {nodes}, but must be a number from 3 to 9")
    say = _Narrator(as_json, show)
    ids = [f"n{number}" for number in range(1, nodes + 1)]
    with contextlib.ExitStack() as stack:
        stack.enter_context(_ended_by_sigterm())
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="raftlite-"))
        cluster = stack.enter_context(_Cluster(ids, folder))
        try:
            _show(cluster, say)
        except DemoFailed as failure:
            say.failed(str(failure))
            return 1
    return 0


def _show(cluster: _Cluster, say: _Narrator) -> None:
    started_at = time.monotonic()
    size = len(cluster.ids)
    say.step("start", f"Starting {size} processes that talk over sockets and save their votes in SQLite")
    for node_id in cluster.ids:
        pid = cluster.start(node_id)
        say.fact("process", f"{node_id}  pid {pid}", node=node_id, pid=pid)

    leader, term = _wait_for_agreement(cluster, set(cluster.ids), 0, STARTUP)
    say.step("elected", f"{leader} is elected in term {term}; all {size} agree", leader=leader, term=term)

    killed_at = boot_clock()
    cluster.kill(leader)
    say.step("killed", f"kill -9 {leader}", leader=leader)
    win = cluster.wait("no other member was elected", PATIENCE, lambda event: _is_win(event, term, leader))
    milliseconds = (win["clock"] - killed_at) * 1000
    successor, new_term = win["node"], win["term"]
    text = f"{successor} is elected in term {new_term}, {milliseconds:.0f} ms after the kill"
    say.step("takeover", text, leader=successor, term=new_term, milliseconds=milliseconds)

    pid = cluster.start(leader)
    say.step("restart", f"Restarting {leader}  pid {pid}", node=leader, pid=pid)
    seen = cluster.wait(
        f"{leader} did not come back as a follower",
        STARTUP,
        lambda event: event["pid"] == pid and event["event"] == "leader" and event["leader"] not in (None, leader),
    )
    text = f"{leader} is back and follows {seen['leader']} in term {seen['term']}"
    say.step("rejoined", text, node=leader, leader=seen["leader"], term=seen["term"])

    cluster.stop()
    seconds = time.monotonic() - started_at
    say.step("stopped", f"All {size} processes have stopped. {seconds:.1f} s in all", seconds=seconds)


def _wait_for_agreement(cluster: _Cluster, ids: Set[str], above: int, seconds: float) -> Tuple[str, int]:
    """Wait until all of `ids` name the same leader in the same term."""
    known: Dict[str, Tuple[str, int]] = {}

    def agreed(event: Dict[str, Any]) -> bool:
        if event["event"] == "leader":
            known[event["node"]] = (event["leader"], event["term"])
        views = {known.get(node_id) for node_id in ids}
        return len(views) == 1 and None not in views and event["leader"] is not None and event["term"] > above

    event = cluster.wait("the members did not agree on a leader", seconds, agreed)
    return event["leader"], event["term"]


def _is_win(event: Dict[str, Any], above: int, dead: str) -> bool:
    return bool(event["event"] == "elected" and event["term"] > above and event["node"] != dead)


class _Narrator:
    """Prints each step for people, or as one JSON object per line."""

    def __init__(self, as_json: bool, show: Callable[[str], None]) -> None:
        self._as_json, self._show = as_json, show
        self._started_at = time.monotonic()

    def step(self, name: str, text: str, **facts: Any) -> None:
        self._print(name, f"{self._seconds():6.2f} s  {text}", facts)

    def fact(self, name: str, text: str, **facts: Any) -> None:
        self._print(name, f"{'':10}{text}", facts)

    def failed(self, reason: str) -> None:
        if self._as_json:
            self._print("failed", "", {"reason": reason})
        print(f"raftlite demo: {reason}", file=sys.stderr)

    def _seconds(self) -> float:
        return time.monotonic() - self._started_at

    def _print(self, name: str, text: str, facts: Dict[str, Any]) -> None:
        line = json.dumps({"t": time.time(), "event": name, **facts}) if self._as_json else text
        self._show(line)
