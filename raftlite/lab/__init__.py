"""The classroom: a real cluster to watch, to break, and to step back through.

    from raftlite.lab import Lab

    with Lab(5, path="run.jsonl") as lab:
        first = lab.elected()
        lab.kill(first)
        lab.elected(term_above=lab.state(first).term)

`Lab` runs the members and records them; `Rules` are what may be switched off; `load` reads a recording back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, List

if TYPE_CHECKING:
    from raftlite.lab.lab import CLASSROOM, Lab
    from raftlite.lab.rules import Rules
    from raftlite.lab.stage import LabClosed
    from raftlite.lab.trace import NodeView, Trace, TraceError, View, fold, lint, load

__all__ = [
    "CLASSROOM",
    "Lab",
    "LabClosed",
    "NodeView",
    "Rules",
    "Trace",
    "TraceError",
    "View",
    "fold",
    "lint",
    "load",
]

_HOMES = {"CLASSROOM": "lab", "Lab": "lab", "LabClosed": "stage", "Rules": "rules"}


def __getattr__(name: str) -> Any:
    """Import what is asked for when it is asked for."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES.get(name, 'trace')}"), name)


def __dir__() -> List[str]:
    return sorted({*globals(), *__all__})
