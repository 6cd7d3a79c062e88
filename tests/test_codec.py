"""Messages to bytes and back: what is no message is refused with one error, whatever a stranger sends."""

from __future__ import annotations

import importlib.util
import json
import math
import pickle
import random
import string
from dataclasses import fields, replace

import pytest

from raftlite.codec import (
    LARGEST_NUMBER,
    LONGEST_PROMISE,
    LONGEST_TEXT,
    MAX_MESSAGE_BYTES,
    WIRE_MESSAGES,
    decode,
    encode,
    load,
    membership_from_plain,
    membership_to_plain,
    printable,
)
from raftlite.errors import MalformedMessage
from raftlite.membership import LONGEST_ID, Membership, NodeInfo
from raftlite.messages import (
    AddNode,
    ChangeRequest,
    ChangeResponse,
    Heartbeat,
    HeartbeatResponse,
    LeaderChanged,
    PeerDown,
    RemoveNode,
    RequestVote,
    RequestVoteResponse,
    Resign,
    Stop,
    TimeoutNow,
    TransferLeadership,
)

MEMBERSHIP = Membership(
    3, 2, (NodeInfo("a", address="10.0.0.1:7600"), NodeInfo("b", address="/run/b.sock"), NodeInfo("c", voter=False))
)
MESSAGES = [
    RequestVote(4, "a", (3, 2), ("a", "b")),
    RequestVote(4, "a", (3, 2), ("a", "b"), pre_vote=True),
    RequestVote(4, "a", (3, 2), ("a", "b"), transfer=True),
    RequestVote(4, "a", (3, 2), ()),
    RequestVoteResponse(4, "b", True),
    RequestVoteResponse(4, "b", True, pre_vote=True),
    RequestVoteResponse(4, "b", False, reason="voted for c in term 4"),
    RequestVoteResponse(4, "b", False, reason="its membership is older", membership=MEMBERSHIP),
    Heartbeat(4, "a", 7, (3, 2)),
    Heartbeat(4, "a", 7, (3, 2), MEMBERSHIP),
    Heartbeat(4, "a", 7, (0, 1), Membership(0, 1, ())),
    HeartbeatResponse(4, "b", 7, (3, 2), 1.5),
    HeartbeatResponse(4, "b", 7, (3, 2), 0.0),
    TimeoutNow(4, "a"),
    ChangeRequest(4, "b", 17, "add", NodeInfo("d", voter=False, address="10.0.0.4:7600")),
    ChangeRequest(4, "b", 17, "transfer"),
    ChangeResponse(4, "a", 17, "done", "", MEMBERSHIP),
    ChangeResponse(4, "a", 17, "refused", "max_nodes is 3"),
]
FULLEST = [
    MESSAGES[1],
    MESSAGES[7],
    MESSAGES[9],
    MESSAGES[11],
    MESSAGES[13],
    MESSAGES[14],
    MESSAGES[16],
]  # one of each type, with every field in use


def plain(message):
    """A message as JSON data, to be spoiled."""
    return json.loads(encode(message))


def spoilt(message, **changes):
    return json.dumps({**plain(message), **changes}).encode()


def name(message):
    return type(message).__name__


# --- There and back ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("message", MESSAGES, ids=repr)
def test_a_message_arrives_as_it_was_sent(message):
    """Equal, of the same type, and with the same types inside: tuples do not come back as lists."""
    received = decode(encode(message))
    assert received == message
    assert repr(received) == repr(message)


def test_every_wire_message_is_tried_here():
    assert {type(message) for message in FULLEST} == set(WIRE_MESSAGES)


def test_the_largest_and_the_longest_values_arrive():
    """The bounds themselves are allowed."""
    long_id = "n" * LONGEST_ID
    for message in (
        Heartbeat(LARGEST_NUMBER, long_id, LARGEST_NUMBER, (LARGEST_NUMBER, LARGEST_NUMBER)),
        Heartbeat(0, "a", 0, (0, 0)),
        HeartbeatResponse(1, "a", 1, (1, 1), LONGEST_PROMISE),
        RequestVoteResponse(1, "a", False, reason="r" * LONGEST_TEXT),
    ):
        assert decode(encode(message)) == message


