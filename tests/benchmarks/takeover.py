"""How long from `kill -9` of the leader until a survivor's `on_elected` runs: `python takeover.py [--kills 500]`.

Clusters of three and of five processes with default timing and saved votes, killed by turns with two floors: programs
with nothing but sockets and SQLite, that do what no election can do without. Of the two that survive, one reads the end
of its connection, saves, asks the other, which saves and answers, and asks once more. One floor is bare; the leader of
the other has imported raftlite, because the system frees a process's memory before it ends its connections.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Dict, List, Tuple

ROOT = Path(__file__).resolve().parent.parent.parent
PAUSE = 0.5  # seconds for the members to connect to the one that is back, and for the machine to be idle again

MEMBER = """
import json, os, sys, time
from raftlite import Member

def elected(leadership):
    os.write(int(events), f"{node_id} {time.monotonic()}\\n".encode())

node_id, peers, data_dir, events = sys.argv[1:]
peers = json.loads(peers)
member = Member(node_id, peers=peers, listen=peers[node_id], authkey="benchmark", data_dir=data_dir)
member.on_elected(elected)
with member:
    member.wait_for_leader()
    print("ready", flush=True)
    sys.stdin.read()
"""

FLOOR = """
import socket, sqlite3, sys, time

role, folder, memory = sys.argv[1:]
if memory == "raftlite":
    import hmac
    import raftlite.member
database = sqlite3.connect(f"{folder}/{role}.sqlite3", isolation_level=None)
database.execute("PRAGMA journal_mode=WAL")
database.execute("PRAGMA synchronous=FULL")
database.execute("CREATE TABLE IF NOT EXISTS saved (id INTEGER PRIMARY KEY, vote TEXT)")

def save():
    database.execute("REPLACE INTO saved VALUES (1, ?)", (str(time.monotonic()),))

def listening():
    server = socket.socket(socket.AF_UNIX)
    server.bind(f"{folder}/heir")
    server.listen()
    print("ready", flush=True)
    return {sock.recv(1): sock for sock, _ in (server.accept(), server.accept())}

def joined():
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(f"{folder}/heir")
    sock.sendall(role[:1].encode())
    print("ready", flush=True)
    return sock

if role == "heir":
    peers = listening()
    peers[b"l"].recv(1)
    save()
    for _ in "vote", "heartbeat":
        peers[b"v"].sendall(b"?")
        peers[b"v"].recv(1)
    print(time.monotonic(), flush=True)
elif role == "voter":
    sock = joined()
    sock.recv(1)
    save()
    sock.sendall(b"!")
    sock.recv(1)
    sock.sendall(b"!")
else:
    sock = joined()
sys.stdin.read()
"""


class Process:
    """Runs one of the programs above, with its stdin open for as long as it is to live."""

    def __init__(self, source: str, *arguments: str, pass_fds: Tuple[int, ...] = ()) -> None:
        command = [sys.executable, "-c", source, *arguments]
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        environment["PYTHONPATH"] = str(ROOT)
        pipe = subprocess.PIPE
        self._popen = subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, text=True, pass_fds=pass_fds)

    def read_line(self) -> str:
        return str(self._popen.stdout.readline())

    def kill(self) -> float:
        """Return when."""
        at = time.monotonic()
        self._popen.send_signal(signal.SIGKILL)
        return at

    def end(self) -> None:
        self._popen.kill()
        self._popen.communicate()


class Cluster:
    """Members of raftlite; `kill` kills the leader, returns after how many seconds the next one led, restarts it."""

    def __init__(self, count: int, stack: ExitStack) -> None:
        self._folder = stack.enter_context(tempfile.TemporaryDirectory())
        self._peers = {f"n{number}": f"{self._folder}/n{number}" for number in range(count)}
        read_end, self._write_end = os.pipe()
        self._events = stack.enter_context(os.fdopen(read_end))
        self._members: Dict[str, Process] = {}
        stack.callback(lambda: [member.end() for member in self._members.values()])
        for node_id in self._peers:
            self._start(node_id)
        self._wait_until_all_know()
        self._leader, _ = self._next_elected()

    def kill(self) -> float:
        dead = self._leader
        killed_at = self._members[dead].kill()
        self._leader, elected_at = self._next_elected()
        assert self._leader != dead and elected_at > killed_at, "there was another election"
        self._members[dead].end()
        self._start(dead)
        self._members[dead].read_line()
        return elected_at - killed_at

    def _start(self, node_id: str) -> None:
        arguments = (node_id, json.dumps(self._peers), self._folder, str(self._write_end))
        self._members[node_id] = Process(MEMBER, *arguments, pass_fds=(self._write_end,))

    def _wait_until_all_know(self) -> None:
        for member in self._members.values():
            member.read_line()

    def _next_elected(self) -> Tuple[str, float]:
        node_id, at = self._events.readline().split()
        return node_id, float(at)


class Floor:
    """Three processes for each kill."""

    def __init__(self, memory: str) -> None:
        self._memory = memory

    def kill(self) -> float:
        with ExitStack() as stack:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            processes = {}
            for role in ("heir", "voter", "leader"):
                processes[role] = Process(FLOOR, role, folder, self._memory if role == "leader" else "bare")
                stack.callback(processes[role].end)
                processes[role].read_line()
            time.sleep(PAUSE)
            killed_at = processes["leader"].kill()
            return float(processes["heir"].read_line()) - killed_at


def summary(seconds: List[float]) -> Dict[str, Any]:
    ordered = sorted(each * 1e3 for each in seconds)
    shares = {"median": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}
    at = {name: ordered[min(len(ordered) - 1, int(share * len(ordered)))] for name, share in shares.items()}
    return {"kills": len(ordered), **{f"{name}_ms": round(value, 2) for name, value in at.items()}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    parser.add_argument("--kills", type=int, default=100, help="of each kind, by turns (default: 100)")
    options = parser.parse_args()
    with ExitStack() as stack:
        kinds: Dict[str, Any] = {
            "raftlite, 3 processes": Cluster(3, stack),
            "raftlite, 5 processes": Cluster(5, stack),
            "floor, leader imports raftlite": Floor("raftlite"),
            "floor, bare": Floor("bare"),
        }
        figures: Dict[str, List[float]] = {kind: [] for kind in kinds}
        for _ in range(options.kills):
            for kind, cluster in kinds.items():
                time.sleep(PAUSE)
                figures[kind].append(cluster.kill())
    result = {kind: summary(seconds) for kind, seconds in figures.items()}
    if options.json:
        print(json.dumps(result))
        return
    print(f"from kill -9 of the leader to on_elected at a survivor; Python {platform.python_version()}")
    names = list(result["floor, bare"])
    print(f"{'':>32}", *(f"{name:>10}" for name in names))
    for kind, each in result.items():
        print(f"{kind:>32}", *(f"{each[name]:>10}" for name in names))


if __name__ == "__main__":
    main()
