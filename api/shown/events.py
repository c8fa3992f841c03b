"""Lines of a job's log."""

from datetime import datetime
from typing import Any

from pydantic import Field

from api.shown import Shown, utc
from store import tables


class Event(Shown):
    """One line of a job's log."""

    number: int = Field(description="1, 2, 3, ...; the value for `after` to read on.")
    at: datetime
    attempt: int
    kind: str
    message: str
    data: dict[str, Any]

    @classmethod
    def of(cls, row: tables.JobEvent) -> "Event":
        return cls(
            number=row.number, at=utc(row.at), attempt=row.attempt, kind=row.kind, message=row.message, data=row.data
        )


class EventPage(Shown):
    """Lines, oldest first; `next_cursor` is the `after` of the next page and null at the end.

    To follow a log, go on with the `number` of the last line you have.
    """

    data: list[Event]
    has_more: bool
    next_cursor: int | None
