"""Term, vote and membership survive a restart: a vote is on stable storage before it is on the wire."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import json
import os
import secrets
import sqlite3
import threading
import weakref
import zlib
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, Iterator, Optional, Set, Tuple, Union
from urllib.parse import quote

from raftlite.codec import membership_from_plain, membership_to_plain
from raftlite.election import Saved
from raftlite.errors import MalformedMessage, StorageError, StorageInUse
from raftlite.membership import check_node_id

APPLICATION_ID = 0x72616674  # "raft": tells our files from other SQLite databases
FORMAT_VERSION = 1
LONGEST_NAME = 255 - len(".01234567.new-journal")  # what a folder takes, and what a draft appends
SMALLEST_FILE = 512  # bytes: SQLite takes what is shorter than a page for a new database
SAVES_AHEAD = 64
# A process locks even to read: of several that open the file at once, none could go on if each had begun to read it.
ALONE_FROM_THE_START = "&vfs=unix-excl" if os.name == "posix" else ""


class Storage(ABC):
    """Where one member keeps what it must not forget. Only the election thread saves."""

    is_durable = False  # whether what it saves outlives the process: then a member that has no votes has never voted

    @abstractmethod
    def load(self) -> Saved:
        """Return what was saved last, or `Saved()` if nothing ever was. Raises `StorageError` rather than guess."""

    @abstractmethod
    def save(self, saved: Saved) -> None:
        """Replace what was saved, in one atomic step, durable on return. Raises `StorageError`: the member stops."""

    def close(self) -> None:
        """Let others open the storage."""

    def abandon_after_fork(self) -> None:
        """Called in a forked child, whose copy must neither be used nor closed as the parent's is."""


def file_name(node_id: str) -> str:
    """What a member's file is called: its id, of which only the beginning and a hash if that is too long for a name."""
    name = f"{quote(node_id, safe='')}.sqlite3"
    if len(name) <= LONGEST_NAME:
        return name
    digest = hashlib.sha256(node_id.encode()).hexdigest()
    return f"{quote(node_id[:10], safe='')}+{digest}.sqlite3"  # quoting leaves no other id a "+"


class MemoryStorage(Storage):
    """For threads of one process: outlives the `ElectionThread`, not the process.

    A member whose votes are lost with its process abstains for two election timeouts after its start, if its cluster
    has had a leader, so safety rests on timing there. Use `SQLiteStorage` wherever a process may be restarted.
    """

    def __init__(self) -> None:
        self._saved = Saved()

    def load(self) -> Saved:
        return self._saved

    def save(self, saved: Saved) -> None:
        self._saved = saved


