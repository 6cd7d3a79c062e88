"""The classroom's page on a recording, where every moment can be looked at for as long as it takes."""

from __future__ import annotations

import json
import math
import re

import pytest
from lab_browser import chromium, expect, replay, shown, trace, watch  # noqa: F401  # fixtures too

from raftlite.lab import Lab
from raftlite.lab.scenes import SCENES, play
from raftlite.lab.session import Session
from raftlite.lab.trace import Trace, fold, loads

pytestmark = pytest.mark.slow


# --- It shows what was recorded -----------------------------------------------------------------------

FOLDED = """() => {
    const view = raftlite.app.recording.at(raftlite.app.time.i);
    const values = (node) => [node.role, node.term, node.vote, node.votes, node.leader, node.deadline, node.span,
        node.lease, node.isUp, node.isPaused, node.inc, node.why];
    const nodes = Object.fromEntries([...view.nodes].map(([n, node]) => [n, values(node)]));
    const {cut, delay, loss} = view.links;
    return {i: view.i, t: view.t, nodes, inFlight: [...view.inFlight.keys()], cut, delay, loss,
        leader: view.leaderAt(view.t), checks: [...view.checks.keys()], scale: view.scale};
}"""


def folded(trace, i):
    view = fold(trace, i)
    nodes = {
        n: [node.role, node.term, node.vote, list(node.votes), node.leader, node.deadline, node.span, node.lease,
            node.is_up, node.is_paused, node.inc, node.why]
        for n, node in view.nodes.items()
    }  # fmt: skip
    return {
        "i": view.i,
        "t": view.t,
        "nodes": nodes,
        "inFlight": list(view.in_flight),
        "cut": [list(pair) for pair in view.links.cut],
        "delay": list(view.links.delay),
        "loss": view.links.loss,
        "leader": view.leader,
        "checks": list(view.checks),
        "scale": view.scale,
    }


def test_page_adds_records_up_as_the_library_does(replay, trace):
    """Forwards, backwards and from afar: a place in the recording is one state of the cluster."""
    page = replay()
    doubled = next(r["i"] for r in trace.records if r.get("op") == "duplicate")
    places = [
        *range(doubled, doubled + 40),
        *range(0, trace.last, 37),
        *range(trace.last, 0, -53),
        1,
        trace.last,
        2,
        trace.last - 1,
    ]
    for i in places:
        page.evaluate("i => raftlite.app.time.seekRecord(i)", i)
        assert page.evaluate(FOLDED) == folded(trace, i)


def test_table_says_what_the_library_says(replay, trace):
    i = next(r["i"] for r in trace.records if r["k"] == "pause") + 5
    page = replay(f"#i={i}")
    page.keyboard.press("v")
    for n, node in fold(trace, i).nodes.items():
        row = page.locator(f'#table-view tr[data-node="{n}"] > *')
        expect(row.nth(8)).to_have_text(node.why)  # so the row is drawn
        cells = row.all_inner_texts()
        assert cells[0] == n and cells[2] == str(node.term) and cells[3] == (node.vote or "\N{EN DASH}")
        assert ("paused" if node.is_paused else node.role) in cells[1]
        assert cells[8] == node.why


PIXEL = """([n, share]) => {
    const {places, size, pen} = raftlite.app.ring.flight;
    const {x, y} = places.get(n);
    const angle = 2 * Math.PI * share - Math.PI / 2;
    const at = [x + 1.42 * size * Math.cos(angle), y + 1.42 * size * Math.sin(angle)];
    const ratio = pen.canvas.width / pen.width;
    const copy = new OffscreenCanvas(1, 1).getContext('2d', {willReadFrequently: true});
    copy.drawImage(pen.canvas, -Math.round(at[0] * ratio), -Math.round(at[1] * ratio));
    return copy.getImageData(0, 0, 1, 1).data[3];
}"""


