"""`raftlite lab n3`: you are a member. Asks in plain lines what to do with each message, and says what raftlite did."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, TextIO

from raftlite.command.output import print_text
from raftlite.lab.act_out import Turn, turns
from raftlite.lab.export.words import clean
from raftlite.lab.trace import Trace

LETTERS = "abcdefgh"
QUIT = ("q", "quit")


def act_out(trace: Trace, n: str, answers: Dict[str, str], read: TextIO) -> bool:
    """Ask about every message that `answers` has no right answer to, until all are right; False if the input ends.

    `answers` is filled: the number of the record -> the letter that was chosen last.
    """
    found = turns(trace, n)
    print_text(f"You are {n}. {len(found)} messages; answer with a letter, or q to go on another time.\n")
    while True:
        wrong = [turn for turn in found if answers.get(str(turn.i)) != LETTERS[turn.answer]]
        if not wrong:
            print_text(f"All {len(found)} are right.")
            return True
        for number, turn in enumerate(wrong, 1):
            letter = _ask(turn, n, f"{number} of {len(wrong)}", read)
            if letter is None:
                return False
            answers[str(turn.i)] = letter
        print_text(f"{_count_right(found, answers)} of {len(found)} are right.\n")


def _count_right(found: List[Turn], answers: Dict[str, str]) -> int:
    return sum(answers.get(str(turn.i)) == LETTERS[turn.answer] for turn in found)


def _ask(turn: Turn, n: str, number: str, read: TextIO) -> Optional[str]:
    for line in question(turn, n, number):
        print_text(line)
    letters = LETTERS[: len(turn.choices)]
    while True:
        print_text(f"Your answer ({', '.join(letters)}): ", end="")
        said = read.readline()
        letter = said.strip().lower().rstrip(")")
        if not said or letter in QUIT:
            print_text("")
            return None
        if len(letter) == 1 and letter in letters:
            break
        print_text("That is none of them.")
    is_right = letter == LETTERS[turn.answer]
    because = f" {clean(turn.why)}." if turn.why else ""
    print_text(f"{'Right.' if is_right else 'No.'} raftlite: {turn.did[0].lower()}{turn.did[1:]}.{because}\n")
    return letter


def question(turn: Turn, n: str, number: str) -> Iterator[str]:
    """What the member knows, what it hears, and what it may do."""
    yield f"[{number}] {turn.t:.3f} s, record {turn.i}. {_knows(turn.before, n)}"
    yield f"    {clean(turn.heard)}."
    for letter, choice in zip(LETTERS, turn.choices):
        yield f"  {letter}) {choice}"


def _knows(before: Dict[str, Any], n: str) -> str:
    leader, beat = before["leader"], before["heartbeat"]
    role = f"{before['role']}" + (f" of {leader}" if leader and leader != n else "")
    votes = f", has {len(before['votes'])} of {before['majority']} votes needed" if before["votes"] else ""
    heard = "has heard no leader yet" if beat is None else f"last heard a leader {beat:g} s ago"
    return clean(f"{n} is {role} in term {before['term']}, has voted for {before['vote'] or 'nobody'}{votes}, {heard}.")


def save(path: Path, n: str, answers: Dict[str, str]) -> None:
    path.write_text(json.dumps({"node": n, "answers": answers}, indent=1) + "\n", encoding="utf-8")
