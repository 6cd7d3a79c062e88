"""A resource refuses a token older than the newest it has seen, also where the late write races with the newer one."""

from __future__ import annotations

import contextlib
import pickle
import sqlite3
import sys
import threading

import pytest
from threads import PATIENCE

from raftlite import ConfigError, FencingGate, RaftliteError, SQLiteFencingGate, StaleToken

GATE = SQLiteFencingGate("orders")
NO_TOKENS = [0, -1, True, 1.0, "1", None, 2**63]


@pytest.fixture
def connect(tmp_path):
    """Open a connection to one database that has a table of rows; all are closed at the end."""
    with contextlib.ExitStack() as stack:

        def connect(**options):
            options = {"timeout": PATIENCE, "check_same_thread": False, **options}
            return stack.enter_context(contextlib.closing(sqlite3.connect(tmp_path / "orders.sqlite3", **options)))

        first = connect()
        first.execute("CREATE TABLE rows (author TEXT)")
        first.commit()
        yield connect


def rows(connection):
    return [author for (author,) in connection.execute("SELECT author FROM rows")]


def write(connection, author):
    connection.execute("INSERT INTO rows VALUES (?)", (author,))


# --- In memory -----------------------------------------------------------------------------------------------------


def test_a_gate_admits_tokens_that_do_not_fall():
    gate = FencingGate("orders")
    for token in (1, 1, 3, 3):
        with gate.admit(token):
            assert gate.newest == token


def test_a_gate_refuses_a_token_older_than_the_newest_it_has_seen():
    """The body does not run, and the sentence has both tokens."""
    gate = FencingGate("orders")
    gate.check(5)
    with pytest.raises(StaleToken, match=r"^orders refuses token 4: it has seen token 5, so another"), gate.admit(4):
        pytest.fail("a late write")
    with pytest.raises(StaleToken) as raised:
        gate.check(4)
    assert (raised.value.resource, raised.value.token, raised.value.newest) == ("orders", 4, 5)
    assert isinstance(raised.value, RaftliteError)
    assert str(pickle.loads(pickle.dumps(raised.value))) == str(raised.value)


def test_nobody_passes_a_gate_while_another_writes():
    """Else a newer token could be let through, and its write be done, before the older write is."""
    gate, order = FencingGate(), []
    begun, newer = threading.Event(), threading.Thread(target=lambda: (begun.set(), gate.check(2), order.append(2)))
    with gate.admit(1):
        newer.start()
        assert begun.wait(PATIENCE)
        newer.join(0.05)  # with a lock it cannot pass, however long this is
        order.append(1)
    newer.join(PATIENCE)
    assert order == [1, 2]


def test_a_write_that_fails_leaves_the_gate_open_to_others():
    gate = FencingGate()
    with pytest.raises(ZeroDivisionError), gate.admit(1):
        raise ZeroDivisionError
    passed = threading.Thread(target=gate.check, args=(2,))
    passed.start()
    passed.join(PATIENCE)
    assert gate.newest == 2


@pytest.mark.parametrize("token", NO_TOKENS)
def test_what_is_no_token_passes_no_gate(token, connect):
    with pytest.raises(ConfigError, match=r"^token is .*, but must be a whole number from 1"):
        FencingGate().check(token)
    with pytest.raises(ConfigError, match=r"^token is "), GATE.admit(connect(), token):
        pytest.fail("no token")


def test_a_gate_is_told_what_it_guards():
    with pytest.raises(ConfigError, match=r"^resource is ''"):
        FencingGate("")
    with pytest.raises(ConfigError, match=r"^resource is None"):
        SQLiteFencingGate(None)
    with pytest.raises(ConfigError, match=r"^table is 'x.; DROP"):
        SQLiteFencingGate("orders", table='x"; DROP TABLE rows; --')


# --- On SQLite -------------------------------------------------------------------------------------------------------


MODES = [{}, {"isolation_level": None}, {"isolation_level": "EXCLUSIVE"}]
if sys.version_info >= (3, 12):
    MODES += [{"autocommit": True}, {"autocommit": False}]


@pytest.mark.parametrize("mode", MODES, ids=str)
def test_a_write_and_its_check_are_one_transaction(connect, mode):
    """However the program has its transactions begun: committed together, rolled back together."""
    connection, other = connect(**mode), connect()
    with GATE.admit(connection, 2):
        write(connection, "new")
    assert (rows(other), GATE.newest(other)) == (["new"], 2)
    with pytest.raises(ZeroDivisionError), GATE.admit(connection, 3):
        write(connection, "failed")
        raise ZeroDivisionError
    assert (rows(other), GATE.newest(other)) == (["new"], 2)
    with pytest.raises(StaleToken, match=r"^orders refuses token 1: it has seen token 2"), GATE.admit(connection, 1):
        pytest.fail("a late write")
    with GATE.admit(connection, 2):
        write(connection, "again")
    assert rows(other) == ["new", "again"]


@pytest.mark.parametrize("mode", MODES, ids=str)
def test_a_body_that_two_gates_guard_is_one_transaction(connect, mode):
    """A second `admit` would commit what the first has begun; a `check` there does what is wanted."""
    connection, other, second = connect(**mode), connect(), SQLiteFencingGate("invoices")
    advice = r"call SQLiteFencingGate\('invoices'.*\)\.check\(\) there$"
    with pytest.raises(ConfigError, match=advice), GATE.admit(connection, 1):
        write(connection, "lost")
        with second.admit(connection, 1):
            pytest.fail("admitted")
    assert (rows(other), GATE.newest(other)) == ([], 0)
    with GATE.admit(connection, 2):
        second.check(connection, 2)
        write(connection, "new")
    assert (rows(other), second.newest(other)) == (["new"], 2)


