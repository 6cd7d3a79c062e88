"""The lease of an isolated member, in memory that two processes share, and whether the one that renews it is alive.

    election process: LeaseHolder ─▶ memory: token, deadline, their check │ token given up ◀─ Lease: any thread of the
                          └────────▶ a record lock on the memory's file ═════════ looked at ═▶      program's process

Peers take the end of a killed process's sockets for proof that it leads no longer, so its lease must not be believed an
instant longer. When a process ends, Linux takes its record locks away while it goes through its open files, and only
afterwards gives up the files themselves, sockets included, the highest descriptor first. A pidfd, `flock` and the end
of a pipe with a low descriptor show the death later than its peers see it.
"""

from __future__ import annotations

import mmap
import os
import struct
import sys
from functools import partial
from typing import Any, Callable, Tuple

from raftlite.clock import boot_clock_ns
from raftlite.errors import ConfigError

_GRANT = struct.Struct("QQQ")  # token, deadline in nanoseconds, and both together by exclusive or
_read = _GRANT.unpack_from
_NUMBER = struct.Struct("Q")  # after them, the token given up
_SIZE = _GRANT.size + _NUMBER.size
_TYPE = 0 if sys.byteorder == "little" else 1  # in the answer of `_record_lock`
_UNLOCKED = 2  # fcntl.F_UNLCK
_TRIES = 1_000  # until a grant that is never read whole is taken for lost: its writer was stopped in the middle
_NOTHING = (0, 0)


def check_isolation() -> None:
    """Raise `ConfigError` where a member cannot be isolated."""
    missing = "Linux" if sys.platform != "linux" else "a Python of its own" if getattr(sys, "frozen", False) else ""
    try:
        import ctypes  # noqa: F401  # it takes a megabyte: only programs that isolate a member pay for it
    except ImportError:
        missing = "ctypes"
    if missing:
        raise ConfigError(f"isolated=True needs {missing}, which is not here")


class Lease:
    """The program's end: says at any moment whether the election process holds a grant, and which."""

    def __init__(self) -> None:
        self.fd = os.memfd_create("raftlite-lease")
        os.ftruncate(self.fd, _SIZE)
        self._memory: Any = mmap.mmap(self.fd, _SIZE)
        self._given_up = 0
        self._ask, self._answer = _record_lock(self.fd)

    def look(self) -> Tuple[int, int]:
        """The token that is held at this instant and for how many nanoseconds more, or (0, 0).

        A lease that was once seen to have run out is never held again, also if the other process renews it after all.
        """
        memory = self._memory
        token, deadline, check = _read(memory)
        if check != token ^ deadline:
            token, deadline = self._read_again()
        left = deadline - boot_clock_ns()
        if left <= 0:
            self._give_up(token)
            return _NOTHING
        if self._ask() != 0 or self._answer[_TYPE] == _UNLOCKED:
            return _NOTHING  # the process has ended
        if token <= self._given_up or memory is not self._memory:
            return _NOTHING
        return token, left

    def close(self) -> None:
        """The other process has ended, or this is a fork of the program: nothing is held any more."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            self._memory = bytearray(_SIZE)  # a thread may be looking: the last to look gives the shared memory back
            os.close(fd)

    def _read_again(self) -> Tuple[int, int]:
        for _ in range(_TRIES):
            token, deadline, check = _read(self._memory)
            if check == token ^ deadline:
                return token, deadline
        return _NOTHING

    def _give_up(self, token: int) -> None:
        if token > self._given_up:
            self._given_up = token
            _NUMBER.pack_into(self._memory, _GRANT.size, token)  # the other process then resigns


class LeaseHolder:
    """The election process's end. Only one thread at a time may write."""

    def __init__(self, fd: int) -> None:
        import fcntl

        self._memory = mmap.mmap(fd, _SIZE)
        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)  # for as long as this process lives: `fd` must never be closed

    def hold(self, token: int, until: float) -> None:
        """Publish a grant, or its renewal."""
        self._write(token, int(until * 1e9))

    def release(self, token: int) -> None:
        """The grant is over: when this returns, no thread of the program believes in it."""
        if _read(self._memory)[0] == token:
            self._write(token, 0)

    def is_given_up(self, token: int) -> bool:
        """Whether the program has seen this grant's lease run out."""
        return bool(_NUMBER.unpack_from(self._memory, _GRANT.size)[0] >= token)

    def _write(self, token: int, deadline: int) -> None:
        self._memory[: _GRANT.size] = _GRANT.pack(token, deadline, token ^ deadline)


def _record_lock(fd: int) -> Tuple[Callable[[], int], bytearray]:
    """A call that asks the system whether another process has a lock on `fd`, and where the answer is then.

    It does not let go of the interpreter, as `fcntl.fcntl` does: beside a thread that keeps it for seconds, the answer
    would be seconds old. The call returns 0 and describes the lock, whose type is the one asked for, or says "unlocked"
    in its place. Nobody puts that back, so the lock is gone for good, whichever thread has found it.
    """
    import ctypes
    import fcntl

    class Flock(ctypes.Structure):
        _fields_ = [
            ("type", ctypes.c_short),
            ("whence", ctypes.c_short),
            ("start", ctypes.c_int64),
            ("len", ctypes.c_int64),
            ("pid", ctypes.c_int),
        ]

    answer = bytearray(Flock(fcntl.F_WRLCK))
    place = ctypes.byref(Flock.from_buffer(answer))
    return partial(ctypes.PyDLL(None).fcntl, fd, fcntl.F_GETLK, place), answer