def test_arcs_tell_the_truth(replay, trace):
    """The arc of a timer ends where the recorded deadline says, on the pixel: nothing about it is made up."""
    looked_at, page = 0, replay()
    for i in range(20, trace.last, 211):
        page.evaluate("i => raftlite.app.seekRecord(i)", i)
        page.wait_for_function("i => raftlite.app.frame.i === i", arg=i)
        view = fold(trace, i)
        flying = page.evaluate("raftlite.app.ring.flight.flying.length")
        for n, node in view.nodes.items():
            if node.deadline is None or not node.is_up or node.role == "leader" or flying > 4:
                continue
            left = max(0.0, min(1.0, (node.deadline - view.t) / node.span))
            if 0.05 < left < 0.95:
                assert page.evaluate(PIXEL, [n, left - 0.02]) > 0
                assert page.evaluate(PIXEL, [n, left + 0.02]) == 0
                looked_at += 1
    assert looked_at > 5


def test_messages_are_where_the_recording_says(replay, trace):
    i = next(r["i"] for r in trace.records if r["k"] == "send" and r["type"] == "vote_req")
    page = replay(f"#i={i}")
    page.evaluate("t => { raftlite.app.time.seek(t); raftlite.app.moved(); }", trace.records[i - 1]["t"] + 0.2)
    page.wait_for_function("t => raftlite.app.frame.t > t", arg=trace.records[i - 1]["t"] + 0.19)
    places = page.evaluate("[...raftlite.app.ring.flight.places].map(([n, {x, y}]) => [n, x, y])")
    size = page.evaluate("raftlite.app.ring.flight.size")
    at = {n: (x, y) for n, x, y in places}
    flying = page.evaluate("raftlite.app.ring.flight.flying")
    t = page.evaluate("raftlite.app.frame.t")
    sends = {r["m"]: r for r in trace.records if r["k"] == "send"}
    assert flying
    for each in flying:
        send = sends[each["m"]]
        (x1, y1), (x2, y2) = at[send["n"]], at[send["to"]]
        length = math.hypot(x2 - x1, y2 - y1)
        share = (t - send["t"]) / (send["eta"] - send["t"])
        along = 1.5 * size + (length - 3 * size) * min(1, share)
        assert math.hypot(each["x"] - x1, each["y"] - y1) == pytest.approx(along, abs=0.2 * size)


def test_link_to_a_moment_opens_it(replay, trace):
    page = replay("#i=120&sel=n3")
    assert page.evaluate("raftlite.app.time.i") == 120
    expect(page.locator("#inspector-title")).to_contain_text("n3 ·")
    page.keyboard.press("ArrowRight")
    expect(page).to_have_url(re.compile("#i=121&sel=n3$"))


def test_recording_is_played_from_where_it_stands_to_its_end(replay, trace):
    page = replay(f"#i={trace.last - 100}")
    page.get_by_label("Speed").select_option("0.25")  # slow enough to be seen playing, on any machine
    page.keyboard.press("Space")
    expect(page.get_by_role("button", name="Pause", exact=True)).to_be_visible()
    page.get_by_label("Speed").select_option("8")
    page.wait_for_function("last => raftlite.app.frame.i === last && !raftlite.app.time.isPlaying", arg=trace.last)
    expect(page.get_by_role("button", name="Play", exact=True)).to_be_visible()


def test_slider_goes_to_any_moment(replay, trace):
    page = replay()
    page.get_by_label("Moment of the recording").fill("20")
    page.wait_for_function("() => raftlite.app.frame.t > 19.9")
    assert page.evaluate("raftlite.app.time.i") == sum(r["t"] <= 20 for r in trace.records)


def test_every_reason_of_the_scenes_is_brief_in_the_diagram(replay, trace):
    """Between two columns there is room for two or three short words. The rest is in the log."""
    reasons = set()
    for scene in SCENES.values():
        with Lab(**scene.settings(), backend="virtual", seed=32) as lab:
            play(scene, lab)
            judged = [record for record in lab.trace.records if record.get("result") in ("refused", "stepped down")]
            reasons |= {record["why"] for record in judged if record.get("why")}
    brief = set(replay().evaluate("reasons => reasons.map(raftlite.words.brief)", sorted(reasons)))
    assert {re.sub(r"\d", "#", words) for words in brief} == {
        "abstains", "heard n# lately", "n# leads", "n#: term #", "old membership", "term # is over", "voted for n#",
    }  # fmt: skip


