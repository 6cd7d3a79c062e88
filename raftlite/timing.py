"""The intervals of an election, in seconds, checked on construction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from raftlite.errors import ConfigError


@dataclass(frozen=True)
class Timing:
    """How often a leader is heard and how long its silence is borne. All durations are seconds.

    The paper asks for `broadcast time << election_timeout << time between failures` (section 5.6): let
    `election_timeout` be ten round trips or more.

    `heartbeat_interval`: a leader is heard at least this often.
    `election_timeout`: a follower campaigns after a silence drawn from `[election_timeout, 2 * election_timeout)`,
    and refuses its vote to others for `election_timeout` after each heartbeat. The leader's lease rests on that: before
    it is lowered, each member has to be down for the old one.
    `message_timeout`: connecting, authenticating and writing to a peer may take this long.
    `clock_drift`: by how much the rates of two members' clocks may differ (0.05 is 5 %); leases are shortened by it.
    `trust_refused`: take a refused connection, or another process that answers in its place, as proof that the peer's
    process is gone. Switch it off where a firewall refuses connections for a process that is alive, or where its
    address may pass to another machine.

    Raises `ConfigError` for a value out of its bounds.
    """

    heartbeat_interval: float = 0.1
    election_timeout: float = 1.0
    message_timeout: float = 0.5
    clock_drift: float = 0.05
    trust_refused: bool = True

    def __post_init__(self) -> None:
        for name in ("heartbeat_interval", "election_timeout", "message_timeout"):
            _check(name, getattr(self, name), 0.001, 86_400.0, "seconds")
        _check("clock_drift", self.clock_drift, 0.0, 0.25, "of a clock's rate")
        if self.heartbeat_interval > self.election_timeout / 2:
            raise ConfigError(
                f"heartbeat_interval is {self.heartbeat_interval!r}, but must be at most half of election_timeout "
                f"({self.election_timeout!r}), or one lost heartbeat starts an election"
            )
        if not isinstance(self.trust_refused, bool):
            raise ConfigError(f"trust_refused is {self.trust_refused!r}, but must be True or False")

    @classmethod
    def fast(cls) -> Timing:
        """Heartbeats every 50 ms and an election timeout of 150 ms, as in the paper: for tests and demonstrations."""
        return cls(heartbeat_interval=0.05, election_timeout=0.15)


def check_timing(timing: object) -> Timing:
    """Return `timing`. Raises `ConfigError` for anything else than a `Timing`."""
    if not isinstance(timing, Timing):
        raise ConfigError(f"timing is {timing!r}, but must be a raftlite.Timing, such as Timing(election_timeout=1.0)")
    return timing


def is_number(value: Any) -> bool:
    """Whether `value` is an integer or a float, and not True or False, which Python takes for integers."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _check(name: str, value: Any, least: float, most: float, unit: str) -> None:
    if not is_number(value) or not least <= value <= most:
        raise ConfigError(f"{name} is {value!r}, but must be a number from {least:g} to {most:g} {unit}")
