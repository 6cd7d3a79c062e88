"""What people copy: every file in examples/ runs and does what it says. test_readme.py is about the README."""

from __future__ import annotations

import re
import signal
from pathlib import Path
from typing import Any, Dict, Optional

import pytest
from programs import TOP, Program, check_tokens, free_ports, one_that_leads, run, tokens_of
from threads import eventually


def test_every_example_has_a_test_and_is_in_the_table() -> None:
    """Named in a file of tests, and in examples/README.md, which names no others."""
    examples = {path.name for path in (TOP / "examples").glob("*.py")}
    tests = "".join(path.read_text(encoding="utf-8") for path in (TOP / "tests").glob("test_*.py"))
    assert {name for name in examples if f'"{name[:-3]}"' in tests or f'"{name}"' in tests} == examples
    table = (TOP / "examples" / "README.md").read_text(encoding="utf-8")
    assert set(re.findall(r"\[`(\w+\.py)`\]\(\1\)", table)) == examples


# --- examples/ ---------------------------------------------------------------------------------------------------


def test_one_process_hands_leadership_on(tmp_path: Path) -> None:
    first, over, second = run(TOP / "examples" / "one_process.py", cwd=tmp_path)
    leader = first.split()[0]
    assert re.fullmatch(rf"{leader} leads with token \d+", first)  # a vote may be split first
    assert over == f"{leader} has stopped; its grant is over"
    assert second.split()[0] in {"a", "b", "c"} - {leader}


@pytest.mark.slow
def test_an_own_node_carries_an_election(tmp_path: Path) -> None:
    lines = run(TOP / "examples" / "own_node.py", cwd=tmp_path)
    assert [line.split()[0] for line in lines] == ["a", "b", "c"]
    assert len({line.split()[-1] for line in lines}) == 1


def test_own_node_is_about_fifteen_lines() -> None:
    source = (TOP / "examples" / "own_node.py").read_text(encoding="utf-8")
    transport = source[source.index("class UDPNode") : source.index("def main")]
    assert len([line for line in transport.splitlines() if line.strip()]) <= 18


def test_the_late_write_of_a_stopped_leader_is_refused(tmp_path: Path) -> None:
    first, second, late, held = run(TOP / "examples" / "fencing.py", cwd=tmp_path)
    old, new = (int(re.findall(r"token (\d+)", line)[0]) for line in (first, second))
    assert old < new
    assert re.fullmatch(r"[abc] leads with token \d+, was about to write, and is stopped", first)
    assert re.fullmatch(r"[abc] leads with token \d+ and writes: written", second)
    refusal = f"account 7 refuses token {old}: it has seen token {new}, so another member has led since"
    assert late == f"{first[0]} goes on and writes: {refusal}"
    assert held == f"the database holds: ('{second[0]}', {new})"


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="the worker dies as Unix has it")
def test_a_pool_keeps_to_its_rate_limit_also_when_the_worker_that_holds_it_is_killed(tmp_path: Path) -> None:
    """And every page is fetched, the one of the dead worker too."""
    *events, pages, interval = run(TOP / "examples" / "worker_pool.py", cwd=tmp_path)
    tokens = [int(token) for token in re.findall(r"w\d holds the rate limit, token (\d+)", "\n".join(events))]
    assert len(tokens) >= 2 and tokens == sorted(set(tokens))
    assert len([line for line in events if re.fullmatch(r"w\d is killed", line)]) == 1
    fetched, coordinators = re.findall(r"(\d+) pages with permits of (\d+) coordinators, w\d last", pages)[0]
    assert (int(fetched), int(coordinators) >= 2) == (60, True)
    assert float(interval.split()[-2]) >= 0.05


ELECTED = r"elected, token (?P<token>\d+)"


@pytest.mark.slow
def test_three_terminals_work_one_at_a_time(start_program: Any, tmp_path: Path) -> None:
    """The one that works is killed, and another goes on, with a token of its own; Ctrl-C ends the others."""
    program = tmp_path / "three_terminals.py"
    source = (TOP / "examples" / "three_terminals.py").read_text(encoding="utf-8")
    for port in free_ports(3):  # another Python may run this test at the same time
        source = re.sub(r"(?<=127\.0\.0\.1:)760\d", str(port), source, count=1)
    with_tokens = 'member.on_elected(lambda grant: print(f"elected, token {grant.token}", flush=True))'
    source = re.sub(r"(?m)^( +)(?=member\.on_leader_changed)", rf"\1{with_tokens}\n\1", source)
    program.write_text(source[source.index("import sys") :], encoding="utf-8")
    terminals = {name: start_program(program, name, tmp_path) for name in ("a", "b", "c")}
    first = working_among(terminals)
    terminals[first].wait_for(ELECTED)
    terminals[first].kill()
    others = {name: terminal for name, terminal in terminals.items() if name != first}
    working_among(others)
    one_that_leads(others, ELECTED, after=max(tokens_of(terminals[first], ELECTED)))
    for terminal in others.values():
        terminal.interrupt()
        assert terminal.wait() == 0
    check_tokens(terminals, ELECTED)
    assert all("Traceback" not in terminal.text for terminal in terminals.values())


def working_among(terminals: Dict[str, Program]) -> str:
    """Wait until one of `terminals` says once more that it works, and return its name."""
    seen = {name: len(terminal.printed("working")) for name, terminal in terminals.items()}

    def look() -> Optional[str]:
        for terminal in terminals.values():
            assert not terminal.has_ended, terminal.text
        return next((name for name in terminals if len(terminals[name].printed("working")) > seen[name]), None)

    return eventually(look, "working")
