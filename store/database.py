"""Engines, sessions and the clock, the same on SQLite and PostgreSQL.

Invariant: a session that writes holds SQLite's write lock from its first statement (BEGIN IMMEDIATE), so that it waits
for its turn instead of failing with "database is locked" half-way; a session that reads sees one snapshot and cannot
write.
"""

import contextlib
import functools
import json
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from pydantic_core import PydanticSerializationError, from_json, to_json
from sqlalchemy import Connection, Double, Engine, create_engine, event, make_url, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import Session, sessionmaker
from sqlalchemy.pool import ConnectionPoolEntry
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from store.columns import Table, core

# A writer holds the lock for milliseconds; a queue of writers on a slow disk for seconds, not for half a minute.
SQLITE_BUSY_SECONDS = 30
_SOON_SECONDS = 0.02
_LOOK_AGAIN_SECONDS = 0.0003
# A host that drops packets would hold /readyz, and every thread that asks, for minutes.
POSTGRESQL_CONNECT_SECONDS = 5
# A process that freezes in mid-transaction would keep its row locked, and the reaper passes over locked rows.
POSTGRESQL_SILENCE_SECONDS = 30
# Most connections rest most of the time, and what lies between forgets who is silent for minutes: whoever gets such a
# connection would wait for all of POSTGRESQL_SILENCE_SECONDS.
POSTGRESQL_KEEPALIVE_SECONDS = 60
# One statement takes milliseconds; one that takes this long meets a database that stands, and can be repeated.
POSTGRESQL_STATEMENT_SECONDS = 30
# A migration holds its tables for longer than anybody should wait with a connection in hand.
POSTGRESQL_LOCK_SECONDS = 10
# What the log of writes may keep of the disk once everything in it is in the database file.
SQLITE_LOG_BYTES = 64 << 20
# A process; PostgreSQL's own limit is 100 for all of them, unless it is raised.
CONNECTIONS = 16


Asks = Session | Connection
"""What executes statements over tables; those over entities need a session."""


class clock(FunctionElement[float]):
    """Now by the database's clock, as UTC epoch seconds; the only clock the store knows."""

    type = Double()
    name = "clock"
    inherit_cache = True


@compiles(clock, "postgresql")
def _clock_postgresql(_element: clock, _compiler: SQLCompiler, **_options: Any) -> str:
    # clock_timestamp(), not now(): a transaction that waited for a lock must not act on the time before the wait.
    return "CAST(extract(epoch FROM clock_timestamp()) AS double precision)"


@compiles(clock, "sqlite")
def _clock_sqlite(_element: clock, _compiler: SQLCompiler, **_options: Any) -> str:
    return "((julianday('now') - 2440587.5) * 86400.0)"


class Database:
    """One database and its two kinds of session: `write()` commits on success, `read()` never changes anything.

    Nothing waits for ever: on PostgreSQL a statement, and the wait for a lock in it, have limits of their own; on
    SQLite the wait for the one lock that writers have.
    """

    def __init__(self, url: str, *, connections: int = CONNECTIONS) -> None:
        self.engine = create_engine_for(url, connections=connections, is_patient=False)
        self.reading_engine = self._engine_that_reads(connections)
        self._writing = sessionmaker(self.engine, expire_on_commit=False)
        self._reading = sessionmaker(self.reading_engine, expire_on_commit=False)

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A transaction that commits when the block ends well, and is rolled back whole when it does not."""
        with self._writing() as session, session.begin():
            yield session

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A snapshot to read from. Rows stay readable after the block; changes to them go nowhere."""
        with self._reading() as session:
            yield session

    @contextmanager
    def look(self) -> Iterator[Connection]:
        """The same for statements over tables, which have no use for a session: it costs as much as they do."""
        with self.reading_engine.connect() as connection:
            yield connection

    def dispose(self) -> None:
        """Close the pooled connections, those that somebody has as soon as they are given back."""
        for engine in (self.engine, self.reading_engine):
            pool = engine.pool
            engine.dispose()
            event.listen(pool, "checkin", _close_for_good)
            # What was given back between the two.
            pool.dispose()

    def _engine_that_reads(self, connections: int) -> Engine:
        if self.engine.dialect.name == "sqlite":
            # Connections of its own: to forbid and allow writing on one makes SQLite compile all its statements anew.
            return _sqlite_engine(self.engine.url, connections, reads=True)
        return self.engine.execution_options(postgresql_readonly=True, isolation_level="REPEATABLE READ")


def create_engine_for(url: str, *, connections: int = CONNECTIONS, is_patient: bool = True) -> Engine:
    """An engine for `sqlite:///path` or `postgresql://...` (psycopg 3), with at most so many connections at once.

    A patient one lets a statement take its time, as a migration of large tables needs it.
    """
    address = address_of(url)
    if address.get_backend_name() == "sqlite":
        return _sqlite_engine(address, connections, reads=False)
    arguments = _postgresql_options(is_patient)
    return create_engine(address, pool_pre_ping=True, connect_args=arguments, **_options(connections))


