"""The classroom's page in a real browser, on a real cluster: what a click, a key and a drag do to it."""

from __future__ import annotations

import re

import pytest
from lab_browser import PATIENCE, SMALL, chromium, expect, lab, real_lab, shown, watch  # noqa: F401  # fixtures too
from threads import eventually

from raftlite.lab.session import Session

pytestmark = pytest.mark.slow


def row(page, n):
    """The line of a member in the table."""
    return page.locator(f'#table-view tr[data-node="{n}"]')


def member(page, n):
    return page.locator(f'#ring [data-node="{n}"]')


def button(page, name):
    return page.get_by_role("button", name=name, exact=True)


# --- Members ------------------------------------------------------------------------------------------


def test_leader_is_stopped_by_a_click_and_another_leads(lab):
    page, old = lab.page, lab.lab.leader()
    member(page, old).click()
    expect(page.locator("#inspector-title")).to_have_text(f"{old} · leader")
    button(page.locator("#inspector"), "Stop").click()
    expect(page.locator("#inspector-title")).to_have_text(f"{old} · stopped", timeout=PATIENCE)
    assert [fault["op"] for fault in lab.faults()] == ["kill"]
    expect(page.locator("#leader b")).to_have_text(re.compile(rf"^(?!{old})n\d leads in term [2-9]"), timeout=PATIENCE)
    page.get_by_role("tab", name="Table").click()
    expect(row(page, old)).to_contain_text("X stopped")
    expect(page.locator("#table-view tr.is-leader")).to_contain_text("L leader")


def test_stopped_member_is_started_again(lab):
    page = lab.page
    page.keyboard.press("2")
    page.keyboard.press("x")
    expect(member(page, "n2")).to_have_class(re.compile("is-stopped"), timeout=PATIENCE)
    button(page.locator("#inspector"), "Start").click()
    expect(member(page, "n2")).not_to_have_class(re.compile("is-stopped"), timeout=PATIENCE)
    assert lab.lab.is_up("n2")


def test_button_stops_the_leader_whoever_it_is(lab):
    old = lab.lab.leader()
    button(lab.page, "Stop the leader").click()
    expect(member(lab.page, old)).to_have_class(re.compile("is-stopped"), timeout=PATIENCE)
    assert not lab.lab.is_up(old)


def test_member_is_paused_and_goes_on_by_key(lab):
    page = lab.page
    page.keyboard.press("4")
    page.keyboard.press("z")
    expect(member(page, "n4")).to_have_class(re.compile("is-paused"), timeout=PATIENCE)
    assert lab.lab.is_paused("n4")
    page.keyboard.press("z")
    expect(member(page, "n4")).not_to_have_class(re.compile("is-paused"), timeout=PATIENCE)


def test_what_cannot_be_done_is_said(lab):
    lab.lab.partition(["n1"], ["n2"], ["n3"], ["n4"], ["n5"])
    expect(lab.page.locator("#leader b")).to_have_text("Nobody leads", timeout=PATIENCE)
    lab.page.keyboard.press("l")
    expect(lab.page.locator("#toast")).to_have_text("nobody leads now")
    expect(lab.page.get_by_role("status")).to_have_text("nobody leads now")


def followers(lab):
    return [n for n in lab.lab.nodes if n != lab.lab.leader()]


def test_buttons_act_on_the_member_that_is_selected_now(lab):
    """Two followers have the same buttons by name, so that nothing seems to have to change with the selection."""
    page, (first, second, *_) = lab.page, followers(lab)
    for n in (first, second):
        page.keyboard.press(n[1])
        expect(page.locator("#inspector-title")).to_have_text(f"{n} · follower")
    button(page.locator("#inspector"), "Stop").click()
    eventually(lab.faults, "stopped")
    assert [(fault["op"], fault["n"]) for fault in lab.faults()] == [("kill", second)]


# --- Links --------------------------------------------------------------------------------------------


def cuts(page):
    return page.locator("#ring .link.cut")


def test_group_is_cut_off_and_healed_by_keyboard(lab):
    page = lab.page
    for key in ("g", "1", "3", "Enter"):
        page.keyboard.press(key)
    expect(cuts(page)).to_have_count(6, timeout=PATIENCE)
    assert lab.faults()[-1]["groups"] == [["n1", "n3"], ["n2", "n4", "n5"]]
    page.keyboard.press("h")
    expect(cuts(page)).to_have_count(0, timeout=PATIENCE)


def test_preset_finds_the_leader(lab):
    leader = lab.lab.leader()
    lab.page.keyboard.press("g")
    button(lab.page, "The leader alone").click()
    expect(cuts(lab.page)).to_have_count(4, timeout=PATIENCE)
    assert lab.faults()[-1]["groups"][0] == [leader]