def test_ids_and_reasons_may_be_in_any_script():
    for message in (TimeoutNow(1, "Zürich-東京-🗳"), RequestVoteResponse(1, "ä", False, reason="gewählt: Ω 🗳")):
        assert decode(encode(message)) == message
        assert encode(message).isascii()


@pytest.mark.parametrize("message", [RequestVoteResponse(1, "b", False), ChangeResponse(1, "b", 7, "refused")])
def test_what_a_peer_says_is_one_line_in_the_log(message):
    """Neither a line of its own making, nor a key press for the terminal, nor what no log can be written with."""
    received = decode(spoilt(message, reason="no\nWARNING \x1b[2J \ud800, ä"))
    assert received.reason == r"no\nWARNING \x1b[2J \ud800, ä"


def test_whole_seconds_arrive_as_a_float():
    """Another implementation may write 1 for 1.0."""
    received = decode(spoilt(HeartbeatResponse(1, "b", 1, (1, 1), 1.0), promise=1))
    assert type(received.promise) is float
    assert received.promise == 1.0


def test_a_membership_survives_as_json_data():
    """The storage and the status use the same form."""
    assert membership_from_plain(json.loads(json.dumps(membership_to_plain(MEMBERSHIP)))) == MEMBERSHIP


def test_a_refusal_that_names_a_large_cluster_is_shortened_rather_than_lost():
    """When the lists of two members differ the refusal names all ids, and the peer would hang up on a longer text."""
    reason = ", ".join(f"worker-{number}.example.internal" for number in range(200))
    received = decode(encode(RequestVoteResponse(1, "b", False, reason=reason)))
    assert received.reason == reason[:LONGEST_TEXT]


# --- What has no form on the wire -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "message",
    [
        AddNode(NodeInfo("b")), RemoveNode("b"), TransferLeadership("b"), Resign(), PeerDown("b"), Stop(),
        LeaderChanged("a", 1), None, "Heartbeat", b"", {"type": "TimeoutNow", "term": 1, "sender_id": "a"}, TimeoutNow,
    ],
    ids=repr,
)  # fmt: skip
def test_only_wire_messages_have_a_form_on_the_wire(message):
    with pytest.raises(MalformedMessage, match="has no form on the wire"):
        encode(message)


@pytest.mark.parametrize("control", [AddNode, RemoveNode, TransferLeadership, Resign, PeerDown, Stop])
def test_no_network_can_bring_a_control_message(control):
    """They would let a peer stop this member, or tell it that its leader is dead."""
    for content in ({}, {"node_id": "b"}, {"node": ["b", True, None]}, {"to": None}, {"term": 1, "sender_id": "a"}):
        with pytest.raises(MalformedMessage, match="unknown message type"):
            decode(json.dumps({"type": control.__name__, **content}).encode())


class Loud(TimeoutNow):
    """A program's own kind of message."""


def test_a_subclass_has_no_form_on_the_wire():
    """It would arrive as something else."""
    with pytest.raises(MalformedMessage, match="Loud has no form on the wire"):
        encode(Loud(1, "a"))


def test_the_first_thing_encoded_may_be_no_message_either():
    """There is none before it that it could be taken for."""
    spec = importlib.util.find_spec("raftlite.codec")
    fresh = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fresh)
    with pytest.raises(MalformedMessage, match="NoneType has no form on the wire"):
        fresh.encode(None)


