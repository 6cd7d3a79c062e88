"""A resource that refuses a token older than the newest it has seen: what a lease cannot promise, it can.

A leader may be suspended for an hour between its last look at `is_leader` and the write that follows. Nobody but the
resource it writes to can tell that somebody else has led since. So hand `leadership.token` to the resource, and let the
resource compare it and write in one step:

    FencingGate         in the memory of the one process that owns the resource; compares and writes under a lock
    SQLiteFencingGate   in a table of a SQLite database; compares and writes in one transaction

Tokens are the terms of one cluster, which only grow as long as its members keep their votes (`data_dir`). A cluster
that begins anew counts from 1 again; a gate that has seen more refuses it until its row is deleted.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from typing import Any, Iterator, Set

from raftlite.errors import ConfigError, StaleToken

LARGEST_TOKEN = 2**63 - 1  # what a column of a database holds


class FencingGate:
    """Guards one resource of this process; `resource` is what it is called when it refuses.

        gate = FencingGate("orders")
        with gate.admit(leadership.token):      # StaleToken, where a newer token was let through
            orders.append(order)

    It forgets with the process: what outlives that, a file or a database, needs a gate that does so too.
    """

    def __init__(self, resource: str = "the resource") -> None:
        self.resource = _check_resource(resource)
        self._newest = 0
        self._lock = threading.RLock()

    @property
    def newest(self) -> int:
        """The newest token that was let through; 0 before the first."""
        return self._newest

    @contextlib.contextmanager
    def admit(self, token: int) -> Iterator[None]:
        """Let the body write if no newer token was let through; until its end nobody else is.

        Raises `StaleToken` instead of running the body, `ConfigError` for what is no token.
        """
        with self._lock:
            self.check(token)
            yield

    def check(self, token: int) -> None:
        """Raise `StaleToken` where a newer token was let through. For a resource that takes one write after the other:
        a write after this call may be late already, one in the body of `admit` may not."""
        _check_token(token)
        with self._lock:
            if token < self._newest:
                raise StaleToken(self.resource, token, self._newest)
            self._newest = token

    def __repr__(self) -> str:
        return f"FencingGate({self.resource!r}, newest={self._newest})"


_in_a_body: Set[int] = set()  # the connections, by their id(), that an `admit` is using


class SQLiteFencingGate:
    """Guards what is in a SQLite database, together with every process that writes to it through a gate of this name.

        gate = SQLiteFencingGate("orders")
        with gate.admit(connection, leadership.token):      # the comparison and the body are one transaction
            connection.execute("INSERT INTO orders VALUES (?)", [order])

    The newest token is a row of `table`, which is made where it is not there; `resource` is its key. The database is
    the caller's, and so is the connection that each call is given: the gate may serve any number of them.
    """

    def __init__(self, resource: str, *, table: str = "raftlite_fencing") -> None:
        self.resource = _check_resource(resource)
        if not isinstance(table, str) or not table.isidentifier():
            raise ConfigError(f"table is {table!r}, but must be the name of a table: letters, digits and underscores")
        self.table = table

    @contextlib.contextmanager
    def admit(self, connection: sqlite3.Connection, token: int) -> Iterator[sqlite3.Connection]:
        """Run the body in a transaction that begins with `check` and is committed at the end of the body.

        Where one is open already, as after an `INSERT` with sqlite3's defaults, what was written in it before belongs
        to it, too: it is committed or rolled back with the body. sqlite3's own `OperationalError` comes where the
        database stays locked for longer than the connection's timeout.

        The body itself neither commits nor rolls back; a second gate that guards it is `check`ed there. An exception
        rolls it back and passes through. Raises as `check` does, and `ConfigError` for a body that has done otherwise.
        """
        _check_token(token)
        if id(connection) in _in_a_body:
            raise ConfigError(f"admit() would end the transaction of the one around it: call {self}.check() there")
        began_here = not connection.in_transaction
        if began_here:
            connection.execute("BEGIN IMMEDIATE")
        _in_a_body.add(id(connection))
        try:
            self.check(connection, token)
            yield connection
            _end(connection, "COMMIT", began_here)
        except BaseException:  # whatever the body raises, nothing of it is written
            if connection.in_transaction:
                _end(connection, "ROLLBACK", began_here)
            raise
        finally:
            _in_a_body.discard(id(connection))

    def check(self, connection: sqlite3.Connection, token: int) -> None:
        """Raise `StaleToken` where a newer token was let through; else nobody writes before this transaction has ended.

        It belongs at the beginning of the very transaction that writes, and opens it as an `INSERT` would. Where the
        connection commits each statement by itself, that takes a `BEGIN`, else `ConfigError` is raised.
        """
        _check_token(token)
        _begin(connection)
        cursor = connection.cursor()
        cursor.row_factory = None  # whatever the program wants its own rows to be
        cursor.execute(f'CREATE TABLE IF NOT EXISTS "{self.table}" (resource TEXT PRIMARY KEY, token INTEGER NOT NULL)')
        # One statement that compares and writes: it takes the lock first, so no other token comes in between.
        cursor.execute(
            f'INSERT INTO "{self.table}" VALUES (?, ?) '
            "ON CONFLICT (resource) DO UPDATE SET token = excluded.token WHERE token <= excluded.token",
            (self.resource, token),
        )
        if cursor.rowcount == 0:
            raise StaleToken(self.resource, token, self._read(cursor))

    def newest(self, connection: sqlite3.Connection) -> int:
        """The newest token that was let through; 0 before the first."""
        cursor = connection.cursor()
        cursor.row_factory = None
        cursor.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?", (self.table,))
        return self._read(cursor) if cursor.fetchone() else 0

    def _read(self, cursor: sqlite3.Cursor) -> int:
        cursor.execute(f'SELECT token FROM "{self.table}" WHERE resource = ?', (self.resource,))
        row = cursor.fetchone()
        return int(row[0]) if row else 0

    def __repr__(self) -> str:
        return f"SQLiteFencingGate({self.resource!r}, table={self.table!r})"


def _begin(connection: sqlite3.Connection) -> None:
    if connection.in_transaction:
        return
    mode = getattr(connection, "autocommit", None)  # True, False or, before Python 3.12 and by default, neither
    if mode is True or (mode is not False and connection.isolation_level is None):
        raise ConfigError(
            "the connection commits each statement by itself, so the write could be late although its token was not: "
            "execute BEGIN IMMEDIATE before check(), or use admit()"
        )
    connection.execute("BEGIN IMMEDIATE")


def _end(connection: sqlite3.Connection, how: str, began_here: bool) -> None:
    """In the way in which the transaction was begun: `commit` does nothing where each statement commits by itself."""
    if not connection.in_transaction:
        raise ConfigError("the body has ended the transaction, so a write may be late: leave that to admit()")
    if began_here:
        connection.execute(how)
    elif how == "COMMIT":
        connection.commit()
    else:
        connection.rollback()


def _check_resource(resource: Any) -> str:
    if not isinstance(resource, str) or not resource:
        raise ConfigError(f"resource is {resource!r}, but must be the name of what the gate guards")
    return resource


def _check_token(token: Any) -> None:
    if type(token) is not int or not 1 <= token <= LARGEST_TOKEN:
        raise ConfigError(f"token is {token!r}, but must be a whole number from 1, such as leadership.token")
