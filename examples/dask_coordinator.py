"""The workers of a Dask cluster choose a coordinator among themselves: for who has outgrown one machine's pool.

Run it:  pip install distributed; python examples/dask_coordinator.py

A plugin starts a member in each worker. All of them compute; the coordinator alone may also do what only one may, such
as hold the rate limit or the database connection. Here its process is killed amid the work: another worker coordinates
within milliseconds, Dask repeats the tasks that were lost, and the worker that it starts in the place of the dead one
is a member under the same name. On several machines, name the workers and give each its `host:port`.
"""

import contextlib
import os
import signal
import tempfile
import time

from distributed import Client, LocalCluster, WorkerPlugin, get_worker

from raftlite import Member


class Coordinator(WorkerPlugin):
    name = "coordinator"

    def __init__(self, folder, names):
        self.folder, self.addresses = folder, {str(name): f"{folder}/{name}.sock" for name in names}

    def setup(self, worker):
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the client, which ends its workers
        name = str(worker.name)
        self.member = Member(name, peers=self.addresses, listen=self.addresses[name], data_dir=self.folder)
        self.member.on_elected(begin)
        self.member.start()

    def teardown(self, worker):
        self.member.stop()


def begin(leadership):
    print(f"worker {leadership.node_id} (pid {os.getpid()}) coordinates, token {leadership.token}", flush=True)


def square(number):
    time.sleep(0.05)
    return number**2


def who_coordinates():
    return get_worker().plugins["coordinator"].member.wait_for_leader(timeout=10)


def name_and_pid(dask_worker):
    return str(dask_worker.name), os.getpid()


def main(folder):
    with LocalCluster(n_workers=3, threads_per_worker=1, dashboard_address=":0") as cluster, Client(cluster) as client:
        client.register_plugin(Coordinator(folder, cluster.workers))
        squares = client.map(square, range(100))
        pids = dict(client.run(name_and_pid).values())
        client.gather(squares[:20])
        coordinator = client.submit(who_coordinates, pure=False).result()
        print(f"worker {coordinator} is killed", flush=True)
        os.kill(pids[coordinator], signal.SIGKILL)
        print(f"the sum of all squares is {client.submit(sum, squares).result()}", flush=True)
        coordinator = client.submit(who_coordinates, pure=False).result()
        print(f"worker {coordinator} coordinates at the end", flush=True)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt), tempfile.TemporaryDirectory() as folder:
        main(folder)
