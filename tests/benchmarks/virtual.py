"""Elections on a virtual clock, and nothing else: for what takes more members or more trials than a machine has.

The simulation of the library checks its invariants after every step, which rules without pre-vote would violate and a
thousand members would wait for. Here messages, saves and timers take their times, and nothing is checked.
"""

from __future__ import annotations

import heapq
import itertools
import random
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple, Type

from raftlite.election import Election, Ready, Saved
from raftlite.messages import Heartbeat, PeerDown, RequestVote
from raftlite.timing import Timing


class Times(NamedTuple):
    """From and to how many seconds, drawn uniformly: a message travels, a save lasts, a timer is late.

    While a member saves it does nothing else.
    """

    message: Tuple[float, float] = (0.0005, 0.002)
    save: Tuple[float, float] = (0.0, 0.0)
    timer: Tuple[float, float] = (0.0, 0.0)


ONE_MACHINE = Times()


class Draws(random.Random):
    """What timeouts are drawn from: `spread` times the shortest one above it, where the library's is once."""

    spread = 1.0

    def random(self) -> float:
        return self.spread * super().random()


class PlainElection(Election):
    """Figure 2 of the paper: no pre-vote, no refusal while a leader is heard, no lease to be kept up.

    A candidate saves its own vote while it asks for others: the thesis counts one save until there is a leader (9.3).
    """

    def _start_pre_vote(self, now: float) -> None:
        self._start_election(now)
        self._may_ask_first = True

    def _leader_is_alive(self, request: RequestVote, now: float) -> str:
        return ""

    def _step_down_without_lease(self, now: float) -> None:
        pass

    @property
    def deadline(self) -> float:
        return self._leader.heartbeat_at if self._leader else super().deadline


class PlainElectionWithLogs(PlainElection):
    """And no vote for one with a shorter log (section 5.4.1). The leader of the paper's experiment had the longest,
    and of the other four two too short ones to be elected: the later a member's id, the longer is its log."""

    def _vote_is_spent(self, request: RequestVote) -> str:
        is_shorter = self.node_id > request.sender_id
        return super()._vote_is_spent(request) or ("its log is shorter" if is_shorter else "")


class VirtualCluster:
    """`count` members; `seed` decides everything. Times are virtual seconds."""

    def __init__(
        self,
        count: int,
        seed: int,
        timing: Timing = Timing(),
        times: Times = ONE_MACHINE,
        spread: float = 1.0,
        election: Type[Election] = Election,
    ) -> None:
        self.now = 0.0
        self.steps = self.messages = 0
        self.times = times
        self._random = random.Random(seed).random
        self._heap: List[Tuple[float, int, str, Any]] = []
        self._numbers = itertools.count()
        self._set_for: Dict[str, float] = {}
        self._saves_until: Dict[str, float] = {}
        draws = Draws(seed + 1)
        draws.spread = spread
        ids = [f"n{number:04}" for number in range(count)]
        self.members = {
            node_id: election(node_id, Saved(), [other for other in ids if other != node_id], timing, rng=draws)
            for node_id in ids
        }
        for node_id, member in self.members.items():
            self._carry_out(node_id, member.start(self.now))

    # --- Time -------------------------------------------------------------------------------------

    def run_until(self, condition: Callable[[], Any], seconds: float) -> bool:
        """Let time pass until `condition()` holds after a step, or for `seconds`; return whether it does."""
        end = self.now + seconds
        while self._heap and self._heap[0][0] <= end:
            self.now, _, node_id, message = heapq.heappop(self._heap)
            saves_until = self._saves_until.get(node_id, 0.0)
            if self.now < saves_until:
                self._at(saves_until, node_id, message)
            elif node_id in self.members and self._step(node_id, message) and condition():
                return True
        self.now = end
        return bool(condition())

    def _step(self, node_id: str, message: Any) -> bool:
        member = self.members[node_id]
        if not isinstance(message, float):
            self.messages += 1
            ready = member.receive(message, self.now)
        elif self._set_for.get(node_id) != message:
            return False  # an earlier event has taken the place of this one
        else:
            self._set_for.pop(node_id)
            ready = member.timeout(self.now)
        self.steps += 1
        self._carry_out(node_id, ready)
        return True

    def _carry_out(self, node_id: str, ready: Ready) -> None:
        sent_at = saved_at = self.now
        if ready.saved:
            saved_at += self._drawn(self.times.save)
            self._saves_until[node_id] = saved_at
        if not ready.may_ask_first:
            sent_at = saved_at
        for receiver, message in ready.outbox:
            self._at(sent_at + self._drawn(self.times.message), receiver, message)
        due = max(self.now, self.members[node_id].deadline)
        if due < self._set_for.get(node_id, float("inf")):
            self._set_for[node_id] = due
            self._at(due + self._drawn(self.times.timer), node_id, due)

    def _drawn(self, bounds: Tuple[float, float]) -> float:
        shortest, longest = bounds
        return shortest + (longest - shortest) * self._random() if longest else 0.0

    def _at(self, when: float, node_id: str, message: Any) -> None:
        heapq.heappush(self._heap, (when, next(self._numbers), node_id, message))

    # --- What is to be seen and done --------------------------------------------------------------

    @property
    def leader(self) -> Optional[str]:
        """Who leads in the highest term in which anybody does."""
        leading = [(member.current_term, node_id) for node_id, member in self.members.items() if member._leader]
        return max(leading)[1] if leading else None

    def all_follow(self) -> bool:
        """Whether all that are up know one and the same leader, which is up."""
        first = next(iter(self.members.values())).leader_id
        return first in self.members and all(member.leader_id == first for member in self.members.values())

    def crash(self, node_id: str, proof: bool) -> None:
        """What it had sent arrives. With `proof` the system tells the others, as it does on one machine."""
        del self.members[node_id]
        if proof:
            for other in self.members:
                end, there, back = (self._drawn(self.times.message) for _ in range(3))  # then it is dialled
                self._at(self.now + end + there + back, other, PeerDown(node_id, there + back))

    def broadcast_together(self) -> None:
        """Let the leader's next heartbeats reach all at the same moment, as those of the paper's experiment did."""
        leader = self.leader
        assert leader is not None
        end = self.members[leader].deadline
        self.run_until(lambda: self.now >= end, 1.1 * max(0.0, end - self.now) + 1e-9)
        arrives = self.now + self.times.message[1]
        for number, (_, order, node_id, message) in enumerate(self._heap):
            if type(message) is Heartbeat:
                self._heap[number] = (arrives, order, node_id, message)
        heapq.heapify(self._heap)