@pytest.mark.parametrize(
    "message",
    [
        TimeoutNow(-1, "a"),
        TimeoutNow(True, "a"),
        TimeoutNow(1.0, "a"),
        TimeoutNow(LARGEST_NUMBER + 1, "a"),
        TimeoutNow(1, ""),
        TimeoutNow(1, "a\n"),
        TimeoutNow(1, 7),
        TimeoutNow(1, object),
        Heartbeat(1, "a", 1, (1, 1, 1)),
        Heartbeat(1, "a", 1, None),
        Heartbeat(1, "a", 1, (1, 1), Membership(-1, 1, ())),
        HeartbeatResponse(1, "a", 1, (1, 1), math.nan),
        HeartbeatResponse(1, "a", 1, (1, 1), math.inf),
        HeartbeatResponse(1, "a", 1, (1, 1), -0.5),
        RequestVote(1, "a", (1, 1), "ab"),
        RequestVote(1, "a", (1, 1), ("a", None)),
        RequestVoteResponse(1, "a", 1),
        RequestVoteResponse(1, "a", True, reason=None),
        RequestVote(1, "a", (1, 1), tuple(f"{number:0>128}" for number in range(600))),
    ],
    ids=lambda message: repr(message)[:60],
)
def test_nothing_is_sent_that_would_be_refused(message):
    """Otherwise the peer hangs up, and again after each reconnection."""
    with pytest.raises(MalformedMessage):
        encode(message)


# --- What is no message -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("message", FULLEST, ids=name)
def test_a_message_with_a_field_missing_is_refused(message):
    for missing in plain(message):
        content = plain(message)
        del content[missing]
        with pytest.raises(MalformedMessage):
            decode(json.dumps(content).encode())


@pytest.mark.parametrize("message", FULLEST, ids=name)
def test_a_message_with_a_field_too_many_is_refused(message):
    """Even under a name that means something to another message."""
    for extra in (
        "x",
        "",
        "Term",
        "__class__",
        "position",
        "promise" if name(message) != "HeartbeatResponse" else "transfer",
    ):
        with pytest.raises(MalformedMessage, match="has fields"):
            decode(spoilt(message, **{extra: 1}))


@pytest.mark.parametrize("message", FULLEST, ids=name)
def test_a_field_that_is_given_twice_is_refused(message):
    """Two readers could take it for two messages."""
    text = encode(message).decode()
    for twice in plain(message):
        again = json.dumps(plain(message)[twice])
        for doubled in (f'{{"{twice}":{again},{text[1:]}', f'{text[:-1]},"{twice}":{again}}}'):
            assert len(json.loads(doubled)) == len(plain(message))
            with pytest.raises(MalformedMessage):
                decode(doubled.encode())


def test_a_field_that_is_given_twice_inside_a_membership_is_refused():
    text = encode(Heartbeat(4, "a", 7, (3, 2), MEMBERSHIP)).decode()
    with pytest.raises(MalformedMessage):
        decode(text.replace('"version":2', '"version":2,"version":2').encode())


@pytest.mark.parametrize("type_", [None, 0, True, "", "Stop", "timeoutnow", "TimeoutNow ", "type", ["TimeoutNow"], {}])
def test_an_unknown_type_is_refused(type_):
    with pytest.raises(MalformedMessage, match="unknown message type"):
        decode(spoilt(TimeoutNow(1, "a"), type=type_))


