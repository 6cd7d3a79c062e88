"""What becomes of a member, a line per event: a sentence for people, or a JSON object for programs."""

from __future__ import annotations

import contextlib
import json
import logging
import time
from typing import Any, Callable, Dict, Optional

from raftlite.clock import boot_clock
from raftlite.command.output import Output
from raftlite.errors import MemberStopped
from raftlite.leadership import Leadership
from raftlite.member import Member
from raftlite.status import Status

logger = logging.getLogger(__name__)

TIMEOUTS_BORNE = 3  # election timeouts without a leader before the log says why; an election takes two at most
SAID_AGAIN = 60.0  # seconds
LOOKS_EVERY = 0.5  # seconds


class EventPrinter:
    """Turns a member's events into lines."""

    def __init__(self, member: Member, output: Output, as_json: bool) -> None:
        self.output = output
        self._member, self._as_json = member, as_json
        member.on_elected(self._elected)
        member.on_lost(self._lost)
        member.on_leader_changed(self._leader_changed)

    def _elected(self, leadership: Leadership) -> None:
        self.event("elected", term=leadership.token, leader=leadership.node_id, token=leadership.token)

    def _lost(self, leadership: Leadership) -> None:
        self.event("lost", term=leadership.token, token=leadership.token)

    def _leader_changed(self, leader_id: Optional[str], term: int) -> None:
        self.event("leader", term=term, leader=leader_id)

    def event(self, name: str, **facts: Any) -> None:
        facts = {"term": self._term(), "leader": self._member.leader_id, **facts}
        line = {"t": time.time(), "clock": boot_clock(), "event": name, "node": self._member.node_id, **facts}
        self.output.line(json.dumps(line) if self._as_json else _sentence(name, line))

    def _term(self) -> int:
        with contextlib.suppress(MemberStopped):
            return self._member.status().current_term
        return 0


class LeaderlessLog:
    """Says why there is no leader where that takes long, then rarely, and once more when there is one."""

    def __init__(self, election_timeout: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._patience = TIMEOUTS_BORNE * election_timeout
        self._clock = clock
        self._since = self._looked_at = clock()
        self._said_at: Optional[float] = None

    def look(self, status: Status) -> None:
        """To be called again and again, with what the member knows."""
        now = self._clock()
        if now - self._looked_at > 2 * LOOKS_EVERY and self._said_at is None:
            self._since = now  # nobody has looked for so long, or this process was suspended
        self._looked_at = now
        if status.leader_id is not None:
            if self._said_at is not None:
                logger.warning(
                    "%s: %s leads, after %.0f s without a leader", status.node_id, status.leader_id, now - self._since
                )
            self._since, self._said_at = now, None
        elif now - self._since >= self._patience and (self._said_at is None or now - self._said_at >= SAID_AGAIN):
            self._said_at = now
            logger.warning("%s: no leader for %.0f s: %s", status.node_id, now - self._since, status.why)


_SENTENCES: Dict[str, str] = {
    "started": "{node} listens at {address}",
    "elected": "{node} leads in term {term}",
    "lost": "{node} no longer leads in term {term}",
    "stopped": "{node} has stopped",
    "removed": "{node} was removed from the cluster and has stopped",
    "failed": "{node} has failed: {reason}",
    "grace": "{node}: where leadership is lost, not {grace:g} s but {seconds:g} are between TERM and KILL, "
    "as election_timeout is {election_timeout:g}",
    "running": "{node} runs the command as process {pid}",
    "ending": "{node} has had {signal} and ends the command",
    "ended": "{node}: the command has ended with {code}, {how}",
    "pausing": "{node} waits {seconds:g} s before the command may run here again",
    "no_command": "{node}: {command} cannot be run: {reason}",
    "unguarded": "{node}: the process that guards the command was killed",
}


def _sentence(name: str, facts: Dict[str, Any]) -> str:
    clock = time.strftime("%H:%M:%S", time.localtime(facts["t"])) + f".{int(facts['t'] * 1000) % 1000:03d}"
    if name == "leader":
        what = "{leader} leads in term {term}" if facts["leader"] else "no leader"
        return f"{clock} {facts['node']} sees: {what.format(**facts)}"
    return f"{clock} {_SENTENCES[name].format(**facts)}"
