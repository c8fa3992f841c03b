"""What is sent, a module a noun: one direction, from rows to JSON.

Additive by promise: fields may be added, words of `state`, `phase` and `code` too; a reader treats a state it does not
know as not terminal. Times are RFC 3339 in UTC; numbers that are not finite are "NaN", "Infinity" and "-Infinity".
"""

from datetime import UTC, datetime
from typing import Annotated, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, WithJsonSchema

_REAL = {"anyOf": [{"type": "number"}, {"type": "string", "enum": ["NaN", "Infinity", "-Infinity"]}]}
Real = Annotated[float, WithJsonSchema(_REAL)]
Item = TypeVar("Item")


class Shown(BaseModel):
    """A JSON object that is only ever sent."""

    model_config = ConfigDict(frozen=True, ser_json_inf_nan="strings", validate_by_name=True, serialize_by_alias=True)


class Page(Shown, Generic[Item]):
    """One page of a listing; `next_cursor` begins the next one and is null on the last."""

    data: list[Item]
    has_more: bool
    next_cursor: str | None


def utc(seconds: float) -> datetime:
    """Epoch seconds as the store keeps them, as a time to show."""
    return datetime.fromtimestamp(seconds, UTC)


def maybe_utc(seconds: float | None) -> datetime | None:
    """The same where there may be none."""
    return None if seconds is None else utc(seconds)
