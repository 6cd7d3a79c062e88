"""`raftlite.toml`: one file with the settings of every member, the same on each machine. See `raftlite node --config`.

    cluster = "beat"
    data_dir = "/var/lib/beat"              # relative paths begin at the folder of this file
    authkey_file = "/etc/beat/authkey"      # the secret itself has no place in here
    min_nodes = 2                           # and max_nodes
    witnesses = ["c"]                       # they vote, and never lead
    observers = ["d"]                       # they follow, and never vote

    [members]                               # --id says which of them this is
    a = "10.0.0.1:7600"
    b = "10.0.0.2:7600"
    c = "10.0.0.3:7600"
    d = "10.0.0.4:7600"

    [timing]                                # as in raftlite.Timing
    election_timeout = 2.0

    [tls]
    cert = "cert.pem"
    key = "key.pem"
    ca = "ca.pem"

    [run]                                   # what `raftlite run` needs besides
    grace = 10.0
    on_exit = "restart"
"""

from __future__ import annotations

import contextlib
import importlib
from dataclasses import dataclass, fields
from pathlib import Path
from types import ModuleType
from typing import Any, Callable, Dict, NamedTuple, Optional

from raftlite.errors import ConfigError
from raftlite.membership import check_node_id
from raftlite.nodes.address import is_path, normalize
from raftlite.timing import Timing, is_number

ON_EXIT = ("restart", "resign", "stop")
LONGEST_GRACE = 86_400.0  # seconds


class _Kind(NamedTuple):
    """What a setting may be."""

    fits: Callable[[Any], bool]
    what: str


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value != ""


_TEXT = _Kind(_is_text, 'a text: write it as "..."')
_PATH = _Kind(_is_text, 'the path of a file or folder: write it as "..."')
_COUNT = _Kind(lambda value: type(value) is int and value > 0, "a whole number from 1: write it without quotes")
_IDS = _Kind(
    lambda value: isinstance(value, list) and all(isinstance(each, str) for each in value),
    'a list of ids: write it as ["c"]',
)
_NUMBER = _Kind(is_number, "a number: write it without quotes")
_SWITCH = _Kind(lambda value: isinstance(value, bool), "true or false: write it without quotes")
_TABLE = _Kind(lambda value: isinstance(value, dict), "a table: begin it with [...] on a line of its own")
_SECONDS = _Kind(
    lambda value: is_number(value) and 0 <= value <= LONGEST_GRACE,
    f"a number of seconds from 0 to {LONGEST_GRACE:g}: write it without quotes",
)
_CHOICE = _Kind(lambda value: value in ON_EXIT, 'one of "restart", "resign" and "stop"')

_TOP = {
    "cluster": _TEXT,
    "data_dir": _PATH,
    "authkey_file": _PATH,
    "min_nodes": _COUNT,
    "max_nodes": _COUNT,
    "witnesses": _IDS,
    "observers": _IDS,
}
_TABLES: Dict[str, Dict[str, _Kind]] = {
    "timing": {field.name: _SWITCH if field.name == "trust_refused" else _NUMBER for field in fields(Timing)},
    "tls": dict.fromkeys(["cert", "key", "ca"], _PATH),
    "run": {"grace": _SECONDS, "on_exit": _CHOICE},
}
_SECRETS = ("authkey", "key", "secret", "password")


@dataclass(frozen=True)
class Config:
    """What a file says, checked."""

    path: str
    top: Dict[str, Any]
    members: Dict[str, str]
    timing: Dict[str, Any]
    tls: Dict[str, str]
    run: Dict[str, Any]

    def address_of(self, node_id: str) -> str:
        """Where the member with this id is."""
        if node_id not in self.members:
            known = ", ".join(sorted(self.members))
            raise ConfigError(f"{self.path}: [members] has no {node_id!r}, only {known}: add it there, or correct --id")
        return self.members[node_id]


def read_config(path: str) -> Config:
    """Read the file. Raises `ConfigError` that names the file, the key and what to do."""
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
    toml = _toml()
    try:
        content = toml.loads(data.decode("utf-8"))
    except ValueError as error:  # also where it is no UTF-8
        raise ConfigError(f"{path} is no TOML: {error}") from None
    try:
        return _checked(path, content)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def _toml() -> ModuleType:
    for name in ("tomllib", "tomli"):  # the first comes with Python 3.11, the second from where the first was taken
        with contextlib.suppress(ImportError):
            return importlib.import_module(name)
    hint = "pip install 'raftlite[toml]' brings what reads it before that, or give the settings as options"
    raise ConfigError(f"--config needs Python 3.11 or newer: {hint}")


def _checked(path: str, content: Dict[str, Any]) -> Config:
    _check_names(content, {*_TOP, *_TABLES, "members"}, "")
    tables = {name: content.get(name, {}) for name in (*_TABLES, "members")}
    for name, table in tables.items():
        _check_value(name, table, _TABLE)
    for name, kinds in [("", _TOP), *_TABLES.items()]:
        table = tables[name] if name else {key: content[key] for key in _TOP if key in content}
        _check_names(table, set(kinds), name)
        for key, value in table.items():
            _check_value(f"{name}.{key}" if name else key, value, kinds[key])
    folder = Path(path).parent
    top = {key: _place(folder, content[key]) if _TOP[key] is _PATH else content[key] for key in _TOP if key in content}
    tls = {key: _place(folder, value) for key, value in tables["tls"].items()}
    members = _members(folder, tables["members"])
    for name in ("witnesses", "observers"):
        for node_id in top.get(name, []):
            if node_id not in members:
                raise ConfigError(f"{name} names {node_id!r}, but [members] has only {', '.join(sorted(members))}")
    return Config(path, top, members, tables["timing"], tls, tables["run"])


def _place(folder: Path, name: str) -> str:
    return str(folder / name)


def _members(folder: Path, table: Dict[str, Any]) -> Dict[str, str]:
    if not table:
        raise ConfigError('[members] is missing: name each member and its address there, as in a = "10.0.0.1:7600"')
    places = {}
    for node_id, address in table.items():
        check_node_id(node_id)
        _check_value(f"members.{node_id}", address, _Kind(_is_text, 'an address: write it as "10.0.0.1:7600"'))
        place = normalize(address, f"members.{node_id}")
        places[node_id] = normalize(folder / place) if is_path(address) else place
    return places


def _check_value(name: str, value: Any, kind: _Kind) -> None:
    if not kind.fits(value):
        raise ConfigError(f"{name} is {value!r}, but must be {kind.what}")


def _check_names(table: Dict[str, Any], known: Any, name: str) -> None:
    for key in table:
        if key in known:
            continue
        if key in _SECRETS:  # its value must not be repeated
            raise ConfigError(f"{key} is no setting: put the secret into a file of its own and name that authkey_file")
        raise ConfigError(f"{name + '.' if name else ''}{key} is no setting: {_suggestion(key, known, name)}")


def _suggestion(key: str, known: Any, name: str) -> str:
    owner: Optional[str] = next((each for each, kinds in _TABLES.items() if key in kinds), None)
    if owner is not None:
        return f"it belongs into [{owner}]"
    if name and key in _TOP:
        return "it belongs to the top, before the first table"
    import difflib  # for whoever makes a mistake

    near = difflib.get_close_matches(key, known, 1)
    return f"did you mean {near[0]}?" if near else f"there are {', '.join(sorted(known))}"
