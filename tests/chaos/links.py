"""The directed links between members: which are cut, how slow they are and how much they lose; and who carries.

tests, faults ──▶ Links (cut, weather) ◀── Carrier: one thread, a selector, a heap of what is under way
"""

from __future__ import annotations

import contextlib
import heapq
import random
import selectors
import socket
import threading
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from itertools import count
from typing import Any, Callable, Dict, FrozenSet, Iterable, List, Optional, Sequence, Tuple

Link = Tuple[str, str]  # from whom to whom


@dataclass(frozen=True)
class Weather:
    """What a link does to each thing that travels on it. Seconds; `loss` is a share of 1."""

    delay: float = 0.0
    jitter: float = 0.0
    loss: float = 0.0


class Links:
    """Which links are cut, and the weather on all of them. Any thread may change both at any time."""

    def __init__(self, seed: int = 0) -> None:
        self.cut: FrozenSet[Link] = frozenset()
        self.weather = Weather()
        self._random = random.Random(seed)

    def carries(self, sender: str, receiver: str) -> bool:
        return (sender, receiver) not in self.cut

    def loses(self) -> bool:
        return self._random.random() < self.weather.loss

    def travel_time(self) -> float:
        weather = self.weather
        return max(0.0, weather.delay + self._random.uniform(-weather.jitter, weather.jitter)) if weather.delay else 0.0


class Network(ABC):
    """Members in a network that the tests own. `peers` and `listen` are what to give to a `Member`."""

    description = ""  # which network it is, for the output
    keeps_backing_off = False  # whether what was lost for a while is sent again only after as long a while

    def __init__(self, node_ids: Sequence[str], seed: int = 0) -> None:
        self.node_ids = list(node_ids)
        self.links = Links(seed)

    @abstractmethod
    def listen(self, node_id: str) -> str:
        """Where this member listens."""

    @abstractmethod
    def peers(self, node_id: str) -> Dict[str, str]:
        """Where this member, and no other, reaches each other one."""

    def command_prefix(self, node_id: str) -> List[str]:
        """What to put before the command that starts this member."""
        return []

    def cut(self, links: Iterable[Link]) -> None:
        """Lose silently whatever travels on these links, besides those that are cut already."""
        self.links.cut |= frozenset(links)

    def split(self, *groups: Iterable[str]) -> None:
        """Cut every link between members of different groups; whoever is in no group is alone."""
        group_of = {node_id: number for number, group in enumerate(groups) for node_id in group}
        self.cut(
            (one, other)
            for one in self.node_ids
            for other in self.node_ids
            if one != other and group_of.get(one, one) != group_of.get(other, other)
        )

    def set_weather(self, weather: Weather) -> None:
        self.links.weather = weather

    def heal(self) -> None:
        """Nothing is cut, slow or lost any more."""
        self.links.cut, self.links.weather = frozenset(), Weather()

    @abstractmethod
    def close(self) -> None:
        """Leave nothing behind."""

    def __enter__(self) -> Network:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Carrier:
    """Calls back when a socket can be read and when a moment has come, on a thread of its own."""

    def __init__(self, name: str) -> None:
        self._selector = selectors.DefaultSelector()
        self._due: List[Tuple[float, int, Callable[[], Any]]] = []
        self._numbers = count()
        self._woken, self._wake = socket.socketpair()
        self._is_closing = False
        self.watch(self._woken, lambda: None)
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def watch(self, readable: Any, callback: Callable[[], Any]) -> None:
        """Call `callback` whenever `readable` is. Before `start`, or on the thread."""
        self._selector.register(readable, selectors.EVENT_READ, callback)

    def forget(self, readable: Any) -> None:
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(readable)

    def call_at(self, when: float, callback: Callable[[], Any]) -> None:
        """Call `callback` at `when` on the monotonic clock. On the thread only."""
        heapq.heappush(self._due, (when, next(self._numbers), callback))

    def close(self) -> None:
        self._is_closing = True
        self._wake.send(b"!")
        if self._thread.ident is not None:
            self._thread.join()
        self._selector.close()
        self._woken.close()
        self._wake.close()

    def _run(self) -> None:
        while not self._is_closing:
            for key, _ in self._selector.select(self._pause()):
                key.data()
            now = time.monotonic()
            while self._due and self._due[0][0] <= now:
                heapq.heappop(self._due)[2]()

    def _pause(self) -> Optional[float]:
        return max(0.0, self._due[0][0] - time.monotonic()) if self._due else None
