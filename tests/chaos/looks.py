"""What a member saw of its own `is_leader`, in memory that it shares with the runner: a `kill -9` loses none of it.

    [looks, last look, last look that was true, leader's number] [token, first, last] [token, first, last] ...

All are eight-byte floats at aligned places, each written by one store. No file is written, so a full disk does not
matter either.
"""

from __future__ import annotations

import mmap
import struct
from typing import Any, List, NamedTuple

from raftlite.clock import boot_clock

MOST_GRANTS = 4_000  # of one process
_NUMBER = struct.Struct("d")
_HEADER = ("looks", "looked_at", "true_at", "leader")
_SIZE = _NUMBER.size * (len(_HEADER) + 3 * MOST_GRANTS)


class Grant(NamedTuple):
    """`first` is the moment after the first look that found it true, `last` the one before the last such look."""

    token: int
    first: float
    last: float


def token_of(member: Any) -> int:
    """The token of the grant that it holds, or else its term: no grant that comes later has a lower token.

    It is no public statement of the member's, only the name for one; whether it leads, `is_leader` alone says. While it
    steps down, its term may for a moment be a successor's, and `is_leader` true on a lease that holds.
    """
    thread = member._thread
    term, grant = thread.current_term, thread._leadership  # in this order, for what the first line says
    return int(term if grant is None else grant.token)


class Looks:
    """The table in the file `path`. One process writes, any other reads at the same time."""

    def __init__(self, path: str, create: bool = False) -> None:
        with open(path, "w+b" if create else "r+b") as file:
            if create:
                file.truncate(_SIZE)
            self._table = mmap.mmap(file.fileno(), _SIZE)
        self._grants = 0

    def close(self) -> None:
        self._table.close()

    # --- The member -------------------------------------------------------------------------------

    def look_at(self, member: Any) -> bool:
        """Ask `is_leader`, and note that it was true, whatever has become of the lease. Takes a few microseconds."""
        token, asked_at = token_of(member), boot_clock()
        leads = bool(member.is_leader)
        answered_at = boot_clock()
        if leads and token_of(member) == token:
            self.note_true(token, asked_at, answered_at)
        return leads

    def note_look(self, at: float, leader: int) -> None:
        """It has looked at this moment, and knows the leader of this number; 0 is none."""
        self._set(3, leader)
        self._set(1, at)
        self._set(0, self.looks + 1)

    def note_true(self, token: int, asked_at: float, answered_at: float) -> None:
        """`is_leader` was true at some moment between these two."""
        place = self._place(self._grants - 1)
        if not self._grants or self._get(place) != token:
            assert self._grants < MOST_GRANTS
            place = self._place(self._grants)
            self._set(place + 1, answered_at)
            self._set(place, token)
            self._grants += 1
        self._set(place + 2, asked_at)
        self._set(2, asked_at)

    # --- The runner -------------------------------------------------------------------------------

    @property
    def looks(self) -> int:
        return int(self._get(0))

    @property
    def looked_at(self) -> float:
        return self._get(1)

    @property
    def true_at(self) -> float:
        """When it was asked last with the answer true; 0.0 if never."""
        return self._get(2)

    @property
    def leader(self) -> int:
        """The number of the leader that it knew at the last look; 0 is none."""
        return int(self._get(3))

    def grants(self) -> List[Grant]:
        """Between which moments it is known to have led, with which tokens."""
        found = []
        for number in range(MOST_GRANTS):
            token, first, last = (self._get(self._place(number) + i) for i in range(3))
            if not token:
                break
            found.append(Grant(int(token), first, last))
        return found

    def _place(self, grant: int) -> int:
        return len(_HEADER) + 3 * grant

    def _get(self, place: int) -> float:
        return float(_NUMBER.unpack_from(self._table, _NUMBER.size * place)[0])

    def _set(self, place: int, number: float) -> None:
        _NUMBER.pack_into(self._table, _NUMBER.size * place, number)
