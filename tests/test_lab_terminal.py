"""The lab in a terminal: lines that need no keyboard, and a picture with keys."""

from __future__ import annotations

import argparse
import importlib.util
import io
import os
import select
import signal
import subprocess
import sys
import time
from dataclasses import replace
from typing import Any, Iterator, List, Tuple

import pytest
from children import environment
from threads import eventually

from raftlite.cli import main
from raftlite.errors import ConfigError
from raftlite.lab import Lab, terminal
from raftlite.lab.keyboard import names_of
from raftlite.lab.plain import PlainLines
from raftlite.lab.scenes import SCENES
from raftlite.lab.scenes.contracts import Contract, fails
from raftlite.lab.session import Session
from raftlite.lab.trace import Trace, save

PATIENCE = 30.0  # seconds for what is bound to be printed

needs_rich = pytest.mark.skipif(importlib.util.find_spec("rich") is None, reason="needs rich")
needs_pty = pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")


# --- Lines ------------------------------------------------------------------------------------------------------------


def lines_of(*records: Tuple[Any, ...]) -> List[str]:
    trace = Trace({"nodes": ["n1", "n2"]})
    for kind, n, t, fields in records:
        trace.append(kind, n, t, **fields)
    return list(PlainLines().lines(trace.records))


def state(**changes: Any) -> Any:
    fields = {"role": "follower", "term": 1, "vote": None, "votes": [], "leader": None, "why": "started", **changes}
    return ("state", "n1", 1.0, fields)


def test_a_line_for_each_change_and_none_for_a_timer_that_is_set_anew():
    assert lines_of(state(), state(deadline=7.0, why="heartbeat of n2"), state(term=2, why="newer")) == [
        "    1.000  n1     is follower, term 1: started",
        "    1.000  n1     is follower, term 2: newer",
    ]


def test_heartbeats_are_left_out_and_votes_are_not():
    beat = {"m": 1, "to": "n2", "type": "heartbeat", "term": 1}
    vote = {"m": 2, "to": "n2", "type": "vote_req", "term": 1, "text": "asks n2 for its vote"}
    assert lines_of(("send", "n1", 1.0, beat), ("send", "n1", 2.0, vote)) == ["    2.000  n1     asks n2 for its vote"]


def test_narration_and_questions_stand_by_themselves():
    text = "Who?\nA) n1\nB) n2"
    asked = ("note", None, 1.0, {"text": text, "by": "scene", "kind": "question"})
    assert lines_of(state(), asked, asked)[1:] == [
        "",
        "Question: Who?",
        "A) n1",
        "B) n2",
        "",
        "Question: Who?",
        "A) n1",
        "B) n2",
        "",
    ]


def test_no_line_is_wide_and_none_can_command_the_terminal():
    long = {"text": "\x1b[2J" + "word " * 300, "by": "ui", "kind": "note"}
    found = lines_of(("note", None, 1.0, long), state(why="\x1b]0;x\x07" + "because " * 60))
    assert max(map(len, found)) <= 100
    assert all(line.isprintable() for line in found)


