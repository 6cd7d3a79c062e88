"""`Cluster`: processes of one system, one fault at a time, and how long the others were without a leader.

    member ── event, time ──▶ pipe ──▶ reader thread ──▶ queue ──▶ the experiment

All times are those of CLOCK_MONOTONIC, which all processes of a machine share.
"""

from __future__ import annotations

import itertools
import os
import queue
import random
import signal
import socket
import subprocess
import tempfile
import threading
import time
from contextlib import ExitStack
from typing import Any, Callable, Dict, List, NamedTuple, Optional

from chaos.links import Weather
from chaos.namespaces import NamespaceNetwork

from .systems import AGAIN, CUT, HANDOVER, KILL, ROOT, SILENCE, System, etcd_command, member_command, zookeeper_command

PATIENCE = 60.0  # seconds until an election is given up
SETTLING = 0.5  # seconds for a machine to be quiet again
RESTARTED = 0.2  # seconds from a member's start until the next leader is killed `AGAIN`
HEARTBEAT = 0.3  # seconds, the longest but pyraft's: a member is `whole` on one, and a fault is to come at any moment
SERVER = "server"


class Stuck(Exception):
    """A system did not do what is measured; the message says what."""


class Event(NamedTuple):
    kind: str
    node: int
    at: float


class Cluster:
    """`count` processes of `system`, all connected and with a leader once it is made. Close it with `stack`.

    Where they are to be cut off, each is in a network namespace of its own.
    """

    _ports = itertools.cycle(random.sample(range(21_000, 29_000, 100), 80))  # others may take turns beside these

    def __init__(self, system: System, count: int, pace: str, stack: ExitStack, fault: str = KILL) -> None:
        self.system, self.count, self.pace = system, count, pace
        self._folder = stack.enter_context(tempfile.TemporaryDirectory())
        self._port = next(port for port in self._ports if _are_free(range(port - 1, port + 2 * count)))
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._processes: Dict[int, subprocess.Popen[bytes]] = {}
        self._seen: Dict[str, Dict[int, float]] = {}
        self.leader = -1
        self.servers: List[subprocess.Popen[bytes]] = []
        self._network: Optional[NamespaceNetwork] = None
        self._hosts = ["127.0.0.1"] * (count + 1)
        if fault == CUT:
            self._network = stack.enter_context(NamespaceNetwork([*map(str, range(count)), SERVER]))
            self._hosts = [self._network.listen(node).partition(":")[0] for node in self._network.node_ids]
        read_end, self._write_end = os.pipe()
        stack.callback(os.close, self._write_end)
        threading.Thread(target=self._read, args=(os.fdopen(read_end),), daemon=True).start()
        stack.callback(self._end)
        self._start_everything()

    # --- Before and after -------------------------------------------------------------------------

    def _start_everything(self) -> None:
        if self.system.name == "kazoo":
            self._start_zookeeper()
        for node in range(self.count):
            self._start(node)
        self._wait_for("whole", set(range(self.count)))
        self._take_until(lambda event: False, seconds=SETTLING)

    @property
    def cold_start(self) -> float:
        """From when the last member had started until all knew who leads. To be read before any fault."""
        return max(self._seen["knows"].values()) - max(self._seen["started"].values())

    def set_weather(self, weather: Weather) -> None:
        """What the links do until `seconds_without_leader` puts a member back."""
        assert self._network is not None
        self._network.set_weather(weather)

    def pids(self) -> Dict[int, int]:
        return {node: process.pid for node, process in self._processes.items()}

    def _end(self) -> None:
        for process in [*self._processes.values(), *self.servers]:
            _end(process)

    # --- One fault --------------------------------------------------------------------------------

    def seconds_without_leader(self, fault: str) -> float:
        """Take the leader away, wait until another member leads, put it back; raise `Stuck` if no other one does."""
        self._take_until(lambda event: False, seconds=SETTLING + random.uniform(-0.5, 0.5) * HEARTBEAT)
        leader = self.leader
        if leader < 0:
            raise Stuck("nobody leads at first")
        back = self._replace_leader() if fault == AGAIN else leader
        faults = {AGAIN: self._kill, KILL: self._kill, SILENCE: self._silence}
        faults.update({CUT: self._cut_off, HANDOVER: self._hand_over})
        leader = self.leader
        gone_at = faults[fault](leader)
        elected_at = self._wait_for_successor(leader, gone_at)
        self._put_back(leader)
        self._wait_for("whole", {back})
        return elected_at - gone_at

    def _wait_for_successor(self, leader: int, gone_at: float) -> float:
        elected = self._take_until(lambda event: event.kind == "leader" and event.node != leader)
        if elected is None:
            ended = [node for node in self._processes if node != leader and self._processes[node].poll() is not None]
            of_the_others = f", {len(ended)} of the others have ended" if ended else ""
            raise Stuck(f"no leader {PATIENCE:.0f} s after the fault{of_the_others}")
        if elected.at <= gone_at:  # as where the machine has stood still for longer than a lease
            raise Stuck("another one led already when the fault came")
        return elected.at

    def _replace_leader(self) -> int:
        """Kill the leader and start it again, as a supervisor does, under the next one; return who it was."""
        leader = self.leader
        self._wait_for_successor(leader, self._kill(leader))
        self._start_again(leader)
        self._wait_for("started", {leader})
        self._take_until(lambda event: False, seconds=RESTARTED)
        return leader

    def _kill(self, node: int) -> float:
        at = time.monotonic()
        self._processes[node].send_signal(signal.SIGKILL)
        return at

    def _silence(self, node: int) -> float:
        at = time.monotonic()
        self._processes[node].send_signal(signal.SIGSTOP)
        return at

    def _cut_off(self, node: int) -> float:
        assert self._network is not None
        at = time.monotonic()
        self._network.split([each for each in self._network.node_ids if each != str(node)])
        return at

    def _hand_over(self, node: int) -> float:
        process = self._processes[node]
        if self.system.name == "etcd":
            at = time.monotonic()
            process.send_signal(signal.SIGTERM)
            return at
        assert process.stdin is not None
        process.stdin.write(b"stop\n")
        process.stdin.flush()
        stopping = self._take_until(lambda event: event.kind == "stopping")
        if stopping is None:
            raise Stuck("it does not listen")
        return stopping.at

    def _put_back(self, node: int) -> None:
        _end(self._processes[node])
        if self._network is not None:
            self._network.heal()
        self._take_until(lambda event: False, seconds=0.2)
        self._start_again(node)
        self._wait_for("whole", {node})

    def _start_again(self, node: int) -> None:
        _end(self._processes[node])
        for seen in self._seen.values():
            seen.pop(node, None)
        self._start(node)

    # --- Processes --------------------------------------------------------------------------------

    def _start(self, node: int) -> None:
        if self.system.name == "etcd":
            command = etcd_command(node, self._hosts[:-1], self._port, self._folder, self.pace)
            process = self._popen(str(node), command, stderr=subprocess.PIPE)
            threading.Thread(target=self._read_etcd, args=(node, process), daemon=True).start()
        else:
            command = member_command(
                self.system, node, self.count, self._port, self._folder, self.pace, self._write_end
            )
            process = self._popen(str(node), command, stdin=subprocess.PIPE, pass_fds=(self._write_end,))
        self._processes[node] = process

    def _start_zookeeper(self) -> None:
        port = self._port - 1
        self.servers.append(self._popen(SERVER, zookeeper_command(self._hosts[-1], port, self._folder, self.pace)))
        if self._network is None:  # else only members can ask, and they have patience
            _wait_until(lambda: _answers(port), "ZooKeeper does not start")

    def _popen(self, host: str, command: List[str], **settings: Any) -> subprocess.Popen[bytes]:
        if self._network is not None:
            command = [*self._network.command_prefix(host), *command]
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        null: Dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        settings = {
            **null,
            "cwd": self._folder,
            "env": {**kept, "PYTHONPATH": str(ROOT), "HOSTS": ",".join(self._hosts)},
            **settings,
        }
        return subprocess.Popen(command, **settings)

    # --- Events -----------------------------------------------------------------------------------

    def _read(self, pipe: Any) -> None:
        with pipe:
            for line in pipe:
                kind, node, at = line.split()
                self._events.put(Event(kind, int(node), float(at)))

    def _read_etcd(self, node: int, process: subprocess.Popen[bytes]) -> None:
        """Its log lines are its events; they bear the time at which they are read."""
        assert process.stderr is not None
        with process.stderr as lines:
            for line in lines:
                at = time.monotonic()
                if b" became leader at term " in line:
                    self._events.put(Event("leader", node, at))
                elif b" elected leader " in line:
                    self._events.put(Event("knows", node, at))
                elif b"listening for peers on" in line or b"starting server..." in line:
                    self._events.put(Event("started", node, at))
                elif b"ready to serve client requests" in line:
                    self._events.put(Event("whole", node, at))

    def _wait_for(self, kind: str, nodes: Any) -> None:
        if not nodes <= self._seen.get(kind, {}).keys():
            self._take_until(lambda event: nodes <= self._seen.get(kind, {}).keys())
        missing = nodes - self._seen.get(kind, {}).keys()
        if missing:
            ended = [node for node in missing if self._processes[node].poll() is not None]
            raise Stuck(f"{len(missing)} of {self.count} not {kind} after {PATIENCE:.0f} s, {len(ended)} have ended")

    def _take_until(self, condition: Callable[[Event], bool], seconds: float = PATIENCE) -> Optional[Event]:
        """Take events in until one is what is waited for; return it, or None after so many seconds."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                event = self._events.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                return None
            self._seen.setdefault(event.kind, {}).setdefault(event.node, event.at)
            if event.kind == "leader":
                self.leader = event.node
            if condition(event):
                return event


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    if process.stdin is not None:
        process.stdin.close()


def _are_free(ports: Any) -> bool:
    for port in ports:
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                sock.bind(("127.0.0.1", port))
            except OSError:
                return False
    return True


def _answers(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def _wait_until(condition: Callable[[], Any], what_else: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise Stuck(what_else)
        time.sleep(0.05)
