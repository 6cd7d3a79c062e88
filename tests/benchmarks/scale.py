"""How everything grows with the number of members: `python -m benchmarks.scale [--svg FILE] [--json]`.

As threads of one process (`ElectionThread` and `QueueNode`), as processes (`Member`, Unix sockets, saved votes), and on
a virtual clock, where a message takes half a millisecond to two. Timing is the library's default: heartbeats every
0.1 s, timeouts of one to two seconds. One is elected once all know it, and replaced once the next one leads: after it
went silent among threads and on the virtual clock, and after `kill -9` among processes. Messages of processes are not
counted: the rules are the same, and so are they.
"""

from __future__ import annotations

import argparse
import json
import math
import queue
import statistics
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence, Set

from raftlite import ElectionThread, MemoryStorage, NodeInfo, QueueNode, Timing
from raftlite.election import Election, Role, Saved
from raftlite.messages import Heartbeat, HeartbeatResponse
from raftlite.simulation.exploration import Bounds, Explorer
from raftlite.simulation.runs import simulation_of

from .figures import table
from .peers.cluster import Cluster
from .peers.compare import processor_seconds
from .peers.systems import DEFAULTS, KILL, SYSTEMS
from .virtual import VirtualCluster

THREADS = (3, 9, 25, 51, 101)
PROCESSES = (3, 5, 9, 15, 25)
VIRTUAL = (3, 9, 25, 101, 301, 1001)
PATIENCE = 120.0
MOST_STATES = 50_000  # explored for the speed of exploring
TIMEOUT = Timing().election_timeout
MOST_TIMEOUTS, MOST_BUSY = 2.0, 0.25  # what a user would begin to notice
NAMES = {
    "elect": "seconds to elect",
    "replace": "seconds to replace",
    "messages": "messages a second at rest",
    "busy": "cores busy at rest",
}

Row = Dict[str, Any]


# --- Threads ---------------------------------------------------------------------------------------------------------


def threads(count: int, seconds: float) -> Row:
    ids = [f"n{number:04}" for number in range(count)]
    inboxes: Dict[str, Any] = {node_id: queue.Queue() for node_id in ids}
    silent: Set[str] = set()
    members = {node_id: _thread(node_id, inboxes, silent) for node_id in ids}
    with ExitStack() as stack:
        began_at = time.monotonic()
        for member in members.values():
            stack.enter_context(member)
        leader = _wait_until(lambda: _leader_of_all(members))
        elected_at = time.monotonic()
        received, used = _received(members), time.process_time()
        time.sleep(seconds)
        messages, busy = _received(members) - received, time.process_time() - used
        members.pop(leader)
        silent.add(leader)
        silent_at = time.monotonic()
        _wait_until(lambda: any(member.is_leader for member in members.values()))
        return _row(count, elected_at - began_at, time.monotonic() - silent_at, messages / seconds, busy / seconds)


class CutNode(QueueNode):
    """Loses what comes from or goes to a member that is silent."""

    def __init__(self, sender_id: str, node_id: str, inbox: Any, silent: Set[str]) -> None:
        super().__init__(node_id, inbox)
        self._silent, self._ends = silent, (sender_id, node_id)

    def send_message(self, message: Any) -> None:
        if self._silent.isdisjoint(self._ends):
            super().send_message(message)


def _thread(node_id: str, inboxes: Dict[str, Any], silent: Set[str]) -> ElectionThread:
    nodes = [CutNode(node_id, other, inbox, silent) for other, inbox in inboxes.items() if other != node_id]
    return ElectionThread(node_id, nodes=nodes, inbox=inboxes[node_id], storage=MemoryStorage())


def _leader_of_all(members: Dict[str, ElectionThread]) -> Any:
    known = {member.leader_id for member in members.values()}
    return known.pop() if len(known) == 1 and known <= members.keys() else None


def _received(members: Dict[str, ElectionThread]) -> float:
    return sum(member.metrics()["messages_received_total"] for member in members.values())


def _wait_until(condition: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.005)
    raise TimeoutError(f"not within {PATIENCE:.0f} s")


# --- Processes -------------------------------------------------------------------------------------------------------


