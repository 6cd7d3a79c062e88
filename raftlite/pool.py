"""One coordinator among the worker processes of a pool, through the pool's `initializer`.

    parent: PoolElection ── election.join, forked or pickled ──▶ worker: a Member on one of the slots w0, w1 ...
       │  ├─ who leads? asks at their sockets ────────────────▶    ║ votes, heartbeats ║
       │  └─ where `workers` is even, starts ─────────────────▶ keeper: votes, and never coordinates
       └──── lifeline, which ends with the parent ────────────▶ worker, keeper

Sockets and votes are in a private folder. Whoever holds the lock on a slot's votes has the slot: the system takes it
from a process that dies, and a replacement finds it free. So the cluster has the same voters all the time. Nothing
runs in the parent, neither thread nor member: a pool forks replacements from it whenever it likes.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Dict, List, Optional, Type

from raftlite.clock import check_timeout
from raftlite.errors import ConfigError, MemberStopped
from raftlite.leadership import Callback
from raftlite.nodes import forks
from raftlite.pool_seat import HAS_LIFELINE, KEEPER, LOOK_AGAIN_AFTER, STOP_PATIENCE, Invitation, current, opened_here
from raftlite.timing import Timing

__all__ = ["PoolElection", "current"]

logger = logging.getLogger(__name__)

MOST_WORKERS = 100
LONGEST_PATH = 100  # bytes of the path of a Unix socket; systems differ from 103 on
_BOOTSTRAP = "import sys; sys.path.insert(0, sys.argv[1]); from raftlite.pool_keeper import main; main()"


class PoolElection:
    """Elects one coordinator among the workers of a pool: enter it before the pool, leave it after.

        with PoolElection(workers=4, on_elected=coordinate) as election:
            with multiprocessing.Pool(4, initializer=election.join) as pool: ...

    It works for `multiprocessing.Pool` and `concurrent.futures.ProcessPoolExecutor` on spawn, forkserver and fork.
    `workers` is how many processes the pool has. Those beyond that number work without a member until one is replaced.
    A coordinator is elected once half of the workers have started (more than half where `workers` is odd), and as long
    as so many live; an executor starts its workers only with the tasks that it is given.

    `on_elected(leadership)`, `on_lost(leadership)` and `on_leader_changed(leader_id, term)` run in the worker, on a
    thread of their own beside the tasks; for spawn and forkserver they must be functions that a worker can import.
    `timing` says how long a task may hold the interpreter without losing the lead (a second); `isolated=True` (Linux)
    gives each member a process of its own, for tasks that hold it for longer.

    Raises `ConfigError` for settings that are out of bounds.
    """

    def __init__(
        self,
        workers: int,
        *,
        on_elected: Optional[Callback] = None,
        on_lost: Optional[Callback] = None,
        on_leader_changed: Optional[Callback] = None,
        timing: Timing = Timing(),
        isolated: bool = False,
    ) -> None:
        if not isinstance(workers, int) or isinstance(workers, bool) or not 1 <= workers <= MOST_WORKERS:
            raise ConfigError(f"workers is {workers!r}, but must be a whole number from 1 to {MOST_WORKERS}")
        self.workers = workers
        callbacks = {"on_elected": on_elected, "on_lost": on_lost, "on_leader_changed": on_leader_changed}
        given = {name: callback for name, callback in callbacks.items() if callback is not None}
        self._draft = Invitation(workers, "", {}, b"", given, timing, isolated)
        self._draft.member("w0", alone=True)  # raises what is wrong with the other settings
        self._invitation: Optional[Invitation] = None
        self._lifeline: Optional[_LifelineHeld] = None
        self._keeper: Optional[subprocess.Popen[bytes]] = None
        self._led_last = "w0"
        self._pid = 0

    def __enter__(self) -> PoolElection:
        if self._invitation is not None:
            raise MemberStopped("this election is open already: make another for another pool")
        folder = make_folder()
        try:
            slots = [f"w{i}" for i in range(self.workers)]
            has_keeper = HAS_LIFELINE and self.workers % 2 == 0  # an even number of voters survives one death less
            addresses = choose_addresses(folder, [*slots, KEEPER] if has_keeper else slots)
            key = secrets.token_bytes(32)
            invitation = replace(self._draft, folder=folder, addresses=addresses, authkey=key)
            self._lifeline = _LifelineHeld(invitation.lifeline)
            if has_keeper:
                self._keeper = _start_keeper(invitation)
        except BaseException:  # Ctrl-C, too, leaves nothing behind
            self._let_go()
            shutil.rmtree(folder, ignore_errors=True)
            raise
        self._pid, self._invitation = os.getpid(), invitation
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        invitation = self._invitation
        if os.getpid() != self._pid or invitation is None:
            return  # a copy in a forked child, which the folder does not belong to
        self._invitation = None
        self._let_go()
        invitation.wait_until_empty(STOP_PATIENCE)
        invitation.remove_folder()

    def _let_go(self) -> None:
        lifeline, self._lifeline = self._lifeline, None
        keeper, self._keeper = self._keeper, None
        if lifeline is not None:
            lifeline.end()
        if keeper is not None:
            _end_keeper(keeper)

    @property
    def join(self) -> Invitation:
        """What the pool calls in each new worker: `initializer=election.join`. An initializer of yours may call it."""
        if self._invitation is None:
            raise MemberStopped("the election is not open: use it in a with statement around the pool")
        return self._invitation

    @property
    def leader_id(self) -> Optional[str]:
        """Which slot's worker coordinates, or None. Asks the members; takes a millisecond while none of them hangs.

        One that hangs is waited for, up to `message_timeout`. Raises `MemberStopped` outside the `with` statement.
        """
        invitation = self.join
        last = self._led_last
        for slot in sorted(invitation.slots, key=lambda slot: slot != last):
            if (invitation.ask(slot) or {}).get("leader") == slot:
                self._led_last = slot
                return slot
        return None

    def wait_for_leader(self, timeout: Optional[float] = None) -> str:
        """Wait up to `timeout` seconds until a worker coordinates, without one for ever; return its slot.

        Raises `TimeoutError`, which says why none does, later than that by what `leader_id` waits for workers that
        hang, and `MemberStopped` outside the `with` statement.
        """
        timeout = check_timeout(timeout)
        deadline = None if timeout is None else time.monotonic() + timeout
        pause = 0.002
        while True:
            leader_id = self.leader_id
            if leader_id is not None:
                return leader_id
            if deadline is not None and time.monotonic() >= deadline:
                raise TimeoutError(f"no leader after {timeout} s: {self._why()}")
            time.sleep(pause)
            pause = min(2 * pause, LOOK_AGAIN_AFTER / 4)

    def _why(self) -> str:
        answers = [answer for answer in map(self.join.ask, self.join.slots) if answer is not None]
        needed = (self.workers + 1) // 2 if KEEPER in self.join.addresses else self.workers // 2 + 1
        if len(answers) < needed:
            return (
                f"{len(answers)} of {self.workers} workers take part, but {needed} must; "
                "a ProcessPoolExecutor starts its workers with the tasks that it is given"
            )
        return "; ".join(answer["why"] for answer in answers if answer["why"]) or "one was elected just now"

    def __reduce__(self) -> Any:
        raise TypeError("a PoolElection stays in the process that made it: give the workers election.join instead")

    def __repr__(self) -> str:
        return f"PoolElection(workers={self.workers})"


# --- The folder, and what is in it ----------------------------------------------------------------------------------


def make_folder() -> str:
    """A new folder for this user alone, whose path leaves room for the names of sockets."""
    places = [tempfile.gettempdir(), "/tmp", "/var/tmp"]
    usable = [place for place in places if len(os.fsencode(place)) <= LONGEST_PATH - len("/raftlite-12345678/keeper")]
    for place in usable:
        with contextlib.suppress(OSError):
            folder = tempfile.mkdtemp(prefix="raftlite-", dir=place)
            opened_here.add(folder)
            return folder
    folder = tempfile.mkdtemp(prefix="raftlite-")
    opened_here.add(folder)
    return folder


def choose_addresses(folder: str, node_ids: List[str]) -> Dict[str, str]:
    """Unix sockets where there are such, and their paths are short enough; else free ports of this machine."""
    paths = {node_id: f"{folder}/{node_id}" for node_id in node_ids}
    if hasattr(socket, "AF_UNIX") and all(len(os.fsencode(path)) <= LONGEST_PATH for path in paths.values()):
        return paths
    with contextlib.ExitStack() as stack:  # all at once, so that none is chosen twice
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in node_ids]
        return {node_id: f"127.0.0.1:{sock.getsockname()[1]}" for node_id, sock in zip(node_ids, sockets)}


class _LifelineHeld(forks.Forkable):
    """A named pipe that only the parent has open for writing, so that the others read its end when the parent ends."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._fd: Optional[int] = None
        with forks.lock:
            if HAS_LIFELINE:
                os.mkfifo(path, 0o600)
                reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # else the next line would wait for one
                self._fd = os.open(path, os.O_WRONLY)
                os.close(reader)
            else:
                Path(path).touch()
            forks.add(self)

    def end(self) -> None:
        with contextlib.suppress(OSError):
            os.unlink(self._path)
        self.abandon_after_fork()

    def abandon_after_fork(self) -> None:
        """A worker that is forked must not keep it open for the others."""
        with forks.lock:
            fd, self._fd = self._fd, None
            if fd is not None:
                os.close(fd)


# --- The keeper --------------------------------------------------------------------------------------------------


def _start_keeper(invitation: Invitation) -> Optional[subprocess.Popen[bytes]]:
    """A voter more than there are workers; without it as many of these are needed as without a keeper at all."""
    package = str(Path(__file__).resolve().parent.parent)
    settings = {**asdict(replace(invitation, callbacks={})), "authkey": invitation.authkey.hex(), "isolated": False}
    try:
        keeper = subprocess.Popen(
            [sys.executable, "-c", _BOOTSTRAP, package],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for the parent, whose end ends it; here it would come amid the imports
        )
        try:
            assert keeper.stdin is not None
            with keeper.stdin:
                keeper.stdin.write(json.dumps(settings).encode())
        except BaseException:  # Ctrl-C, too: a keeper without its settings is nobody's
            keeper.kill()
            keeper.wait()
            raise
    except OSError as error:
        logger.warning("a keeper of the pool's election cannot be started: %s", error)
        return None
    return keeper


def _end_keeper(keeper: subprocess.Popen[bytes]) -> None:
    try:
        keeper.wait(STOP_PATIENCE)
    except subprocess.TimeoutExpired:
        keeper.kill()
        keeper.wait()