def test_link_is_cut_and_mended_by_two_digits(lab):
    page = lab.page
    page.keyboard.press("c")
    expect(page.locator("#hint")).to_be_visible()
    page.keyboard.press("2")
    page.keyboard.press("5")
    expect(page.locator('#ring [data-link="n2 n5"]')).to_have_class("link cut", timeout=PATIENCE)
    expect(page.locator("#hint")).to_be_hidden()
    for key in ("c", "5", "2"):
        page.keyboard.press(key)
    expect(cuts(page)).to_have_count(0, timeout=PATIENCE)
    assert [fault["op"] for fault in lab.faults()] == ["cut", "mend"]


def test_link_is_cut_one_way(lab):
    for key in ("Shift+C", "3", "1"):
        lab.page.keyboard.press(key)
    expect(lab.page.locator('#ring [data-link="n1 n3"]')).to_have_class("link cut one-way", timeout=PATIENCE)
    assert lab.lab.view().links.cut == (("n3", "n1"),)


def middle(page, n):
    box = member(page, n).locator(".hit").bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def test_dragging_from_member_to_member_cuts_their_link(lab):
    page = lab.page
    page.mouse.move(*middle(page, "n1"))
    page.mouse.down()
    page.mouse.move(*middle(page, "n3"), steps=5)
    page.mouse.up()
    expect(page.locator('#ring [data-link="n1 n3"]')).to_have_class("link cut", timeout=PATIENCE)
    assert len(lab.faults()) == 1


def test_dragging_across_the_ring_parts_the_members(lab):
    page = lab.page
    at = {n: middle(page, n) for n in ("n2", "n3", "n4", "n5")}
    page.mouse.move(at["n5"][0] - 40, (at["n5"][1] + at["n4"][1]) / 2)
    page.mouse.down()
    page.mouse.move(at["n2"][0] + 20, (at["n2"][1] + at["n3"][1]) / 2, steps=5)
    page.mouse.up()
    expect(cuts(page)).to_have_count(6, timeout=PATIENCE)
    assert sorted(map(sorted, lab.faults()[-1]["groups"])) == [["n1", "n2", "n5"], ["n3", "n4"]]


def test_delay_and_loss_are_set(lab):
    page = lab.page
    page.get_by_label("Loss").fill("50")
    page.keyboard.press("Escape")
    page.locator("body").click(position={"x": 5, "y": 5})
    page.keyboard.press("]")
    expect(page.locator("#loss-value")).to_have_text("50 %", timeout=PATIENCE)
    expect(page.locator("#delay-value")).to_have_text("0.6 s", timeout=PATIENCE)
    assert lab.lab.loss_rate == 0.5 and lab.lab.delay_range == (0.48, 0.72)


def test_sliders_show_the_cluster_and_not_what_they_were_set_to(lab):
    """They keep the keyboard otherwise, and what is being set by hand must not be changed under it."""
    page, slider = lab.page, lab.page.get_by_label("Loss")
    slider.fill("50")
    expect(page.locator("#loss-value")).to_have_text("50 %", timeout=PATIENCE)
    lab.lab.loss(0.2)
    expect(slider).to_have_value("20", timeout=PATIENCE)
    slider.focus()
    lab.session.fresh()
    expect(slider).to_have_value("0", timeout=PATIENCE)


def test_slider_that_is_set_by_the_keyboard_keeps_it(lab):
    page = lab.page
    page.get_by_label("Loss").focus()
    for share in ("5 %", "10 %"):
        page.keyboard.press("ArrowRight")
        expect(page.locator("#loss-value")).to_have_text(share, timeout=PATIENCE)


def test_delay_is_never_none(lab):
    """Which the cluster would refuse: two members could go on for ever in the same instant."""
    lab.lab.delay(0.1)
    lab.page.wait_for_function("() => raftlite.app.frame.view.links.delay[1] === 0.1")
    lab.page.keyboard.press("[")
    eventually(lab.faults, "as short as it may be")
    assert lab.faults()[-1]["delay"] == [0.08, 0.12]
    assert lab.page.get_by_label("Delay").get_attribute("min") == "0.1"


# --- Messages -----------------------------------------------------------------------------------------


