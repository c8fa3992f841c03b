"""Hearing that the database has changed, without asking what the answer is again and again.

Invariant: a change that is committed after `wait` was called ends that wait, or the next one; one that is missed
because the connection was lost costs the timeout, never more. What has changed the caller has to look up.
"""

import threading
import time
from typing import Literal, Protocol

import psycopg
from sqlalchemy import Engine, PoolProxiedConnection

from store.database import Database

Channel = Literal["bnlab_bells", "bnlab_jobs"]
"""Bells that were hung; jobs whose version has grown."""

# A look costs some ten microseconds, and nobody notices a hundredth of a second.
_SQLITE_LOOK_SECONDS = 0.01


class Signal(Protocol):
    """One listener; for one thread."""

    def wait(self, timeout_seconds: float) -> bool:
        """Return when something may have changed (True), or at the timeout. Raises what the database raises."""

    def close(self) -> None:
        """Let go of the connection, from any thread; who waits at this moment is not waited for, and makes no other."""


def signal_of(database: Database, channel: Channel, stop: threading.Event | None = None) -> Signal:
    """A listener, which connects with its first wait; waits end early when `stop` is set."""
    stop = stop or threading.Event()
    if database.engine.dialect.name == "postgresql":
        return _Listening(database.engine, channel, stop)
    return _Watching(database, stop)


class _Watching:
    """SQLite numbers the states of its file; every commit of another connection makes a new one."""

    def __init__(self, database: Database, stop: threading.Event) -> None:
        self._engine = database.engine
        self._stop = stop
        self._connection: PoolProxiedConnection | None = None
        self._seen: int | None = None
        self._looking = threading.Lock()
        self._closed = False

    def wait(self, timeout_seconds: float) -> bool:
        deadline = time.monotonic() + timeout_seconds
        while not self._stop.is_set():
            with self._looking:
                if self._closed:
                    break
                seen, self._seen = self._seen, self._number()
            if seen != self._seen:
                return True
            if time.monotonic() >= deadline:
                return False
            self._stop.wait(_SQLITE_LOOK_SECONDS)
        return False

    def close(self) -> None:
        with self._looking:
            self._closed = True
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _number(self) -> int:
        if self._connection is None:
            connection = self._engine.raw_connection()
            # Ours alone, and outside of any transaction: inside one the file never changes.
            connection.detach()
            self._connection = connection
        cursor = self._connection.cursor()
        try:
            (number,) = cursor.execute("PRAGMA data_version").fetchone()
        finally:
            cursor.close()
        return int(number)


class _Listening:
    """PostgreSQL's LISTEN, on a connection of its own."""

    _ROUND_SECONDS = 0.5

    def __init__(self, engine: Engine, channel: Channel, stop: threading.Event) -> None:
        self._url = engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
        self._channel = channel
        self._stop = stop
        self._connection: psycopg.Connection | None = None
        self._closed = False

    def wait(self, timeout_seconds: float) -> bool:
        deadline = time.monotonic() + timeout_seconds
        try:
            if (connection := self._connection) is None:
                return not self._closed and self._connect()
            while not self._stop.is_set() and (left := deadline - time.monotonic()) > 0:
                for _ in connection.notifies(timeout=min(left, self._ROUND_SECONDS), stop_after=1):
                    return True
        except psycopg.Error:
            self._let_go()
            self._stop.wait(max(0.0, deadline - time.monotonic()))
        return False

    def close(self) -> None:
        self._closed = True
        self._let_go()

    def _connect(self) -> bool:
        """Whether there may be something that changed before anybody listened."""
        connection = psycopg.connect(self._url, autocommit=True, connect_timeout=5)
        self._connection = connection
        if self._closed:
            # Meanwhile, by somebody who found none to close.
            self._let_go()
            return False
        connection.execute(f"LISTEN {self._channel}")
        return True

    def _let_go(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
