"""Members in processes of their own, on a network that can fail; everything that they said and saw is kept.

runner ── stdin: what to do ──▶ process ── stdout: what it was told ──▶ a thread for each process ──▶ heard
                                   └────── shared memory: what it saw of is_leader ──────────────────▶ spans
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Callable, Dict, Iterable, List, Optional, TypeVar

import raftlite
from raftlite import Timing
from raftlite.clock import boot_clock

from .checker import Heard, Span
from .links import Network
from .looks import Looks
from .process import FAILED

ENDS_WITHIN = 20.0  # seconds in which a process that was told to end does, on a busy machine too
T = TypeVar("T")


def environment() -> Dict[str, str]:
    """The variables for a process: it imports this very raftlite and these very tests."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    places = [Path(raftlite.__file__).parent.parent, Path(__file__).parent.parent]
    return {**clean, "PYTHONPATH": os.pathsep.join(map(str, places))}


class Life:
    """One process of one member, from its start to its end."""

    def __init__(
        self, node_id: str, number: int, folder: Path, command: List[str], settings: Dict[str, object]
    ) -> None:
        self.node_id, self.name = node_id, f"{node_id}#{number}"
        self.is_paused = False
        self.may_fail = False  # its disk is full
        self.failure = ""
        self.heard: List[Heard] = []
        self._table = str(folder / f"{self.name}.looks")
        self.looks = Looks(self._table, create=True)
        self.log = folder / f"{node_id}.log"
        with open(self.log, "ab") as log:
            self._popen = subprocess.Popen(
                [*command, json.dumps({**settings, "looks": self._table})],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=environment(),
            )
        self._reader = threading.Thread(target=self._read, name=f"reads-{self.name}", daemon=True)
        self._reader.start()

    @property
    def is_alive(self) -> bool:
        return self._popen.poll() is None

    @property
    def exit_status(self) -> Optional[int]:
        return self._popen.poll()

    def tell(self, line: str) -> None:
        with contextlib.suppress(OSError):  # it has ended, which is seen elsewhere
            self._popen.stdin.write(line.encode() + b"\n")
            self._popen.stdin.flush()

    def send_signal(self, number: int) -> None:
        self.is_paused = number == signal.SIGSTOP
        self._popen.send_signal(number)

    def kill(self) -> None:
        """`kill -9`, and wait until it is gone."""
        self._popen.kill()
        self.bury()

    def end(self) -> None:
        """Let it stop its member and end; kill it if it does not. Its input ends, and with that it."""
        self.is_paused = False
        with contextlib.suppress(OSError):
            self._popen.send_signal(signal.SIGCONT)
            self._popen.stdin.close()

    def bury(self, patience: float = ENDS_WITHIN) -> bool:
        """Wait for its end and give everything back. False if it had to be killed."""
        try:
            self._popen.wait(patience)
            ended = True
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait()
            ended = False
        self._reader.join()
        with contextlib.suppress(OSError):
            self._popen.stdin.close()
        self._popen.stdout.close()
        return ended

    def last_failure(self) -> str:
        """Why it ended, in its own words; empty if it said nothing."""
        self._reader.join(ENDS_WITHIN)
        return self.failure

    def spans(self) -> List[Span]:
        return [Span(self.node_id, *grant) for grant in self.looks.grants()]

    def forget_table(self) -> None:
        self.looks.close()
        os.unlink(self._table)

    def _read(self) -> None:
        for line in self._popen.stdout:
            with contextlib.suppress(ValueError):  # half a line of one that was killed
                said = json.loads(line)
                if said["event"] in ("elected", "lost", "stopped"):
                    self.heard.append(Heard(self.name, self.node_id, said["event"], said.get("token", 0)))
                elif said["event"] == "failed":
                    self.failure = said["error"]


