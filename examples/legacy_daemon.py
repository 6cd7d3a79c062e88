"""A daemon thread in a legacy application: each copy of the application has it, and one at a time does the work.

    python examples/legacy_daemon.py a      # one copy per terminal: a, b and c; end or kill the one that works

Before, each copy collected the mail:           Now one does, and the change is this:

    def poll():                                     def poll(leadership):
        while True:                                     while not leadership.lost.wait(1):
            collect_mail()                                  collect_mail()
            time.sleep(1)

    Thread(target=poll, daemon=True).start()        Thread(target=member.run, args=[poll], daemon=True).start()

For copies on several machines, give `host:port` as their addresses and a secret of your own.
"""

import os
import sys
import threading
import time

from raftlite import Member

FOLDER = ".raftlite-data"  # sockets and votes
ADDRESSES = {name: f"{FOLDER}/{name}.sock" for name in ("a", "b", "c")}


def poll(leadership):
    while not leadership.lost.wait(1):  # wakes up at once when another copy is to take over
        collect_mail(leadership)


def collect_mail(leadership):
    print(f"{leadership.node_id} (pid {os.getpid()}) collects the mail, token {leadership.token}", flush=True)


def serve():
    """What the application did all along, on its main thread, without knowing of any of this."""
    try:
        while True:
            time.sleep(1)
    except KeyboardInterrupt:
        print("bye")


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in ADDRESSES:
        sys.exit(f"usage: python {sys.argv[0]} {'|'.join(ADDRESSES)}")
    name = sys.argv[1]
    with Member(name, peers=ADDRESSES, listen=ADDRESSES[name], authkey="classroom", data_dir=FOLDER) as member:
        threading.Thread(target=member.run, args=[poll], daemon=True).start()
        serve()
