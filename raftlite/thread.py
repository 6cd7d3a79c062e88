"""`ElectionThread` runs one `Election`: the only way in is its inbox, the only way out an event, a callback or a read.

       peers                          ElectionThread                              the program
    Node.send_message ─▶ inbox ─▶ election.receive / timeout ─▶ Ready
                                     1 storage.save(saved)     if given; requests for votes may go first
                                     2 publish status, events  ─────────▶ waiters · events queue · callback thread
                                     3 steps.put_nowait(step)  if given ─▶ whoever watches
                                     4 node.send_message(...)  for each ─▶ peers

The thread is the only one that touches its election; everybody else puts into the inbox or reads the latest `Status`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import random
import threading
import time
import weakref
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Callable, Collection, Dict, Iterable, Optional, Tuple, Type, Union

from raftlite.clock import boot_clock, check_timeout
from raftlite.contender import Contender
from raftlite.election import Election, Ready, Role, Saved
from raftlite.errors import ConfigError, MembershipError, MemberStopped, NotLeader, RaftliteError
from raftlite.handles import Handles
from raftlite.leadership import Callback, Callbacks, Leadership
from raftlite.membership import Membership, NodeInfo, check_node_id, check_nodes
from raftlite.messages import (
    AddNode,
    ChangeRefused,
    ConfirmLeadership,
    ControlMessage,
    Event,
    Heartbeat,
    LeaderChanged,
    LeadershipConfirmed,
    MembershipChanged,
    Message,
    PeerDown,
    PeerUp,
    RemoveNode,
    RequestVote,
    Resign,
    Stop,
    TimeoutNow,
    TransferLeadership,
)
from raftlite.metrics import Counters, Number
from raftlite.nodes.base import Node
from raftlite.nodes.queue import QueueNode
from raftlite.status import Status, explain
from raftlite.steps import Step, Steps
from raftlite.storage import MemoryStorage, Storage
from raftlite.timing import Timing, check_timing, is_number

logger = logging.getLogger(__name__)

LINGER = 0.02  # seconds at most that a leader which has handed over waits for its successor before it ends
EVENTS_KEPT = 1_000  # a program that never reads its events loses the oldest, and nothing else
_STANDS = "the membership is not changed yet, but will be once a majority answers,"
_LONGEST_WAIT = threading.TIMEOUT_MAX / 2
_ANSWERS = (MembershipChanged, LeadershipConfirmed, ChangeRefused)
_Answer = Union[MembershipChanged, LeadershipConfirmed, ChangeRefused]


@dataclass(frozen=True)
class _Handover:
    """What a successor is told once the callbacks have finished; in the inbox, that they have."""

    successor: str
    message: TimeoutNow


class ElectionThread(Contender):
    """One member: an `Election` on a thread of its own. Also a context manager: `start` on entry, `stop` on exit.

    `nodes` are handles on the other members; a `NodeInfo` with this member's id may say that it does not vote.
    `witnesses` are voters that never lead, alike on all members.
    `storage` keeps the votes (default: in memory) and remains the caller's to close; `inbox` may be given where the
    transport needs it before the thread exists. `node_factory` makes a handle for a member that this one only knows
    from a membership, on the election thread, which it must not hold up; without it, such a member is answered once
    `AddNode` brings its handle.

    `on_elected(leadership)`, `on_lost(leadership)` and `on_leader_changed(leader_id, term)` run on a thread of their
    own, in order; `callbacks` stands in for it where they run in another process. `clock` gives seconds that never go
    back; `rng` draws the election timeouts.

    Three attributes are the doors of the loop: what is put into `inbox` (a `queue.Queue`) this member hears; out of
    `events` (another) comes what has become of it, the last thousand events; `node` is a `QueueNode` by which other
    threads of this process send to this member.

    For whoever watches there is a fourth: with `steps`, a `queue.Queue(n)`, it puts a `Step` there after each input,
    before it sends what follows from it. It never waits: what does not fit is lost, and counted in `metrics()`.

    Raises `ConfigError` for a setting out of bounds, `StorageError` where the storage cannot be read.
    """

    _make_election: Callable[..., Election] = Election  # the classroom's has rules that can be switched off

    def __init__(
        self,
        node_id: str,
        nodes: Iterable[Union[Node, NodeInfo]] = (),
        *,
        timing: Timing = Timing(),
        min_nodes: Optional[int] = None,
        max_nodes: Optional[int] = None,
        witnesses: Collection[str] = (),
        storage: Optional[Storage] = None,
        inbox: Optional[queue.Queue[Any]] = None,
        on_elected: Optional[Callback] = None,
        on_lost: Optional[Callback] = None,
        on_leader_changed: Optional[Callback] = None,
        clock: Optional[Callable[[], float]] = None,
        rng: Optional[random.Random] = None,
        node_factory: Optional[Callable[[NodeInfo], Optional[Node]]] = None,
        callbacks: Optional[Callbacks] = None,
        steps: Optional[queue.Queue[Step]] = None,
    ) -> None:
        super().__init__(node_id, callbacks or Callbacks(f"raftlite-{node_id}-callbacks", self._resign_if_running))
        given = check_nodes(nodes)
        self._storage = storage if storage is not None else MemoryStorage()
        check_timing(timing)
        saved = self._storage.load()
        self._election = self._make_election(
            node_id,
            saved,
            given,
            timing,
            min_nodes,
            max_nodes,
            rng,
            keeps_votes=self._storage.is_durable,
            witnesses=witnesses,
        )
        self._clock = clock if clock is not None else boot_clock
        self.inbox: queue.Queue[Any] = inbox if inbox is not None else queue.Queue()
        self.events: queue.Queue[Event] = queue.Queue(EVENTS_KEPT)
        self.node = QueueNode(node_id, self.inbox)

        self._handles = Handles(node_id, (node for node in given if isinstance(node, Node)), node_factory)
        self._leadership: Optional[Leadership] = None
        self._news: Optional[Tuple[object, ...]] = None  # what the status was made of
        self._status: Status = self._current_status()
        self._is_cut_off = False  # `stop` has waited for this thread in vain
        self._handover: Optional[_Handover] = None  # that waits for callbacks
        self._lingers_until = float("-inf")
        self._stopped_by_callback = False  # the callback waits for this thread, so this one must not wait for it
        self._counts = Counters()
        self._steps = Steps(steps)
        self._campaigned_in = saved.current_term  # the last term in which it can have stood
        self._heard_at: Dict[str, float] = {}  # peer -> when it was heard last
        self._leads_since = 0.0
        self._ran_at = self._clock()  # when it last had waited for a message, the disk or a callback
        self._outcomes: Dict[int, Optional[_Answer]] = {}  # what was asked for, by its id(), and its answer

        if on_elected:
            self.on_elected(on_elected)
        if on_lost:
            self.on_lost(on_lost)
        if on_leader_changed:
            self.on_leader_changed(on_leader_changed)
        self._thread = threading.Thread(target=self._run, name=f"raftlite-{node_id}", daemon=True)
        _every_thread.add(self)

    # --- For the program; any thread may call these -----------------------------------------------

    def start(self) -> ElectionThread:
        """Take part from now on. Raises `MemberStopped` for a thread that was started before."""
        self.check_process()
        if self._thread.ident is not None:
            raise MemberStopped(f"{self.node_id} was started before; make a new ElectionThread with the same storage")
        self._was_started = self._is_running = True
        try:
            self._callbacks.start()
            self._thread.start()
        except BaseException:  # the system has no threads left; or Ctrl-C, and then it may run already
            self._was_started = self._is_running = False
            self._put(Stop())
            self._callbacks.finish()
            raise
        return self

    def stop(self, timeout: Optional[float] = 5.0) -> None:
        """Hand over if leading, then end; wait up to `timeout` seconds for the threads. Twice is fine.

        From a callback it returns at once, and the rest ends after the callback. Raises `TimeoutError` if a callback,
        a handle or the disk is still busy; the member takes no part any more all the same.
        """
        timeout = check_timeout(timeout)
        if self.is_forked_copy or self._thread.ident is None:
            return
        self._stopped_by_callback = self._stopped_by_callback or self._callbacks.is_current_thread
        self._callbacks.release_current_thread()
        self._put(Stop())
        if threading.current_thread() is self._thread:
            return
        deadline = None if timeout is None else time.monotonic() + timeout
        try:
            self._thread.join(timeout)
        finally:  # also of Ctrl-C
            if self._thread.is_alive():
                self._cut_off()
        remaining = None if deadline is None else max(0.0, deadline - time.monotonic())
        if not self._callbacks.join(remaining) or self._thread.is_alive():
            raise TimeoutError(f"{self.node_id} has not ended within {timeout} s: {self._callbacks.busy} is still busy")

    def _cut_off(self) -> None:
        """The thread hangs, and its listener closes next, which tells peers that this member is gone: so must it be."""
        self._is_cut_off = True
        leadership = self._leadership
        if leadership is not None:
            leadership.lost.set()

    def __enter__(self) -> ElectionThread:
        return self.start()

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self.stop()

    @property
    def is_alive(self) -> bool:
        """Whether one of its threads has not ended yet, that of the callbacks included."""
        return self._thread.is_alive() or self._callbacks.is_alive

    @property
    def is_leader(self) -> bool:
        """Whether this member leads at this instant: true only while its lease holds, on at most one member."""
        leadership = self._leadership
        return leadership is not None and not self.is_forked_copy and leadership.valid

    @property
    def leader_id(self) -> Optional[str]:
        """Who leads as far as this member knows, or None."""
        leader_id = self._status.leader_id
        if self.is_forked_copy or (leader_id == self.node_id and not self.is_leader):
            return None
        return leader_id

    @property
    def current_term(self) -> int:
        """The latest term this member has seen (paper, section 5.1)."""
        return self._status.current_term

    @property
    def role(self) -> Role:
        """Follower, candidate, leader and so on, for display; decide by `is_leader`, which knows the lease."""
        return Role.STOPPED if self.is_forked_copy else self._status.role

    @property
    def membership(self) -> Membership:
        """The members as this one knows them."""
        return self._status.membership

    @property
    def leadership(self) -> Optional[Leadership]:
        """The grant that this member holds, or None; `holding(wait_until_leader())` is what `with` takes."""
        leadership = self._leadership
        return leadership if leadership is not None and self.is_leader else None

    def status(self) -> Status:
        """This member's view at this moment, with the reason where there is no leader."""
        leadership, leader_id, unreachable = self.leadership, self.leader_id, self._unreachable()
        heard_at = self._heard_at.get(leader_id or "") if leader_id != self.node_id else None
        status = replace(
            self._status,
            leader_id=leader_id,
            role=self.role,
            lease_expires_at=leadership._lease_expires_at if leadership is not None else None,
            lease_remaining=leadership.remaining if leadership is not None else None,
            leader_heard_ago=None if heard_at is None else max(0.0, self._clock() - heard_at),
            unreachable=tuple(sorted(unreachable.items())),
        )
        return replace(status, why=explain(status, unreachable, self._election.resigned_until - self._clock()))

    def metrics(self) -> Dict[str, Number]:
        """Counters and gauges as plain numbers, each of which `raftlite.metrics.METRICS` describes.

        They cost nothing worth mentioning to count and to read, begin at 0 with each thread, and may be read from any
        thread, also after the end.
        """
        leadership = self.leadership
        return {
            "current_term": self.current_term,
            "is_leader": int(leadership is not None),
            "has_leader": int(self.leader_id is not None),
            "lease_remaining_seconds": 0.0 if leadership is None else leadership.remaining,
            "members": len(self.membership.ids),
            "unreachable_members": len(self._unreachable()),
            "callbacks_due": self._callbacks.due,
            "inbox_length": self.inbox.qsize(),
            "messages_sent_total": self._handles.sent,
            "messages_dropped_total": self._handles.dropped,
            "steps_dropped_total": self._steps.dropped,
            **self._counts.totals(),
        }

    def add_node(self, node: Node) -> None:
        """Ask for `node` to be added; the outcome is an event. Returns at once. Raises `MemberStopped`."""
        self._ask(AddNode(node))

    def remove_node(self, node_id: str) -> None:
        """Ask for the node with this id to be removed, likewise."""
        self._ask(RemoveNode(node_id))

    def transfer_leadership(self, to: Optional[str] = None) -> None:
        """Hand leadership to `to`, or to the voter heard from last. Returns at once (thesis 3.10).

        The successor begins after `on_lost` has finished here, if that takes less than `election_timeout`. Raises
        `MemberStopped` after the end.
        """
        self._ask(TransferLeadership(to))

    def hand_over(self, to: Optional[str] = None, timeout: Optional[float] = None) -> str:
        """Transfer leadership and wait up to `timeout` seconds until another member leads; return its id.

        Raises `MembershipError` where it is refused or goes to another member than `to`, and `TimeoutError`.
        """
        began_at, timeout = time.monotonic(), check_timeout(timeout)
        before, term, request = self.wait_for_leader(timeout), self.current_term, TransferLeadership(to)
        if to == before:
            return before
        if timeout is not None:
            timeout = round(max(0.0, timeout - (time.monotonic() - began_at)), 3)

        def successor() -> Optional[str]:
            return self.leader_id if self.current_term > term else None

        leads: str = self._ask_and_wait(request, successor, timeout, f"{before} still leads")
        if to is not None and leads != to:
            raise MembershipError(f"{leads} leads now, not {to}: another was faster, or {to} may not vote yet")
        return leads

    def resign(self, token: Optional[int] = None) -> None:
        """Give leadership up and let the others campaign first. Returns at once; of no effect where it does not lead.

        With a `token`, only the grant that has it: a later one is left alone.
        """
        self._put(Resign(token))

    def verify(self, timeout: Optional[float] = None) -> Leadership:
        """Ask the voters whether this member still leads, and return the grant once a majority has said so.

        Unlike `is_leader` this rests on no clock: nobody else had been elected when it was called (thesis 6.4). It
        takes a round trip. Raises `NotLeader`, `TimeoutError`, `MemberStopped`, `ForkedError`.
        """
        request, missing = ConfirmLeadership(), "no majority has answered"
        token = self._ask_and_wait(request, lambda: None, timeout, missing, refused=NotLeader)
        leadership = self.leadership
        if leadership is None or leadership.token != token:
            raise NotLeader(f"{self.node_id} has ceased to lead")
        return leadership

    def change_membership(self, request: Union[AddNode, RemoveNode], timeout: Optional[float] = None) -> Membership:
        """Ask for a change and wait until it is committed; return the new membership.

        Raises `MembershipError` where it is refused or its outcome unknown, and `TimeoutError` after `timeout` seconds
        without an answer, for instance because no quorum is up: the request then goes on waiting for one.
        """

        changed: Membership = self._ask_and_wait(request, lambda: None, timeout, _STANDS)
        return changed

    def _ask_and_wait(
        self,
        request: ControlMessage,
        look: Callable[[], Any],
        timeout: Optional[float],
        missing: str,
        refused: Type[RaftliteError] = MembershipError,
    ) -> Any:
        """Return what `look` finds, or the membership or term that `request` leads to; raise `refused` if it is."""
        self.check_process()
        timeout = check_timeout(timeout)
        with self._state_changed:
            self._outcomes[id(request)] = None
        try:
            self._ask(request)
            outcome = self._wait(lambda: self._outcomes[id(request)] or look(), timeout, missing)
        finally:
            self._outcomes.pop(id(request), None)
        if isinstance(outcome, ChangeRefused):
            raise refused(outcome.reason)
        if isinstance(outcome, LeadershipConfirmed):
            return outcome.term
        return outcome.membership if isinstance(outcome, MembershipChanged) else outcome

    def _ask(self, request: ControlMessage) -> None:
        _check_request(request)
        self._check_not_over()
        self._put(request)

    def _put(self, message: Union[ControlMessage, _Handover]) -> None:
        self.check_process()
        while True:
            try:
                self.inbox.put_nowait(message)
                return
            except queue.Full:  # what the program says comes before what peers can say again
                with contextlib.suppress(queue.Empty):
                    if isinstance(self.inbox.get_nowait(), Stop):
                        message = Stop()  # whatever comes after it has no effect any more

    def _resign_if_running(self, token: int) -> None:
        if self._is_running:
            self.resign(token)

    def _unreachable(self) -> Dict[str, str]:
        """Members that cannot be reached or, by a leader, heard; and since when, in words."""
        if self._status.role is Role.STOPPED:
            return {}
        trouble, members = {**self._silent(), **self._handles.trouble}, self._status.membership.ids
        return {each: words for each, words in trouble.items() if each in members}  # not who was removed and is gone

    def _silent(self) -> Dict[str, str]:
        if not self.is_leader:
            return {}  # followers do not hear each other
        now, since, limit = self._clock(), self._leads_since, self._election.timing.election_timeout
        silent = {each: now - max(since, self._heard_at.get(each, since)) for each in self._handles.ids}
        return {each: f"silent since {seconds:.0f} s" for each, seconds in silent.items() if seconds > limit}

    # --- The thread -------------------------------------------------------------------------------

    def _run(self) -> None:
        failure: Optional[BaseException] = None
        try:
            self._handles.adopt(self._status.membership, self._status.membership)
            now = self._clock()
            self._carry_out(self._election.start(now), now)
            while self._election.role is not Role.STOPPED:
                self._turn()
            self._finish_handover()
            self._let_successor_win()
        except BaseException as error:  # whatever it is, the member must end visibly and not go silent
            failure = error
            logger.exception("%s: the member has failed and takes no further part", self.node_id)
        finally:
            self._end(failure)

    def _turn(self) -> None:
        now, deadline = self._clock(), self._election.deadline
        self._note_delay(now - self._ran_at)
        # What has already arrived is heard before a timer fires, but only that much: a flood must not stop heartbeats.
        for _ in range(self.inbox.qsize() if now >= deadline else 1):
            message = self._next_message(deadline)
            if message is not None:
                self._receive(message)
            if self._election.role is Role.STOPPED:
                return
        now = self._clock()
        if now >= self._election.deadline:
            self._carry_out(self._election.timeout(now), now)

    def _next_message(self, deadline: float) -> Any:
        now = self._clock()
        wait = deadline - now
        try:
            return self.inbox.get(timeout=min(wait, _LONGEST_WAIT)) if wait > 0 else self.inbox.get_nowait()
        except queue.Empty:
            return None
        finally:
            self._ran_at = self._clock()
            self._note_delay(self._ran_at - max(now, deadline))

    def _note_delay(self, late: float, or_else: str = "") -> None:
        """Say why a lease has run out, or nothing was heard, where this very program has done it."""
        if late > self._election.timing.election_timeout / 2:
            lease = self._election.lease_expires_at
            logger.warning(
                "%s: the election was not run for %.1f s%s: code of this program held the interpreter (the GIL), "
                "where Member(isolated=True) would go on, or the process was suspended%s",
                self.node_id,
                late,
                " and its lease ran out" if lease is not None and lease <= self._clock() else "",
                or_else,
            )

    def _receive(self, message: Any) -> None:
        if type(message) is _Handover:
            self._tell_successor(message)
            return
        if not self._election.understands(message):
            logger.error("%s: %r in the inbox is no message; ignored", self.node_id, message)
            return
        now = self._clock()
        sender: Optional[str] = getattr(message, "sender_id", None)
        if sender is not None:
            self._counts.messages_received += 1
            if sender in self._handles:
                self._heard_at[sender] = now
        elif self._is_in_order(message):
            self._note(message)
        else:
            return
        self._carry_out(self._election.receive(message, now), now, message)

    def _is_in_order(self, message: Any) -> bool:
        try:
            _check_request(message)
        except ConfigError as error:
            logger.error("%s: %r in the inbox is ignored: %s", self.node_id, message, error)
            return False
        return True

    def _note(self, message: Any) -> None:
        """What of a control message is this thread's affair, before the election hears it."""
        if isinstance(message, AddNode) and isinstance(message.node, Node):
            self._handles.keep(message.node)
        self.was_told_to_stop = self.was_told_to_stop or type(message) is Stop

    def _carry_out(self, ready: Ready, now: float, heard: Any = None) -> None:
        outbox: Iterable[Tuple[str, Message]] = ready.outbox
        if ready.may_ask_first:
            self._steps.tell(now, heard, self._election, ready)
            self._send_all(entry for entry in outbox if type(entry[1]) is RequestVote)
            outbox = [entry for entry in outbox if type(entry[1]) is not RequestVote]
        if ready.saved is not None:
            began_at = self._clock()
            self._storage.save(ready.saved)
            self._ran_at = self._clock()
            self._count_save(ready.saved, self._ran_at - began_at)
            self._note_delay(self._ran_at - began_at, ", or the disk is slow")
        self._publish(ready)
        if not ready.may_ask_first:
            self._steps.tell(now, heard, self._election, ready)
        self._send_all(outbox)

    def _count_save(self, saved: Saved, seconds: float) -> None:
        self._counts.saves += 1
        self._counts.save_seconds += seconds
        if saved.voted_for == self.node_id and saved.current_term > self._campaigned_in:
            self._campaigned_in = saved.current_term
            self._counts.elections_started += 1

    def _send_all(self, outbox: Iterable[Tuple[str, Message]]) -> None:
        for node_id, message in outbox:
            if type(message) is TimeoutNow:
                self._hand_over(node_id, message)
            else:
                self._handles.send(node_id, message)

    def _hand_over(self, successor: str, message: TimeoutNow) -> None:
        """The successor campaigns once on_lost has finished here, or when the others have waited long enough."""
        handover = self._handover = _Handover(successor, message)
        if self._election.role is Role.STOPPED:
            self._finish_handover()
        elif self._callbacks.is_idle:
            self._tell_successor(handover)
        else:
            self._callbacks.then(lambda: self._put(handover))

    def _finish_handover(self) -> None:
        """Where a successor is still to be told: this thread ends, and nobody would tell it later."""
        if self._handover is None:
            return
        if not self._stopped_by_callback:
            self._callbacks.wait(self._election.timing.election_timeout)
            self._ran_at = self._clock()
        self._tell_successor(self._handover)
        self._lingers_until = self._clock() + LINGER

    def _let_successor_win(self) -> None:
        """Or the end of this member's connections and files would take processors and the disk from its election."""
        while self._clock() < self._lingers_until:
            message = self._next_message(self._lingers_until)
            if message is None or (isinstance(message, Heartbeat) and message.term > self.current_term):
                return

    def _tell_successor(self, handover: _Handover) -> None:
        if self._handover is handover:  # else it was told already, or the lead has gone round since
            self._handover = None
            self._handles.send(handover.successor, handover.message)

    # --- Publishing -------------------------------------------------------------------------------

    def _publish(self, ready: Ready) -> None:
        before, after = self._status, self._current_status()
        if after is not before:
            self._log_change(before, after)
            self._status = after
        if after.membership is not before.membership:
            self._note_vote(before.membership, after.membership)
            self._handles.adopt(before.membership, after.membership)
        for departed in self._handles.close_departed(self._election.departing):
            self._heard_at.pop(departed, None)
        for event in ready.events:
            self._announce(event)
        lease = self._election.lease_expires_at
        if self._leadership and lease is not None and not self._leadership._renew(lease):
            token, self._leadership = self._leadership.token, None
            self._put(Resign(token))  # the program has seen the lease run out and acts on it: so must the election

    def _note_vote(self, before: Membership, after: Membership) -> None:
        """Say so where an observer was let in with a vote, or the lists of others give it one."""
        was, is_now = before.get(self.node_id), after.get(self.node_id)
        if before.term == 0 and was is not None and is_now is not None and is_now.voter and not was.voter:
            logger.warning(
                "%s: was started as an observer, but the others count it as a voter, so it votes and may lead: "
                "name it in the observers of all, or add it again as an observer",
                self.node_id,
            )

    def _announce(self, event: Event) -> None:
        if isinstance(event, LeaderChanged):
            self._change_leader(event)
        elif isinstance(event, ChangeRefused):
            logger.info("%s: %s refused: %s", self.node_id, type(event.control_message).__name__, event.reason)
        self._put_event(event)

        request = getattr(event, "control_message", None)
        if id(request) in self._outcomes and isinstance(event, _ANSWERS):
            with self._state_changed:
                self._outcomes[id(request)] = event
                self._state_changed.notify_all()

    def _put_event(self, event: Event) -> None:
        while True:
            try:
                self.events.put_nowait(event)
                return
            except queue.Full:
                with contextlib.suppress(queue.Empty):
                    self.events.get_nowait()

    def _change_leader(self, event: LeaderChanged) -> None:
        self._counts.lost = self._counts.elected  # whatever was granted is over
        self._counts.leader_changes += event.leader_id is not None
        self._leadership = None
        self._callbacks.lost()
        lease = self._election.lease_expires_at
        if event.leader_id == self.node_id and lease is not None and not self._is_cut_off:
            self._counts.elected += 1
            self._leads_since = self._clock()
            self._leadership = self._callbacks.grant(self.node_id, event.term, lease, self._clock)
            if self._is_cut_off:  # since this was asked above
                self._cut_off()
            self._callbacks.elected(self._leadership)
            time.sleep(0.0001)  # lets that thread have the interpreter before this one prepares the next round
        self._callbacks.leader_changed(event.leader_id, event.term)
        self._tell_waiters()

    def _current_status(self) -> Status:
        """A new one only where there is news: a member at rest hears hundreds of heartbeats for each."""
        election = self._election
        leads_unconfirmed = election.role is Role.LEADER and election.lease_expires_at is None
        answers, refusals = tuple(election.answers), tuple(election.refusals.items())
        leader_id = None if leads_unconfirmed else election.leader_id
        news = (election.role, election.current_term, leader_id, election.membership, answers, refusals)
        if news == self._news:
            return self._status
        self._news = news
        return Status(
            node_id=election.node_id,
            role=election.role,
            current_term=election.current_term,
            leader_id=leader_id,
            membership=election.membership,
            min_nodes=election.min_nodes,
            answers=tuple(sorted(answers)),
            refusals=tuple(sorted(refusals)),
            witnesses=tuple(sorted(election.witnesses)),
        )

    def _log_change(self, before: Status, after: Status) -> None:
        if before.role is after.role:
            return
        votes = ""
        if after.role is Role.LEADER:
            voters = len(after.membership.voters)
            votes = f" ({len(after.answers) - len(after.refusals)} of {voters} votes)"
        logger.info(
            "%s term %d: %s -> %s%s", self.node_id, after.current_term, before.role.value, after.role.value, votes
        )

    # --- The end ----------------------------------------------------------------------------------

    def _end(self, failure: Optional[BaseException]) -> None:
        self._failure = failure
        knew_leader = self._status.leader_id is not None
        error = "" if failure is None else f"{type(failure).__name__}: {failure}"
        self._status = replace(self._status, role=Role.STOPPED, leader_id=None, error=error)
        if knew_leader:
            event = LeaderChanged(None, self._status.current_term)
            self._change_leader(event)
            self._put_event(event)
        self._counts.lost = self._counts.elected
        self._callbacks.lost()
        self._callbacks.finish()
        self._is_running = False
        self._tell_waiters()
        self._handles.close()

    def _abandon_after_fork(self) -> None:
        """In a forked child: this copy has no thread. Let go of what keeps the parent's sockets and files open."""
        self.is_forked_copy = True
        self._is_running = False
        if self._leadership is not None:
            self._leadership._abandon_after_fork()
        self._storage.abandon_after_fork()


def _check_request(message: object) -> None:
    """Raise `ConfigError` for a request that names no node."""
    if isinstance(message, AddNode):
        NodeInfo.of(message.node)
    elif isinstance(message, (RemoveNode, PeerUp, PeerDown)):
        check_node_id(message.node_id)
        if not isinstance(message, RemoveNode) and not (is_number(message.round_trip) and message.round_trip >= 0):
            raise ConfigError(f"round_trip is {message.round_trip!r}, but must be a number of seconds, not below 0")
    elif isinstance(message, TransferLeadership) and message.to is not None:
        check_node_id(message.to)


_every_thread: weakref.WeakSet[ElectionThread] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for thread in list(_every_thread):
        thread._abandon_after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
