"""What may be done to the members and links of a lab. Each deed is recorded as a `fault` before what comes of it."""

from __future__ import annotations

import random
from dataclasses import asdict
from typing import Any, Callable, Iterable, List, Optional, Tuple, Union

from raftlite.errors import ConfigError
from raftlite.lab.links import Links, Pair
from raftlite.lab.recorder import Recorder
from raftlite.lab.rules import RuleBook, Rules, SetTimer
from raftlite.lab.stage import Stage
from raftlite.messages import PeerDown, Resign
from raftlite.timing import Timing, is_number

LONGEST = 86_400.0  # seconds of anything that a lab is asked for
SLOWEST, FASTEST = 1_000.0, 0.001  # seconds that one of the cluster's may take
LEAST_DELAY = 0.000_1  # or two members could go on for ever in the same instant

Delay = Union[float, Tuple[float, float]]


class Faults:
    """The deeds of a `Lab`. Any thread may call them; each takes effect between two steps of the members.

    `by` says in the trace who did it. Unless it says otherwise a deed returns when it is done, raises `ConfigError` for
    an argument that makes no sense, `LabClosed` after `close`, and does nothing where there is nothing to do.
    """

    nodes: List[str]
    timing: Timing
    _stage: Stage
    _links: Links
    _recorder: Recorder
    _book: RuleBook
    _proof: bool
    _random: random.Random

    # --- Members ----------------------------------------------------------------------------------

    def kill(self, n: str, *, by: str = "api") -> None:
        """`kill -9`: what `n` had saved is all that is left. With `proof`, its peers learn that the process is gone."""
        with self._stage.quiet():
            if self._is_up(n):
                self._fault("kill", by, n)
                self._go_down(n, "killed")
                self._prove_death(n)

    def power(self, n: str, *, by: str = "api") -> None:
        """The power fails: as `kill`, but nobody can tell it from a cut cable, so there is never any proof."""
        with self._stage.quiet():
            if self._is_up(n):
                self._fault("power", by, n)
                self._go_down(n, "power")

    def start(self, n: str, *, by: str = "api") -> None:
        """Start `n` again, with the votes that it had saved."""
        with self._stage.quiet():
            if not self._is_up(n):
                self._fault("start", by, n)
                self._stage.start([n])
        self._stage.await_start([n])

    def freeze(self, n: str, *, by: str = "api") -> None:
        """SIGSTOP: `n` does nothing, and does not know it; its clock goes on and what it is sent waits."""
        with self._stage.quiet():
            if self._is_up(n) and not self._recorder.view.nodes[n].is_paused:
                self._fault("freeze", by, n)
                self._stage.freeze(n)
                if self._is_up(n):  # else it has ended in this very moment
                    self._recorder.record("pause", n)

    def thaw(self, n: str, *, by: str = "api") -> None:
        """SIGCONT: `n` hears what has waited and looks at its clock."""
        with self._stage.quiet():
            if self._is_up(n) and self._recorder.view.nodes[n].is_paused:
                self._fault("thaw", by, n)
                self._recorder.record("resume", n)
                self._stage.thaw(n)

    def wipe(self, n: str, *, by: str = "api") -> None:
        """The disk of `n` is lost, and with it how it voted. If it runs it is killed first, and stays down."""
        with self._stage.quiet():
            is_up = self._is_up(n)
            self._fault("wipe", by, n)
            if is_up:
                self._go_down(n, "killed")
                self._prove_death(n)
            self._stage.forget(n)

    def time_out(self, n: str, *, by: str = "api") -> None:
        """The election timer of `n` runs out now. A leader has none."""
        with self._stage.quiet():
            if self._is_up(n) and self._role(n) != "leader":
                self._fault("time_out", by, n)
                self._stage.tell(n, SetTimer(self._stage.now, "timer run out by hand"))

    def resign(self, n: str, *, by: str = "api") -> None:
        """The program of `n` gives leadership up, if it has it, and lets the others campaign first."""
        with self._stage.quiet():
            if self._is_up(n):
                self._fault("resign", by, n)
                self._stage.tell(n, Resign())

    def align(self, nodes: Union[int, Iterable[str]], at: Optional[float] = None, *, by: str = "api") -> None:
        """Let the election timers of `nodes` (or of so many members) run out at the same instant.

        It waits until nothing is on its way that could set one of them anew, and puts the timers of all others off
        until an election timeout later, so that nobody interferes. `at` is that instant; by default it comes an
        election timeout from then, when no voter refuses any more because it has heard a leader. Raises `TimeoutError`
        if messages are always on their way, as they are while a leader is heard.
        """
        chosen = self._check_aligned(nodes)

        def is_calm() -> bool:
            return self._links.is_quiet and not any(self._hears_leader(n) for n in chosen)

        if self._stage.is_stopped and not self._links.is_quiet:
            raise ConfigError("the clock is stopped, so what is on its way never arrives: play() first")

        def set_timers() -> None:
            now = self._stage.now
            instant = now + self.timing.election_timeout if at is None else max(at, now)
            self._fault("align", by, nodes=chosen, at=instant)
            for n in self._with_timer():
                if n in chosen:
                    self._stage.tell(n, SetTimer(instant, "timer aligned by hand"))
                else:
                    late = instant + self.timing.election_timeout * (1 + self._random.random())
                    self._stage.tell(n, SetTimer(late, "timer put off by hand"))

        patience = 4 * self.timing.election_timeout + 2 * self._links.slowest
        if not self._stage.wait(patience, is_calm, set_timers):
            raise TimeoutError(
                f"for {patience:g} s on end there was a leader, or a message on its way, that sets timers anew: "
                "stop the leader first, or cut it off"
            )

    def spread(self, nodes: Optional[Iterable[str]] = None, *, by: str = "api") -> None:
        """Set the election timers of `nodes` (default: all) so far apart that they are unlikely to meet."""
        with self._stage.quiet():
            chosen = {self._check(n) for n in (self.nodes if nodes is None else nodes)}
            names = [n for n in self._with_timer() if n in chosen]
            order = sorted(names, key=lambda _: self._random.random())
            self._fault("spread", by, nodes=names)
            timeout = self.timing.election_timeout
            for place, n in enumerate(order):
                at = self._stage.now + timeout * (1 + place / len(order))
                self._stage.tell(n, SetTimer(at, "timers spread by hand"))

    def set_rules(self, rules: Rules, *, by: str = "api") -> None:
        """Other rules hold for all members from now on."""
        if not isinstance(rules, Rules):
            raise ConfigError(f"rules is {rules!r:.100}, but must be Rules(...)")
        with self._stage.quiet():
            self._fault("rules", by, rules=asdict(rules))
            self._book.rules = rules
            self._stage.apply_rules()

    # --- Links ------------------------------------------------------------------------------------

    def cut(self, a: str, b: str, both: bool = True, *, by: str = "api") -> None:
        """Nothing gets from `a` to `b` any more, nor with `both` the other way; what is on its way is lost."""
        with self._stage.quiet():
            pairs = self._pairs(a, b, both)
            self._fault("cut", by, a=a, b=b, both=both)
            self._links.cut_off(pairs)

    def mend(self, a: str, b: str, both: bool = True, *, by: str = "api") -> None:
        """Undo a cut from `a` to `b`, and with `both` the other way."""
        with self._stage.quiet():
            pairs = self._pairs(a, b, both)
            self._fault("mend", by, a=a, b=b, both=both)
            self._links.mend(pairs)

    def partition(self, *groups: Iterable[str], by: str = "api") -> None:
        """Members hear only those of their own group; who is in none hears nobody. Replaces what was cut before."""
        sides = [sorted(self._check(n) for n in group) for group in groups]
        named = [n for side in sides for n in side]
        if len(set(named)) != len(named):
            raise ConfigError(f"the groups are {sides!r}, but a member can be in one only")
        with self._stage.quiet():
            self._fault("partition", by, groups=sides)
            whole = {(a, b) for side in sides for a in side for b in side}
            every = {(a, b) for a in self.nodes for b in self.nodes if a != b}
            self._links.cut &= every - whole
            self._links.cut_off(every - whole)

    def heal(self, *, by: str = "api") -> None:
        """Every link is whole again, and as fast as the others."""
        with self._stage.quiet():
            self._fault("heal", by)
            self._links.heal()

    def delay(self, seconds: Delay, *, by: str = "api") -> None:
        """A message takes so long from now on: seconds, or a range from which the time of each is drawn."""
        least, most = check_delay(seconds)
        with self._stage.quiet():
            self._fault("delay", by, delay=[least, most])
            self._links.delay = (least, most)
            self._links.record()
            self._book.takeover_step = takeover_step(most)
            self._stage.apply_rules()

    def shape(self, sender: str, receiver: str, seconds: Optional[float], *, by: str = "api") -> None:
        """Whatever goes from `sender` to `receiver` takes exactly so long from now on, until `heal` or, here, None."""
        length = None if seconds is None else check_delay(seconds)[0]
        with self._stage.quiet():
            pair = self._pairs(sender, receiver, both=False)[0]
            self._fault("delay", by, a=sender, b=receiver, delay=None if length is None else [length, length])
            self._links.shape.pop(pair, None)
            if length is not None:
                self._links.shape[pair] = length
            self._links.record()

    def loss(self, share: float, *, by: str = "api") -> None:
        """This share of the messages is lost by chance from now on."""
        check_loss(share)
        with self._stage.quiet():
            self._fault("loss", by, loss=share)
            self._links.loss = share
            self._links.record()

    def drop(self, m: int, *, by: str = "api") -> None:
        """Lose message `m`, which is in flight."""
        self._touch("drop", m, by, self._links.drop)

    def hold(self, m: int, *, by: str = "api") -> None:
        """Stop message `m` on its way, until `release` or `drop`."""
        self._touch("hold", m, by, self._links.hold)

    def release(self, m: int, *, by: str = "api") -> None:
        """Let message `m`, which is held, go on."""
        self._touch("release", m, by, self._links.release)

    def duplicate(self, m: int, *, by: str = "api") -> None:
        """Let message `m`, which is in flight, arrive once more."""
        with self._stage.quiet():
            self._fault("duplicate", by, m=m, copy=self._links.next_copy(m))
            self._links.duplicate(m)

    # --- Helpers ----------------------------------------------------------------------------------

    def _fault(self, op: str, by: str, n: Optional[str] = None, **arguments: Any) -> None:
        self._recorder.record("fault", n, op=op, by=by, **arguments)

    def _touch(self, op: str, m: int, by: str, do: Callable[[int], None]) -> None:
        with self._stage.quiet():
            self._links.flying(m)
            self._fault(op, by, m=m)
            do(m)

    def _go_down(self, n: str, why: str) -> None:
        self._stage.end(n)
        self._recorder.stopped(n, why)
        self._links.close_down(n)

    def _lost(self, n: str, why: str) -> None:
        """A member has ended without being told to: its thread failed, or somebody else has killed its process."""
        self._recorder.stopped(n, why)
        self._links.close_down(n)
        if why == "killed":
            self._prove_death(n)

    def _prove_death(self, dead: str) -> None:
        """The system tells the peers that the process is gone, as fast as a message of it would have been."""
        if not self._proof:
            return
        life = self._recorder.view.nodes[dead].inc
        for peer in self.nodes:
            if peer != dead and (dead, peer) not in self._links.cut:
                due = self._stage.now + self._links.seconds(dead, peer)
                due = max(due, self._links.last_due(dead, peer))  # a connection ends after all that was sent over it
                self._stage.agenda.at(due, self._proof_for(peer, dead, life))

    def _proof_for(self, peer: str, dead: str, life: int) -> Callable[[], None]:
        def tell() -> None:
            if self._recorder.view.nodes[dead].inc == life:  # else it is back, and only that could be told
                self._stage.tell(peer, PeerDown(dead))

        return tell

    def _is_up(self, n: str) -> bool:
        return self._recorder.view.nodes[self._check(n)].is_up

    def _role(self, n: str) -> str:
        return self._recorder.view.nodes[n].role

    def _hears_leader(self, n: str) -> bool:
        reach = (other for other in self.nodes if other != n and (other, n) not in self._links.cut)
        return any(self._is_up(other) and self._role(other) == "leader" for other in reach)

    def _with_timer(self) -> List[str]:
        """The members that have an election timer: those that run and do not lead."""
        return [n for n in self.nodes if self._is_up(n) and self._role(n) != "leader"]

    def _check_aligned(self, nodes: Union[int, Iterable[str]]) -> List[str]:
        able = [n for n in self._with_timer() if not self._recorder.view.nodes[n].is_paused]
        if isinstance(nodes, int):
            chosen = able[:nodes]
            if len(chosen) < nodes:
                raise ConfigError(f"{nodes} timers are to be aligned, but only {len(able)} members have one")
            return chosen
        chosen = [self._check(n) for n in nodes]
        for n in chosen:
            if n not in able:
                raise ConfigError(f"{n} has no election timer now: it leads, is frozen or does not run")
        return chosen

    def _pairs(self, a: str, b: str, both: bool) -> List[Pair]:
        if self._check(a) == self._check(b):
            raise ConfigError(f"{a} has no link to itself")
        return [(a, b), (b, a)] if both else [(a, b)]

    def _check(self, n: str) -> str:
        if n not in self.nodes:
            raise ConfigError(f"{n!r} is no member: they are {', '.join(self.nodes)}")
        return n


