"""How evenly a leader's heartbeats arrive, with three sick peers of seven and without.

    python -m benchmarks.slow_peer [--json]

Seven members, each a process, with heartbeats every 50 ms and an election timeout of one second. First all are well.
Then one is stopped (SIGSTOP, with the leader's socket to it full), one has an address that answers nobody, and one
accepts connections and says nothing. What is measured is the time between two heartbeats at each of the three followers
that are well both times and, as the floor, that between two wake-ups of a thread that sleeps for 50 ms meanwhile.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Dict, Iterator, List

from . import figures

HERE = Path(__file__).resolve()
ROOT = HERE.parent.parent.parent
WELL, OTHERS = ("w1", "w2", "w3", "w4"), ("stopped", "unreachable", "silent")
INTERVAL = 0.05

MEMBER = """
import json, sys, time
from raftlite import Heartbeat, Member, Membership, NodeInfo, Timing

node_id, peers = sys.argv[1], json.loads(sys.argv[2])
arrivals, terms = [], set()
timing = Timing(heartbeat_interval=0.05)
member = Member(node_id, peers=peers, listen=peers[node_id], authkey="benchmark", timing=timing)
member.start()
inbox = member._listener.inbox
get = inbox.get

def get_and_note(*how, **more):
    message = get(*how, **more)
    if type(message) is Heartbeat:
        arrivals.append(time.monotonic())
        terms.add(message.term)
    return message

def fill(node):
    large = Heartbeat(1, node_id, 1, (1, 1), Membership(1, 1, tuple(NodeInfo(f"{n:0100}") for n in range(400))))
    while len(node._queue) < 64:
        node.send_message(large)

def memory():
    return int(open("/proc/self/statm").read().split()[1]) * 4096

inbox.get = get_and_note
say = lambda fact: print(json.dumps(fact), flush=True)
for line in sys.stdin:
    say(eval(line))
"""


class Process:
    """A member that is asked what the benchmark wants to know."""

    def __init__(self, node_id: str, peers: Dict[str, str]) -> None:
        command = [sys.executable, "-c", MEMBER, node_id, json.dumps(peers)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        pipe = subprocess.PIPE
        self._popen = subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, text=True, bufsize=1)

    def ask(self, expression: str) -> Any:
        self._popen.stdin.write(expression + "\n")
        return json.loads(self._popen.stdout.readline())

    def stop(self) -> None:
        self._popen.send_signal(signal.SIGSTOP)

    def end(self) -> None:
        self._popen.kill()
        self._popen.communicate()


def run(sick: bool, seconds: float) -> Dict[str, Any]:
    """One cluster, from its first leader on."""
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        peers = {node_id: f"{folder}/{node_id}" for node_id in (*WELL, *OTHERS)}
        if sick:
            peers["unreachable"] = stack.enter_context(listening(backlog=0, full=True))
            peers["silent"] = stack.enter_context(listening(backlog=1_000, full=False))
        alive = [*WELL, "stopped"] if sick else list(peers)
        members = {node_id: Process(node_id, peers) for node_id in alive}
        for process in members.values():
            stack.callback(process.end)
        leader = settle(members)
        if sick:
            members["stopped"].stop()
            members[leader].ask("fill(member._thread._handles['stopped'])")
        return measure(members, leader, seconds)


def settle(members: Dict[str, Process]) -> str:
    """Let one lead that is to stay well, and all the others know it; return its id."""
    while True:
        leaders = {process.ask("member.wait_for_leader(30)") for process in members.values()}
        leader = leaders.pop()
        if not leaders and leader in WELL:
            return leader
        members[leader].ask("member.transfer_leadership('w1')")
        time.sleep(0.1)


def measure(members: Dict[str, Process], leader: str, seconds: float) -> Dict[str, Any]:
    followers = [members[node_id] for node_id in WELL if node_id != leader]
    for process in followers:
        process.ask("arrivals.clear(), terms.clear()")
    before = members[leader].ask("memory()")
    naps = list(nap(seconds))
    arrivals = [process.ask("arrivals") for process in followers]
    return {
        "naps_ms": sorted(naps),
        "intervals_ms": sorted((b - a) * 1e3 for each in arrivals for a, b in zip(each, each[1:])),
        "terms": len({term for process in followers for term in process.ask("sorted(terms)")}),
        "leader_memory_grew_kb": (members[leader].ask("memory()") - before) // 1024,
    }


def nap(seconds: float) -> Iterator[float]:
    """How long each sleep of an interval takes, for so long: how far the machine itself is from being even."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        before = time.monotonic()
        time.sleep(INTERVAL)
        yield (time.monotonic() - before) * 1e3


@contextlib.contextmanager
def listening(backlog: int, full: bool) -> Iterator[str]:
    """An address at which nobody accepts; one that is full answers nobody who wants to connect."""
    with socket.create_server(("127.0.0.1", 0), backlog=backlog) as server, ExitStack() as stack:
        for _ in range(8 if full else 0):
            sock = stack.enter_context(socket.socket())
            sock.setblocking(False)
            sock.connect_ex(server.getsockname())
        yield "{}:{}".format(*server.getsockname())


def summary(runs: List[Dict[str, Any]]) -> Dict[str, Any]:
    return {
        "runs": len(runs),
        **distribution("", [interval for each in runs for interval in each["intervals_ms"]]),
        "changes_of_leader": sum(each["terms"] - 1 for each in runs),
        "leader_memory_grew_kb": max(each["leader_memory_grew_kb"] for each in runs),
        **distribution("floor_", [each_nap for each in runs for each_nap in each["naps_ms"]]),
    }


def distribution(prefix: str, values: List[float]) -> Dict[str, Any]:
    shares = figures.summary(values)
    count = shares.pop("n")
    return {f"{prefix}samples": count, **{f"{prefix}{name}_ms": round(value, 2) for name, value in shares.items()}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    parser.add_argument("--seconds", type=float, default=15.0, help="how long each cluster is watched (default: 15)")
    parser.add_argument("--runs", type=int, default=3, help="clusters of each kind, by turns (default: 3)")
    options = parser.parse_args()
    runs: Dict[str, List[Dict[str, Any]]] = {"7 well": [], "4 well, 3 sick": []}
    for _ in range(options.runs):
        for (_, done), sick in zip(runs.items(), (False, True)):
            done.append(run(sick, options.seconds))
    found = {kind: summary(done) for kind, done in runs.items()}
    if options.json:
        print(json.dumps(found))
        return
    print(f"time between two heartbeats that are sent every {INTERVAL * 1e3:g} ms, at three followers that are well")
    print(f"{'':>24}", *(f"{kind:>16}" for kind in found))
    for name in next(iter(found.values())):
        print(f"{name:>24}", *(f"{each[name]:>16}" for each in found.values()))


if __name__ == "__main__":
    main()
