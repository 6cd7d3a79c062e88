"""A member's election as its program sees it, wherever it runs: on a thread (thread.py), in a process (isolated/)."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from typing import Callable, ContextManager, Optional, TypeVar

from raftlite.clock import check_timeout
from raftlite.errors import ForkedError, MemberStopped
from raftlite.leadership import Callback, Callbacks, Leadership, check_callback
from raftlite.status import Status

_Result = TypeVar("_Result")
_F = TypeVar("_F", bound=Callback)


class Contender(ABC):
    """Waits, callbacks, and the end. Any thread may call these."""

    def __init__(self, node_id: str, callbacks: Callbacks) -> None:
        self.node_id = node_id
        self.is_forked_copy = False  # whether this is the dead copy in a child of the process that started it
        self.was_told_to_stop = False  # else it has ended because of a failure, or was removed
        self._callbacks = callbacks
        self._state_changed = threading.Condition()
        self._failure: Optional[BaseException] = None
        self._was_started = False
        self._is_running = False

    @property
    @abstractmethod
    def leader_id(self) -> Optional[str]:
        """Who leads as far as this member knows, or None."""

    @property
    @abstractmethod
    def leadership(self) -> Optional[Leadership]:
        """The grant that this member holds, or None."""

    @abstractmethod
    def status(self) -> Status:
        """This member's view at this moment, with the reason where there is no leader."""

    @property
    def failure(self) -> Optional[BaseException]:
        """What has stopped this member against its will, or None."""
        return self._failure

    def on_elected(self, callback: _F) -> _F:
        """Call `callback(leadership)` whenever this member begins to lead; if it raises, the member resigns.

        Where it leads already, it is called for that grant. As all callbacks it runs on their own thread, one after the
        other, and what it raises, `SystemExit` included, is logged and goes no further.
        """
        self.check_process()
        check_callback("on_elected", callback)
        self._callbacks.on_elected(callback)
        return callback

    def on_lost(self, callback: _F) -> _F:
        """Call `callback(leadership)` once for each grant that ends, also at `stop`; on the callbacks' thread."""
        self.check_process()
        check_callback("on_lost", callback)
        self._callbacks.on_lost(callback)
        return callback

    def on_leader_changed(self, callback: _F) -> _F:
        """Call `callback(leader_id, term)` for each new leader, this member too, and (None, term) when there is none.

        On the callbacks' thread.
        """
        self.check_process()
        check_callback("on_leader_changed", callback)
        self._callbacks.on_leader_changed(callback)
        return callback

    def holding(self, leadership: Leadership) -> ContextManager[Leadership]:
        """Resign `leadership` when the body ends. A handover waits for that, as it does for callbacks."""
        return self._callbacks.holding(leadership)

    def wait_for_leader(self, timeout: Optional[float] = None) -> str:
        """Wait up to `timeout` seconds until some member leads, without one for ever; return its id.

        Raises `TimeoutError`, which says why there is none, `MemberStopped`, `ForkedError`.
        """
        return self._wait(lambda: self.leader_id, timeout, "no leader")

    def wait_until_leader(self, timeout: Optional[float] = None) -> Leadership:
        """Wait up to `timeout` seconds until this member leads, without one for ever; return the grant.

        Raises `TimeoutError`, `MemberStopped`, `ForkedError`.
        """
        return self._wait(lambda: self.leadership, timeout, f"{self.node_id} does not lead")

    def check_process(self) -> None:
        """Raise `ForkedError` in a child of the process that started this member."""
        if self.is_forked_copy:
            raise ForkedError(
                f"{self.node_id} runs in the process that this one was forked from; "
                "start it after the fork, or start a member here, under an id of its own"
            )

    def _wait(self, look: Callable[[], Optional[_Result]], timeout: Optional[float], missing: str) -> _Result:
        self.check_process()
        timeout = check_timeout(timeout)
        with self._state_changed:
            found = self._state_changed.wait_for(lambda: look() or not self._is_running, timeout)
        if found is not None and not isinstance(found, bool):
            return found
        if not self._is_running:
            raise self._not_running() from self._failure
        status = self.status()
        why = status.why or f"{status.leader_id} leads"
        raise TimeoutError(f"{missing} after {timeout} s: {why}")

    def _check_not_over(self) -> None:
        """Raise `MemberStopped` where the election has ended: nobody would hear what is asked for."""
        self.check_process()
        if self._was_started and not self._is_running:
            raise self._not_running() from self._failure

    def _not_running(self) -> MemberStopped:
        if not self._was_started:
            return MemberStopped(f"{self.node_id} is not started: call start(), or use it in a with statement")
        if self._failure is not None:
            return MemberStopped(f"{self.node_id} was stopped by a failure: {self._failure}")
        if not self.was_told_to_stop:
            return MemberStopped(f"{self.node_id} was removed from the cluster and has stopped")
        return MemberStopped(f"{self.node_id} is stopped")

    def _tell_waiters(self) -> None:
        with self._state_changed:
            self._state_changed.notify_all()
