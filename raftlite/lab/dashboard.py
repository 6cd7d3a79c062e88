"""`raftlite lab --terminal`: the cluster as a table that changes, and the keys of the page.

keys ─▶ Dashboard ─▶ Session ─▶ Lab, Player
            └─ a picture of what the session shows, some times a second ─▶ Rich
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional

from rich.console import Console
from rich.live import Live

from raftlite.command.output import EX_OK
from raftlite.command.signals import stop_signals
from raftlite.errors import ConfigError
from raftlite.lab.dashboard_picture import Moment, picture
from raftlite.lab.keyboard import Keyboard
from raftlite.lab.operations import Refused
from raftlite.lab.plain import PlainLines
from raftlite.lab.session import Session

BLINK = 0.15  # seconds between two pictures
EVENTS_KEPT = 200
FASTEST, SLOWEST = 0.05, 20.0  # of the speeds that keys reach
DIGITS = "123456789"  # and no other: "²".isdigit() holds, too
QUIT = ("q", "Q")

NEXT = ("PageDown", "Right", "Enter")

_OPS: Dict[str, Any] = {
    "l": ("kill", {"n": "leader"}),
    "h": ("heal", {}),
    "b": ("start_all", {}),
    "a": ("align", {}),
    "s": ("spread", {}),
}


class Dashboard:
    """What the keys do to `session`, and what there is to see of it."""

    def __init__(self, session: Session, has_keys: bool = True) -> None:
        self._session = session
        self._has_keys = has_keys
        self._selected: Optional[str] = None
        self._pair: Optional[List[str]] = None  # the members whose link is to be cut, while their digits come
        self._remark = ""
        self._run = session.state(0, 0)["run"]  # of the cluster that the last picture showed
        self._trace = session.trace
        self._told = 0
        self._lines = PlainLines()
        self._events: List[str] = []

    # --- Keys -------------------------------------------------------------------------------------

    def press(self, key: str) -> None:
        """Do what `key` stands for, or say why not."""
        self._remark = ""
        try:
            if key in DIGITS:
                self._digit(key)
            elif key in _OPS:
                self._session.do(*_OPS[key])
            elif key in NEXT:
                self._session.do("next", {"run": self._run})
            elif key in _OWN:
                _OWN[key](self)
        except (Refused, ConfigError) as error:
            self._remark = str(error)

    def _digit(self, key: str) -> None:
        nodes = self._nodes
        if int(key) > len(nodes):
            return
        n = nodes[int(key) - 1]
        if self._pair is None:
            self._selected = n
            return
        self._pair = [*self._pair, n] if n not in self._pair else self._pair
        if len(self._pair) == 2:
            (a, b), self._pair = self._pair, None
            is_cut = self._view.links.is_cut(a, b)
            self._session.do("mend" if is_cut else "cut", {"a": a, "b": b})

    def _begin_pair(self) -> None:
        self._pair = []

    def _let_go(self) -> None:
        self._pair = self._selected = None

    def _pause(self) -> None:
        self._session.do("play" if self._view.is_clock_paused else "pause", {})

    def _of_selected(self, op: Callable[[Any], str]) -> None:
        n = self._selected
        if n is None:
            raise Refused("choose a member first, by its digit")
        self._session.do(op(self._view.nodes[n]), {"n": n})

    def _speed(self, factor: float) -> None:
        scale = min(SLOWEST, max(FASTEST, self._view.scale * factor))
        self._session.do("scale", {"x": round(scale, 4)})

    def _delay(self, change: float) -> None:
        delay = self._view.links.delay or (0.5, 0.5)
        self._session.do("delay", {"range": [max(0.1, round(each + change, 3)) for each in delay]})

    # --- What there is to see ---------------------------------------------------------------------

    @property
    def _nodes(self) -> List[str]:
        return [str(n) for n in self._session.trace.header["nodes"]]

    @property
    def _view(self) -> Any:
        if self._session.lab is None:
            raise Refused("there is no cluster")
        return self._session.lab.view()

    def moment(self) -> Moment:
        """All that a picture shows."""
        session, player = self._session, self._session.player
        lab = session.lab
        assert lab is not None
        state = session.state(session.trace.last, 0)
        self._run = state["run"]
        self._hear()
        if self._pair is not None:
            self._remark = f"Cut or mend a link: {' '.join(self._pair)} … press the digits of two members, or Escape"
        return Moment(
            header=session.trace.header,
            now=lab.now,
            view=lab.view(),
            leader=lab.leader(),
            scene=None if player is None else player.text(),
            is_waiting=player is not None and player.waiting,
            checks=() if player is None else tuple(player.checks),
            events=tuple(self._events),
            selected=self._selected,
            remark=self._remark or state["remark"]["text"] or lab.unwritten,
            has_keys=self._has_keys,
        )

    def _hear(self) -> None:
        """Put what is new into lines; another cluster begins anew."""
        trace = self._session.trace
        if trace is not self._trace:
            self._trace, self._told, self._lines, self._events = trace, 0, PlainLines(), []
            self._let_go()
        records = trace.after(self._told, 5_000)
        self._told += len(records)
        told = self._lines.lines(record for record in records if record["k"] != "note")
        self._events = [*self._events, *told][-EVENTS_KEPT:]


_OWN: Dict[str, Callable[[Dashboard], None]] = {
    " ": Dashboard._pause,
    ".": Dashboard._pause,
    "c": Dashboard._begin_pair,
    "Escape": Dashboard._let_go,
    "x": lambda board: board._of_selected(lambda state: "kill" if state.is_up else "start"),
    "z": lambda board: board._of_selected(lambda state: "thaw" if state.is_paused else "freeze"),
    "t": lambda board: board._of_selected(lambda state: "time_out"),
    "-": lambda board: board._speed(2.0),
    "+": lambda board: board._speed(0.5),
    "=": lambda board: board._speed(0.5),
    "[": lambda board: board._delay(-0.1),
    "]": lambda board: board._delay(0.1),
}


def show(options: argparse.Namespace, make_lab: Callable[..., Any]) -> int:
    """Draw until `q`, Ctrl-C or the end of the terminal; return the exit code."""
    if options.what:
        raise ConfigError(f"--terminal shows a live cluster; --plain shows the recording {Path(options.what[0]).name}")
    with stop_signals() as ended, Session(make_lab) as session:
        _begin(session, options)
        with Keyboard() as keyboard:
            board, console = Dashboard(session, keyboard.is_there), Console()
            with Live(console=console, screen=True, auto_refresh=False, redirect_stderr=False) as live:
                while ended.signal is None:
                    live.update(picture(board.moment(), console.height), refresh=True)
                    keys = keyboard.read(BLINK)
                    if any(key in QUIT for key in keys):
                        return EX_OK
                    for key in keys:
                        board.press(key)
                    if not keyboard.is_there:
                        ended.wait(BLINK)
    return ended.exit_code


def _begin(session: Session, options: argparse.Namespace) -> None:
    if options.scene is not None:
        session.scene(options.scene, options.nodes)
    else:
        session.fresh(**({} if options.nodes is None else {"nodes": options.nodes}))
