"""`IsolatedElection`: an election in a process of its own, which whatever this program does cannot keep from running.

    the program ─▶ IsolatedElection ═ requests, acknowledgements ═▶ child.py: a `Member`, its sockets, its votes
         ▲ ▲              reader thread ◀═ events, answers, log ════════╝ │
         │ └─ callbacks ◀──────┘                                          │
         └─ is_leader, Leadership.valid ◀─── shared memory (lease.py) ◀───┘

It stands where `Member` has an `ElectionThread` otherwise. Either process ends when the other one does.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import multiprocessing.spawn
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, Iterator, Optional, Union

from raftlite.clock import boot_clock, check_timeout
from raftlite.codec import membership_from_plain
from raftlite.contender import Contender
from raftlite.election import Role, Saved
from raftlite.errors import MemberStopped, NotLeader
from raftlite.isolated.lease import Lease
from raftlite.isolated.line import Content, Line, error_from_plain, saved_from_plain, saved_to_plain, status_from_plain
from raftlite.leadership import Callbacks, Leadership
from raftlite.membership import Membership, check_node_id
from raftlite.messages import AddNode, RemoveNode
from raftlite.metrics import METRICS, Number
from raftlite.nodes import forks
from raftlite.status import Status, explain
from raftlite.storage import MemoryStorage

logger = logging.getLogger(__name__)

IGNORED_BY_CHILD = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Ctrl-C and the like go to every process of a group; what they mean is for the program to decide."""

_BOOTSTRAP = "import sys; sys.path.insert(0, sys.argv[1]); from raftlite.isolated.child import main; main()"
_GRACE = 1.0  # seconds beyond a timeout that the other process keeps, and for which it may close its sockets


class _IsolatedLeadership(Leadership):
    """A grant whose lease another process renews, and which is over at the instant when that process ends."""

    def __init__(self, node_id: str, token: int, lease: Lease) -> None:
        super().__init__(node_id, token, 0.0, boot_clock)
        self._lease = lease

    @property
    def remaining(self) -> float:
        token, nanoseconds = self._lease.look()
        self._was_over = self._was_over or token != self.token
        # In this order: another thread may have seen its end.
        return 0.0 if self._was_over or self.lost.was_set else nanoseconds / 1e9


