"""The raftlite command: run a member, ask and change a cluster, see it at work, check its rules.

Exit codes: 0 done, 64 wrong arguments, 69 no answer, 70 a member failed, 73 cannot listen, 74 votes cannot be saved or
the output not written, 75 `status` knows of no leader, 78 unsafe settings, 130 ended by Ctrl-C.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import logging
import os
import queue
import select
import signal
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Dict, Iterator, List, NoReturn, Optional, TextIO, Tuple

import raftlite
from raftlite.clock import boot_clock
from raftlite.demo import run_demo
from raftlite.errors import ConfigError, StorageError
from raftlite.leadership import Leadership
from raftlite.member import LONGEST_REQUEST, Member
from raftlite.membership import check_node_id
from raftlite.nodes.address import reachable
from raftlite.nodes.request import ask_member
from raftlite.nodes.secure import CERTIFIED, tls_context
from raftlite.timing import Timing

if TYPE_CHECKING:
    from raftlite.nodes.tls import TlsContext

EX_OK, EX_USAGE, EX_UNAVAILABLE, EX_SOFTWARE, EX_CANTCREAT, EX_IOERR, EX_TEMPFAIL, EX_CONFIG = (
    0, 64, 69, 70, 73, 74, 75, 78,
)  # fmt: skip
INTERRUPTED = 128 + 2

AUTHKEY_VARIABLE = "RAFTLITE_AUTHKEY"
LINES_KEPT = 1_000  # of a node's output, while nobody reads it
LAST_WRITES = 1.0  # seconds that a node's last lines have to be written
SHORTEST_WAIT = 0.001  # seconds, as for every duration of `Timing`
LONGEST_RUN = 86_400.0  # virtual seconds of one simulation


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        print(f"{self.prog}: {message}", file=sys.stderr)
        raise SystemExit(EX_USAGE)


class _RefuseSecret(argparse.Action):
    """Without it, `--authkey SECRET` would mean a file of that name, and the secret be in the sentence about it."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> NoReturn:
        parser.error(f"everybody can read a command's arguments: put the secret into {AUTHKEY_VARIABLE} or a file")


class _Unwritable(Exception):
    """The output cannot be written, though there may be somebody who reads it."""


