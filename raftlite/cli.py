"""The raftlite command: run a member, ask and change a cluster, see it at work, check its rules.

Exit codes: 0 done, 64 wrong arguments, 65 a file is no recording, 66 it cannot be read, 69 no answer or refused, 70 a
member failed, 73 cannot listen, 74 votes cannot be saved or the output not written, 75 `status` knows of no leader (or,
with --exit-code, of none that confirms its lease), 78 unsafe settings, 130 ended by Ctrl-C.
"""

from __future__ import annotations

import argparse
import io
import json
import logging
import sys
import time
from dataclasses import asdict
from typing import Any, Callable, Dict, List, Optional, Tuple

import raftlite
from raftlite.command.config import Config
from raftlite.command.demo import run_demo
from raftlite.command.options import (
    Parser,
    add_authkey,
    add_member,
    add_tls,
    authkey_from,
    config_from,
    settings_from,
    split_pair,
    tls_from,
)
from raftlite.command.output import (
    EX_CANTCREAT,
    EX_CONFIG,
    EX_IOERR,
    EX_OK,
    EX_SOFTWARE,
    EX_UNAVAILABLE,
    INTERRUPTED,
    Output,
    Unwritable,
    drop_output,
    log_to_stderr,
    print_text,
)
from raftlite.command.printer import LOOKS_EVERY, EventPrinter, LeaderlessLog
from raftlite.command.signals import Ended, stop_signals
from raftlite.command.watch import Cluster, Poll, describe, show, watch, with_leader
from raftlite.errors import ConfigError, StorageError
from raftlite.member import LONGEST_REQUEST, Member
from raftlite.membership import check_node_id
from raftlite.nodes.address import normalize, reachable
from raftlite.nodes.connection import NOT_YET
from raftlite.nodes.request import ask_member
from raftlite.runner import add_run

SHORTEST_WAIT = 0.001  # seconds, as for every duration of `Timing`
FIRST_DIAL = 2.0  # seconds that the members have to reach a newcomer, before `add` says what it knows of it
LONGEST_RUN = 86_400.0  # virtual seconds of one simulation


