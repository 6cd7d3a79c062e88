"""How the classroom's page looks in a real browser, and what it says to those who cannot see it."""

from __future__ import annotations

import re

import pytest
from lab_browser import PROJECTOR, SMALL, chromium, expect, real_lab, replay, save, shown, trace, watch  # noqa: F401

from raftlite.lab.session import Session
from raftlite.lab.trace import Trace

pytestmark = pytest.mark.slow


# --- How it looks -------------------------------------------------------------------------------------


def places_to_look_at(trace):
    def first(**wanted):
        return next(r["i"] for r in trace.records if all(r.get(name) == value for name, value in wanted.items()))

    return {
        "election": first(k="recv", type="vote_req") + 3,
        "killed": first(k="stop") + 40,
        "parted": first(k="fault", op="heal") - 4,
        "paused": first(k="resume") - 1,
        "end": trace.last,
    }


@pytest.mark.parametrize("size", [PROJECTOR, SMALL], ids=["1920x1080", "1024x768"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_screens_fit_and_are_kept(replay, trace, scheme, size):
    page = replay(viewport=size, color_scheme=scheme)
    for name, i in places_to_look_at(trace).items():
        page.evaluate("i => { raftlite.app.seekRecord(i); raftlite.app.selected = 'n2'; raftlite.app.moved(); }", i)
        page.wait_for_function("i => raftlite.app.frame.i === i && raftlite.app.frame.selected === 'n2'", arg=i)
        assert len(save(page, f"{name}-{scheme}-{size['width']}")) > 20_000
        assert page.evaluate(OVERFLOW) == []


# What sticks out of the window, or out of a panel that cannot be scrolled.
OVERFLOW = """() => {
    const out = [];
    for (const element of document.querySelectorAll('header *, .scene *, footer *, .panel-head *, .inspector button')) {
        const box = element.getBoundingClientRect();
        const parent = element.closest('.panel, header').getBoundingClientRect();
        const isShown = box.width > 0 && !element.closest('.checks, svg, select');
        const isOut = box.right > parent.right + 1 || box.left < parent.left - 1 || box.bottom > innerHeight;
        if (isShown && isOut) out.push(element.outerHTML);
    }
    if (document.documentElement.scrollHeight > innerHeight) out.push('the page scrolls');
    return out;
}"""


# How much can be seen of each tick.
TICKS = """() => {
    const list = document.querySelector('.checks').getBoundingClientRect();
    const boxes = [...document.querySelectorAll('.checks li')].map((tick) => tick.getBoundingClientRect());
    return boxes.map((box) => Math.max(0, Math.min(1, (list.bottom - box.top) / box.height)));
}"""


@pytest.mark.parametrize(("width", "seen"), [("60rem", 2), ("26rem", 1)], ids=["one line each", "two lines each"])
def test_no_tick_that_is_not_yet_known_is_cut_through(replay, width, seen):
    scene = Trace({"nodes": ["n1", "n2", "n3"], "scene": "minority-leader"})  # its ticks have many words
    scene.append("note", None, 0, text="It begins.", by="scene", kind="narration")
    page = replay(recording=scene)
    page.locator(".checks li").first.wait_for()
    page.evaluate("width => Object.assign(document.querySelector('.checks').style, {width, flex: 'none'})", width)
    assert [round(share, 1) for share in page.evaluate(TICKS)] == [1] * seen + [0] * (4 - seen)


# How high the rows at the top and at the bottom are, in buttons, while two say that they lead, and a fast clock stands.
ROWS = """() => {
    const words = {'#leader b': 'n2 leads in term 2', '#leader span': 'n4 still says that it leads, in term 1',
                   '#clock': '25.5 s of 25.5 s · real 12.7 s', '#live': 'Clock stands'};
    for (const [part, said] of Object.entries(words)) document.querySelector(part).textContent = said;
    document.querySelector('#about').textContent = 'seed 18446744073709551615';
    const height = (part) => document.querySelector(part).offsetHeight;
    const right = (part) => document.querySelector(part).getBoundingClientRect().right;
    const isApart = right('#leader b') <= right('#leader');
    return [height('header') / height('#help'), height('.transport') / height('#play'), isApart];
}"""


@pytest.mark.parametrize("size", [PROJECTOR, SMALL], ids=["1920x1080", "1024x768"])
def test_rows_keep_their_height_with_all_that_is_said_in_them(watch, size):
    """The ring shrank to a stamp beside two leaders, and everything moved whenever the clock stood at a question."""
    session = Session(real_lab)
    session.scene("minority-leader")
    with shown(session, watch(viewport=size)) as lab:
        header, transport, is_apart = lab.page.evaluate(ROWS)
        assert header < 1.6 and transport < 1.6 and is_apart
        assert lab.page.evaluate(OVERFLOW) == []


@pytest.mark.long
@pytest.mark.parametrize("deficiency", ["deuteranopia", "protanopia", "tritanopia", "achromatopsia"])
def test_screens_for_other_eyes_are_kept(replay, trace, deficiency):
    """To be looked at: letters and shapes must do without the colours."""
    page = replay(f"#i={places_to_look_at(trace)['parted']}")
    devtools = page.context.new_cdp_session(page)
    devtools.send("Emulation.setEmulatedVisionDeficiency", {"type": deficiency})
    assert len(save(page, f"parted-{deficiency}")) > 20_000


# How high the lane of each member is filled, where no words are, and in how many colours.
FILLED = """() => {
    const {pen, width, height, ids} = raftlite.app.lanes;
    const ratio = pen.canvas.width / width;
    const copy = new OffscreenCanvas(pen.canvas.width, pen.canvas.height).getContext('2d', {willReadFrequently: true});
    copy.drawImage(pen.canvas, 0, 0);
    const lane = (height - 16) / ids.length;
    return ids.map((_, k) => {
        const {data} = copy.getImageData(0.7 * width * ratio, (16 + k * lane) * ratio, 12, lane * ratio);
        const seen = [...new Uint32Array(data.buffer)].filter((pixel) => pixel >>> 24);
        return [seen.length, new Set(seen).size];
    });
}"""


def test_roles_are_told_apart_in_the_lanes_without_their_colours(replay):
    looks = Trace({"nodes": ["leader", "candidate", "pre-candidate", "follower", "paused", "stopped"]})
    for n in looks.nodes[:-1]:
        looks.append("start", n, 0, inc=1)
        looks.append("state", n, 0, role=n if n != "paused" else "follower", term=1, votes=[])
    looks.append("pause", "paused", 0)
    looks.append("start", "stopped", 0, inc=1)
    looks.append("stop", "stopped", 0, why="killed")
    looks.append("note", None, 10, text="a while later")
    page = replay(f"#i={looks.last}", recording=looks)
    page.wait_for_function("() => raftlite.app.lanes.end === 10")
    filled = dict(zip(looks.nodes, page.evaluate(FILLED)))
    heights = [filled[n][0] for n in looks.nodes]
    assert heights == sorted(heights, reverse=True) and len(set(heights)) == 6
    assert filled["leader"][1] < 5 < min(filled["candidate"][1], filled["pre-candidate"][1]), "one of them is hatched"


def test_theme_is_chosen_and_remembered(replay, trace):
    page = replay()
    assert page.evaluate("document.documentElement.dataset.theme") == "light"
    page.keyboard.press("d")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    page.reload()
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"


# --- Who cannot see it, or has no mouse ---------------------------------------------------------------

HEARD = """
- banner:
  - heading "raftlite lab" [level=1]
  - paragraph: /recording run.jsonl/
  - paragraph: /n\\d is elected in term \\d/
  - toolbar "Cluster":
    - button "Cluster…"
    - button "Export…"
    - button "Dark or light"
    - button "Help"
- region "Scene":
  - combobox "Scene"
  - button "Previous"
  - button "Next"
  - list "What must hold":
    - listitem:
      - img "does not hold"
    - listitem:
      - img "holds"
  - paragraph: Five members start.
- main:
  - region "Members":
    - tablist "How to show the members":
      - tab "Ring" [selected]
      - tab "Table"
    - tabpanel "Ring":
      - group "Ring of members":
        - button /n1, .+, term \\d/
        - button /n2, .+, term \\d/
        - button /n3, .+, term \\d/
        - button /n4, .+, term \\d/
        - button /n5, .+, term \\d/
  - region "Diagram"
  - region "Nobody selected"
  - region "Log":
    - group "Filters of the log"
    - list "Log of records"
- contentinfo:
  - img "Roles and terms of all members over the whole recording"
  - slider "Moment of the recording"
  - toolbar "Time":
    - button "Previous change of leader or term"
    - button "Previous event"
    - button "Play"
    - button "Next event"
    - button "Next change of leader or term"
    - combobox "Speed"
- status
"""


NAMELESS = """() => [...document.querySelectorAll('button, select, input')].filter((element) => element.offsetParent
    && !element.labels?.length && !element.ariaLabel && !element.innerText && !element.getAttribute('aria-labelledby')
).map((element) => element.outerHTML)"""


def test_page_says_to_a_screen_reader_what_it_shows(replay, trace):
    page = replay(f"#i={trace.last}")
    expect(page.locator("body")).to_match_aria_snapshot(HEARD)
    assert page.locator("[aria-live], [role=status], [role=alert], output").count() == 1
    assert page.evaluate(NAMELESS) == []


def test_changes_of_role_are_said_and_nothing_else(replay, trace):
    change = next(r for r in trace.records if r["k"] == "state" and r["role"] == "candidate")
    page = replay(f"#i={change['i'] - 1}")
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("status")).to_have_text(re.compile(rf"^{change['n']} is now candidate in term"))
    page.keyboard.press("ArrowRight")
    expect(page.locator("#log .current")).to_be_visible()
    expect(page.get_by_role("status")).to_have_text(re.compile(rf"^{change['n']} is now candidate in term"))


def test_members_are_reached_by_tab(replay, trace):
    page = replay("#i=100")
    page.locator("#tab-ring").focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator("#inspector-title")).to_contain_text("n2 ·")
    page.keyboard.press(" ")
    expect(page.locator("#inspector-title")).to_have_text("Nobody selected")
    assert page.evaluate("raftlite.app.time.isPlaying") is False
    page.locator("#tab-ring").focus()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("tab", name="Table")).to_have_attribute("aria-selected", "true")
    assert page.evaluate("raftlite.app.time.i") == 100


def test_messages_are_reached_by_tab(replay, trace):
    """In the table, since in the ring they do not keep still."""
    i = next(r["i"] for r in trace.records if r["k"] == "send" and r["type"] == "vote_req")
    page = replay(f"#i={i}")
    page.keyboard.press("v")
    row = page.locator("#table-view .flights tbody tr").first
    m = row.locator("td").first.inner_text()
    page.locator("#tab-table").focus()
    page.keyboard.press("Tab")
    expect(row).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#inspector-title")).to_have_text(re.compile(f"message {m}$"))
    expect(page.locator("#inspector .buttons button")).to_have_text(["Drop", "Hold", "Duplicate"])


def test_letters_can_be_switched_off(replay, trace):
    page = replay("#i=100")
    page.keyboard.press("?")
    page.get_by_label("Single letters are keys").uncheck()
    page.keyboard.press("Escape")
    page.keyboard.press("v")
    expect(page.get_by_role("tab", name="Ring")).to_have_attribute("aria-selected", "true")
    page.keyboard.press("PageDown")
    assert page.evaluate("raftlite.app.time.i") != 101
