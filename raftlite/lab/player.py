"""Plays a scene stop by stop, when the lecturer says so or by itself. For the page and for the terminal.

next ─▶ narration ─▶ [thread: the stop acts on the lab, asks its question] ─▶ waiting for the next `next`
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Tuple

from raftlite.errors import ConfigError
from raftlite.lab.scenes import Check, Play, Scene, Stop
from raftlite.lab.scenes.scene import SceneCancelled
from raftlite.lab.stage import LabClosed

if TYPE_CHECKING:
    from raftlite.lab.lab import Lab

SECONDS_PER_WORD = 0.4  # that somebody who reads needs, in a language that may not be theirs
SECONDS_TO_END = 2.0  # for a stop that is cancelled: it notices with the next thing that happens, if the clock runs
SECONDS_TO_THINK = 8.0  # about a question, before the answer is played

_log = logging.getLogger(__name__)


class Player:
    """Plays `scene` on `lab`, which has been made for it. Each stop acts on a thread of its own; any thread may call.

    Until the first `next`, and while a question is open, the lab's clock stands still, where it can, so that nothing is
    missed. `pace` stretches the time that `autoplay` leaves to read and to think. Close the lab, then the player, to
    end a stop that is acting.
    """

    def __init__(self, lab: Lab, scene: Scene, language: str = "en", pace: float = 1.0) -> None:
        self.lab, self.scene = lab, scene
        self.pace = pace
        self._play = Play(scene, lab, language)
        self._play.before_asking = lambda: self._set_clock(lab.pause)
        self._state = threading.Condition()
        self._acting: Optional[threading.Thread] = None
        self._automat: Optional[threading.Thread] = None
        self._is_closed = False
        self._goes_on_at = 0.0  # when `autoplay` begins the next stop, by time.monotonic
        self._set_clock(lab.pause)

    # --- What is to be seen -----------------------------------------------------------------------

    @property
    def stops(self) -> Tuple[Stop, ...]:
        return self.scene.stops

    @property
    def position(self) -> int:
        """How many stops have begun."""
        return self._play.position

    @property
    def waiting(self) -> bool:
        """Whether `next` would begin a stop."""
        return not (self._is_closed or self._is_acting or self._play.is_over)

    @property
    def done(self) -> bool:
        """Whether the last stop is over, or the scene cannot go on."""
        return self._play.is_over and not self._is_acting

    def state(self) -> Dict[str, Any]:
        """Where the scene is, of one moment: a stop that has begun is not said to wait for itself."""
        with self._state:
            return {
                "name": self.scene.name,
                "position": self.position,
                "stops": len(self.stops),
                "waiting": self.waiting,
                "done": self.done,
                "autoplay": self.is_autoplaying,
                "stuck": self.text().get("stuck", ""),
            }

    @property
    def _is_acting(self) -> bool:
        return self._acting is not None

    @property
    def is_autoplaying(self) -> bool:
        return self._automat is not None

    @property
    def begun(self) -> List[int]:
        """The numbers of the records with which the stops began, as far as they have."""
        return list(self._play.begun)

    @property
    def checks(self) -> List[Check]:
        """What the contract has found; empty before the scene is over."""
        return list(self._play.checks)

    def text(self) -> Dict[str, Any]:
        """What to show now, in words: see `Play.text`."""
        return self._play.text()

    def previous(self) -> int:
        """The record with which the stop before the present one began; 0 if there is none.

        A cluster does not go back. A view of its recording may.
        """
        begun = self.begun
        return begun[-2] if len(begun) > 1 else 0

    # --- Going on ---------------------------------------------------------------------------------

    def next(self) -> bool:
        """Begin the next stop, and let the clock go on. False while a stop is acting, and after the last."""
        with self._state:
            if not self.waiting:
                return False
            try:
                self._set_clock(self.lab.play)
                self._play.begin()
            except LabClosed:
                return False
            self._goes_on_at = time.monotonic() + self._reading_time(self.text()["text"])
            self._acting = threading.Thread(target=self._act, name="lab-scene", daemon=True)
            self._acting.start()
            return True

    def _act(self) -> None:
        try:
            self._play.act()
        except (LabClosed, SceneCancelled):
            pass
        except Exception as error:
            self._play.stuck = f"{type(error).__name__}: {error}"
            _log.exception("a stop of the scene %s has failed", self.scene.name)
        with self._state:
            self._acting = None
            self._goes_on_at = max(self._goes_on_at, time.monotonic() + self._thinking_time())
            self._state.notify_all()

    def wait(self, seconds: Optional[float] = None) -> bool:
        """Wait until no stop is acting; False if one still is after so many real seconds."""
        with self._state:
            return self._state.wait_for(lambda: not self._is_acting, seconds)

    def _set_clock(self, do: Any) -> None:
        """Stop the clock, or let it go on. That of processes is the system's."""
        with contextlib.suppress(ConfigError):
            do()

    # --- By itself --------------------------------------------------------------------------------

    def autoplay(self, on: bool = True) -> None:
        """Go on by itself, with time to read, until it is switched off or the scene is over."""
        with self._state:
            if on and self._automat is None and not self._is_closed and not self._play.is_over:
                self._automat = threading.Thread(target=self._go_on, name="lab-autoplay", daemon=True)
                self._automat.start()
            elif not on:
                self._automat = None
                self._state.notify_all()

    def _go_on(self) -> None:
        me = threading.current_thread()
        with self._state:
            while self._automat is me and not self._is_closed and not self.done:
                left = self._goes_on_at - time.monotonic()
                if self._is_acting:
                    self._state.wait()
                elif left > 0:
                    self._state.wait(left)
                elif not self.next():
                    break
            if self._automat is me:
                self._automat = None

    def _reading_time(self, words: str) -> float:
        return self.pace * SECONDS_PER_WORD * len(words.split())

    def _thinking_time(self) -> float:
        said = self.text()
        seconds = 0.0
        if said["answered"]:
            seconds += self._reading_time(said["answered"]["because"])
        if said["asked"]:
            seconds += self._reading_time(" ".join([said["question"], *said["answers"]])) + self.pace * SECONDS_TO_THINK
        return seconds

    # --- The end ----------------------------------------------------------------------------------

    def close(self) -> None:
        """End the stop that is acting, if there is one, and what goes on by itself. Twice is fine."""
        with self._state:
            self._is_closed = True
            acting, automat, self._automat = self._acting, self._automat, None
            self._state.notify_all()
        self._play.cancel()
        for thread in (acting, automat):
            if thread is not None and thread is not threading.current_thread():
                thread.join(SECONDS_TO_END)
