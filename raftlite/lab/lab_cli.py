"""`raftlite lab`: a cluster to watch and to break, in the browser of this machine or in its terminal; and recordings.

Exit codes: 0 done, 64 wrong arguments, 65 the file is no recording, 66 it cannot be read, 73 the port is taken or the
recording cannot be written, 78 settings out of bounds, 130 ended by Ctrl-C.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Dict

from raftlite.command.output import EX_CANTCREAT, EX_OK, print_text
from raftlite.command.signals import stop_signals
from raftlite.errors import ConfigError

if TYPE_CHECKING:
    from raftlite.lab.lab import Lab
    from raftlite.lab.session import Session
    from raftlite.lab.trace import Trace

EX_DATAERR, EX_NOINPUT = 65, 66
EXERCISE = ("exercise", "check", "n3")  # words instead of a FILE
FILE_HELP = "a recording to replay; or exercise, check or n3, and what they need"


def add_parser(commands: Any) -> None:
    """Add `lab` to the subcommands of `raftlite`."""
    lab: argparse.ArgumentParser = commands.add_parser(
        "lab",
        help="watch a cluster in the browser, break it, and step back through its recording",
        description="Start a cluster and show it in the browser of this machine; or, with FILE, replay a recording. "
        "Only this machine can reach the page. Ctrl-C ends it. For students: `raftlite lab exercise [FOLDER]` writes "
        "an exercise of 90 minutes, `raftlite lab check FOLDER` marks it, `raftlite lab n3 [FILE]` makes you a member.",
    )
    lab.add_argument("what", nargs="*", metavar="FILE", help=FILE_HELP)
    _add_cluster(lab)
    _add_page(lab)
    _add_terminal(lab)
    lab.add_argument("--instructions", action="store_true", help="print what to press and say in ten minutes")
    lab.set_defaults(run=run, usage_error=lab.error)


def _add_cluster(lab: argparse.ArgumentParser) -> None:
    lab.add_argument("--nodes", type=int, metavar="N", help="how many members (default 5)")
    lab.add_argument("--processes", action="store_true", help="each member is a process: it can really be killed")
    lab.add_argument("--scale", type=float, default=1.0, metavar="S", help="seconds that one of the cluster takes")
    lab.add_argument("--seed", type=int, metavar="N", help="the same seed gives the same chances (default: drawn)")
    lab.add_argument("--scene", metavar="NAME", help="begin with this scene; `list` names them all")
    lab.add_argument(
        "--record",
        metavar="FILE",
        help="write the recording there: run.jsonl, then run-2.jsonl for the next cluster, and so on",
    )


def _add_page(lab: argparse.ArgumentParser) -> None:
    lab.add_argument("--port", type=int, default=0, metavar="P", help="of the page (default: one that is free)")
    lab.add_argument(
        "--open",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="open the page in the browser (default: where the command was typed at a terminal)",
    )


def _add_terminal(lab: argparse.ArgumentParser) -> None:
    lab.add_argument("--terminal", action="store_true", help="show it in the terminal (needs the package rich)")
    lab.add_argument("--plain", action="store_true", help="show it as plain lines")


# --- What is shown --------------------------------------------------------------------------------


def run(options: argparse.Namespace) -> int:
    """Show what the options say until Ctrl-C; return the exit code."""
    if options.what and options.what[0] in EXERCISE:
        return _exercise(options)
    if len(options.what) > 1:
        options.usage_error("one recording can be replayed at a time")
    if options.instructions:
        print_text((Path(__file__).parent / "LECTURER.md").read_text(encoding="utf-8").rstrip("\n"))
        return EX_OK
    if options.scene == "list":
        return _list_scenes()
    if options.terminal or options.plain:
        return _in_terminal(options)
    return _in_browser(options)


def _list_scenes() -> int:
    from raftlite.lab.session import scenes_in_words

    found = scenes_in_words()
    for scene in found["scenes"]:
        number = found["show"].index(scene["name"]) + 1 if scene["name"] in found["show"] else ""
        print_text(f"{scene['name']:<20} {number:>2}  {scene['title']}")
    return EX_OK


def _exercise(options: argparse.Namespace) -> int:
    from raftlite.lab import exercise

    code: int = exercise.run(options)
    return code


def _in_terminal(options: argparse.Namespace) -> int:
    from raftlite.lab import terminal

    code: int = terminal.run(options, maker(options))
    return code


def _in_browser(options: argparse.Namespace) -> int:
    from raftlite.lab.server import serve
    from raftlite.lab.session import Session
    from raftlite.lab.trace import TraceError

    if not 0 <= options.port <= 65_535:
        raise ConfigError(f"--port is {options.port}, but must be a number from 0 to 65535")
    with stop_signals() as ended, Session(maker(options)) as session:
        try:
            _begin(session, options)
        except TraceError as error:
            return _fail(f"{options.what[0]}: {error}", EX_DATAERR)
        except _NoInput as error:
            return _fail(f"{options.what[0]}: {error}", EX_NOINPUT)
        try:
            serving = serve(session, options.port)
        except OSError as error:
            return _fail(f"port {options.port}: {error.strerror}", EX_CANTCREAT)
        with serving:
            print_text(f"The lab is at {serving.url}  Ctrl-C ends it.")
            _open_page(serving.url, options.open)
            while not ended.wait(timeout=3600.0):
                pass
    return ended.exit_code


def _begin(session: Session, options: argparse.Namespace) -> None:
    if options.what:
        session.replay(_loaded(options.what[0]), Path(options.what[0]).name)
    elif options.scene is not None:
        session.scene(options.scene, options.nodes)
    else:
        session.fresh()


class _NoInput(Exception):
    """The recording cannot be read. An `OSError` tells of what cannot be written."""


def _loaded(path: str) -> Trace:
    from raftlite.lab.trace import load

    try:
        return load(path)
    except OSError as error:
        raise _NoInput(error.strerror or str(error)) from None


def _fail(reason: str, code: int) -> int:
    print(f"raftlite lab: {reason}", file=sys.stderr)
    return code


def maker(options: argparse.Namespace) -> Callable[..., Lab]:
    """What makes a `Lab` as the options say; what it is called with, as for a scene, comes before them."""
    made = [0]

    def make(**settings: Any) -> Lab:
        from raftlite.lab.lab import Lab

        made[0] += 1
        seed = int.from_bytes(os.urandom(3), "big") if options.seed is None else options.seed
        chosen: Dict[str, Any] = {
            "backend": "processes" if options.processes else "threads",
            "scale": options.scale,
            "seed": seed,
            "path": None if options.record is None else _numbered(options.record, made[0]),
        }
        if options.nodes is not None:
            chosen["nodes"] = options.nodes
        return Lab(**{**chosen, **settings})

    return make


def _numbered(path: str, number: int) -> str:
    """run.jsonl, run-2.jsonl, run-3.jsonl: one cluster after the other."""
    if number == 1:
        return path
    stem, suffix = os.path.splitext(path)
    return f"{stem}-{number}{suffix}"


def _open_page(url: str, wanted: Any) -> None:
    """In a browser that has a window of its own: one for the terminal would be of no use."""
    has_windows = sys.platform in ("win32", "darwin") or any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY")))
    if wanted is None:
        wanted = sys.stdout.isatty() and has_windows
    if wanted:
        threading.Thread(target=_open_quietly, args=(url,), name="lab-browser", daemon=True).start()


def _open_quietly(url: str) -> None:
    import webbrowser

    with contextlib.suppress(webbrowser.Error, OSError):
        webbrowser.open(url)
