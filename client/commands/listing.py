"""`bnlab list`: experiments, newest first or sorted by what one of them has.

Invariant: it is the server that sorts, all that the filters find: the best of some page would pass for the best of all.
"""

from datetime import UTC, datetime
from itertools import islice
from typing import Annotated, Any

import typer
from rich.text import Text

from client.commands.connection import AsJson, Url, connect
from client.commands.filters import CreatedBefore, CreatedFrom, Name, States, Tags, filters_of
from client.commands.outcome import reported
from client.commands.output import coloured, duration, emit, minute, place_in_queue, show, table, tell, time_left
from client.errors import Json

PAGE = 100

Limit = Annotated[int, typer.Option("--limit", "-n", min=1, help="At most so many.")]
Sort = Annotated[
    str | None,
    typer.Option(
        "--sort",
        help="accuracy, stop, submitted, age, ended, state, progress, left, place or name; -NAME downwards.",
        metavar="NAME",
        show_default=False,
    ),
]


@reported
def list_experiments(
    states: States = None,
    tags: Tags = None,
    name: Name = None,
    created_from: CreatedFrom = None,
    created_before: CreatedBefore = None,
    sort: Sort = None,
    limit: Limit = 20,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """List experiments, newest first, or sorted.

    Examples:

    bnlab list --state succeeded --tag paper:1702.03275

    bnlab list --sort -accuracy -n 5
    """
    filters = filters_of(states, tags, name, created_from, created_before)
    with connect(url) as client:
        found = list(islice(client.list(page_size=min(limit, PAGE), sort=sort, **filters), limit))
    if as_json:
        emit(found)
        return
    columns = ("id", "state", "accuracy", "stopped by", "left", "age", "submitted (UTC)", "name")
    show(table(columns, [_row(entry) for entry in found]))
    if len(found) == limit:
        tell(f"The {'newest' if sort is None else 'first'} {limit}; --limit shows more.")


def _row(entry: Json) -> tuple[Any, ...]:
    place = place_in_queue(entry)
    left = time_left(entry) or (f"place {place}" if place else None)
    reason = entry.get("stop_reason") or (entry.get("failure") or {}).get("code")
    age = age_seconds(entry)
    shown_age = None if age is None else duration(age)
    facts = (entry["id"], _state(entry), entry.get("test_accuracy"), reason, left, shown_age)
    return (*facts, minute(entry["created_at"]), entry["name"])


def _state(entry: Json) -> Text:
    running = entry["state"] == "running"
    return coloured(entry).append(f" {100 * entry['progress']['fraction']:.0f} %" if running else "")


def age_seconds(entry: Json) -> float | None:
    """Since it was submitted; None where the server says no time."""
    try:
        made = datetime.fromisoformat(entry["created_at"])
    except ValueError:
        return None
    if made.tzinfo is None:
        return None
    return max(0.0, (datetime.now(UTC) - made).total_seconds())
