"""The systems that are compared: how a process of each is started, and what is to be said beside its figures."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, FrozenSet, List, Optional

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent.parent
ENVIRONMENT = ROOT / ".cache" / "bench"
ZOOKEEPER_JAR = Path("/usr/share/java/zookeeper.jar")
DEFAULTS, FAST = "defaults", "fast"  # fast: timeouts of 150 to 300 ms and heartbeats every 50 ms, or as near as it gets
REST = "rest"  # heartbeats every 50 ms as well, for those that have them more often when they are fast
FLOOR, HEAVY_FLOOR = "floor", "floor and raftlite"
KILL, AGAIN, SILENCE, CUT, HANDOVER = "kill", "again", "silence", "cut", "handover"


@dataclass(frozen=True)
class System:
    """`timeouts` are the shortest election timeout in seconds at each pace: a pace that is missing cannot be set."""

    name: str
    timeouts: Dict[str, float]
    note: str = ""
    faults: FrozenSet[str] = frozenset({KILL, AGAIN, SILENCE, CUT, HANDOVER})
    why_no_handover: str = ""
    why_no_fast: str = ""

    @property
    def program(self) -> Path:
        return HERE / "members" / f"with_{self.name.lower().replace(' ', '_')}.py"

    def why_not(self) -> str:
        """Why it cannot run here, or nothing."""
        left_out = ENVIRONMENT / "left-out.json"
        reasons = json.loads(left_out.read_text(encoding="utf-8")) if left_out.exists() else {}
        if self.name == "kazoo" and (not shutil.which("java") or not ZOOKEEPER_JAR.exists()):
            return f"there is no Java or no ZooKeeper here ({ZOOKEEPER_JAR}, of Debian's libzookeeper-java)"
        if self.name == "etcd" and not etcd():
            return str(reasons.get("etcd", "there is no etcd here"))
        return str(reasons.get(self.name, ""))


SYSTEMS = {
    system.name: system
    for system in (
        System("raftlite", {DEFAULTS: 1.0, FAST: 0.15}),
        System(
            FLOOR,
            {DEFAULTS: 1.0, FAST: 0.15},
            "no system: sockets and SQLite, one thread and no rules, what no election can do without",
        ),
        System(
            HEAVY_FLOOR,
            {DEFAULTS: 1.0, FAST: 0.15},
            "the same, but it has imported raftlite: a dead process's memory is freed before its connections end",
            frozenset({KILL}),
        ),
        System("PySyncObj", {DEFAULTS: 0.4, FAST: 0.15}, "heartbeats at 49.9 ms: it refuses a third of the timeout"),
        System(
            "pyraft",
            {DEFAULTS: 5.0},
            "saves no votes",
            frozenset({KILL, AGAIN, SILENCE, CUT}),
            "it has none",
            "its times are constants and its clock counts whole seconds",
        ),
        System(
            "raftos",
            {DEFAULTS: 1.5, FAST: 0.15},
            "made to run on this Python: newer cryptography, queues without a loop",
            frozenset({KILL, AGAIN, SILENCE, CUT}),
            "it has none",
        ),
        System(
            "etcd",
            {DEFAULTS: 1.0, FAST: 0.15, REST: 0.25},
            "a server in Go; timed is its own log line, before any other one has answered; heartbeats at 30 ms: it "
            "refuses a third of the timeout",
        ),
        System(
            "kazoo",
            {DEFAULTS: 10.0, FAST: 0.3},
            "contenders beside one ZooKeeper, which is not killed; its timeout is that of a session, 10 s or 300 ms",
        ),
    )
}


def etcd() -> Optional[str]:
    """The etcd of the system, or the one in the environment."""
    return shutil.which("etcd") or shutil.which("etcd", path=str(ENVIRONMENT / "debian" / "usr" / "bin"))


def member_command(system: System, node: int, count: int, port: int, folder: str, pace: str, events: int) -> List[str]:
    """How a member is started that tells its events itself."""
    return [sys.executable, str(system.program), *map(str, (node, count, port)), folder, pace, str(events)]


def etcd_command(node: int, hosts: List[str], port: int, folder: str, pace: str) -> List[str]:
    """How a server of etcd is started; ports are given out in pairs, for its clients and for its peers."""
    path = etcd()
    assert path is not None
    clients, peers = f"http://{hosts[node]}:{port + 2 * node}", f"http://{hosts[node]}:{port + 2 * node + 1}"
    everybody = ",".join(f"n{each}=http://{host}:{port + 2 * each + 1}" for each, host in enumerate(hosts))
    command = [path, "--name", f"n{node}", "--data-dir", f"{folder}/n{node}", "--initial-cluster", everybody]
    command += ["--listen-client-urls", clients, "--advertise-client-urls", clients]
    command += ["--listen-peer-urls", peers, "--initial-advertise-peer-urls", peers]
    if pace != DEFAULTS:
        interval, timeout = {FAST: ("30", "150"), REST: ("50", "250")}[pace]
        command += ["--heartbeat-interval", interval, "--election-timeout", timeout]
    return command


def zookeeper_command(host: str, port: int, folder: str, pace: str) -> List[str]:
    """How one ZooKeeper is started."""
    settings = Path(folder) / "zoo.cfg"
    lines = {"tickTime": 50 if pace == FAST else 2000, "dataDir": f"{folder}/zookeeper", "clientPort": port}
    lines.update({"clientPortAddress": host, "maxClientCnxns": 0, "admin.enableServer": "false"})
    settings.write_text("".join(f"{name}={value}\n" for name, value in lines.items()), encoding="utf-8")
    return ["java", "-cp", str(ZOOKEEPER_JAR), "org.apache.zookeeper.server.quorum.QuorumPeerMain", str(settings)]