def main(arguments: Optional[List[str]] = None) -> int:
    """Run the command and return its exit code."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # an id may have letters that a terminal has not
    options = _parser().parse_args(arguments)
    try:
        code: int = options.run(options)
        _print("", end="")
        return code
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        _drop_output()
        return EX_OK
    except _Unwritable as error:
        _drop_output()
        return _fail(options, f"the output cannot be written: {error}", EX_IOERR)
    except ConfigError as error:
        return _fail(options, str(error), EX_CONFIG)
    except StorageError as error:
        return _fail(options, str(error), EX_IOERR)
    except TimeoutError as error:  # a member that does not end; where nobody answers, `_ask` has said so
        return _fail(options, str(error), EX_SOFTWARE)
    except OSError as error:
        return _fail(options, error.strerror or str(error), EX_CANTCREAT)


def _print(text: str, end: str = "\n") -> None:
    try:
        print(text, end=end, flush=True)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise _Unwritable(error.strerror) from error


def _drop_output() -> None:
    """Nobody can read the output: keep the interpreter from complaining when it flushes what is left."""
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())


def _fail(options: argparse.Namespace, reason: str, code: int) -> int:
    print(f"raftlite {options.command}: {reason}", file=sys.stderr)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="raftlite", description="Elects one leader among processes and machines.")
    parser.add_argument("--version", action="version", version=f"raftlite {raftlite.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)
    _add_node(commands)
    _add_status(commands)
    _add_changes(commands)
    _add_demo(commands)
    _add_simulate(commands)
    return parser


def _add_node(commands: Any) -> None:
    node = commands.add_parser(
        "node",
        help="run one member and print a line per event",
        description="Run one member until it is ended by Ctrl-C or SIGTERM, and print a line per event.",
    )
    node.add_argument("--id", required=True, help="this member's id, unique in the cluster")
    node.add_argument("--listen", required=True, metavar="ADDRESS", help="host:port, [ipv6]:port or a socket's path")
    node.add_argument("--advertise", metavar="ADDRESS", help="the address that others reach this member under")
    node.add_argument("--peer", action="append", default=[], metavar="ID=ADDRESS", help="another member; repeat it")
    node.add_argument("--data-dir", metavar="DIR", help="where votes are saved; without it they are only in memory")
    node.add_argument("--cluster", default="raftlite", help="members of another cluster are turned away")
    node.add_argument("--observer", action="store_true", help="follow the leader, but never vote")
    node.add_argument("--min-nodes", type=int, metavar="N", help="no election before so many voters are known")
    node.add_argument("--max-nodes", type=int, metavar="N", help="the cluster has at most so many voters")
    _add_timing(node)
    _add_authkey(node)
    _add_tls(node)
    node.add_argument("--json", action="store_true", help="print one JSON object per line")
    node.add_argument("--verbose", action="store_true", help="log every change of role")
    node.set_defaults(run=_run_node)


def _add_timing(parser: argparse.ArgumentParser) -> None:
    standard = Timing()
    for name, what in (
        ("heartbeat_interval", "a leader is heard at least this often"),
        ("election_timeout", "a silence this long starts an election"),
        ("message_timeout", "connecting and writing to a peer may take this long"),
        ("clock_drift", "by how much the rates of two clocks may differ"),
    ):
        flag = "--" + name.replace("_", "-")
        default = getattr(standard, name)
        parser.add_argument(flag, type=float, default=default, metavar="SECONDS", help=f"{what} (default {default:g})")


def _add_authkey(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--authkey-file",
        metavar="FILE",
        help=f"file with the secret that all members share; otherwise the variable {AUTHKEY_VARIABLE} holds it",
    )
    parser.add_argument("--authkey", action=_RefuseSecret, help=argparse.SUPPRESS)


def _add_tls(parser: argparse.ArgumentParser) -> None:
    """All three or none."""
    parser.add_argument("--cert", metavar="FILE", help="talk over TLS, with this certificate (PEM) that names the id")
    parser.add_argument("--key", metavar="FILE", help="the private key of the certificate (PEM, no password)")
    parser.add_argument("--ca", metavar="FILE", help="whoever signs the certificates of members (PEM)")
    parser.set_defaults(usage_error=parser.error)


def _add_status(commands: Any) -> None:
    status = _add_request(commands, "status", "ask one member who leads, and if nobody does, why")
    status.description = "Ask the member at ADDRESS for its view. Exits with 75 while it knows of no leader."
    status.set_defaults(run=_ask, timeout=2.0)


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


def _add_request(commands: Any, name: str, what: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=what, description=f"Any member may be asked to {what}."
    )
    parser.add_argument("address", metavar="ADDRESS", help="any member's host:port, [ipv6]:port or socket's path")
    parser.add_argument("--cluster", default="raftlite", help="the name of the cluster")
    parser.add_argument("--timeout", type=float, default=10.0, metavar="SECONDS", help="wait so long for the answer")
    _add_authkey(parser)
    _add_tls(parser)
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
    demo.set_defaults(run=lambda options: run_demo(options.nodes, options.json, _print))


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
    simulate.set_defaults(run=_run_simulate)


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
    member = _member(options)
    with _stop_signals() as ended, _Output(sys.stdout) as output, _log_to_stderr(options.verbose):
        if options.data_dir is None:
            logging.warning("%s: votes are kept in memory only; --data-dir DIR saves them", options.id)
        code = _run_member(member, _NodePrinter(member, output, options.json), ended)
    if output.error:
        raise _Unwritable(output.error)
    return code


def _run_member(member: Member, printer: _NodePrinter, ended: _Ended) -> int:
    with member:
        printer.event("started", address=member.address)
        while not ended.wait(timeout=0.5) and not printer.output.is_gone:
            if member.status().error or member.status().role is raftlite.Role.STOPPED:
                return _end_of_stopped_node(member, printer)
    printer.event("stopped")
    return INTERRUPTED if ended.signal == signal.SIGINT else EX_OK


def _member(options: argparse.Namespace) -> Member:
    tls = _tls(options)
    return Member(
        options.id,
        peers=_peers(options.peer),
        listen=options.listen,
        advertise=options.advertise,
        authkey=_authkey(options, tls),
        ssl_context=tls,
        cluster=options.cluster,
        data_dir=options.data_dir,
        timing=Timing(
            options.heartbeat_interval, options.election_timeout, options.message_timeout, options.clock_drift
        ),
        min_nodes=options.min_nodes,
        max_nodes=options.max_nodes,
        voter=not options.observer,
    )


def _end_of_stopped_node(member: Member, printer: _NodePrinter) -> int:
    error = member.status().error
    printer.event("failed" if error else "removed", reason=error)
    return EX_SOFTWARE if error else EX_OK


class _Output:
    """Writes lines on a thread of its own, so that a reader who stops reading stops neither the member nor its end."""

    def __init__(self, out: Optional[TextIO]) -> None:
        self.is_gone = False  # nobody can read it any more
        self.error = ""  # why it cannot be written; empty where whoever read it has gone
        self._out = out  # None where the process was started without any
        self._lines: queue.Queue[Optional[str]] = queue.Queue(LINES_KEPT)
        self._thread = threading.Thread(target=self._run, name="raftlite-output", daemon=True)

    def line(self, text: Optional[str]) -> None:
        """Have `text` written after what came before it. Never waits: the oldest of too many lines is lost."""
        while True:
            try:
                return self._lines.put_nowait(text)
            except queue.Full:  # who leads now is worth more than who led
                with contextlib.suppress(queue.Empty):
                    self._lines.get_nowait()

    def __enter__(self) -> _Output:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.line(None)
        self._thread.join(LAST_WRITES)

    def _run(self) -> None:
        try:
            for text in iter(self._lines.get, None):
                if self._out is not None:
                    self._write(self._out, f"{text}\n".encode(self._out.encoding, "backslashreplace"))
        except BrokenPipeError:  # a log that nobody reads any more is no reason to lead on unseen
            self.is_gone = True
        except OSError as error:
            self.error, self.is_gone = error.strerror or str(error), True

    def _write(self, out: TextIO, data: bytes) -> None:
        # Not into the buffer of `out`: the interpreter flushes it at its end, and aborts while this thread holds it.
        while data:
            try:
                data = data[os.write(out.fileno(), data) :]
            except BlockingIOError:  # whoever reads it is only slow
                select.select([], [out], [])


class _LogHandler(logging.Handler):
    """Hands what is logged to an `_Output`, so that no thread of the member waits until somebody reads it."""

    def __init__(self, output: _Output) -> None:
        super().__init__()
        self._output = output
        self.setFormatter(logging.Formatter("%(asctime)s %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._output.line(self.format(record))
        except Exception:  # arguments that do not fit their text must not end the thread that logs
            self.handleError(record)


@contextlib.contextmanager
def _log_to_stderr(verbose: bool) -> Iterator[None]:
    """Write what the body logs to standard error: every change of role if `verbose`, else only what is wrong."""
    root = logging.getLogger()
    before = root.level
    with _Output(sys.stderr) as output:
        handler = _LogHandler(output)
        root.addHandler(handler)
        root.setLevel(logging.INFO if verbose else logging.WARNING)
        try:
            yield
        finally:
            root.setLevel(before)
            root.removeHandler(handler)


class _NodePrinter:
    """Turns a member's events into lines."""

    def __init__(self, member: Member, output: _Output, as_json: bool) -> None:
        self.output = output
        self._member, self._as_json = member, as_json
        member.on_elected(self._elected)
        member.on_lost(self._lost)
        member.on_leader_changed(self._leader_changed)

    def _elected(self, leadership: Leadership) -> None:
        self.event("elected", term=leadership.token, leader=leadership.node_id, token=leadership.token)

    def _lost(self, leadership: Leadership) -> None:
        self.event("lost", term=leadership.token, token=leadership.token)

    def _leader_changed(self, leader_id: Optional[str], term: int) -> None:
        self.event("leader", term=term, leader=leader_id)

    def event(self, name: str, **facts: Any) -> None:
        facts = {"term": self._term(), "leader": self._member.leader_id, **facts}
        line = {"t": time.time(), "clock": boot_clock(), "event": name, "node": self._member.node_id, **facts}
        self.output.line(json.dumps(line) if self._as_json else _sentence(name, line))

    def _term(self) -> int:
        with contextlib.suppress(raftlite.MemberStopped):
            return self._member.status().current_term
        return 0


