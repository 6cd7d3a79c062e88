"""What a forked child gets of the sockets of its parent: nothing.

A copy that stayed open would hide the parent's death from its peers, and a lock that another thread held at the fork
would never be released in the child. So whatever has sockets or locks says `add(self)`, and is told in the child.
"""

from __future__ import annotations

import os
import threading
import weakref

lock = threading.RLock()
"""Hold it from where a descriptor is had until its owner is added, and while one is given back; never while waiting.

No fork happens meanwhile. It is an `RLock`, because a signal handler or a finalizer may fork, or close something.
"""

count = 0
"""How many forks there have been; no other is under way while `lock` is held."""


class Forkable:
    """Has sockets or locks."""

    def abandon_after_fork(self) -> None:
        """Called in a forked child, where no other thread runs: close the copies, replace the locks."""
        raise NotImplementedError


_added: weakref.WeakSet[Forkable] = weakref.WeakSet()


def add(thing: Forkable) -> None:
    """Tell `thing` of forks for as long as it lives."""
    _added.add(thing)


def _before() -> None:
    global count
    lock.acquire()
    count += 1


def _after_in_parent() -> None:
    lock.release()


def _after_in_child() -> None:
    global lock
    lock = threading.RLock()
    for thing in list(_added):
        thing.abandon_after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child)