def main(arguments: Optional[List[str]] = None) -> int:
    """Run the command and return its exit code."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # an id may have letters that a terminal has not
    options = _parser().parse_args(arguments)
    try:
        code: int = options.run(options)
        print_text("", end="")
        return code
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        drop_output()
        return EX_OK
    except Unwritable as error:
        drop_output()
        return _fail(options, f"the output cannot be written: {error}", EX_IOERR)
    except ConfigError as error:
        return _fail(options, str(error), EX_CONFIG)
    except StorageError as error:
        return _fail(options, str(error), EX_IOERR)
    except TimeoutError as error:  # a member that does not end; where nobody answers, `_ask` has said so
        return _fail(options, str(error), EX_SOFTWARE)
    except OSError as error:
        return _fail(options, _reason(error), EX_CANTCREAT)


def _reason(error: OSError) -> str:
    why = error.strerror or str(error)
    return f"{error.filename}: {why}" if isinstance(error.filename, str) else why


def _fail(options: argparse.Namespace, reason: str, code: int) -> int:
    print(f"raftlite {options.command}: {reason}", file=sys.stderr)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="raftlite", description="Elects one leader among processes and machines.")
    parser.add_argument("--version", action="version", version=f"raftlite {raftlite.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=Parser)
    _add_node(commands)
    add_run(commands)
    _add_status(commands)
    _add_changes(commands)
    _add_demo(commands)
    _add_simulate(commands)
    _add_trace(commands)
    _add_lab(commands)
    return parser


def _add_node(commands: Any) -> None:
    node = commands.add_parser(
        "node",
        help="run one member and print a line per event",
        description="Run one member until it is ended by Ctrl-C or SIGTERM, and print a line per event.",
    )
    add_member(node)
    node.add_argument("--json", action="store_true", help="print one JSON object per line")
    node.add_argument("--verbose", action="store_true", help="log every change of role")
    node.set_defaults(run=_run_node)


def _add_status(commands: Any) -> None:
    status = _add_request(commands, "status", "ask members who leads, and if nobody does, why", nargs="*")
    status.description = (
        "Ask the member at ADDRESS for its view, or several at the same time for a table of the cluster; without any, "
        "all that --config names. "
        "Exits with 69 if nobody answers and with 75 if nobody who does knows of a leader; "
        "with --exit-code also with 75 unless a member says itself that it leads and that its lease holds: "
        "where only followers were asked, their leader is asked too."
    )
    status.add_argument("--watch", action="store_true", help="again and again, until Ctrl-C; a line each with --json")
    status.add_argument("--interval", type=float, default=1.0, metavar="SECONDS", help="between two rounds (default 1)")
    status.add_argument("--exit-code", action="store_true", help="for probes: 0 only if a leader confirms its lease")
    status.set_defaults(run=_run_status, timeout=2.0)


def _add_changes(commands: Any) -> None:
    add = _add_request(commands, "add", "let another member into the cluster")
    add.add_argument("member", metavar="ID=ADDRESS", help="the new member and where it listens")
    add.add_argument("--observer", action="store_true", help="it follows the leader, but never votes")
    add.set_defaults(run=_run_add)
    remove = _add_request(commands, "remove", "remove a member from the cluster")
    remove.add_argument("id", metavar="ID", help="the member, which learns it and stops")
    remove.set_defaults(run=_run_remove)
    transfer = _add_request(commands, "transfer", "hand leadership to another member")
    transfer.add_argument("--to", metavar="ID", help="to this voter; otherwise to the one heard from last")
    transfer.set_defaults(run=_run_transfer)


def _add_request(commands: Any, name: str, what: str, nargs: Optional[str] = None) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=what, description=f"Any member may be asked to {what}."
    )
    parser.add_argument(
        "address", metavar="ADDRESS", nargs=nargs, help="any member's host:port, [ipv6]:port or socket's path"
    )
    parser.add_argument("--config", metavar="FILE", help="a TOML file with cluster, key and certificates; options win")
    parser.add_argument("--cluster", help="the name of the cluster (default raftlite)")
    parser.add_argument(
        "--timeout", type=float, default=10.0, metavar="SECONDS", help="wait so long (default %(default)g)"
    )
    add_authkey(parser)
    add_tls(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


def _add_demo(commands: Any) -> None:
    demo = commands.add_parser(
        "demo",
        help="watch real processes elect a leader, lose it and elect another",
        description="Start members as processes, kill the leader, see another take over, restart the first.",
    )
    demo.add_argument("--nodes", type=int, default=3, metavar="N", help="how many members, 3 to 9 (default 3)")
    demo.add_argument("--json", action="store_true", help="print one JSON object per line")
    demo.set_defaults(run=lambda options: run_demo(options.nodes, options.json, print_text))


def _add_simulate(commands: Any) -> None:
    simulate = commands.add_parser(
        "simulate",
        help="check the rules: whole clusters on a virtual clock, with faults",
        description="Run many simulated clusters, every step checked; or one seed with its trace; or, with "
        "--exhaustive, every interleaving of a small cluster. Exits with 1 where an invariant does not hold.",
    )
    simulate.add_argument("--seeds", type=int, default=1000, metavar="N", help="run the seeds 0 to N-1 (default 1000)")
    simulate.add_argument("--seed", type=int, metavar="N", help="run this seed alone and show its trace if it fails")
    simulate.add_argument("--trace", action="store_true", help="with --seed: show the whole trace")
    simulate.add_argument("--nodes", type=int, default=5, metavar="N", help="members at the start (default 5)")
    simulate.add_argument("--seconds", type=float, default=60.0, metavar="S", help="virtual seconds (default 60)")
    simulate.add_argument("--jobs", type=int, metavar="N", help="processes (default: one per core)")
    simulate.add_argument("--exhaustive", action="store_true", help="explore instead of drawing by chance")
    for bound, (default, what) in _BOUNDS.items():
        flag = "--" + bound.replace("_", "-")
        simulate.add_argument(flag, type=int, default=default, metavar="N", help=f"explore: {what} (default {default})")
    simulate.add_argument("--json", action="store_true", help="print one JSON object")
    simulate.set_defaults(run=_run_simulate, usage_error=simulate.error)


def _add_trace(commands: Any) -> None:
    from raftlite.lab import trace_cli  # a file of its own, because no member needs it

    trace_cli.add_parser(commands)


def _add_lab(commands: Any) -> None:
    from raftlite.lab import lab_cli

    lab_cli.add_parser(commands)


_BOUNDS = {
    "members": (3, "members at the start"),
    "terms": (2, "terms"),
    "in_flight": (3, "messages on their way"),
    "crashes": (0, "crashes"),
    "changes": (1, "changes of the membership"),
    "transfers": (0, "transfers"),
}

# One member alone is no cluster: without `min_nodes` it waits for a second.
_LEAST = {"nodes": 2, "seeds": 1, "jobs": 1, "members": 1, "terms": 1, "in_flight": 1}
_LEAST.update(crashes=0, changes=0, transfers=0)


# --- raftlite node --------------------------------------------------------------------------------


def _run_node(options: argparse.Namespace) -> int:
    settings = settings_from(options)
    member = settings.member()
    with stop_signals() as ended, Output(sys.stdout) as output, log_to_stderr(options.verbose):
        if settings.data_dir is None:
            logging.warning("%s: votes are kept in memory only; --data-dir DIR saves them", member.node_id)
        log = LeaderlessLog(settings.timing.election_timeout)
        code = _run_member(member, EventPrinter(member, output, options.json), log, ended)
    if output.error:
        raise Unwritable(output.error)
    return code


def _run_member(member: Member, printer: EventPrinter, log: LeaderlessLog, ended: Ended) -> int:
    with member:
        printer.event("started", address=member.address)
        while not ended.wait(timeout=LOOKS_EVERY) and not printer.output.is_gone:
            status = member.status()
            if status.error or status.role is raftlite.Role.STOPPED:
                return _end_of_stopped_node(member, printer)
            log.look(status)
    printer.event("stopped")
    return ended.exit_code


def _end_of_stopped_node(member: Member, printer: EventPrinter) -> int:
    error = member.status().error
    printer.event("failed" if error else "removed", reason=error)
    return EX_SOFTWARE if error else EX_OK


# --- raftlite status, add, remove, transfer ----------------------------------------------------------


def _run_add(options: argparse.Namespace) -> int:
    node_id, address = split_pair("the second argument", options.member)
    check_node_id(node_id)
    address = reachable(address, f"the address of {node_id}")
    return _ask(options, id=node_id, at=address, voter=not options.observer)


def _run_remove(options: argparse.Namespace) -> int:
    check_node_id(options.id)
    return _ask(options, id=options.id)


def _run_transfer(options: argparse.Namespace) -> int:
    if options.to is not None:
        check_node_id(options.to)
    return _ask(options, to=options.to)


def _ask(options: argparse.Namespace, **details: Any) -> int:
    ask = _asker(options, config_from(options))
    try:
        said = ask(options.address, options.command, **details)
        if options.command == "add":
            said = _after_first_dial(lambda: ask(options.address, "status"), said, options.member)
    except OSError as error:
        return _fail(options, error.strerror or str(error), EX_UNAVAILABLE)
    print_text(json.dumps(said) if options.json else describe(said))
    return EX_OK


def _asker(options: argparse.Namespace, config: Config) -> Callable[..., Dict[str, Any]]:
    """What asks a member as the options say; they are checked before anybody is asked."""
    tls = tls_from(options)
    key = authkey_from(options, tls, config.top.get("authkey_file"))
    cluster = options.cluster or "raftlite"
    _check_seconds("--timeout", options.timeout)

    def ask(address: str, request: str, **details: Any) -> Dict[str, Any]:
        return ask_member(address, key, cluster, options.timeout, request, ssl_context=tls, **details)

    return ask


def _check_seconds(flag: str, value: float) -> None:
    if not SHORTEST_WAIT <= value <= LONGEST_REQUEST:
        bounds = f"from {SHORTEST_WAIT:g} to {LONGEST_REQUEST:g} seconds"
        raise ConfigError(f"{flag} is {value!r}, but must be a number {bounds}")


def _after_first_dial(look: Callable[[], Dict[str, Any]], said: Dict[str, Any], member: str) -> Dict[str, Any]:
    """Give the members a moment to find out whether anybody listens at the address that they were told."""
    give_up_at = time.monotonic() + FIRST_DIAL
    node_id = member.partition("=")[0]
    while NOT_YET in said.get("unreachable", {}).get(node_id, "") and time.monotonic() < give_up_at:
        time.sleep(0.05)
        try:
            said = look()
        except OSError:  # the change is made, whatever comes now
            break
    return said


def _run_status(options: argparse.Namespace) -> int:
    if options.watch and options.exit_code:
        options.usage_error("--watch goes on until Ctrl-C, and --exit-code is for one answer: give one of them")
    config = config_from(options)
    given = options.address or config.members.values()
    if not given:
        options.usage_error("whom shall it ask? Give an ADDRESS, or a --config that names all members")
    ask = _asker(options, config)
    _check_seconds("--interval", options.interval)
    addresses = list(dict.fromkeys(normalize(address) for address in given))
    poll = Poll(lambda address: ask(address, "status"), options.timeout)
    if options.watch:
        watch(poll, addresses, options.json, options.interval)
    answers = poll.answers(addresses)
    if len(addresses) == 1 and answers[0].said is None:
        if options.json:
            print_text(json.dumps(answers[0].to_plain()))
        return _fail(options, answers[0].error, EX_UNAVAILABLE)
    known = with_leader(poll, answers) if options.exit_code else answers
    print_text(show(known if len(addresses) > 1 else answers, options.json))
    return Cluster(known).exit_code(needs_lease=options.exit_code)


# --- raftlite simulate: imported when it is asked for, because no member needs it in its memory -------


def _run_simulate(options: argparse.Namespace) -> int:
    from raftlite.simulation import runs

    _check_simulate(options)
    if options.seed is not None and (options.exhaustive or options.json):
        options.usage_error("--seed shows the trace of one run: give it without --exhaustive and --json")
    if options.trace and options.seed is None:
        options.usage_error("--trace is for one run: give its --seed")
    if options.seed is not None:
        return runs.replay(options.seed, options.nodes, options.seconds, print_text, options.trace)
    line = runs.ProgressLine()
    try:
        if options.exhaustive:
            result, words = _explore(options, line.show)
        else:
            result = runs.simulate(options.seeds, options.nodes, options.seconds, options.jobs, line.show)
            words = runs.describe(result)
    finally:
        line.clear()
    print_text(json.dumps(result) if options.json else "\n".join(words))
    return 1 if result["failures"] else EX_OK


def _check_simulate(options: argparse.Namespace) -> None:
    for name, least in _LEAST.items():
        value = getattr(options, name)
        if value is not None and value < least:
            raise ConfigError(f"--{name.replace('_', '-')} is {value}, but must be a whole number from {least}")
    if not SHORTEST_WAIT <= options.seconds <= LONGEST_RUN:
        bounds = f"from {SHORTEST_WAIT:g} to {LONGEST_RUN:g}"
        raise ConfigError(f"--seconds is {options.seconds!r}, but must be a number {bounds}")


def _explore(options: argparse.Namespace, show: Callable[[str], None]) -> Tuple[Dict[str, Any], List[str]]:
    from raftlite.simulation import Violation
    from raftlite.simulation.exploration import Bounds, Explorer

    explorer = Explorer(Bounds(**{bound: getattr(options, bound) for bound in _BOUNDS}))
    failures = []
    try:
        explorer.explore(progress=lambda reached: show(f"{reached.states} states, {reached.depth} steps deep"))
    except Violation as violation:
        failures.append(str(violation))
    return {**asdict(explorer.explored), "failures": failures}, [*explorer.explored.describe(), *failures]