# fmt: off
HUGE = 10**400  # more than a float can hold
NO_NUMBERS = [None, True, False, -1, 1.0, 0.0, "1", "", [1], {}, LARGEST_NUMBER + 1, HUGE, -HUGE, math.nan, math.inf]
NO_FLAGS = [None, 0, 1, "true", "", [], 1.0]
NO_TEXTS = [None, True, 1, ["a"], {}, "r" * (LONGEST_TEXT + 1)]
NO_IDS = [None, True, 1, ["a"], {}, "", "n" * (LONGEST_ID + 1), "a\n", "a\0", "\ud800", "\u200b"]
NO_POSITIONS = [
    None, 1, "11", [], [1], [1, 1, 1], {"term": 1, "version": 1},
    [1, True], [1, -1], [1.0, 1], [1, None], [HUGE, 1],
]
NO_SECONDS = [
    None, True, False, "1", [1.0], {}, -0.001, -1, LONGEST_PROMISE + 1,
    HUGE, -HUGE, math.nan, math.inf, -math.inf,
]
NO_NODES = [
    None, 1, "a", [], ["a"], ["a", True], ["a", True, None, 1], {"node_id": "a"}, [["a"], True, None],
    ["", True, None], ["a", 1, None], ["a", None, None],
    ["a", True, 1], ["a", True, ["10.0.0.1", 1]], ["a", True, "x" * (LONGEST_TEXT + 1)],
]
NO_MEMBERSHIPS = [
    0, True, "", [], {},
    {"term": 1, "version": 1}, {"term": 1, "nodes": []}, {"version": 1, "nodes": []},
    {"term": 1, "version": 1, "nodes": [], "x": 1},
    {"term": 1, "version": 1, "nodes": None},
    {"term": 1, "version": 1, "nodes": {}},
    {"term": 1, "version": 1, "nodes": [["a", True, None], ["a", False, None]]},
    *({"term": no, "version": 1, "nodes": []} for no in NO_NUMBERS),
    *({"term": 1, "version": no, "nodes": []} for no in NO_NUMBERS),
    *({"term": 1, "version": 1, "nodes": [no]} for no in NO_NODES),
]
# fmt: on
WRONG = {
    "term": NO_NUMBERS,
    "round": NO_NUMBERS,
    "sender_id": NO_IDS,
    "member_ids": [None, True, "ab", {"a": 1}, 1, *([no] for no in NO_IDS), ["a", ["b"]]],
    "membership_version": NO_POSITIONS,
    "pre_vote": NO_FLAGS,
    "transfer": NO_FLAGS,
    "vote_granted": NO_FLAGS,
    "reason": NO_TEXTS,
    "membership": NO_MEMBERSHIPS,
    "promise": NO_SECONDS,
    "number": NO_NUMBERS,
    "action": [*NO_TEXTS, "", "Add", "done"],
    "node": [
        True,
        1,
        "d",
        [],
        {},
        ["d"],
        ["d", True],
        ["d", 1, None],
        ["d", True, 1],
        *([no, True, None] for no in NO_IDS),
    ],
    "outcome": [*NO_TEXTS, "", "Done", "add"],
}


@pytest.mark.parametrize("message", FULLEST, ids=name)
def test_a_field_of_a_wrong_type_or_out_of_bounds_is_refused(message):
    """JSON has no whole numbers of its own, and Python takes True for 1: each field is checked for its very type."""
    for field in fields(message):
        for value in WRONG[field.name]:
            with pytest.raises(MalformedMessage):
                decode(spoilt(message, **{field.name: value}))
                pytest.fail(f"{field.name}={value!r:.80} was taken")


def test_every_field_has_its_wrong_values():
    assert set(WRONG) == {field.name for message in FULLEST for field in fields(message)}


NO_JSON_NUMBERS = ["NaN", "Infinity", "-Infinity", "1e999", "-1e999"]


@pytest.mark.parametrize("constant", NO_JSON_NUMBERS)
@pytest.mark.parametrize(
    "nesting", ["HERE", '{"promise":HERE}', "[1,HERE]", '{"membership":{"nodes":[["a",{"x":[HERE]}]]}}']
)
def test_numbers_that_are_none_are_refused_wherever_they_stand(constant, nesting):
    """Also in what says hello, of which the fields are read one by one: comparisons with NaN are all false."""
    text = '{"protocol":1,"timeout":' + nesting + "}"
    assert load(text.replace("HERE", "1e99").encode())["protocol"] == 1
    with pytest.raises(MalformedMessage, match="no JSON: ValueError"):
        load(text.replace("HERE", constant).encode())


@pytest.mark.parametrize("constant", NO_JSON_NUMBERS)
def test_numbers_that_are_none_are_refused_in_every_field(constant):
    """Python's JSON knows three that are not JSON; comparisons with NaN are all false, so no bound would hold it."""
    for message in FULLEST:
        for field in fields(message):
            data = spoilt(message, **{field.name: "HERE"}).replace(b'"HERE"', constant.encode())
            with pytest.raises(MalformedMessage):
                decode(data)


@pytest.mark.parametrize("digits", [16, 400, 4_300, 4_301, 60_000])
def test_a_number_of_many_digits_is_refused(digits):
    """Python refuses to read the longest ones with an error of its own, and cannot make a float of the others."""
    for message in FULLEST:
        for field in fields(message):
            for number in ("9" * digits, "-" + "9" * digits, "9" * digits + ".5"):
                with pytest.raises(MalformedMessage):
                    decode(spoilt(message, **{field.name: "HERE"}).replace(b'"HERE"', number.encode()))


