"""What the page has done to the cluster, to scenes and to recordings, each by an operation of the server."""

from __future__ import annotations

import gzip
import json
import re
import threading

import pytest
from lab_pages import Browser, virtual_lab
from threads import PATIENCE, eventually, is_inside

from raftlite.lab import Lab
from raftlite.lab.page import offline_page
from raftlite.lab.session import Session
from raftlite.lab.trace import View, to_jsonl

HEADER = '{"k":"header","format":"raftlite-trace","v":1,"nodes":["n1"]}\n'


@pytest.fixture
def browser():
    """A page that looks at five members of a virtual cluster, one of which leads."""
    with Session(virtual_lab) as session:
        session.fresh()
        session.lab.elected()
        yield Browser(session)


# --- What it does -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "op, arguments, recorded",
    [
        ("kill", {"n": "n3"}, "kill"),
        ("power", {"n": "n3"}, "power"),
        ("freeze", {"n": "n3"}, "freeze"),
        ("wipe", {"n": "n3"}, "wipe"),
        ("time_out", {"n": "follower"}, "time_out"),
        ("resign", {"n": "leader"}, "resign"),
        ("cut", {"a": "n1", "b": "n2"}, "cut"),
        ("cut", {"a": "n1", "b": "n2", "both": False}, "cut"),
        ("mend", {"a": "n1", "b": "n2"}, "mend"),
        ("isolate", {"n": "n2"}, "partition"),
        ("partition", {"groups": [["n1"], ["n2", "n3", "n4", "n5"]]}, "partition"),
        ("partition", {"preset": "leader"}, "partition"),
        ("partition", {"preset": "leader-and-one"}, "partition"),
        ("partition", {"preset": "minority"}, "partition"),
        ("partition", {"preset": "all"}, "partition"),
        ("heal", {}, "heal"),
        ("delay", {"seconds": 1.5}, "delay"),
        ("delay", {"range": [0.1, 0.2]}, "delay"),
        ("loss", {"p": 0.25}, "loss"),
        ("spread", {}, "spread"),
        ("rules", {"pre_vote": False}, "rules"),
        ("scale", {"x": 0.5}, "scale"),
    ],
)
def test_each_operation_is_done_and_recorded_as_of_the_page(browser, op, arguments, recorded):
    lab = browser.session.lab
    if arguments.get("n") == "follower":
        arguments = {"n": next(n for n in lab.nodes if n != lab.leader())}
    assert browser.do(op, **arguments).said == {"done": op}
    faults = [record for record in lab.trace.records if record["k"] == "fault"]
    assert (faults[-1]["op"], faults[-1]["by"]) == (recorded, "ui")


def test_leader_is_whoever_leads(browser):
    leader = browser.session.lab.leader()
    browser.do("kill", n="leader")
    assert not browser.session.lab.is_up(leader)
    again = browser.do("kill", n="leader")
    assert again.status == 200 and again.said["error"] == "nobody leads now"


def test_start_all_starts_and_wakes(browser):
    browser.do("kill", n="n1")
    browser.do("freeze", n="n2")
    browser.do("start_all")
    assert browser.session.lab.is_up("n1") and not browser.session.lab.is_paused("n2")


@pytest.mark.parametrize("op", ["drop", "hold", "duplicate"])
def test_message_in_flight_is_touched(browser, op):
    (m, *_) = browser.session.lab.view().in_flight
    assert "done" in browser.do(op, m=m).said
    assert browser.do(op, m=10**6).status == 400


@pytest.mark.parametrize("preset, is_in", [("leader", True), ("leader-and-one", True), ("minority", False)])
def test_presets_find_the_leader(browser, preset, is_in):
    """Also where it is the first of the list, which a preset might take without looking."""
    for seed in range(30):
        browser.session.fresh(seed=seed)
        leader = browser.session.lab.elected()
        browser.do("partition", preset=preset)
        (fault,) = [record for record in browser.session.trace.records if record["k"] == "fault"]
        assert (leader in fault["groups"][0]) is is_in
        assert len(fault["groups"][0]) == (1 if preset == "leader" else 2)
        if leader == "n1":
            return
    raise AssertionError("n1 never led")