def processes(count: int, seconds: float) -> Row:
    with ExitStack() as stack:
        cluster = Cluster(SYSTEMS["raftlite"], count, DEFAULTS, stack)
        before = {pid: processor_seconds(pid) for pid in cluster.pids().values()}
        time.sleep(seconds)
        busy = sum(processor_seconds(pid) - used for pid, used in before.items())
        elect = cluster.cold_start
        return _row(count, elect, cluster.seconds_without_leader(KILL), None, busy / seconds)  # messages: not counted


# --- A virtual clock -------------------------------------------------------------------------------------------------


def virtual(count: int, seconds: float) -> Row:
    cluster = VirtualCluster(count, seed=count)
    cluster.run_until(lambda: _has_leader(cluster) and cluster.all_follow(), PATIENCE)
    elected_at = cluster.now
    cluster.run_until(lambda: False, 1.0)  # until all have the leader's membership
    before, used = cluster.messages, time.process_time()
    cluster.run_until(lambda: False, seconds)
    messages, busy = cluster.messages - before, time.process_time() - used
    leader, silent_at = cluster.leader, cluster.now
    if leader is None:
        raise TimeoutError(f"nobody led {PATIENCE:.0f} s")
    cluster.crash(leader, proof=False)
    cluster.run_until(lambda: any(member.lease_expires_at for member in cluster.members.values()), PATIENCE)
    return _row(count, elected_at, cluster.now - silent_at, messages / seconds, busy / seconds)


def _has_leader(cluster: VirtualCluster) -> bool:
    return next(iter(cluster.members.values())).leader_id is not None


def _row(count: int, elect: float, replace: float, messages: Optional[float], busy: float) -> Row:
    return {"members": count, "elect": elect, "replace": replace, "messages": messages, "busy": busy}


# --- The speed of the rules themselves -------------------------------------------------------------------------------


def speeds() -> Dict[str, float]:
    """Steps of the rules, virtual seconds of the simulation, and states of the exploration: each per second."""
    return {
        "steps of the rules per second": _per_second(_heartbeats, 20_000),
        "virtual seconds of the simulation per second": _per_second(_simulated, 60),
        "explored states per second": _per_second(_explored, MOST_STATES),
    }


def _per_second(work: Callable[[int], None], amount: int) -> float:
    taken = []
    for _ in range(3):
        began_at = time.process_time()
        work(amount)
        taken.append(time.process_time() - began_at)
    return amount / statistics.median(taken)


def _heartbeats(count: int) -> None:
    """A follower that hears heartbeats, which is what a healthy cluster does."""
    follower = Election("a", Saved(), [NodeInfo("b"), NodeInfo("c")])
    follower.start(0.0)
    position = follower.membership.position
    for number in range(count):
        ready = follower.receive(Heartbeat(1, "b", number + 1, position, None), number * 0.1)
        assert type(ready.outbox[0][1]) is HeartbeatResponse and follower.role is Role.FOLLOWER


def _simulated(seconds: int) -> None:
    simulation_of(1, 5).run(float(seconds))


def _explored(states: int) -> None:
    Explorer(Bounds()).explore(states)


# --- Tables ----------------------------------------------------------------------------------------------------------

KINDS = {
    "threads": ("threads of one process", threads),
    "processes": ("processes", processes),
    "virtual": ("members on a virtual clock", virtual),
}


def measure(sizes: Dict[str, Sequence[int]], seconds: float, repetitions: int, say: Callable[[str], None]) -> Any:
    """All rows, each measured `repetitions` times, and the speeds."""
    rows: List[Row] = []
    stuck: List[str] = []
    for number in range(repetitions):
        for kind, counts in sizes.items():
            for count in counts:
                if number == 0 or kind != "virtual":  # which has no noise
                    say(f"{number + 1} of {repetitions}: {count} {KINDS[kind][0]}")
                    try:
                        rows.append({"kind": kind, **KINDS[kind][1](count, seconds)})
                    except Exception as error:  # whatever it is: it must not cost the figures before it
                        stuck.append(f"{count} {KINDS[kind][0]}: {error!r}")
    return {"rows": rows, "stuck": stuck, "speeds": speeds()}