class Cluster:
    """Starts, stops and watches the members of a network. Use it in a `with` statement."""

    def __init__(self, network: Network, timing: Timing, broken: Iterable[str] = ()) -> None:
        self.network, self.timing = network, timing
        self.node_ids = network.node_ids
        self.folder = Path(tempfile.mkdtemp(prefix="raftlite-chaos-"))
        self.troubles: List[str] = []  # what processes did that they must not
        self.lives: Dict[str, Life] = {}
        self._broken = set(broken)
        self._numbers: Dict[str, int] = {}
        self._past_spans: List[Span] = []
        self._past_heard: List[Heard] = []
        self._past_looks = 0

    def __enter__(self) -> Cluster:
        try:
            for node_id in self.node_ids:
                self.start(node_id)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- Lives ------------------------------------------------------------------------------------

    def start(self, node_id: str) -> None:
        """Start the member, or start it again, with the votes that it has saved."""
        self._numbers[node_id] = self._numbers.get(node_id, 0) + 1
        command = [*self.network.command_prefix(node_id), sys.executable, "-m", "chaos.process"]
        settings = {
            "node_id": node_id,
            "node_ids": self.node_ids,
            "peers": self.network.peers(node_id),
            "listen": self.network.listen(node_id),
            "data_dir": str(self.folder / "votes" / node_id),
            "timing": {
                "heartbeat_interval": self.timing.heartbeat_interval,
                "election_timeout": self.timing.election_timeout,
                "message_timeout": self.timing.message_timeout,
            },
            "is_broken": node_id in self._broken,
        }
        self.lives[node_id] = Life(node_id, self._numbers[node_id], self.folder, command, settings)

    def kill(self, node_id: str) -> None:
        life = self.lives[node_id]
        life.kill()
        if life.exit_status != -signal.SIGKILL:  # it had ended before, and that is not forgotten
            self._note_if_ended(life)
        self._put_away(node_id)

    def restart(self, node_id: str) -> None:
        """In peace: it stops its member, which hands over if it leads."""
        self.lives[node_id].end()
        self._bury(node_id)
        self.start(node_id)

    def pause(self, node_id: str) -> None:
        self.lives[node_id].send_signal(signal.SIGSTOP)

    def fill_the_disk(self, node_id: str) -> None:
        self.lives[node_id].may_fail = True
        self.lives[node_id].tell("fill the disk")

    def restore(self) -> None:
        """Every member runs: whatever was stopped goes on, whatever has ended is started again, with a disk."""
        for node_id in self.node_ids:
            life = self.lives.get(node_id)
            if life is not None and life.is_paused:
                life.send_signal(signal.SIGCONT)
            if life is not None and life.may_fail:
                life.kill()  # perhaps it had nothing to save meanwhile
            if life is None or not life.is_alive:
                if life is not None:
                    self._bury(node_id)
                self.start(node_id)

    def note_those_that_ended(self) -> None:
        """Nobody ends unless it was killed, or its disk was full and it says so."""
        for life in self.lives.values():
            self._note_if_ended(life)

    def close(self) -> None:
        """Every process ends; everything that it saw remains."""
        self.network.heal()
        for life in self.lives.values():
            life.end()
        for node_id in list(self.lives):
            self._bury(node_id)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _note_if_ended(self, life: Life) -> None:
        if not life.is_alive and not life.may_fail:
            how = f"ended by itself with status {life.exit_status}"
            self.troubles.append(f"{life.name} {how}: {self._last_words(life)}")
            life.may_fail = True

    def _bury(self, node_id: str) -> None:
        life = self.lives[node_id]
        expected = (0, FAILED, -signal.SIGKILL) if life.may_fail else (0,)
        if not life.bury():
            self.troubles.append(f"{life.name} did not end within {ENDS_WITHIN:g} s")
        elif life.exit_status not in expected:
            self.troubles.append(f"{life.name} ended with status {life.exit_status}: {self._last_words(life)}")
        self._put_away(node_id)

    def _put_away(self, node_id: str) -> None:
        life = self.lives.pop(node_id)
        self._past_spans += life.spans()
        self._past_heard += life.heard
        self._past_looks += life.looks.looks
        life.forget_table()

    def _last_words(self, life: Life) -> str:
        return life.log.read_text(encoding="utf-8", errors="replace")[-2_000:]

    # --- What is seen -----------------------------------------------------------------------------

    def leader(self, since: Optional[float] = None) -> Optional[str]:
        """Who was seen to lead after `since`, or just now."""
        since = boot_clock() - 0.05 if since is None else since
        seen = [(life.looks.true_at, node_id) for node_id, life in self.lives.items() if not life.is_paused]
        true_at, node_id = max(seen, default=(0.0, ""))
        return node_id if true_at > since else None

    def first_true_after(self, since: float) -> Optional[float]:
        """How long after `since` somebody was first seen to lead by whoever looks often."""
        true_at = [life.looks.true_at for life in self.lives.values()]
        return min((at - since for at in true_at if at > since), default=None)

    def agreed_leader(self) -> Optional[str]:
        """The leader, if all the others know it."""
        leader = self.leader()
        known = {life.looks.leader for life in self.lives.values()}
        return leader if leader is not None and known == {1 + self.node_ids.index(leader)} else None

    def wait(self, look: Callable[[], Optional[T]], seconds: float) -> Optional[T]:
        """Wait until `look` returns something, for so many seconds at most."""
        give_up_at = time.monotonic() + seconds
        while True:
            found = look()
            if found is not None or time.monotonic() >= give_up_at:
                return found
            time.sleep(0.001)

    def spans(self) -> List[Span]:
        return self._past_spans + [span for life in self.lives.values() for span in life.spans()]

    def heard(self) -> List[Heard]:
        return self._past_heard + [heard for life in self.lives.values() for heard in list(life.heard)]

    def looks(self) -> int:
        """How often anybody has looked whether it leads."""
        return self._past_looks + sum(life.looks.looks for life in self.lives.values())
