"""Listings in the order of age, oldest first, a page at a time.

Invariant: pages do not shift: what is added meanwhile comes behind the last one.
"""

from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sqlalchemy import Select, tuple_
from sqlalchemy.orm import Session

from store import cursors
from store.tables import ApiKey, Dataset, Evaluation, Owner, Study, Sweep

Row = TypeVar("Row", ApiKey, Owner, Dataset, Evaluation, Study, Sweep)


@dataclass(frozen=True)
class Page(Generic[Row]):
    """Rows, and where the next page begins; None after the last."""

    rows: list[Row]
    next_cursor: str | None

    @property
    def has_more(self) -> bool:
        return self.next_cursor is not None


def by_age(
    session: Session, statement: Select[Row], table: type[Row], scope: Any, cursor: str | None, limit: int
) -> Page[Row]:
    """One page of what the statement selects. Raises `CursorInvalid` for a cursor of another scope or none of ours."""
    if cursor is not None:
        position = cursors.decode(cursor, scope)
        statement = statement.where(tuple_(table.created_at, table.id) > tuple_(*position))
    found = list(session.scalars(statement.order_by(table.created_at, table.id).limit(limit + 1)))
    shown = found[:limit]
    more = len(found) > limit
    return Page(shown, cursors.encode((shown[-1].created_at, shown[-1].id), scope) if more else None)
