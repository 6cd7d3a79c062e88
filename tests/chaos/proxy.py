"""A proxy for each directed pair of members, in this process: needs no permission of the system.

    a ═══▶ proxy a→b: one direction obeys the link a→b, the other the link b→a ═══▶ b

A member writes on the connections that it has dialled only. Of what comes after the handshake, whole frames are lost.
During the handshake, where TCP would send again, a loss makes the frame late instead. What meets a cut waits for its
end, as it would in the sender's TCP, and then arrives all at once. An end of a connection travels like a frame, and the
system's refusal of a connection is passed on as a reset: both are true of the process behind, only later.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import struct
import tempfile
import time
from collections import deque
from typing import Deque, Dict, Optional, Sequence, Tuple

from .links import Carrier, Link, Network

HANDSHAKE_FRAMES = 4  # in each direction: digest, challenge, welcome, hello; or challenge, welcome, digest, hello
RETRANSMISSION = 0.2  # seconds after which TCP sends again what was lost first
LOOK_AGAIN = 0.002  # seconds after which a cut, or a receiver that does not read, is looked at again
_LENGTH = struct.Struct("!i")
_RESET = struct.pack("ii", 1, 0)


class ProxyNetwork(Network):
    """Members listen on Unix sockets, and reach each other through proxies on the loopback interface."""

    description = "a user-space proxy for each directed link, which drops whole messages"

    def __init__(self, node_ids: Sequence[str], seed: int = 0) -> None:
        super().__init__(node_ids, seed)
        self._folder = tempfile.mkdtemp(prefix="raftlite-proxy-")
        self._carrier = Carrier("proxy")
        self._listeners: Dict[Link, socket.socket] = {}
        self._connections: Dict[_Connection, None] = {}
        for sender in node_ids:
            for receiver in node_ids:
                if sender != receiver:
                    self._listen_for((sender, receiver))
        self._carrier.start()

    def listen(self, node_id: str) -> str:
        return f"{self._folder}/{node_id}"

    def peers(self, node_id: str) -> Dict[str, str]:
        return {
            receiver: "{}:{}".format(*listener.getsockname())
            for (sender, receiver), listener in self._listeners.items()
            if sender == node_id
        }

    def close(self) -> None:
        self._carrier.close()
        for connection in list(self._connections):
            connection.close()
        for listener in self._listeners.values():
            listener.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _listen_for(self, link: Link) -> None:
        listener = socket.create_server(("127.0.0.1", 0))
        listener.setblocking(False)
        self._listeners[link] = listener
        self._carrier.watch(listener, lambda: self._accept(link, listener))

    def _accept(self, link: Link, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            connection = _Connection(self, listener.accept()[0], link)
            self._connections[connection] = None
            self.call_in(self.links.travel_time(), connection.dial)

    # --- For its connections ----------------------------------------------------------------------

    def call_in(self, seconds: float, callback) -> None:
        self._carrier.call_at(time.monotonic() + seconds, callback)

    def watch(self, sock: socket.socket, callback) -> None:
        self._carrier.watch(sock, callback)

    def forget(self, sock: socket.socket) -> None:
        self._carrier.forget(sock)

    def remove(self, connection: _Connection) -> None:
        self._connections.pop(connection, None)


class _Connection:
    """One connection of a dialler, carried on to the listener as soon as both links carry."""

    def __init__(self, network: ProxyNetwork, dialler: socket.socket, link: Link) -> None:
        self._network, self._link = network, link
        self._dialler, self._listener = dialler, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._pipes: Tuple[_Pipe, ...] = ()
        for sock in (self._dialler, self._listener):
            sock.setblocking(False)
        dialler.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def dial(self) -> None:
        sender, receiver = self._link
        links = self._network.links
        if not links.carries(sender, receiver) or not links.carries(receiver, sender):
            self._network.call_in(LOOK_AGAIN, self.dial)
            return
        try:
            self._listener.connect(self._network.listen(receiver))
        except BlockingIOError:  # more wait there than the system keeps
            self._network.call_in(LOOK_AGAIN, self.dial)
        except OSError:  # nobody listens, which is for the dialler to know
            self._dialler.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self.close()
        else:
            there = _Pipe(self._network, self, self._dialler, self._listener, (sender, receiver))
            back = _Pipe(self._network, self, self._listener, self._dialler, (receiver, sender))
            self._pipes = (there, back)

    def close_if_over(self) -> None:
        if all(pipe.is_over for pipe in self._pipes):
            self.close()

    def close(self) -> None:
        for sock in (self._dialler, self._listener):
            self._network.forget(sock)
            sock.close()
        self._network.remove(self)


class _Pipe:
    """One direction of a connection: reads frames, and writes each when its time has come and the link carries."""

    def __init__(self, network: ProxyNetwork, connection: _Connection, source, target, link: Link) -> None:
        self._network, self._connection, self._link = network, connection, link
        self._source, self._target = source, target
        self._unread = b""
        self._frames = 0
        self._under_way: Deque[Tuple[float, Optional[bytes]]] = deque()  # (when it is due, frame or the end)
        self._is_called = False
        self.is_over = False
        network.watch(source, self._read)

    def _read(self) -> None:
        try:
            data = self._source.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._network.forget(self._source)
            self._send_off(None)
            return
        self._unread += data
        for frame in iter(self._next_frame, None):
            self._frames += 1
            self._send_off(frame)

    def _next_frame(self) -> Optional[bytes]:
        if len(self._unread) < _LENGTH.size:
            return None
        end = _LENGTH.size + max(0, _LENGTH.unpack_from(self._unread)[0])
        if len(self._unread) < end:
            return None
        frame, self._unread = self._unread[:end], self._unread[end:]
        return frame

    def _send_off(self, frame: Optional[bytes]) -> None:
        links = self._network.links
        due = time.monotonic() + links.travel_time()
        if links.loses():
            if frame is not None and self._frames > HANDSHAKE_FRAMES:
                return
            due += RETRANSMISSION
        if self._under_way:
            due = max(due, self._under_way[-1][0])  # a stream keeps its order
        self._under_way.append((due, frame))
        if not self._is_called:
            self._deliver()

    def _deliver(self) -> None:
        self._is_called = False
        while self._under_way:
            due, frame = self._under_way[0]
            wait = due - time.monotonic()
            if wait <= 0 and not self._network.links.carries(*self._link):
                wait = LOOK_AGAIN
            if wait <= 0 and self._write(frame):
                self._under_way.popleft()
                continue
            self._is_called = True
            self._network.call_in(max(wait, 0.0 if wait > 0 else LOOK_AGAIN), self._deliver)
            return

    def _write(self, frame: Optional[bytes]) -> bool:
        """False if there is more to write, as the receiver does not read."""
        try:
            if frame is None:
                self._end()
                return True
            written = self._target.send(frame)
        except BlockingIOError:
            return False
        except OSError:  # the receiver has gone, which the other pipe reports
            return True
        if written < len(frame):
            self._under_way[0] = (0.0, frame[written:])
        return written == len(frame)

    def _end(self) -> None:
        self.is_over = True
        with contextlib.suppress(OSError):
            self._target.shutdown(socket.SHUT_WR)
        self._connection.close_if_over()
