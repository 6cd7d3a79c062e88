"""What members cost that only beat: processor, memory, threads, connections, and the import, part by part.

    python -m benchmarks.idle [--seconds 20] [--json]

Clusters of three, five and nine processes on Unix sockets, with heartbeats every 50 ms, saved votes and nothing else to
do. Memory is compared with an interpreter that has imported `multiprocessing.connection` and nothing else, and the
import with one that imports nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Dict, List

ROOT = Path(__file__).resolve().parent.parent.parent
SIZES = (3, 5, 9)
STARTS = 20  # of an interpreter, for the median

MEMBER = """
import json, sys, time
from raftlite import Member, Timing
node_id, peers, data_dir = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3]
settings = {"timing": Timing(heartbeat_interval=0.05), "authkey": "benchmark", "data_dir": data_dir}
with Member(node_id, peers=peers, listen=peers[node_id], **settings) as member:
    print(member.wait_for_leader(), flush=True)
    sys.stdin.read()
"""
BEFORE = "import importlib, os, time; print(open('/proc/self/statm').read().split()[1])"
BARE = "import multiprocessing.connection, sys; print('ready', flush=True); sys.stdin.read()"
OWN = "raftlite itself"
PARTS = {  # in this order, since each finds there what those before it have imported
    "multiprocessing.connection": "import multiprocessing.connection",
    "sqlite3, for the votes": "import sqlite3",
    "hmac (OpenSSL), for the key": "import hmac",
    "logging": "import logging",
    "dataclasses": "import dataclasses",
    "the rest of the standard library": "for name in others: importlib.import_module(name)",
    OWN: "import raftlite.member",
}


def environment() -> Dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "PYTHONPATH": str(ROOT)}


class Process:
    """A program that prints one line when it is ready, and lives until its stdin ends."""

    def __init__(self, source: str, *arguments: str) -> None:
        command = [sys.executable, "-c", source, *arguments]
        pipe = subprocess.PIPE
        self._popen = subprocess.Popen(command, env=environment(), stdin=pipe, stdout=pipe, text=True)
        self._proc = Path(f"/proc/{self._popen.pid}")

    def read_line(self) -> str:
        return str(self._popen.stdout.readline()).strip()

    def end(self) -> None:
        self._popen.kill()
        self._popen.communicate()

    @property
    def processor_seconds(self) -> float:
        fields = (self._proc / "stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    @property
    def megabytes(self) -> float:
        return int((self._proc / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20

    @property
    def threads(self) -> int:
        return len(list((self._proc / "task").iterdir()))

    @property
    def sockets(self) -> int:
        """The listening one included."""
        return sum(os.readlink(each).startswith("socket:") for each in (self._proc / "fd").iterdir())


def cluster(size: int, seconds: float) -> Dict[str, Any]:
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        peers = {f"n{number}": f"{folder}/n{number}" for number in range(size)}
        members = {node_id: Process(MEMBER, node_id, json.dumps(peers), folder) for node_id in peers}
        for member in members.values():
            stack.callback(member.end)
        leader = [member.read_line() for member in members.values()][-1]
        time.sleep(2.0)  # until all are connected
        before = {node_id: member.processor_seconds for node_id, member in members.items()}
        time.sleep(seconds)
        percent = {
            node_id: 100 * (each.processor_seconds - before[node_id]) / seconds for node_id, each in members.items()
        }
        lead = members[leader]
        return {
            "leader_percent_of_a_core": percent.pop(leader),
            "follower_percent_of_a_core": statistics.median(percent.values()),
            "leader_megabytes": lead.megabytes,
            "follower_megabytes": statistics.median(each.megabytes for each in members.values() if each is not lead),
            "threads": lead.threads,
            "sockets": lead.sockets,
        }


def bare_megabytes() -> float:
    process = Process(BARE)
    try:
        process.read_line()
        return process.megabytes
    finally:
        process.end()


def import_milliseconds(source: str = "import raftlite; raftlite.Member") -> float:
    """By turns with an interpreter that imports nothing, of which it is the difference."""
    times: Dict[str, List[float]] = {"pass": [], source: []}
    for each in times:
        subprocess.run([sys.executable, "-c", each], env=environment(), check=True)  # what it compiles is kept
    for _ in range(STARTS):
        for source, taken in times.items():
            began_at = time.monotonic()
            subprocess.run([sys.executable, "-c", source], env=environment(), check=True)
            taken.append((time.monotonic() - began_at) * 1e3)
    without, with_it = (statistics.median(taken) for taken in times.values())
    return with_it - without


def parts() -> Dict[str, Dict[str, float]]:
    """Of what the import of `Member` consists: milliseconds and megabytes of each part, medians of `STARTS` starts."""
    others = [name for name in _run(f"{PARTS[OWN]}, sys; print(*sys.modules)") if not name.startswith("raftlite")]
    sources = [f"import importlib, os, time; others = {others!r}; began_at = time.perf_counter()"]
    for source in PARTS.values():
        sources.append(source)
        sources.append("print(time.perf_counter() - began_at, open('/proc/self/statm').read().split()[1])")
    runs = [[float(each) for each in _run("\n".join(sources))] for _ in range(STARTS + 1)][1:]  # the first one compiles
    until = [statistics.median(column) for column in zip(*runs)]
    before, rows = (0.0, statistics.median(float(*_run(BEFORE)) for _ in range(STARTS))), {}
    for name, after in zip(PARTS, zip(until[::2], until[1::2])):
        megabytes = (after[1] - before[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
        rows[name] = {"ms": (after[0] - before[0]) * 1e3, "megabytes": megabytes}
        before = after
    return rows


def _run(source: str) -> List[str]:
    """The words that a program prints."""
    command = [sys.executable, "-c", source]
    return subprocess.run(command, env=environment(), check=True, capture_output=True, text=True).stdout.split()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    parser.add_argument("--seconds", type=float, default=20.0, help="how long each cluster is watched (default: 20)")
    options = parser.parse_args()
    figures = {f"{size} members": cluster(size, options.seconds) for size in SIZES}
    bare, imported, made_of = bare_megabytes(), import_milliseconds(), parts()
    if options.json:
        print(json.dumps({**figures, "bare_megabytes": bare, "import_milliseconds": imported, "parts": made_of}))
        return
    print(f"members that only beat, every 50 ms, watched for {options.seconds:g} s; Python {platform.python_version()}")
    print(f"{'':>28}", *(f"{name:>10}" for name in figures))
    for name in next(iter(figures.values())):
        print(f"{name:>28}", *(f"{each[name]:>10.2f}" for each in figures.values()))
    print(f"a bare interpreter with multiprocessing.connection has {bare:.1f} MB; the import takes {imported:.0f} ms")
    print(f"{'of the import':>36} {'ms':>6} {'MB':>6}")
    for name, part in made_of.items():
        print(f"{name:>36} {part['ms']:>6.1f} {part['megabytes']:>6.1f}")


if __name__ == "__main__":
    main()
