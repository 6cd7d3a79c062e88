"""What a forked child gets of the sockets of its parent: nothing.

A copy that stayed open would hide the parent's death from its peers, and a lock that another thread held at the fork
would never be released in the child. So whatever has sockets or locks says `add(self)`, and is told in the child.
"""

from __future__ import annotations

import os
import threading
import weakref
from typing import Set

lock = threading.RLock()
"""Hold it from where a descriptor is had until its owner is added, and while one is given back; never while waiting.

No fork happens meanwhile. It is an `RLock`, because a signal handler or a finalizer may fork, or close something.
"""

marks: Set[object] = set()
"""Empty after every fork: whoever has put something in finds out whether there was one. Both while `lock` is held."""


class Forkable:
    """Has sockets or locks."""

    def abandon_after_fork(self) -> None:
        """Called in a forked child, where no other thread runs: close the copies, replace the locks."""
        raise NotImplementedError


_added: weakref.WeakSet[Forkable] = weakref.WeakSet()


def add(thing: Forkable) -> None:
    """Tell `thing` of forks for as long as it lives."""
    _added.add(thing)


def _abandon_all() -> None:
    for thing in list(_added):
        thing.abandon_after_fork()


if hasattr(os, "register_at_fork"):
    # Ctrl-C amid a fork raises KeyboardInterrupt in the first of these that is written in Python, which the system call
    # then swallows: a lock that was to be given back there would be held for ever. In the child, whoever held it lives.
    os.register_at_fork(before=marks.clear, after_in_child=_abandon_all)
    os.register_at_fork(before=lock.acquire, after_in_parent=lock.release, after_in_child=lock.release)
