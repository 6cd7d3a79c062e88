"""A middleman between two members, whose connections a test cuts, resets, swallows and refuses."""

from __future__ import annotations

import contextlib
import queue
import selectors
import socket
import struct
import threading
from typing import Any, Callable, Dict, List

from threads import PATIENCE

from raftlite.nodes.address import dial, is_path, listen, normalize

NO_LINGER = struct.pack("ii", 1, 0)  # the system says "reset" instead of "end" when such a socket is closed


class Middleman:
    """Listens at `address` and passes every connection on to `target`. Also a context manager.

    `treat` says what becomes of new connections: "pass", "swallow" (accept and say nothing), "end" and "reset".
    `alter` is given what passes, and returns what is passed on.
    """

    def __init__(self, address: str = "127.0.0.1:0") -> None:
        self._socket = listen(address)
        self.address = address if is_path(address) else normalize(self._socket.getsockname()[:2])
        self.target = ""
        self.treat = "pass"
        self.alter: Callable[[bytes], bytes] = lambda data: data
        self.arrivals = 0  # connections accepted so far
        self._partners: Dict[socket.socket, socket.socket] = {}
        self._swallowed: List[socket.socket] = []
        self._tasks: queue.Queue[Any] = queue.Queue()
        self._selector = selectors.DefaultSelector()
        self._waker, wakee = socket.socketpair()
        self._selector.register(wakee, selectors.EVENT_READ, lambda: wakee.recv(1))
        self._selector.register(self._socket, selectors.EVENT_READ, self._accept)
        self._wakee = wakee
        self._thread = threading.Thread(target=self._run, name=f"middleman {self.address}", daemon=True)
        self._thread.start()

    def cut(self) -> None:
        """End the connections that there are; returns when it is done."""
        self._do(self._close_all)

    def reset(self) -> None:
        """Reset the connections that there are."""
        self._do(lambda: self._close_all(resetting=True))

    def refuse(self) -> None:
        """Let the system refuse every new connection."""
        self._do(self._stop_listening)

    def close(self) -> None:
        self._do(self._stop_listening)
        self._do(self._close_all)
        self._do(None)
        self._thread.join(PATIENCE)

    def __enter__(self) -> Middleman:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _do(self, task: Any) -> None:
        done = threading.Event()
        self._tasks.put((task, done))
        self._waker.send(b"x")
        assert done.wait(PATIENCE), "the middleman is stuck"

    def _run(self) -> None:
        while True:
            for key, _ in self._selector.select():
                key.data()
            while not self._tasks.empty():
                task, done = self._tasks.get()
                if task is not None:
                    task()
                done.set()
                if task is None:
                    return self._end()

    def _end(self) -> None:
        self._selector.close()
        self._waker.close()
        self._wakee.close()

    def _accept(self) -> None:
        sock, _ = self._socket.accept()
        self.arrivals += 1
        if self.treat == "swallow":
            self._swallowed.append(sock)
        elif self.treat == "pass" and self.target:
            self._connect(sock)
        else:
            close(sock, self.treat == "reset")

    def _connect(self, sock: socket.socket) -> None:
        try:
            partner = dial(self.target, PATIENCE)
        except OSError:
            sock.close()
            return
        for one, other in ((sock, partner), (partner, sock)):
            self._partners[one] = other
            self._selector.register(one, selectors.EVENT_READ, self._pump(one))

    def _pump(self, sock: socket.socket) -> Callable[[], None]:
        def pump() -> None:
            partner = self._partners.get(sock)
            if partner is None:
                return  # the pair was closed a moment ago
            with contextlib.suppress(OSError):
                data = sock.recv(65536)
                if data:
                    return partner.sendall(self.alter(data))
            self._close_pair(sock, partner)

        return pump

    def _close_pair(self, *pair: socket.socket, resetting: bool = False) -> None:
        for sock in pair:
            del self._partners[sock]
            self._selector.unregister(sock)
            close(sock, resetting)

    def _close_all(self, resetting: bool = False) -> None:
        while self._partners:
            self._close_pair(*next(iter(self._partners.items())), resetting=resetting)
        while self._swallowed:
            close(self._swallowed.pop(), resetting)

    def _stop_listening(self) -> None:
        if self._socket.fileno() >= 0:
            self._selector.unregister(self._socket)
            self._socket.close()


def close(sock: socket.socket, resetting: bool) -> None:
    if resetting:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
    sock.close()