@pytest.mark.parametrize("mode", [mode for mode in MODES if mode.get("autocommit") is not False], ids=str)
@pytest.mark.parametrize("end", ["COMMIT", "ROLLBACK"])
def test_a_body_that_ends_the_transaction_is_told_so(connect, mode, end):
    """What it writes afterwards, nothing guards. (With `autocommit=False` the next one has begun by then.)"""
    connection = connect(**mode)
    with pytest.raises(ConfigError, match="the body has ended the transaction"), GATE.admit(connection, 1):
        connection.execute(end)
    with GATE.admit(connection, 1):
        write(connection, "new")
    assert rows(connect()) == ["new"]


def test_arguments_of_admit_in_the_wrong_order_are_refused(connect):
    """Before anything is asked of them."""
    with pytest.raises(ConfigError, match=r"^token is <sqlite3.Connection"), GATE.admit(1, connect()):
        pytest.fail("admitted")


def test_the_check_is_part_of_the_transaction_of_the_program(connect):
    """It opens it as an INSERT would; `with connection` commits it or rolls it back."""
    connection, other = connect(), connect()
    with connection:
        GATE.check(connection, 2)
        write(connection, "new")
        assert GATE.newest(other) == 0
    assert (rows(other), GATE.newest(other)) == (["new"], 2)
    with pytest.raises(StaleToken), other:
        write(other, "late")  # before the check: it is rolled back
        GATE.check(other, 1)
    assert rows(connection) == ["new"]


@pytest.mark.parametrize("mode", [mode for mode in MODES if None in mode.values() or True in mode.values()], ids=str)
def test_a_check_alone_is_refused_where_each_statement_commits_by_itself(connect, mode):
    """The write after it would be another transaction, and might be late."""
    connection = connect(**mode)
    with pytest.raises(ConfigError, match="execute BEGIN IMMEDIATE before check"):
        GATE.check(connection, 1)
    assert GATE.newest(connection) == 0
    connection.execute("BEGIN")
    GATE.check(connection, 1)
    connection.execute("COMMIT")
    assert GATE.newest(connection) == 1


def test_a_late_write_is_refused_also_where_it_races_with_the_newer_one(connect):
    """The older one waits while the newer transaction is open, and is compared with what that has left."""
    newer, older, refused, begun = connect(), connect(), [], threading.Event()
    # SQLite says so when it begins with a statement; this one cannot end before the newer transaction has.
    older.set_trace_callback(lambda statement: begun.set() if statement.startswith("BEGIN") else None)

    def write_late():
        try:
            with GATE.admit(older, 1):
                write(older, "late")
        except StaleToken as error:
            refused.append(error.newest)

    with GATE.admit(newer, 2):
        thread = threading.Thread(target=write_late)
        thread.start()
        assert begun.wait(PATIENCE), "nothing is asked of the database"
        write(newer, "new")
    thread.join(PATIENCE)
    assert refused == [2]
    assert rows(newer) == ["new"]


def test_nothing_is_compared_while_another_transaction_writes(connect):
    """An older token that was let through then would be late before it is written."""
    newer, older = connect(), connect(timeout=0)  # which says that it would have to wait
    with GATE.admit(newer, 2):
        with pytest.raises(sqlite3.OperationalError, match="locked"), GATE.admit(older, 1):
            pytest.fail("admitted beside a newer one")
        write(newer, "new")
    assert rows(newer) == ["new"]


def test_writes_of_many_leaders_never_fall_back_to_an_older_token(connect):
    """Four threads, each with tokens of its own: the rows have them in order, whoever was refused."""
    database = connect()
    database.execute("CREATE TABLE history (number INTEGER PRIMARY KEY, token INTEGER)")
    start = threading.Barrier(4)

    def lead(connection, tokens):
        start.wait(PATIENCE)
        for token in tokens:
            with contextlib.suppress(StaleToken), GATE.admit(connection, token):
                connection.execute("INSERT INTO history (token) VALUES (?)", (token,))

    threads = [threading.Thread(target=lead, args=(connect(), range(first, 41, 4))) for first in (1, 2, 3, 4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    written = [token for (token,) in database.execute("SELECT token FROM history ORDER BY number")]
    assert written == sorted(written)
    assert written[-1] == 40


def test_each_resource_has_a_token_of_its_own_and_each_table_too(connect):
    connection = connect()
    for gate in (GATE, SQLiteFencingGate("invoices"), SQLiteFencingGate("orders", table="fences")):
        assert gate.newest(connection) == 0
        with gate.admit(connection, 1):
            pass
        with gate.admit(connection, 9):
            pass
    assert connection.execute("SELECT resource, token FROM fences").fetchall() == [("orders", 9)]
    assert sorted(connection.execute("SELECT * FROM raftlite_fencing")) == [("invoices", 9), ("orders", 9)]


def test_a_gate_does_not_care_what_the_program_makes_of_rows(connect):
    connection = connect()
    connection.row_factory = lambda cursor, row: {"a": "dictionary"}
    with GATE.admit(connection, 2):
        pass
    assert GATE.newest(connection) == 2
    with pytest.raises(StaleToken), GATE.admit(connection, 1):
        pass
