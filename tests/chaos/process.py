"""One member in a process of its own: `python -m chaos.process SETTINGS`, where SETTINGS is a JSON object.

It looks at its `is_leader` all the time and notes what it sees (`looks.py`), prints a JSON object for each thing that
it is told, and does what it reads: `resign`, `fill the disk`, or the end of its input, which is also the runner's.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
from typing import Any, Dict, Optional

from raftlite import Leadership, Member, Timing
from raftlite.clock import boot_clock
from raftlite.leader import LeaderState

from .looks import Looks

WHILE_LEADING = 0.001  # seconds between two looks
OTHERWISE = 0.005
SPIN = 0.003  # seconds before the end of a lease, in which to look without a pause
FAILED = 3  # exit status


class Process:
    def __init__(self, settings: Dict[str, Any]) -> None:
        self._node_ids = settings["node_ids"]
        self._looks = Looks(settings["looks"])
        self._lock = threading.Lock()  # the callback looks too, at the first moment of a grant
        self._held: Optional[Leadership] = None
        self._ends = threading.Event()
        self.member = Member(
            settings["node_id"],
            peers=settings["peers"],
            listen=settings["listen"],
            authkey="chaos",
            data_dir=settings["data_dir"],
            timing=Timing(**settings["timing"]),
            on_elected=self._elected,
            on_lost=lambda leadership: say("lost", token=leadership.token),
        )

    def run(self) -> int:
        os.setpgid(0, 0)  # Ctrl-C is the runner's
        threading.Thread(target=self._obey, daemon=True).start()
        with self.member:
            say("started")
            while not self._ends.wait(WHILE_LEADING if self._look() else OTHERWISE):
                if self._looks.looks % 8 == 0 and self.member.status().error:
                    limit_files()  # the log has room again
                    say("failed", error=self.member.status().error)
                    return FAILED
        say("stopped")
        return 0

    def _elected(self, leadership: Leadership) -> None:
        self._held = leadership
        self._look()
        say("elected", token=leadership.token)

    def _look(self) -> bool:
        """Whether it says that it leads. Where the lease is about to end, stays to see when."""
        held = self._held
        while self._look_once():
            if held is None or not 0 < held.remaining <= SPIN:
                return True
        return False

    def _look_once(self) -> bool:
        with self._lock:
            began_at = boot_clock()
            leads = self._looks.look_at(self.member)
            self._looks.note_look(began_at, self._number_of_leader())
            return leads

    def _number_of_leader(self) -> int:
        leader = self.member.leader_id
        return 1 + self._node_ids.index(leader) if leader in self._node_ids else 0

    def _obey(self) -> None:
        for line in sys.stdin:
            if line == "resign\n":
                self.member.resign()
            elif line == "fill the disk\n":
                limit_files(0)
        self._ends.set()


def limit_files(length: Optional[int] = None) -> None:
    """Let no write of this process go beyond this length of a file; Python ignores the signal that comes with it."""
    import resource

    most = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (most if length is None else length, most))


def believe_for_ever() -> None:
    """The planted fault: a leader that takes its lease for endless. The checker must find it out."""
    promised = LeaderState._promised_by_quorum
    LeaderState._promised_by_quorum = lambda leader: promised(leader) and 1e12  # type: ignore[method-assign]


def say(event: str, **facts: Any) -> None:
    os.write(1, (json.dumps({"event": event, "clock": boot_clock(), **facts}) + "\n").encode())


def main() -> int:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    settings = json.loads(sys.argv[1])
    if settings.get("is_broken"):
        believe_for_ever()
    return Process(settings).run()


if __name__ == "__main__":
    sys.exit(main())
