"""What programs that keep the interpreter busy, or hold it, do to a leader; and what reading `is_leader` costs.

    python tests/benchmarks/gil.py [--seconds 60] [--threads 4] [--hold 3] [--only spin]

Three members each time, as three processes on this machine, with default timing and saved votes. The program of the one
that leads does what is measured, and the others count the leaders that they see from then on.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import logging
import multiprocessing
import os
import platform
import statistics
import sys
import tempfile
import threading
import time
import timeit
from pathlib import Path
from typing import Any, Dict, List, Set

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from raftlite import Leadership, Member  # of this very folder

Addresses = Dict[str, str]

PATIENCE = 60.0  # seconds until a cluster of three is taken for stuck


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="of each of the three runs")
    parser.add_argument("--threads", type=int, default=4, help="that spin in pure Python beside the leader's election")
    parser.add_argument("--hold", type=float, default=3.0, help="seconds for which the GIL is held at a time")
    parser.add_argument("--only", choices=["spin", "hold", "isolated"], help="one run; prints what was seen as JSON")
    options = parser.parse_args()
    if options.only:
        print(json.dumps(in_a_cluster(options.only.replace("isolated", "hold"), options.only == "isolated", options)))
        return
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}", flush=True)
    rows = [
        (f"{options.threads} threads spin in pure Python", "spin", False),
        (f"the GIL is held for {options.hold:g} s at a time", "hold", False),
        (f"the GIL is held for {options.hold:g} s at a time, isolated", "hold", True),
    ]
    for title, what, isolated in rows:
        show(title, in_a_cluster(what, isolated, options))
    for isolated in (False, True):
        print(f"{'isolated' if isolated else 'not isolated'}: one read of is_leader takes {cost(isolated)}")


def in_a_cluster(what: str, isolated: bool, options: argparse.Namespace) -> Dict[str, Any]:
    """Let the program of the first of three members do `what` while it leads; return what each has seen."""
    context = multiprocessing.get_context("spawn")
    results: Any = context.Queue()
    leads, over = context.Event(), context.Event()
    with tempfile.TemporaryDirectory(prefix="raftlite-") as folder:
        addresses = {node_id: f"{folder}/{node_id}" for node_id in "abc"}
        arguments = (addresses, leads, over, results)
        processes = [context.Process(target=watch, args=(each, *arguments)) for each in "bc"]
        processes += [context.Process(target=burden, args=("a", *arguments, what, isolated, options))]
        for process in processes:
            process.start()
        found: Dict[str, Any] = {}
        while len(found) < 5:
            found.update(results.get(timeout=PATIENCE + options.seconds))
        for process in processes:
            process.join()
        return found


def burden(
    node_id: str, addresses: Addresses, leads: Any, over: Any, results: Any, what: str, isolated: bool, options: Any
) -> None:
    log, began = keep_log(), time.process_time()
    with member_of(node_id, addresses, isolated) as member:
        leadership = lead(member)
        leads.set()
        reads = {"spin": spin, "hold": hold}[what](member, time.monotonic() + options.seconds, options)
        share = (time.process_time() - began) / options.seconds
        results.put({"always led": all(reads) and leadership.valid, "log": list(log), "share": share})
        over.set()


def lead(member: Member) -> Leadership:
    """Wait until this member leads, and see to it."""
    while True:
        if member.wait_for_leader(PATIENCE) != member.node_id:
            member.transfer_leadership(member.node_id)
        with contextlib.suppress(TimeoutError):
            return member.wait_until_leader(timeout=0.5)


def spin(member: Member, end: float, options: Any) -> List[bool]:
    """Keep this thread and some more busy in pure Python."""

    def spinner() -> None:
        while time.monotonic() < end:
            pass

    threads = [threading.Thread(target=spinner) for _ in range(options.threads - 1)]
    for thread in threads:
        thread.start()
    always = True
    while time.monotonic() < end:
        always = always and member.is_leader
    for thread in threads:
        thread.join()
    return [always]


def hold(member: Member, end: float, options: Any) -> List[bool]:
    """Sleep in C without letting go of the interpreter, as a long call of a library does that never releases it."""
    usleep = ctypes.PyDLL(None).usleep
    reads = []
    while time.monotonic() < end:
        usleep(int(options.hold * 1e6))
        reads.append(member.is_leader)
        time.sleep(0.01)
    return reads


def watch(node_id: str, addresses: Addresses, leads: Any, over: Any, results: Any) -> None:
    terms: Set[int] = set()
    with member_of(node_id, addresses, isolated=False) as member:
        leads.wait()
        member.wait_for_leader(PATIENCE)
        member.on_leader_changed(lambda leader_id, term: terms.add(term) if leader_id else None)
        first = member.status().current_term
        over.wait()
        results.put({node_id: len(terms - {first})})


def member_of(node_id: str, addresses: Addresses, isolated: bool) -> Member:
    folder = os.path.dirname(addresses[node_id])
    return Member(node_id, peers=addresses, listen=addresses[node_id], data_dir=folder, isolated=isolated)


def keep_log() -> List[str]:
    lines: List[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(f"{record.levelname} {record.getMessage()}")

    logging.getLogger("raftlite").addHandler(Keep(logging.WARNING))
    return lines


def show(title: str, found: Dict[str, Any]) -> None:
    led = "is_leader was always true" if found["always led"] else "is_leader was false at times"
    share = f"it had {found['share']:.0%} of a processor"
    print(f"{title}: {max(found['b'], found['c'])} changes of the leader; {led}; {share}", flush=True)
    for line in dict.fromkeys(found["log"][:1] + found["log"][-1:]):
        print(f"    its log: {line}")


def cost(isolated: bool) -> str:
    with Member("a", min_nodes=1, isolated=isolated) as member:
        member.wait_until_leader(PATIENCE)
        runs = [each / 20_000 * 1e6 for each in timeit.repeat(lambda: member.is_leader, number=20_000, repeat=25)]
    return f"{statistics.median(runs):.2f} us (median of 25 times 20,000 reads; fastest {min(runs):.2f})"


if __name__ == "__main__":
    main()
