"""`Lab`: a cluster to watch and to break, with a recording of all that happens.

Lab ─ records the fault ─▶ Trace ◀─ Recorder ◀─ Step ─┐
 └─ makes it happen ─────▶ Stage: the members ────────┴─▶ Links ─▶ Trace
"""

from __future__ import annotations

import os
import random
import sys
import time
from dataclasses import asdict
from types import TracebackType
from typing import Any, Dict, List, Optional, Type, Union

from raftlite.errors import ConfigError, StaleToken
from raftlite.fencing import FencingGate
from raftlite.lab.faults import LONGEST, Delay, Faults, check_delay, check_loss, check_scale, takeover_step
from raftlite.lab.links import Links
from raftlite.lab.recorder import Recorder
from raftlite.lab.rules import ALL_RULES, RuleBook, Rules
from raftlite.lab.stage import Condition, Plan, Stage
from raftlite.lab.trace import NodeView, Trace, TraceFile, View
from raftlite.timing import Timing, check_timing, is_number

CLASSROOM = Timing(heartbeat_interval=1.0, election_timeout=3.0, message_timeout=1.0)
"""Slow enough to be followed by eye."""

BACKENDS = ("threads", "virtual", "processes")
MOST_NODES = 25


class Lab(Faults):
    """Starts `nodes` members, n1, n2 and so on, and records them until it is closed. Also a context manager.

    All times are seconds of the cluster, each of which takes `scale` seconds. `backend` says what the members are:
    "threads" are real `ElectionThread`s on a clock that may be stopped, stepped and scaled; "processes" are processes
    of the system, which can really be killed and frozen, and whose clock cannot be stopped; "virtual" has neither
    threads nor real time, moves on while somebody waits and gives the same trace for the same `seed`.

    `delay` and `loss` are those of the links, `rules` those of the election. With `proof` the peers of a killed member
    learn that its process is gone, as they do with raftlite's own connections. `scene` is named in the trace, which is
    written to `path` as well if that is given.

    Raises `ConfigError` for settings out of bounds, `OSError` where `path` cannot be written.
    """

    def __init__(
        self,
        nodes: int = 5,
        *,
        backend: str = "threads",
        seed: int = 0,
        scale: float = 1.0,
        timing: Timing = CLASSROOM,
        delay: Delay = (0.4, 0.6),
        loss: float = 0.0,
        rules: Rules = ALL_RULES,
        proof: bool = False,
        scene: Optional[str] = None,
        path: Optional[Union[str, os.PathLike[str]]] = None,
    ) -> None:
        if not isinstance(nodes, int) or not 1 <= nodes <= MOST_NODES:
            raise ConfigError(f"nodes is {nodes!r}, but must be a whole number from 1 to {MOST_NODES}")
        if backend not in BACKENDS:
            raise ConfigError(f"backend is {backend!r}, but must be one of {', '.join(BACKENDS)}")
        if not isinstance(rules, Rules):
            raise ConfigError(f"rules is {rules!r:.100}, but must be Rules(...)")
        if not isinstance(seed, int):
            raise ConfigError(f"seed is {seed!r:.100}, but must be a whole number")
        self.nodes: List[str] = [f"n{number}" for number in range(1, nodes + 1)]
        self.backend, self.seed, self.timing = backend, seed, check_timing(timing)
        least, most = check_delay(delay)
        self._proof = bool(proof)
        self._book = RuleBook(rules, takeover_step(most))
        self._random = random.Random(f"{seed} lab")
        self._gate = FencingGate("the resource")
        plan = Plan(tuple(self.nodes), seed, timing, check_scale(scale), self._book)
        self._stage: Stage = self._make_stage(plan)
        self.trace = Trace(self._header(plan, (least, most), check_loss(loss), scene))
        self._recorder = Recorder(self.trace, lambda: self._stage.now)
        self._links = Links(self._recorder, self._stage.agenda, lambda: self._stage.now, self._stage.deliver, seed)
        self._links.delay, self._links.loss = (least, most), loss
        self._file = None if path is None else TraceFile(self.trace, path)
        try:
            self._stage.open(self._links, self._recorder, self._lost)
            with self._stage.quiet():
                self._links.record()
                self._stage.start(self.nodes)
            self._stage.await_start(self.nodes)
        except BaseException:  # Ctrl-C, too, leaves no member behind
            self.close()
            raise

    def _make_stage(self, plan: Plan) -> Stage:
        return _stage_of(self.backend, plan)

    def _header(self, plan: Plan, delay: Any, loss: float, scene: Optional[str]) -> Dict[str, Any]:
        timing, rules = plan.timing, plan.book.rules
        longest = timing.election_timeout * (1 + rules.jitter)
        return {
            "raftlite": sys.modules["raftlite"].__version__,  # its public names are none of this module's affair
            "created": None if self.backend == "virtual" else time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "backend": self.backend,
            "scale": plan.scale,
            "seed": plan.seed,
            "nodes": self.nodes,
            "config": {
                "heartbeat": timing.heartbeat_interval,
                "election": [timing.election_timeout, longest],
                "delay": delay,
                "loss": loss,
                "proof": self._proof,
                "majority": len(self.nodes) // 2 + 1,
                **asdict(rules),
            },
            "scene": scene,
        }

    def close(self) -> None:
        """End everything. Whoever waits gets `LabClosed`; the trace stays. Twice is fine."""
        dropped = self._stage.close()
        if self._file is not None:
            self._file.close(dropped)

    def __enter__(self) -> Lab:
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self.close()

    @property
    def unwritten(self) -> str:
        """Why the recording is not written to its file any more, as a sentence; empty while all is well."""
        return "" if self._file is None else self._file.trouble

    # --- What is to be seen -----------------------------------------------------------------------

    @property
    def now(self) -> float:
        """Seconds of the cluster's clock since the start."""
        return self._stage.now

    @property
    def rules(self) -> Rules:
        """The rules that hold now."""
        return self._book.rules

    @property
    def delay_range(self) -> Any:
        """How long a message takes, in seconds: the least and the most."""
        return self._links.delay

    @property
    def loss_rate(self) -> float:
        """The share of the messages that is lost by chance."""
        return self._links.loss

    def leader(self) -> Optional[str]:
        """The member whose lease holds now; if several believe so, the one of the latest term. None if nobody leads."""
        return self._recorder.view.leader_at(self.now)

    def state(self, n: str) -> NodeView:
        """The member as its last record shows it."""
        return self._recorder.view.nodes[self._check(n)]

    def is_up(self, n: str) -> bool:
        """Whether its process runs; it may be frozen."""
        return self.state(n).is_up

    def is_paused(self, n: str) -> bool:
        """Whether it is frozen."""
        return self.state(n).is_paused

    def pid(self, n: str) -> Optional[int]:
        """The process of a member that runs, with backend "processes": whoever kills it there is noticed here."""
        return self._stage.pid(self._check(n))

    def view(self) -> View:
        """The whole cluster as it is now."""
        return self._stage.look(self._recorder.view.copy)

    # --- Notes and checks -------------------------------------------------------------------------

    def note(self, text: str, by: str = "api", kind: str = "note") -> None:
        """Write a remark into the trace."""
        with self._stage.quiet():
            self._recorder.record("note", text=text, by=by, kind=kind)

    def check(self, name: str, ok: bool, why: str = "") -> None:
        """Write into the trace whether something holds that ought to."""
        with self._stage.quiet():
            self._recorder.record("check", name=name, ok=bool(ok), why=why)

    def act(self, n: str) -> bool:
        """The program of `n` writes to the lab's one resource, with the token of the grant that it was given last.

        It looks neither at its lease nor at the clock. The resource refuses a token older than the newest it has seen.
        """
        with self._stage.quiet():
            token = self._recorder.tokens.get(n)
            why = self._why_not_written(self._check(n), token)
            self._recorder.record("act", n, by=n, token=token, ok=not why, why=why)
            return not why

    def _why_not_written(self, n: str, token: Optional[int]) -> str:
        if not self.is_up(n):
            return f"{n} does not run"
        if self.is_paused(n):
            return f"{n} is frozen"
        if token is None:
            return f"{n} has never led"
        try:
            self._gate.check(token)
        except StaleToken as error:
            return str(error)
        return ""

    # --- The clock --------------------------------------------------------------------------------

    @property
    def is_clock_paused(self) -> bool:
        """Whether the cluster's clock stands still."""
        return self._recorder.view.is_clock_paused

    @property
    def seconds_per_second(self) -> float:
        """How many seconds a second of the cluster takes."""
        return self._recorder.view.scale

    def pause(self) -> None:
        """Stop the cluster's clock: nothing happens any more. Raises `ConfigError` with processes."""
        self._set_clock("pause", lambda: self._stage.pause())

    def play(self) -> None:
        """Let the clock go on."""
        self._set_clock("play", lambda: self._stage.play())

    def step(self, seconds: Optional[float] = None) -> None:
        """Stop the clock, then let it go on by `seconds`, or to the next thing that happens."""
        if not self.is_clock_paused:
            self.pause()
        with self._stage.quiet():
            self._recorder.record("clock", op="step", scale=self._recorder.view.scale)
        self._stage.step(None if seconds is None else _check_seconds(seconds))

    def scale(self, scale: float, *, by: str = "api") -> None:
        """From now on a second of the cluster takes `scale` seconds. Raises `ConfigError` with processes."""
        with self._stage.quiet():
            self._stage.set_scale(check_scale(scale))
            self._fault("scale", by, scale=scale)
            self._recorder.record("clock", op="scale", scale=scale)

    def _set_clock(self, op: str, do: Any) -> None:
        with self._stage.quiet():
            do()
            if self.is_clock_paused != (op == "pause"):
                self._recorder.record("clock", op=op, scale=self._recorder.view.scale)

    # --- Waiting ----------------------------------------------------------------------------------

    def wait(self, seconds: float) -> None:
        """Wait for so many seconds of the cluster's clock. Raises `LabClosed`, as all of these do."""
        self._stage.wait(_check_seconds(seconds))

    def wait_for(self, condition: Condition, seconds: float) -> bool:
        """Wait until `condition` holds, looking at it after everything that happens; False if it does not in time.

        It may read the lab, and must do nothing to it: it is called while everything stands still.
        """
        return self._stage.wait(_check_seconds(seconds), condition)

    def elected(self, term_above: int = 0, seconds: Optional[float] = None) -> str:
        """Wait until somebody leads in a term above that one, and return its id. Raises `TimeoutError`."""
        limit = 20 * self.timing.election_timeout if seconds is None else seconds
        if not self.wait_for(lambda: self._leader_above(term_above) is not None, limit):
            raise TimeoutError(f"nobody has been elected in a term above {term_above} within {limit:g} s")
        found = self._leader_above(term_above)
        return found if found is not None else self.elected(term_above, seconds)

    def _leader_above(self, term: int) -> Optional[str]:
        leader = self.leader()
        return leader if leader is not None and self.state(leader).term > term else None


def _stage_of(backend: str, plan: Plan) -> Stage:
    if backend == "virtual":
        from raftlite.lab.virtual import VirtualStage

        return VirtualStage(plan)
    if backend == "threads":
        from raftlite.lab.threads import ThreadStage

        return ThreadStage(plan)
    from raftlite.lab.processes import ProcessStage

    return ProcessStage(plan)


def _check_seconds(seconds: float) -> float:
    if not is_number(seconds) or not 0 <= seconds <= LONGEST:
        raise ConfigError(f"seconds is {seconds!r}, but must be a number from 0 to {LONGEST:g}")
    return seconds
