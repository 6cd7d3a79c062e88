"""Flask under gunicorn with four workers, and an APScheduler job that fires once a second, not four times.

    pip install flask gunicorn "apscheduler<4"
    cd examples; gunicorn --config python:flask_gunicorn

The worker that leads has the job in its scheduler. `kill -9` it: another one has it within milliseconds, and the worker
that gunicorn starts in its place takes over its name.

On one machine a file lock would do: whoever gets `fcntl.flock` on a file has the job, and the others try again now and
then. raftlite adds other machines: put the workers of all of them into WORKERS, each with its `host:port`, give
`Member` an `authkey`, and let `join` try the names of its own machine. The job then fires on one of them all, also when
a machine is gone. Around a takeover it may be left out, and a worker that was suspended in the middle of it goes on
when it wakes: where that matters, hand `leadership.token` to whatever the job writes to, as fencing.py does.
"""

import contextlib
import os
import time
from datetime import datetime

from apscheduler.schedulers.background import BackgroundScheduler
from flask import Flask

from raftlite import Member, StorageInUse

FOLDER = os.environ.get("VOTES", ".raftlite-data")  # survives restarts, so that tokens go on growing
WORKERS = {name: f"{FOLDER}/{name}.sock" for name in ("w1", "w2", "w3", "w4")}

app, scheduler, member = Flask(__name__), BackgroundScheduler(), None


@app.route("/")
def index():
    return f"{member.node_id} answers, {member.leader_id} leads\n"


def report(leadership):
    if leadership.valid:  # lost since the scheduler called?
        print(f"{datetime.now():%X} {member.node_id} (pid {os.getpid()}) reports", flush=True)


def begin(leadership):
    scheduler.add_job(report, "cron", [leadership], id="report", second="*")


def end(leadership):
    scheduler.remove_job("report")


def join():
    """Take a name that no other worker has: a member's votes are locked for as long as its process lives."""
    for _ in range(250):
        for name in WORKERS:
            member = Member(name, peers=WORKERS, listen=WORKERS[name], data_dir=FOLDER, on_elected=begin, on_lost=end)
            with contextlib.suppress(StorageInUse):
                return member.start()
        time.sleep(0.1)  # when gunicorn reloads, the workers of before still have theirs
    raise SystemExit(f"no name is free in {FOLDER}")


# --- What gunicorn asks for ---

wsgi_app, workers, bind = "flask_gunicorn:app", 4, "127.0.0.1:8000"


def post_worker_init(worker):  # in the worker: threads do not survive a fork
    global member
    scheduler.start()
    member = join()
    print(f"{member.node_id} is pid {os.getpid()}", flush=True)


def worker_exit(server, worker):
    if member:
        member.stop()
