"""Five members as threads, in real time, over a transport that loses, delays, repeats and reorders what they say."""

from __future__ import annotations

import contextlib
import heapq
import queue
import random
import threading
import time
from itertools import count

from threads import eventually

from raftlite.nodes import Node
from raftlite.thread import ElectionThread
from raftlite.timing import Timing

TIMING = Timing(heartbeat_interval=0.03, election_timeout=0.12)


class Network:
    """Delivers messages on a thread of its own. Whoever is in `cut` neither reaches nor hears the others."""

    def __init__(self, seed):
        self.is_bad = True
        self.cut = set()
        self._random = random.Random(seed)
        self._under_way = []  # (when, number, sender, receiver, inbox, message)
        self._numbers = count()
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="network")

    def send(self, sender, receiver, inbox, message):
        with self._changed:
            copies = self._random.choice((0, 1, 1, 1, 1, 1, 1, 1, 2, 2)) if self.is_bad else 1
            for _ in range(copies):
                delay = self._random.choice((0.0, 0.001, 0.005, 0.02)) if self.is_bad else 0.0
                when = time.monotonic() + delay
                heapq.heappush(self._under_way, (when, next(self._numbers), sender, receiver, inbox, message))
            self._changed.notify()

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _run(self):
        with self._changed:
            while not self._closed:
                wait = self._under_way[0][0] - time.monotonic() if self._under_way else None
                if wait is None or wait > 0:
                    self._changed.wait(wait)
                    continue
                _, _, sender, receiver, inbox, message = heapq.heappop(self._under_way)
                if not {sender, receiver} & self.cut:
                    inbox.put(message)


class BadNode(Node):
    """Fifteen lines are a transport of one's own."""

    def __init__(self, node_id, inbox, sender, network):
        super().__init__(node_id)
        self._inbox, self._sender, self._network = inbox, sender, network

    def send_message(self, message):
        self._network.send(self._sender, self.node_id, self._inbox, message)


class Watch:
    """Looks all the time for two members that lead at one instant, and keeps the history of their grants.

    A grant that is valid at two moments was valid at every moment between them, since none comes back to life. So two
    grants that are found valid in a first pass, and again in a second, were valid together in between.
    """

    def __init__(self, threads):
        self.grants = queue.Queue()  # (began or ended, node, token), in order for each node
        self.together = []
        self.looks = 0
        self._threads = threads
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch")
        for thread in threads.values():
            thread.on_elected(lambda leadership: self.grants.put(("elected", leadership.node_id, leadership.token)))
            thread.on_lost(lambda leadership: self.grants.put(("lost", leadership.node_id, leadership.token)))

    def _run(self):
        while not self._done.wait(0.0005):
            self.looks += 1
            held = [grant for grant in (thread.leadership for thread in self._threads.values()) if grant]
            still_held = [grant for grant in held if grant.valid]
            if len(still_held) > 1:
                self.together.append(still_held)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._done.set()
        self._thread.join()


def leader_of(threads):
    return next((node_id for node_id, thread in threads.items() if thread.is_leader), None)


def test_five_threads_on_a_bad_network_have_one_leader_at_most_and_one_at_last():
    """One for each term, one at any instant, and one for good when the network has healed."""
    with contextlib.ExitStack() as stack:
        network = stack.enter_context(Network(seed=5))
        inboxes = {node_id: queue.Queue() for node_id in "abcde"}
        threads = {}
        for node_id, inbox in inboxes.items():
            nodes = [BadNode(other, inboxes[other], node_id, network) for other in inboxes if other != node_id]
            threads[node_id] = ElectionThread(node_id, nodes, inbox=inbox, timing=TIMING)
        watch = stack.enter_context(Watch(threads))
        with contextlib.ExitStack() as running:
            for thread in threads.values():
                running.enter_context(thread)
            for _ in range(5):
                leader = eventually(lambda: leader_of(threads), "a leader in spite of the losses")
                network.cut = {leader}
                eventually(lambda: leader_of(threads) not in (None, leader), "another leader")  # noqa: B023
            network.cut = set()
            network.is_bad = False
            eventually(
                lambda: len({thread.leader_id for thread in threads.values()} - {None}) == 1 and leader_of(threads),
                "agreed on one leader",
            )
        assert watch.looks > 0
        assert watch.together == []
        history = [watch.grants.get_nowait() for _ in range(watch.grants.qsize())]
        winners = {}
        for what, node_id, token in history:
            if what == "elected":
                assert winners.setdefault(token, node_id) == node_id, f"two leaders in term {token}"
        assert len(winners) >= 6
        for node_id in threads:
            own = [(what, token) for what, node, token in history if node == node_id]
            tokens = [token for what, token in own if what == "elected"]
            assert tokens == sorted(set(tokens)), "a token came again"
            assert own == [(what, token) for token in tokens for what in ("elected", "lost")], "not in pairs"