# Notes, one soon after the other: how much of the first one's words the second one changes, and whether they and a
# reason that is put there get out of each other's way.
LANE = """() => {
    const {app} = raftlite;
    const {paper} = app.spacetime;
    const {canvas} = paper.sheets.ink;
    const pixels = () => {
        const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext('2d', {willReadFrequently: true});
        copy.drawImage(canvas, 0, 0);
        return copy.getImageData(0, 0, canvas.width, canvas.height).data;
    };
    const frameAt = (i) => { app.time.seekRecord(i); return app.newFrame(); };
    paper.drawAll(frameAt(1), 0, true);
    const before = pixels();
    paper.drawOn(frameAt(2), 2);
    const after = pixels();
    const isSolid = (k) => before[k | 3] === 255;
    const changed = before.filter((part, k) => isSolid(k) && part !== after[k]).length;
    paper.place('voted for n1', 40, paper.y(1) + 20, -1, 8);
    const {labels: [label], laneEnd} = paper;
    paper.place('voted for n1', 40, paper.y(9) + 20, -1, 8);
    paper.drawOn(frameAt(3), 3);
    const ofThird = paper.boxes[paper.boxes.length - 1];
    const second = paper.labels[paper.labels.length - 1];
    const areApart = (!label || label.box.top >= laneEnd) && ofThird.top >= second.box.bottom;
    return [before.filter((_, k) => isSolid(k)).length > 1000, changed, areApart];
}"""


def test_words_beside_the_diagram_are_neither_struck_out_nor_written_over(replay):
    notes = Trace({"nodes": ["n1", "n2", "n3"]})
    for t in (1, 1.6, 9):
        notes.append("note", None, t, text="n3 writes with token 2: accepted", by="ui", kind="note")
    assert replay("", notes).evaluate(LANE) == [True, 0, True]


def test_log_is_filtered_and_searched(replay, trace):
    i = next(r["i"] for r in trace.records if r["k"] == "stop")
    page = replay(f"#i={i}")
    rows = page.locator("#log li")
    expect(rows.filter(has_text="sets its timer")).to_have_count(0)
    page.get_by_label("Timers").check()
    expect(rows.filter(has_text="sets its timer").first).to_be_attached()
    page.get_by_label("Find in the log").fill("one leader per term")
    expect(rows).to_have_count(1)
    page.get_by_label("Find in the log").fill("")
    page.get_by_label("Member in the log").select_option("n2")
    expect(rows.first).to_be_attached()
    assert set(page.locator("#log li .n").all_inner_texts()) <= {"n1", "n2", "n3", "n4", "n5", "·"}


def test_selected_line_of_the_diagram_is_explained(replay, trace):
    refusal = next(r for r in trace.records if r["k"] == "recv" and r.get("result") == "refused")
    page = replay(f"#i={refusal['i'] + 1}")
    x, y = page.evaluate(
        """m => {
            const {spacetime, frame} = raftlite.app;
            const message = frame.history.messages.get(m);
            const way = spacetime.paper.way(message, message.ends[0]);
            const box = spacetime.element.getBoundingClientRect();
            return [box.x + 0.7 * way.x1 + 0.3 * way.x2, box.y + 0.7 * way.y1 + 0.3 * way.y2 - spacetime.top(frame.t)];
        }""",
        refusal["m"],
    )
    page.mouse.click(x, y)
    expect(page.locator("#inspector .why")).to_contain_text("Because: ")
    expect(page.locator("#inspector-title")).to_contain_text("message")


def test_link_to_a_part_of_the_page_leaves_the_moment_alone(replay, trace):
    page = replay("#i=120")
    page.evaluate("() => { window.changed = new Promise((done) => addEventListener('hashchange', () => done(1))); }")
    page.locator(".skip").focus()
    page.keyboard.press("Enter")
    page.evaluate("window.changed")
    assert page.url.endswith("#views") and page.evaluate("raftlite.app.time.i") == 120


@pytest.fixture(scope="module")
def show():
    """A recording of a scene."""
    scene = SCENES["leader-dies"]
    with Lab(**scene.settings(), backend="virtual", seed=1) as lab:
        play(scene, lab)
        return lab.trace


def narrated(trace):
    return [record["i"] for record in trace.records if record["k"] == "note" and record.get("kind") == "narration"]


def test_remote_control_works_while_something_is_looked_for(replay, show):
    page = replay("#i=0", show)
    page.get_by_label("Find in the log").focus()
    page.keyboard.press("PageDown")
    page.wait_for_function("i => raftlite.app.time.i >= i", arg=narrated(show)[0])


