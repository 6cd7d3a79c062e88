"""A real browser for the tests of the classroom's page: Chromium from the system, driven by Playwright.

`RAFTLITE_CHROMIUM` names another one. Nothing is downloaded: without Playwright or without Chromium the tests are
skipped, and say which of the two is missing. `.ci/run` installs both.
"""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Iterator, List, Optional

import pytest

from raftlite.lab import Lab, Rules
from raftlite.lab.server import serve
from raftlite.lab.session import Session
from raftlite.lab.trace import Trace

PATIENCE = 20_000  # milliseconds for whatever a page is waited for, on a machine that is busy
SCREENSHOTS = Path(__file__).resolve().parent.parent / ".cache" / "lab-page"
PROJECTOR, SMALL = {"width": 1920, "height": 1080}, {"width": 1024, "height": 768}
NO_INTERNET = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


def find_chromium() -> Optional[str]:
    return os.environ.get("RAFTLITE_CHROMIUM") or next(filter(None, map(shutil.which, _NAMES)), None)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """The browser, started once for the tests of a file."""
    api = pytest.importorskip("playwright.sync_api", reason="Playwright is missing: pip install raftlite[lab]")
    path = find_chromium()
    if path is None:
        pytest.skip("no Chromium here: apt-get install chromium, or name one in RAFTLITE_CHROMIUM")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=[NO_INTERNET])
        yield browser
        browser.close()


class Watched:
    """Pages whose every request and every word on the console is written down."""

    def __init__(self, chromium: Any, **settings: Any) -> None:
        self.requests: List[str] = []
        self.complaints: List[str] = []
        self.context = chromium.new_context(**{"viewport": PROJECTOR, "color_scheme": "light", **settings})
        self.context.set_default_timeout(PATIENCE)
        self.context.on("request", lambda request: self.requests.append(request.url))
        self.context.on("console", lambda message: self.complaints.append(f"{message.type}: {message.text}"))
        self.context.on("weberror", lambda error: self.complaints.append(str(error.error)))

    def open(self, url: str) -> Any:
        page = self.context.new_page()
        page.goto(url)
        return page

    def forgive(self, status: str) -> None:
        """What the browser itself says of an answer with that status, which was meant to come."""
        self.complaints = [text for text in self.complaints if f"status of {status}" not in text]

    def check(self, url: str) -> None:
        """Nobody else was asked for anything, and nothing went wrong that only the console would tell."""
        own = (url, "data:", f"blob:{url}", "blob:null", "file:")
        foreign = [address for address in self.requests if not address.startswith(own)]
        assert not foreign, f"asked for {foreign}"
        assert not self.complaints, f"the console says {self.complaints}"


@pytest.fixture
def watch(chromium: Any) -> Iterator[Any]:
    """Make `Watched` contexts, which are closed at the end."""
    made = []

    def make(**settings: Any) -> Watched:
        made.append(Watched(chromium, **settings))
        return made[-1]

    yield make
    for watched in made:
        watched.context.close()


class Shown:
    """A session, the address of its page, and a page that shows it."""

    def __init__(self, session: Session, url: str, watched: Watched) -> None:
        self.session, self.url, self.watched = session, url, watched
        self.page = watched.open(url)
        self.page.wait_for_function("() => window.raftlite?.app?.frame")

    @property
    def lab(self) -> Lab:
        assert self.session.lab is not None
        return self.session.lab

    def faults(self) -> List[Any]:
        """What was done to the cluster by the page."""
        records = self.session.trace.records
        return [record for record in records if record["k"] == "fault" and record["by"] == "ui"]


@contextmanager
def shown(session: Session, watched: Watched, place: str = "") -> Iterator[Shown]:
    """The page of `session`; at the end, nothing may have gone wrong on it."""
    with session, serve(session) as serving:
        yield Shown(session, serving.url + place, watched)
        watched.check(serving.url)


def real_lab(**settings: Any) -> Lab:
    """Real threads, five times faster than in the classroom."""
    return Lab(**{"backend": "threads", "scale": 0.2, "seed": 7, **settings})


@pytest.fixture
def lab(watch: Any) -> Iterator[Shown]:
    """The page of five members, one of which leads."""
    session = Session(real_lab)
    session.fresh()
    assert session.lab is not None
    session.lab.scale(0.02)  # nobody looks on yet
    session.lab.elected()
    session.lab.scale(0.2)
    with shown(session, watch()) as page:
        page.page.locator("#leader", has_text="leads in term").wait_for()
        yield page


@pytest.fixture(scope="module")
def trace() -> Trace:
    """Whatever can happen to a cluster, as far as the page shows it; the same every time."""
    with Lab(5, backend="virtual", seed=11) as lab:
        _let_happen(lab)
        return lab.trace


def _let_happen(lab: Lab) -> None:
    lab.note("Five members start.", by="scene", kind="narration")
    first = lab.elected()
    lab.note("Who will lead next?", by="scene", kind="question")
    lab.kill(first)
    second = lab.elected(term_above=lab.state(first).term if lab.is_up(first) else 1)
    lab.note("Whoever waits the shortest.", by="scene", kind="answer")
    lab.check("one leader per term", True)
    lab.start(first)
    lab.wait(3)
    others = [n for n in lab.nodes if n != second]
    lab.partition([second, others[0]], others[1:])
    lab.wait(14)
    lab.heal()
    lab.wait(5)
    lab.wait_for(lambda: len(lab.view().in_flight) > 1, 5)
    (m, k, *_) = lab.view().in_flight
    lab.duplicate(m)
    lab.hold(k)
    lab.wait(1)
    lab.release(k)
    leader = lab.elected()
    lab.cut(leader, next(n for n in lab.nodes if n != leader), both=False)
    lab.freeze(leader)
    lab.wait(9)
    lab.act(lab.leader() or leader)
    lab.thaw(leader)
    lab.act(leader)
    lab.loss(0.3)
    lab.set_rules(Rules(pre_vote=False))
    lab.delay((0.2, 1.4))
    lab.scale(0.5)
    lab.wait(6)
    lab.note("the end", by="ui")
    lab.check("nothing was lost", False, "much was")


# Whether the page has all of the recording, and shows the moment at which it stands.
DRAWN = "last => raftlite.app.recording.last === last && raftlite.app.frame.i === raftlite.app.time.i"


@pytest.fixture
def replay(trace: Trace, watch: Any) -> Iterator[Any]:
    """Open the page of the recording at a place, with settings for the browser."""
    opened: List[Any] = []

    def open_at(place: str = "", recording: Trace = trace, **settings: Any) -> Any:
        session = Session(lambda **_: None)
        session.replay(recording, "run.jsonl")
        opened.append(shown(session, watch(**settings), place))
        page = opened[-1].__enter__().page
        page.wait_for_function(DRAWN, arg=recording.last)
        return page

    yield open_at
    for each in opened:
        each.__exit__(None, None, None)


def expect(locator: Any) -> Any:
    """Playwright's own, which waits for what it expects."""
    from playwright.sync_api import expect

    expect.set_options(timeout=PATIENCE)
    return expect(locator)


def save(page: Any, name: str) -> bytes:
    """Take a screenshot, and keep it for whoever wants to look at it."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    picture: bytes = page.screenshot()
    (SCREENSHOTS / f"{name}.png").write_bytes(picture)
    return picture