def test_buttons_act_on_the_message_that_is_selected_now(lab):
    page = lab.page
    page.keyboard.press("Space")
    expect(page.locator("#live")).to_have_text("Clock stands", timeout=PATIENCE)
    while len(lab.lab.view().in_flight) < 2:
        lab.lab.step()
    first, second, *_ = lab.lab.view().in_flight
    page.wait_for_function("last => raftlite.app.frame.i === last", arg=lab.session.trace.last)
    for m in (first, second):
        page.evaluate("m => raftlite.app.selectMessage(m)", m)
        expect(page.locator("#inspector-title")).to_have_text(re.compile(f"message {m}$"))
    button(page, "Drop").click()
    eventually(lab.faults, "dropped")
    assert [(fault["op"], fault["m"]) for fault in lab.faults()] == [("drop", second)]


def test_message_in_flight_is_held_and_dropped(lab):
    page = lab.page
    page.keyboard.press("Space")
    expect(page.locator("#live")).to_have_text("Clock stands", timeout=PATIENCE)
    lab.lab.wait_for(lambda: True, 0)
    while not lab.lab.view().in_flight:
        lab.lab.step()
    expect(page.locator("#clock")).to_contain_text(f"{lab.lab.now:.1f} s of", timeout=PATIENCE)
    # Drawn as well: what the clock shows is not so exact.
    page.wait_for_function(
        "(({ring, recording}) => ring.flight.flying.some(({m}) => recording.latest.inFlight.has(m)))(raftlite.app)"
    )
    m, x, y = page.evaluate(
        "() => { const {flying} = raftlite.app.ring.flight; const box = document.getElementById('flight')"
        ".getBoundingClientRect(); const {m, x, y} = flying[flying.length - 1]; return [m, box.x + x, box.y + y]; }"
    )
    page.mouse.click(x, y)
    expect(page.locator("#inspector-title")).to_contain_text(f"message {m}")
    button(page, "Hold").click()
    expect(page.locator("#inspector .facts")).to_contain_text("held by hand", timeout=PATIENCE)
    button(page, "Drop").click()
    expect(page.locator("#inspector .facts")).to_contain_text("lost at", timeout=PATIENCE)
    expect(page.locator("#inspector .why")).to_have_text("Because: dropped by hand")


# --- Time ---------------------------------------------------------------------------------------------


def test_past_is_shown_and_left_again(lab):
    page = lab.page
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#banner")).to_contain_text("This is the past")
    place = page.evaluate("raftlite.app.time.i")
    expect(button(page, "Stop the leader")).to_be_disabled()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowRight")
    assert page.evaluate("raftlite.app.time.i") == place - 1
    page.keyboard.press("Shift+ArrowLeft")
    i = page.evaluate("raftlite.app.time.i")
    assert lab.session.trace.records[i - 1]["k"] == "state"
    expect(page).to_have_url(re.compile(rf"#i={i}"))
    button(page.locator("footer"), "Back to live").click()
    expect(page.locator("#banner")).to_be_hidden()
    expect(button(page, "Stop the leader")).to_be_enabled()


# Faster than any hand, and than any picture is drawn.
AT_ONCE = "keys => keys.forEach(key => document.body.dispatchEvent(new KeyboardEvent('keydown', {key, bubbles: true})))"


def test_keys_do_nothing_to_the_cluster_from_the_past(lab):
    page = lab.page
    page.evaluate(AT_ONCE, ["ArrowLeft", "1", "x", "l", "h", "a", "s", "]", "c", "1", "2"])
    expect(page.locator("#toast")).to_contain_text("This is the past")
    page.keyboard.press("End")
    page.keyboard.press("x")
    eventually(lab.faults, "stopped by the key, in the present")
    assert [fault["op"] for fault in lab.faults()] == ["kill"]


def test_no_group_is_cut_off_from_the_past(lab):
    page = lab.page
    page.keyboard.press("ArrowLeft")
    for keys in ("g", "1", "Enter"), ("g",):
        for key in keys:
            page.keyboard.press(key)
    button(page, "Everybody from everybody").click()
    expect(page.locator("#toast")).to_contain_text("This is the past")
    page.keyboard.press("End")
    page.keyboard.press("h")
    eventually(lab.faults, "healed, in the present")
    assert [fault["op"] for fault in lab.faults()] == ["heal"]


def test_new_cluster_begins_in_the_present_whatever_was_looked_at_before(lab):
    page = lab.page
    page.keyboard.press("ArrowLeft")
    expect(page).to_have_url(re.compile("#i="))
    lab.session.fresh()
    page.wait_for_function("() => raftlite.app.runs === 2 && raftlite.app.isPlaced")
    expect(page.locator("#live")).to_have_text("Live")
    expect(page.locator("#banner")).to_be_hidden()
    expect(page).to_have_url(lab.url)