def describe(result: Any) -> List[str]:
    lines: List[str] = []
    for kind, (words, _) in KINDS.items():
        of_kind = [row for row in result["rows"] if row["kind"] == kind]
        if of_kind:
            lines += ["", f"**{words[0].upper()}{words[1:]}**, medians", ""]
            header = ("members", "n", "ms to elect", "ms to replace", "messages/s at rest", "cores busy at rest")
            lines += table(header, map(_shown, medians(of_kind)))
            lines += ["", curves(medians(of_kind))]
    if result["stuck"]:
        lines += ["", *(f"- not measured: {each}" for each in result["stuck"])]
    lines += ["", "**Speed of the rules**", ""]
    return lines + table(("", "per second"), [[name, f"{value:.0f}"] for name, value in result["speeds"].items()])


def medians(rows: List[Row]) -> List[Row]:
    """One row for each number of members, in their order; `n` is how often it was measured."""
    result = []
    for count in sorted({row["members"] for row in rows}):
        mine = [row for row in rows if row["members"] == count]
        names = [name for name in NAMES if mine[0][name] is not None]
        result.append(
            {"members": count, "n": len(mine), **{name: statistics.median(row[name] for row in mine) for name in names}}
        )
    return result


def _shown(row: Row) -> List[Any]:
    messages = f"{row['messages']:.0f}" if "messages" in row else "-"
    return [str(row["members"]), str(row["n"]), row["elect"] * 1e3, row["replace"] * 1e3, messages, row["busy"]]


def curves(rows: List[Row]) -> str:
    """In which power of the number of members each grows, and where it begins to hurt."""
    grown = [f"{words} as n^{exponent(rows, name):.2f}" for name, words in NAMES.items() if name in rows[0]]
    slow = [row["members"] for row in rows if max(row["elect"], row["replace"]) > MOST_TIMEOUTS * TIMEOUT]
    busy = [row["members"] for row in rows if row["busy"] > MOST_BUSY]
    bends = [f"more than {MOST_TIMEOUTS} timeouts from {slow[0]} members on"] if slow else []
    bends += [f"more than {MOST_BUSY:.0%} of a core from {busy[0]} members on"] if busy else []
    return f"It grows: {', '.join(grown)}. It takes {' and '.join(bends) or 'its time nowhere yet'}."


def exponent(rows: List[Row], name: str) -> float:
    """The slope of the straight line through the points where both axes are logarithms (least squares)."""
    points = [(math.log(row["members"]), math.log(row[name])) for row in rows if row[name] > 0]
    if len(points) < 2:
        return math.nan
    x, y = (statistics.mean(each) for each in zip(*points))
    return sum((a - x) * (b - y) for a, b in points) / sum((a - x) ** 2 for a, _ in points)


def draw(result: Any, path: Path) -> None:
    """How each of them grows, one line for each kind of member; both axes are logarithms."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    figure, plots = pyplot.subplots(1, len(NAMES), figsize=(4.2 * len(NAMES), 3.8))
    for axes, (name, words) in zip(plots, NAMES.items()):
        for kind, (of_what, _) in KINDS.items():
            rows = [row for row in medians([row for row in result["rows"] if row["kind"] == kind]) if name in row]
            axes.plot([row["members"] for row in rows], [row[name] for row in rows], "o-", label=of_what)
        axes.set(xscale="log", yscale="log", xlabel="members", title=words)
        axes.grid(alpha=0.3)
    plots[0].legend(fontsize="small")
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="print everything measured as one JSON object")
    parser.add_argument("--seconds", type=float, default=5.0, help="how long each cluster is at rest (default: 5)")
    parser.add_argument("--repetitions", type=int, default=3, help="of each size (default: 3)")
    parser.add_argument("--svg", type=Path, help="draw the curves into this file, with matplotlib")
    for name, sizes in (("threads", THREADS), ("processes", PROCESSES), ("virtual", VIRTUAL)):
        parser.add_argument(f"--{name}", default=",".join(map(str, sizes)), help="how many members")
    options = parser.parse_args()
    sizes = {kind: [int(each) for each in getattr(options, kind).split(",") if each] for kind in KINDS}
    result = measure(sizes, options.seconds, options.repetitions, lambda text: print(text, file=sys.stderr, flush=True))
    if options.svg:
        draw(result, options.svg)
    print(json.dumps(result) if options.json else "\n".join(describe(result)))


if __name__ == "__main__":
    main()