_SENTENCES: Dict[str, str] = {
    "started": "{node} listens at {address}",
    "elected": "{node} leads in term {term}",
    "lost": "{node} no longer leads in term {term}",
    "stopped": "{node} has stopped",
    "removed": "{node} was removed from the cluster and has stopped",
    "failed": "{node} has failed: {reason}",
}


def _sentence(name: str, facts: Dict[str, Any]) -> str:
    clock = time.strftime("%H:%M:%S", time.localtime(facts["t"])) + f".{int(facts['t'] * 1000) % 1000:03d}"
    if name == "leader":
        what = "{leader} leads in term {term}" if facts["leader"] else "no leader"
        return f"{clock} {facts['node']} sees: {what.format(**facts)}"
    return f"{clock} {_SENTENCES[name].format(**facts)}"


class _Ended:
    """What a signal handler sets and the body waits for.

    A handler interrupts the body anywhere, so it must not need a lock that the body may hold: `threading.Event` does.
    """

    def __init__(self) -> None:
        self.signal: Optional[int] = None
        self._wake: queue.SimpleQueue[None] = queue.SimpleQueue()

    def set(self, number: int) -> None:
        self.signal = number
        self._wake.put(None)

    def wait(self, timeout: float) -> bool:
        """Whether there was a signal, after `timeout` seconds or as soon as there is."""
        if self.signal is None:
            with contextlib.suppress(queue.Empty):
                self._wake.get(timeout=timeout)
        return self.signal is not None