def test_note_is_written(browser):
    assert "done" in browser.do("note", text="Ana: here!").said
    assert browser.session.trace.records[-1]["text"] == "Ana: here!"


@pytest.mark.parametrize(
    "op, arguments",
    [
        ("kill", {}),
        ("kill", {"n": "n9"}),
        ("kill", {"n": ["n1"]}),
        ("kill", {"n": {"a": 1}}),
        ("cut", {"a": "n1", "b": "n1"}),
        ("cut", {"a": "n1", "b": "n2", "both": "no"}),
        ("partition", {}),
        ("partition", {"groups": "n1"}),
        ("partition", {"groups": [["n1", 2]]}),
        ("partition", {"groups": [["n1"], ["n1"]]}),
        ("partition", {"groups": [["n1"]] * 5000}),
        ("partition", {"preset": "none"}),
        ("delay", {}),
        ("delay", {"seconds": -1}),
        ("delay", {"seconds": "1"}),
        ("delay", {"range": [3, 1]}),
        ("delay", {"seconds": True}),
        ("loss", {"p": 2}),
        ("loss", {}),
        ("scale", {"x": 0}),
        ("scale", {"x": None}),
        ("rules", {"jitter": -1}),
        ("rules", {"pre_vote": 1}),
        ("step", {"seconds": -1}),
        ("note", {}),
        ("note", {"text": ""}),
        ("note", {"text": "a\nb"}),
        ("note", {"text": "x" * 501}),
        ("drop", {"m": "1"}),
        ("drop", {"m": True}),
        ("align", {"nodes": "n1"}),
        ("align", {"nodes": True}),
        ("scene", {}),
        ("scene", {"name": "no such scene"}),
        ("scene", {"name": ["cold-start"]}),
        ("reset", {"nodes": 1}),
        ("reset", {"nodes": 1000}),
        ("reset", {"nodes": "5"}),
        ("reset", {"nodes": 3.5}),
    ],
)
def test_arguments_that_make_no_sense_are_refused_with_a_sentence(browser, op, arguments):
    run = browser.get("/trace").said["run"]
    answer = browser.do(op, **arguments)
    assert answer.status == 400 and len(answer.said["error"]) > 10
    assert browser.get("/trace").said["run"] == run


def test_numbers_that_json_does_not_have_are_refused(browser):
    for text in ("NaN", "Infinity", "-Infinity", "1e999"):
        answer = browser.ask("POST", "/do", f'{{"op":"delay","seconds":{text}}}'.encode())
        assert answer.status == 400
        assert browser.ask("POST", "/do", f'{{"op":"scale","x":{text}}}'.encode()).status == 400


def test_alignment_goes_on_while_the_page_is_answered(browser):
    browser.do("kill", n="leader")
    assert "done" in browser.do("align", nodes=2).said
    browser.session._aligning.join(PATIENCE)
    assert [record for record in browser.session.trace.records if record.get("op") == "align"]


def test_alignment_that_cannot_be_is_remarked(browser):
    lab = browser.session.lab
    browser.do("align", nodes=[lab.leader()])
    browser.session._aligning.join(PATIENCE)
    remark = browser.get("/trace").said["remark"]
    assert remark["number"] == 1 and "no election timer" in remark["text"]


# --- Scenes, and clusters one after the other ---------------------------------------------------------


def test_another_cluster_has_another_run(browser):
    before = browser.get("/trace").said
    old = browser.session.lab
    assert "done" in browser.do("reset", nodes=3).said
    after = browser.get("/trace").said
    assert after["run"] != before["run"] and after["header"]["nodes"] == ["n1", "n2", "n3"]
    with pytest.raises(Exception, match="closed"):
        old.heal()