class SQLiteStorage(Storage):
    """One row in the SQLite file `path`, which is created if it is not there and locked until `close`.

    Raises `StorageInUse` where another process has the file open, and `StorageError` where it is damaged or no file of
    raftlite's. Such a file is never taken for an empty one: the member would vote twice. Remove the member from the
    cluster and add it under a new id instead.
    """

    is_durable = True

    def __init__(self, path: Union[str, os.PathLike[str]]) -> None:
        self.path = Path(path).absolute()
        self._broken: Optional[str] = None
        self._database: Optional[sqlite3.Connection] = None
        self._is_saving = False
        self._lock = threading.Lock()  # for these two, never held while the disk works
        _open_storages.add(self)
        with _opening, self._translated("cannot open"):
            if not os.path.lexists(self.path):
                _create(self.path)
            self._database = _open(self.path)
        try:
            self._saved = self._read()
            _remove_drafts(self.path)
            with self._translated("cannot save to"):
                _grow_log(self._database, self._saved)
        except BaseException:  # whatever it was, the file is not kept locked
            self.close()
            raise

    def load(self) -> Saved:
        return self._saved

    def save(self, saved: Saved) -> None:
        if self._broken:
            raise StorageError(f"{self.path} failed before, so it is not written again: {self._broken}")
        with self._saving() as database, self._translated("cannot save to"):
            _write(database, saved)
        self._saved = saved

    def close(self) -> None:
        """Let others open it; while a save is under way, at the end of that."""
        with self._lock:
            database, self._database = self._database, None
            is_saving = self._is_saving
        if database is not None and not is_saving:
            _close(database)

    @contextlib.contextmanager
    def _saving(self) -> Iterator[sqlite3.Connection]:
        """SQLite crashes the process where a connection is closed that another thread works with."""
        with self._lock:
            database = self._database
            if database is None:
                raise StorageError(f"{self.path} is closed")
            self._is_saving = True
        try:
            yield database
        finally:
            with self._lock:
                self._is_saving = False
                was_closed = self._database is None
            if was_closed:
                _close(database)

    def abandon_after_fork(self) -> None:
        # Closing the copy would fold the log into the file and delete it under the parent, whose next votes would
        # then go to a deleted file. So the copy is never closed, not even by the interpreter at its end.
        import ctypes

        self._lock, self._is_saving = threading.Lock(), False  # another thread may have held the old one
        if self._database is not None:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._database))
            self._database = None
            _open_in_the_parent.add(self.path)

    def _read(self) -> Saved:
        assert self._database is not None
        with self._translated("cannot read"):
            damage = self._database.execute("PRAGMA quick_check(1)").fetchone()[0]
            if damage != "ok":
                raise StorageError(f"{self.path} is damaged: {damage}")
            rows = self._database.execute("SELECT content, checksum FROM saved").fetchall()
        if len(rows) != 1:
            raise StorageError(f"{self.path} is damaged: it holds {len(rows)} rows instead of one")
        return _from_row(self.path, rows[0])

    @contextlib.contextmanager
    def _translated(self, what: str) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, UnicodeError) as error:  # the latter where an error's own text is damaged
            self._broken = str(error)
            if "locked" in str(error):
                raise StorageInUse(f"{what} {self.path}: {self._who_has_it()}") from error
            why_not = _why_not_writable(self.path)
            if why_not:
                raise StorageError(f"{what} {self.path}: {why_not}") from error
            raise StorageError(f"{what} {self.path}: {error}") from error
        except StorageError:
            raise
        except OSError as error:
            raise StorageError(f"{what} {self.path}: {error.strerror or error}") from error

    def _who_has_it(self) -> str:
        if self.path in _open_in_the_parent:  # whose locks SQLite takes for its own, as long as this process lives
            return "this process was forked from one that had it open; start the member after the fork"
        return "another process or member has it open"


def _close(database: sqlite3.Connection) -> None:
    with contextlib.suppress(sqlite3.Error):  # everything that was saved is durable already
        database.close()


def _create(path: Path) -> None:
    """Make a complete file under another name, then give it its own: an empty file can only be a damaged one."""
    log = Path(f"{path}-wal")
    if log.exists() and not path.exists():  # in this order, because another process may be creating both
        raise StorageError(f"{path} is missing, but its log {log.name} is there: it was deleted or half copied")
    draft = Path(f"{path}.{secrets.token_hex(4)}.new")
    try:
        database = sqlite3.connect(draft, isolation_level=None)
        try:
            database.execute("PRAGMA synchronous=FULL")
            database.execute(f"PRAGMA application_id={APPLICATION_ID}")
            database.execute(f"PRAGMA user_version={FORMAT_VERSION}")
            database.execute(
                "CREATE TABLE saved (id INTEGER PRIMARY KEY CHECK (id=1), content TEXT NOT NULL, checksum INT NOT NULL)"
            )
            _write(database, Saved())
        finally:
            database.close()
        os.link(draft, path)
        _sync_directory(path.parent)
    except (sqlite3.Error, OSError):
        if not path.exists():  # else another process was faster, and has removed the draft: its lock will decide
            raise
    finally:
        with contextlib.suppress(FileNotFoundError):
            draft.unlink()


def _remove_drafts(path: Path) -> None:
    """Remove what a process that was killed while creating the file left behind."""
    for draft in path.parent.glob(f"{glob.escape(path.name)}.*.new*"):
        with contextlib.suppress(OSError):
            draft.unlink()


