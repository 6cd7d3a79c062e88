"""The faults: each brings itself about, says what it did, and lasts until the runner heals everything.

Each is a generator: what comes before its `yield` begins the fault, what comes after it is done just before the heal.
The network, paused and dead processes and full disks are healed by the runner; a fault undoes only what else it did.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import Callable, Dict, Iterator, List, Sequence

from raftlite.clock import boot_clock

from .cluster import ENDS_WITHIN, Cluster
from .links import Weather


@dataclass
class Scene:
    """What a fault is given."""

    cluster: Cluster
    rng: random.Random
    seconds: float  # for how long it will last

    @property
    def node_ids(self) -> List[str]:
        return self.cluster.node_ids

    def leader(self) -> str:
        """Who leads, or if nobody does, anybody."""
        return self.cluster.leader() or self.rng.choice(self.node_ids)

    def shuffled(self) -> List[str]:
        return self.rng.sample(self.node_ids, len(self.node_ids))

    def leader_more_often(self) -> str:
        """The leader, or as often anybody."""
        return self.leader() if self.rng.random() < 0.5 else self.rng.choice(self.node_ids)


Fault = Callable[[Scene], Iterator[str]]
FAULTS: Dict[str, Fault] = {}


def fault(name: str) -> Callable[[Fault], Fault]:
    def register(begin: Fault) -> Fault:
        FAULTS[name] = begin
        return begin

    return register


# --- The network ------------------------------------------------------------------------------------------------------


@fault("partition, even")
def partition_even(scene: Scene) -> Iterator[str]:
    ids = scene.shuffled()
    half = len(ids) // 2
    scene.cluster.network.split(ids[:half], ids[half:])
    yield f"{' '.join(sorted(ids[:half]))} | {' '.join(sorted(ids[half:]))}"


@fault("partition, one-way")
def partition_one_way(scene: Scene) -> Iterator[str]:
    """Nobody hears a member that hears everybody, or the other way round, or one does not hear one."""
    one = scene.leader_more_often()
    others = [node_id for node_id in scene.node_ids if node_id != one]
    kind = scene.rng.choice(["is not heard", "hears nobody", "is not heard by"])
    if kind == "is not heard by":
        others = [scene.rng.choice(others)]
    scene.cluster.network.cut((other, one) if kind == "hears nobody" else (one, other) for other in others)
    yield f"{one} {kind}" + (f" {others[0]}" if kind == "is not heard by" else "")


@fault("partition, bridge")
def partition_bridge(scene: Scene) -> Iterator[str]:
    """Two halves that know of each other only through one member between them."""
    bridge, *ids = scene.shuffled()
    half = len(ids) // 2
    for one in ids[:half]:
        for other in ids[half:]:
            scene.cluster.network.cut([(one, other), (other, one)])
    yield f"{' '.join(sorted(ids[:half]))} - {bridge} - {' '.join(sorted(ids[half:]))}"


@fault("partition, leader alone")
def partition_leader(scene: Scene) -> Iterator[str]:
    leader = scene.leader()
    scene.cluster.network.split([node_id for node_id in scene.node_ids if node_id != leader])
    yield f"{leader} alone"


@fault("partition, everybody alone")
def partition_all(scene: Scene) -> Iterator[str]:
    scene.cluster.network.split()
    yield "all"


@fault("delay and jitter")
def delay(scene: Scene) -> Iterator[str]:
    """1 to 200 ms each way, short ones as often as long ones."""
    seconds = 0.001 * 200 ** scene.rng.random()
    jitter = seconds * scene.rng.random()
    scene.cluster.network.set_weather(Weather(seconds, jitter))
    yield f"{1000 * seconds:.0f} ms, +- {1000 * jitter:.0f} ms"


@fault("loss")
def loss(scene: Scene) -> Iterator[str]:
    """1 to 30 %, little as often as much."""
    share = 0.01 * 30 ** scene.rng.random()
    scene.cluster.network.set_weather(Weather(loss=share))
    yield f"{100 * share:.0f} %"


@fault("delay, loss and a partition")
def storm(scene: Scene) -> Iterator[str]:
    weather = Weather(0.05 * scene.rng.random(), 0.02 * scene.rng.random(), 0.3 * scene.rng.random())
    scene.cluster.network.set_weather(weather)
    cut = next(partition_one_way(scene))
    yield f"{1000 * weather.delay:.0f} ms, {100 * weather.loss:.0f} %, {cut}"


# --- The processes ----------------------------------------------------------------------------------------------------


@fault("SIGSTOP, SIGCONT")
def pause(scene: Scene) -> Iterator[str]:
    """Longer than the lease; the leader, or a few at once."""
    paused = [scene.leader()] if scene.rng.random() < 0.6 else scene.shuffled()[: (len(scene.node_ids) + 1) // 2]
    for node_id in paused:
        scene.cluster.pause(node_id)
    yield " ".join(paused)


@fault("kill and restart, again and again")
def kill_loop(scene: Scene) -> Iterator[str]:
    """The leader or anybody, and started again at once or a moment later."""
    killed = []
    until = time.monotonic() + scene.seconds
    while not killed or time.monotonic() < until:
        victim = scene.leader_more_often()
        scene.cluster.kill(victim)
        killed.append(victim)
        time.sleep(scene.rng.choice([0.0, 0.0, 0.05, 0.3]))
        scene.cluster.start(victim)
        time.sleep(scene.rng.uniform(0.0, 0.5))
    yield " ".join(killed)


@fault("kill all, restart all")
def kill_all(scene: Scene) -> Iterator[str]:
    for node_id in scene.shuffled():
        scene.cluster.kill(node_id)
    yield "all"


@fault("restart in peace")
def restart(scene: Scene) -> Iterator[str]:
    leader = scene.leader()
    scene.cluster.restart(leader)
    yield f"{leader}, which may hand over"


# --- The machine ------------------------------------------------------------------------------------------------------


@fault("disk full")
def disk_full(scene: Scene) -> Iterator[str]:
    """No write to a file succeeds any more (RLIMIT_FSIZE), and then everybody has a vote to save."""
    victim = scene.leader_more_often()
    scene.cluster.fill_the_disk(victim)
    life = scene.cluster.lives[victim]
    rounds = 0
    # Whoever loses its vote's disk must say so and end; until then, have one election after the other.
    until = time.monotonic() + ENDS_WITHIN
    while life.is_alive and time.monotonic() < until:
        leader = scene.cluster.leader()
        if leader is not None and scene.cluster.lives[leader].is_alive:
            scene.cluster.lives[leader].tell("resign")
            rounds += 1
        scene.cluster.wait(lambda: None if life.is_alive else True, 0.3)
    if life.is_alive or not life.last_failure():
        scene.cluster.troubles.append(f"{life.name} could not save, and did not end with an error")
    others = scene.cluster.wait(scene.cluster.leader, scene.seconds)
    yield f"{victim} ended visibly after {rounds} elections; {others or 'nobody'} led without it"


@fault("busy cores")
def busy(scene: Scene) -> Iterator[str]:
    """A process on every core that does nothing but run, as long as this one lives."""
    program = f"import os\nwhile os.getppid() == {os.getpid()}: sum(range(10**6))"
    cores = os.cpu_count() or 1
    spinning = [subprocess.Popen([sys.executable, "-c", program]) for _ in range(cores)]
    try:
        yield f"{cores} of them"
    finally:
        for process in spinning:
            process.kill()
            process.wait()


@fault("clock step")
def clock_step(scene: Scene) -> Iterator[str]:
    """The wall clock of the whole machine jumps, and back."""
    ahead = time.clock_gettime(time.CLOCK_REALTIME) - boot_clock()
    step = scene.rng.choice([-3_600.0, -60.0, 60.0, 3_600.0, 86_400.0])
    try:
        time.clock_settime(time.CLOCK_REALTIME, boot_clock() + ahead + step)
        yield f"by {step:+.0f} s"
    finally:
        time.clock_settime(time.CLOCK_REALTIME, boot_clock() + ahead)


def missing_here(steps_clock: bool) -> Dict[str, str]:
    """Which faults cannot be had here, and why."""
    missing = {}
    if not steps_clock:
        missing["clock step"] = "it would move the clock of the whole machine: ask for it with --step-clock"
    elif not hasattr(time, "clock_settime") or getattr(os, "geteuid", lambda: 1)() != 0:
        missing["clock step"] = "setting the clock needs root"
    return missing


def schedule(names: Sequence[str], rng: random.Random) -> Iterator[str]:
    """All of them in a drawn order, then all again in another."""
    while True:
        yield from rng.sample(list(names), len(names))
