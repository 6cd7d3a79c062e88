"""How long a pool is without a coordinator after `kill -9` of the worker that coordinates: kill -> next on_elected.

    python -m benchmarks.pool [workers] [kills] [fork|forkserver|spawn] [crunch|sleep]

Each worker is in a task: one that is killed while it waits for a task leaves the queue of its pool locked. Between two
kills the replacement has been in the cluster for longer than an election timeout.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import List

import pool_workers

from raftlite import Timing
from raftlite.clock import boot_clock
from raftlite.pool import PoolElection

from .figures import percentile

SETTLES_IN = 0.5  # seconds


def stay(folder: str, how: str) -> None:
    Path(folder, f"busy-{os.getpid()}").touch()
    while True:
        if how == "sleep":
            time.sleep(1)
        else:
            sum(i * i for i in range(100_000))


def main() -> None:
    workers, kills, method, how = (*sys.argv[1:], *["4", "100", "fork", "sleep"][len(sys.argv) - 1 :])
    with tempfile.TemporaryDirectory() as folder:
        report(sorted(measure(folder, int(workers), int(kills), method, how)), f"{workers} workers, {method}, {how}")


def measure(folder: str, workers: int, kills: int, method: str, how: str) -> List[float]:
    journal = f"{folder}/journal"
    elected = functools.partial(pool_workers.note, journal, "elected")
    context, taken = multiprocessing.get_context(method), []
    with (
        PoolElection(workers, on_elected=elected, timing=Timing(0.05, 0.3)) as election,
        context.Pool(workers, initializer=election.join) as pool,
    ):
        for _ in range(workers + kills):
            pool.apply_async(stay, (folder, how))
        for kill in range(kills):
            pool_workers.wait_until(lambda count=workers + kill: len(list(Path(folder).glob("busy-*"))) == count)
            election.wait_for_leader(pool_workers.PATIENCE)
            time.sleep(SETTLES_IN)
            taken.append(kill_leader(journal))
    return taken


def kill_leader(journal: str) -> float:
    leader = pool_workers.read(journal)[-1]
    began_at = boot_clock()
    os.kill(leader["pid"], signal.SIGKILL)
    following = pool_workers.wait_until(lambda: [e for e in pool_workers.read(journal) if e["token"] > leader["token"]])
    return float(following[0]["t"]) - began_at


def report(seconds: List[float], what: str) -> None:
    ms = [1000 * second for second in seconds]
    at = {share: percentile(ms, share / 100) for share in (50, 90, 99)}
    shown = "  ".join(f"{share} % {at[share]:.1f} ms" for share in at)
    print(f"{what}: n={len(ms)}  {shown}  worst {ms[-1]:.1f} ms")


if __name__ == "__main__":
    main()
