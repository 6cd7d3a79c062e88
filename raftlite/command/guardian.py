"""The process between `raftlite run` and its command: it ends the command in time when the other one cannot.

    raftlite run ═ start, lease, signal, stop ═▶ guardian ── fork, exec ──▶ the command, its process group
          ◀══════════ started, gone ════════════════╛  ◀── SIGCHLD ─────────────╛

It knows until when the lease holds, so that the command ends before, also where the other process is stopped, and never
begins afterwards, also where the guardian was. Where the other process is killed, the socket between them ends, and so
does the command. Until then the guardian holds a copy of the member's listening socket: a peer takes a leader for dead
that refuses connections, and must not before the command is.

It runs as a script, with the standard library alone, and on one thread, so that it may fork.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import json
import os
import select
import signal
import socket
import sys
import time
from typing import Any, Dict, List, NoReturn, Optional, Set

LOOK_EVERY = 0.01  # seconds, at what is left of a command that is being ended
_LONGEST_WAIT = 3_600.0  # seconds
_NEITHER_FOUND_NOR_RUN = 127  # how a fork ends whose errno went through the pipe
_TOO_LATE = errno.ECANCELED  # what a fork says whose lease is over; no exec fails with it
_SET_PDEATHSIG, _SET_CHILD_SUBREAPER = 1, 36  # of Linux' prctl


class Guardian:
    """Runs one command at a time, for the process at the other end of `line`.

    `grace` are the seconds between TERM and KILL. An ending begins `reserve` seconds before the lease ends, and KILL
    comes `margin` seconds before it at the latest. `clock_id` is the clock of the lease, -1 for the monotonic one.
    """

    def __init__(self, line: socket.socket, clock_id: int, grace: float, reserve: float, margin: float) -> None:
        self._line = line
        self._clock_id = clock_id
        self._grace, self._reserve, self._margin = grace, reserve, margin
        self._unread = b""
        self._listening: Optional[int] = None  # a copy of the member's socket
        self._is_orphan = False  # the other process has ended
        self._due: Optional[Dict[str, Any]] = None  # what is to be started once everything that was said is read
        self._pid = 0  # of the command, which is its process group too; 0 where none runs
        self._status: Optional[int] = None  # how the command has ended, as `waitpid` says it
        self._has_children = False
        self._until = 0.0  # the end of the lease
        self._kill_at: Optional[float] = None  # set when the command is being ended
        self._reason = ""  # why it is being ended: exit, stop or lease
        self._was_killed = False
        self._prctl = _prctl()
        self._is_reaper = become_reaper()
        self._wakee, waker = os.pipe()
        for descriptor in (self._wakee, waker):
            os.set_blocking(descriptor, False)
        signal.signal(signal.SIGCHLD, _nothing)
        signal.set_wakeup_fd(waker)

    def run(self) -> None:
        """Until the other process has ended, and the command with it."""
        while self._pid or not self._is_orphan:
            self._wait()
            self._reap()
            if self._pid:
                self._look_after(self._now())

    def _now(self) -> float:
        return time.monotonic() if self._clock_id < 0 else time.clock_gettime(self._clock_id)

    def _wait(self) -> None:
        sources: List[Any] = [self._wakee] if self._is_orphan else [self._wakee, self._line]
        ready, _, _ = select.select(sources, [], [], self._until_next_look())
        if self._wakee in ready:
            os.read(self._wakee, 4096)
        if self._line in ready:
            self._hear()
        elif self._due is not None:
            self._start(self._due["command"], self._due["variables"])

    def _until_next_look(self) -> Optional[float]:
        if self._due is not None:
            return 0.0
        if not self._pid:
            return None
        if self._kill_at is not None or self._is_orphan:
            return LOOK_EVERY
        return max(0.0, min(self._until - self._reserve - self._now(), _LONGEST_WAIT))

    # --- From the other process -------------------------------------------------------------------

    def _hear(self) -> None:
        try:
            data, descriptors, _, _ = socket.recv_fds(self._line, 65536, 1)
        except OSError:
            data, descriptors = b"", []
        for descriptor in descriptors:
            os.set_inheritable(descriptor, False)
            self._listening = descriptor
        if not data:
            self._is_orphan = True
        *lines, self._unread = (self._unread + data).split(b"\n")
        for line in lines:
            self._carry_out(json.loads(line))

    def _carry_out(self, request: Dict[str, Any]) -> None:
        do = request.pop("do")
        self._until = request.get("until", self._until)
        if do == "start":
            self._due = request
        elif do == "stop" and self._due is not None:
            self._due = None
            self._tell("not_started")
        elif do == "stop" and self._pid:
            self._begin_to_end("stop", self._now())
        elif do == "signal" and self._pid and self._status is None:
            os.kill(self._pid, request["number"])

    def _tell(self, what: str, **details: Any) -> None:
        with contextlib.suppress(OSError):  # the other process has ended, as the next read finds out
            self._line.sendall(json.dumps({"is": what, **details}).encode("ascii") + b"\n")

    # --- The command ------------------------------------------------------------------------------

    def _start(self, command: List[str], variables: Dict[str, str]) -> None:
        self._due = None
        self._status, self._kill_at, self._reason, self._was_killed = None, None, "", False
        reader, writer = os.pipe()  # whose end comes with exec, or after the number of an error
        self._fork(command, {**os.environ, **variables}, writer)
        os.close(writer)
        error = int(os.read(reader, 16) or 0)
        os.close(reader)
        if not error:
            self._tell("started", pid=self._pid)
            return
        if self._pid:
            os.waitpid(self._pid, 0)
            self._pid = 0
        if error == _TOO_LATE:
            self._tell("not_started")
        else:
            self._tell("failed", errno=error)

    def _fork(self, command: List[str], variables: Dict[str, str], writer: int) -> None:
        guardian = os.getpid()
        try:
            self._pid = os.fork()
        except OSError as error:  # too many processes
            os.write(writer, str(error.errno).encode())
            return
        if self._pid == 0:
            self._become(command, variables, writer, guardian)

    def _become(self, command: List[str], variables: Dict[str, str], writer: int, guardian: int) -> NoReturn:
        """In the fork: the signals as the other process had them, a session of its own, and then the command."""
        try:
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGPIPE, getattr(signal, "SIGXFSZ", signal.SIGPIPE)):
                signal.signal(number, signal.SIG_DFL)  # Python ignores them
            os.setsid()
            if self._prctl is not None:
                self._prctl(_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
                if os.getppid() != guardian:  # it has ended just before
                    os._exit(_NEITHER_FOUND_NOR_RUN)
            if self._is_running_out(self._now()):  # the last look: until here, somebody may have stopped us
                raise OSError(_TOO_LATE, "the lease is over")
            os.execvpe(command[0], command, variables)
        except OSError as error:
            os.write(writer, str(error.errno or errno.EINVAL).encode())
        finally:
            os._exit(_NEITHER_FOUND_NOR_RUN)

    def _reap(self) -> None:
        self._has_children = True
        try:
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return
                if pid == self._pid:
                    self._status = status
        except ChildProcessError:
            self._has_children = False

    def _look_after(self, now: float) -> None:
        if self._status is not None and not self._is_anything_left():
            pid, self._pid = self._pid, 0
            status, killed = self._status, self._was_killed
            reason = self._reason or "exit"
            left_behind = reason == "exit" and self._kill_at is not None
            self._tell("gone", pid=pid, status=status, reason=reason, killed=killed, left_behind=left_behind)
            return
        if self._is_orphan:
            self._signal_everything(signal.SIGKILL)
        elif self._status is not None and not self._reason:
            self._begin_to_end("exit", now)  # what it has left behind
        elif self._is_running_out(now) and not self._reason:
            self._begin_to_end("lease", now)
        if self._kill_at is not None and now >= min(self._kill_at, self._until - self._margin):
            self._was_killed = True
            self._signal_everything(signal.SIGKILL)

    def _is_running_out(self, now: float) -> bool:
        return now >= self._until - self._reserve

    def _begin_to_end(self, reason: str, now: float) -> None:
        self._reason = self._reason or reason
        if self._kill_at is None:
            self._kill_at = now + self._grace
            self._signal_everything(signal.SIGTERM)
            self._signal_everything(signal.SIGCONT)  # whoever is stopped could not hear it

    def _is_anything_left(self) -> bool:
        """Where whatever loses its parent becomes a child of this process, its children are all there is."""
        if self._is_reaper:
            return self._has_children
        try:
            os.killpg(self._pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return sys.platform != "darwin"  # which says so of processes that have ended
        return True

    def _signal_everything(self, number: int) -> None:
        """The process group, and whoever has left it; a fork that is just being made is found the next time."""
        outside = [pid for pid, group in descendants().items() if group != self._pid] if self._is_reaper else []
        with contextlib.suppress(OSError):  # it is empty, or another user's
            os.killpg(self._pid, number)
        for pid in outside:
            with contextlib.suppress(OSError):
                os.kill(pid, number)


def descendants() -> Dict[int, int]:
    """The processes that stem from this one -> their groups (Linux)."""
    parents, groups = {}, {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat", "rb") as file:
                fields = file.read().rpartition(b")")[2].split()
        except OSError:
            continue  # it has ended meanwhile
        parents[int(name)], groups[int(name)] = int(fields[1]), int(fields[2])
    found: Set[int] = {os.getpid()}
    more = found
    while more:
        more = {pid for pid, parent in parents.items() if parent in more}
        found |= more
    return {pid: groups[pid] for pid in found - {os.getpid()}}


def become_reaper() -> bool:
    """Become the parent of whatever stems from this process and loses its own; False where a system knows no such."""
    prctl = _prctl()
    return prctl is not None and prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0


def _nothing(number: int, frame: object) -> None:
    pass


@functools.cache
def _prctl() -> Optional[Any]:
    """Linux' call by which a process dies with its parent, or becomes the parent of orphans."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        import ctypes

        return ctypes.CDLL(None).prctl
    except (ImportError, OSError, AttributeError):
        return None


def main() -> None:
    line = socket.socket(fileno=int(sys.argv[1]))
    os.set_inheritable(line.fileno(), False)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # which the command inherits
            signal.signal(number, _nothing)  # what they mean is for the other process to decide
    Guardian(line, int(sys.argv[2]), *map(float, sys.argv[3:6])).run()


if __name__ == "__main__":
    main()
