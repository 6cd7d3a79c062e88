"""What goes wrong in a simulation, as a value: how often, of which kinds, and for how long."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Dict, Optional

from raftlite.errors import ConfigError


@dataclass(frozen=True)
class Faults:
    """`every` is the mean time between two faults, `lasting` the mean duration of one, both in seconds.

    The other fields but the last are weights: how often each kind is chosen, compared with the others. A crash loses
    what was not saved, and is proved to the peers as the system proves it; `lost_disk` loses what was saved too. While
    paused a member does nothing and its messages pile up. `clock_drift` is how far the rates of the clocks really
    differ; None takes what `Timing` allows for.
    """

    every: float = 2.0
    lasting: float = 1.5
    crash: float = 3.0
    lost_disk: float = 0.0
    failed_save: float = 1.0
    pause: float = 2.0
    partition: float = 2.0
    cut: float = 2.0
    isolate_leader: float = 1.0
    transfer: float = 1.0
    resign: float = 1.0
    stop: float = 0.5
    add: float = 0.0
    add_observer: float = 0.0
    remove: float = 0.0
    clock_drift: Optional[float] = None

    def __post_init__(self) -> None:
        if self.every <= 0 or self.lasting <= 0:
            raise ConfigError(f"every and lasting are {self.every!r} and {self.lasting!r}, but must be above 0 seconds")
        for kind, weight in self.weights().items():
            if weight < 0:
                raise ConfigError(f"{kind} is {weight!r}, but a weight must be 0 or more")

    def weights(self) -> Dict[str, float]:
        """The kinds of faults and how often each is chosen."""
        others = ("every", "lasting", "clock_drift")
        return {item.name: getattr(self, item.name) for item in fields(self) if item.name not in others}

    @classmethod
    def none(cls) -> Faults:
        """Nothing goes wrong."""
        kinds = [item.name for item in fields(cls) if item.name not in ("every", "lasting", "clock_drift")]
        return cls(**dict.fromkeys(kinds, 0.0), clock_drift=0.0)

    @classmethod
    def churn(cls) -> Faults:
        """Everything, with members coming and going too."""
        return cls(add=2.0, add_observer=1.0, remove=2.0)