def test_page_down_plays_a_stop_of_a_recording_and_waits_where_the_lecturer_did(replay, show):
    """With the answer and the next question, as when it was live; a narration alone would be before both."""
    page = replay("#i=0", show)
    begins, seen = narrated(show), []
    page.evaluate("raftlite.app.time.speed = 40")
    for following in begins[1:]:
        page.keyboard.press("PageDown")
        page.wait_for_function("i => raftlite.app.time.i === i && !raftlite.app.time.isPlaying", arg=following - 1)
        seen.append(page.locator(".answer-given").is_visible())
    assert seen == [False, True, False, True]
    page.keyboard.press("PageDown")
    page.wait_for_function("i => raftlite.app.time.i === i", arg=show.last)
    expect(page.locator(".next")).to_be_disabled()
    page.keyboard.press("PageDown")
    assert page.evaluate("raftlite.app.time.i") == show.last
    page.keyboard.press("PageUp")
    page.wait_for_function("i => raftlite.app.time.i === i && !raftlite.app.time.isPlaying", arg=begins[-1])


def test_page_down_begins_with_the_first_stop_however_the_beginning_was_reached(replay, show):
    """The first stop begins when the clock does, so at the moment at which the recording begins."""
    first, second = narrated(show)[:2]
    page = replay("", show)
    for reach in ("Home", "#slider", "Home"):
        assert page.evaluate("raftlite.app.time.i") == first - 1
        page.keyboard.press("PageDown")
        page.wait_for_function("i => raftlite.app.time.i >= i", arg=first)
        assert page.evaluate("raftlite.app.time.i") < second
        if reach == "#slider":
            page.locator(reach).fill("0")
        else:
            page.keyboard.press(reach)
        assert page.evaluate("raftlite.app.time.t") == 0


def test_stop_of_a_recording_that_is_interrupted_goes_on_to_its_end(replay, show):
    page = replay("#i=0", show)
    begins = narrated(show)
    page.keyboard.press("PageDown")
    page.wait_for_function("i => raftlite.app.time.i > i", arg=begins[0])
    page.keyboard.press(".")
    assert not page.evaluate("raftlite.app.time.isPlaying")
    page.evaluate("raftlite.app.time.speed = 40")
    page.keyboard.press(" ")
    page.wait_for_function("i => raftlite.app.time.i === i && !raftlite.app.time.isPlaying", arg=begins[1] - 1)
    page.keyboard.press(" ")
    page.wait_for_function("i => raftlite.app.time.i >= i", arg=begins[1])


def test_page_up_goes_to_where_a_stop_began_though_nothing_has_been_recorded_since(replay, show):
    first = narrated(show)[0]
    page = replay("", show)
    page.evaluate("raftlite.app.time.speed = 0.2")
    page.keyboard.press("PageDown")
    page.wait_for_function("i => raftlite.app.time.i === i && raftlite.app.time.t > 0", arg=first)
    page.keyboard.press("PageUp")
    shown = page.evaluate("(({i, t, isPlaying}) => [i, t, isPlaying])(raftlite.app.time)")
    assert shown == [first, 0, False]


def test_page_down_plays_what_is_left_where_no_stop_follows(replay, show):
    page = replay(f"#i={narrated(show)[-1]}", show)
    page.evaluate("raftlite.app.time.speed = 40")
    page.keyboard.press("PageDown")
    page.wait_for_function("i => raftlite.app.time.i === i && !raftlite.app.time.isPlaying", arg=show.last)


def test_key_that_is_held_down_is_pressed_once(replay, trace):
    """A scene would run through its stops otherwise; only moments and settings go on."""
    page = replay("#i=100")
    for key in ("v", "ArrowRight"):
        page.keyboard.down(key)
        page.keyboard.down(key)
        page.keyboard.up(key)
    expect(page.get_by_role("tab", name="Table")).to_have_attribute("aria-selected", "true")
    assert page.evaluate("raftlite.app.time.i") == 102


