"""All systems by turns: how long without a leader, how fast at first, how much at rest.

    python -m benchmarks.peers.compare --kills 10 [--systems raftlite,etcd] [--faults kill] [--json]

A turn is a new cluster and a few faults, one after the other; then it is the turn of the next system, so that nothing
else runs beside what is measured, and what the machine does meanwhile hits all alike. Ctrl-C ends the turns, and the
tables are of those that were taken.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import statistics
import sys
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Tuple

from chaos import namespaces

from benchmarks.figures import SHARES, describe_machine, has_share, machine, summary, table

from .cluster import Cluster, Stuck
from .systems import AGAIN, CUT, DEFAULTS, FAST, HANDOVER, HEAVY_FLOOR, KILL, REST, SILENCE, SYSTEMS, System

NONE = "-"
TURN = 5  # faults in a turn
MOST_STUCK = 3  # turns of a row, one after the other, that may end in nothing
SLOW = 3.0  # seconds: a system whose shortest timeout is longer has a fifth of the turns, and of the faults
SELDOM = 5
WORDS = {
    KILL: "leader killed (kill -9)",
    AGAIN: "next leader killed too, 0.2 s after the first one has started again",
    SILENCE: "leader silent (SIGSTOP)",
    CUT: "leader cut off (its packets are lost)",
    HANDOVER: "leader told to stop",
}
IN_TIMEOUTS = (SILENCE, CUT)


class Kind(NamedTuple):
    """One row of one table."""

    fault: str
    pace: str
    size: int
    system: str

    @property
    def key(self) -> str:
        return "/".join(map(str, self))


def kinds(systems: List[str], faults: List[str], sizes: List[int], paces: List[str]) -> Iterator[Kind]:
    """In the order in which they take their turns. Three processes are enough for all but kills."""
    for fault in faults:
        for pace in paces:
            for size in sizes if fault == KILL else sizes[:1]:
                yield from (Kind(fault, pace, size, name) for name in systems if fault == KILL or name != HEAVY_FLOOR)


def why_left_out(kind: Kind) -> str:
    """Why this row has no figures, or nothing."""
    system = SYSTEMS[kind.system]
    if kind.pace not in system.timeouts:
        return system.why_no_fast
    if kind.fault not in system.faults:
        return system.why_no_handover
    return system.why_not() or (why_no_network() if kind.fault == CUT else "")


@functools.cache
def why_no_network() -> str:
    """Why members cannot be cut off here, or nothing."""
    why = namespaces.why_not()
    return f"no namespaces for the network: {why}" if why else ""


def measure(wanted: List[Kind], kills: int, say: Callable[[str], None]) -> Dict[str, Any]:
    """Take turns until each kind has had its faults, or Ctrl-C; return everything measured, in seconds."""
    rows: Dict[str, Dict[str, Any]] = {
        kind.key: {**kind._asdict(), **no_figures(), "left_out": why_left_out(kind)} for kind in wanted
    }
    result = {"machine": machine(), "kills": kills, "rows": list(rows.values()), "ended_early": False}
    try:
        take_turns(wanted, kills, rows, say)
    except KeyboardInterrupt:
        say("ended early: these are the figures so far")
        result["ended_early"] = True
    return result


def no_figures() -> Dict[str, Any]:
    """`stuck` says what came instead of one, `in_vain` how many turns there have been since the last."""
    return {"seconds": [], "cold_starts": [], "stuck": [], "in_vain": 0}


def take_turns(wanted: List[Kind], kills: int, rows: Dict[str, Dict[str, Any]], say: Callable[[str], None]) -> None:
    turn = 0
    while any(lacking(kind, kills, rows[kind.key]) for kind in wanted):
        turn += 1
        for kind in wanted:
            row = rows[kind.key]
            faults = min(TURN, lacking(kind, kills, row))
            if faults and turn % (SELDOM if is_slow(kind) else 1) == 0:
                say(f"turn {turn}: {kind.key}, {len(row['seconds'])} of {so_many(kind, kills)} so far")
                take_turn(kind, faults, row)


def lacking(kind: Kind, kills: int, row: Dict[str, Any]) -> int:
    """How many faults this row is to have yet; none where no more turns would help."""
    is_over = row["left_out"] or row["in_vain"] >= MOST_STUCK
    return 0 if is_over else max(0, so_many(kind, kills) - len(row["seconds"]))


def so_many(kind: Kind, kills: int) -> int:
    return -(-kills // SELDOM) if is_slow(kind) else kills


def is_slow(kind: Kind) -> bool:
    return SYSTEMS[kind.system].timeouts[kind.pace] > SLOW


def take_turn(kind: Kind, faults: int, row: Dict[str, Any]) -> None:
    row["in_vain"] += 1
    with ExitStack() as stack:
        try:
            cluster = Cluster(SYSTEMS[kind.system], kind.size, kind.pace, stack, kind.fault)
            row["cold_starts"].append(cluster.cold_start)
            for _ in range(faults):
                row["seconds"].append(cluster.seconds_without_leader(kind.fault))
                row["in_vain"] = 0
        except Exception as error:  # whatever it is: it must not cost the hours before it
            row["stuck"].append(reason(error))


def reason(error: Exception) -> str:
    return str(error) if isinstance(error, Stuck) else repr(error)


# --- At rest ---------------------------------------------------------------------------------------------------------


def add_rest(result: Dict[str, Any], names: List[str], seconds: float, say: Callable[[str], None]) -> None:
    """To what `measure` returned, which Ctrl-C leaves as it is."""
    result["rest"] = rows = []
    try:
        if not result["ended_early"]:
            at_rest(names, seconds, rows, say)
    except KeyboardInterrupt:
        say("ended early: these are the figures so far")
        result["ended_early"] = True
        rows[:] = [row for row in rows if row["left_out"] or "threads" in row]


def at_rest(names: List[str], seconds: float, rows: List[Dict[str, Any]], say: Callable[[str], None]) -> None:
    """What three processes take that only beat, every 50 ms or as near as it gets."""
    for name in names:
        if name == HEAVY_FLOOR:
            continue  # it rests as the other one does
        system = SYSTEMS[name]
        pace = next(each for each in (REST, FAST, DEFAULTS) if each in system.timeouts)
        row: Dict[str, Any] = {"system": name, "pace": pace, "left_out": system.why_not()}
        rows.append(row)
        if not row["left_out"]:
            say(f"at rest: {name}")
            try:
                row.update(watch(system, pace, seconds))
            except Exception as error:
                row["left_out"] = reason(error)


def watch(system: System, pace: str, seconds: float) -> Dict[str, Any]:
    with ExitStack() as stack:
        cluster = Cluster(system, 3, pace, stack)
        time.sleep(2.0)
        pids = {**cluster.pids(), **{-2 - number: server.pid for number, server in enumerate(cluster.servers)}}
        before = {node: processor_seconds(pid) for node, pid in pids.items()}
        time.sleep(seconds)
        percent = {node: 100 * (processor_seconds(pid) - before[node]) / seconds for node, pid in pids.items()}
        followers = [node for node in cluster.pids() if node != cluster.leader]
        return {
            "leader_percent": percent[cluster.leader],
            "follower_percent": statistics.median(percent[node] for node in followers),
            "server_percent": sum(percent[node] for node in pids if node < -1),
            "megabytes": statistics.median(megabytes(pids[node]) for node in followers),
            "server_megabytes": sum(megabytes(pid) for node, pid in pids.items() if node < -1),
            "threads": len(list(Path(f"/proc/{pids[followers[0]]}/task").iterdir())),
        }


def processor_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def megabytes(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


# --- Tables ----------------------------------------------------------------------------------------------------------


def describe(result: Dict[str, Any]) -> List[str]:
    """Tables in Markdown, and what is to be said of each system."""
    lines = []
    groups: Dict[Tuple[str, str, int], List[Dict[str, Any]]] = {}
    for row in result["rows"]:
        groups.setdefault((row["fault"], row["pace"], row["size"]), []).append(row)
    for (fault, pace, size), rows in groups.items():
        words = "default timing" if pace == DEFAULTS else "timeouts of 150 to 300 ms"
        unit = "in shortest election timeouts" if fault in IN_TIMEOUTS else "in ms"
        lines += ["", f"**{WORDS[fault]}**, {size} processes, {words}: until another one's callback, {unit}", ""]
        lines += table(("", "n", "median", "p90", "p99", "max", ""), map(_fault_row, rows))
    lines += _cold_start_lines(result["rows"])
    if result.get("rest"):
        lines += ["", "**At rest**, 3 processes, heartbeats every 50 ms where they can be set", ""]
        header = ("", "leader, % of a core", "follower, %", "MB of a follower", "threads", "")
        lines += table(header, map(_rest_row, result["rest"]))
    shown = {row["system"] for row in result["rows"]}
    notes = [f"{name}: {system.note}" for name, system in SYSTEMS.items() if system.note and name in shown]
    return [
        *lines,
        "",
        *(f"- {note}" for note in notes),
        "",
        f"Measured by turns on {describe_machine(result['machine'])}{'; ended early' if result['ended_early'] else ''}",
    ]


def _fault_row(row: Dict[str, Any]) -> List[Any]:
    remark = row["left_out"]
    if row["stuck"]:
        ended = "; it had no more turns" if row["in_vain"] >= MOST_STUCK else ""
        remark = ", ".join(f"{count} x {why}" for why, count in Counter(row["stuck"]).most_common()) + ended
    if not row["seconds"]:
        return [row["system"], "0", NONE, NONE, NONE, NONE, remark or "was not its turn"]
    unit = SYSTEMS[row["system"]].timeouts[row["pace"]] if row["fault"] in IN_TIMEOUTS else 1e-3
    figures = summary(each / unit for each in row["seconds"])
    count = len(row["seconds"])
    shown = [value if has_share(count, SHARES.get(name, 0)) else NONE for name, value in figures.items() if name != "n"]
    return [row["system"], str(count), *shown, remark]


def _cold_start_lines(rows: List[Dict[str, Any]]) -> List[str]:
    starts: Dict[Tuple[str, int], Dict[str, List[float]]] = {}
    for row in rows:
        if row["fault"] == CUT:
            continue  # they start in namespaces, whose packets take longer
        starts.setdefault((row["pace"], row["size"]), {}).setdefault(row["system"], []).extend(row["cold_starts"])
    lines = []
    for (pace, size), of_systems in starts.items():
        words = "default timing" if pace == DEFAULTS else "timeouts of 150 to 300 ms"
        lines += ["", f"**Cold start**, {size} processes, {words}: last one started → all know who leads, in ms", ""]
        figures = [(name, summary(each * 1e3 for each in values)) for name, values in of_systems.items() if values]
        body = [[name, str(each["n"]), each["median"], each["p90"], each["max"]] for name, each in figures]
        lines += table(("", "n", "median", "p90", "max"), body)
    return lines


def _rest_row(row: Dict[str, Any]) -> List[Any]:
    if row["left_out"]:
        return [row["system"], NONE, NONE, NONE, NONE, row["left_out"]]
    timeout = SYSTEMS[row["system"]].timeouts[row["pace"]]
    remark = {FAST: "", REST: f"timeouts from {timeout * 1e3:.0f} ms on", DEFAULTS: "at its defaults"}[row["pace"]]
    if row["server_megabytes"]:
        remark = f"and ZooKeeper: {row['server_percent']:.2f} % of a core, {row['server_megabytes']:.0f} MB"
    return [
        row["system"], row["leader_percent"], row["follower_percent"], row["megabytes"], str(row["threads"]), remark,
    ]  # fmt: skip


def parse(arguments: Optional[List[str]] = None) -> Tuple[argparse.Namespace, List[Kind]]:
    """The options, and the rows that they ask for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="print everything measured as one JSON object")
    parser.add_argument("--kills", type=int, default=20, help="faults of each kind (default: 20)")
    parser.add_argument("--rest", type=float, default=0.0, help="seconds to watch each system at rest (default: not)")
    for name, every in (("systems", SYSTEMS), ("faults", WORDS), ("paces", (DEFAULTS, FAST)), ("sizes", ("3", "5"))):
        parser.add_argument(f"--{name}", default=",".join(every), help=f"which of {','.join(every)} (default: all)")
    options = parser.parse_args(arguments)
    options.systems, faults, paces = (each.split(",") for each in (options.systems, options.faults, options.paces))
    return options, list(kinds(options.systems, faults, [int(size) for size in options.sizes.split(",")], paces))


def main() -> None:
    options, wanted = parse()

    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    result = measure(wanted, options.kills, say)
    if options.rest:
        add_rest(result, options.systems, options.rest, say)
    print(json.dumps(result) if options.json else "\n".join(describe(result)))


if __name__ == "__main__":
    main()