def test_show_goes_from_scene_to_scene(browser):
    show = browser.get("/scenes").said["show"]
    assert "done" in browser.do("next").said
    scene = browser.get("/trace").said["scene"]
    assert (scene["name"], scene["position"], scene["waiting"]) == (show[0], 0, True)
    assert scene["following"] == show[1]
    for _ in range(scene["stops"]):
        assert "done" in browser.do("next").said
        assert browser.session.player.wait(PATIENCE)
    assert browser.get("/trace").said["scene"]["done"]
    checks = [record for record in browser.session.trace.records if record["k"] == "check"]
    assert checks and all(check["ok"] for check in checks)
    browser.do("next")
    assert browser.get("/trace").said["scene"]["name"] == show[1]


def test_page_that_asks_ten_times_a_second_copies_nothing_of_the_cluster(browser, monkeypatch):
    """A member that is paused for hours has a message waiting for every heartbeat."""
    browser.do("scene", name="cold-start")
    monkeypatch.setattr(View, "copy", lambda view: pytest.fail("copied"))
    said = browser.get("/trace").said
    assert (said["paused"], said["scale"], said["live"]) == (True, 1.0, True)


def test_nothing_follows_the_last_scene_of_the_show(browser, monkeypatch):
    """The page offers no next scene there, and Page Down says why nothing happens."""
    browser.do("scene", name=browser.get("/scenes").said["show"][-1])
    monkeypatch.setattr(type(browser.session.player), "done", True)
    assert browser.get("/trace").said["scene"]["following"] == ""
    refused = browser.do("next")
    assert (refused.status, refused.said["error"]) == (200, "this was the last stop: choose another scene")


def test_next_that_is_pressed_twice_at_the_end_of_a_scene_begins_one_scene(browser):
    """The second comes from a page that has not seen the new scene yet, and must not begin that one's first stop."""
    browser.do("scene", name="cold-start")
    run = browser.get("/trace").said["run"]
    while not browser.session.player.done:
        browser.do("next", run=run)
        assert browser.session.player.wait(20)
    assert "done" in browser.do("next", run=run).said
    again = browser.do("next", run=run)
    assert (again.status, again.said["error"]) == (200, "wait: another cluster has just begun")
    scene = browser.get("/trace").said["scene"]
    assert (scene["name"], scene["position"]) == ("heartbeats", 0)


def test_next_that_comes_amid_the_change_of_scenes_does_not_begin_the_show_anew(browser, monkeypatch):
    """The scene before is over then, the next one is not there yet, and the show would have to begin."""
    session = browser.session
    session.scene("leader-dies")
    monkeypatch.setattr(type(session.player), "done", True)
    second = threading.Thread(target=lambda: answers.append(browser.do("next")))
    make, answers = session._make_lab, []

    def make_slowly(**settings):
        second.start()
        eventually(lambda: is_inside(second, "_swap"), "waiting for the first")
        return make(**settings)

    monkeypatch.setattr(session, "_make_lab", make_slowly)
    assert "done" in browser.do("next").said
    second.join(PATIENCE)
    assert ["error" in answer.said for answer in answers] == [True]
    assert session.player.scene.name == "split-vote"


def test_scene_is_begun_again_with_as_many_members(browser):
    assert "error" in browser.do("again").said
    browser.session.scene("even-or-odd", 3)
    run = browser.get("/trace").said["run"]
    browser.do("next")
    assert "done" in browser.do("again", run=run).said
    said = browser.get("/trace").said
    assert said["header"]["nodes"] == ["n1", "n2", "n3"] and said["run"] != run
    assert (said["scene"]["name"], said["scene"]["position"]) == ("even-or-odd", 0)
    assert "error" in browser.do("again", run=run).said


def test_free_play_ends_a_scene(browser):
    browser.do("scene", name="cold-start")
    browser.do("next")
    assert "done" in browser.do("scene", name="").said
    assert browser.get("/trace").said["scene"] is None


def test_autoplay_needs_a_scene(browser):
    assert "error" in browser.do("autoplay").said
    browser.do("scene", name="cold-start")
    assert "done" in browser.do("autoplay", on=False).said


# --- Recordings ---------------------------------------------------------------------------------------


