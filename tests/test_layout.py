"""Imports point down only, and the rules of the election see no clock, no I/O and no thread.

What the simulator proves of an election is therefore proved of the very code that the threads run.
"""

from __future__ import annotations

import ast
import functools
from pathlib import Path
from typing import FrozenSet, Iterator, List, NamedTuple, Optional, Set, Tuple

import pytest

import raftlite

PACKAGE = Path(raftlite.__file__).parent


class Place(NamedTuple):
    row: int
    side: str  # "real", "shared" or "simulated"


# A module or a package directly under raftlite/, and where it stands. `__init__` holds the public names.
PLACES = {
    **dict.fromkeys(["__init__", "__main__", "public", "cli"], Place(6, "real")),
    **dict.fromkeys(["pool", "pool_keeper", "pool_seat", "runner"], Place(5, "real")),
    "lab": Place(5, "simulated"),
    **dict.fromkeys(["member", "isolated", "command"], Place(4, "real")),
    **dict.fromkeys(["thread", "contender", "handles", "leadership"], Place(3, "real")),
    **dict.fromkeys(["nodes", "storage", "clock"], Place(2, "real")),
    "fencing": Place(2, "real"),
    "metrics": Place(2, "real"),
    **dict.fromkeys(["status", "steps"], Place(2, "shared")),
    "simulation": Place(2, "simulated"),
    "codec": Place(1, "real"),
    **dict.fromkeys(["election", "leader"], Place(1, "shared")),
    **dict.fromkeys(["messages", "membership", "timing", "errors", "changes"], Place(0, "shared")),
}
TOP_ROW = 6

PURE = {"__future__", "dataclasses", "enum", "random", "typing"}
PURE_FILES = {"election": PURE, "leader": PURE, "changes": PURE}
PURE_FILES.update(dict.fromkeys(["messages", "membership", "timing", "errors"], PURE | {"math"}))


def places_of_files() -> List[Tuple[Path, str]]:
    """Every file of the package, with the name under which it has a place."""
    files = sorted(path for path in PACKAGE.rglob("*.py"))
    return [(path, path.relative_to(PACKAGE).parts[0].split(".")[0]) for path in files]


@functools.cache
def imports_of(path: Path, with_types: bool = True) -> FrozenSet[str]:
    """The full names of what a file imports, wherever in the file it does so; or without what only types need."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    if not with_types:
        tree = _WithoutTypes().visit(tree)
    return frozenset(_imports_of(path, tree))


class _WithoutTypes(ast.NodeTransformer):
    def visit_If(self, node: ast.If) -> Optional[ast.If]:
        is_for_types = isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        return None if is_for_types else node


def _imports_of(path: Path, tree: ast.Module) -> Iterator[str]:
    package = ("raftlite", *path.relative_to(PACKAGE).parts[:-1])
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = ".".join(package[: len(package) - node.level + 1]) + "." if node.level else ""
            yield from (f"{above}{node.module or ''}.{alias.name}".replace("..", ".") for alias in node.names)


def own_imports(path: Path) -> Set[str]:
    """What a file imports of raftlite, by the name under which that has a place."""
    return {owner_of(name) for name in imports_of(path) if name.split(".")[0] == "raftlite"}


def owner_of(name: str) -> str:
    """`raftlite.nodes.queue.QueueNode` belongs to `nodes`, and `raftlite.Member` to the public names."""
    first = name.split(".")[1] if "." in name else ""
    is_module = (PACKAGE / f"{first}.py").exists() or (PACKAGE / first / "__init__.py").exists()
    return first if first and is_module else "__init__"


def why_not(importer: str, imported: str) -> str:
    """Why `importer` may not import `imported`; empty if it may."""
    above, below = PLACES[importer], PLACES[imported]
    if below.row > above.row:
        return f"row {above.row} imports row {below.row}"
    if above.row < TOP_ROW and above.side == "real" and below.side == "simulated":
        return "the real side imports the simulated one"
    if above.row == below.row and below.side not in (above.side, "shared"):
        return f"the {above.side} side imports the {below.side} one in row {above.row}"
    return ""


def test_every_file_has_a_row():
    """A new file is given a place in the table above before anything may import it."""
    lost = [str(path.relative_to(PACKAGE)) for path, name in places_of_files() if name not in PLACES]
    assert not lost, f"without a row in tests/test_layout.py: {', '.join(lost)}"


def test_imports_point_down_only():
    """A file imports from its own row or from a lower one, and nothing real depends on the simulator."""
    wrong = []
    for path, name in places_of_files():
        if name not in PLACES:
            continue  # the test above says so
        for imported in sorted(own_imports(path) & set(PLACES) - {name}):
            reason = why_not(name, imported)
            if reason:
                wrong.append(f"{path.relative_to(PACKAGE)} imports raftlite.{imported}: {reason}")
    assert not wrong, "\n".join(wrong)


def test_no_two_files_import_each_other():
    """Neither directly nor by way of others; within one row, too, each file can be read before those that use it."""
    graph = {path: files_imported_by(path) for path, _ in places_of_files()}
    done: Set[Path] = set()
    while set(graph) - done:
        ready = {path for path in set(graph) - done if graph[path] <= done}
        rest = sorted(str(path.relative_to(PACKAGE)) for path in set(graph) - done)
        assert ready, f"these import each other: {', '.join(rest)}"
        done |= ready


def files_imported_by(path: Path) -> Set[Path]:
    return {file_of(name) for name in imports_of(path, with_types=False) if name.split(".")[0] == "raftlite"} - {path}


def file_of(name: str) -> Path:
    """`raftlite.nodes.queue.QueueNode` is in `nodes/queue.py`, and `raftlite.Member` in `__init__.py`."""
    parts = name.split(".")[1:]
    for length in range(len(parts), 0, -1):
        module = PACKAGE.joinpath(*parts[:length])
        for path in (module.with_suffix(".py"), module / "__init__.py"):
            if path.exists():
                return path
    return PACKAGE / "__init__.py"


@pytest.mark.parametrize("name", sorted(PURE_FILES))
def test_the_rules_see_no_clock_no_io_and_no_thread(name):
    """Time, randomness and storage come in as arguments."""
    path = PACKAGE / f"{name}.py"
    foreign = {imported.split(".")[0] for imported in imports_of(path)} - PURE_FILES[name] - {"raftlite"}
    assert not foreign, f"{name}.py imports {', '.join(sorted(foreign))}"
    pure = {imported for imported in PLACES if imported in PURE_FILES}
    assert own_imports(path) <= pure, f"{name}.py imports {', '.join(sorted(own_imports(path) - pure))}"


@pytest.mark.parametrize("name", sorted(PURE_FILES))
def test_the_rules_neither_print_nor_read(name):
    """What needs no import can still reach outside."""
    tree = ast.parse((PACKAGE / f"{name}.py").read_text(encoding="utf-8"))
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    assert not names & {"open", "print", "input", "exec", "eval", "__import__", "breakpoint"}
