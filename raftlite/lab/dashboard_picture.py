"""One picture of the cluster for a terminal: members, scene, events, keys. Nothing is said by colour alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Tuple

from rich.console import Group, RenderableType
from rich.layout import Layout
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from raftlite.lab.export.words import clean

BAR = 12  # places
NOTHING = "-"
ROLES = {
    "follower": ("F follower", "dodger_blue1"),
    "pre-candidate": ("P would stand", "orange3"),
    "candidate": ("C candidate", "bold orange1"),
    "leader": ("L leader", "bold green3"),
}
COLUMNS = {"member": 7, "role": 15, "term": 4, "vote": 5, "votes": 13, "follows": 7, "time left": 30, "why": None}
KEYS = "PgDn next · l leader killed · h heal · b all start · space pause · 1-9 choose: x stop/start z freeze t time out"
MORE_KEYS = "c cut/mend · a align · s spread · [ ] delay · - + speed · q quit"
NO_KEYS = "The input is no terminal, so there are no keys: Ctrl-C ends it."


@dataclass(frozen=True)
class Moment:
    """What a picture shows."""

    header: Dict[str, Any]
    now: float
    view: Any
    leader: Optional[str]
    scene: Optional[Dict[str, Any]] = None
    is_waiting: bool = False
    checks: Tuple[Any, ...] = ()
    events: Tuple[str, ...] = ()
    selected: Optional[str] = None
    remark: str = ""
    has_keys: bool = True


def picture(moment: Moment, height: int) -> RenderableType:
    """The whole picture, `height` lines high."""
    parts = [Layout(_head(moment), size=1), Layout(_members(moment), size=len(moment.header["nodes"]) + 4)]
    if moment.scene is not None:
        parts.append(Layout(_scene(moment), size=max(6, min(14, height // 3))))
    parts.append(Layout(_events(moment, height), ratio=1, minimum_size=3))
    parts.append(Layout(_foot(moment), size=3))
    layout = Layout()
    layout.split_column(*parts)
    return layout


def _head(moment: Moment) -> Text:
    header, view = moment.header, moment.view
    clock = "the clock stands still" if view.is_clock_paused else f"scale {view.scale:g}"
    leads = f"{moment.leader} leads" if moment.leader else "nobody leads"
    words = f" raftlite lab · {header['backend']} · {clock} · seed {header['seed']} · {moment.now:.1f} s · {leads}"
    return Text(words, style="reverse", no_wrap=True)


# --- Members ----------------------------------------------------------------------------------------


def _members(moment: Moment) -> Table:
    table = Table(expand=True, pad_edge=False)
    for name, width in COLUMNS.items():
        table.add_column(name, width=width, ratio=None if width else 1, no_wrap=True, overflow="ellipsis")
    for number, n in enumerate(moment.header["nodes"], 1):
        table.add_row(*_row(moment, number, n), style="bold" if n == moment.selected else "")
    return table


def _row(moment: Moment, number: int, n: str) -> List[Text]:
    state = moment.view.nodes[n]
    role, style = role_of(state)
    mark = "▶" if n == moment.selected else " "
    needed = moment.header["config"].get("majority")
    votes = f"{len(state.votes)}, {needed} needed" if state.votes and needed else ""
    words = [f"{mark}{number} {n}", role, str(state.term), state.vote or NOTHING, votes, state.leader or NOTHING]
    cells = [Text(clean(each, 40)) for each in words]
    cells[1].stylize(style)
    return [*cells, Text(time_left(state, moment.now)), Text(clean(state.why, 80))]


def role_of(state: Any) -> Tuple[str, str]:
    """The role in words, and its colour."""
    if not state.is_up:
        return "X stopped", "dim"
    words, style = ROLES.get(state.role, (state.role, ""))
    return (f"‖ frozen {words[2:]}", "dim") if state.is_paused else (words, style)


def time_left(state: Any, now: float) -> str:
    """How long its timer still runs, as a bar and in seconds; of a leader, until when its lease holds."""
    if not state.is_up or state.deadline is None:
        return NOTHING
    left = max(0.0, state.deadline - now)
    if state.role == "leader":
        return f"beat in {left:.1f} s" + ("" if state.lease is None else f", lease {max(0.0, state.lease - now):.1f} s")
    share = min(1.0, left / state.span) if state.span else 0.0
    filled = round(share * BAR)
    return "█" * filled + "░" * (BAR - filled) + f" {left:.1f} of {state.span or 0:.1f} s"


# --- Scene, events, keys ------------------------------------------------------------------------------


def _lettered(answers: List[str]) -> List[str]:
    return [f"{letter}) {answer}" for letter, answer in zip("ABCDEFGH", answers)]


def _scene(moment: Moment) -> Panel:
    scene = moment.scene
    assert scene is not None
    lines = [Text(clean(scene["text"] or scene["summary"], 2_000))]
    if scene["answered"]:
        answered = scene["answered"]
        right = _lettered(answered["answers"])[answered["answer"]]
        lines.append(Text(clean(f"Answer: {right}. {answered['because']}", 2_000), style="italic"))
    if scene["asked"]:
        choices = "   ".join(_lettered(scene["answers"]))
        lines.append(Text(clean(f"{scene['question']}   {choices}", 2_000), style="bold yellow"))
    lines += [Text(clean(f"{'✓' if check.ok else '✗'} {check.name}"), style="bold") for check in moment.checks]
    if scene["stuck"]:
        lines.append(Text(clean(f"✗ {scene['stuck']}"), style="bold red"))
    state = "PgDn goes on" if moment.is_waiting else ("over" if scene["stop"] == scene["of"] else "…")
    return Panel(Group(*lines), title=Text(f"{scene['title']}: stop {scene['stop']} of {scene['of']}, {state}"))


def _events(moment: Moment, height: int) -> Panel:
    taken = len(moment.header["nodes"]) + 10 + (max(6, min(14, height // 3)) if moment.scene is not None else 0)
    lines = moment.events[-max(1, height - taken) :]
    return Panel(Group(*(Text(line, no_wrap=True, overflow="ellipsis") for line in lines)), title="events")


def _foot(moment: Moment) -> Group:
    keys = [KEYS, MORE_KEYS] if moment.has_keys else [NO_KEYS]
    return Group(
        Text(clean(moment.remark), style="bold yellow", no_wrap=True),
        *(Text(line, style="dim", no_wrap=True, overflow="ellipsis") for line in keys),
    )
