"""`raftlite run`: a command that runs while this member leads, and nowhere else.

    callbacks' thread ── elected, lost ──▶ ┌──────────────┐ ── start, lease, stop ──▶ guardian ──▶ the command
    signal handlers ── TERM, HUP, ... ───▶ │ Runner's loop│
    reader thread ── started, gone ──────▶ └──────────────┘ ◀────── started, gone ───────╛

The loop alone decides. `on_lost` does not return before the command is gone, and a member that hands over tells its
successor only then. Whether the lease still holds is the guardian's to know, a process of its own: guardian_process.py
starts it, guardian.py is what it runs.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import logging
import math
import os
import queue
import shutil
import signal
import sys
import threading
from typing import Any, List, NamedTuple, Optional, Tuple

from raftlite.clock import boot_clock
from raftlite.command.config import LONGEST_GRACE, ON_EXIT
from raftlite.command.guardian_process import PATIENCE, GuardianProcess
from raftlite.command.options import Settings, add_member, settings_from
from raftlite.command.output import EX_OK, EX_SOFTWARE, INTERRUPTED, Output, log_to_stderr
from raftlite.command.printer import LOOKS_EVERY, EventPrinter, LeaderlessLog
from raftlite.command.signals import SignalQueue
from raftlite.election import Role
from raftlite.errors import ConfigError
from raftlite.leadership import Leadership
from raftlite.member import Member
from raftlite.timing import Timing, is_number

NOT_FOUND, NOT_EXECUTABLE = 127, 126  # as shells say it
GRACE = 10.0  # seconds
SHORTEST_PAUSE, LONGEST_PAUSE = 0.5, 30.0  # seconds before a command that has ended by itself is started again


def add_run(commands: Any) -> None:
    run = commands.add_parser(
        "run",
        help="run a command while this member leads, and nowhere else",
        usage="raftlite run --id ID (--config FILE | --listen ADDRESS --peer ID=ADDRESS ...) [OPTION ...] -- "
        "COMMAND [ARGUMENT ...]",
        description="Take part as `raftlite node` does, and run COMMAND, without a shell, whenever this member leads. "
        "It finds RAFTLITE_TOKEN, RAFTLITE_NODE_ID and RAFTLITE_TERM among its variables. "
        "Exits as the command did where that ended it, 128+N for a signal; 127 and 126 if it cannot be run.",
    )
    add_member(run)
    run.add_argument(
        "--grace",
        type=float,
        metavar="SECONDS",
        help=f"between TERM and KILL (default {GRACE:g}); less where the lease ends before",
    )
    run.add_argument(
        "--on-exit",
        choices=ON_EXIT,
        help="when the command ends by itself: start it again after a growing pause (default), "
        "let another member lead, or end with its exit code",
    )
    run.add_argument("--json", action="store_true", help="print one JSON object per line, on standard error")
    run.add_argument("--verbose", action="store_true", help="log every change of role")
    run.add_argument("program", nargs=argparse.REMAINDER, metavar="-- COMMAND ...", help="what to run")
    run.set_defaults(run=run_command)


class Plan(NamedTuple):
    """How a command that is to end is treated. All are seconds."""

    grace: float  # between TERM and KILL, at most
    reserve: float  # before the end of the lease: TERM at the latest
    margin: float  # before the end of the lease: KILL at the latest

    @classmethod
    def of(cls, grace: float, timing: Timing) -> Plan:
        """What a lease has beyond one heartbeat is halved: in the first half it may be renewed after all."""
        spare = timing.election_timeout * (1 - timing.clock_drift) - timing.heartbeat_interval
        margin = min(spare / 8, 0.5)
        return cls(grace, min(grace + margin, spare / 2), margin)


def run_command(options: argparse.Namespace) -> int:
    """Carry out `raftlite run`."""
    command = options.program[1:] if options.program[:1] == ["--"] else options.program
    if not command:
        options.usage_error("the command is missing: write it after --")
    settings = settings_from(options)
    if not hasattr(os, "fork"):
        raise ConfigError("raftlite run needs a system that can fork, which this one cannot")
    _check_may_lead(settings)
    grace = _grace(settings.run.get("grace", GRACE) if options.grace is None else options.grace)
    on_exit = options.on_exit or settings.run.get("on_exit", "restart")
    problem = _why_not(command[0])
    if problem:
        return _refuse(*problem)
    member, plan = settings.member(), Plan.of(grace, settings.timing)
    with SignalQueue() as signals, Output(sys.stderr) as output, log_to_stderr(options.verbose):
        if settings.data_dir is None:
            logging.warning("%s: votes are kept in memory only; --data-dir DIR saves them", member.node_id)
        printer = EventPrinter(member, output, options.json)
        return Runner(member, settings.timing, command, plan, on_exit, printer, signals).run()


def _check_may_lead(settings: Settings) -> None:
    kind = "a witness" if settings.node_id in settings.witnesses else "" if settings.voter else "an observer"
    if kind:
        never = "which never leads, so that the command would never run here"
        raise ConfigError(f"{settings.node_id} is {kind}, {never}: start raftlite node instead")


def _grace(seconds: Any) -> float:
    if not is_number(seconds) or not 0 <= seconds <= LONGEST_GRACE:
        raise ConfigError(f"--grace is {seconds!r}, but must be a number from 0 to {LONGEST_GRACE:g} seconds")
    return float(seconds)


def _why_not(name: str) -> Optional[Tuple[int, str]]:
    """Why this command cannot be run here, so that this member had better not lead; found before it takes part."""
    if shutil.which(name) is not None:
        return None
    if os.path.dirname(name) and os.path.exists(name):
        return NOT_EXECUTABLE, f"{name} cannot be run: it is not executable"
    return NOT_FOUND, f"{name} cannot be run: not found"


def _refuse(code: int, reason: str) -> int:
    print(f"raftlite run: {reason}", file=sys.stderr)
    return code


class Runner:
    """Runs `command` while `member` leads. `signals` is where everything arrives that the loop decides about."""

    def __init__(
        self,
        member: Member,
        timing: Timing,
        command: List[str],
        plan: Plan,
        on_exit: str,
        printer: EventPrinter,
        signals: SignalQueue,
    ) -> None:
        self._member, self._command, self._plan, self._on_exit = member, command, plan, on_exit
        self._printer, self._timing = printer, timing
        self._leaderless = LeaderlessLog(timing.election_timeout)
        self._look_every = max(0.01, timing.heartbeat_interval / 4)  # at the lease
        self._happenings = signals.queue
        self._is_over = threading.Event()
        self._leadership: Optional[Leadership] = None
        self._waiting: List[threading.Event] = []  # callbacks that wait until the command is gone
        self._is_running = False  # from when the guardian is asked to start it until everything of it is gone
        self._pid = 0
        self._elected_at = self._started_at = 0.0
        self._has_warned = False
        self._start_at = 0.0  # not before
        self._pause = SHORTEST_PAUSE
        self._told = 0.0  # the end of the lease, as the guardian knows it
        self._insist_at = math.inf
        self._killed_for = ""  # stop or lease, where this process had to do it
        self._member_has_ended = False  # it has failed or was removed, as was printed
        self._ended_by: Optional[int] = None  # the signal that is to end this process
        self._code: Optional[int] = None  # the exit code of this process, once it is to end
        member.on_elected(lambda leadership: self._happenings.put(("elected", leadership)))
        member.on_lost(self._on_lost)

    def run(self) -> int:
        with GuardianProcess(self._plan, self._happenings) as self._guardian, self._member as member:
            self._guardian.hold(member.listener_fileno())
            self._printer.event("started", address=member.address)
            self._tell_of_short_grace()
            try:
                while self._code is None or self._is_running:
                    self._turn()
            finally:
                self._guardian.close()  # and with it the last copy of the listening socket that outlives the member
                self._let_go()
        return self._finish(self._code)

    def _tell_of_short_grace(self) -> None:
        grace, seconds = self._plan.grace, round(self._plan.reserve - self._plan.margin, 3)
        if seconds < grace:
            timeout = self._timing.election_timeout
            self._printer.event("grace", seconds=seconds, grace=grace, election_timeout=timeout)

    def _finish(self, code: int) -> int:
        if not self._member_has_ended:
            self._printer.event("stopped", code=code)
        return code

    def _on_lost(self, leadership: Leadership) -> None:
        """Runs on the callbacks' thread, and returns when the command is gone."""
        done = threading.Event()
        self._happenings.put(("lost", done))
        while not self._is_over.is_set() and not done.wait(LOOKS_EVERY):
            pass

    def _let_go(self) -> None:
        """Nothing runs any more, and nothing will: no callback needs to wait."""
        self._is_over.set()
        self._release_callbacks()
        with contextlib.suppress(queue.Empty):
            while True:
                what, *details = self._happenings.get_nowait()
                if what == "lost":
                    details[0].set()

    # --- The loop ---------------------------------------------------------------------------------

    def _turn(self) -> None:
        with contextlib.suppress(queue.Empty):
            what, *details = self._happenings.get(timeout=self._until_next_look())
            getattr(self, f"_{what}")(*details)
        self._renew()
        self._insist()
        self._start_if_due()
        if not self._is_running:
            self._release_callbacks()
            self._end_if_due()

    def _until_next_look(self) -> float:
        if self._is_running:
            return self._look_every
        if self._leadership is None:
            return LOOKS_EVERY
        return min(LOOKS_EVERY, max(0.01, self._start_at - boot_clock()))

    def _renew(self) -> None:
        """Tell the guardian until when the lease holds."""
        leadership = self._leadership
        if self._is_running and leadership is not None:
            until = boot_clock() + leadership.remaining  # rather too early, by the time that this line takes
            if until > self._told + 0.001 and leadership.valid:
                self._told = until
                self._guardian.tell("lease", until=until)

    def _start_if_due(self) -> None:
        leadership, now = self._leadership, boot_clock()
        if self._is_running or leadership is None or self._ended_by or self._code is not None or now < self._start_at:
            return
        remaining = leadership.remaining
        if remaining <= 0:
            return  # as `on_lost` is about to say
        if remaining <= self._plan.reserve:
            self._warn_of_short_lease(now, remaining)
            return
        self._told, self._is_running, self._started_at = now + remaining, True, now
        self._insist_at = math.inf
        token = str(leadership.token)
        variables = {"RAFTLITE_TOKEN": token, "RAFTLITE_TERM": token, "RAFTLITE_NODE_ID": self._member.node_id}
        self._guardian.tell("start", command=self._command, variables=variables, until=self._told)

    def _warn_of_short_lease(self, now: float, remaining: float) -> None:
        if not self._has_warned and now > self._elected_at + self._timing.election_timeout:
            self._has_warned = True
            logging.warning(
                "%s leads, but its lease is too short for the command: %.3f s are left of it, more than %.3f are "
                "needed; election_timeout must be the same on every member",
                *(self._member.node_id, remaining, self._plan.reserve),
            )

    def _stop(self) -> None:
        if self._is_running:
            self._guardian.tell("stop")
            self._insist_at = min(self._insist_at, boot_clock() + self._plan.grace + PATIENCE)

    def _insist(self) -> None:
        """The guardian has not done its part in time, perhaps because somebody has stopped it: this process does it."""
        now = boot_clock()
        ends_at = self._told - self._plan.margin / 2
        if self._is_running and now >= min(ends_at, self._insist_at):
            if self._pid:
                self._killed_for = self._killed_for or ("lease" if now >= ends_at else "stop")
                self._guardian.kill(self._pid)
            self._guardian.go_on()

    def _release_callbacks(self) -> None:
        for done in self._waiting:
            done.set()
        self._waiting.clear()

    def _end_if_due(self) -> None:
        status = self._member.status()
        if status.error or status.role is Role.STOPPED:
            self._member_has_ended = True
            self._printer.event("failed" if status.error else "removed", reason=status.error)
            self._code = EX_SOFTWARE if status.error else EX_OK
        elif self._ended_by and self._code is None:
            self._code = INTERRUPTED if self._ended_by == signal.SIGINT else EX_OK
        else:
            self._leaderless.look(status)

    # --- What happens -----------------------------------------------------------------------------

    def _elected(self, leadership: Leadership) -> None:
        self._leadership, self._elected_at = leadership, boot_clock()
        self._leaderless.look(self._member.status())  # which is not looked at while the command runs

    def _lost(self, done: threading.Event) -> None:
        self._leadership = None
        self._waiting.append(done)
        self._stop()

    def _end(self, number: int) -> None:
        """Still leading: the lease is renewed until the command is gone, and handed over only then."""
        self._ended_by = number
        if self._is_running:
            self._printer.event("ending", signal=signal.Signals(number).name)
            self._stop()

    def _pass_on(self, number: int) -> None:
        if self._is_running:
            self._guardian.tell("signal", number=number)

    def _started(self, pid: int) -> None:
        self._pid = pid
        self._printer.event("running", pid=pid)

    def _not_started(self) -> None:
        """Told to stop, or with hardly any lease left, before it began: the guardian had no time earlier."""
        self._is_running = False

    def _failed(self, number: int) -> None:
        """The command can no longer be run here: whoever else leads may find it."""
        self._is_running = False
        self._code = NOT_FOUND if number == errno.ENOENT else NOT_EXECUTABLE
        self._printer.event("no_command", command=self._command[0], reason=os.strerror(number))

    def _gone(self, pid: int, status: int, reason: str, killed: bool, left_behind: bool) -> None:
        if self._killed_for:  # of which the guardian knows nothing
            reason, killed = self._killed_for, True
        self._is_running, self._pid, self._killed_for = False, 0, ""
        code = _exit_code(status)
        how = _HOW[reason] + killed * " (killed)" + left_behind * _LEFT_BEHIND
        self._printer.event("ended", pid=pid, code=code, why=reason, killed=killed, how=how)
        if self._ended_by:
            self._code = self._code_after_signal(status, code)
        elif reason == "exit":
            self._after_exit(code)

    def _code_after_signal(self, status: int, code: int) -> int:
        if self._ended_by == signal.SIGINT:
            return INTERRUPTED
        did_as_told = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGTERM
        return EX_OK if did_as_told else code

    def _after_exit(self, code: int) -> None:
        if self._on_exit == "stop":
            self._code = code
            return
        now = boot_clock()
        if now - self._started_at >= LONGEST_PAUSE:
            self._pause = SHORTEST_PAUSE
        self._start_at = now + self._pause
        self._printer.event("pausing", seconds=self._pause)
        self._pause = min(2 * self._pause, LONGEST_PAUSE)
        if self._on_exit == "resign" and self._leadership is not None:
            self._member.resign()

    def _unguarded(self) -> None:
        """Somebody has killed the guardian. On Linux the command has gone with it; what it has started has not."""
        if self._is_running and self._pid:
            self._guardian.kill_what_is_left_of(self._pid)
        self._is_running = False
        self._printer.event("unguarded")
        self._code = EX_SOFTWARE


_LEFT_BEHIND = ", and so have the processes that it left behind: it should stay in the foreground"
_HOW = {"exit": "by itself", "stop": "as it was told to", "lease": "because the lease was running out"}


def _exit_code(status: int) -> int:
    return 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
