"""The options that say which experiments are meant, for whatever lists or changes all of them."""

from datetime import UTC, datetime
from typing import Annotated

import typer

from client.filters import Filters


def _moment(text: str) -> datetime:
    """A date, or a date and a time, as ISO 8601 has them; in UTC, as `bnlab list` shows them, unless it says."""
    found = datetime.fromisoformat(text)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


States = Annotated[
    list[str] | None,
    typer.Option(
        "--state",
        help="queued, running, paused, succeeded, failed or cancelled; repeatable, any of them.",
        metavar="STATE",
        show_default=False,
    ),
]
Tags = Annotated[
    list[str] | None,
    typer.Option(
        "--tag", help="Only with this tag; repeatable, all of them.", metavar="KEY[:VALUE]", show_default=False
    ),
]
Name = Annotated[str | None, typer.Option("--name", help="Only with this name.", metavar="TEXT", show_default=False)]
CreatedFrom = Annotated[
    datetime | None,
    typer.Option(
        "--created-from",
        parser=_moment,
        help="Only those submitted then or later: 2026-01-31, or 2026-01-31T12:00, in UTC.",
        metavar="TIME",
        show_default=False,
    ),
]
CreatedBefore = Annotated[
    datetime | None,
    typer.Option(
        "--created-before",
        parser=_moment,
        help="Only those submitted earlier than that.",
        metavar="TIME",
        show_default=False,
    ),
]


def filters_of(
    states: list[str] | None,
    tags: list[str] | None,
    name: str | None,
    created_from: datetime | None,
    created_before: datetime | None,
) -> Filters:
    """The filters that were given, and no other."""
    filters: Filters = {}
    if states:
        filters["state"] = states
    if tags:
        filters["tags"] = tags
    if name is not None:
        filters["name"] = name
    if created_from is not None:
        filters["created_from"] = created_from
    if created_before is not None:
        filters["created_before"] = created_before
    return filters


def tag_filter(text: str) -> str:
    """A tag to look for: with the colon of the API, or with the sign of equality that one is used to."""
    return text if ":" in text else text.replace("=", ":", 1)
