"""Accepts connections and gives each a thread; a silent or swarming stranger keeps nobody out.

accept thread ─▶ Channel + thread ─▶ serve(channel, remote) ─▶ admit(channel) once it has shown who it is
      └──────── ends the oldest strangers when too many wait, and each after its time
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import selectors
import socket
import threading
import time
from typing import TYPE_CHECKING, Callable, Dict, Optional, Set, Tuple

from raftlite.nodes import forks, secure
from raftlite.nodes.address import is_path, keep_alive, listen, normalize
from raftlite.nodes.channel import Channel
from raftlite.nodes.quiet import QuietLog

if TYPE_CHECKING:
    from raftlite.nodes.tls import TlsContext

logger = logging.getLogger(__name__)

MOST_STRANGERS = 64  # connections that have not shown yet who they are

_OUT_OF_DESCRIPTORS = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Acceptor(forks.Forkable):
    """The listening socket, its thread, and the threads of the connections that it accepted."""

    def __init__(
        self,
        address: str,
        name: str,
        serve: Callable[[Channel, str], None],
        patience: float,
        tls: Optional[TlsContext] = None,
    ) -> None:
        self.is_closed = False
        self._path = address if is_path(address) else None
        self._name = name
        self._serve = serve
        self._patience = patience  # seconds that a stranger has
        self._tls = tls
        self._lock = threading.Lock()
        self._strangers: Dict[Channel, float] = {}  # in the order of their arrival -> when their time is up
        self._channels: Set[Channel] = set()
        self._threads: Set[threading.Thread] = set()
        self._quiet = QuietLog(logger)
        self._thread = threading.Thread(target=self._run, name=f"{name}-listener", daemon=True)
        with forks.lock:
            self._socket = listen(address)
            try:
                self._waker, self._wakee = socket.socketpair()
            except BaseException:  # no descriptor is left; or Ctrl-C
                self._remove_path()
                self._socket.close()
                raise
            forks.add(self)
        self._socket.setblocking(False)
        self.address = self._own_address(address)

    def start(self) -> None:
        self._thread.start()

    def fileno(self) -> int:
        return self._socket.fileno()

    def admit(self, channel: Channel) -> None:
        """`channel` is no stranger any more: it may stay for as long as it likes."""
        with self._lock:
            self._strangers.pop(channel, None)

    def close(self) -> None:
        """Stop accepting, end every connection, wait for the threads. Twice is fine."""
        with self._lock:
            if self.is_closed:
                return
            self.is_closed = True
        self._waker.send(b"x")
        if self._thread.ident is not None:
            self._thread.join()
        self._remove_path()
        self._close_sockets()
        with self._lock:
            channels, threads = set(self._channels), set(self._threads)
        for channel in channels:
            channel.shut_down()
        for thread in threads - {threading.current_thread()}:
            thread.join(self._patience)

    def abandon_after_fork(self) -> None:
        self.is_closed = True
        self._lock = threading.Lock()
        self._close_sockets()

    def _close_sockets(self) -> None:
        with forks.lock:
            for sock in (self._socket, self._waker, self._wakee):
                sock.close()

    def _own_address(self, address: str) -> str:
        if self._path:
            return address
        host, port = self._socket.getsockname()[:2]  # the port that the system chose, where 0 was asked for
        asked_host = address.rpartition(":")[0].strip("[]")
        return normalize((asked_host or host, port))

    def _remove_path(self) -> None:
        # Before the socket is closed: afterwards another process may have made its own at this path already.
        if self._path:
            with contextlib.suppress(OSError):
                os.unlink(self._path)

    # --- The accept thread ------------------------------------------------------------------------

    def _run(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._socket, selectors.EVENT_READ)
            selector.register(self._wakee, selectors.EVENT_READ)
            while not self.is_closed:
                selector.select(self._until_next_is_late())
                self._end_late_strangers()
                if not self.is_closed:
                    self._accept()

    def _until_next_is_late(self) -> Optional[float]:
        with self._lock:
            return max(0.0, min(self._strangers.values()) - time.monotonic()) if self._strangers else None

    def _end_late_strangers(self) -> None:
        now = time.monotonic()
        with self._lock:
            late = [channel for channel, time_is_up in self._strangers.items() if time_is_up <= now]
            crowd = len(self._strangers) - MOST_STRANGERS
            late += list(self._strangers)[: max(0, crowd)]
            for channel in late:
                self._strangers.pop(channel, None)
        for channel in late:
            channel.shut_down()

    def _accept(self) -> None:
        try:
            channel, remote = self._accept_channel()
        except BlockingIOError:
            return
        except OSError as error:
            self._quiet.log(logging.ERROR, f"{self._name}: cannot accept a connection: {error}")
            if error.errno in _OUT_OF_DESCRIPTORS:
                time.sleep(0.05)  # the connection stays in the backlog; do not spin while nothing can be had
            return
        self._begin(channel, remote)

    def _accept_channel(self) -> Tuple[Channel, str]:
        with forks.lock:
            sock, remote = self._socket.accept()
            sock.setblocking(True)
            with contextlib.suppress(OSError):
                keep_alive(sock)
            return secure.accepted(sock, self._tls), self._path or normalize(remote[:2])

    def _begin(self, channel: Channel, remote: str) -> None:
        thread = threading.Thread(
            target=self._run_connection, args=(channel, remote), name=f"{self._name}-from-{remote}", daemon=True
        )
        with self._lock:
            self._strangers[channel] = time.monotonic() + self._patience
            self._channels.add(channel)
            self._threads.add(thread)
        try:
            thread.start()
        except RuntimeError as error:  # no more threads can be had
            self._quiet.log(logging.ERROR, f"{self._name}: cannot serve a connection: {error}")
            self._forget(channel, thread)

    def _run_connection(self, channel: Channel, remote: str) -> None:
        try:
            self._serve(channel, remote)
        except Exception:  # a stranger must not be able to end more than its own connection
            logger.exception("%s: serving %s failed", self._name, remote)
        finally:
            self._forget(channel, threading.current_thread())

    def _forget(self, channel: Channel, thread: threading.Thread) -> None:
        with self._lock:
            self._strangers.pop(channel, None)
            self._channels.discard(channel)
            self._threads.discard(thread)
        channel.close()