@contextlib.contextmanager
def _stop_signals() -> Iterator[_Ended]:
    """Turn SIGINT and SIGTERM into an `_Ended` for the body; a second one ends the process at once."""
    ended = _Ended()
    numbers = (signal.SIGINT, signal.SIGTERM)

    def end(number: int, frame: object) -> None:
        for each in numbers:
            signal.signal(each, signal.SIG_DFL)
        ended.set(number)

    before = {number: signal.signal(number, end) for number in numbers}
    try:
        yield ended
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _peers(options: List[str]) -> Dict[str, str]:
    peers: Dict[str, str] = {}
    for option in options:
        node_id, address = _split("--peer", option)
        if node_id in peers:
            raise ConfigError(f"--peer gives {node_id!r} twice, but ids must be unique")
        peers[node_id] = address
    return peers


def _split(name: str, option: str) -> Tuple[str, str]:
    node_id, _, address = option.partition("=")
    if not node_id or not address:
        raise ConfigError(f"{name} is {option!r}, but must be ID=ADDRESS")
    return node_id, address


def _tls(options: argparse.Namespace) -> Optional[TlsContext]:
    files = {f"--{name}": getattr(options, name) for name in ("cert", "key", "ca")}
    missing = [flag for flag, path in files.items() if path is None]
    if len(missing) == len(files):
        return None
    if missing:
        verb = "is" if len(missing) == 1 else "are"
        options.usage_error(f"{' and '.join(missing)} {verb} missing: TLS needs --cert, --key and --ca")
    return tls_context(cert=options.cert, key=options.key, ca=options.ca)


def _authkey(options: argparse.Namespace, tls: Optional[TlsContext]) -> bytes:
    if options.authkey_file:
        try:
            key = Path(options.authkey_file).read_bytes().strip()
        except OSError as error:
            raise ConfigError(f"--authkey-file {options.authkey_file} cannot be read: {error.strerror}") from None
    else:
        key = os.environ.get(AUTHKEY_VARIABLE, "").encode()
    if not key and tls is not None and not options.authkey_file:
        return CERTIFIED
    if not key:
        raise ConfigError(f"no key: put the secret that all members share into {AUTHKEY_VARIABLE} or --authkey-file")
    return key


# --- raftlite status, add, remove, transfer ----------------------------------------------------------


def _run_add(options: argparse.Namespace) -> int:
    node_id, address = _split("the second argument", options.member)
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
    tls = _tls(options)
    key = _authkey(options, tls)
    if not SHORTEST_WAIT <= options.timeout <= LONGEST_REQUEST:
        bounds = f"from {SHORTEST_WAIT:g} to {LONGEST_REQUEST:g} seconds"
        raise ConfigError(f"--timeout is {options.timeout!r}, but must be a number {bounds}")
    try:
        timeout = options.timeout
        status = ask_member(options.address, key, options.cluster, timeout, options.command, ssl_context=tls, **details)
    except OSError as error:
        return _fail(options, error.strerror or str(error), EX_UNAVAILABLE)
    _print(json.dumps(status) if options.json else _describe(status))
    return EX_TEMPFAIL if options.command == "status" and not status.get("leader") else EX_OK


def _describe(status: Dict[str, Any]) -> str:
    nodes = [node_id if voter else f"{node_id} (observer)" for node_id, voter, _ in status["membership"]["nodes"]]
    lines = [
        f"node     {status['node']} ({status['role']})",
        f"term     {status['term']}",
        f"leader   {status['leader'] or 'none: ' + status['why']}",
        f"members  {', '.join(nodes)}",
    ]
    return "\n".join(lines)


# --- raftlite simulate: imported when it is asked for, because no member needs it in its memory -------


def _run_simulate(options: argparse.Namespace) -> int:
    from raftlite.simulation import runs

    _check_simulate(options)
    if options.seed is not None:
        return runs.replay(options.seed, options.nodes, options.seconds, _print, options.trace)
    line = runs.ProgressLine()
    try:
        if options.exhaustive:
            result, words = _explore(options, line.show)
        else:
            result = runs.simulate(options.seeds, options.nodes, options.seconds, options.jobs, line.show)
            words = runs.describe(result)
    finally:
        line.clear()
    _print(json.dumps(result) if options.json else "\n".join(words))
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
