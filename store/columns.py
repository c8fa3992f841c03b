"""Column types and naming shared by all tables.

Invariant: a number that went in comes out, NaN included, on both databases; and every constraint has a name that
follows from its columns, so that a migration can refer to it.
"""

import functools
import json
import math
from collections.abc import Collection, Iterable, Mapping
from typing import Annotated, Any, TypeVar, cast

from sqlalchemy import BigInteger, BindParameter, Boolean, Dialect, Double, Integer, MetaData, String, Text, text
from sqlalchemy import Table as SqlTable
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import DeclarativeBase, mapped_column
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.sql.operators import OperatorType
from sqlalchemy.types import TypeDecorator, TypeEngine

from bncore.spec.limits import WORD_CHARS


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


class Words(TypeDecorator[Collection[str]]):
    """Many words as one bound value: an array, or JSON where there are none."""

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return dialect.type_descriptor(ARRAY(String()) if dialect.name == "postgresql" else Text())

    def process_bind_param(self, value: Collection[str] | None, dialect: Dialect) -> Any:
        words = list(value or ())
        return words if dialect.name == "postgresql" else json.dumps(words)


class one_of(FunctionElement[bool]):
    """Whether a column has one of many words: `one_of(column, words)`.

    The statement is the same however many there are, where `in_` would make, compile and plan one for each number.
    """

    type = Boolean()
    name = "one_of"
    inherit_cache = True

    def __init__(self, column: Any, words: Collection[str] | BindParameter[Any]) -> None:
        bound = words if isinstance(words, BindParameter) else BindParameter(None, words, type_=Words())
        super().__init__(column, bound)

    def self_group(self, against: OperatorType | None = None) -> "one_of":  # noqa: ARG002  (SQLAlchemy's signature)
        # A condition already: `... = 1`, as SQLite gets to see of other booleans, hides the column from its indexes.
        return self


@compiles(one_of, "postgresql")
def _one_of_postgresql(element: one_of, compiler: SQLCompiler, **options: Any) -> str:
    column, words = (compiler.process(part, **options) for part in element.clauses)
    return f"{column} = ANY({words})"


@compiles(one_of, "sqlite")
def _one_of_sqlite(element: one_of, compiler: SQLCompiler, **options: Any) -> str:
    column, words = (compiler.process(part, **options) for part in element.clauses)
    return f"{column} IN (SELECT value FROM json_each({words}))"


# SQLite numbers rows by itself only in a column declared exactly INTEGER.
RowNumber = BigInteger().with_variant(Integer(), "sqlite")

Seconds = Annotated[float, mapped_column(Double())]
"""UTC epoch seconds, or a span, by the database's clock."""
MaybeSeconds = Annotated[float | None, mapped_column(Double())]
Word = Annotated[str, mapped_column(String(WORD_CHARS))]
MaybeWord = Annotated[str | None, mapped_column(String(WORD_CHARS))]
Count = Annotated[int, mapped_column(BigInteger())]
MaybeCount = Annotated[int | None, mapped_column(BigInteger())]


def by_code_points(chars: int) -> TypeEngine[str]:
    """Text that is ordered by its code points, as SQLite does, whatever the language of the database."""
    return String(chars).with_variant(String(chars, collation="C"), "postgresql")


def where(*conditions: str) -> dict[str, Any]:
    """The arguments that make an index partial on both databases.

    A statement uses such an index only when it says the very condition, in literals: bound values come too late.
    """
    together = text(" AND ".join(conditions))
    return {"sqlite_where": together, "postgresql_where": together}


def core(table: type[Table]) -> SqlTable:
    """The table below a class: statements on it skip the bookkeeping of the ORM, which writes have no use for."""
    found = table.__table__
    assert isinstance(found, SqlTable)
    return found


_Row = TypeVar("_Row", bound=Table)


def unattached(entity: type[_Row], values: Mapping[str, Any], absent: Iterable[str] = ()) -> _Row:
    """A row to be read, and nothing else, which no session knows: its columns, and the properties of its class.

    It costs a tenth of an entity, and its columns are what an object holds, where each of an entity's is a call.
    `absent` names columns to be None.
    """
    row = _plain(entity)()
    row.__dict__.update(dict.fromkeys(absent))
    row.__dict__.update(values)
    return cast(_Row, row)


@functools.cache
def _plain(entity: type[Table]) -> type:
    """A class with the properties of an entity, and nothing of SQLAlchemy's."""
    held = [(name, value) for kind in reversed(entity.__mro__) for name, value in vars(kind).items()]
    return type(entity.__name__, (), {name: value for name, value in held if isinstance(value, property)})