def _open(path: Path) -> sqlite3.Connection:
    size = path.stat().st_size
    if size < SMALLEST_FILE:
        raise StorageError(f"{path} is damaged: it is {'too short' if size else 'empty'}")
    where = f"{path.as_uri()}?mode=rw{ALONE_FROM_THE_START}"
    database = sqlite3.connect(where, uri=True, isolation_level=None, check_same_thread=False, timeout=0)
    try:
        database.execute("PRAGMA locking_mode=EXCLUSIVE")
        database.execute("BEGIN EXCLUSIVE")  # takes the lock, which this mode then keeps
        database.execute("COMMIT")
        _check_origin(path, database)  # before anything is changed in it
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("PRAGMA synchronous=FULL")
    except BaseException:  # whatever it was, the file is not kept locked
        database.close()
        raise
    return database


def _grow_log(database: sqlite3.Connection, saved: Saved) -> None:
    """Give the log the length of many elections now: a save takes a third longer where the file has to grow."""
    database.execute("PRAGMA synchronous=OFF")  # what is written is what was there
    for _ in range(SAVES_AHEAD):
        _write(database, saved)
    database.execute("PRAGMA synchronous=FULL")
    database.execute("PRAGMA wal_checkpoint(RESTART)")  # the next save begins at the beginning of the log


def _check_origin(path: Path, database: sqlite3.Connection) -> None:
    if database.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
        raise StorageError(f"{path} is a database of another program")
    version = database.execute("PRAGMA user_version").fetchone()[0]
    if version != FORMAT_VERSION:
        raise StorageError(f"{path} has format {version}, but this raftlite reads format {FORMAT_VERSION}")


def _write(database: sqlite3.Connection, saved: Saved) -> None:
    database.execute("REPLACE INTO saved VALUES (1, ?, ?)", _to_row(saved))


def _to_row(saved: Saved) -> Tuple[str, int]:
    membership = None if saved.membership is None else membership_to_plain(saved.membership)
    content = json.dumps({"current_term": saved.current_term, "voted_for": saved.voted_for, "membership": membership})
    return content, zlib.crc32(content.encode())


def _from_row(path: Path, row: Tuple[Any, Any]) -> Saved:
    content, checksum = row
    if not isinstance(content, str) or zlib.crc32(content.encode()) != checksum:
        raise StorageError(f"{path} is damaged: the checksum of the saved vote does not fit")
    try:
        plain = json.loads(content)
        membership = None if plain["membership"] is None else membership_from_plain(plain["membership"])
        return _checked(Saved(plain["current_term"], plain["voted_for"], membership))
    except (ValueError, KeyError, TypeError, MalformedMessage) as error:
        raise StorageError(f"{path} is damaged: {error}") from None


def _checked(saved: Saved) -> Saved:
    if type(saved.current_term) is not int or saved.current_term < 0:
        raise ValueError(f"the term is {saved.current_term!r}")
    if saved.voted_for is not None:
        check_node_id(saved.voted_for)
    return saved


def _why_not_writable(path: Path) -> str:
    """What SQLite, which only says that it cannot open a file, leaves out; empty if this user may write there."""
    if not path.parent.is_dir():
        return f"there is no folder {path.parent}"
    if not _may(path.parent, os.W_OK | os.X_OK):
        return f"the folder {path.parent} is not writable by this user"
    if path.exists() and not _may(path, os.R_OK | os.W_OK):
        return "the file is not writable by this user"
    return ""


def _may(path: Path, mode: int) -> bool:
    return os.access(path, mode, effective_ids=os.access in os.supports_effective_ids)


def _sync_directory(directory: Path) -> None:
    if os.name == "posix":
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


_opening = threading.Lock()  # as between processes, so between threads
_open_storages: weakref.WeakSet[SQLiteStorage] = weakref.WeakSet()
_open_in_the_parent: Set[Path] = set()  # when this process was forked


def _load_ctypes_before_fork() -> None:
    if _open_storages:
        import ctypes  # noqa: F401  # a child must not wait for a thread that imported it and is not there any more


def _abandon_copies_after_fork() -> None:
    global _opening
    _opening = threading.Lock()  # whoever held it is not in the child
    for storage in list(_open_storages):
        storage.abandon_after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_load_ctypes_before_fork, after_in_child=_abandon_copies_after_fork)