@pytest.mark.parametrize("opening, inner, closing", [("[", "", "]"), ('{"a":', "1", "}"), ('[{"a":', "1", "}]")])
def test_deep_nesting_is_refused(opening, inner, closing):
    """At any depth, also where Python's parser or its repr gives up."""
    for depth in [*range(1, 2_000, 61), 5_000, 9_000]:
        nested = opening * depth + inner + closing * depth
        for frame in ("HERE", '{"type":HERE}', '{"type":"TimeoutNow","term":HERE,"sender_id":"a"}'):
            with pytest.raises(MalformedMessage):
                decode(frame.replace("HERE", nested).encode())


@pytest.mark.parametrize(
    "data",
    [
        b"", b" ", b"\n", b"\0", b"'", b"{", b"}", b"{}", b"[]", b"null", b"true", b"0", b'""', b"{,}", b"{}{}",
        b"\xff", b"\xc3\x28", b"\xed\xa0\x80", b"\xf8\x88\x80\x80\x80", b"\xef\xbb\xbf{}", b'{"type":"TimeoutNow\xff"}',
        '{"type":"TimeoutNow","term":1,"sender_id":"a"}'.encode("utf-16"),
        '{"type":"TimeoutNow","term":1,"sender_id":"a"}'.encode("utf-32"),
        b'\xef\xbb\xbf{"type":"TimeoutNow","term":1,"sender_id":"a"}',
        b'{"type":"TimeoutNow","term":1,"sender_id":"\xe4"}',
        b'{"type":"TimeoutNow","term":01,"sender_id":"a"}',
        b'{"type":"TimeoutNow","term":1,"sender_id":"a"},',
        b'{"type":"TimeoutNow","term":1,"sender_id":"a"} {}',
        b'{"type":"TimeoutNow","term":1,"sender_id":"a",}',
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"SSH-2.0-OpenSSH_9.2\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc",
    ],
    ids=lambda data: repr(data)[:40],
)  # fmt: skip
def test_what_is_no_json_object_is_refused(data):
    with pytest.raises(MalformedMessage):
        decode(data)


def test_a_message_of_64_kib_is_read_and_a_longer_one_is_refused():
    text = encode(TimeoutNow(1, "a"))
    padded = text[:-1] + b" " * (MAX_MESSAGE_BYTES - len(text)) + b"}"
    assert len(padded) == 65_536
    assert decode(padded) == TimeoutNow(1, "a")
    with pytest.raises(MalformedMessage, match="more than the 65536 of the longest message"):
        decode(padded + b" ")


def test_the_error_for_a_huge_field_is_short():
    """It goes into a log."""
    for data in (
        spoilt(TimeoutNow(1, "a"), term="x" * 60_000),
        spoilt(TimeoutNow(1, "a"), type="x" * 60_000),
        json.dumps(["x" * 60_000]).encode(),
        json.dumps({"type": "TimeoutNow", "x" * 60_000: 1}).encode(),
    ):
        with pytest.raises(MalformedMessage) as error:
            decode(data)
        assert len(str(error.value)) < 200


class Bomb:
    """What `pickle.loads` would make a call of."""

    def __reduce__(self):
        return (pytest.fail, ("bytes were unpickled",))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_is_refused_and_never_loaded(protocol):
    with pytest.raises(MalformedMessage):
        decode(pickle.dumps(Bomb(), protocol))


# --- Whatever comes ---------------------------------------------------------------------------------------------------


def is_refused_or_sound(data):
    """Whether `decode` raised what it promises. What it took must be fit to be sent on."""
    try:
        message = decode(data)
    except MalformedMessage as error:
        assert len(str(error)) < 400
        return True
    assert type(message) in WIRE_MESSAGES
    assert decode(encode(message)) == message
    return False


def test_random_bytes_are_refused():
    """Seed 1, 3000 strings of 0 to 80 bytes: none is a message by chance."""
    rng = random.Random(1)
    for _ in range(3_000):
        assert is_refused_or_sound(bytes(rng.randrange(256) for _ in range(rng.randrange(80))))


