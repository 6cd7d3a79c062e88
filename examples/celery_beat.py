r"""Celery beat on exactly one of three machines: `raftlite run` starts it where it leads and ends it where it does not.

    pip install celery; cd examples; export RAFTLITE_AUTHKEY=classroom      # the latter two in each terminal
    raftlite run --id a --listen 127.0.0.1:7611 --peer b=127.0.0.1:7612 --peer c=127.0.0.1:7613 \
        --data-dir .raftlite-data -- celery -A celery_beat beat
    raftlite run --id b --listen 127.0.0.1:7612 --peer a=127.0.0.1:7611 --peer c=127.0.0.1:7613 \
        --data-dir .raftlite-data -- celery -A celery_beat beat
    raftlite run --id c --listen 127.0.0.1:7613 --peer a=127.0.0.1:7611 --peer b=127.0.0.1:7612 \
        --data-dir .raftlite-data -- celery -A celery_beat beat
    celery -A celery_beat worker --pool solo        # prints who has sent each task

One command per terminal; or one per machine, with addresses that the others reach and a secret of your own. Two beats
would send every task twice, and Celery leaves it to you that there is one. `kill -9` the wrapper that has it: its beat
dies with it, and another wrapper starts one at once.
"""

import os

from celery import Celery

FOLDER = os.path.abspath(".raftlite-data/tasks")  # stands in for RabbitMQ or Redis
os.makedirs(FOLDER, exist_ok=True)

app = Celery("celery_beat", broker="filesystem://")
app.conf.broker_transport_options = {"data_folder_in": FOLDER, "data_folder_out": FOLDER, "control_folder": FOLDER}

# `raftlite run` tells its command who it is.
sender, token = os.environ.get("RAFTLITE_NODE_ID", "nobody"), os.environ.get("RAFTLITE_TOKEN", "0")

app.conf.beat_schedule_filename = f"{FOLDER}/schedule-of-{sender}"
app.conf.beat_schedule = {"tick": {"task": "celery_beat.tick", "schedule": 1.0, "args": (sender, token)}}


@app.task
def tick(sender, token):
    print(f"tick, sent by {sender} with token {token}", flush=True)
