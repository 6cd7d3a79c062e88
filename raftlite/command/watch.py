"""`raftlite status`: what one member says of itself, or a table of several; once, or again and again.

    a thread for each address ── ask_member ──▶ queue ─▶ Poll.answers ─▶ Cluster ─▶ sentences, a table or JSON

Nobody waits for a member that does not answer: after the time-out it is one that does not.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import sys
import threading
import time
from dataclasses import dataclass
from typing import Any, Callable, Dict, Iterable, List, Optional, Tuple

from raftlite.command.output import EX_OK, EX_TEMPFAIL, EX_UNAVAILABLE, print_text
from raftlite.command.signals import LONGEST_WAIT

Said = Dict[str, Any]  # what `Status.to_plain` has made; an older member may leave things out
Ask = Callable[[str], Said]  # asks the member at an address; raises `OSError`

ANSWER_TRAVELS = 0.25  # seconds for which the answer of a member that has used up its time is still waited for
CLEAR, LINE_ENDS, ALL_BELOW = "\x1b[H", "\x1b[K\n", "\x1b[J"
HEADS = ("ADDRESS", "NODE", "ROLE", "TERM", "LEADER", "LEASE", "HEARD")


@dataclass(frozen=True)
class Answer:
    """What the member at `address` says, or why it says nothing."""

    address: str
    said: Optional[Said]
    error: str = ""

    def to_plain(self) -> Dict[str, Any]:
        return {"address": self.address, **(self.said if self.said is not None else {"error": self.error})}

    @property
    def holds_lease(self) -> bool:
        """Whether this very member leads and its lease holds: a follower cannot know that of its leader."""
        said = self.said
        return said is not None and said["leader"] == said["node"] and (said.get("lease_remaining") or 0.0) > 0


class Poll:
    """Asks several members at the same time, each on a thread of its own."""

    def __init__(self, ask: Ask, timeout: float) -> None:
        self._ask = ask
        self._timeout = timeout
        self._threads: Dict[str, threading.Thread] = {}

    def answers(self, addresses: Iterable[str]) -> List[Answer]:
        """One answer for each address, in their order, after `timeout` seconds at the latest."""
        wanted = list(dict.fromkeys(addresses))
        results: queue.SimpleQueue[Answer] = queue.SimpleQueue()
        for address in wanted:
            self._start(address, results)
        found: Dict[str, Answer] = {}
        remaining = self._timeout + ANSWER_TRAVELS
        deadline = time.monotonic() + remaining
        while len(found) < len(wanted) and remaining > 0:
            remaining = deadline - time.monotonic()
            with contextlib.suppress(queue.Empty):
                answer = results.get(timeout=max(0.0, min(remaining, LONGEST_WAIT)))
                found[answer.address] = answer
        late = f"no answer within {self._timeout:g} s"
        return [found.get(address) or Answer(address, None, late) for address in wanted]

    def _start(self, address: str, results: queue.SimpleQueue[Answer]) -> None:
        busy = self._threads.get(address)
        if busy is not None and busy.is_alive():
            return  # it still waits, perhaps for a name server
        name = f"raftlite-asks-{address}"
        self._threads[address] = threading.Thread(target=self._run, args=(address, results), name=name, daemon=True)
        self._threads[address].start()

    def _run(self, address: str, results: queue.SimpleQueue[Answer]) -> None:
        try:
            results.put(Answer(address, self._ask(address)))
        except OSError as error:
            results.put(Answer(address, None, error.strerror or str(error)))
        except Exception as error:  # the address is none, or the answer
            results.put(Answer(address, None, str(error)))


class Cluster:
    """What several members say, side by side."""

    def __init__(self, answers: List[Answer]) -> None:
        self.answers = answers
        self._said = [answer.said for answer in answers if answer.said is not None]

    @property
    def leader(self) -> Optional[Answer]:
        """The member that says that it leads and that its lease holds."""
        holders = [answer for answer in self.answers if answer.holds_lease]
        return max(holders, key=lambda holder: holder.said["term"] if holder.said else 0, default=None)

    @property
    def leader_id(self) -> Optional[str]:
        """Who leads, as whoever knows the latest term says."""
        if self.leader is not None and self.leader.said is not None:
            return str(self.leader.said["node"])
        named = [(said["term"], said["leader"]) for said in self._said if said["leader"]]
        return max(named, default=(0, None))[1]

    def leaders_address(self) -> Optional[str]:
        """Where the leader listens that somebody names but that was not asked."""
        for said in self._said:
            for node_id, _, address in said["membership"]["nodes"]:
                if node_id == self.leader_id and address and said["leader"] == node_id:
                    return str(address)
        return None

    def exit_code(self, needs_lease: bool = False) -> int:
        """69 where nobody answers, 75 where nobody knows of a leader, or it `needs_lease` and none says so."""
        if not self._said:
            return EX_UNAVAILABLE
        return EX_OK if (self.leader if needs_lease else self.leader_id) is not None else EX_TEMPFAIL

    def disagreements(self) -> List[str]:
        """What the members that answer see differently, or have in common though they must not."""
        found = []
        for what, view in _VIEWS:
            groups = _grouped((view(said), said["node"]) for said in self._said)
            if len(groups) > 1:
                found.append(f"they disagree on the {what}: " + "; ".join(f"{each} ({who})" for each, who in groups))
        places = _grouped((answer.said["node"], answer.address) for answer in self.answers if answer.said)
        found += [f"{node_id} answers at {where}" for node_id, where in places if ", " in where]
        return found

    def to_plain(self) -> Dict[str, Any]:
        """The cluster as JSON data."""
        holder = self.leader.said if self.leader is not None else None
        return {
            "t": time.time(),
            "leader": self.leader_id,
            "term": max((said["term"] for said in self._said), default=None),
            "lease_remaining": holder["lease_remaining"] if holder is not None else None,
            "asked": len(self.answers),
            "answered": len(self._said),
            "disagreements": self.disagreements(),
            "members": [answer.to_plain() for answer in self.answers],
        }

    def table(self) -> str:
        """The cluster for people."""
        rows = [HEADS, *(_row(answer) for answer in self.answers)]
        widths = [max(len(row[column]) for row in rows if len(row) > 2) for column in range(len(HEADS))]
        widths[0] = max(len(row[0]) for row in rows)
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]
        return "\n".join([*lines, "", self._summary(), *self.disagreements(), *self._notes()])

    def _summary(self) -> str:
        answer = f"{len(self._said)} of {len(self.answers)} answer"
        if self.leader is not None and self.leader.said is not None:
            said, lease = self.leader.said, _seconds(self.leader.said, "lease_remaining")
            return f"{answer}; {said['node']} leads in term {said['term']}, its lease holds for {lease}"
        if self.leader_id is not None:
            return f"{answer}; {self.leader_id} is said to lead, but has not confirmed its lease"
        return f"{answer}; no leader"

    def _notes(self) -> List[str]:
        """Why there is no leader and who is not reached, as the members say it; and who was not asked."""
        notes = [f"{said['node']} says: {note}" for said in self._said for note in _notes_of(said)]
        asked = {said["node"] for said in self._said} | {answer.address for answer in self.answers}
        others = {node_id: address for said in self._said for node_id, _, address in said["membership"]["nodes"]}
        missing = [(node_id, at) for node_id, at in sorted(others.items()) if not {node_id, at} & asked]
        return notes + [f"not asked: {node_id}" + (f" at {at}" if at else "") for node_id, at in missing]


_VIEWS: Tuple[Tuple[str, Callable[[Said], str]], ...] = (
    ("term", lambda said: str(said["term"])),
    ("leader", lambda said: str(said["leader"] or "none")),
    ("members", lambda said: ", ".join(sorted(node_id for node_id, _, _ in said["membership"]["nodes"]))),
    ("witnesses", lambda said: ", ".join(said.get("witnesses", ())) or "none"),
)


def _grouped(pairs: Iterable[Tuple[str, str]]) -> List[Tuple[str, str]]:
    """What was said, each with who said it."""
    groups: Dict[str, List[str]] = {}
    for what, who in pairs:
        groups.setdefault(what, []).append(who)
    return [(what, ", ".join(who)) for what, who in groups.items()]


def _row(answer: Answer) -> Tuple[str, ...]:
    said = answer.said
    if said is None:
        return answer.address, _reason(answer)
    lease, heard = _seconds(said, "lease_remaining"), _seconds(said, "leader_heard_ago")
    ago = f"{heard} ago" if heard != "-" else "-"
    return answer.address, said["node"], said["role"], str(said["term"]), said["leader"] or "-", lease, ago


def _reason(answer: Answer) -> str:
    """The error without the address, which stands beside it."""
    text = answer.error
    for beginning in (f"cannot connect to {answer.address}: ", f"{answer.address}: "):
        text = text[len(beginning) :] if text.startswith(beginning) else text
    return text if text.startswith("no answer") else f"no answer: {text}"


def _seconds(said: Said, name: str) -> str:
    value = said.get(name)
    return "-" if value is None else f"{value:.2f} s"


def _notes_of(said: Said) -> List[str]:
    if not said["leader"]:
        return [f"no leader: {said['why']}"]  # which names those that are missing
    return [f"{node_id} is {words}" for node_id, words in sorted(said.get("unreachable", {}).items())]


def describe(said: Said) -> str:
    """What one member says, for people."""
    witnesses = said.get("witnesses", ())
    kinds = {node_id: "" if voter else " (observer)" for node_id, voter, _ in said["membership"]["nodes"]}
    nodes = [node_id + (" (witness)" if node_id in witnesses else kind) for node_id, kind in kinds.items()]
    lines = [
        f"node     {said['node']} ({said['role']})",
        f"term     {said['term']}",
        f"leader   {said['leader'] or 'none: ' + said['why']}",
        f"members  {', '.join(nodes)}",
    ]
    if said["leader"]:
        lines += [f"missing  {note}" for note in _notes_of(said)]
    return "\n".join(lines)


def with_leader(poll: Poll, answers: List[Answer]) -> List[Answer]:
    """Whether the lease holds, a leader alone can say: where only followers were asked, ask their leader too."""
    cluster = Cluster(answers)
    address = None if cluster.leader is not None else cluster.leaders_address()
    return answers if address is None else [*answers, *poll.answers([address])]


def show(answers: List[Answer], as_json: bool) -> str:
    """The text for one round of answers."""
    if len(answers) > 1:
        cluster = Cluster(answers)
        return json.dumps(cluster.to_plain()) if as_json else cluster.table()
    (answer,) = answers
    if as_json:
        return json.dumps({"t": time.time(), **answer.to_plain()})
    return describe(answer.said) if answer.said is not None else f"{answer.address}: {_reason(answer)}"


def watch(poll: Poll, addresses: List[str], as_json: bool, interval: float) -> None:
    """Show round after round until Ctrl-C: on a terminal in the same place, else one block or object after another."""
    is_terminal = sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb" and not as_json
    if is_terminal:
        print_text(CLEAR + ALL_BELOW, end="")
    while True:
        text = show(poll.answers(addresses), as_json)
        if is_terminal:
            print_text(CLEAR + _dated(text).replace("\n", LINE_ENDS) + LINE_ENDS + ALL_BELOW, end="")
        else:
            print_text(text if as_json else _dated(text) + "\n")
        time.sleep(interval)


def _dated(text: str) -> str:
    return f"{time.strftime('%H:%M:%S')}\n{text}"