def test_mutated_messages_are_refused_or_sound():
    """Seed 2, 6000 messages with a few bytes changed, cut, repeated or moved."""
    rng = random.Random(2)
    refused = sum(is_refused_or_sound(mutated(encode(rng.choice(MESSAGES)), rng)) for _ in range(6_000))
    assert 3_000 < refused < 6_000, "the mutations are too wild or too tame to say anything"


SYNTAX = [b'"', b"{", b"}", b"[", b"]", b",", b":", b"-", b"e9", b"null", b"\\u"]


def mutated(data, rng):
    for _ in range(rng.randrange(1, 4)):
        at, length = rng.randrange(len(data) + 1), rng.randrange(1, 9)
        piece = data[at : at + length]
        data = rng.choice(
            [
                data[:at] + bytes([rng.randrange(256)]) + data[at + 1 :],
                data[:at] + rng.choice(string.printable).encode() + data[at:],
                data[:at] + data[at + length :],
                data[:at] + piece + data[at:],
                data[:at]
                + rng.choice([b'"', b"{", b"}", b"[", b"]", b",", b":", b"-", b"e9", b"null", b"\\u"])
                + data[at:],
                data[:at],
            ]
        )
    return data


def test_messages_with_values_from_elsewhere_are_refused_or_sound():
    """Seed 3, 4000 messages in which fields have the values of other fields, or any JSON at all."""
    rng = random.Random(3)
    values = [value for message in MESSAGES for value in plain(message).values()]
    values += [value for wrong in WRONG.values() for value in wrong]
    refused = 0
    for _ in range(4_000):
        content = plain(rng.choice(MESSAGES))
        for field in rng.sample(sorted(content), rng.randrange(1, 3)):
            content[field] = rng.choice(values)
        refused += is_refused_or_sound(json.dumps(content).encode())
    assert refused > 3_000


def test_messages_with_any_values_in_bounds_arrive():
    """Seed 4, 1000 messages drawn from the whole range of each field."""
    rng = random.Random(4)
    for _ in range(1_000):
        message = rng.choice(MESSAGES)
        changes = {field.name: DRAW[field.name](rng) for field in fields(message)}
        message = replace(message, **changes)
        assert decode(encode(message)) == message


def draw_number(rng):
    return rng.choice([rng.randrange(100), rng.randrange(LARGEST_NUMBER + 1)])


def draw_id(rng):
    return "".join(rng.choices(string.ascii_letters + "äß東🗳 -_.:/'\"\\", k=rng.randrange(1, 20)))


def draw_text(rng):
    return "".join(chr(rng.randrange(0x110000)) for _ in range(rng.randrange(20)))


def draw_flag(rng):
    return rng.random() < 0.5


def draw_membership(rng):
    ids = {draw_id(rng) for _ in range(rng.randrange(8))}
    nodes = tuple(NodeInfo(id_, draw_flag(rng), draw_text(rng) if draw_flag(rng) else None) for id_ in ids)
    return Membership(draw_number(rng), draw_number(rng), nodes) if draw_flag(rng) else None


DRAW = {
    "term": draw_number,
    "round": draw_number,
    "sender_id": draw_id,
    "member_ids": lambda rng: tuple(draw_id(rng) for _ in range(rng.randrange(8))),
    "membership_version": lambda rng: (draw_number(rng), draw_number(rng)),
    "pre_vote": draw_flag,
    "transfer": draw_flag,
    "vote_granted": draw_flag,
    "reason": lambda rng: printable(draw_text(rng)),
    "membership": draw_membership,
    "promise": lambda rng: rng.choice([0.0, rng.random(), rng.uniform(0, LONGEST_PROMISE)]),
    "number": draw_number,
    "action": lambda rng: rng.choice(["add", "remove", "transfer"]),
    "node": lambda rng: rng.choice([None, NodeInfo(draw_id(rng), draw_flag(rng), draw_text(rng))]),
    "outcome": lambda rng: rng.choice(["done", "refused", "again"]),
}
