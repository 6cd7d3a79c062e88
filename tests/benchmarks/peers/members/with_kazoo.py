"""A contender in kazoo's Election. Who leads is decided by a ZooKeeper; its sessions take the place of the timeouts."""

import threading

from kazoo.client import KazooClient, KazooState
from kazoo.exceptions import CancelledError, KazooException
from telling import COUNT, NODE, PACE, SERVER, tell, tell_when, wait_for_the_word

client = KazooClient(SERVER, **({"timeout": 0.3} if PACE == "fast" else {}))
client.start(timeout=60)
election = client.Election("/election", str(NODE))
over = threading.Event()


def lead():
    tell("leader")
    over.wait()


def contend():
    while True:  # a session that is lost ends an election, also for those who only wait
        over.clear()
        try:
            election.run(lead)
        except (CancelledError, KazooException):
            client.retry(client.exists, "/election")


def changed(state):
    if state == KazooState.LOST:
        over.set()
        election.cancel()


def contenders():
    return client.retry(election.contenders)


client.add_listener(changed)
threading.Thread(target=contend, daemon=True).start()
tell("started")
tell_when("knows", contenders, every=0.01)
tell_when("whole", lambda: len(contenders()) >= COUNT, every=0.05)
wait_for_the_word()
client.stop()  # which ends its session, and with it what it holds
