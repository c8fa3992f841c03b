"""Which errors of the database mean "try again", in one table.

Invariant: a fault of this program is never taken for an outage: trying again would not help, and nobody would look at
the log. A table that is not there is neither, but somebody's to mend: see `store.unmigrated`.
"""

import sqlite3

from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from api.lanes import DatabaseSilent
from store.unmigrated import UNMIGRATED

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

UNUSABLE = f"{UNMIGRATED} The log says more."


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
