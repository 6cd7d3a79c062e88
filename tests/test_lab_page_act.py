"""You are n3: the page hides the others and asks for each message what one member must do, in a real browser."""

from __future__ import annotations

import json

import pytest
from lab_browser import PROJECTOR, SMALL, chromium, expect, replay, save, trace, watch  # noqa: F401  # fixtures too

from raftlite.lab.act_out import turns

pytestmark = pytest.mark.slow

LETTERS = "abcdefgh"


def begin(page, n="3"):
    page.keyboard.press(n)
    page.keyboard.press("y")
    page.locator("#act-dialog").wait_for()
    return page.locator("#act-dialog")


def test_each_message_is_asked_for_and_judged_by_what_the_member_did(replay, trace):
    page = replay()
    dialog, found = begin(page), turns(trace)
    for number, turn in enumerate(found, 1):
        expect(dialog.locator("h2")).to_contain_text(f"You are n3 · message {number} of {len(found)}")
        expect(dialog.locator(".act-heard")).to_have_text(f"{turn.heard}.")
        expect(dialog.locator(".act-choices button")).to_have_count(len(turn.choices))
        is_right = number % 2 == 1
        chosen = turn.answer if is_right else (turn.answer + 1) % len(turn.choices)
        page.keyboard.press(LETTERS[chosen])
        verdict = dialog.locator(".act-verdict")
        expect(verdict).to_contain_text("Right." if is_right else f"No. n3 did this: {turn.did}.")
        expect(verdict).to_contain_text(turn.why)
        if number < len(found):
            page.keyboard.press("Enter")
    right = (len(found) + 1) // 2
    expect(dialog.locator(".act-verdict")).to_contain_text(f"{right} of {len(found)} as raftlite did.")
    with page.expect_download() as download:
        dialog.get_by_role("button", name="Save the answers").click()
    assert download.value.suggested_filename == "n3.json"
    with open(download.value.path(), encoding="utf-8") as file:
        kept = json.load(file)
    assert kept["node"] == "n3" and list(kept["answers"]) == [str(turn.i) for turn in found]
    assert sum(kept["answers"][str(turn.i)] == LETTERS[turn.answer] for turn in found) == right


@pytest.mark.parametrize("size", [PROJECTOR, SMALL], ids=["1920x1080", "1024x768"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_of_the_others_is_to_be_seen(replay, size, scheme):
    page = replay(viewport=size, color_scheme=scheme)
    dialog = begin(page)
    assert page.evaluate(COVERED) == []
    save(page, f"act-asked-{scheme}-{size['width']}")
    dialog.locator(".act-choices button").nth(1).click()
    save(page, f"act-told-{scheme}-{size['width']}")
    box = dialog.bounding_box()
    assert box["x"] >= 0 and box["y"] >= 0
    assert box["x"] + box["width"] <= size["width"] and box["y"] + box["height"] <= size["height"]


# What can still be reached or seen through what lies behind the dialog.
COVERED = """() => {
    const seen = [];
    const colour = getComputedStyle(document.querySelector('#act-dialog'), '::backdrop').backgroundColor;
    if (!/^rgb\\(/.test(colour)) seen.push('the backdrop is ' + colour);
    const dialog = document.querySelector('#act-dialog');
    for (const [x, y] of [[5, 5], [innerWidth - 5, innerHeight - 5], [innerWidth / 2, innerHeight / 2]]) {
        const top = document.elementFromPoint(x, y);
        if (top !== dialog && !dialog.contains(top)) seen.push(top.outerHTML);
    }
    return seen;
}"""


def test_answers_are_not_thrown_away_by_a_click_beside_the_dialog(replay):
    page = replay()
    dialog = begin(page)
    dialog.locator(".act-choices button").first.click()
    page.mouse.click(5, 5)
    expect(dialog).to_be_visible()


def test_it_says_what_is_missing(replay):
    page = replay()
    page.keyboard.press("y")
    expect(page.locator("#toast")).to_contain_text("Select the member that you want to be")
    page.keyboard.press("3")
    page.get_by_role("button", name="Be this one").click()
    expect(page.locator("#act-dialog")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#act-dialog")).to_be_hidden()