def test_ring_of_other_members_is_drawn_when_it_is_seen_again(trace, watch):
    """It was hidden by the table when they came."""
    with Lab(7, backend="virtual", seed=1) as other:
        other.elected()
        other.cut("n6", "n7")
    session = Session(lambda **_: None)
    session.replay(trace)
    with shown(session, watch()) as shown_page:
        page = shown_page.page
        page.keyboard.press("v")
        session.replay(other.trace)
        page.wait_for_function("last => raftlite.app.recording.last === last", arg=other.trace.last)
        page.keyboard.press("End")
        page.keyboard.press("v")
        expect(page.locator("#ring [data-node]")).to_have_count(7)
        expect(page.locator("#ring .link.cut")).to_have_count(1)


def test_dialog_is_left_by_a_click_beside_it_and_not_inside(replay):
    page = replay()
    page.keyboard.press("?")
    box = page.locator("#help-dialog").bounding_box()
    page.mouse.click(box["x"] + 4, box["y"] + 4)
    expect(page.locator("#help-dialog")).to_be_visible()
    page.mouse.click(box["x"] - 4, box["y"] + 4)
    expect(page.locator("#help-dialog")).to_be_hidden()


def test_log_is_scrolled_and_not_the_page(replay, trace):
    page = replay("#i=100", viewport={"width": 640, "height": 480})
    page.evaluate("scrollTo(0, 0)")
    page.evaluate("raftlite.app.seekRecord(200)")
    expect(page.locator("#log .ahead").first).to_be_attached()
    page.wait_for_function("() => raftlite.app.log.i === 200")
    assert page.evaluate("[document.documentElement.scrollTop, document.body.scrollTop]") == [0, 0]
    centre = "(box) => box.top + box.height / 2"
    far = page.evaluate(
        f"""() => [".records", ".current"].map((part) => document.querySelector("#log " + part).getBoundingClientRect())
            .map({centre})"""
    )
    assert far[0] == pytest.approx(far[1], abs=40)


def test_what_waits_for_a_paused_member_is_drawn_once(replay):
    """An hour of heartbeats would otherwise be drawn in one spot, each picture anew."""
    waiting = Trace({"nodes": ["n1", "n2", "n3"]})
    for n in ("n1", "n2", "n3"):
        waiting.append("start", n, 0, inc=1)
    waiting.append("pause", "n2", 0)
    for m in range(1, 1001):
        sender = "n1" if m % 2 else "n3"
        waiting.append("send", sender, m, m=m, to="n2", type="heartbeat", term=1, eta=m + 0.5)
    page = replay(recording=waiting)
    page.keyboard.press("End")
    page.wait_for_function("last => raftlite.app.frame.i === last", arg=waiting.last)
    assert page.evaluate("raftlite.app.frame.view.inFlight.size") == 1000
    assert page.evaluate("raftlite.app.ring.flight.flying.map(({m}) => m).sort()") == [1000, 997, 998, 999]
    drawn = page.evaluate(
        """() => {
            const {paper} = raftlite.app.spacetime;
            let count = 0;
            paper.drawShaft = () => count++;
            paper.drawAir(raftlite.app.frame);
            delete paper.drawShaft;
            return count;
        }"""
    )
    assert 0 < drawn < 40


# --- It keeps still -----------------------------------------------------------------------------------

COUNT_FRAMES = """
    window.framesAsked = 0;
    const ask = window.requestAnimationFrame.bind(window);
    window.requestAnimationFrame = (call) => { window.framesAsked++; return ask(call); };
"""


def test_nothing_is_drawn_while_nothing_moves(trace, watch):
    session, watched = Session(lambda **_: None), watch()
    session.replay(trace, "run.jsonl")
    watched.context.add_init_script(COUNT_FRAMES)
    with shown(session, watched, "#i=300") as shown_page:
        page = shown_page.page
        page.wait_for_function("() => raftlite.app.time.i === 300")
        for _ in range(2):  # the first answers may still change something
            with page.expect_response(re.compile("trace")):
                pass
        before = page.evaluate("window.framesAsked")
        for _ in range(3):
            with page.expect_response(re.compile("trace")):
                pass
        assert page.evaluate("window.framesAsked") == before


