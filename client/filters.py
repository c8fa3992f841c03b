"""Which experiments are meant: what a listing, and what is done to all that it would list, can be narrowed by.

Invariant: no filter is dropped without a word. What a misspelt one should have left alone would be deleted.
"""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, TypedDict

from client.calls import several


class Filters(TypedDict, total=False):
    """All of these must hold. None is as good as left out."""

    state: str | Iterable[str] | None
    """One, or any of several."""
    tags: str | Iterable[str] | None
    """`key:value`, or `key` alone for any value; each must be there."""
    name: str | None
    created_from: datetime | str | None
    """Included. A `datetime` without a zone is in UTC, as the times of the API are; text is RFC 3339."""
    created_before: datetime | str | None
    """Not included."""


def query(filters: Filters) -> dict[str, Any]:
    """As the parameters of a request. Raises `TypeError` for a filter that there is not."""
    unknown = sorted(filters.keys() - Filters.__annotations__.keys())
    if unknown:
        raise TypeError(f"there is no filter {unknown[0]!r}; there are {', '.join(Filters.__annotations__)}")
    asked = {
        "state": several(filters.get("state")),
        "tag": several(filters.get("tags")),
        "name": filters.get("name"),
        "created_from": _moment(filters.get("created_from")),
        "created_before": _moment(filters.get("created_before")),
    }
    return {key: value for key, value in asked.items() if value is not None}


def _moment(value: datetime | str | None) -> str | None:
    if not isinstance(value, datetime):
        return value
    return (value if value.tzinfo else value.replace(tzinfo=UTC)).isoformat()
