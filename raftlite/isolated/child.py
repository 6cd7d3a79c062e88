"""The election process of an isolated member: an ordinary `Member`, whose callbacks run in the program's process.

    election thread ─▶ Relay ─▶ outbox ─▶ writer thread ═ events, answers, log ═══▶ the program: program.py
             ▲            ▲───────────── reader thread ◀═ requests, acknowledgements ═══╝
             └─ requests ─┴── each on a thread ┘

It ends when it is told to, when its election ends, and when the program is gone, which the line's end and a descriptor
of that process both show.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import queue
import signal
import sys
import threading
import time
from multiprocessing import current_process
from multiprocessing.connection import wait
from typing import Any, Callable, List, Optional, Tuple

from raftlite.codec import membership_to_plain
from raftlite.election import Saved
from raftlite.errors import StorageInUse
from raftlite.isolated.lease import LeaseHolder
from raftlite.isolated.line import Content, Line, error_to_plain, saved_from_plain, saved_to_plain, status_to_plain
from raftlite.isolated.program import IGNORED_BY_CHILD
from raftlite.leadership import Callbacks, Leadership, Lost
from raftlite.member import Member
from raftlite.membership import NodeInfo
from raftlite.messages import AddNode, RemoveNode
from raftlite.nodes import secure
from raftlite.thread import ElectionThread
from raftlite.timing import Timing

logger = logging.getLogger(__name__)

MOST_LINES_WAITING = 1_000  # of the log, for a program that does not read them
_LAST_WORDS_TAKE = 5.0  # seconds at most
_FORMER_LIFE_ENDS_IN, _LOOKS_AGAIN_AFTER = 1.0, 0.01  # seconds

_Tell = Callable[..., None]


def main() -> None:
    """Run until the program has ended or says so. The arguments are two descriptors; the first message has the rest."""
    for number in IGNORED_BY_CHILD:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, IGNORED_BY_CHILD)
    line, lease = Line(int(sys.argv[2])), LeaseHolder(int(sys.argv[3]))
    with contextlib.suppress(EOFError, OSError):  # the program is gone already
        settings = line.receive()
        ElectionProcess(line, lease, settings).run()


class ElectionProcess:
    """The member, and what it hears from the program."""

    def __init__(self, line: Line, lease: LeaseHolder, settings: Content) -> None:
        self._line = line
        self._settings = settings
        self._outbox: queue.SimpleQueue[Optional[Content]] = queue.SimpleQueue()
        self._writer = threading.Thread(target=self._write, name="raftlite-to-program", daemon=True)
        self._reader = threading.Thread(target=self._read, name="raftlite-from-program", daemon=True)
        self._over = threading.Event()
        self._relay = Relay(self._tell, lease, self._over.set)
        self._timeout: Optional[float] = 5.0  # for an orderly end
        self._forward_log(settings["log_level"])

    def run(self) -> None:
        self._writer.start()
        try:
            self._member = self._start_member()
        except Exception as error:
            self._tell("failed", error=error_to_plain(error))
        else:
            self._tell("started", address=self._member.address, status=status_to_plain(self._member.status()))
            self._reader.start()
            self._over.wait()
            self._stop()
        self._outbox.put(None)
        self._writer.join(_LAST_WORDS_TAKE)

    def _start_member(self) -> _Member:
        """The process before this one may still be ending, if somebody has killed its program and started it again."""
        give_up_at = time.monotonic() + _FORMER_LIFE_ENDS_IN
        while True:
            member = _Member.of(self._settings, self._relay)
            try:
                member.start()
                return member
            except StorageInUse:
                if time.monotonic() > give_up_at:
                    raise
            time.sleep(_LOOKS_AGAIN_AFTER)

    def _stop(self) -> None:
        try:
            self._member.stop(self._timeout)
        except TimeoutError as error:  # this process ends all the same, and its lease with it
            logger.error("%s", error)
        failure, saved = self._member.thread.failure, self._member.memory
        self._tell(
            "farewell",
            status=status_to_plain(self._member.status()),
            error=None if failure is None else error_to_plain(failure),
            saved=None if saved is None else saved_to_plain(saved),
        )

    # --- To the program ---------------------------------------------------------------------------

    def _tell(self, kind: str, **content: Any) -> None:
        """Never waits: the election must go on while the program does not read."""
        self._outbox.put({"is": kind, **content})

    def _write(self) -> None:
        with contextlib.suppress(OSError):  # the program is gone, as the reader thread finds out
            for content in iter(self._outbox.get, None):
                self._line.send(content)

    def _forward_log(self, level: int) -> None:
        root = logging.getLogger("raftlite")
        root.setLevel(min(level, logging.INFO))
        root.propagate = False
        root.addHandler(_Forward(self._tell, self._outbox))

    # --- From the program -------------------------------------------------------------------------

    def _read(self) -> None:
        try:
            program = _descriptor_of(self._settings["program"])
            sources: List[Any] = [self._line] if program is None else [self._line, program]
            while program not in wait(sources):
                self._hear(self._line.receive())
        except (EOFError, OSError):
            pass
        finally:
            self._relay.abandon()  # nobody acts on this member's leadership any more, and nobody will answer
            self._over.set()

    def _hear(self, request: Content) -> None:
        do = request.pop("do")
        if do == "acknowledge":
            self._relay.acknowledge(request["number"])
        elif do == "stop":
            self._timeout, self._relay.is_in_callback = request["timeout"], request["in_callback"]
            self._over.set()
        elif "number" in request:
            threading.Thread(target=self._answer, args=(do, request), name=f"raftlite-{do}", daemon=True).start()
        else:
            getattr(self._member, do)(**request)

    def _answer(self, do: str, request: Content) -> None:
        number = request.pop("number")
        try:
            self._tell("answer", number=number, result=self._member.carry_out(do, **request))
        except Exception as error:
            self._tell("answer", number=number, error=error_to_plain(error))


class Relay(Callbacks):
    """Stands where the callbacks are otherwise: what is due there is due until the program acknowledges it."""

    def __init__(self, tell: _Tell, lease: LeaseHolder, on_finish: Callable[[], None]) -> None:
        super().__init__("raftlite-relay", lambda token: None)
        self.is_in_callback = False  # whether the program stops its member in a callback, which must not be waited for
        self.look: Callable[[], Content] = dict
        self._tell = tell
        self._lease = lease
        self._on_finish = on_finish
        self._changed = threading.Condition()
        self._sent = 0
        self._acknowledged: float = 0
        self._later: List[Tuple[int, Callable[[], Any]]] = []

    def grant(self, node_id: str, token: int, lease_expires_at: float, clock: Callable[[], float]) -> Leadership:
        return _SharedLeadership(node_id, token, lease_expires_at, clock, self._lease)

    def elected(self, leadership: Leadership) -> None:
        self._held = leadership
        self._submit_event("elected", token=leadership.token)

    def lost(self) -> None:
        leadership, self._held = self._held, None
        if leadership is not None:
            leadership.lost.set()
            self._submit_event("lost", token=leadership.token)

    def leader_changed(self, leader_id: Optional[str], term: int) -> None:
        self._submit_event("leader", leader=leader_id, term=term, status=self.look())

    def acknowledge(self, number: float) -> None:
        """The program's callbacks have finished as far as this event."""
        with self._changed:
            self._acknowledged = max(self._acknowledged, number)
            calls = [call for after, call in self._later if after <= self._acknowledged]
            self._later = [(after, call) for after, call in self._later if after > self._acknowledged]
            self._changed.notify_all()
        for call in calls:
            call()

    def abandon(self) -> None:
        """The program is gone, and with it whatever was due there."""
        self.acknowledge(math.inf)

    def start(self) -> None:
        pass

    @property
    def is_idle(self) -> bool:
        return self._acknowledged >= self._sent

    @property
    def due(self) -> int:
        return max(0, self._sent - int(min(self._acknowledged, self._sent)))

    @property
    def is_alive(self) -> bool:
        return False

    @property
    def is_current_thread(self) -> bool:
        return self.is_in_callback

    def then(self, call: Callable[[], Any]) -> None:
        with self._changed:
            is_idle = self.is_idle
            if not is_idle:
                self._later.append((self._sent, call))
        if is_idle:
            call()

    def wait(self, timeout: float) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self.is_idle, timeout)

    def finish(self) -> None:
        self._on_finish()

    def join(self, timeout: Optional[float]) -> bool:
        return True  # the program waits for its callbacks itself

    def _submit_event(self, kind: str, **content: Any) -> None:
        with self._changed:
            self._sent += 1
            self._tell(kind, number=self._sent, **content)


