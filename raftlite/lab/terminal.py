"""The lab in a terminal: `--plain` for lines, `--terminal` for a picture of the cluster and keys.

Exit codes beside those of `raftlite lab`: with `--plain --scene NAME`, 0 only if the contract of the scene was kept,
otherwise 1; 69 where the package that draws is missing.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from pathlib import Path
from typing import Any, Callable

from raftlite.command.output import EX_OK, EX_UNAVAILABLE
from raftlite.command.signals import Ended, stop_signals
from raftlite.errors import ConfigError
from raftlite.lab import plain

EX_FAILED, EX_DATAERR, EX_NOINPUT = 1, 65, 66
MISSING = "--terminal needs the package rich: pip install 'raftlite[terminal]' installs it; --plain needs nothing"

MakeLab = Callable[..., Any]


def run(options: argparse.Namespace, make_lab: MakeLab) -> int:
    """Show what the options say until it is over, or until Ctrl-C; return the exit code."""
    if options.plain:
        return _tell_recording(options.what[0]) if options.what else _tell(options, make_lab)
    if importlib.util.find_spec("rich") is None:
        return _fail(MISSING, EX_UNAVAILABLE)
    if not sys.stdout.isatty():
        raise ConfigError("--terminal draws on a terminal, and the output is none: use --plain")
    from raftlite.lab.dashboard import show

    return show(options, make_lab)


def _fail(reason: str, code: int) -> int:
    print(f"raftlite lab: {reason}", file=sys.stderr)
    return code


def _tell_recording(path: str) -> int:
    from raftlite.lab.trace import TraceError, load

    try:
        trace = load(path)
    except TraceError as error:
        return _fail(f"{Path(path).name}: {error}", EX_DATAERR)
    except OSError as error:
        return _fail(f"{path}: {error.strerror}", EX_NOINPUT)
    plain.tell_recording(trace)
    return EX_OK


def _tell(options: argparse.Namespace, make_lab: MakeLab) -> int:
    with stop_signals() as ended:
        if options.scene is not None:
            return _tell_scene(options, make_lab, ended)
        settings = {} if options.nodes is None else {"nodes": options.nodes}
        with make_lab(**settings) as lab:
            plain.tell_cluster(lab, ended)
        return ended.exit_code


def _tell_scene(options: argparse.Namespace, make_lab: MakeLab, ended: Ended) -> int:
    from raftlite.lab.player import Player

    scene = find_scene(options.scene)
    with make_lab(**scene.settings(nodes=options.nodes)) as lab:
        player = Player(lab, scene)
        try:
            is_kept = plain.tell_scene(player, ended)
        finally:
            lab.close()
            player.close()
    if ended.signal is not None:
        return ended.exit_code
    return EX_OK if is_kept else EX_FAILED


def find_scene(name: str) -> Any:
    """The scene of that name. Raises `ConfigError` where there is none."""
    from raftlite.lab.scenes import SCENES

    if name not in SCENES:
        raise ConfigError(f"there is no scene {name[:60]!r}: they are {', '.join(SCENES)}")
    return SCENES[name]
