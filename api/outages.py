"""Which errors of the database mean "try again", and which "migrate it first", in one table.

Invariant: a fault of this program is never taken for an outage: trying again would not help, and nobody would look at
the log. A table that is not there is neither, but somebody's to mend.
"""

import sqlite3

from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from api.lanes import DatabaseSilent

# SQLSTATE classes and codes, https://www.postgresql.org/docs/current/errcodes-appendix.html
_POSTGRESQL = (
    "08",  # connection exception
    "25006",  # read-only: the server is a standby
    "25P03", "25P04",  # a transaction that stood still, or took too long
    "40",  # deadlock, serialization
    "53",  # out of connections, memory, disk
    "55P03",  # a lock that did not come in time
    "57",  # cancelled by a timeout, shut down, starting up
    "58",  # the system under it
)  # fmt: skip
_SQLITE = frozenset(
    {
        sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_INTERRUPT, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PROTOCOL,
    }
)  # fmt: skip
# Undefined column, schema, table.
_POSTGRESQL_LACKS = ("42703", "3F000", "42P01")
_SQLITE_LACKS = ("no such table", "no such column", "has no column named")

UNMIGRATED = "The database lacks what this version needs: migrate it with `python -m store migrate`. The log says more."


def is_outage(error: Exception) -> bool:
    """Whether the database is away, busy or slow, and not this program at fault."""
    if isinstance(error, PoolTimeout | DatabaseSilent):
        return True
    if not isinstance(error, DBAPIError):
        return False
    if error.connection_invalidated:
        return True
    if isinstance(error.orig, sqlite3.Error):
        # The lower byte is the code, the rest says more exactly which.
        return getattr(error.orig, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF in _SQLITE
    state = getattr(error.orig, "sqlstate", None)
    if state is None:
        # The driver's own: there is no connection, or not any more.
        return type(error).__name__ in ("OperationalError", "InterfaceError")
    return str(state).startswith(_POSTGRESQL)


def is_unmigrated(error: Exception) -> bool:
    """Whether a table or column is not there: the database was made for another version, or is being migrated."""
    if not isinstance(error, DBAPIError):
        return False
    if isinstance(error.orig, sqlite3.Error):
        # Its code is that of any error in a statement.
        return any(lack in str(error.orig) for lack in _SQLITE_LACKS)
    return getattr(error.orig, "sqlstate", None) in _POSTGRESQL_LACKS
