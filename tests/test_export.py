"""Traces in the forms of other programs: each keeps to what its program publishes, and texts stay in their place."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import xml.etree.ElementTree as ET

import pytest
import traces
from traces import Story, show

from raftlite.lab.export import to_html, to_mermaid, to_shiviz, to_svg, to_text
from raftlite.lab.export.part import Part
from raftlite.lab.export.svg_canvas import Canvas, box_of
from raftlite.lab.export.svg_frame import Frame
from raftlite.lab.export.svg_lanes import cut_words, reigns
from raftlite.lab.export.words import Narrator, clean, describe, fault_words
from raftlite.lab.trace import Trace, lint, loads, to_jsonl

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = [
    "<script>alert(1)</script>",
    "a\"b' onload=x",
    "end; %% #35; :x",
    "-->",
    "`*_[x](y)",
    "n 1",
    "领导者",
    "&lt;",
]
EXPORTS = {
    "svg": to_svg,
    "order": lambda trace, **part: to_svg(trace, time="order", **part),
    "mermaid": to_mermaid,
    "shiviz": to_shiviz,
    "losses": lambda trace, **part: to_shiviz(trace, losses=True, **part),
    "text": to_text,
}


@pytest.fixture
def story():
    story = Story("n1", "n2", "n3")
    story.start()
    story.run(1.0)
    return story


def hostile_trace():
    """Everything that a file may choose says something that it must not."""
    story = Story(*HOSTILE, scene="</title><script>", backend="</svg>", raftlite="]]>")
    story.start()
    story.run(3.0)
    story.campaign(HOSTILE[0], refused=tuple(HOSTILE[1:3]))
    story.run(2.4)
    for text in HOSTILE:
        story.add("note", text=text + "\u2028\x1b[31m\x00\nend\n", by="ui", kind="note")
        story.add("fault", op=text, by=text, a=text, b=text, groups=[[text], []], rules={text: True}, nodes=[text])
        story.add("check", name=text, ok=False, why=text)
        story.send(HOSTILE[0], HOSTILE[1], text, text=text, why=text)
    story.add("fault", op="delay", delay=None, loss=None, scale=None, at={}, both="x", later=[[]])
    story.partition(HOSTILE[:3], HOSTILE[3:])
    story.run(1.0)
    story.stop(HOSTILE[4], why="</text>")
    story.run(1.0)
    return loads(to_jsonl(story.trace))


# --- What all have in common ----------------------------------------------------------------------


@pytest.mark.parametrize("name", EXPORTS)
def test_every_part_of_a_trace_can_be_exported(name):
    trace = show()
    for part in (
        {},
        {"heartbeats": False},
        {"start": 100, "stop": 200},
        {"term": 3},
        {"term": 99},
        {"start": trace.last + 5},
        {"start": 50, "stop": 10},
        {"start": -5, "stop": 10**9},
    ):
        assert EXPORTS[name](trace, **part).endswith("\n")


@pytest.mark.parametrize("name", EXPORTS)
def test_a_trace_of_nothing_is_exported_as_nothing(name):
    for header in (traces.header([]), traces.header(["n1"]), {**traces.header(), "config": {}, "scene": None}):
        assert EXPORTS[name](Trace(header)).endswith("\n")


@pytest.mark.parametrize("name", EXPORTS)
def test_two_exports_of_a_trace_are_the_same(name):
    assert EXPORTS[name](show()) == EXPORTS[name](show())


@pytest.mark.parametrize("name", EXPORTS)
def test_no_export_holds_control_characters(name):
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029]", EXPORTS[name](hostile_trace()))


@pytest.mark.parametrize("name", EXPORTS)
def test_records_of_which_half_is_missing_are_exported_all_the_same(name):
    """`load` lets a recv without its send pass, and a state with nothing but a role."""
    records = [
        {"k": "state", "n": "n1", "role": "leader", "term": 1},
        {"k": "recv", "n": "n1", "from": "n2", "m": 5},
        {"k": "lost", "n": "n1", "from": "nobody", "m": 6},
        {"k": "send", "n": "n1", "to": "elsewhere", "m": 7, "type": "later"},
        {"k": "send", "n": "n1", "to": "n1", "m": 8, "type": "vote_req"},
        {"k": "timer", "n": "n7", "timer": "of a later version"},
        {"k": "event", "n": "n1", "event": "later"},
        {"k": "fault", "op": ""},
        {"k": "act", "ok": True},
        {"k": "act", "n": "n1", "by": "n1", "ok": False, "token": 3},
        {"k": "links", "cut": [["n1", "x"], ["x", "n1"]], "delay": None, "loss": None},
        {"k": "clock", "op": "scale", "scale": 0.5},
        {"k": "weather", "n": "n1"},
        {"k": "stop", "n": "n9"},
        {"k": "end"},
    ]
    numbered = [{"i": i, "t": i, "n": None, **record} for i, record in enumerate(records, 1)]
    trace = loads("".join(json.dumps(each) + "\n" for each in [traces.header(), *numbered]))
    for part in ({}, {"heartbeats": False}, {"start": 4}, {"term": 1}):
        assert EXPORTS[name](trace, **part)


@pytest.mark.parametrize("name", EXPORTS)
def test_times_and_numbers_at_their_bounds_are_exported(name):
    records = [
        {"k": "start", "n": "n1", "inc": 2**53, "t": 0},
        {"k": "state", "n": "n1", "role": "candidate", "term": 2**53, "deadline": 1e9, "lease": 0, "t": 1e-6},
        {"k": "send", "n": "n1", "to": "n2", "m": 2**53, "type": "vote_req", "eta": 1e9, "t": 5e-6},
        {"k": "note", "text": "", "t": 1e9},
    ]
    numbered = [{"i": i, "n": None, **record} for i, record in enumerate(records, 1)]
    for config in ({"heartbeat": 1e9}, {"heartbeat": 1e-300}, {"heartbeat": 0, "delay": [0, 0]}):
        header = traces.header(config=config)
        trace = loads("".join(json.dumps(each) + "\n" for each in [header, *numbered]))
        assert EXPORTS[name](trace)
        assert EXPORTS[name](trace, stop=3)


# --- Part -----------------------------------------------------------------------------------------


def test_without_heartbeats_states_are_left_out_that_only_set_a_timer():
    part = Part(show(), heartbeats=False)
    kinds = {record["type"] for record in part.records if record["k"] in ("send", "recv", "lost")}
    assert kinds == {"vote_req", "vote_resp"}
    seen = {}
    for record in part.records:
        if record["k"] == "start":
            seen.pop(record["n"], None)
        if record["k"] == "state":
            now = [record[name] for name in ("role", "term", "vote", "votes", "leader")]
            assert seen.get(record["n"]) != now
            seen[record["n"]] = now
    assert not [record for record in part.records if record["k"] == "timer" and record["timer"] == "heartbeat"]


def test_without_heartbeats_a_member_that_starts_again_as_it_was_is_shown_all_the_same(story):
    story.stop("n1")
    story.start("n1")
    kinds = [record["k"] for record in Part(story.trace, heartbeats=False).records if record["n"] == "n1"]
    assert kinds == ["start", "state", "fault", "stop", "start", "state"]


def test_a_term_lasts_until_nobody_leads_or_stands_in_it_any_more():
    trace = show()
    ends = {}
    for term in (1, 2, 3):
        part = Part(trace, term=term)
        first, last = part.records[0], part.records[-1]
        assert (first["k"], first["role"], first["term"]) == ("state", "candidate", term)
        ends[term] = {"n": last["n"], "k": last["k"], "term": last.get("term")}
    assert ends == {
        1: {"n": "n2", "k": "state", "term": 2},  # when it learns of the newer term
        2: {"n": "n4", "k": "stop", "term": None},  # though it starts again with that term
        3: {"n": "n5", "k": "state", "term": 4},
    }
    assert Part(trace, term=3).before.nodes["n4"].role == "stopped"


def test_journeys_are_all_messages_under_way_in_a_part(story):
    """Two that left before it, one within it, one that is lost, one in flight."""
    story.send("n1", "n2", "vote_req", delay=3.0)
    story.send("n2", "n1", "vote_req", delay=30.0)
    story.run(1.0)
    start = story.add("note", text="here")["i"]
    story.send("n1", "n3", "vote_req")
    story.send("n2", "n3", "vote_req", lost="loss")
    story.run(2.5)
    story.send("n3", "n1", "vote_resp")
    journeys = Part(story.trace, start=start).journeys()
    ends = [(send["m"], end["k"] if end else None) for send, end in journeys]
    assert ends == [(1, "recv"), (2, None), (3, "recv"), (4, "lost"), (5, None)]


# --- SVG ------------------------------------------------------------------------------------------


def drawn(trace, **options):
    return ET.fromstring(to_svg(trace, **options))


def texts(root):
    return [element.text for element in root.iter(f"{SVG}text")]


def titles(root):
    return [element.text for element in root.iter(f"{SVG}title")]


@pytest.mark.parametrize("time", ["real", "order"])
@pytest.mark.parametrize("make", [show, hostile_trace])
def test_the_drawing_is_one_sound_file_that_needs_nothing_else(time, make):
    text = to_svg(make(), time=time)
    root = ET.fromstring(text)
    names = {element.tag.replace(SVG, "") for element in root.iter()}
    assert names <= {"svg", "title", "desc", "defs", "pattern", "rect", "circle", "g", "path", "text"}
    for element in root.iter():
        for name, value in element.attrib.items():
            assert not name.startswith("on")
            assert "href" not in name
            assert "url(" not in value or re.fullmatch(r"url\(#rl-[a-z]+\)", value)
    references = set(re.findall(r"url\(#(rl-[a-z]+)\)", text))
    assert references <= {element.get("id") for element in root.iter(f"{SVG}pattern")}
    assert text.replace("http://www.w3.org/2000/svg", "").count("http") == 0


def test_the_drawing_has_a_title_and_says_in_words_what_it_shows():
    root = drawn(show())
    assert root.get("role") == "img"
    named = {element.get("id"): element.text for element in root if element.get("id")}
    assert root.get("aria-labelledby").split() == ["rl-title", "rl-desc"]
    assert named["rl-title"] == "raftlite: hand made"
    assert "5 members" in named["rl-desc"]
    assert "leaders: n2 in term 1, n4 in term 2, n3 in term 4" in named["rl-desc"]
    assert "kill n4" in named["rl-desc"]


@pytest.mark.parametrize("time", ["real", "order"])
def test_every_message_has_an_arrow_that_says_what_became_of_it(time):
    trace = show()
    found = [title for title in titles(drawn(trace, time=time)) if " → " in title]
    for record in trace.records:
        if record["k"] == "send":
            (title,) = [title for title in found if f"message {record['m']}," in title]
            assert title.startswith(f"{record['n']} → {record['to']}: ")
        if record["k"] in ("recv", "lost"):
            (title,) = [title for title in found if f"message {record['m']}," in title]
            assert f"{ {'recv': 'received', 'lost': 'lost'}[record['k']] } at {record['t']:g} s" in title
    assert any("in flight" in title for title in found)
    assert len(found) == sum(record["k"] == "send" for record in trace.records)


def test_time_is_to_scale_where_it_is_real_and_a_row_for_each_event_in_order():
    story = Story("n1", "n2")
    story.start()
    for seconds in (1.0, 2.0, 4.0):
        story.run(seconds)
        story.add("note", text="x")
    real, order = Frame(Part(story.trace), "real"), Frame(Part(story.trace), "order")
    notes = [record for record in story.trace.records if record["k"] == "note"]
    a, b, c = (real.y(note) for note in notes)
    assert (c - b) == pytest.approx(2 * (b - a))
    a, b, c = (order.y(note) for note in notes)
    assert (c - b) == (b - a) > 0


def test_an_arrow_ends_at_its_receiver_and_a_lost_one_short_of_it(story):
    story.send("n1", "n3", "vote_req")
    story.send("n1", "n3", "timeout_now", lost="operator")
    story.run(1.0)
    root = drawn(story.trace)
    frame = Frame(Part(story.trace), "real")
    ends = {}
    for path in root.iter(f"{SVG}path"):
        title = path.find(f"{SVG}title")
        if title is not None and " → " in title.text:
            ends[title.text.split(",")[0]] = [float(each) for each in re.findall(r"[\d.]+", path.get("d"))]
    x1, _, x2, _ = ends["n1 → n3: vote?"]
    assert (x1 - frame.x("n1"), frame.x("n3") - x2) == (pytest.approx(12, abs=0.1), pytest.approx(12, abs=0.1))
    assert frame.x("n2") < ends["n1 → n3: your turn"][2] < frame.x("n3") - 50
    assert "dropped" in texts(root)


def test_a_message_in_flight_is_dashed_and_ends_within_the_drawing(story):
    story.send("n1", "n2", "vote_req", delay=50.0)
    for time in ("real", "order"):
        root = drawn(story.trace, time=time)
        (path,) = [each for each in root.iter(f"{SVG}path") if "in flight" in (each.findtext(f"{SVG}title") or "")]
        assert path.get("stroke-dasharray")
        assert float(re.findall(r"[\d.]+", path.get("d"))[3]) <= Frame(Part(story.trace), time).bottom + 0.1


def test_each_role_is_drawn_in_its_own_way_and_never_by_colour_alone():
    root = drawn(show())
    looks = {}
    for rect in root.iter(f"{SVG}rect"):
        title = rect.findtext(f"{SVG}title") or ""
        found = re.fullmatch(r"n\d: (\w[\w-]*), term \d", title)
        if found:
            looks[found[1]] = (rect.get("width"), rect.get("fill"))
    assert set(looks) == {"follower", "candidate", "leader"}
    assert len({width for width, _ in looks.values()}) == 3
    assert looks["candidate"][1] == "url(#rl-stripes)"


def test_a_stopped_member_has_a_broken_line_for_as_long_as_it_is_stopped():
    trace = show()
    root = drawn(trace)
    (line,) = [path for path in root.iter(f"{SVG}path") if path.findtext(f"{SVG}title") == "n4: stopped"]
    frame = Frame(Part(trace), "real")
    stop = next(record for record in trace.records if record["k"] == "stop")
    start = next(record for record in trace.records if record["k"] == "start" and record["inc"] == 2)
    _, top, _, bottom = (float(each) for each in re.findall(r"[\d.]+", line.get("d")))
    assert line.get("stroke-dasharray")
    assert (top, bottom) == (pytest.approx(frame.y(stop), abs=0.1), pytest.approx(frame.y(start), abs=0.1))
    assert {"killed", "#2 starts"} <= set(texts(root))


def test_a_paused_member_looks_paused(story):
    story.add("pause", "n1")
    story.run(1.0)
    story.add("resume", "n1")
    story.run(1.0)
    root = drawn(story.trace)
    fills = [r.get("fill") for r in root.iter(f"{SVG}rect") if "paused" in (r.findtext(f"{SVG}title") or "")]
    assert fills == ["url(#rl-bars)"]
    assert {"paused", "goes on"} <= set(texts(root))


def test_changes_of_role_and_term_are_written_beside_the_line():
    assert {"T1 candidate", "T1 leader", "T2 leader", "T3 candidate", "T4 leader", "T2"} <= set(texts(drawn(show())))


def test_the_lane_shows_for_how_long_links_were_cut_and_whatever_else_was_done():
    trace = show()
    root = drawn(trace)
    frame = Frame(Part(trace), "real")
    (bar,) = [r for r in root.iter(f"{SVG}rect") if (r.findtext(f"{SVG}title") or "").startswith("cut:")]
    links = [record for record in trace.records if record["k"] == "links"]
    top = float(bar.get("y"))
    assert top == pytest.approx(frame.y(links[0]), abs=0.1)
    assert top + float(bar.get("height")) == pytest.approx(frame.y(links[1]), abs=0.1)
    assert {"cut: n1 n2 | n3 n4 n5", "kill n4", "heal", "start n4"} <= set(texts(root))
    assert any(text.startswith("“predict: who leads") for text in texts(root))


def test_a_long_note_is_cut_in_the_drawing_and_whole_where_the_mouse_rests(story):
    text = "a long story " * 50
    story.add("note", text=text, by="scene", kind="narration")
    story.stop("n1")
    root = drawn(story.trace)
    assert "kill n1" in texts(root), "what was done has its place before what was said"
    assert any(shown.endswith(" …") for shown in texts(root))
    assert text in titles(root)


def test_whatever_is_written_below_the_last_record_is_above_the_legend(story):
    for number in range(12):
        story.add("check", name=f"the rule number {number} of some that all have long names", ok=True, why="")
    root = drawn(story.trace)
    below = [float(each.get("y")) for each in root.iter(f"{SVG}text") if each.text == "pre-candidate"]
    assert max(float(each.get("y")) for each in root.iter(f"{SVG}text") if "rule number" in each.text) < below[0]
    assert float(root.get("height")) > below[0]


def test_links_that_were_cut_before_the_part_are_shown_from_its_top():
    trace = show()
    links = next(record["i"] for record in trace.records if record["k"] == "links")
    bars = [title for title in titles(drawn(trace, start=links + 1)) if title.startswith("cut:")]
    assert len(bars) == 1


def test_slower_or_lossy_links_are_shown_too(story):
    story.add("links", cut=[], delay=[2.0, 3.0], loss=0.25)
    story.run(1.0)
    assert "delay 2 to 3 s, loss 25%" in titles(drawn(story.trace))


def test_cut_links_are_named_as_groups_or_one_by_one():
    nodes = ["n1", "n2", "n3"]
    both = (("n1", "n2"), ("n2", "n1"), ("n1", "n3"), ("n3", "n1"))
    assert cut_words(both, nodes) == "cut: n1 | n2 n3"
    assert cut_words((*both, ("n2", "n3")), nodes) == "cut: n1 — n2, n1 — n3, n2 → n3"
    assert cut_words(both[:2], nodes) == "cut: n1 — n2"
    assert cut_words(both[:1], nodes) == "cut: n1 → n2"
    everything = tuple((a, b) for a in nodes for b in nodes if a != b)
    assert cut_words(everything, nodes) == "cut: n1 | n2 | n3"
    many = [f"m{n}" for n in range(10)]
    assert cut_words(tuple(zip(many, many[1:])), many).endswith(" and 6 more")


def test_the_strip_shows_who_led_in_each_term_and_where_nobody_did():
    frame = Frame(Part(show()), "real")
    found = {reign.term: reign for reign in reigns(frame)}
    assert {term: reign.node for term, reign in found.items()} == {1: "n2", 2: "n4", 3: None, 4: "n3"}
    assert found[1].stop > found[2].start, "the cut off leader goes on, in an older term"
    assert found[2].stop == frame.y(next(record for record in show().records if record["k"] == "stop"))
    assert found[3].stop <= found[4].start
    assert {"T1: n2", "T2: n4", "T3: nobody", "T4: n3"} <= set(texts(drawn(show())))


def test_checks_are_shown_with_their_results(story):
    story.add("check", name="one leader", ok=True, why="")
    story.add("check", name="no split", ok=False, why="two led")
    found = texts(drawn(story.trace))
    assert "✓ one leader" in found
    assert any("✗ no split" in text for text in found)


def test_a_write_to_the_fenced_resource_is_shown(story):
    story.add("act", "n1", by="n1", token=3, ok=False, why="n2 has led since")
    root = drawn(story.trace)
    assert "✗ write" in texts(root)
    assert "its write with token 3 is refused: n2 has led since" in titles(root)


def test_every_label_is_painted_twice_so_that_it_is_legible_on_lines():
    """First its outline, in the colour of the paper: programs without `paint-order` show it all the same."""
    root = drawn(show())
    labels = [each for each in root.iter(f"{SVG}text") if each.text == "T4 leader"]
    assert [each.get("stroke") for each in labels] == ["#ffffff", None]
    assert labels[0].get("aria-hidden") == "true"


def test_labels_do_not_cover_each_other():
    canvas = Canvas(["labels"])
    boxes = []
    for number in range(200):
        spots = [(number % 20 * 15.0, number // 20 * 7.0 + down) for down in (0, 10, 20)]
        at = canvas.place("a label", spots, 12, "middle", turned=number % 3 * 20.0)
        if at is not None:
            boxes.append(box_of("a label", at, 12, "middle", number % 3 * 20.0))
    assert 5 < len(boxes) < 200
    for one in boxes:
        for other in boxes:
            assert one is other or one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]


def test_a_turned_label_takes_the_room_that_it_covers():
    label = "a label of some length"
    left, top, right, bottom = box_of(label, (100.0, 100.0), 12, "middle", turned=30.0)
    half = (right - left) / 2 - 1
    assert top < 100 - half * 0.5
    assert bottom > 100 + half * 0.5
    assert box_of(label, (100.0, 100.0), 12, "middle", turned=-30.0) == (left, top, right, bottom)


def test_the_legend_names_what_is_drawn():
    words = {"follower", "pre-candidate", "candidate", "leader", "paused", "stopped", "granted", "refused", "lost"}
    assert words | {"heartbeat", "in flight", "links cut or changed"} <= set(texts(drawn(show())))


@pytest.mark.slow
def test_beyond_ten_thousand_records_the_drawing_ends_and_says_so():
    trace = traces.long(12_000)
    root = drawn(trace)
    assert f"{trace.last - 10_000:,} more records are not shown" in texts(root)
    assert any("in flight" in title for title in titles(root)), "what arrives later is in flight at the end"


def test_the_names_of_the_members_are_repeated_in_a_long_drawing():
    assert texts(drawn(show())).count("n3") > 2


# --- ShiViz ---------------------------------------------------------------------------------------


def read_by_shiviz(text):
    """The events of a file, taken apart and checked as ShiViz does.

    The expression of the first line is compiled with the flags g and m between ^ and $; clocks are JSON; a host's own
    count goes 1, 2, 3 ...; whoever is named has as many events.
    """
    first, second, log = text.split("\n", 2)
    assert second == "", "one execution: no delimiter"
    names = re.findall(r"\(\?<(\w+)>", first)
    assert len(set(names)) == len(names)
    assert {"event", "host", "clock"} <= set(names)
    expression = re.compile("^" + first.replace("(?<", "(?P<") + "$", re.MULTILINE | re.ASCII)
    matches = list(expression.finditer(log.strip()))
    assert "".join(expression.split(log.strip())[:: len(names) + 1]).strip() == "", "every line belongs to an event"
    events = [{**match.groupdict(), "clock": json.loads(match["clock"])} for match in matches]
    counts = {}
    for event in events:
        counts.setdefault(event["host"], []).append(event["clock"][event["host"]])
    for host, found in counts.items():
        assert sorted(found) == list(range(1, len(found) + 1)), host
    for event in events:
        for host, count in event["clock"].items():
            assert isinstance(count, int)
            assert 1 <= count <= len(counts[host])
    return events


def edges_of(events):
    """Which event follows from which of another host, as ShiViz draws it: where a component of the clock rose."""
    at = {(event["host"], event["clock"][event["host"]]): event for event in events}
    found = []
    for event in events:
        own = event["clock"][event["host"]]
        before = at[event["host"], own - 1]["clock"] if own > 1 else {}
        risen = {h: c for h, c in event["clock"].items() if h != event["host"] and c > before.get(h, 0)}
        implied = {(h, c) for host in risen for h, c in at[host, risen[host]]["clock"].items() if h != host}
        found += [(at[h, c], event) for h, c in risen.items() if (h, c) not in implied]
    return found


def number_of(event):
    return int(re.search(r"\(#(\d+)\)$", event["event"])[1])


@pytest.mark.parametrize("make", [show, hostile_trace])
@pytest.mark.parametrize("options", [{}, {"losses": True}, {"heartbeats": False}, {"start": 120, "stop": 300}])
def test_shiviz_reads_the_log_and_draws_the_messages(make, options):
    trace = make()
    events = read_by_shiviz(to_shiviz(trace, **options))
    part = Part(trace, **{name: value for name, value in options.items() if name != "losses"})
    edges = edges_of(events)
    for sender, receiver in edges:
        assert sender["kind"] == "send"
        assert receiver["kind"] in ("recv", "lost")
        assert number_of(sender) == number_of(receiver)
    sent = {record["m"] for record in part.records if record["k"] == "send"}
    ended = {record["m"] for record in part.records if record["k"] == "recv" and record["m"] in sent}
    if options.get("losses"):
        ended |= {record["m"] for record in part.records if record["k"] == "lost" and record["m"] in sent}
    assert {number_of(sender) for sender, _ in edges} == ended


def test_the_log_for_shiviz_is_as_its_page_wants_it(story):
    story.campaign("n1")
    story.run(0.4)
    lines = to_shiviz(story.trace).split("\n")
    assert lines[:2] == [
        r"(?<t>\d+\.\d+) (?<kind>\w+) (?<term>\d+) (?<role>\w+) (?<event>.*)\n(?<host>\S+) (?<clock>\{.*\})",
        "",
    ]
    assert lines[-5:] == [
        "1.000 send 1 candidate asks n2 for its vote (#1)",
        'n1 {"n1": 5}',
        "1.000 send 1 candidate asks n3 for its vote (#2)",
        'n1 {"n1": 6}',
        "",
    ]


def test_a_member_that_starts_again_goes_on_counting():
    events = [event for event in read_by_shiviz(to_shiviz(show())) if event["host"] == "n4"]
    again = next(event for event in events if event["event"] == "starts again (#2)")
    assert again["clock"]["n4"] > 20


def test_a_loss_is_an_event_of_the_network_only_where_that_is_asked_for():
    lost = [record["m"] for record in show().records if record["k"] == "lost"]
    assert "net" not in {event["host"] for event in read_by_shiviz(to_shiviz(show()))}
    network = [event for event in read_by_shiviz(to_shiviz(show(), losses=True)) if event["host"] == "net"]
    assert [number_of(event) for event in network] == lost


def test_hosts_of_shiviz_have_no_spaces_and_no_two_are_the_same():
    reserved = ["net", "__proto__", "constructor", "isPrototypeOf", "__lookupSetter__"]
    trace = Trace(traces.header(["n 1", "n_1", *reserved]))
    for n in trace.nodes:
        trace.append("start", n, 0, inc=1)
    assert len({event["host"] for event in read_by_shiviz(to_shiviz(trace))} - set(reserved)) == 7


# --- Mermaid --------------------------------------------------------------------------------------

STATEMENTS = [
    r"participant (?P<name>\w+) as (?P<words>.+)",
    r"Note over (?P<name>\w+(?:,\w+)?): (?P<words>.+)",
    r"(?:activate|deactivate) (?P<name>\w+)",
    r"(?P<name>\w+)(?:-|--)(?:>>|x|\))(?P<other>\w+): (?P<words>.+)",
]


@pytest.mark.parametrize("make", [show, hostile_trace])
def test_every_line_is_a_statement_of_a_sequence_diagram(make):
    first, *lines = to_mermaid(make()).splitlines()
    assert first == "sequenceDiagram"
    known = set()
    for line in lines:
        found = next(filter(None, (re.fullmatch(" {4}" + each, line) for each in STATEMENTS)), None)
        assert found, line
        names = found["name"].split(",") + ([found["other"]] if "other" in found.groupdict() else [])
        if line.strip().startswith("participant"):
            known.update(names)
        assert set(names) <= known
        words = found.groupdict().get("words") or ""
        assert not set(re.sub(r"#\d+;", "", words)) & set(';#<>{}[]%&"`\\'), words
        assert "end" not in names


def test_messages_stand_where_they_arrive_and_lost_ones_have_a_cross(story):
    story.campaign("n1")
    story.send("n1", "n2", "heartbeat", lost="loss", delay=0.1)
    story.run(0.6)
    assert to_mermaid(story.trace).splitlines()[4:] == [
        "    Note over n1: follower, term 0",
        "    Note over n2: follower, term 0",
        "    Note over n3: follower, term 0",
        "    Note over n1: candidate, term 1",
        "    n1-xn2: heartbeat, term 1: the network lost it",
        "    n1->>n2: vote?, term 1",
        "    Note over n2: follower, term 1",
        "    n1->>n3: vote?, term 1",
        "    Note over n3: follower, term 1",
        "    n2--)n1: vote, term 1 (in flight)",
        "    n3--)n1: vote, term 1 (in flight)",
    ]


def test_a_refusal_says_why(story):
    story.campaign("n1", refused=("n2",))
    story.run(1.2)
    lines = to_mermaid(story.trace)
    assert "n2-->>n1: vote, term 1 ✗ a leader is alive" in lines
    assert "n3-->>n1: vote, term 1 ✓\n" in lines


def test_a_bar_begins_with_a_leader_and_ends_with_it():
    active, leaders = set(), []
    for line in to_mermaid(show()).splitlines():
        word, _, node = line.strip().partition(" ")
        if word == "activate":
            assert node not in active
            active.add(node)
            leaders.append(node)
        elif word == "deactivate":
            active.remove(node)
    assert leaders == ["n2", "n4", "n3"]
    assert active == {"n3"}


def test_a_bar_is_there_from_the_top_for_who_led_before():
    lines = to_mermaid(show(), start=166, stop=169).splitlines()
    assert lines[6] == "    activate n2"


def test_the_diagram_is_no_longer_than_mermaid_draws():
    text = to_mermaid(traces.long(20_000))
    assert len(text) < 50_000
    assert re.search(r"Note over n1,n5: \d+ more records are not shown\n$", text)


# --- Text -----------------------------------------------------------------------------------------


def test_the_table_has_a_column_for_each_member(story):
    story.stop("n2")
    story.add("note", text="what now?", by="ui")
    story.campaign("n1")
    story.run(0.6)
    assert to_text(story.trace, start=7, width=20) == (
        "     TIME  n1                    n2                    n3\n"
        "---------------------------------------------------------------------------\n"
        "    1.000  === kill n2 (by scene) ===\n"
        "    1.000                        is killed\n"
        '    1.000  " what now?\n'
        "    1.000  election timer runs\n"
        "           out\n"
        "    1.000  is candidate, term\n"
        "           1: election timer\n"
        "           ran out\n"
        "    1.000  asks n2 for its vote\n"
        "    1.000  asks n3 for its vote\n"
        "    1.500                        never gets the\n"
        "                                 request of n1:\n"
        "                                 nobody is there\n"
        "    1.500                                              grants n1 its vote:\n"
        "                                                       first request seen\n"
        "                                                       in term 1\n"
        "    1.500                                              is follower, term 1:\n"
        "                                                       vote granted to n1\n"
        "    1.500                                              grants n1 its vote\n"
    )


# --- HTML -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [show, hostile_trace])
def test_the_page_holds_the_trace_and_nothing_that_it_says_gets_out_of_its_script(make):
    trace = make()
    page = to_html(trace)
    scripts = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    (data,) = [script for script in scripts if script.startswith("window.RAFTLITE_TRACE = ")]
    held = json.loads(data[len("window.RAFTLITE_TRACE = ") : -1])
    assert held["records"] == [trace.header, *trace.records]
    assert len(scripts) == page.count("<script") == page.lower().count("</script")
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)[1]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    for script in [*scripts, *re.findall(r"<style>(.*?)</style>", page, re.DOTALL)]:
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy


def test_the_page_ends_where_it_is_told_to():
    trace = show()
    held = re.search(r"window\.RAFTLITE_TRACE = (.*);</script>", to_html(trace, stop=7))[1]
    assert json.loads(held)["records"] == [trace.header, *trace.records[:7]]


# --- Words ----------------------------------------------------------------------------------------


def test_a_narrator_says_what_has_changed(story):
    narrator = Narrator()
    story.campaign("n1")
    story.run(2.2)
    told = [narrator.tell(record) for record in story.trace.records if record["n"] == "n1" and record["k"] == "state"]
    assert told == [
        "is follower, term 0: started",
        "is candidate, term 1: election timer ran out",
        "has 2 votes: vote of n2",
        "is leader, term 1: 2 of 3 votes",
        "sets its timer: heartbeat sent",
    ]


def test_a_narrator_says_what_a_member_is_that_has_started_again(story):
    story.stop("n1")
    story.start("n1")
    narrator = Narrator()
    told = [narrator.tell(record) for record in story.trace.records if record["n"] == "n1"]
    assert told[-3:] == ["is killed", "starts again (#2)", "is follower, term 0: started"]


def test_every_kind_of_record_has_words():
    trace = hostile_trace()
    assert lint(trace) == []
    for record in [*trace.records, *show().records]:
        words = describe(record)
        assert words.strip()
        assert words.isprintable()
        assert len(words) <= 300


def test_faults_are_told_with_what_they_were_done_to():
    def told(**fields):
        return fault_words({"k": "fault", "n": None, "m": None, **fields})

    assert told(op="kill", n="n3") == "kill n3"
    assert told(op="time_out", n="n3") == "time out n3"
    assert told(op="cut", a="n1", b="n2", both=True) == "cut n1 — n2"
    assert told(op="cut", a="n1", b="n2", both=False) == "cut n1 → n2"
    assert told(op="partition", groups=[["n1"], ["n2", "n3"]]) == "partition n1 | n2 n3"
    assert told(op="drop", m=17) == "drop message 17"
    assert told(op="delay", delay=[0.4, 0.6]) == "delay 0.4 to 0.6 s"
    assert told(op="loss", loss=0.25) == "loss 25%"
    assert told(op="align", nodes=["n1", "n2"]) == "align n1 n2"
    assert told(op="rules", rules={"pre_vote": False}) == "rules pre_vote False"


def test_clean_text_is_one_line_of_letters():
    assert clean("a\nb\x1b[31m\u202e\x00") == "a b [31m  "
    assert clean("a" * 50, 10) == "aaaaaaaaa…"
    assert clean(3) == "3"