def test_with_reduced_motion_nothing_glides(replay, trace):
    """Messages stay in the middle of their way; what changes, changes at once and seldom."""
    i = next(r["i"] for r in trace.records if r["k"] == "send" and r["type"] == "vote_req")
    page = replay(f"#i={i}", reduced_motion="reduce")
    places = []
    for seconds in (0.02, 0.3):
        page.evaluate("t => { raftlite.app.time.seek(t); raftlite.app.moved(); }", trace.records[i - 1]["t"] + seconds)
        page.wait_for_function(
            "t => Math.abs(raftlite.app.frame.t - t) < 1e-6", arg=trace.records[i - 1]["t"] + seconds
        )
        places.append({each["m"]: (each["x"], each["y"]) for each in page.evaluate("raftlite.app.ring.flight.flying")})
    both = set(places[0]) & set(places[1])
    assert both and all(places[0][m] == places[1][m] for m in both)
    assert page.evaluate("raftlite.app.period()") >= 500


# --- It takes whatever comes --------------------------------------------------------------------------

HOSTILE = ['<img src=x onerror="document.title=1">', "__proto__", "constructor", "n 1'", "x" * 128, "\U0001f600"]


def test_names_and_words_of_a_file_are_only_text(replay):
    records = [
        {
            "k": "header",
            "format": "raftlite-trace",
            "v": 1,
            "nodes": HOSTILE,
            "scene": "<b>",
            "config": {"election": [0, 0]},
        }
    ]
    for k, n in enumerate(HOSTILE):
        records.append({"k": "start", "n": n, "inc": 1})
        records.append({"k": "state", "n": n, "role": "leader", "term": 2**53, "why": "<script>alert(1)</script>",
                        "deadline": 1e9, "span": 0, "lease": 1e9, "votes": HOSTILE})  # fmt: skip
        records.append({"k": "send", "n": n, "m": k + 1, "to": HOSTILE[k - 1], "type": "<i>", "eta": 0, "text": "<u>"})
        records.append({"k": "fault", "n": n, "op": "toString", "by": "<"})
        records.append({"k": "hasOwnProperty", "n": n})
    records.append({"k": "note", "n": None, "text": "<svg onload=alert(1)>", "kind": "narration"})
    records.append({"k": "check", "n": None, "name": "__proto__", "ok": False, "why": "</b>"})
    lines = [json.dumps({**record, "i": i, "t": 0.0} if i else record) for i, record in enumerate(records)]
    hostile = loads("\n".join(lines) + "\n")
    page = replay(f"#i={hostile.last}", recording=hostile)
    expect(page.locator(".narration")).to_have_text("<svg onload=alert(1)>")
    page.keyboard.press("v")
    expect(page.locator("#table-view tbody").first.locator("tr")).to_have_count(len(HOSTILE))
    assert page.locator("img:not([role]), script:not([src]), #log b, #log i").count() == 0
    assert page.title() == "raftlite lab · run.jsonl"


@pytest.mark.timeout(300)
def test_huge_recording_stays_usable(replay):
    """A hundred thousand records: an hour of the classroom, or minutes at production speed."""
    huge = Trace({"nodes": ["n1", "n2", "n3"]})
    huge.records = list(many_records(100_000))
    page = replay(f"#i={huge.last}", recording=huge)
    for i in (50_000, 99_000, 10, huge.last):
        page.evaluate("i => raftlite.app.seekRecord(i)", i)
        page.wait_for_function("i => raftlite.app.frame.i === i", arg=i)
        assert page.evaluate("raftlite.app.recording.at(raftlite.app.time.i).i") == i
    page.get_by_label("Find in the log").fill("no such thing")
    expect(page.locator("#log li")).to_have_count(0)


def many_records(count):
    for i in range(1, count + 1):
        kind, term = i % 4, i // 1000
        base = {"i": i, "t": i / 100, "n": f"n{i % 3 + 1}"}
        if kind == 0:
            yield {**base, "k": "state", "role": "leader" if i % 3000 < 1500 else "follower", "term": term, "why": "so"}
        elif kind == 1:
            yield {
                **base,
                "k": "send",
                "m": i,
                "to": "n1" if base["n"] != "n1" else "n2",
                "type": "heartbeat",
                "eta": base["t"] + 0.01,
            }
        elif kind == 2:
            yield {**base, "k": "recv", "m": i - 1, "from": "n1", "type": "heartbeat", "result": "accepted"}
        else:
            yield {**base, "k": "timer", "timer": "election"}
