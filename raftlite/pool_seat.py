"""A worker's part in the election of its pool: the invitation that its pool hands it, and the seat that it takes.

pool's initializer ─▶ Invitation() ─▶ Seat ─▶ Member on the first slot that is free ─▶ current(), in a task
                                       └─ its thread: looks for a slot, waits for the end of the election
"""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import threading
import time
import types
from dataclasses import dataclass, field
from multiprocessing import Pipe
from multiprocessing.connection import wait
from multiprocessing.util import Finalize
from pathlib import Path
from typing import Any, Dict, List, Optional, Set

from raftlite.errors import ConfigError, ForkedError, MemberStopped, StorageError, StorageInUse
from raftlite.leadership import Callback
from raftlite.member import Member
from raftlite.nodes.address import dial
from raftlite.nodes.quiet import QuietLog
from raftlite.nodes.request import ask_member
from raftlite.storage import SQLiteStorage, file_name
from raftlite.timing import Timing

logger = logging.getLogger(__name__)

KEEPER = "keeper"
HAS_LIFELINE = hasattr(os, "mkfifo")
LOOK_AGAIN_AFTER = 0.2  # seconds: for a slot that has become free, for a leader
STOP_PATIENCE = 5.0  # seconds that a callback has to end, when its worker does


def current() -> Member:
    """This worker's member, in a task of the pool.

    Raises `MemberStopped` in a process that has joined no election or found no slot free, and `ForkedError` in a
    process that a worker has forked.
    """
    seat = _seat
    if seat is None:
        raise MemberStopped("this process has joined no election: give its pool initializer=election.join")
    if seat.pid != os.getpid():
        raise ForkedError("the member belongs to the worker that this process was forked from")
    with seat.claiming:
        if seat.member is None:
            raise MemberStopped(f"this worker takes no part in the election: {seat.why_not}")
        return seat.member


@dataclass(frozen=True)
class Invitation:
    """`election.join`: what a worker needs to take part, handed to it by its pool. The key is in no `repr`."""

    workers: int
    folder: str = field(repr=False)
    addresses: Dict[str, str] = field(repr=False)
    authkey: bytes = field(repr=False)
    callbacks: Dict[str, Any] = field(repr=False)
    timing: Timing = field(repr=False)
    isolated: bool = field(repr=False)

    def __call__(self) -> None:
        """Claim a slot and take part. Never fails where only the election does: the worker is to work all the same."""
        global _seat
        seat = _seat
        if seat is not None and seat.pid == os.getpid() and not seat.is_over:
            if seat.invitation.folder == self.folder:
                return
            raise ConfigError("this worker has joined another election: a worker takes part in one at a time")
        if self.folder in opened_here:
            raise ConfigError("the process that opened the election cannot join it: workers are processes, no threads")
        _seat = Seat(self)
        _seat.take()

    @property
    def slots(self) -> List[str]:
        return [node_id for node_id in self.addresses if node_id != KEEPER]

    @property
    def lifeline(self) -> str:
        return os.path.join(self.folder, "lifeline")

    def votes(self, node_id: str) -> Path:
        return Path(self.folder, file_name(node_id))

    def member(self, node_id: str, alone: bool = False) -> Member:
        """The member that has this slot."""
        return Member(
            node_id,
            peers={} if alone else self.addresses,
            listen=self.addresses.get(node_id),
            authkey=self.authkey or None,
            cluster="pool",
            data_dir=self.folder or None,
            timing=self.timing,
            witnesses=[KEEPER] if KEEPER in self.addresses else (),
            min_nodes=1 if self.workers == 1 or alone else None,
            isolated=self.isolated,
            **self.callbacks,
        )

    def ask(self, node_id: str) -> Optional[Dict[str, Any]]:
        """The status of the worker on this slot, or None where there is none."""
        address = self.addresses[node_id]
        try:
            return ask_member(address, self.authkey, "pool", self.timing.message_timeout, "status")
        except OSError:
            return None

    def is_free(self, node_id: str) -> bool:
        """Whether nobody has this slot at this moment."""
        if not self.votes(node_id).exists():
            return True
        try:
            SQLiteStorage(self.votes(node_id)).close()
        except StorageInUse:
            return False
        except StorageError:
            pass  # whoever claims it is told what is wrong
        return True

    def wait_until_empty(self, patience: float) -> None:
        """Wait until no member listens any more: workers that outlive the election need a moment to leave it."""
        give_up_at = time.monotonic() + patience
        for node_id, address in self.addresses.items():
            while _somebody_listens(address):
                if time.monotonic() >= give_up_at:
                    logger.warning("%s has not left the election within %g s", node_id, patience)
                    break
                time.sleep(0.005)

    def remove_folder(self) -> None:
        """Whoever still creates something in it makes the system refuse to remove it, so try again."""
        for _ in range(10):
            shutil.rmtree(self.folder, ignore_errors=True)
            if not os.path.exists(self.folder):
                break
            time.sleep(0.01)
        opened_here.discard(self.folder)

    def clear_up(self) -> None:
        """The election is over, perhaps because the parent was killed: the last one to leave removes the folder."""
        for _ in range(20):
            if all(self.is_free(node_id) for node_id in self.addresses):
                self.remove_folder()
                return
            time.sleep(0.02 + 0.05 * secrets.randbelow(100) / 100)  # another may be looking at the same time

    def __getstate__(self) -> Dict[str, Any]:
        for name, callback in self.callbacks.items():
            check_importable(name, callback)
        return self.__dict__


