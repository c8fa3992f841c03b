"""Whether the database is one that this version can use: who meets an error of it can say what to do."""

import sqlite3

from sqlalchemy.exc import DBAPIError

UNMIGRATED = "The database lacks what this version needs: migrate it with `python -m store migrate`."

# Undefined column, schema, table: https://www.postgresql.org/docs/current/errcodes-appendix.html
_POSTGRESQL_LACKS = ("42703", "3F000", "42P01")
_SQLITE_LACKS = ("no such table", "no such column", "has no column named")


def is_unmigrated(error: Exception) -> bool:
    """Whether a table or column is not there: the database was made for another version, or is being migrated."""
    if not isinstance(error, DBAPIError):
        return False
    if isinstance(error.orig, sqlite3.Error):
        # Its code is that of any error in a statement.
        return any(lack in str(error.orig) for lack in _SQLITE_LACKS)
    return getattr(error.orig, "sqlstate", None) in _POSTGRESQL_LACKS
