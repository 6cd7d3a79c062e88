"""`make chaos MINUTES=30`: faults on real processes for so long, with a line for each and a table at the end."""

from __future__ import annotations

import argparse
import json
import random
import signal
import sys
import time
from dataclasses import asdict
from typing import Any, List, Optional

from raftlite import Timing

from .cluster import Cluster
from .faults import FAULTS, missing_here
from .links import Network
from .namespaces import NamespaceNetwork, why_not
from .proxy import ProxyNetwork
from .runner import Outcome, Run, progress, summary, table


def main(arguments: Optional[List[str]] = None) -> int:
    options = _parse(arguments)
    say = Output(options.json)
    for number in (signal.SIGINT, signal.SIGTERM):  # the former is ignored where a script started this
        signal.signal(number, signal.default_int_handler)
    try:
        return _run(options, say)
    except KeyboardInterrupt:  # before there was anything to sum up
        return 130


def _run(options: argparse.Namespace, say: Output) -> int:
    node_ids = [chr(ord("a") + number) for number in range(options.nodes)]
    timing = Timing(
        heartbeat_interval=min(0.1, options.election_timeout / 3), election_timeout=options.election_timeout
    )
    left_out = missing_here(options.step_clock)
    names = [name for name in options.fault or FAULTS if name not in left_out]
    if not names:
        sys.exit("\n".join(f"There can be no {name} here: {why}." for name, why in left_out.items()))
    say.begin(options, timing, left_out)
    interrupted = False
    with _network(options, node_ids, say) as network, Cluster(network, timing, broken=options.broken) as cluster:
        run = Run(cluster, options.seed, say.outcome)
        try:
            say.first_leader(run.wait_for_first_leader())
            run.run(names, 60 * options.minutes)
        except KeyboardInterrupt:
            interrupted = True
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # what was started must be ended
    found = run.violations()
    say.end(run, found, interrupted)
    return 1 if found else 130 if interrupted else 0


def _network(options: argparse.Namespace, node_ids: List[str], say: Output) -> Network:
    missing = "" if options.network == "proxy" else why_not()
    if options.network == "namespaces" and missing:
        sys.exit(f"There can be no network namespaces here: {missing}.")
    use_proxy = options.network == "proxy" or missing
    network = ProxyNetwork(node_ids, options.seed) if use_proxy else NamespaceNetwork(node_ids, options.seed)
    say.network(network, missing)
    return network


class Output:
    """For people, or with `--json` one object a line."""

    def __init__(self, is_json: bool) -> None:
        self._is_json = is_json
        self._started_at = time.monotonic()

    def begin(self, options: argparse.Namespace, timing: Timing, left_out: dict) -> None:
        self._say(
            f"{options.nodes} members with saved votes, {options.minutes:g} minutes, election timeout "
            f"{timing.election_timeout:g} s; again with --seed {options.seed}",
            event="begin",
            seed=options.seed,
            nodes=options.nodes,
            minutes=options.minutes,
            timing=asdict(timing),
        )
        for name, why in left_out.items():
            self._say(f"left out: {name}: {why}", event="left out", fault=name, why=why)

    def network(self, network: Network, missing: str) -> None:
        why = f" (no namespaces: {missing})" if missing else ""
        self._say(f"network: {network.description}{why}", event="network", network=network.description, why=missing)

    def first_leader(self, leader: Optional[str]) -> None:
        seconds = time.monotonic() - self._started_at
        self._say(f"{seconds:7.1f} s  {leader or 'nobody'} leads", event="first leader", leader=leader, seconds=seconds)

    def outcome(self, outcome: Outcome) -> None:
        self._say(progress(outcome), event="fault", **asdict(outcome))

    def end(self, run: Run, found: List[str], interrupted: bool) -> None:
        rows = summary(run.outcomes)
        seconds = time.monotonic() - self._started_at
        how = "interrupted" if interrupted else "done"
        verdict = f"{len(found)} violations" if found else "no violation"
        looks, grants = run.cluster.looks(), len(run.cluster.spans())
        text = [
            f"\n{table(rows)}\n",
            *(f"VIOLATION: {violation}" for violation in found),
            f"{how} after {seconds:.0f} s: {len(run.outcomes)} faults, {grants} grants of leadership, {looks} looks at "
            f"is_leader, {verdict}",
        ]
        self._say(
            "\n".join(text), event=how, seconds=seconds, summary=rows, grants=grants, looks=looks, violations=found
        )

    def _say(self, text: str, **facts: Any) -> None:
        print(json.dumps(facts) if self._is_json else text, flush=True)


def _parse(arguments: Optional[List[str]]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument(
        "--seed", type=int, default=None, help="draws the faults and their order; default: another each time"
    )
    parser.add_argument("--nodes", type=int, default=3, choices=range(2, 10), metavar="2..9")
    parser.add_argument("--network", choices=["auto", "namespaces", "proxy"], default="auto")
    parser.add_argument("--election-timeout", type=float, default=0.3, help="seconds (0.3)")
    parser.add_argument("--fault", action="append", choices=sorted(FAULTS), help="this one only; may be repeated")
    parser.add_argument("--step-clock", action="store_true", help="step the wall clock of this machine too")
    parser.add_argument("--broken", action="append", default=[], help="a member that believes in its lease for ever")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    if options.seed is None:
        options.seed = random.randrange(2**32)
    return options


if __name__ == "__main__":
    sys.exit(main())