def address_of(url: str) -> URL:
    """The URL with the driver that is used for it. Raises ValueError, and shows nothing of it, for one of no use."""
    with contextlib.suppress(ArgumentError):
        address = make_url(url)
        if address.get_backend_name() == "postgresql":
            return address.set(drivername="postgresql+psycopg")
        if address.get_backend_name() == "sqlite" and address.database not in (None, "", ":memory:"):
            return address
    raise ValueError("the database is sqlite:///<file> or postgresql://<user>:<password>@<host>/<name>")


def kind_of(asks: Asks) -> str:
    """sqlite or postgresql."""
    return (asks if isinstance(asks, Connection) else asks.get_bind()).dialect.name


def now(session: Session) -> float:
    """The database's clock, to compare stored times with."""
    return session.execute(select(clock())).scalar_one()


def insert_if_absent(session: Session, table: type[Table], values: Mapping[str, Any]) -> bool:
    """Insert a row unless a unique key is taken; waits for whoever is inserting the same key. True if it is ours."""
    mine = core(table)
    kind = postgresql.insert if kind_of(session) == "postgresql" else sqlite.insert
    statement = kind(mine).values(**values).on_conflict_do_nothing().returning(*mine.primary_key)
    return session.execute(statement).first() is not None


def _close_for_good(connection: Any, record: ConnectionPoolEntry) -> None:
    if connection is not None:
        record.invalidate()


def _options(connections: int) -> dict[str, Any]:
    json_by = {"json_serializer": _write_json, "json_deserializer": _read_json}
    return {"pool_size": connections, "max_overflow": 0, "pool_use_lifo": True, **json_by}


def _write_json(value: Any) -> str:
    try:
        return to_json(value, inf_nan_mode="constants").decode()
    except PydanticSerializationError:
        # Slower, and has nothing against half a surrogate pair.
        return json.dumps(value)


def _read_json(text: str | bytes) -> Any:
    try:
        return from_json(text)
    except ValueError:
        # Slower, and has no limit of depth and nothing against half a surrogate pair.
        return json.loads(text)


def _sqlite_engine(address: URL, connections: int, *, reads: bool) -> Engine:
    engine = create_engine(address, connect_args={"timeout": SQLITE_BUSY_SECONDS}, **_options(connections))
    event.listen(engine, "connect", functools.partial(_prepare_sqlite, reads))
    event.listen(engine, "begin", _begin_reading if reads else _begin_writing)
    return engine


def _postgresql_options(is_patient: bool) -> dict[str, Any]:
    options = {"idle_in_transaction_session_timeout": f"{POSTGRESQL_SILENCE_SECONDS}s"}
    if not is_patient:
        options["statement_timeout"] = f"{POSTGRESQL_STATEMENT_SECONDS}s"
        options["lock_timeout"] = f"{POSTGRESQL_LOCK_SECONDS}s"
    return {
        "client_encoding": "utf8",
        "connect_timeout": POSTGRESQL_CONNECT_SECONDS,
        "options": " ".join(f"-c {name}={value}" for name, value in options.items()),
        "tcp_user_timeout": POSTGRESQL_SILENCE_SECONDS * 1000,
        "keepalives_idle": POSTGRESQL_KEEPALIVE_SECONDS,
    }


def _prepare_sqlite(reads: bool, connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # BEGIN is ours: the driver would send a plain one, and late
    cursor = connection.cursor()
    # auto_vacuum counts only before the first page is written, and journal_mode writes it. Later it would wait for the
    # write lock all the same, and a reader with it.
    is_new = cursor.execute("PRAGMA page_count").fetchone() == (0,)
    first = ("auto_vacuum = INCREMENTAL",) if is_new else ()
    log_size = f"journal_size_limit = {SQLITE_LOG_BYTES}"
    last = ("query_only = ON",) if reads else ()
    # FULL: a power cut takes nothing back that was committed; in the log, NORMAL would wait for no disk.
    for pragma in (*first, "journal_mode = WAL", "foreign_keys = ON", log_size, "synchronous = FULL", *last):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_reading(connection: Connection) -> None:
    # It does not touch the file, so it has no error that SQLAlchemy would have to translate.
    driver: Any = connection.connection.driver_connection
    driver.execute("BEGIN")


def _begin_writing(connection: Connection) -> None:
    driver: Any = connection.connection.driver_connection
    if not _begins_soon(driver):
        # It has the error, if there is one, that SQLAlchemy makes of it.
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def _begins_soon(driver: sqlite3.Connection) -> bool:
    """Whether the write lock could be had in the time that a few other writers take.

    SQLite looks again after 1, 3, 8, 18 milliseconds and so on; a transaction takes one or two. How long it waits is
    no setting that has it compile statements anew.
    """
    driver.execute("PRAGMA busy_timeout = 0")
    try:
        until = time.monotonic() + _SOON_SECONDS
        while time.monotonic() < until:
            try:
                driver.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                    return False
                time.sleep(_LOOK_AGAIN_SECONDS)
            else:
                return True
        return False
    finally:
        driver.execute(f"PRAGMA busy_timeout = {1000 * SQLITE_BUSY_SECONDS}")