def test_a_scene_is_told_to_its_end(capsys):
    """Narration, question, answer and events; no keyboard; 0 because its contract was kept."""
    assert main(["lab", "--plain", "--scene", "cold-start", "--scale", "0.01", "--seed", "3"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("Cold start\n")
    for words in ("\nQuestion: Which of them", "\nAnswer: B)", "is leader, term 1", "✓ No term had two leaders"):
        assert words in printed
    assert printed.endswith("3 of 3 checks hold.\n")


def test_a_scene_whose_contract_is_not_kept_exits_with_1(monkeypatch, capsys):
    broken = replace(SCENES["cold-start"], contract=Contract(("as-planned", lambda evidence: fails("no-leader"))))
    monkeypatch.setitem(SCENES, "cold-start", broken)
    assert main(["lab", "--plain", "--scene", "cold-start", "--scale", "0.01"]) == 1
    assert "✗ The scene went as planned: no leader was elected" in capsys.readouterr().out


def test_scenes_and_numbers_of_members_that_there_are_not(capsys):
    assert main(["lab", "--plain", "--scene", "warm-start"]) == 78
    assert main(["lab", "--plain", "--scene", "cold-start", "--nodes", "4"]) == 78
    assert "they are cold-start" in capsys.readouterr().err


def test_a_recording_is_told(tmp_path, capsys):
    with Lab(3, backend="virtual") as lab:
        lab.elected()
        save(lab.trace, tmp_path / "run.jsonl")
    assert main(["lab", "--plain", str(tmp_path / "run.jsonl")]) == 0
    assert "is leader, term 1" in capsys.readouterr().out
    (tmp_path / "no.jsonl").write_text("nothing")
    assert main(["lab", "--plain", str(tmp_path / "no.jsonl")]) == 65
    assert main(["lab", "--plain", str(tmp_path / "none.jsonl")]) == 66


class Typed:
    """`raftlite lab` at a terminal of its own."""

    START = (
        "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0);"
        "os.execv(sys.executable, [sys.executable, '-m', 'raftlite', 'lab', *sys.argv[1:]])"
    )

    def __init__(self, *arguments: str) -> None:
        import fcntl
        import pty
        import struct
        import termios

        self.end, self.terminal = pty.openpty()
        fcntl.ioctl(self.terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 130, 0, 0))
        self.before = termios.tcgetattr(self.terminal)
        self.printed = ""
        self.process = subprocess.Popen(
            [sys.executable, "-c", self.START, *arguments],
            stdin=self.terminal,
            stdout=self.terminal,
            stderr=self.terminal,
            env={**environment(), "TERM": "xterm-256color"},
            start_new_session=True,
        )

    def __enter__(self) -> Typed:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self.end)
        os.close(self.terminal)

    def type(self, keys: str) -> None:
        os.write(self.end, keys.encode())

    def expect(self, words: str) -> None:
        """Read on until `words` are printed."""
        self.printed = ""
        over = time.monotonic() + PATIENCE
        while words not in self.printed:
            assert time.monotonic() < over and self.read(), f"{words!r} is not in: {self.printed[-2_000:]!r}"

    def read(self) -> bool:
        """Some of what is printed; False where nothing comes any more."""
        if not select.select([self.end], [], [], PATIENCE)[0]:
            return False
        self.printed += os.read(self.end, 65_536).decode("utf-8", "replace")
        return True

    def wait(self) -> int:
        """The exit code; until then somebody has to read."""
        over = time.monotonic() + PATIENCE
        while self.process.poll() is None:
            assert time.monotonic() < over
            if select.select([self.end], [], [], 0.05)[0]:
                self.printed += os.read(self.end, 65_536).decode("utf-8", "replace")
        while select.select([self.end], [], [], 0)[0]:
            self.printed += os.read(self.end, 65_536).decode("utf-8", "replace")
        return int(self.process.returncode)

    def is_as_before(self) -> bool:
        import termios

        return bool(termios.tcgetattr(self.terminal) == self.before)


@pytest.mark.slow
@needs_pty
def test_plain_lines_of_a_cluster_go_on_until_ctrl_c():
    with Typed("--plain", "--scale", "0.02", "--nodes", "3", "--seed", "1") as typed:
        typed.expect("is leader, term ")
        typed.type("\x03")
        assert typed.wait() == 130
        assert "Traceback" not in typed.printed


# --- Picture and keys -------------------------------------------------------------------------------------------------


@pytest.mark.slow
@needs_pty
@needs_rich
@pytest.mark.parametrize(("key", "code"), [("q", 0), ("\x03", 130)], ids=["q", "Ctrl-C"])
def test_the_terminal_is_afterwards_as_it_was(key, code):
    with Typed("--terminal", "--scene", "cold-start", "--scale", "0.05") as typed:
        typed.expect("stop 0 of 5")
        typed.type("\x1b[6~")
        typed.expect("stop 1 of 5, PgDn goes on")
        typed.type(key)
        assert typed.wait() == code
        assert "Traceback" not in typed.printed
        assert typed.printed.rstrip().endswith("\x1b[?1049l") and "\x1b[?25h" in typed.printed
        assert typed.is_as_before()


@pytest.mark.slow
@needs_pty
@needs_rich
def test_sigterm_ends_it_too():
    with Typed("--terminal", "--nodes", "3") as typed:
        typed.expect("nobody leads")
        typed.process.send_signal(signal.SIGTERM)
        assert typed.wait() == 0
        assert "Traceback" not in typed.printed and typed.is_as_before()


def options(**changes: Any) -> argparse.Namespace:
    values = {"plain": False, "terminal": True, "what": [], "scene": None, "nodes": None, **changes}
    return argparse.Namespace(**values)


