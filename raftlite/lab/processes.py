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
import signal
import socket
import threading
from dataclasses import asdict
from multiprocessing.connection import wait as wait_for_any
from typing import Any, Callable, Dict, Iterator, List, NoReturn, Optional

from raftlite.clock import boot_clock
from raftlite.election import Saved
from raftlite.errors import ConfigError, MemberStopped
from raftlite.isolated.line import Content, saved_from_plain, saved_to_plain
from raftlite.lab import wire
from raftlite.lab.life import Life
from raftlite.lab.links import Flight
from raftlite.lab.stage import Condition, LabClosed, Plan, Stage
from raftlite.lab.waiter import Waiters
from raftlite.nodes import forks

logger = logging.getLogger(__name__)

_START_TAKES = 30.0  # real seconds at most, on a machine that is very busy
_LONGEST_WAIT = 3_600.0


class ProcessStage(Stage, forks.Forkable):
    """Processes of this machine. They end with this one, whatever ends it."""

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        if not hasattr(signal, "SIGSTOP"):
            raise ConfigError("backend 'processes' needs a system that can freeze a process, as Linux and macOS can")
        self._disks: Dict[str, Saved] = {n: Saved() for n in plan.nodes}
        self._lives: Dict[str, Life] = {}
        self._counts: Dict[str, int] = dict.fromkeys(plan.nodes, 0)
        self._origin: Optional[float] = None
        self._dropped = 0
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._waiters = Waiters(self._changed)
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
            self._ring()
            return self._waiters.wait(self.now + seconds, condition, do, lambda: self._is_closed)

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
        except BaseException:  # whoever waits for this thread must learn that it has ended
            logger.exception("the lab has failed and is closed")
            with self._lock:
                self._is_closed = True
                self._changed.notify_all()
            raise

    def _turn(self) -> None:
        """Wait for members, for the bell, and for what is due next; deal with it."""
        with self._lock:
            sources: Dict[Any, Life] = {} if self._is_closed else {life.line: life for life in self._lives.values()}
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
        due = min(self.agenda.next_due, self._waiters.next_end)
        return min(max(0.0, (due - self.now) * self.plan.scale), _LONGEST_WAIT)

    def _do_what_is_due(self) -> None:
        self._waiters.look(self.now)
        while self._origin is not None and self.agenda.next_due <= self.now:
            self.agenda.do_next()
            self._waiters.look(self.now)

    # --- What members say -------------------------------------------------------------------------

    def _read(self, life: Life) -> None:
        """One thing that it says, or that it is gone."""
        if self._lives.get(life.n) is not life or self._is_closed:
            return  # it has been ended since
        if not life.hears_more():
            return  # `freeze` has heard it meanwhile, and a frozen process says nothing more for as long as one waits
        if not self._listen(life):
            was_well = not life.talks_nonsense
            self._bury(life)
            self._lose(life, "killed" if was_well and life.was_killed else "failed")
        self._waiters.look(self.now)

    def _listen(self, life: Life) -> bool:
        """Hear one thing; False if that was the last."""
        try:
            self._hear(life, life.line.receive())
        except (EOFError, OSError):
            return False
        except Exception:  # it is another process: it may say anything
            life.talks_nonsense = True
            logger.exception("what the process of %s says makes no sense, so it is ended", life.n)
            return False
        return True

    def _lose(self, life: Life, why: str) -> None:
        """It has ended of its own accord."""
        if life.has_begun:
            self.on_lost(life.n, why)
        else:
            self._begin()  # the others have waited for it

    def _hear(self, life: Life, content: Content) -> None:
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

    def _hear_step(self, life: Life, content: Content) -> None:
        flight = self._take_flight(life, content)
        step = wire.step_from_plain(life.n, content, None if flight is None else flight.message)
        self.recorder.step(life.n, step, flight)
        if not life.has_spoken:
            life.has_spoken = True
            self._changed.notify_all()

    def _take_flight(self, life: Life, content: Content) -> Optional[Flight]:
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
                self._counts[n] += 1
                self._lives[n] = Life(n, self._settings(n))

    def await_start(self, names: List[str]) -> None:
        with self._lock:
            lives = [self._lives[n] for n in names if n in self._lives]
            began = self._changed.wait_for(
                lambda: self._is_closed or all(life.has_spoken or life.has_ended for life in lives),
                _START_TAKES,
            )
            if self._is_closed:
                raise LabClosed("the lab was closed")
            failed = [life.n for life in lives if not life.has_spoken]
            if failed or not began:
                raise MemberStopped(f"the process of {', '.join(failed)} has not begun: what it said is above")

    def _settings(self, n: str) -> Content:
        plan = self.plan
        return {
            "n": n,
            "others": plan.others(n),
            "min_nodes": plan.min_nodes,
            "scale": plan.scale,
            "timing": asdict(plan.timing),
            **self._rules(),
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
                self.recorder.started(life.n, pid=life.pid)
                life.say(origin=self._origin, **self._rules())
        self._changed.notify_all()

    def end(self, n: str) -> None:
        """What it has said before is heard: it was on its way."""
        life = self._lives.pop(n)
        life.kill()
        while self._listen(life):
            pass
        self._bury(life)

    def _bury(self, life: Life) -> None:
        if self._lives.get(life.n) is life:
            del self._lives[life.n]
        life.bury()
        self._changed.notify_all()

    def forget(self, n: str) -> None:
        self._disks[n] = Saved()

    def freeze(self, n: str) -> None:
        """What it has said before it was frozen is heard before this returns."""
        life = self._lives[n]
        life.freeze()
        while self._lives.get(n) is life and life.hears_more():
            self._read(life)

    def thaw(self, n: str) -> None:
        self._lives[n].thaw()

    def pid(self, n: str) -> Optional[int]:
        life = self._lives.get(n)
        return None if life is None else life.pid

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
            if life.has_begun:
                life.say(do="rules", **self._rules())

    def _rules(self) -> Content:
        book = self.plan.book
        return {"rules": asdict(book.rules), "takeover_step": book.takeover_step}

    def close(self) -> int:
        with self._lock:
            self._is_closed = True
            for life in list(self._lives.values()):
                life.kill()
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
            life.abandon_after_fork()
        self._bell.close()
        self._rope.close()
