"""What every member of the benchmark does alike: it tells the experiment what happens, and obeys its one word.

    program arguments: NODE COUNT PORT FOLDER PACE EVENTS

NODE is a number below COUNT, PORT the first of the ports that are the cluster's, EVENTS an open file descriptor. The
environment's HOSTS are those of the members, and of a server, if there is one; where all are the same, it is this
machine, and members that know Unix sockets use them. Into EVENTS goes a line for each event: `started`, `knows` (who
leads, for the first time), `whole` (it is connected to all and knows who leads), `leader` (it has been elected),
`stopping`. A line on the standard input asks it to hand over.
"""

from __future__ import annotations

import os
import sys
import time
from typing import Any, Callable

NODE, COUNT, PORT = (int(each) for each in sys.argv[1:4])
FOLDER, PACE = sys.argv[4:6]
EVENTS = int(sys.argv[6])
HOSTS = os.environ["HOSTS"].split(",")
PORTS = [PORT + 2 * number for number in range(COUNT)]  # the next one is free for it as well
ADDRESSES = [f"{host}:{port}" for host, port in zip(HOSTS, PORTS)]
PATHS_OR_ADDRESSES = [f"{FOLDER}/n{number}" for number in range(COUNT)] if len(set(HOSTS)) == 1 else ADDRESSES
SERVER = f"{HOSTS[-1]}:{PORT - 1}"
OTHERS = [number for number in range(COUNT) if number != NODE]


def tell(event: str) -> None:
    """First the time, then everything else."""
    at = time.monotonic()
    os.write(EVENTS, f"{event} {NODE} {at!r}\n".encode())


def tell_when(event: str, condition: Callable[[], Any], every: float = 0.002) -> None:
    """For what the library has no callback for."""
    while not condition():
        time.sleep(every)
    tell(event)


def wait_for_the_word() -> None:
    """Return when this member is to hand over; never, if it is only killed."""
    if not sys.stdin.readline():
        os._exit(0)
    tell("stopping")
