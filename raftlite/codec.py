"""Messages to bytes and back: one JSON object a message, every field checked. Nothing is ever unpickled."""

from __future__ import annotations

import json
import math
from dataclasses import fields
from typing import Any, Callable, Dict, List, Optional, Tuple, Type

from raftlite.errors import ConfigError, MalformedMessage
from raftlite.membership import LONGEST_ID, Membership, MembershipVersion, NodeInfo
from raftlite.messages import (
    ChangeRequest,
    ChangeResponse,
    Heartbeat,
    HeartbeatResponse,
    Message,
    RequestVote,
    RequestVoteResponse,
    TimeoutNow,
)

MAX_MESSAGE_BYTES = 64 * 1024
LARGEST_NUMBER = 2**53  # beyond it, JSON readers in other languages lose digits
LONGEST_PROMISE = 86_400.0
LONGEST_TEXT = 1_000

WIRE_MESSAGES: Tuple[Type[Any], ...] = (
    RequestVote,
    RequestVoteResponse,
    Heartbeat,
    HeartbeatResponse,
    TimeoutNow,
    ChangeRequest,
    ChangeResponse,
)


_latest: Tuple[object, bytes] = (object(), b"")  # the last message encoded; replaced whole, so any thread may look


def encode(message: Message) -> bytes:
    """Return the bytes of a wire message. Raises `MalformedMessage` for anything that `decode` would refuse."""
    global _latest
    if message is _latest[0]:  # what goes to all members is the same for each
        return _latest[1]
    if type(message) not in WIRE_MESSAGES:
        raise MalformedMessage(f"{type(message).__name__} has no form on the wire")
    name = type(message).__name__
    parts = [f'"type":"{name}"']
    for field, read in _READERS[name].items():
        value = getattr(message, field)
        value = read(field, value[:LONGEST_TEXT] if type(value) is str else value)  # a reason may name a hundred ids
        parts.append(f'"{field}":{_JSON[type(value)](value)}')
    data = f"{{{','.join(parts)}}}".encode("ascii")
    if len(data) > MAX_MESSAGE_BYTES:
        raise MalformedMessage(f"a message of {len(data)} bytes is longer than {MAX_MESSAGE_BYTES}")
    _latest = (message, data)
    return data


def decode(data: bytes) -> Message:
    """Return the wire message in `data`. Raises `MalformedMessage`, and nothing else, for bytes that hold none."""
    content = load(data)
    name = content.pop("type", None)
    readers = _READERS.get(name) if isinstance(name, str) else None
    if readers is None:
        raise MalformedMessage(f"unknown message type {shorten(name)}")
    if content.keys() != readers.keys():
        raise MalformedMessage(f"{name} has fields {shorten(sorted(content))} instead of {sorted(readers)}")
    message: Message = _TYPES[name](**{field: read(field, content[field]) for field, read in readers.items()})
    return message


def dump(content: Dict[str, Any]) -> bytes:
    """Return the compact JSON of `content`."""
    return _ENCODER.encode(content).encode("ascii")


def load(data: bytes) -> Dict[str, Any]:
    """Return the JSON object in `data`. Raises `MalformedMessage` for anything else."""
    if len(data) > MAX_MESSAGE_BYTES:
        raise MalformedMessage(f"{len(data)} bytes are more than the {MAX_MESSAGE_BYTES} of the longest message")
    try:
        text = data.decode("utf-8")
        content, end = _DECODER.raw_decode(text)
    except (ValueError, RecursionError) as error:
        raise MalformedMessage(f"no JSON: {type(error).__name__}") from None
    if end != len(text):
        raise MalformedMessage(f"JSON, and {len(text) - end} characters after it")
    if not isinstance(content, dict):
        raise MalformedMessage(f"JSON, but no object: {shorten(content)}")
    return content


def membership_to_plain(membership: Membership) -> Dict[str, Any]:
    """Return `membership` as JSON data."""
    nodes = [[node.node_id, node.voter, node.address] for node in membership.nodes]
    return {"term": membership.term, "version": membership.version, "nodes": nodes}


def membership_from_plain(content: Any) -> Membership:
    """Return the membership in JSON data. Raises `MalformedMessage` for anything else."""
    return _membership("membership", content)


_Reader = Callable[[str, Any], Any]


def shorten(value: Any) -> str:
    """Return the `repr` of what a peer sent, cut to fit into a log line."""
    try:
        text = repr(value)
    except (RecursionError, ValueError):  # nested too deeply, or a number of too many digits
        text = f"a {type(value).__name__} that cannot be printed"
    return text if len(text) <= 60 else text[:57] + "..."


def printable(text: str) -> str:
    """Return what a peer says as one line, whatever characters it holds."""
    return text if text.isprintable() else "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


# --- One reader for each kind of field ------------------------------------------------------------
# They read what JSON has made of a message, and what the message itself holds before it is written.

_LISTS = (list, tuple)


def _number(name: str, value: Any) -> int:
    if type(value) is not int or not 0 <= value <= LARGEST_NUMBER:
        raise MalformedMessage(f"{name} is {shorten(value)}, but must be a whole number from 0 to 2**53")
    return value


def _flag(name: str, value: Any) -> bool:
    if type(value) is not bool:
        raise MalformedMessage(f"{name} is {shorten(value)}, but must be true or false")
    return value