def takeover_step(slowest: float) -> float:
    """A takeover pauses for milliseconds where links are faster than that; here, for more than a round trip."""
    return 2.2 * slowest


def check_delay(seconds: Any) -> Tuple[float, float]:
    """The least and the most of a delay. Raises `ConfigError`."""
    least, most = seconds if isinstance(seconds, (tuple, list)) and len(seconds) == 2 else (seconds, seconds)
    for value in (least, most):
        if not is_number(value) or not LEAST_DELAY <= value <= LONGEST:
            raise ConfigError(
                f"delay is {seconds!r}, but must be {LEAST_DELAY:g} to {LONGEST:g} seconds, or two of them"
            )
    if least > most:
        raise ConfigError(f"delay is {seconds!r}, but the first of two must not be above the second")
    return float(least), float(most)


def check_loss(share: Any) -> float:
    """Raises `ConfigError`."""
    if not is_number(share) or not 0 <= share <= 1:
        raise ConfigError(f"loss is {share!r}, but must be a share from 0 to 1")
    return float(share)


def check_scale(scale: Any) -> float:
    """Raises `ConfigError`."""
    if not is_number(scale) or not FASTEST <= scale <= SLOWEST:
        raise ConfigError(f"scale is {scale!r}, but must be {FASTEST:g} to {SLOWEST:g}")
    return float(scale)