def test_recording_is_replayed_and_nothing_can_be_done_to_it(browser):
    content = to_jsonl(browser.session.trace).encode()
    assert browser.open(gzip.compress(content), "run.jsonl.gz").said["records"] == len(content.splitlines()) - 1
    said = browser.get("/trace", "limit=5000").said
    assert not said["live"] and said["name"] == "run.jsonl.gz" and said["last"] == len(said["events"])
    for op in ("heal", "kill", "next", "pause", "align"):
        if op != "next":
            assert "error" in browser.do(op, n="leader").said
    assert "done" in browser.do("reset").said and browser.get("/trace").said["live"]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x00" * 1000,
        b"\x1f\x8b" + b"\x00" * 50,
        b"<html></html>",
        b"{}\n",
        b"[" * 100_000,
        HEADER.replace('"v":1', '"v":2').encode(),
        HEADER.replace('["n1"]', '["n1","n1"]').encode(),
        HEADER.replace('["n1"]', str(["n"] * 10_000).replace("'", '"')).encode(),
        HEADER.encode() + b'{"i":1,"t":"x","k":"start","n":"n1","inc":1}\n',
        HEADER.encode() + b'{"i":1,"t":NaN,"k":"start","n":"n1","inc":1}\n',
        HEADER.encode() + b'{"i":1,"t":0,"k":"note","text":"a","x":1e999}\n',
        HEADER.encode() + b'{"i":1,"t":0,"k":"fault","op":"partition","groups":5}\n',
        HEADER.encode() + b'{"i":1,"t":0,"k":"state","n":"n1","role":"<img onerror=alert(1)>","term":1}\n',
        HEADER.encode() + b'{"i":1,"t":0,"k":"note","text":"' + b"x" * 2_000_000 + b'"}\n',
        gzip.compress(HEADER.encode() + b" " * 300_000_000),
    ],
    ids=lambda content: f"{len(content)} bytes of {content[:12]!r}",
)
def test_hostile_file_is_refused_and_the_cluster_lives_on(browser, content):
    run = browser.get("/trace").said["run"]
    answer = browser.open(content)
    assert answer.status == 400 and answer.said["error"].startswith("run.jsonl: ")
    said = browser.get("/trace").said
    assert said["live"] and said["run"] == run


def test_name_of_a_file_is_only_shown(browser):
    name = "..%2F..%2Fetc%2Fpasswd%0A%00" + "x" * 500
    said = browser.open(HEADER.encode(), name).said
    assert said["opened"].startswith("../../etc/passwdx") and len(said["opened"]) == 100


def test_cut_off_recording_says_so(browser):
    content = to_jsonl(browser.session.trace).encode()
    assert browser.open(content[:-20]).status == 200
    assert "cut off" in browser.get("/trace").said["truncated"]


def test_offline_page_holds_everything_and_cannot_be_left_by_its_content():
    note = "</script><script>alert(1)</script><!--"
    lines = [HEADER, json.dumps({"i": 1, "t": 0.0, "k": "note", "n": None, "text": note})]
    page = offline_page(lines, title="<b>a & b</b>")
    assert note not in page and "\\u003c/script>" in page
    assert "&lt;b&gt;a &amp; b&lt;/b&gt;" in page
    assert not re.findall(r'(?:src|href)="(?!data:|#)', page)
    assert page.count("<script>") == page.count("</script>") == page.count("'sha256-") - 1


def test_a_page_never_sees_half_of_one_cluster_and_half_of_the_next(browser, monkeypatch):
    """It would take the first stop of the new scene for one that has begun, and ask for the next."""
    session = browser.session
    session.scene("cold-start")
    before, lab = session.state(0, 0), session.lab

    def meanwhile(asked):
        if asked is lab:
            session.scene("leader-dies")
        return 1.0

    monkeypatch.setattr(Lab, "seconds_per_second", property(meanwhile))
    amid, after = session.state(0, 0), session.state(0, 0)
    assert (amid["run"], amid["scene"]["name"], amid["header"]) == (before["run"], "cold-start", before["header"])
    assert after["run"] != before["run"] and after["scene"]["name"] == "leader-dies"
