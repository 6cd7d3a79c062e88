"""What the program's process and the election process of an isolated member say to each other: JSON, never a pickle."""

from __future__ import annotations

import builtins
import contextlib
import json
import socket
import struct
from multiprocessing.connection import Connection
from typing import Any, Dict, Iterator, Tuple

from raftlite import errors
from raftlite.codec import membership_from_plain, membership_to_plain
from raftlite.election import Role, Saved
from raftlite.nodes import forks
from raftlite.status import Status

_PATIENCE = struct.pack("ll", 1, 0)  # seconds and microseconds that a write may wait for a reader

Content = Dict[str, Any]


class Line:
    """One end: sends and receives JSON objects. One thread at a time may send, and one receive."""

    def __init__(self, fd: int) -> None:
        self._connection = Connection(fd)

    @classmethod
    def pair(cls) -> Tuple[Line, socket.socket]:
        """This process's end, and the socket for the other's."""
        ours, theirs = socket.socketpair()
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _PATIENCE)
        return cls(ours.detach()), theirs

    def send(self, content: Content) -> None:
        """Raises `OSError`, also where the other side has not read for a long time."""
        self._connection.send_bytes(json.dumps(content).encode("ascii"))

    def receive(self) -> Content:
        """Wait for what the other side says. Raises `EOFError` or `OSError` when it has closed its end."""
        content: Content = json.loads(self._connection.recv_bytes())
        return content

    def __iter__(self) -> Iterator[Content]:
        with contextlib.suppress(EOFError, OSError):
            while True:
                yield self.receive()

    def fileno(self) -> int:
        return self._connection.fileno()

    def close(self) -> None:
        with forks.lock, contextlib.suppress(OSError):
            self._connection.close()


# --- Values <-> JSON data -------------------------------------------------------------------------


def error_to_plain(error: BaseException) -> Content:
    plain: Content = {"kind": type(error).__name__, "args": [str(error)]}
    if isinstance(error, OSError) and error.errno is not None:
        plain["args"] = [error.errno, error.strerror] + ([str(error.filename)] if error.filename else [])
    return plain


def error_from_plain(plain: Content) -> Exception:
    """An error of the same type and text."""
    for place in (errors, builtins, socket):
        kind = getattr(place, plain["kind"], None)
        if isinstance(kind, type) and issubclass(kind, Exception):
            with contextlib.suppress(TypeError):  # some are made of other things than a text
                return kind(*plain["args"])
    return RuntimeError(f"{plain['kind']}: {plain['args'][0]}")


def saved_to_plain(saved: Saved) -> Content:
    membership = None if saved.membership is None else membership_to_plain(saved.membership)
    return {"term": saved.current_term, "voted_for": saved.voted_for, "membership": membership}


def saved_from_plain(plain: Content) -> Saved:
    membership = None if plain["membership"] is None else membership_from_plain(plain["membership"])
    return Saved(plain["term"], plain["voted_for"], membership)


def status_to_plain(status: Status) -> Content:
    plain = status.to_plain()
    return {**plain, "min_nodes": status.min_nodes, "answers": status.answers, "refusals": status.refusals}


def status_from_plain(plain: Content) -> Status:
    return Status(
        node_id=plain["node"],
        role=Role(plain["role"]),
        current_term=plain["term"],
        leader_id=plain["leader"],
        membership=membership_from_plain(plain["membership"]),
        min_nodes=plain["min_nodes"],
        answers=tuple(plain["answers"]),
        refusals=tuple((node_id, reason) for node_id, reason in plain["refusals"]),
        why=plain["why"],
        error=plain["error"],
        lease_remaining=plain["lease_remaining"],
        leader_heard_ago=plain["leader_heard_ago"],
        unreachable=tuple(plain["unreachable"].items()),
        witnesses=tuple(plain["witnesses"]),
    )
