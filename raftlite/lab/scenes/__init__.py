"""The scenes of the classroom: what to show, and how to know that it was seen.

    from raftlite.lab import Lab
    from raftlite.lab.scenes import SCENES, play

    scene = SCENES["split-vote"]
    with Lab(**scene.settings(), backend="virtual") as lab:
        for check in play(scene, lab):
            print(check)

The stops of a scene act on the lab; its contract looks at nothing but the trace. All words are in text/<language>.json.
"""

from __future__ import annotations

from typing import Dict, Tuple

from raftlite.lab.scenes.elections import COLD_START, HEARTBEATS, LEADER_DIES, NO_JITTER, RESIGN, SPLIT_VOTE
from raftlite.lab.scenes.losses import AMNESIA, EVEN_OR_ODD, NO_QUORUM, PAUSED_LEADER
from raftlite.lab.scenes.networks import CHAOS, DISRUPTIVE_FOLLOWER, MINORITY_LEADER, ONE_WAY, PRE_VOTE, SLOW_NETWORK
from raftlite.lab.scenes.scene import Check, Play, Scene, Stop, play
from raftlite.lab.scenes.words import languages, text

__all__ = ["SCENES", "SHOW", "Check", "Play", "Scene", "Stop", "languages", "play", "text"]

_IN_ORDER = (
    COLD_START,
    HEARTBEATS,
    LEADER_DIES,
    SPLIT_VOTE,
    NO_JITTER,
    MINORITY_LEADER,
    NO_QUORUM,
    DISRUPTIVE_FOLLOWER,
    PRE_VOTE,
    PAUSED_LEADER,
    AMNESIA,
    ONE_WAY,
    SLOW_NETWORK,
    EVEN_OR_ODD,
    RESIGN,
    CHAOS,
)

SCENES: Dict[str, Scene] = {scene.name: scene for scene in _IN_ORDER}
"""Every scene by its name, in the order in which they build on one another."""

SHOW: Tuple[str, ...] = tuple(scene.name for scene in _IN_ORDER if scene.in_show)
"""The names of those that make up the demonstration of ten minutes."""
