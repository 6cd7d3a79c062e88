"""A network namespace for each member: its own interface, its own TCP. Packets are carried, and lost, by this process.

    a's namespace: TUN device ◀══▶ this process: Links decide for each packet ◀══▶ TUN device: b's namespace

Needs root, `ip` and /dev/net/tun. It does what `tc netem` and `iptables` would do, without the modules that many
kernels lack, and the same way on all: packets are cut silently, delayed, reordered by jitter and lost, and it is the
kernel's own TCP that sends them again.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import struct
import subprocess
import time
from pathlib import Path
from typing import Dict, List, Sequence

from .links import Carrier, Network

try:
    import fcntl
except ImportError:  # no Unix
    fcntl = None  # type: ignore[assignment]

PORT = 7600
NAME = "raftlite-chaos"
_TUNSETIFF = 0x400454CA
_TUN_WITHOUT_HEADER = 0x1001  # IFF_TUN | IFF_NO_PI
_LONGEST_PACKET = 2_048


def why_not() -> str:
    """Why there can be no namespaces on this machine; empty if there can be."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return "they need root"
    if shutil.which("ip") is None or not os.path.exists("/dev/net/tun"):
        return "they need `ip` and /dev/net/tun"
    try:
        NamespaceNetwork(["probe"]).close()
    except (OSError, subprocess.CalledProcessError) as error:
        said = getattr(error, "stderr", "") or str(error)
        return f"the system does not permit it: {said.strip()}"
    return ""


class NamespaceNetwork(Network):
    """Every member alone in a network namespace, which must be entered by the command that starts it."""

    description = "network namespaces, whose packets this program carries between TUN devices"
    keeps_backing_off = True

    def __init__(self, node_ids: Sequence[str], seed: int = 0) -> None:
        super().__init__(node_ids, seed)
        _remove_those_of_the_dead()
        self._carrier = Carrier("packets")
        self._devices: Dict[str, int] = {}  # node id -> descriptor
        self._node_at: Dict[bytes, str] = {socket.inet_aton(self._ip(node_id)): node_id for node_id in node_ids}
        try:
            for node_id in node_ids:
                self._open(node_id)
        except BaseException:
            self.close()
            raise
        self._carrier.start()

    def listen(self, node_id: str) -> str:
        return f"{self._ip(node_id)}:{PORT}"

    def peers(self, node_id: str) -> Dict[str, str]:
        return {other: self.listen(other) for other in self.node_ids if other != node_id}

    def command_prefix(self, node_id: str) -> List[str]:
        return ["ip", "netns", "exec", self._namespace(node_id)]

    def close(self) -> None:
        self._carrier.close()
        for device in self._devices.values():
            os.close(device)
        self._devices.clear()
        for node_id in self.node_ids:
            _delete(self._namespace(node_id))

    def _ip(self, node_id: str) -> str:
        return f"10.77.0.{self.node_ids.index(node_id) + 1}"

    def _namespace(self, node_id: str) -> str:
        return f"{NAME}-{os.getpid()}-{node_id}"

    def _open(self, node_id: str) -> None:
        namespace, device = self._namespace(node_id), f"rl{os.getpid()}n{self.node_ids.index(node_id)}"
        _ip("netns", "add", namespace)
        descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self._devices[node_id] = descriptor
        fcntl.ioctl(descriptor, _TUNSETIFF, struct.pack("16sH22x", device.encode(), _TUN_WITHOUT_HEADER))
        _ip("link", "set", device, "netns", namespace)
        _ip("-n", namespace, "address", "add", f"{self._ip(node_id)}/24", "dev", device)
        _ip("-n", namespace, "link", "set", "lo", "up")
        _ip("-n", namespace, "link", "set", device, "up")
        self._carrier.watch(descriptor, lambda: self._read(node_id, descriptor))

    # --- The carrier's thread ---------------------------------------------------------------------

    def _read(self, sender: str, descriptor: int) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                self._carry(sender, os.read(descriptor, _LONGEST_PACKET))

    def _carry(self, sender: str, packet: bytes) -> None:
        receiver = self._node_at.get(packet[16:20]) if packet[0] >> 4 == 4 else None
        if receiver is None or not self.links.carries(sender, receiver) or self.links.loses():
            return
        travel_time = self.links.travel_time()
        if travel_time:
            self._carrier.call_at(time.monotonic() + travel_time, lambda: self._deliver(sender, receiver, packet))
        else:
            self._deliver(sender, receiver, packet)

    def _deliver(self, sender: str, receiver: str, packet: bytes) -> None:
        if self.links.carries(sender, receiver):
            with contextlib.suppress(OSError):  # no room: the packet is lost, as anywhere
                os.write(self._devices[receiver], packet)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


def _delete(namespace: str) -> None:
    subprocess.run(["ip", "netns", "delete", namespace], capture_output=True)


def _remove_those_of_the_dead() -> None:
    """What a run that was killed has left behind."""
    with contextlib.suppress(OSError):
        for name in os.listdir("/run/netns"):
            found = re.match(rf"{NAME}-(\d+)-", name)
            if found and not Path(f"/proc/{found[1]}").exists():
                _delete(name)
