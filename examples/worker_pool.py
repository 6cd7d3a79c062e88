"""A pool of workers that share one rate limit: the worker that coordinates holds it, and dies amid the work.

Run it:  python examples/worker_pool.py

Each task fetches a page from a service that allows RATE requests a second to all workers together. So one of them hands
out the permits, beside its own tasks; it might as well hold the only connection to a database. Here it is killed amid
the work: another one hands them out within milliseconds, and the pool goes on.
"""

import contextlib
import functools
import multiprocessing
import os
import signal
import tempfile
import threading
import time
from multiprocessing.connection import Client, Listener

from raftlite.pool import PoolElection, current

RATE = 20  # requests a second, of all workers together
PAGES = range(60)


def coordinate(folder, leadership):
    print(f"{leadership.node_id} holds the rate limit, token {leadership.token}", flush=True)
    threading.Thread(target=hand_out_permits, args=(folder, leadership), daemon=True).start()


def hand_out_permits(folder, leadership):
    address = f"{folder}/{leadership.node_id}"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(address)  # of a worker that was killed
    with Listener(address) as listener:
        while not leadership.lost.wait(1 / RATE):  # also before the first: the one before has just given its last
            with listener.accept() as worker:
                if leadership.valid:
                    worker.send((leadership.token, time.monotonic()))


def permit(folder):
    """Wait for a permit of whoever coordinates now."""
    while True:
        leader_id = current().wait_for_leader(timeout=10)
        with contextlib.suppress(OSError, EOFError), Client(f"{folder}/{leader_id}") as coordinator:
            return coordinator.recv()
        time.sleep(0.01)  # it has died, or only just begun


def fetch(folder, page):
    token, at = permit(folder)
    meet_with_an_accident(folder, page)
    return page, token, at  # a real task would ask the service now


def meet_with_an_accident(folder, page):
    if page >= 20 and current().is_leader:
        with contextlib.suppress(FileExistsError), open(f"{folder}/accident", "x"):
            print(f"{current().node_id} is killed", flush=True)
            os.kill(os.getpid(), signal.SIGKILL)


def fetch_all(pool, folder):
    """A pool waits in vain for the task of a worker that was killed: give it again."""
    tasks = {page: pool.apply_async(fetch, (folder, page)) for page in PAGES}
    for page in PAGES:
        while True:
            with contextlib.suppress(multiprocessing.TimeoutError):
                yield tasks[page].get(timeout=2)
                break
            tasks[page] = pool.apply_async(fetch, (folder, page))


def main(folder):
    on_elected = functools.partial(coordinate, folder)
    with PoolElection(workers=4, on_elected=on_elected) as election, multiprocessing.Pool(4, election.join) as pool:
        results = list(fetch_all(pool, folder))
        leader_id = election.wait_for_leader(timeout=10)
    coordinators, times = {token for _, token, _ in results}, sorted(at for _, _, at in results)
    print(f"{len(results)} pages with permits of {len(coordinators)} coordinators, {leader_id} last")
    print(f"no two permits within {min(b - a for a, b in zip(times, times[1:])):.3f} s")


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt), tempfile.TemporaryDirectory() as folder:
        main(folder)
