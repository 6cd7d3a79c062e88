"""`make bench`: everything, in about an hour; prints tables in Markdown. `make bench-quick`: only what moved.

    python -m benchmarks [--kills 10] [--trials 1000] [--folder .cache/bench/report]
    python -m benchmarks --quick [--keep]

Everything measured is in the folder as JSON, and the drawing as SVG. With `--keep`, the quick result is the one that
the next is compared with: commit `last.json` then.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

from . import idle, paper, paper_processes, quick, scale
from .figures import describe_machine, machine, table
from .peers import compare
from .peers.systems import DEFAULTS, ENVIRONMENT, FAST, SYSTEMS


def main() -> int:
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="compare ratios with the last result that was kept")
    parser.add_argument("--keep", action="store_true", help="with --quick: keep this result")
    parser.add_argument("--kills", type=int, default=10, help="faults of each kind (default: 10)")
    parser.add_argument("--trials", type=int, default=1000, help="of each line of the paper's figure (default: 1000)")
    parser.add_argument("--rest", type=float, default=20.0, help="seconds to watch what rests (default: 20)")
    parser.add_argument("--folder", type=Path, default=ENVIRONMENT / "report", help="for the JSON and the drawing")
    parser.add_argument("--json", action="store_true", help="print everything measured instead of tables")
    options = parser.parse_args()
    try:
        return quick.main(options.keep) if options.quick else everything(options)
    except KeyboardInterrupt:
        _say("ended early" if options.quick else f"ended early: the parts that were done are in {options.folder}")
        return 130


def everything(options: argparse.Namespace) -> int:
    """One part after the other; one that fails leaves the parts before it in the folder, and their tables."""
    options.folder.mkdir(parents=True, exist_ok=True)
    began_at, facts, found, lines = time.monotonic(), machine(), {}, []

    def write_tables() -> None:
        (options.folder / "tables.md").write_text("\n".join(lines) + "\n", encoding="utf-8")

    for name, part in PARTS.items():
        measured, text = part(options)
        found[name] = measured
        lines += text
        (options.folder / f"{name}.json").write_text(json.dumps(measured), encoding="utf-8")
        write_tables()
        if name == "peers" and measured["ended_early"]:
            break
    minutes = (time.monotonic() - began_at) / 60
    lines += ["", f"All of it took {minutes:.0f} minutes on {describe_machine(facts)}"]
    write_tables()
    print(json.dumps({"machine": facts, **found}) if options.json else "\n".join(lines))
    return 0


def _peers(options: argparse.Namespace) -> Any:
    wanted = list(compare.kinds(list(SYSTEMS), list(compare.WORDS), [3, 5], [DEFAULTS, FAST]))
    result = compare.measure(wanted, options.kills, _say)
    compare.add_rest(result, list(SYSTEMS), options.rest, _say)
    return result, compare.describe(result)


def _paper(options: argparse.Namespace) -> Any:
    _say("the paper's experiment")
    result = paper.measure(options.trials)
    drawing = options.folder / "figure-16.svg"
    paper.draw(result, drawing)
    _say(f"drawn: {drawing}")
    return result, paper.describe(result)


def _scale(options: argparse.Namespace) -> Any:
    sizes = {"threads": scale.THREADS, "processes": scale.PROCESSES, "virtual": scale.VIRTUAL}
    result = scale.measure(sizes, options.rest / 4, 3, _say)
    drawing = options.folder / "scale.svg"
    scale.draw(result, drawing)
    _say(f"drawn: {drawing}")
    return result, scale.describe(result)


def _processes(options: argparse.Namespace) -> Any:
    result = paper_processes.measure(options.kills, _say)
    return result, paper_processes.describe(result)


def _imports(options: argparse.Namespace) -> Any:
    _say("imports")
    result = {name: idle.import_milliseconds(source) for name, source in IMPORTS.items() if not SYSTEMS[name].why_not()}
    made_of = idle.parts()
    title = f"**Import**, ms more than an interpreter that imports nothing, medians of {idle.STARTS} starts"
    lines = ["", title, "", *table(("", "ms"), map(list, result.items()))]
    rows = [[name, part["ms"], part["megabytes"]] for name, part in made_of.items()]
    lines += ["", "**What raftlite imports**, one after the other", "", *table(("", "ms", "MB"), rows)]
    return {"systems": result, "parts": made_of}, lines


IMPORTS = {
    "raftlite": "import raftlite; raftlite.Member",
    "PySyncObj": "import pysyncobj",
    "pyraft": "import pyraft.raft",
    "kazoo": "import kazoo.client",
}
PARTS = {"imports": _imports, "peers": _peers, "paper": _paper, "paper_processes": _processes, "scale": _scale}


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
