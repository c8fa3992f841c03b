"""Column types and naming shared by all tables.

Invariant: a number that went in comes out, NaN included, on both databases; and every constraint has a name that
follows from its columns, so that a migration can refer to it.
"""

import math
from typing import Annotated, Any

from sqlalchemy import BigInteger, Dialect, Double, Integer, MetaData, String, text
from sqlalchemy import Table as SqlTable
from sqlalchemy.orm import DeclarativeBase, mapped_column
from sqlalchemy.types import TypeDecorator


class Table(DeclarativeBase):
    """The declarative root of every table."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


class NanDouble(TypeDecorator[float]):
    """A double that may be NaN, kept as NULL: SQLite has no NaN and stores NULL for it anyway."""

    impl = Double
    cache_ok = True

    def process_bind_param(self, value: float | None, _dialect: Dialect) -> float | None:
        return None if value is None or math.isnan(value) else value

    def process_result_value(self, value: Any, _dialect: Dialect) -> float:
        return math.nan if value is None else float(value)


# SQLite numbers rows by itself only in a column declared exactly INTEGER.
RowNumber = BigInteger().with_variant(Integer(), "sqlite")

Seconds = Annotated[float, mapped_column(Double())]
"""UTC epoch seconds, or a span, by the database's clock."""
MaybeSeconds = Annotated[float | None, mapped_column(Double())]
Word = Annotated[str, mapped_column(String(64))]
MaybeWord = Annotated[str | None, mapped_column(String(64))]
Count = Annotated[int, mapped_column(BigInteger())]


def where(condition: str) -> dict[str, Any]:
    """The arguments that make an index partial on both databases.

    A statement uses such an index only when it says the very condition, in literals: bound values come too late.
    """
    return {"sqlite_where": text(condition), "postgresql_where": text(condition)}


def core(table: type[Table]) -> SqlTable:
    """The table below a class: statements on it skip the bookkeeping of the ORM, which writes have no use for."""
    found = table.__table__
    assert isinstance(found, SqlTable)
    return found
