"""The options that commands have in common, and what is made of them: a key, certificates, a `Member`."""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List, NoReturn, Optional, Tuple

from raftlite.command.config import Config, read_config
from raftlite.command.output import EX_USAGE
from raftlite.errors import ConfigError
from raftlite.member import Member
from raftlite.nodes.address import is_path
from raftlite.nodes.secure import CERTIFIED, tls_context
from raftlite.timing import Timing

if TYPE_CHECKING:
    from raftlite.nodes.tls import TlsContext

AUTHKEY_VARIABLE = "RAFTLITE_AUTHKEY"


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        print(f"{self.prog}: {message}", file=sys.stderr)
        raise SystemExit(EX_USAGE)


class RefuseSecret(argparse.Action):
    """Without it, `--authkey SECRET` would mean a file of that name, and the secret be in the sentence about it."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> NoReturn:
        parser.error(f"everybody can read a command's arguments: put the secret into {AUTHKEY_VARIABLE} or a file")


def add_member(parser: argparse.ArgumentParser) -> None:
    """Add what `settings_from` reads."""
    parser.add_argument("--id", required=True, help="this member's id, unique in the cluster")
    parser.add_argument("--config", metavar="FILE", help="a TOML file with the settings of all members; options win")
    parser.add_argument("--listen", metavar="ADDRESS", help="host:port, [ipv6]:port or a socket's path")
    parser.add_argument("--advertise", metavar="ADDRESS", help="the address that others reach this member under")
    parser.add_argument("--peer", action="append", default=[], metavar="ID=ADDRESS", help="another member; repeat it")
    parser.add_argument("--data-dir", metavar="DIR", help="where votes are saved; without it they are only in memory")
    parser.add_argument("--cluster", help="members of another cluster are turned away (default raftlite)")
    parser.add_argument("--observer", action="store_true", help="follow the leader, but never vote; no other's peer")
    parser.add_argument("--witness", action="append", metavar="ID", help="a voter that never leads, here and elsewhere")
    parser.add_argument("--min-nodes", type=int, metavar="N", help="no election before so many voters are known")
    parser.add_argument("--max-nodes", type=int, metavar="N", help="the cluster has at most so many voters")
    add_timing(parser)
    add_authkey(parser)
    add_tls(parser)


def add_timing(parser: argparse.ArgumentParser) -> None:
    standard = Timing()
    for name, what in (
        ("heartbeat_interval", "a leader is heard at least this often"),
        ("election_timeout", "a silence this long starts an election"),
        ("message_timeout", "connecting and writing to a peer may take this long"),
        ("clock_drift", "by how much the rates of two clocks may differ: 0.05 is 5 %%"),
    ):
        flag = "--" + name.replace("_", "-")
        default = getattr(standard, name)
        unit = "FRACTION" if name == "clock_drift" else "SECONDS"
        parser.add_argument(flag, type=float, metavar=unit, help=f"{what} (default {default:g})")
    parser.add_argument(
        "--no-trust-refused",
        dest="trust_refused",
        action="store_const",
        const=False,
        help="a refused connection proves no death, nor does another process that answers: where a firewall refuses "
        "for members that are alive, or addresses move",
    )


def add_authkey(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--authkey-file",
        metavar="FILE",
        help=f"file with the secret that all members share; otherwise the variable {AUTHKEY_VARIABLE} holds it; "
        "the white space around it does not count",
    )
    parser.add_argument("--authkey", action=RefuseSecret, help=argparse.SUPPRESS)


def add_tls(parser: argparse.ArgumentParser) -> None:
    """All three or none."""
    parser.add_argument("--cert", metavar="FILE", help="talk over TLS, with this certificate (PEM) that names the id")
    parser.add_argument("--key", metavar="FILE", help="the private key of the certificate (PEM, no password)")
    parser.add_argument("--ca", metavar="FILE", help="whoever signs the certificates of members (PEM)")
    parser.set_defaults(usage_error=parser.error)


@dataclass(frozen=True)
class Settings:
    """What a member is made of, wherever it was said."""

    node_id: str
    peers: Dict[str, str]
    listen: Optional[str]
    advertise: Optional[str]
    authkey: bytes
    tls: Optional[TlsContext]
    cluster: str
    data_dir: Optional[str]
    timing: Timing
    min_nodes: Optional[int]
    max_nodes: Optional[int]
    witnesses: List[str]
    observers: List[str]
    voter: bool
    run: Dict[str, Any]  # what only `raftlite run` needs

    def member(self) -> Member:
        return Member(
            self.node_id,
            peers=self.peers,
            listen=self.listen,
            advertise=self.advertise,
            authkey=self.authkey,
            ssl_context=self.tls,
            cluster=self.cluster,
            data_dir=self.data_dir,
            timing=self.timing,
            min_nodes=self.min_nodes,
            max_nodes=self.max_nodes,
            witnesses=self.witnesses,
            observers=self.observers,
            voter=self.voter,
        )


def settings_from(options: argparse.Namespace) -> Settings:
    """An option wins over the file of `--config`."""
    if options.config is None and options.listen is None:
        options.usage_error("the following arguments are required: --listen, or --config with the address of --id")
    config = config_from(options)
    own = config.members.get(options.id) if config is _NOTHING else config.address_of(options.id)
    observers = config.top.get("observers", [])
    if options.observer and options.id in config.members and options.id not in observers:
        raise ConfigError(
            f"--observer: for the other members of {config.path}, {options.id} is a voter: name it in its observers"
        )
    tls = tls_from(options)
    return Settings(
        node_id=options.id,
        peers={**{name: at for name, at in config.members.items() if name != options.id}, **peers_from(options.peer)},
        listen=own if options.listen is None else options.listen,
        # Others know it by the address in the file.
        advertise=own if options.advertise is None and options.listen is not None else options.advertise,
        authkey=authkey_from(options, tls, config.top.get("authkey_file")),
        tls=tls,
        cluster="raftlite" if options.cluster is None else options.cluster,
        data_dir=options.data_dir,
        timing=_timing_from(config, options),
        min_nodes=options.min_nodes,
        max_nodes=options.max_nodes,
        witnesses=config.top.get("witnesses", []) if options.witness is None else options.witness,
        observers=observers,
        voter=not options.observer and options.id not in observers,
        run=config.run,
    )


_NOTHING = Config("", {}, {}, {}, {}, {})


def config_from(options: argparse.Namespace) -> Config:
    """The file of `--config`, or one that says nothing; the options that were not given are given what it says."""
    config = _NOTHING if options.config is None else read_config(options.config)
    for name in ("cluster", "data_dir", "min_nodes", "max_nodes"):
        if getattr(options, name, "not one of this command") is None:
            setattr(options, name, config.top.get(name))
    for name, path in config.tls.items():
        if getattr(options, name) is None:
            setattr(options, name, path)
    return config


def _timing_from(config: Config, options: argparse.Namespace) -> Timing:
    """What the file leaves out, or has too large for itself, an option may put right."""
    values = {field.name: getattr(options, field.name, None) for field in fields(Timing)}
    given = {name: value for name, value in values.items() if value is not None}
    try:
        return Timing(**{**config.timing, **given})
    except ConfigError as error:
        raise ConfigError(f"{config.path}: {error}" if config.timing else str(error)) from None


def peers_from(options: List[str]) -> Dict[str, str]:
    peers: Dict[str, str] = {}
    for option in options:
        node_id, address = split_pair("--peer", option)
        if node_id in peers:
            raise ConfigError(f"--peer gives {node_id!r} twice, but ids must be unique")
        peers[node_id] = address
    return peers


def split_pair(name: str, option: str) -> Tuple[str, str]:
    node_id, _, address = option.partition("=")
    if not node_id or not address:
        raise ConfigError(f"{name} is {option!r}, but must be ID=ADDRESS")
    if "=" in address and not is_path(address):
        raise ConfigError(f"{name} is {option!r}, but an id with = can only be given in a file or by a program")
    return node_id, address


def tls_from(options: argparse.Namespace) -> Optional[TlsContext]:
    files = {f"--{name}": getattr(options, name) for name in ("cert", "key", "ca")}
    missing = [flag for flag, path in files.items() if path is None]
    if len(missing) == len(files):
        return None
    if missing:
        verb = "is" if len(missing) == 1 else "are"
        options.usage_error(f"{' and '.join(missing)} {verb} missing: TLS needs --cert, --key and --ca")
    return tls_context(cert=options.cert, key=options.key, ca=options.ca)


def authkey_from(options: argparse.Namespace, tls: Optional[TlsContext], otherwise: Optional[str] = None) -> bytes:
    """From `--authkey-file`, the variable, or else the file that `otherwise` names."""
    key = b"" if options.authkey_file else os.fsencode(os.environ.get(AUTHKEY_VARIABLE, "")).strip()
    path = options.authkey_file or (None if key else otherwise)
    if path:
        key = _read_key("--authkey-file" if options.authkey_file else "authkey_file", path)
    if not key and tls is not None:
        return CERTIFIED
    if not key:
        raise ConfigError(f"no key: put the secret that all members share into {AUTHKEY_VARIABLE} or --authkey-file")
    return key


def _read_key(name: str, path: str) -> bytes:
    try:
        key = Path(path).read_bytes().strip()
    except OSError as error:
        raise ConfigError(f"{name} {path} cannot be read: {error.strerror}") from None
    if not key:
        raise ConfigError(f"{name} {path} is empty: write the secret into it that all members share")
    return key
