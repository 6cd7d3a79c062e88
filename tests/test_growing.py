"""A cluster of real processes grows from three to seven and shrinks to three again, with `kill -9` in the middle."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Dict, Iterator, List

import pytest
from children import environment

from raftlite.nodes.request import ask_member

KEY = "growing"
PATIENCE = 60.0
FOUNDERS = ("n1", "n2", "n3")
HEARTBEAT_INTERVAL, ELECTION_TIMEOUT = 0.2, 2.0  # no pause of the machine takes the lead from anybody


class Processes:
    """Members as `raftlite node`, and requests to any of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.running: Dict[str, subprocess.Popen[str]] = {}

    def address(self, node_id: str) -> str:
        return str(self.folder / node_id)

    def start(self, node_id: str) -> None:
        command = [sys.executable, "-m", "raftlite", "node", "--id", node_id, "--listen", self.address(node_id)]
        command += ["--data-dir", str(self.folder / "votes"), "--election-timeout", str(ELECTION_TIMEOUT)]
        command += ["--heartbeat-interval", str(HEARTBEAT_INTERVAL)]
        if node_id in FOUNDERS:
            command += [f"--peer={peer}={self.address(peer)}" for peer in FOUNDERS if peer != node_id]
        self.running[node_id] = subprocess.Popen(
            command, env={**environment(), "RAFTLITE_AUTHKEY": KEY}, stdout=subprocess.DEVNULL, text=True
        )

    def kill(self, node_id: str) -> None:
        process = self.running.pop(node_id)
        process.kill()
        process.wait()

    def ask(self, node_id: str, request: str, **details: Any) -> Dict[str, Any]:
        return ask_member(self.address(node_id), KEY.encode(), "raftlite", 5.0, request, **details)

    def insist(self, request: str, **details: Any) -> None:
        """Ask one member after the other until the change is committed: an answer may be lost with a leader."""
        deadline = time.monotonic() + PATIENCE
        reasons: List[str] = []
        while time.monotonic() < deadline:
            for node_id in list(self.running):
                try:
                    self.ask(node_id, request, **details)
                    return
                except OSError as error:
                    if reasons and "there is no member" in str(error):
                        return  # removed already, when the answer was lost
                    reasons.append(str(error))
        raise AssertionError(f"{request} {details} was never done: {reasons[-5:]}")

    def add(self, node_id: str) -> None:
        self.start(node_id)
        self.insist("add", id=node_id, at=self.address(node_id), voter=True)

    def why(self, node_id: str) -> str:
        """Why the member has no leader, once it answers."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                return str(self.ask(node_id, "status")["why"])
            except OSError:
                assert time.monotonic() < deadline

    def wait_for_renewals(self, leader: str, count: int) -> None:
        """Wait until the leader has renewed its lease so often, once with each heartbeat; it must not lose it."""
        deadline = time.monotonic() + PATIENCE
        before = 0.0
        while count > 0:
            assert time.monotonic() < deadline, f"{leader} has {count} renewals to go"
            with suppress(OSError):
                status = self.ask(leader, "status")
                assert status["leader"] == leader, f"{leader} does not lead any more: {status}"
                count -= status["lease_remaining"] > before
                before = status["lease_remaining"]
            time.sleep(HEARTBEAT_INTERVAL / 10)

    def agreed(self, ids: List[str]) -> str:
        """Wait until all of `ids` know the same leader and exactly these members; return the leader."""
        deadline = time.monotonic() + PATIENCE
        views: Dict[str, Any] = {}
        while time.monotonic() < deadline:
            views = {}
            for node_id in ids:
                with suppress(OSError):
                    status = self.ask(node_id, "status")
                    nodes = status["membership"]["nodes"]
                    views[node_id] = (status["leader"], status["term"], tuple(node[0] for node in nodes))
            if len(set(views.values())) == 1 and len(views) == len(ids):
                leader, _, members = views[ids[0]]
                if leader is not None and list(members) == sorted(ids):
                    return str(leader)
        raise AssertionError(f"{ids} did not agree: {views}")


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    processes = Processes(tmp_path)
    yield processes
    for process in processes.running.values():
        process.send_signal(signal.SIGTERM)
    for process in processes.running.values():
        assert process.wait(PATIENCE) == 0


@pytest.mark.slow
def test_a_cluster_grows_and_shrinks_while_leaders_are_killed(processes: Processes) -> None:
    for node_id in FOUNDERS:
        processes.start(node_id)
    processes.agreed(list(FOUNDERS))
    processes.add("n4")
    leader = processes.agreed(["n1", "n2", "n3", "n4"])

    # The leader is killed while it lets n5 in.
    adding = threading.Thread(target=processes.add, args=("n5",))
    adding.start()
    processes.kill(leader)
    adding.join(PATIENCE)
    processes.start(leader)
    processes.agreed(["n1", "n2", "n3", "n4", "n5"])

    processes.add("n6")
    processes.add("n7")
    ids = [f"n{number}" for number in range(1, 8)]
    leader = processes.agreed(ids)

    # Four are removed, the leader among them; each learns it and ends by itself.
    for victim in [leader, *[node_id for node_id in FOUNDERS if node_id != leader], "n4", "n5"][:4]:
        processes.insist("remove", id=victim)
        ids.remove(victim)
        assert processes.running.pop(victim).wait(PATIENCE) == 0
        processes.agreed(ids)

    # One that comes back with its old votes disturbs nobody, however often it might have campaigned.
    leader = processes.agreed(ids)
    term = processes.ask(leader, "status")["term"]
    returned = next(node_id for node_id in FOUNDERS if node_id not in ids)
    processes.start(returned)
    assert "was removed" in processes.why(returned)
    processes.wait_for_renewals(leader, round(5 * ELECTION_TIMEOUT / HEARTBEAT_INTERVAL))
    assert "was removed" in processes.why(returned)
    assert processes.agreed(ids) == leader
    assert processes.ask(leader, "status")["term"] == term