class _SharedLeadership(Leadership):
    """A grant that the program reads in memory: it is there while the grant holds, and nothing after its end."""

    def __init__(
        self, node_id: str, token: int, lease_expires_at: float, clock: Callable[[], float], lease: LeaseHolder
    ) -> None:
        super().__init__(node_id, token, lease_expires_at, clock)
        self._lease = lease
        self._writing = threading.Lock()
        self.lost = _End(lambda: self.remaining, lambda: lease.release(token), self._writing)
        lease.hold(token, lease_expires_at)

    def _renew(self, lease_expires_at: float) -> bool:
        if self._lease.is_given_up(self.token):
            self.lost.set()
        is_held = super()._renew(lease_expires_at)
        with self._writing:
            if is_held and not self.lost.was_set:
                self._lease.hold(self.token, lease_expires_at)
        return is_held


class _End(Lost):
    """Takes the grant out of the shared memory before anybody can act on its end."""

    def __init__(self, remaining: Callable[[], float], release: Callable[[], None], writing: threading.Lock) -> None:
        super().__init__(remaining)
        self._release = release
        self._writing = writing

    def set(self) -> None:
        with self._writing:
            self._release()
            super().set()


class _Member(Member):
    """Tells the program's process what it would tell its own program."""

    _relay: Relay

    @classmethod
    def of(cls, settings: Content, relay: Relay) -> _Member:
        settings = {name: value for name, value in settings.items() if name not in ("program", "log_level")}
        current_process().authkey = bytes.fromhex(settings.pop("family_key"))
        key, saved, files = settings.pop("authkey"), settings.pop("saved"), settings.pop("tls_files")
        member = cls(
            authkey=None if key is None else bytes.fromhex(key),
            timing=Timing(**settings.pop("timing")),
            ssl_context=None if files is None else secure.tls_context(**files),
            **settings,
        )
        member._memory.save(saved_from_plain(saved))
        member._relay, relay.look = relay, lambda: status_to_plain(member.status())
        return member

    def _make_callbacks(self) -> Optional[Callbacks]:
        return self._relay

    @property
    def thread(self) -> ElectionThread:
        assert isinstance(self._thread, ElectionThread)
        return self._thread

    def resign(self, token: Optional[int] = None) -> None:
        self.thread.resign(token)

    @property
    def memory(self) -> Optional[Saved]:
        """What is lost with this process, or None where it is on a disk."""
        return self._memory.load() if self._data_dir is None else None

    def carry_out(self, do: str, **request: Any) -> Content:
        """Do what the program has asked for, and return what it hears of it."""
        if do == "hand_over":
            return {"leader": self.thread.hand_over(request["to"], request["timeout"])}
        if do == "metrics":
            return dict(self.metrics())
        if do == "status":
            return status_to_plain(self.status())
        if do == "verify":
            return {"token": self.verify(request["timeout"]).token}
        timeout, node_id = request["timeout"], request["node_id"]
        if do == "add_node":
            change: Any = AddNode(NodeInfo(node_id, request["voter"], request["address"]))
        else:
            change = RemoveNode(node_id)
        return {"membership": membership_to_plain(self.thread.change_membership(change, timeout))}


class _Forward(logging.Handler):
    """Hands the log to the program, whose handlers know where it goes."""

    def __init__(self, tell: _Tell, outbox: queue.SimpleQueue[Any]) -> None:
        super().__init__()
        self._tell_program = tell
        self._outbox = outbox

    def emit(self, record: logging.LogRecord) -> None:
        if self._outbox.qsize() < MOST_LINES_WAITING:
            self._tell_program("log", name=record.name, level=record.levelno, text=self.format(record))


def _descriptor_of(program: int) -> Optional[int]:
    """Becomes readable when the program's process ends, also if a fork of it has kept the line open."""
    if not hasattr(os, "pidfd_open"):
        return None
    try:
        descriptor: int = os.pidfd_open(program)
    except ProcessLookupError:
        raise EOFError from None
    except OSError:  # a system without such descriptors
        return None
    if os.getppid() != program:
        raise EOFError
    return descriptor
