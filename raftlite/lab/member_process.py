"""The process of one member of a lab: an `ElectionThread` whose messages, steps and votes go through the lab.

    the lab ═ messages, deeds ═▶ main thread ─▶ inbox ─▶ ElectionThread ─▶ outbox ─▶ writer thread ═▶ the lab

It ends when the lab ends it, and when the lab is gone, which the end of the line shows.
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import sys
import threading
from typing import Any, Callable, Optional, Tuple

from raftlite.clock import boot_clock
from raftlite.election import Saved
from raftlite.isolated.line import Content, Line, saved_from_plain, saved_to_plain
from raftlite.lab import wire
from raftlite.lab.rules import Draws, RuleBook, Rules
from raftlite.lab.thread import LabThread
from raftlite.nodes.base import Node
from raftlite.steps import Step
from raftlite.storage import Storage
from raftlite.timing import Timing

MOST_WAITING = 10_000  # steps for a lab that does not read them


def main() -> None:
    """The arguments are the folder of raftlite and the descriptor of the line."""
    # A group of its own: Ctrl-C is the lab's affair, and if the lab dies the system wakes what it has left frozen.
    os.setpgrp()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    line = Line(int(sys.argv[2]))
    with contextlib.suppress(EOFError, OSError):  # the lab is gone
        MemberProcess(line, line.receive()).run()
    os._exit(0)  # at once, as when the lab ends it: a member that still leads hands over to nobody


class _Clock:
    """Seconds of the cluster since its start."""

    def __init__(self, scale: float) -> None:
        self.scale, self.origin = scale, 0.0

    def __call__(self) -> float:
        return (boot_clock() - self.origin) / self.scale


class _Inbox(queue.Queue[Any]):
    """Waits for seconds of the cluster. Holds messages, each with what brought it: `flight` is of the last one."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.flight: Optional[Tuple[int, int]] = None
        self._scale = scale

    def get(self, block: bool = True, timeout: Optional[float] = None) -> Any:
        self.flight = None
        real = None if timeout is None else min(timeout * self._scale, threading.TIMEOUT_MAX)
        item = super().get(block, real)
        if isinstance(item, tuple):
            self.flight, item = item
        return item


class _Node(Node):
    def __init__(self, node_id: str, tell: Callable[[Content], None]) -> None:
        super().__init__(node_id)
        self._tell = tell

    def send_message(self, message: Any) -> None:
        self._tell({"is": "send", "to": self.node_id, "message": wire.message_to_plain(message)})


class _Disk(Storage):
    """The lab keeps what is saved, as a disk would. What follows from it goes behind it on the same line."""

    def __init__(self, saved: Saved, tell: Callable[[Content], None]) -> None:
        self._saved, self._tell = saved, tell

    def load(self) -> Saved:
        return self._saved

    def save(self, saved: Saved) -> None:
        self._saved = saved
        self._tell({"is": "saved", **saved_to_plain(saved)})


class MemberProcess:
    """One life of a member."""

    def __init__(self, line: Line, settings: Content) -> None:
        self._line = line
        self._outbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._clock, self._inbox = _Clock(settings["scale"]), _Inbox(settings["scale"])
        self._book = RuleBook(Rules(**settings["rules"]), settings["takeover_step"])
        self._thread = LabThread(
            self._book,
            self._end,
            settings["n"],
            [_Node(peer, self._outbox.put) for peer in settings["others"]],
            timing=Timing(**settings["timing"]),
            min_nodes=settings["min_nodes"],
            storage=_Disk(saved_from_plain(settings["saved"]), self._outbox.put),
            inbox=self._inbox,
            clock=self._clock,
            rng=Draws(settings["draws"], self._book),
            steps=self,
        )
        self._writer = threading.Thread(target=self._write, name="raftlite-to-lab", daemon=True)

    def run(self) -> None:
        """Until the lab is gone."""
        self._line.send({"is": "ready"})
        beginning = self._line.receive()
        self._clock.origin = beginning["origin"]
        self._set_rules(beginning)  # they may have changed since it was started
        self._writer.start()
        self._thread.start()
        while True:
            self._hear(self._line.receive())

    def _hear(self, content: Content) -> None:
        do = content["do"]
        if do == "hear":
            self._inbox.put((tuple(content["flight"]), wire.message_from_plain(content["message"])))
        elif do == "tell":
            self._inbox.put(wire.control_from_plain(content["message"]))
        elif do == "rules":
            self._set_rules(content)  # the election looks there the next time that it does anything

    def _set_rules(self, content: Content) -> None:
        self._book.rules, self._book.takeover_step = Rules(**content["rules"]), content["takeover_step"]

    # --- To the lab -------------------------------------------------------------------------------

    def put_nowait(self, step: Step) -> None:
        """Stands where a member has its queue of steps."""
        flight, self._inbox.flight = self._inbox.flight, None
        if self._outbox.qsize() >= MOST_WAITING:
            self._outbox.put({"is": "dropped", "flight": flight})
            raise queue.Full
        self._outbox.put((step, flight))

    def _write(self) -> None:
        with contextlib.suppress(OSError):  # the lab is gone, as the main thread finds out
            while True:
                item = self._outbox.get()
                self._line.send(wire.step_to_plain(*item) if isinstance(item, tuple) else item)

    def _end(self, failure: Optional[BaseException]) -> None:
        self._outbox.put({"is": "ended", "failure": None if failure is None else repr(failure)})