def test_overview_is_of_the_new_cluster_though_its_clock_stands(lab):
    """Else the room sees the roles of the one before under a title that has only begun."""
    page = lab.page
    page.wait_for_function("() => raftlite.app.lanes.end > 2")
    lab.session.scene("heartbeats")
    page.wait_for_function("() => raftlite.app.runs === 2 && raftlite.app.isPlaced")
    page.wait_for_function("() => raftlite.app.lanes.end === 1")


def test_picture_that_fails_is_not_the_last(lab):
    lab.page.evaluate(
        """() => {
            const {ring} = raftlite.app;
            const draw = ring.draw;
            ring.draw = () => { ring.draw = draw; throw new Error('only once'); };
        }"""
    )
    lab.page.wait_for_function("i => raftlite.app.time.i > i + 20", arg=lab.session.trace.last)
    assert [text for text in lab.watched.complaints if "only once" in text]
    lab.watched.complaints.clear()


def test_clock_stands_and_is_stepped(lab):
    page = lab.page
    page.keyboard.press(".")
    expect(page.locator("#live")).to_have_text("Clock stands", timeout=PATIENCE)
    assert lab.lab.is_clock_paused
    last = lab.session.trace.last
    page.keyboard.press("ArrowRight")
    expect(page.locator("#log .current")).to_be_visible()
    page.wait_for_function("i => raftlite.app.time.i > i", arg=last)
    assert lab.lab.is_clock_paused
    page.keyboard.press("Space")
    expect(page.locator("#live")).to_have_text("Live", timeout=PATIENCE)


def test_speed_is_that_of_the_cluster(lab):
    lab.page.get_by_label("Speed").select_option("0.05")
    eventually(lambda: lab.lab.view().scale == 0.05, "as fast as was asked for")
    expect(lab.page.locator("#clock")).to_contain_text("real", timeout=PATIENCE)


@pytest.mark.parametrize(("key", "scale"), [("+", 0.1), ("-", 0.2)])
def test_speed_that_is_none_of_the_list_has_neighbours(lab, key, scale):
    lab.lab.scale(0.15)
    expect(lab.page.get_by_label("Speed")).to_have_value("0.15", timeout=PATIENCE)
    lab.page.keyboard.press(key)
    eventually(lambda: lab.lab.view().scale != 0.15, "another speed")
    assert lab.lab.view().scale == scale


def test_note_is_written_by_keyboard(lab):
    page = lab.page
    page.keyboard.press("n")
    page.keyboard.type("Ana: here <b>we</b> are")
    page.keyboard.press("Enter")
    expect(page.locator("#log")).to_contain_text("Ana: here <b>we</b> are", timeout=PATIENCE)


def test_recording_that_cannot_be_written_is_said(watch):
    session = Session(lambda **settings: real_lab(path="/dev/full", **settings))
    session.fresh()
    with shown(session, watch()) as lab:
        words = "The recording cannot be written to full any more: No space left on device"
        expect(lab.page.locator("#toast")).to_have_text(words, timeout=PATIENCE)


# --- Many pages, and none -----------------------------------------------------------------------------


def test_twelve_pages_and_a_click_under_load(lab, watch):
    """A stream for each page would use up the six connections that a browser has for a host, and this would hang."""
    calm = watch(reduced_motion="reduce", viewport=SMALL)
    others = [calm.open(lab.url) for _ in range(11)]
    for page in others:
        page.locator("#leader", has_text="leads in term").wait_for()
    page = others[-1]
    page.evaluate(
        "fetch('do', {method: 'POST', headers: {'X-Raftlite': '1'}, body: '{\"op\":\"note\",\"text\":\"!\"}'})"
    )
    eventually(lambda: [each for each in lab.session.trace.records if each.get("text") == "!"], "recorded")
    page.keyboard.press("l")
    for page in others:
        expect(page.locator("#ring .is-stopped")).to_have_count(1, timeout=PATIENCE)
        page.close()
    calm.check(lab.url)


def test_lab_that_ends_is_missed_and_its_recording_stays(watch):
    session, watched = Session(real_lab), watch()
    session.fresh()
    session.lab.elected()
    with shown(session, watched) as lab:
        lab.page.locator("#leader", has_text="leads in term").wait_for()
    page = lab.page
    expect(page.locator("#banner")).to_contain_text("does not answer", timeout=PATIENCE)
    expect(button(page, "Stop the leader")).to_be_disabled()
    page.keyboard.press("Shift+ArrowLeft")
    page.keyboard.press("Shift+ArrowLeft")
    expect(page.locator("#log .current")).to_be_visible()
    assert 0 < page.evaluate("raftlite.app.time.i") < session.trace.last