class IsolatedElection(Contender, forks.Forkable):
    """Runs a `Member` with these `settings` in a child process. `memory` keeps the votes between two orderly lives."""

    def __init__(self, settings: Content, memory: MemoryStorage) -> None:
        node_id: str = settings["node_id"]
        super().__init__(node_id, Callbacks(f"raftlite-{node_id}-callbacks", self.resign))
        self.address: Optional[str] = settings["listen"]
        self._settings = settings
        self._memory = memory
        self._patience: float = settings["timing"]["message_timeout"]
        self._lease = Lease()
        self._line: Optional[Line] = None
        self._popen: Optional[subprocess.Popen[bytes]] = None
        self._sending = threading.Lock()
        self._grants: Dict[int, _IsolatedLeadership] = {}
        self._answers: Dict[int, Optional[Content]] = {}
        self._numbers = itertools.count(1)
        self._status: Optional[Status] = None
        self._metrics: Dict[str, Number] = dict.fromkeys(METRICS, 0)  # as they were told last
        self._farewell: Optional[Content] = None
        self._reader = threading.Thread(target=self._run, name=f"raftlite-{self.node_id}-isolated", daemon=True)

    # --- Life -------------------------------------------------------------------------------------

    def open(self) -> None:
        """Start the process and wait until it listens; raises whatever keeps it from that."""
        with forks.lock:
            self._line, self._popen = _start_process(self._lease.fd)
            forks.add(self)
        saved = self._memory.load()
        self._line.send({**self._settings, "saved": saved_to_plain(saved), "program": os.getpid()})
        self._memory.save(Saved())  # what that process adds to it is lost unless it says farewell
        self._hear_of_start(self._line, saved)

    def start(self) -> None:
        """Hear what the process says, and tell the program."""
        self._was_started = self._is_running = True
        try:
            self._reader.start()
            self._callbacks.start()  # only now, for a callback may stop its member, which waits for the reader
        except BaseException:  # the system has no threads left
            self._was_started = self._is_running = False
            raise

    def _hear_of_start(self, line: Line, saved: Saved) -> None:
        for content in line:
            if content["is"] == "failed":
                self._memory.save(saved)  # to which it has added nothing
                raise error_from_plain(content["error"])
            if content["is"] == "started":
                self.address = content["address"]
                self._status = self._status or status_from_plain(content["status"])  # that of an event may be newer
                return
            self._hear(content)
        raise self._end_of_process()

    def stop(self, timeout: Optional[float] = 5.0) -> None:
        """As `ElectionThread.stop`; `close` ends by force what has not ended by then."""
        timeout = check_timeout(timeout)
        if self.is_forked_copy or self._reader.ident is None:
            return
        self.was_told_to_stop = True
        self._callbacks.release_current_thread()
        self._tell(do="stop", timeout=timeout, in_callback=self._callbacks.is_current_thread)
        if threading.current_thread() is self._reader:
            return
        deadline = None if timeout is None else time.monotonic() + timeout
        self._reader.join(timeout)
        remaining = None if deadline is None else max(0.0, deadline - time.monotonic())
        if not self._callbacks.join(remaining) or self._reader.is_alive():
            raise TimeoutError(f"{self.node_id} has not ended within {timeout} s: {self._callbacks.busy} is still busy")

    def close(self) -> None:
        """End the process, if it has not ended, and everything that belongs to it."""
        if self._popen is not None and self._popen.returncode is None:
            self._popen.kill()
        if self._reader.ident is None:
            self._let_go()
        elif threading.current_thread() is not self._reader:
            self._reader.join()

    def _let_go(self) -> None:
        if self._popen is not None:
            self._reap(self._popen)
        self._lease.close()
        if self._line is not None:
            with self._sending:
                self._line.close()

    @property
    def is_alive(self) -> bool:
        """Whether the process or one of this election's threads has not ended yet, that of the callbacks included."""
        return self._reader.is_alive() or self._callbacks.is_alive

    def abandon_after_fork(self) -> None:
        self.is_forked_copy = True
        self._is_running = False
        self._sending, self._state_changed = threading.Lock(), threading.Condition()
        self._lease.close()
        for leadership in self._grants.values():
            leadership._abandon_after_fork()
        if self._line is not None:
            self._line.close()
        if self._popen is not None:
            self._popen.returncode = 0  # it is the parent's child: nothing of it to wait for here

    # --- Who leads: any thread --------------------------------------------------------------------

    @property
    def is_leader(self) -> bool:
        """Whether this member leads at this instant: its lease holds, and the process that renews it is alive."""
        return self._lease.look()[0] > 0

    @property
    def leadership(self) -> Optional[Leadership]:
        """The grant that this member holds, or None."""
        token, _ = self._lease.look()
        if not token:
            return None
        leadership = self._grant(token)
        return leadership if leadership.valid else None

    @property
    def leader_id(self) -> Optional[str]:
        """Who leads as far as this member knows, or None."""
        if self.is_leader:
            return self.node_id  # the event that says so may be on its way
        leader_id = None if self._status is None else self._status.leader_id
        return None if self.is_forked_copy or leader_id == self.node_id else leader_id

    @property
    def current_term(self) -> int:
        """The latest term this member has seen (paper, section 5.1)."""
        return self._latest_status().current_term

    @property
    def membership(self) -> Membership:
        """The members as this one knows them."""
        return self._latest_status().membership

    def status(self) -> Status:
        """This member's view at this moment, with the reason where there is no leader."""
        status, leader_id = self._latest_status(), self.leader_id
        role = Role.STOPPED if self.is_forked_copy else status.role
        leadership = self.leadership
        remaining = leadership.remaining if leadership is not None else None
        status = replace(status, leader_id=leader_id, role=role, lease_remaining=remaining)
        is_explained = status.why and leader_id is None and role is not Role.STOPPED
        return status if is_explained else replace(status, why=explain(status, {}))

    def metrics(self) -> Dict[str, Number]:
        """As `ElectionThread.metrics`: the other process counts, and what it said last stands where it has ended."""
        if self._is_running:
            with contextlib.suppress(TimeoutError, MemberStopped):
                self._metrics = self._ask("metrics", self._patience)
        leadership = self.leadership
        return {
            **self._metrics,
            "is_leader": int(leadership is not None),
            "has_leader": int(self.leader_id is not None),
            "lease_remaining_seconds": 0.0 if leadership is None else leadership.remaining,
            "callbacks_due": self._callbacks.due,
        }

    def _latest_status(self) -> Status:
        """What the other process says, or what it said last where it has ended or does not answer."""
        if self._is_running:
            with contextlib.suppress(TimeoutError, MemberStopped):
                latest = status_from_plain(self._ask("status", self._patience))
                return latest if self._is_running else self._known_status()
        return self._known_status()

    def _known_status(self) -> Status:
        assert self._status is not None, "a member has a status from its start on"
        return self._status

    # --- What the program asks for ----------------------------------------------------------------

    def transfer_leadership(self, to: Optional[str] = None) -> None:
        """Hand leadership to `to`, or to the voter heard from last. Returns at once."""
        if to is not None:
            check_node_id(to)
        self._check_not_over()
        self._tell(do="transfer_leadership", to=to)

    def resign(self, token: Optional[int] = None) -> None:
        """Give leadership up, with a `token` only that grant, and let the others campaign first. Returns at once."""
        self.check_process()
        self._tell(do="resign", token=token)

    def verify(self, timeout: Optional[float] = None) -> Leadership:
        """As `ElectionThread.verify`."""
        answer = self._ask_for("verify", timeout, "no majority has answered")
        leadership = self._grant(answer["token"])
        if not leadership.valid:
            raise NotLeader(f"{self.node_id} has ceased to lead")
        return leadership

    def change_membership(self, request: Union[AddNode, RemoveNode], timeout: Optional[float] = None) -> Membership:
        """As `ElectionThread.change_membership`."""
        if isinstance(request, AddNode):
            node = request.node
            asked = {"node_id": node.node_id, "voter": node.voter, "address": node.address}
            answer = self._ask_for("add_node", timeout, "the membership is not changed", **asked)
        else:
            check_node_id(request.node_id)
            answer = self._ask_for("remove_node", timeout, "the membership is not changed", node_id=request.node_id)
        return membership_from_plain(answer["membership"])

    def hand_over(self, to: Optional[str] = None, timeout: Optional[float] = None) -> str:
        """As `ElectionThread.hand_over`."""
        answer = self._ask_for("hand_over", timeout, f"{self.leader_id} still leads", to=to)
        return str(answer["leader"])

    def _ask_for(self, what: str, timeout: Optional[float], missing: str, **arguments: Any) -> Content:
        """What the other process answers, which keeps the time itself and knows why it has run out."""
        timeout = check_timeout(timeout)
        try:
            return self._ask(what, None if timeout is None else timeout + _GRACE, timeout=timeout, **arguments)
        except _Silent:
            raise TimeoutError(f"{missing} after {timeout} s: the election process does not answer") from None

    def _ask(self, what: str, patience: Optional[float], **arguments: Any) -> Content:
        self.check_process()
        number = next(self._numbers)
        self._answers[number] = None
        try:
            self._tell(do=what, number=number, **arguments)
            with self._state_changed:
                self._state_changed.wait_for(lambda: self._answers[number] or not self._is_running, patience)
        finally:
            answer = self._answers.pop(number)
        if answer is None:
            raise _Silent() if self._is_running else self._not_running() from self._failure
        if "error" in answer:
            raise error_from_plain(answer["error"])
        result: Content = answer["result"]
        return result

    def _tell(self, **content: Any) -> None:
        """Never raises: that the other process is gone, the reader thread finds out."""
        with self._sending:
            if self._line is not None and self._popen is not None:
                try:
                    self._line.send(content)
                except BlockingIOError:  # half of it may be written: nothing that follows could be understood
                    self._popen.kill()
                except OSError:
                    pass

    # --- The reader thread ------------------------------------------------------------------------

    def _run(self) -> None:
        assert self._line is not None
        failure: Optional[BaseException] = None
        try:
            for content in self._line:
                self._hear(content)
        except BaseException as error:  # whatever it is, the member must end visibly and not go silent
            failure = error
        finally:
            self._end(failure)

    def _hear(self, content: Content) -> None:
        getattr(self, f"_hear_{content.pop('is')}")(**content)

    def _hear_log(self, name: str, level: int, text: str) -> None:
        target = logging.getLogger(name)
        if target.isEnabledFor(level):
            target.handle(target.makeRecord(name, level, "raftlite.isolated.child", 0, text, (), None))

    def _hear_answer(self, number: int, **answer: Any) -> None:
        with self._state_changed:
            if number in self._answers:
                self._answers[number] = answer
            self._state_changed.notify_all()

    def _hear_elected(self, number: int, token: int) -> None:
        self._callbacks.elected(self._grant(token))
        self._acknowledge(number)
        self._tell_waiters()

    def _hear_lost(self, number: int, token: int) -> None:
        self._grant(token).lost.set()
        self._callbacks.lost()
        with self._state_changed:
            self._grants = {each: leadership for each, leadership in self._grants.items() if each > token}
        self._acknowledge(number)

    def _hear_leader(self, number: int, leader: Optional[str], term: int, status: Content) -> None:
        self._status = replace(status_from_plain(status), leader_id=leader)
        self._callbacks.leader_changed(leader, term)
        self._acknowledge(number)
        self._tell_waiters()

    def _hear_farewell(self, **farewell: Any) -> None:
        self._farewell = farewell

    def _acknowledge(self, number: int) -> None:
        """Once the callbacks that are due by now have finished: a successor may be waiting for that."""
        self._callbacks.then(lambda: self._tell(do="acknowledge", number=number))

    def _grant(self, token: int) -> _IsolatedLeadership:
        with self._state_changed:
            if token not in self._grants:
                self._grants = {**self._grants, token: _IsolatedLeadership(self.node_id, token, self._lease)}
            return self._grants[token]

    # --- The end ----------------------------------------------------------------------------------

    def _end(self, failure: Optional[BaseException]) -> None:
        """The other process has ended or is about to. Its lease is over, whatever ended it."""
        assert self._popen is not None
        self._failure = failure or self._why_ended()
        if self._failure is not None:
            logger.error("%s: the member has failed and takes no further part: %s", self.node_id, self._failure)
        self._let_go()
        status = self._known_status()
        error = "" if self._failure is None else f"{type(self._failure).__name__}: {self._failure}"
        self._status = replace(status, role=Role.STOPPED, leader_id=None, lease_expires_at=None, error=error)
        self._status = replace(self._status, leader_heard_ago=None, unreachable=())
        self._is_running = False
        self._callbacks.lost()
        if status.leader_id is not None:
            self._callbacks.leader_changed(None, status.current_term)
        self._callbacks.finish()
        for leadership in self._grants.values():
            leadership.lost.set()
        self._tell_waiters()

    def _why_ended(self) -> Optional[BaseException]:
        farewell = self._farewell
        if farewell is None:
            return None if self.was_told_to_stop else self._end_of_process()
        if farewell["saved"] is not None:
            self._memory.save(saved_from_plain(farewell["saved"]))
        self._status = status_from_plain(farewell["status"])
        return None if farewell["error"] is None else error_from_plain(farewell["error"])

    def _end_of_process(self) -> ChildProcessError:
        assert self._popen is not None
        code = self._reap(self._popen)
        how = f"ended with status {code}" if code >= 0 else f"was killed by {signal.Signals(-code).name}"
        return ChildProcessError(f"its election process {how}")

    @staticmethod
    def _reap(popen: subprocess.Popen[bytes]) -> int:
        try:
            return popen.wait(_GRACE)
        except subprocess.TimeoutExpired:  # it has closed its end, and does nothing any more that anybody can see
            popen.kill()
            return popen.wait()


class _Silent(TimeoutError):
    """The other process does not answer."""


def _start_process(lease_fd: int) -> Any:
    """Start `raftlite.isolated.child` with the other end of a line, and this very raftlite, whatever its folder is.

    Nothing secret is among its arguments or variables. Ctrl-C and the like wait until it has begun to ignore them.
    """
    line, theirs = Line.pair()
    try:
        with theirs, _blocked(*IGNORED_BY_CHILD):
            place = str(Path(__file__).resolve().parents[2])
            command = [os.fsdecode(multiprocessing.spawn.get_executable()), "-I", "-S"]
            command += ["-B"] if sys.dont_write_bytecode else []
            command += ["-c", _BOOTSTRAP, place, str(theirs.fileno()), str(lease_fd)]
            pass_fds = (theirs.fileno(), lease_fd)
            null = subprocess.DEVNULL
            return line, subprocess.Popen(command, stdin=null, stdout=null, pass_fds=pass_fds)
    except BaseException:  # Ctrl-C, too, leaves nothing open
        line.close()
        raise


@contextlib.contextmanager
def _blocked(*signals: signal.Signals) -> Iterator[None]:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
