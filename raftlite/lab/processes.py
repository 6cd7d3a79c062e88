"""Members that are processes of the system, which can really be killed and frozen. All they say goes through here.

    hub thread ◀═ steps, votes, messages ═ MemberProcess of each member
        ├─▶ recorder                            ▲
        ├─▶ links ─▶ agenda ─ when it is due ═══┘
        └─▶ whoever waits

The clock is the system's: it can be neither stopped nor stepped.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing.spawn
import os
import signal
import socket
import subprocess
import sys
import threading
from dataclasses import asdict
from multiprocessing.connection import wait as wait_for_any
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, NoReturn, Optional, Tuple

from raftlite.clock import boot_clock
from raftlite.election import Saved
from raftlite.errors import ConfigError, MemberStopped
from raftlite.lab import wire
from raftlite.lab.links import NEVER, Flight
from raftlite.lab.stage import Condition, LabClosed, Plan, Stage
from raftlite.lab.waiter import Waiter
from raftlite.line import Content, Line, saved_from_plain, saved_to_plain
from raftlite.nodes import forks

logger = logging.getLogger(__name__)

_BOOTSTRAP = "import sys; sys.path.insert(0, sys.argv[1]); from raftlite.lab.member_process import main; main()"
_START_TAKES = 30.0  # real seconds at most, on a machine that is very busy
_LONGEST_WAIT = 3_600.0


class _Life:
    """One process of a member."""

    def __init__(self, n: str, line: Line, process: subprocess.Popen[bytes]) -> None:
        self.n = n
        self.line = line
        self.process = process
        self.is_ready = self.has_begun = self.has_spoken = self.is_frozen = False
        self.waiting: List[Content] = []  # what it is to hear when it is no longer frozen
        self.flights: Dict[Tuple[int, int], Flight] = {}  # that it has been given and not dealt with

    def say(self, **content: Any) -> None:
        if self.is_frozen:
            self.waiting.append(content)
        else:
            with contextlib.suppress(OSError):  # it is gone, as the end of the line will say
                self.line.send(content)

    def has_more(self) -> bool:
        return bool(wait_for_any([self.line.fileno()], 0))


class ProcessStage(Stage, forks.Forkable):
    """Processes of this machine. They end with this one, whatever ends it."""

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        if not hasattr(signal, "SIGSTOP"):
            raise ConfigError("backend 'processes' needs a system that can freeze a process, as Linux and macOS can")
        self._disks: Dict[str, Saved] = {n: Saved() for n in plan.nodes}
        self._lives: Dict[str, _Life] = {}
        self._counts: Dict[str, int] = dict.fromkeys(plan.nodes, 0)
        self._origin: Optional[float] = None
        self._dropped = 0
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._waiters: List[Waiter] = []
        self._is_closed = False
        self._bell, self._rope = socket.socketpair()
        self._rope.setblocking(False)
        self._hub = threading.Thread(target=self._run, name="raftlite-lab-hub", daemon=True)
        forks.add(self)

    # --- Time -------------------------------------------------------------------------------------

    @property
    def now(self) -> float:
        return 0.0 if self._origin is None else max(0.0, (boot_clock() - self._origin) / self.plan.scale)

    @contextlib.contextmanager
    def quiet(self) -> Iterator[None]:
        with self._lock:
            if self._is_closed:
                raise LabClosed("the lab is closed")
            try:
                yield
            finally:
                self._ring()

    def look(self, read: Callable[[], Any]) -> Any:
        with self._lock:
            return read()

    def wait(
        self, seconds: float, condition: Optional[Condition] = None, do: Optional[Callable[[], None]] = None
    ) -> bool:
        with self._lock:
            waiter = Waiter(self.now + seconds, condition, do)
            self._waiters.append(waiter)
            self._ring()
            self._changed.wait_for(lambda: waiter.is_done or self._is_closed)
            return waiter.outcome()

    def pause(self) -> NoReturn:
        raise ConfigError(
            "the clock of processes is the system's and cannot be stopped: backend='threads' has one that can"
        )

    def play(self) -> None:
        """It always goes on."""

    def step(self, seconds: Optional[float]) -> NoReturn:
        self.pause()

    def set_scale(self, scale: float) -> NoReturn:
        raise ConfigError("the scale of processes is fixed when they start: give it to Lab, or use backend='threads'")

    # --- The hub ----------------------------------------------------------------------------------

    def _ring(self) -> None:
        """Let the hub look at everything again."""
        with contextlib.suppress(BlockingIOError, OSError):  # it will, it has not answered the last ring yet
            self._rope.send(b"!")

    def _run(self) -> None:
        try:
            while not self._is_closed:
                self._turn()
        except BaseException:
            logger.exception("the lab has failed and is closed")
            with self._lock:
                self._is_closed = True
                self._changed.notify_all()
            raise

    def _turn(self) -> None:
        """Wait for members, for the bell, and for what is due next; deal with it."""
        with self._lock:
            sources: Dict[Any, _Life] = {} if self._is_closed else {life.line: life for life in self._lives.values()}
            pause = self._pause_before_next()
        ready = wait_for_any([*sources, self._bell], pause)
        with self._lock:
            for life in (sources[source] for source in ready if source is not self._bell):
                self._read(life)
            if self._bell in ready:
                self._bell.recv(1_000)
            if not self._is_closed:
                self._do_what_is_due()

    def _pause_before_next(self) -> float:
        if self._origin is None:
            return _LONGEST_WAIT
        due = min(self.agenda.next_due, *(waiter.end for waiter in self._waiters), NEVER)
        return min(max(0.0, (due - self.now) * self.plan.scale), _LONGEST_WAIT)

    def _do_what_is_due(self) -> None:
        self._look_at_waiters()
        while self._origin is not None and self.agenda.next_due <= self.now:
            self.agenda.do_next()
            self._look_at_waiters()

    def _look_at_waiters(self) -> None:
        for waiter in self._waiters:
            waiter.look(self.now)
        if any(waiter.is_done for waiter in self._waiters):
            self._waiters = [waiter for waiter in self._waiters if not waiter.is_done]
            self._changed.notify_all()

    # --- What members say -------------------------------------------------------------------------

    def _read(self, life: _Life) -> None:
        """One thing that it says, or that it is gone."""
        if self._lives.get(life.n) is not life or self._is_closed:
            return  # it has been ended since
        try:
            self._hear(life, life.line.receive())
        except (EOFError, OSError):
            self._bury(life)
            self._lose(life, "killed" if life.process.returncode == -signal.SIGKILL else "failed")
        except Exception:
            logger.exception("what the process of %s says makes no sense, so it is ended", life.n)
            self._bury(life)
            self._lose(life, "failed")
        self._look_at_waiters()

    def _lose(self, life: _Life, why: str) -> None:
        """It has ended of its own accord."""
        if life.has_begun:
            self.on_lost(life.n, why)
        else:
            self._begin()  # the others have waited for it

    def _hear(self, life: _Life, content: Content) -> None:
        kind = content["is"]
        if kind == "step":
            self._hear_step(life, content)
        elif kind == "send":
            self.links.send(life.n, content["to"], wire.message_from_plain(content["message"]))
        elif kind == "saved":
            self._disks[life.n] = saved_from_plain(content)
        elif kind == "ready":
            life.is_ready = True
            self._begin()
        elif kind == "dropped":
            self._dropped += 1
            self._take_flight(life, content)
        elif kind == "ended" and self._lives.get(life.n) is life:
            self._bury(life)
            self._lose(life, "stopped" if content["failure"] is None else "failed")

    def _hear_step(self, life: _Life, content: Content) -> None:
        flight = self._take_flight(life, content)
        step = wire.step_from_plain(life.n, content, None if flight is None else flight.message)
        self.recorder.step(life.n, step, flight)
        if not life.has_spoken:
            life.has_spoken = True
            self._changed.notify_all()

    def _take_flight(self, life: _Life, content: Content) -> Optional[Flight]:
        flight = None if content["flight"] is None else life.flights.pop(tuple(content["flight"]))
        if flight is not None:
            self.links.heard(flight)
        return flight

    # --- Members ----------------------------------------------------------------------------------

    def start(self, names: List[str]) -> None:
        if self._hub.ident is None:
            self._hub.start()
        for n in names:
            if n not in self._lives:
                self._lives[n] = self._spawn(n)

    def await_start(self, names: List[str]) -> None:
        with self._lock:
            lives = [self._lives[n] for n in names if n in self._lives]
            began = self._changed.wait_for(
                lambda: (
                    self._is_closed or all(life.has_spoken or life.process.returncode is not None for life in lives)
                ),
                _START_TAKES,
            )
            if self._is_closed:
                raise LabClosed("the lab was closed")
            failed = [life.n for life in lives if not life.has_spoken]
            if failed or not began:
                raise MemberStopped(f"the process of {', '.join(failed)} has not begun: what it said is above")

    def _spawn(self, n: str) -> _Life:
        with forks.lock:
            line, theirs = Line.pair()
            try:
                with theirs:
                    command = [os.fsdecode(multiprocessing.spawn.get_executable()), "-I", "-S"]
                    command += ["-B"] if sys.dont_write_bytecode else []
                    place = str(Path(__file__).resolve().parent.parent.parent)
                    command += ["-c", _BOOTSTRAP, place, str(theirs.fileno())]
                    null = subprocess.DEVNULL
                    process = subprocess.Popen(command, stdin=null, stdout=null, pass_fds=(theirs.fileno(),))
            except BaseException:
                line.close()
                raise
        life = _Life(n, line, process)
        self._counts[n] += 1
        life.say(**self._settings(n))
        return life

    def _settings(self, n: str) -> Content:
        plan = self.plan
        return {
            "n": n,
            "others": plan.others(n),
            "min_nodes": plan.min_nodes,
            "scale": plan.scale,
            "timing": asdict(plan.timing),
            "rules": asdict(plan.book.rules),
            "takeover_step": plan.book.takeover_step,
            "draws": plan.seed_of(n, self._counts[n]),
            "saved": saved_to_plain(self._disks[n]),
        }

    def _begin(self) -> None:
        """The first members begin together, when all of them are ready."""
        if self._origin is None:
            if not all(life.is_ready for life in self._lives.values()):
                return
            self._origin = boot_clock()
        for life in self._lives.values():
            if life.is_ready and not life.has_begun:
                life.has_begun = True
                self.recorder.started(life.n)
                life.say(origin=self._origin)
        self._changed.notify_all()

    def end(self, n: str) -> None:
        """What it has said before is heard: it was on its way."""
        life = self._lives.pop(n)
        life.process.kill()
        with contextlib.suppress(EOFError, OSError):
            while True:
                self._hear(life, life.line.receive())
        self._bury(life)

    def _bury(self, life: _Life) -> None:
        if self._lives.get(life.n) is life:
            del self._lives[life.n]
        life.process.kill()
        life.process.wait()
        life.line.close()
        self._changed.notify_all()

    def forget(self, n: str) -> None:
        self._disks[n] = Saved()

    def freeze(self, n: str) -> None:
        """What it has said before it was frozen is heard before this returns."""
        life = self._lives[n]
        life.process.send_signal(signal.SIGSTOP)
        if hasattr(os, "waitid"):
            os.waitid(os.P_PID, life.process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        while self._lives.get(n) is life and life.has_more():
            self._read(life)
        life.is_frozen = True

    def thaw(self, n: str) -> None:
        life = self._lives[n]
        life.is_frozen = False
        life.process.send_signal(signal.SIGCONT)
        waiting, life.waiting = life.waiting, []
        for content in waiting:
            life.say(**content)

    def pid(self, n: str) -> Optional[int]:
        life = self._lives.get(n)
        return None if life is None else life.process.pid

    def deliver(self, flight: Flight) -> bool:
        life = self._lives.get(flight.receiver)
        if life is None or not life.has_begun:
            return False
        mark = (flight.m, flight.copy)
        life.flights[mark] = flight
        life.say(do="hear", flight=mark, message=wire.message_to_plain(flight.message))
        return True

    def tell(self, n: str, message: Any) -> None:
        life = self._lives.get(n)
        if life is not None and life.has_begun:
            life.say(do="tell", message=wire.control_to_plain(message))

    def apply_rules(self) -> None:
        for life in self._lives.values():
            life.say(do="rules", rules=asdict(self.plan.book.rules), takeover_step=self.plan.book.takeover_step)

    def close(self) -> int:
        with self._lock:
            self._is_closed = True
            for life in list(self._lives.values()):
                life.process.kill()
            for life in list(self._lives.values()):
                self._bury(life)
            self._changed.notify_all()
            self._ring()
        if self._hub.ident is not None and threading.current_thread() is not self._hub:
            self._hub.join()
        self._bell.close()
        self._rope.close()
        return self._dropped

    def abandon_after_fork(self) -> None:
        """A fork of this process must not keep the members alive."""
        self._is_closed = True
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        for life in self._lives.values():
            life.line.close()
            life.process.returncode = 0  # it is the parent's child
        self._bell.close()
        self._rope.close()
