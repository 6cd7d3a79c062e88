"""The member of a pool's election that belongs to no worker: it votes, and never leads.

An even number of voters survives one death less than one more voter would: of two workers, none. The keeper is the one
more. It is a process of its own, since threads of the parent would be in the way of its forks.
"""

from __future__ import annotations

import contextlib
import json
import signal
import sys

from raftlite.pool_seat import KEEPER, Invitation, Lifeline
from raftlite.timing import Timing

IGNORED = ("SIGINT", "SIGTERM", "SIGHUP")
"""What ends a program goes to its whole group: the keeper stays until the election ends."""


def main() -> None:
    """Run until the election of the invitation on standard input is over."""
    for name in IGNORED:
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    with contextlib.suppress(EOFError, FileNotFoundError):  # the election is over already
        keep(read_invitation())


def read_invitation() -> Invitation:
    text = sys.stdin.read()
    if not text:
        raise EOFError
    settings = json.loads(text)
    settings["authkey"] = bytes.fromhex(settings["authkey"])
    settings["timing"] = Timing(**settings["timing"])
    return Invitation(**settings)


def keep(invitation: Invitation) -> None:
    """Vote until the election is over."""
    lifeline = Lifeline(invitation.lifeline)
    with invitation.member(KEEPER):
        while not lifeline.has_ended:
            lifeline.wait(None)
    invitation.clear_up()