def _seconds(name: str, value: Any) -> float:
    if type(value) not in (int, float) or not 0 <= value <= LONGEST_PROMISE:  # NaN is not within any bounds
        raise MalformedMessage(f"{name} is {shorten(value)}, but must be a number of seconds")
    return float(value)


def _text(name: str, value: Any) -> str:
    if type(value) is not str or len(value) > LONGEST_TEXT:
        raise MalformedMessage(f"{name} is {shorten(value)}, but must be a short text")
    return value


def _sentence(name: str, value: Any) -> str:
    return printable(_text(name, value))[:LONGEST_TEXT]


def _id(name: str, value: Any) -> str:
    if type(value) is not str or not 1 <= len(value) <= LONGEST_ID or not value.isprintable():
        raise MalformedMessage(f"{name} is {shorten(value)}, but must be 1 to {LONGEST_ID} printable characters")
    return value


def _ids(name: str, value: Any) -> Tuple[str, ...]:
    if type(value) not in _LISTS:
        raise MalformedMessage(f"{name} is {shorten(value)}, but must be a list of ids")
    return tuple(_id(name, item) for item in value)


def _position(name: str, value: Any) -> MembershipVersion:
    if type(value) not in _LISTS or len(value) != 2:
        raise MalformedMessage(f"{name} is {shorten(value)}, but must be a term and a version")
    return _number(name, value[0]), _number(name, value[1])


def _membership(name: str, value: Any) -> Membership:
    if type(value) is Membership:
        value = membership_to_plain(value)
    if type(value) is not dict or value.keys() != {"term", "version", "nodes"} or type(value["nodes"]) is not list:
        raise MalformedMessage(f"{name} is {shorten(value)}, but must have a term, a version and nodes")
    term, version = _number("term", value["term"]), _number("version", value["version"])
    try:
        return Membership(term, version, tuple(_node(node) for node in value["nodes"]))
    except ConfigError as error:
        raise MalformedMessage(str(error)) from None


def _node(value: Any) -> NodeInfo:
    if type(value) is NodeInfo:
        value = [value.node_id, value.voter, value.address]
    if type(value) is not list or len(value) != 3:
        raise MalformedMessage(f"a node is {shorten(value)}, but must be an id, whether it votes, and an address")
    address = None if value[2] is None else _text("address", value[2])
    try:
        return NodeInfo(_id("node id", value[0]), _flag("voter", value[1]), address)
    except ConfigError as error:
        raise MalformedMessage(str(error)) from None


def _optional_node(name: str, value: Any) -> Optional[NodeInfo]:
    return None if value is None else _node(value)


def _one_of(*words: str) -> _Reader:
    def read(name: str, value: Any) -> str:
        if type(value) is not str or value not in words:
            raise MalformedMessage(f"{name} is {shorten(value)}, but must be one of {', '.join(words)}")
        return value

    return read


def _optional_membership(name: str, value: Any) -> Optional[Membership]:
    return None if value is None else _membership(name, value)


_FIELDS: Dict[str, _Reader] = {
    "term": _number,
    "sender_id": _id,
    "round": _number,
    "membership_version": _position,
    "member_ids": _ids,
    "pre_vote": _flag,
    "transfer": _flag,
    "vote_granted": _flag,
    "reason": _sentence,
    "membership": _optional_membership,
    "promise": _seconds,
    "number": _number,
    "action": _one_of("add", "remove", "transfer"),
    "node": _optional_node,
    "outcome": _one_of("done", "refused", "again"),
}

_TYPES: Dict[str, Type[Any]] = {message.__name__: message for message in WIRE_MESSAGES}
_READERS: Dict[str, Dict[str, _Reader]] = {
    name: {field.name: _FIELDS[field.name] for field in fields(message)} for name, message in _TYPES.items()
}


def _finite(text: str) -> float:
    """Refuse what Python takes for a number and JSON does not: NaN, Infinity, and 1e999, which is read as Infinity."""
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is no number")
    return value


def _without_duplicates(pairs: List[Tuple[str, Any]]) -> Dict[str, Any]:
    content = dict(pairs)
    if len(content) != len(pairs):
        raise ValueError("a key is given twice")
    return content


# Made once: `json.dumps` and `json.loads` make one for each message.
_ENCODER = json.JSONEncoder(separators=(",", ":"), allow_nan=False)
_DECODER = json.JSONDecoder(object_pairs_hook=_without_duplicates, parse_constant=_finite, parse_float=_finite)

# The JSON of a value that a reader has returned. `_ENCODER` can do all of it and takes twice as long where it is not
# warm, which is 0.2 ms of every takeover; for a text it has a short way.
_JSON: Dict[Type[Any], Callable[[Any], str]] = {
    int: str,
    float: repr,
    bool: {False: "false", True: "true"}.__getitem__,
    type(None): lambda value: "null",
    str: _ENCODER.encode,
    tuple: lambda values: f"[{','.join([_JSON[type(value)](value) for value in values])}]",
    Membership: lambda membership: _ENCODER.encode(membership_to_plain(membership)),
    NodeInfo: lambda node: _JSON[tuple]((node.node_id, node.voter, node.address)),
}
