"""What a page looks at: a lab that runs with the scene that is played on it, or a recording. One page may replace it.

requests ─▶ Session ─▶ Lab, Player     each request on a thread of its own; only `do` changes anything
"""

from __future__ import annotations

import secrets
import threading
from typing import Any, Callable, Dict, Mapping, NamedTuple, Optional

from raftlite.errors import ConfigError
from raftlite.lab.lab import Lab
from raftlite.lab.operations import Arguments, Refused, aligned, operate
from raftlite.lab.player import Player
from raftlite.lab.scenes import SCENES, SHOW, Scene, text
from raftlite.lab.stage import LabClosed
from raftlite.lab.trace import Trace, View

MOST_RECORDS = 5_000  # in one answer
TOO_LATE = "wait: another cluster has just begun"
FEWEST_NODES, MOST_NODES = 2, 9  # of a cluster that is started from the page: each has a digit

MakeLab = Callable[..., Lab]


class _Shown(NamedTuple):
    """What is looked at, as one value: half of one cluster and half of the next was never there to be seen."""

    run: int
    trace: Trace
    name: str = ""
    lab: Optional[Lab] = None
    player: Optional[Player] = None


class Session:
    """Starts labs with `make_lab`, which takes keyword arguments of `Lab`, one at a time. Also a context manager.

    It is empty until `fresh`, `scene` or `replay` is called. Any thread may call it.
    """

    def __init__(self, make_lab: MakeLab) -> None:
        self._make_lab = make_lab
        self._swapping = threading.Lock()
        self._id = secrets.token_hex(4)  # a page that outlives the server must not take its records for the next one's
        self._shown = _Shown(0, Trace({"nodes": []}))
        self._remark = ""  # what came of something that nobody waited for
        self._remarks = 0
        self._aligning: Optional[threading.Thread] = None

    # --- What is looked at ------------------------------------------------------------------------

    def fresh(self, **settings: Any) -> None:
        """A new cluster and no scene. Raises what `Lab` raises; the cluster before has ended then all the same."""
        self._swap(lambda run: self._begin(run, settings, None))

    def scene(self, name: str, nodes: Optional[int] = None, instead_of: Optional[int] = None) -> None:
        """A new cluster, made for the scene of that name. Raises `ConfigError` for one that there is not.

        With `instead_of`, only in the place of the run of that number: raises `Refused` where that is over already.
        """
        scene = SCENES.get(name)
        if scene is None:
            raise ConfigError(f"there is no scene {name[:60]!r}: they are {', '.join(SCENES)}")
        settings = scene.settings() if nodes is None else scene.settings(nodes=nodes)
        self._swap(lambda run: self._begin(run, settings, scene), instead_of)

    def replay(self, trace: Trace, name: str = "") -> None:
        """Nothing live: what is in `trace`."""
        self._swap(lambda run: _Shown(run, trace, name))

    def close(self) -> None:
        """End the lab. Twice is fine."""
        with self._swapping:
            self._end()

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _swap(self, begin: Callable[[int], _Shown], instead_of: Optional[int] = None) -> None:
        with self._swapping:
            if instead_of not in (None, self._shown.run):  # it was asked for twice, and the first time was enough
                raise Refused(TOO_LATE)
            self._end()
            self._shown = begin(self._shown.run + 1)

    def _begin(self, run: int, settings: Mapping[str, Any], scene: Optional[Scene]) -> _Shown:
        lab = self._make_lab(**settings)
        try:
            return _Shown(run, lab.trace, "", lab, None if scene is None else Player(lab, scene))
        except BaseException:  # Ctrl-C, too
            lab.close()
            raise

    def _end(self) -> None:
        lab, player = self.lab, self.player
        aligning, self._aligning = self._aligning, None
        self._shown = self._shown._replace(lab=None, player=None)
        if lab is not None:
            lab.close()
        if player is not None:
            player.close()
        if aligning is not None:
            aligning.join()

    # --- Reading ----------------------------------------------------------------------------------

    def state(self, after: int, limit: int) -> Dict[str, Any]:
        """What a page needs that has the records up to the number `after`."""
        run, trace, name, lab, player = self._shown
        # The time is read first: whatever happened before it is among the records, or comes with the next.
        now = trace.t if lab is None else lab.now
        return {
            "run": self._run_name(run),
            "name": name,
            "header": trace.header,
            "live": lab is not None,
            "paused": lab is not None and lab.is_clock_paused,
            "scale": View(trace.header).scale if lab is None else lab.seconds_per_second,
            "now": now,
            "can": {"pause": _has_own_clock(lab), "scale": _has_own_clock(lab)},
            "scene": None if player is None else {**player.state(), "following": _following(player.scene)},
            "remark": {"number": self._remarks, "text": self._remark},
            "unwritten": "" if lab is None else lab.unwritten,
            "truncated": trace.truncated,
            "last": trace.last,
            "events": trace.after(after, max(0, min(limit, MOST_RECORDS))),
        }

    @property
    def lab(self) -> Optional[Lab]:
        """The cluster; None where a recording is looked at."""
        return self._shown.lab

    @property
    def player(self) -> Optional[Player]:
        """Plays the scene, if there is one."""
        return self._shown.player

    @property
    def trace(self) -> Trace:
        """What is looked at."""
        return self._shown.trace

    # --- Doing ------------------------------------------------------------------------------------

    def do(self, name: str, arguments: Arguments) -> None:
        """Carry out an operation of the page. Raises `Refused` and `ConfigError`, whose messages are to be shown."""
        own = _OWN.get(name)
        if own is not None:
            return own(self, arguments)
        try:
            operate(self._live(), name, arguments)
        except LabClosed:
            raise Refused("the cluster has just been replaced by another one") from None

    def _live(self) -> Lab:
        if self.lab is None:
            raise Refused("this is a recording: nothing can be done to it")
        return self.lab

    def _reset(self, arguments: Arguments) -> None:
        nodes = arguments.get("nodes")
        if nodes is not None and (not isinstance(nodes, int) or not FEWEST_NODES <= nodes <= MOST_NODES):
            raise ConfigError(f"nodes is {nodes!r:.60}, but must be a whole number from {FEWEST_NODES} to {MOST_NODES}")
        self.fresh(**({} if nodes is None else {"nodes": nodes}))

    def _choose(self, arguments: Arguments) -> None:
        name = arguments.get("name")
        if not isinstance(name, str):
            raise ConfigError("name must be that of a scene, or empty for free play")
        if name:
            self.scene(name)
        else:
            self.fresh()

    def _asked(self, arguments: Arguments) -> _Shown:
        """What is looked at, which is what the page must have seen that asks: "run" is its name for it."""
        shown = self._shown
        if arguments.get("run", self._run_name(shown.run)) != self._run_name(shown.run):
            raise Refused(TOO_LATE)
        return shown

    def _run_name(self, run: int) -> str:
        return f"{self._id}-{run}"

    def _again(self, arguments: Arguments) -> None:
        """The scene from its beginning, with as many members."""
        run, _, _, lab, player = self._asked(arguments)
        if lab is None or player is None:
            raise Refused("choose a scene first")
        self.scene(player.scene.name, len(lab.nodes), instead_of=run)

    def _next(self, arguments: Arguments) -> None:
        """The next stop; after the last one the next scene of the show, whose first stop is begun by another call."""
        shown = self._asked(arguments)
        player = shown.player
        if player is None:
            self.scene(SHOW[0], instead_of=shown.run)
        elif player.done:
            following = _following(player.scene)
            if not following:
                raise Refused("this was the last stop: choose another scene")
            self.scene(following, instead_of=shown.run)
        elif not player.next():
            raise Refused("wait: this stop is not over")

    def _autoplay(self, arguments: Arguments) -> None:
        player = self.player
        if player is None:
            raise Refused("choose a scene first")
        player.autoplay(bool(arguments.get("on", True)))

    def _align(self, arguments: Arguments) -> None:
        lab, nodes = self._live(), aligned(arguments)
        if self._aligning is not None and self._aligning.is_alive():
            raise Refused("the timers are being aligned: it waits until nothing is on its way")
        self._aligning = threading.Thread(target=self._align_now, args=(lab, nodes), name="lab-align", daemon=True)
        self._aligning.start()

    def _align_now(self, lab: Lab, nodes: Any) -> None:
        try:
            lab.align(nodes, by="ui")
        except (ConfigError, TimeoutError) as error:
            self._remark, self._remarks = str(error), self._remarks + 1
        except LabClosed:
            pass


def _following(scene: Scene) -> str:
    """The name of the next scene of the show; empty after its last, and after one that is not part of it."""
    return dict(zip(SHOW, SHOW[1:])).get(scene.name, "")


def _has_own_clock(lab: Optional[Lab]) -> bool:
    """Whether the clock is the lab's, which can be stopped and scaled, and not that of the system."""
    return lab is not None and lab.backend != "processes"


_OWN: Dict[str, Callable[[Session, Arguments], None]] = {
    "reset": Session._reset,
    "scene": Session._choose,
    "again": Session._again,
    "next": Session._next,
    "autoplay": Session._autoplay,
    "align": Session._align,
}


def scenes_in_words(language: str = "en") -> Dict[str, Any]:
    """Every scene with its texts, as the page shows them."""
    words = text(language)["scenes"]
    return {"show": list(SHOW), "scenes": [_in_words(name, words.get(name, {})) for name in SCENES]}


def _in_words(name: str, words: Mapping[str, Any]) -> Dict[str, Any]:
    return {
        "name": name,
        "title": words.get("title", name),
        "summary": words.get("summary", ""),
        "stops": list(words.get("stops", {}).values()),
        "checks": list(words.get("checks", {}).values()),
    }
