"""What the page may have done to the cluster: each operation by its name, its arguments checked.

The names are those of the methods of `Lab`; `"n": "leader"` stands for whoever leads at that moment.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Callable, Dict, List, Mapping, Optional

from raftlite.errors import ConfigError
from raftlite.lab.lab import Lab
from raftlite.timing import is_number

Arguments = Mapping[str, Any]
Operation = Callable[[Lab, Arguments], None]

BY = "ui"
LONGEST_NOTE = 500  # characters
_NODE = ("kill", "power", "start", "freeze", "thaw", "wipe", "time_out", "resign")
_MESSAGE = ("drop", "hold", "release", "duplicate")


class Refused(Exception):
    """It cannot be done, or not now; the message is the sentence to show."""


def operate(lab: Lab, name: str, arguments: Arguments) -> None:
    """Do it. Raises `Refused`, or `ConfigError` for arguments that make no sense."""
    operation = OPERATIONS.get(name)
    if operation is None:
        raise ConfigError(f"there is no operation {name[:40]!r}")
    operation(lab, arguments)


def _of_node(name: str) -> Operation:
    return lambda lab, arguments: getattr(lab, name)(node_of(lab, arguments), by=BY)


def _of_message(name: str) -> Operation:
    return lambda lab, arguments: getattr(lab, name)(_whole(arguments, "m"), by=BY)


def node_of(lab: Lab, arguments: Arguments, name: str = "n") -> str:
    """The member that is meant."""
    n = arguments.get(name)
    if n == "leader":
        return _leader(lab)
    if not isinstance(n, str) or n not in lab.nodes:
        raise ConfigError(f"{name} is {n!r:.60}, but must be one of {', '.join(lab.nodes)}, or leader")
    return n


def _leader(lab: Lab) -> str:
    leader = lab.leader()
    if leader is None:
        raise Refused("nobody leads now")
    return leader


def _start_all(lab: Lab, _: Arguments) -> None:
    for n in lab.nodes:
        if lab.is_paused(n):
            lab.thaw(n, by=BY)
        lab.start(n, by=BY)  # which does nothing to one that runs


def _cut(lab: Lab, arguments: Arguments) -> None:
    lab.cut(node_of(lab, arguments, "a"), node_of(lab, arguments, "b"), _flag(arguments, "both"), by=BY)


def _mend(lab: Lab, arguments: Arguments) -> None:
    lab.mend(node_of(lab, arguments, "a"), node_of(lab, arguments, "b"), _flag(arguments, "both"), by=BY)


def _isolate(lab: Lab, arguments: Arguments) -> None:
    n = node_of(lab, arguments)
    lab.partition([n], [other for other in lab.nodes if other != n], by=BY)


def _partition(lab: Lab, arguments: Arguments) -> None:
    if "preset" in arguments:
        return lab.partition(*_preset(lab, arguments["preset"]), by=BY)
    groups: Any = arguments.get("groups")
    if not _is_list(groups, lambda group: _is_list(group, lambda n: isinstance(n, str))):
        raise ConfigError("groups must be lists of members")
    lab.partition(*groups, by=BY)


def _preset(lab: Lab, preset: Any) -> List[List[str]]:
    if preset == "all":
        return [[n] for n in lab.nodes]
    leader = lab.leader()
    others = [n for n in lab.nodes if n != leader]
    if preset == "minority":
        few = others[: (len(lab.nodes) - 1) // 2]
    elif preset in ("leader", "leader-and-one"):
        few = [_leader(lab), *(others[:1] if preset == "leader-and-one" else [])]
    else:
        raise ConfigError(f"preset is {preset!r:.60}, but must be all, minority, leader or leader-and-one")
    return [few, [n for n in lab.nodes if n not in few]]


def _delay(lab: Lab, arguments: Arguments) -> None:
    span: Any = arguments.get("range", arguments.get("seconds"))
    lab.delay(tuple(span) if isinstance(span, list) else span, by=BY)  # which checks it


def _rules(lab: Lab, arguments: Arguments) -> None:
    changes = {name: arguments[name] for name in ("pre_vote", "check_quorum", "jitter") if name in arguments}
    lab.set_rules(replace(lab.rules, **changes), by=BY)


def _note(lab: Lab, arguments: Arguments) -> None:
    text = arguments.get("text")
    if not isinstance(text, str) or not 0 < len(text) <= LONGEST_NOTE or not text.isprintable():
        raise ConfigError(f"text must be a line of 1 to {LONGEST_NOTE} printable characters")
    lab.note(text, by=BY)


def _step(lab: Lab, arguments: Arguments) -> None:
    lab.step(arguments.get("seconds"))


OPERATIONS: Dict[str, Operation] = {
    **{name: _of_node(name) for name in _NODE},
    **{name: _of_message(name) for name in _MESSAGE},
    "start_all": _start_all,
    "cut": _cut,
    "mend": _mend,
    "isolate": _isolate,
    "partition": _partition,
    "heal": lambda lab, _: lab.heal(by=BY),
    "delay": _delay,
    "loss": lambda lab, arguments: lab.loss(_number(arguments, "p"), by=BY),
    "spread": lambda lab, _: lab.spread(by=BY),
    "rules": _rules,
    "scale": lambda lab, arguments: lab.scale(_number(arguments, "x"), by=BY),
    "pause": lambda lab, _: lab.pause(),
    "play": lambda lab, _: lab.play(),
    "step": _step,
    "note": _note,
    "act": lambda lab, arguments: _ignore(lab.act(node_of(lab, arguments))),
}


def _ignore(_: object) -> None:
    pass


def aligned(arguments: Arguments) -> Any:
    """The members whose timers are to be aligned, or how many."""
    nodes = arguments.get("nodes", 2)
    if not (isinstance(nodes, int) and not isinstance(nodes, bool)) and not _is_list(
        nodes, lambda n: isinstance(n, str)
    ):
        raise ConfigError("nodes must be a list of members, or how many of them")
    return nodes


def _flag(arguments: Arguments, name: str) -> bool:
    value = arguments.get(name, True)
    if not isinstance(value, bool):
        raise ConfigError(f"{name} is {value!r:.60}, but must be true or false")
    return value


def _whole(arguments: Arguments, name: str) -> int:
    value = arguments.get(name)
    if not isinstance(value, int) or isinstance(value, bool):
        raise ConfigError(f"{name} is {value!r:.60}, but must be a whole number")
    return value


def _number(arguments: Arguments, name: str) -> float:
    value: Optional[float] = arguments.get(name)
    if value is None or not is_number(value):
        raise ConfigError(f"{name} is {value!r:.60}, but must be a number")
    return value


def _is_list(value: Any, test: Callable[[Any], bool]) -> bool:
    return isinstance(value, list) and all(map(test, value))
