"""Many new rows in few statements.

Invariant: what is stored is what one INSERT a row would store. PostgreSQL would be sent a statement a row: it gets the
rows as one JSON text instead, which it reads by the types of the table's columns. SQLite is in this process, and an
INSERT a row is the fastest there is.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from sqlalchemy import JSON, Insert, Table, Text, bindparam, cast, column, func, insert, literal_column, select
from sqlalchemy.types import TypeDecorator

from store.database import Asks, clock, kind_of

_FEW = 50
"""So many and fewer are inserted one by one: a single submission has no use for another statement."""


class _Rows(TypeDecorator[Sequence[Mapping[str, Any]]]):
    """Rows as a JSON text, written as `JSON` columns are."""

    impl = JSON
    cache_ok = True


def insert_rows(session: Asks, table: Table, rows: Sequence[Mapping[str, Any]], *, at: str | None = None) -> None:
    """Insert rows that have the same columns, in their order; the column `at` gets the time of the database.

    Columns of JSON have a value in every row: None would be NULL, or null, depending on how it comes.
    """
    if not rows:
        return
    if len(rows) <= _FEW or kind_of(session) != "postgresql":
        session.execute(_one_by_one(table, at), [*rows])
    else:
        session.execute(_together(table, tuple(rows[0]), at), {"new_rows": rows})


@cache
def _one_by_one(table: Table, at: str | None) -> Insert:
    return insert(table) if at is None else insert(table).values({at: clock()})


@cache
def _together(table: Table, names: tuple[str, ...], at: str | None) -> Insert:
    kind = literal_column(f"CAST(NULL AS {table.name})", Text)
    read = func.json_populate_recordset(kind, cast(bindparam("new_rows", type_=_Rows()), JSON))
    given = read.table_valued(*(column(name, table.c[name].type) for name in names), name="given")
    computed = [] if at is None else [clock().label(at)]
    columns = [*names, *([] if at is None else [at])]
    return insert(table).from_select(columns, select(*given.c, *computed))
