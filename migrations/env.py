"""How Alembic reaches the database: by the connection of `store.migrate`, or `BNLAB_DATABASE_URL` on the command line.

Invariant: one migration at a time. The transaction starts with an advisory lock on PostgreSQL and with the write lock
on SQLite, so whoever comes second reads the revision that the first one left.
"""

from typing import Literal

from alembic import context
from sqlalchemy import Connection, text

from store.columns import NanDouble
from store.database import create_engine_for
from store.settings import StoreSettings
from store.tables import Table

# Any number that nobody else locks in this database.
_ADVISORY_LOCK = 0x626E6C6162


def _migrate(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": _ADVISORY_LOCK})
    context.configure(
        connection=connection,
        target_metadata=Table.metadata,
        compare_type=True,
        render_as_batch=connection.dialect.name == "sqlite",
        render_item=_render_item,
        include_object=_compares_everywhere if connection.dialect.name == "postgresql" else _compares_on_sqlite,
    )
    with context.begin_transaction():
        context.run_migrations()


def _compares_everywhere(*_what: object) -> bool:
    return True


def _compares_on_sqlite(_object: object, name: str | None, *_what: object) -> bool:
    """SQLite does not tell that a column of an index descends: PostgreSQL alone can compare that one."""
    return name != "ix_jobs_claim"


def _render_item(kind: str, item: object, _context: object) -> str | Literal[False]:
    """A migration says what a column is in the database, not by which class of ours it is read."""
    return "sa.Double()" if kind == "type" and isinstance(item, NanDouble) else False


def _migrate_from_command_line() -> None:
    engine = create_engine_for(StoreSettings().database_url.get_secret_value())
    with engine.begin() as connection:
        _migrate(connection)
    engine.dispose()


given = context.config.attributes.get("connection")
if given is None:
    _migrate_from_command_line()
else:
    _migrate(given)