def check_importable(name: str, callback: Callback) -> None:
    """Raise `ConfigError` for a function that a worker which is not forked cannot find."""
    where = getattr(callback, "__qualname__", "")
    if isinstance(callback, types.FunctionType) and "<" in where:  # lambda, or local
        raise ConfigError(
            f"{name} is {where!r} of {callback.__module__}, which a worker that is not forked cannot import: "
            "define it with def at the top level of a module, or take a pool that forks"
        )


def _somebody_listens(address: str) -> bool:
    try:
        dial(address, 0.1).close()
    except OSError:
        return False
    return True


# --- The lifeline ------------------------------------------------------------------------------------------------


class Lifeline:
    """The other end. Raises `FileNotFoundError` where the election is over already."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK) if HAS_LIFELINE else None
        if not HAS_LIFELINE and not os.path.exists(path):
            raise FileNotFoundError(path)
        self._wakee, self._waker = Pipe(duplex=False)

    @property
    def has_ended(self) -> bool:
        """Whether the parent has left the election, or this world."""
        if self._fd is None:
            return not os.path.exists(self.path)
        try:
            return os.read(self._fd, 1) == b""
        except BlockingIOError:
            return False

    def wait(self, timeout: Optional[float]) -> bool:
        """Wait for its end or for `wake`, or for `timeout` seconds. Whether `wake` was called."""
        ends: List[Any] = [self._wakee] if self._fd is None else [self._wakee, self._fd]
        return self._wakee in wait(ends, timeout if self._fd is not None else LOOK_AGAIN_AFTER)

    def wake(self) -> None:
        self._waker.send_bytes(b"x")

    def close(self) -> None:
        self._wakee.close()
        self._waker.close()
        if self._fd is not None:
            os.close(self._fd)


# --- In the worker -----------------------------------------------------------------------------------------------


class Seat:
    """A worker's place: its member, and the thread that looks for a free slot and waits for the election's end."""

    def __init__(self, invitation: Invitation) -> None:
        self.invitation = invitation
        self.pid = os.getpid()
        self.member: Optional[Member] = None
        self.why_not = "no slot was free"
        self.claiming = threading.Lock()  # a member that leads at once calls back before its `start` has returned
        self.is_over = False
        self._lifeline: Optional[Lifeline] = None
        self._quiet = QuietLog(logger)
        self._thread = threading.Thread(target=self._run, name="raftlite-pool", daemon=True)

    def take(self) -> None:
        try:
            self._lifeline = Lifeline(self.invitation.lifeline)
        except OSError:
            self._end("the election of its pool is over")
            return
        self._claim()
        self._thread.start()
        Finalize(None, self.leave, exitpriority=100)  # multiprocessing calls no atexit function in its children

    def leave(self) -> None:
        """Hand over if leading, and give the slot back, before this process ends."""
        if self._lifeline is not None and self._thread.is_alive():
            self._lifeline.wake()
            self._thread.join(2 * STOP_PATIENCE)

    def _claim(self) -> None:
        """Take the first slot whose votes no living process has locked."""
        self.why_not = f"all {self.invitation.workers} slots are taken by other workers"
        with self.claiming:
            for slot in self.invitation.slots:
                if self._start_member(slot):
                    return

    def _start_member(self, slot: str) -> bool:
        if self.invitation.isolated and not self.invitation.is_free(slot):
            return False  # rather than start a process that finds it out
        member = self.invitation.member(slot)
        try:
            member.start()
        except StorageInUse:
            return False
        except Exception as error:  # the worker is to work, whatever is wrong with the disk or the socket
            self.why_not = f"{slot}: {error}"
            self._quiet.log(logging.WARNING, f"a worker cannot take part in the election of its pool: {self.why_not}")
            return False
        self.member = member
        return True

    def _run(self) -> None:
        lifeline = self._lifeline
        assert lifeline is not None
        while not lifeline.wait(LOOK_AGAIN_AFTER if self.member is None else None) and not lifeline.has_ended:
            if self.member is None:
                self._claim()
        self._stop_member()
        if lifeline.has_ended:
            self.invitation.clear_up()
        self._end("it has left the election")
        lifeline.close()

    def _stop_member(self) -> None:
        if self.member is not None:
            try:
                self.member.stop(STOP_PATIENCE)
            except TimeoutError as error:
                logger.warning("%s", error)

    def _end(self, why: str) -> None:
        self.is_over, self.why_not = True, why


_seat: Optional[Seat] = None
opened_here: Set[str] = set()  # folders of elections that this process has opened


def _forget_after_fork() -> None:
    opened_here.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_after_fork)
