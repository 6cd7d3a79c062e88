"""The network of a simulation as a value: how long messages take, and which of them are lost, repeated or late."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Tuple

from raftlite.errors import ConfigError


@dataclass(frozen=True)
class Network:
    """Delays are seconds, drawn uniformly from `delay`; the rest are probabilities for each message.

    Messages overtake each other wherever their delays allow it; one that is `reordered` takes up to `late` seconds
    longer than its fellows.
    """

    delay: Tuple[float, float] = (0.0005, 0.010)
    loss: float = 0.0
    duplication: float = 0.0
    reordering: float = 0.0
    late: float = 2.0

    def __post_init__(self) -> None:
        shortest, longest = self.delay
        if not 0.0 <= shortest <= longest:
            raise ConfigError(f"delay is {self.delay!r}, but must be two times in seconds, the shorter one first")
        for name in ("loss", "duplication", "reordering"):
            probability = getattr(self, name)
            if not 0.0 <= probability <= 1.0:
                raise ConfigError(f"{name} is {probability!r}, but must be a probability from 0 to 1")

    @classmethod
    def rough(cls) -> Network:
        """Loses, repeats and delays some of everything."""
        return cls(delay=(0.0005, 0.050), loss=0.02, duplication=0.02, reordering=0.01)