def test_without_rich_a_sentence_says_how_to_install_it(monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert terminal.run(options(), Lab) == 69
    assert "pip install 'raftlite[terminal]'" in capsys.readouterr().err


@needs_rich
def test_without_a_terminal_a_sentence_says_what_to_use(capsys):
    with pytest.raises(ConfigError, match="use --plain"):
        terminal.run(options(), Lab)


def test_keys_have_names():
    assert names_of("l\x1b[6~\x1b[5~ q\x1b[A\x1b[1;5C\r\x1b") == [
        "l",
        "PageDown",
        "PageUp",
        " ",
        "q",
        "Enter",
        "Escape",
    ]


@pytest.fixture
def session() -> Iterator[Session]:
    def make(**settings: Any) -> Lab:
        return Lab(**{"backend": "virtual", "nodes": 5, **settings})

    with Session(make) as session:
        session.fresh()
        yield session


def drawn(board: Any, height: int = 40) -> str:
    from rich.console import Console

    from raftlite.lab.dashboard_picture import picture

    out = io.StringIO()
    console = Console(file=out, width=130, height=height)
    console.print(picture(board.moment(), height))
    return out.getvalue()


def board_of(session: Session) -> Any:
    from raftlite.lab.dashboard import Dashboard

    return Dashboard(session)


def faults(session: Session) -> List[Tuple[Any, ...]]:
    return [(record["op"], record["n"]) for record in session.trace.records if record["k"] == "fault"]


@needs_rich
def test_the_picture_shows_what_the_cluster_is(session):
    leader = session.lab.elected()
    board = board_of(session)
    found = drawn(board)
    assert f"{leader} leads" in found and "L leader" in found and "F follower" in found
    assert "3, 3 needed" in found and "lease" in found and "q quit" in found
    assert f"{leader}     is leader, term 1" in found
    board.press("l")
    assert "nobody leads" in drawn(board) and "X stopped" in drawn(board)


@needs_rich
def test_keys_do_what_they_do_on_the_page(session):
    board, lab = board_of(session), session.lab
    leader = lab.elected()
    other = next(n for n in lab.nodes if n != leader)
    for key in ("l", "b", "h", "s", other[1], "x", "x", "z", "z", "t", "Escape"):
        board.press(key)
    assert faults(session) == [
        ("kill", leader),
        ("start", leader),
        ("heal", None),
        ("spread", None),
        ("kill", other),
        ("start", other),
        ("freeze", other),
        ("thaw", other),
        ("time_out", other),
    ]
    assert all(record["by"] == "ui" for record in session.trace.records if record["k"] == "fault")


@needs_rich
def test_a_link_is_cut_and_mended_by_two_digits(session):
    board = board_of(session)
    for key in "c13":
        board.press(key)
    assert session.lab.view().links.is_cut("n1", "n3") and session.lab.view().links.is_cut("n3", "n1")
    for key in "c31":
        board.press(key)
    assert not session.lab.view().links.is_cut("n1", "n3")
    board.press("c")
    assert "press the digits of two members" in drawn(board)


@needs_rich
def test_clock_speed_and_delay(session):
    board = board_of(session)
    board.press(" ")
    assert session.lab.is_clock_paused and "the clock stands still" in drawn(board)
    for key in (".", "-", "]"):
        board.press(key)
    assert not session.lab.is_clock_paused and session.lab.view().scale == 2.0
    assert session.lab.delay_range == (0.5, 0.7)


@needs_rich
def test_what_cannot_be_done_is_said(session):
    board = board_of(session)
    board.press("x")
    assert "choose a member first" in drawn(board)
    board.press("l")
    assert "nobody leads now" in drawn(board)
    board.press("h")
    assert "nobody leads now" not in drawn(board)


@needs_rich
def test_digits_that_are_none_of_the_keyboard_are_no_digits(session):
    board = board_of(session)
    for key in ("²", "٣", "0", "9"):
        board.press(key)
    board.press("x")
    assert "choose a member first" in drawn(board)


@needs_rich
def test_a_recording_that_cannot_be_written_is_said():
    def make(**settings: Any) -> Lab:
        return Lab(**{"backend": "virtual", "nodes": 3, "path": "/dev/full", **settings})

    with Session(make) as session:
        session.fresh()
        eventually(lambda: session.lab.unwritten, "noticed")
        assert "The recording cannot be written to full any more" in drawn(board_of(session))


@needs_rich
def test_two_quick_presses_at_the_end_of_a_scene_begin_one_scene(session):
    """The second was meant for what its picture showed, and must not begin the new scene's first stop."""
    session.scene("cold-start")
    board = board_of(session)
    while not session.player.done:
        board.press("PageDown")
        assert session.player.wait(PATIENCE)
    drawn(board)
    board.press("PageDown")
    board.press("PageDown")
    assert (session.player.scene.name, session.player.position) == ("heartbeats", 0)
    assert "wait: another cluster has just begun" in drawn(board)
    board.press("PageDown")
    assert session.player.position == 1


@needs_rich
def test_a_scene_goes_from_stop_to_stop_with_its_question(session):
    session.scene("cold-start")
    board = board_of(session)
    assert "stop 0 of 5" in drawn(board) and "Five members start" in drawn(board)
    board.press("PageDown")
    assert session.player.wait(PATIENCE)
    found = drawn(board)
    assert "stop 1 of 5, PgDn goes on" in found and "Which of them will become the leader?" in found
    board.press("PageDown")
    assert session.player.wait(PATIENCE)
    assert "Answer: B) The one whose arc runs out first" in drawn(board)
    for _ in range(3):
        board.press("Enter")
        assert session.player.wait(PATIENCE)
    assert "✓ No term had two leaders" in drawn(board) and "5 of 5, over" in drawn(board)


@needs_rich
@pytest.mark.parametrize("height", [10, 24, 60])
def test_a_picture_is_never_higher_than_the_terminal(session, height):
    session.scene("cold-start")
    assert len(drawn(board_of(session), height).splitlines()) <= height
