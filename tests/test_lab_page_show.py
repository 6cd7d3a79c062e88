"""The classroom's page in a real browser: the show from scene to scene, and what is kept of it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from lab_browser import PATIENCE, chromium, expect, lab, real_lab, shown, watch  # noqa: F401  # fixtures too
from threads import eventually

from raftlite.lab import Lab
from raftlite.lab.export import shiviz
from raftlite.lab.scenes import SCENES, SHOW, Play
from raftlite.lab.session import Session
from raftlite.lab.trace import Trace, lint, load, loads

pytestmark = pytest.mark.slow


# --- The show -----------------------------------------------------------------------------------------


# Which stop of which scene the page knows of, and whether the next one may come.
STOP = "JSON.stringify([raftlite.app.source.run, raftlite.app.source.answer.scene?.position])"
POSITION = "position => (({scene}) => scene && scene.position === position)(raftlite.app.source.answer)"
READY = "() => (({scene}) => !scene || scene.waiting || scene.done)(raftlite.app.source.answer)"


@pytest.mark.long
@pytest.mark.timeout(900)
def test_whole_show_is_given_with_a_remote_control(watch):
    """Page Down for the next stop and the full stop for a pause are all that such a device has."""
    session = Session(lambda **settings: real_lab(**{**settings, "scale": 0.02}))
    session.fresh()
    with shown(session, watch(reduced_motion="reduce")) as lab:
        page, seen = lab.page, []
        for _ in range(100):
            page.wait_for_function(READY)
            player = session.player
            if player is not None and player.scene.name not in seen:
                seen.append(player.scene.name)
            if player is not None and player.done:
                checks = [record for record in session.trace.records if record["k"] == "check"]
                assert checks and all(check["ok"] for check in checks), checks
                expect(page.locator(".checks .ok")).to_have_count(len({check["name"] for check in checks}))
                if player.scene.name == SHOW[-1]:
                    break
            before = page.evaluate(STOP)
            page.keyboard.press("PageDown")
            page.wait_for_function(f"before => {STOP} !== before", arg=before)
        assert tuple(seen) == SHOW


def test_full_stop_of_a_remote_control_stops_the_scene(watch):
    session = Session(real_lab)
    session.scene("heartbeats")  # its first stop has no question, at which the clock would stop by itself
    with shown(session, watch()) as lab:
        lab.page.keyboard.press("PageDown")
        expect(lab.page.locator("#live")).to_have_text("Live", timeout=PATIENCE)
        expect(lab.page.locator(".narration")).to_have_text(session.player.text()["text"])
        lab.page.keyboard.press(".")
        expect(lab.page.locator("#live")).to_have_text("Clock stands", timeout=PATIENCE)
        lab.page.keyboard.press(".")
        expect(lab.page.locator("#live")).to_have_text("Live", timeout=PATIENCE)


def test_scene_is_begun_again_and_the_remote_works_while_its_list_has_the_keyboard(watch):
    session = Session(real_lab)
    session.scene("cold-start")
    with shown(session, watch()) as lab:
        page = lab.page
        page.locator(".choose").focus()
        page.keyboard.press("PageDown")
        page.wait_for_function(POSITION, arg=1)
        first = session.player
        assert first.scene.name == "cold-start"
        page.locator(".again").click()
        page.wait_for_function(POSITION, arg=0)
        assert session.player is not first
        assert (session.player.scene.name, session.player.position) == ("cold-start", 0)
        titles = page.locator(".choose optgroup").nth(0).locator("option")
        assert titles.count() == len(SHOW)
        assert titles.nth(2).text_content() == "3  The leader dies"


def test_scene_is_begun_again_with_as_many_members(watch):
    session = Session(real_lab)
    session.scene("even-or-odd", 3)
    with shown(session, watch()) as lab:
        lab.page.keyboard.press("PageDown")
        lab.page.locator(".again").click()
        lab.page.wait_for_function(POSITION, arg=0)
        assert session.player.scene.name == "even-or-odd" and session.lab.nodes == ["n1", "n2", "n3"]


@pytest.mark.parametrize("is_other", [True, False], ids=["another", "the same"])
def test_keys_are_those_of_the_page_once_a_scene_was_chosen_with_the_mouse(watch, is_other):
    """End would take the last scene of the list, and begin it; also where the mouse has only opened the list."""
    session = Session(real_lab)
    session.scene("cold-start")
    with shown(session, watch()) as lab:
        page, choose = lab.page, lab.page.locator(".choose")
        choose.dispatch_event("pointerdown")
        choose.focus()
        if is_other:
            choose.select_option("leader-dies")
            page.wait_for_function("() => raftlite.app.runs === 2 && raftlite.app.frame.sceneName === 'leader-dies'")
        for key in ("End", "Home", "End", "ArrowDown", "End", "h"):
            page.keyboard.press(key)
        page.keyboard.press("+")
        eventually(lambda: lab.lab.view().scale == 0.1, "faster")
        page.keyboard.press("PageDown")
        page.wait_for_function(POSITION, arg=1)
        assert session.player.scene.name == ("leader-dies" if is_other else "cold-start")


def test_scene_is_looked_for_with_the_arrows_and_begun_by_enter(watch):
    session = Session(real_lab)
    session.scene("cold-start")
    with shown(session, watch()) as lab:
        page, choose = lab.page, lab.page.locator(".choose")
        choose.focus()
        page.keyboard.press("ArrowDown")
        expect(choose).to_have_value("heartbeats")
        page.keyboard.press("Escape")
        expect(choose).to_have_value("cold-start")
        page.keyboard.press("ArrowDown")
        page.keyboard.press("ArrowDown")
        expect(choose).to_have_value("leader-dies")
        page.keyboard.press("Tab")
        expect(choose).to_have_value("cold-start")
        choose.focus()
        page.keyboard.press("ArrowDown")
        page.keyboard.press("Enter")
        page.wait_for_function("() => raftlite.app.frame.sceneName === 'heartbeats'")
        assert page.evaluate("raftlite.app.runs") == 2, "another scene was begun on the way"


def asked() -> Trace:
    """The scene of the leader that dies, up to its first question."""
    scene = SCENES["leader-dies"]
    with Lab(**scene.settings(), backend="virtual", seed=3) as lab:
        Play(scene, lab).next()
        return lab.trace


def test_prediction_is_of_one_cluster(watch):
    """The records of the next one may have the same numbers."""
    session, trace = Session(lambda **_: None), asked()
    session.replay(trace)
    with shown(session, watch()) as lab:
        page = lab.page
        for run in (1, 2):
            page.wait_for_function("run => raftlite.app.runs === run && raftlite.app.isPlaced", arg=run)
            page.keyboard.press("End")
            expect(page.locator(".question")).to_have_text("Who will lead next?")
            expect(page.locator(".answer[aria-pressed=true]")).to_have_count(0)
            page.locator(".answer").first.click()
            expect(page.locator(".answer[aria-pressed=true]")).to_have_count(1)
            session.replay(trace)


def test_question_is_answered_by_what_happens(watch):
    session = Session(real_lab)
    session.scene("leader-dies")
    with shown(session, watch()) as lab:
        page = lab.page
        page.keyboard.press("PageDown")
        expect(page.locator(".question")).to_have_text("Who will lead next?", timeout=PATIENCE)
        page.locator(".answer").nth(0).click()
        expect(page.locator(".answer").nth(0)).to_have_attribute("aria-pressed", "true")
        page.locator(".next:not([disabled])").wait_for()
        page.keyboard.press("PageDown")
        expect(page.locator(".answer-given")).to_contain_text("✓ C Whoever waits the shortest", timeout=PATIENCE)
        expect(page.locator(".answer-given")).to_contain_text("(you said A)")
        page.keyboard.press("PageUp")
        expect(page.locator("#banner")).to_contain_text("This is the past")
        expect(page.locator(".answer-given")).to_be_hidden()


# --- What is kept -------------------------------------------------------------------------------------


def exported(page, label, tmp_path):
    page.keyboard.press("e")
    with page.expect_download() as download:
        page.locator("#export-dialog .exports").get_by_role("button", name=label).click()
    path = tmp_path / download.value.suggested_filename
    download.value.save_as(path)
    page.keyboard.press("Escape")
    return path


def test_recording_is_exported_and_right(lab, tmp_path):
    lab.lab.pause()
    path = exported(lab.page, re.compile("^Recording"), tmp_path)
    trace = load(path)
    assert trace.records == lab.session.trace.records and lint(trace) == []


def test_no_host_of_shiviz_is_called_like_what_every_object_has(lab):
    """Its page looks hosts up in plain objects, and draws nothing for a member called `isPrototypeOf`."""
    assert set(lab.page.evaluate("Object.getOwnPropertyNames(Object.prototype)")) <= shiviz._RESERVED


def test_diagram_is_exported_as_a_drawing_and_as_a_picture(lab, tmp_path):
    drawing = exported(lab.page, re.compile("SVG"), tmp_path).read_text(encoding="utf-8")
    assert drawing.startswith("<svg") and "<script" not in drawing
    assert exported(lab.page, re.compile("PNG"), tmp_path).read_bytes().startswith(b"\x89PNG\r\n\x1a\n")


def test_exported_replay_opens_from_the_disk(lab, watch, tmp_path):
    path = exported(lab.page, re.compile("^Replay"), tmp_path)
    watched = watch()
    page = watched.open(path.as_uri())
    expect(page.locator("#backend")).to_have_text("recording")
    page.keyboard.press("End")
    expect(page.locator("#leader b")).to_contain_text("leads in term")
    expect(page.get_by_role("button", name="Stop the leader")).to_be_hidden()
    again = exported(page, re.compile("^Recording"), tmp_path)
    assert loads(Path(again).read_bytes()).last > 10
    watched.check(path.as_uri())


def test_recording_is_opened_and_a_hostile_one_is_not(lab, tmp_path):
    page, good, bad = lab.page, tmp_path / "good.jsonl", tmp_path / "<b>bad.jsonl"
    exported(page, re.compile("^Recording"), tmp_path).rename(good)
    bad.write_text('{"k":"header"}\n')
    page.keyboard.press("e")
    page.locator("#file").set_input_files(bad)
    expect(page.locator("#toast")).to_contain_text("<b>bad.jsonl: line 1")
    lab.watched.forgive("400")
    page.locator("#file").set_input_files(good)
    expect(page.locator("#backend")).to_have_text("recording", timeout=PATIENCE)
    expect(page.locator("#about")).to_contain_text("good.jsonl")
    assert lab.session.lab is None
