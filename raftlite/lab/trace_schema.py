"""What a record of each kind must hold before anything else looks at it.

A file may come from anywhere. What has passed `why_wrong` may be folded and drawn without asking again what type it is.
Unknown kinds and unknown fields pass: they are a later version's, and readers leave them alone.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, NamedTuple

from raftlite.errors import ConfigError
from raftlite.lab.trace_records import FORMAT, VERSION, Record
from raftlite.membership import check_node_id

LARGEST = 2**53  # of the whole numbers that a page can count with
LONGEST_TIME = 1e9  # seconds: thirty years
LONGEST_TEXT = 10_000  # characters
MOST_NODES = 256
ROLES = ("follower", "pre-candidate", "candidate", "leader", "stopped")

Test = Callable[[Any], bool]


class Type(NamedTuple):
    words: str  # what a value must be
    test: Test

    def or_null(self) -> Type:
        return Type(f"{self.words} or null", lambda value: value is None or self.test(value))


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= LARGEST


def _is_time(value: Any) -> bool:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_number and 0 <= value <= LONGEST_TIME  # which no NaN and no infinity is


def _is_id(value: Any) -> bool:
    try:
        check_node_id(value)
    except ConfigError:
        return False
    return True


def _is_list_of(test: Test, count: int = MOST_NODES**2) -> Test:
    return lambda value: isinstance(value, list) and len(value) <= count and all(map(test, value))


def _is_pair_of(test: Test) -> Test:
    return lambda value: isinstance(value, list) and len(value) == 2 and all(map(test, value))


WHOLE = Type(f"a whole number from 0 to {LARGEST}", _is_whole)
COUNT = Type(f"a whole number from 1 to {LARGEST}", lambda value: _is_whole(value) and value > 0)
TIME = Type(f"a number of seconds from 0 to {LONGEST_TIME:.0f}", _is_time)
SHARE = Type("a number from 0 to 1", lambda value: _is_time(value) and value <= 1)
ID = Type("a node id (1 to 128 printable characters)", _is_id)
IDS = Type(f"a list of at most {MOST_NODES} different node ids", lambda value: _is_ids(value))
PAIRS = Type("a list of pairs of node ids", _is_list_of(_is_pair_of(_is_id)))
RANGE = Type("a pair of seconds", _is_pair_of(_is_time))
GROUPS = Type("a list of groups of node ids", _is_list_of(_is_list_of(_is_id, MOST_NODES)))
FLAG = Type("true or false", lambda value: isinstance(value, bool))
TEXT = Type(
    f"a text of at most {LONGEST_TEXT} characters", lambda value: isinstance(value, str) and len(value) <= LONGEST_TEXT
)
ROLE = Type("one of " + ", ".join(ROLES), lambda value: isinstance(value, str) and value in ROLES)
RULES = Type("an object of flags and numbers", lambda value: isinstance(value, dict) and _are_rules(value))
OBJECT = Type("an object", lambda value: isinstance(value, dict))


def _is_ids(value: Any) -> bool:
    return _is_list_of(_is_id, MOST_NODES)(value) and len(set(value)) == len(value)


def _are_rules(rules: Dict[str, Any]) -> bool:
    return all(isinstance(value, bool) or _is_time(value) for value in rules.values())


Fields = Dict[str, Type]

# Of the header, and of every record.
HEADER: Fields = {"nodes": IDS}
HEADER_MAY: Fields = {
    "raftlite": TEXT,
    "created": TEXT.or_null(),
    "backend": TEXT.or_null(),
    "scale": TIME.or_null(),
    "seed": Type("a whole number or null", lambda value: value is None or isinstance(value, int)),
    "config": OBJECT,
    "scene": TEXT.or_null(),
}
CONFIG_MAY: Fields = {
    "heartbeat": TIME.or_null(),
    "election": RANGE.or_null(),
    "delay": RANGE.or_null(),
    "loss": SHARE.or_null(),
    "pre_vote": FLAG,
    "check_quorum": FLAG,
    "proof": FLAG,
    "majority": WHOLE.or_null(),
    "jitter": TIME.or_null(),
}
EVERY: Fields = {"i": COUNT, "t": TIME, "k": TEXT}

_MESSAGE: Fields = {"m": COUNT, "type": TEXT}

# Of the records of a kind: what they must hold, and what must be of its type where it is there.
MUST: Dict[str, Fields] = {
    "start": {"n": ID, "inc": COUNT},
    "stop": {"n": ID},
    "pause": {"n": ID},
    "resume": {"n": ID},
    "state": {"n": ID, "role": ROLE, "term": WHOLE},
    "timer": {"n": ID, "timer": TEXT},
    "send": {"n": ID, "to": ID, **_MESSAGE},
    "recv": {"n": ID, "from": ID, "m": COUNT},
    "lost": {"n": ID, "from": ID, "m": COUNT},
    "proof": {"n": ID, "of": ID},
    "fault": {"op": TEXT},
    "links": {"cut": PAIRS},
    "event": {"n": ID, "event": TEXT},
    "note": {"text": TEXT},
    "check": {"name": TEXT, "ok": FLAG},
    "clock": {"op": TEXT},
    "act": {"ok": FLAG},
    "end": {},
}
MAY: Dict[str, Fields] = {
    "start": {"pid": COUNT},
    "stop": {"inc": COUNT, "why": TEXT},
    "state": {
        "vote": ID.or_null(),
        "votes": IDS,
        "leader": ID.or_null(),
        "deadline": TIME.or_null(),
        "span": TIME.or_null(),
        "lease": TIME.or_null(),
        "why": TEXT,
    },
    "send": {"term": WHOLE, "eta": TIME.or_null(), "round": WHOLE.or_null(), "why": TEXT, "text": TEXT},
    "recv": {"type": TEXT, "term": WHOLE, "result": TEXT, "why": TEXT, "copy": WHOLE},
    "lost": {"to": ID, "type": TEXT, "why": TEXT, "copy": WHOLE},
    "fault": {
        "n": ID.or_null(),
        "by": TEXT,
        "m": COUNT.or_null(),
        "copy": COUNT,
        "a": ID.or_null(),
        "b": ID.or_null(),
        "groups": GROUPS,
        "nodes": IDS,
        "delay": RANGE.or_null(),
        "loss": SHARE.or_null(),
        "scale": TIME.or_null(),
        "rules": RULES,
    },
    "links": {"loss": SHARE.or_null(), "delay": RANGE.or_null()},
    "event": {"leader": ID.or_null(), "token": WHOLE.or_null()},
    "note": {"by": TEXT, "kind": TEXT},
    "check": {"why": TEXT},
    "clock": {"scale": TIME.or_null()},
    "act": {"n": ID.or_null(), "by": ID.or_null(), "token": WHOLE.or_null(), "why": TEXT},
    "end": {"events": WHOLE, "dropped": WHOLE},
}
_OPTIONAL_NODE: Fields = {"n": ID.or_null()}


def why_wrong(record: Record) -> str:
    """Why `record` is none of a trace; empty if it is one."""
    return _wrong(record, EVERY, {}) or _wrong(
        record, MUST.get(record["k"], {}), {**_OPTIONAL_NODE, **MAY.get(record["k"], {})}
    )


def why_no_header(record: Any) -> str:
    """Why `record` is no header of a trace that this version reads; empty if it is one."""
    if not isinstance(record, dict) or record.get("k") != "header" or record.get("format") != FORMAT:
        return "it is no raftlite trace: a trace begins with a header, " + f'{{"k":"header","format":"{FORMAT}", ...}}'
    version: Any = record.get("v")
    if not _is_whole(version) or version < 1:
        return f"the version of the trace is {clipped(version)}, but must be a whole number from 1"
    if version > VERSION:
        return f"the trace has version {version}, but this raftlite reads version {VERSION}: a newer one may read it"
    return _wrong(record, HEADER, HEADER_MAY) or _wrong(record.get("config", {}), {}, CONFIG_MAY)


def _wrong(record: Record, must: Fields, may: Fields) -> str:
    for name, wanted in must.items():
        if name not in record:
            return f'{_of(record)} has no "{name}", which must be {wanted.words}'
        if not wanted.test(record[name]):
            return _not(record, name, wanted)
    for name, wanted in may.items():
        if name in record and not wanted.test(record[name]):
            return _not(record, name, wanted)
    return ""


def _not(record: Record, name: str, wanted: Type) -> str:
    return f'"{name}" of {_of(record)} is {clipped(record[name])}, but must be {wanted.words}'


def _of(record: Record) -> str:
    kind = record.get("k")
    if isinstance(kind, str) and kind in MUST:
        return f'the "{kind}" record'
    return "the header" if kind == "header" else "the record"


def clipped(value: Any) -> str:
    """What a sentence shows of a value that may be anything."""
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    if isinstance(value, int) and abs(value) > LARGEST**2:
        return "a number of very many digits"
    return ascii(value if not isinstance(value, str) or len(value) <= 40 else value[:37] + "...")
