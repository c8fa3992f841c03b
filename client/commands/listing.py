"""`bnlab list`: experiments, newest first or sorted by what one of them has.

Invariant: sorted is all that was asked for or nothing: the best of some page would pass for the best of all.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from itertools import islice
from typing import Annotated, Any

import typer
from rich.text import Text

from client.commands.connection import AsJson, Url, connect
from client.commands.filters import CreatedBefore, CreatedFrom, Name, States, Tags, filters_of
from client.commands.outcome import Exit, leave, reported
from client.commands.output import coloured, duration, emit, minute, place_in_queue, show, table, tell, time_left
from client.errors import Json

MOST_SORTED = 5_000
PAGE = 100

Limit = Annotated[int, typer.Option("--limit", "-n", min=1, help="At most so many.")]
Sort = Annotated[
    str | None,
    typer.Option(
        "--sort",
        help="accuracy, stop, age, state, progress, left, place, name or id; -NAME downwards. All that the filters "
        f"find, up to {MOST_SORTED:,}.",
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
    key = None if sort is None else _key(sort)
    wanted = limit if key is None else MOST_SORTED + 1
    with connect(url) as client:
        found = list(islice(client.list(page_size=min(wanted, PAGE), **filters), wanted))
    if key is not None:
        if len(found) > MOST_SORTED:
            leave(Exit.REFUSED, f"more than {MOST_SORTED:,} are found, too many to be sorted; narrow them by a filter")
        found = _sorted(found, key, downwards=str(sort).startswith("-"))
    more, found = key is not None and len(found) > limit, found[:limit]
    if as_json:
        emit(found)
        return
    columns = ("id", "state", "accuracy", "stopped by", "left", "age", "submitted (UTC)", "name")
    show(table(columns, [_row(entry) for entry in found]))
    if more or (key is None and len(found) == limit):
        tell(f"The {'newest' if key is None else 'first'} {limit}; --limit shows more.")


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


_KEYS: dict[str, Callable[[Json], Any]] = {
    "accuracy": lambda entry: entry.get("test_accuracy"),
    "stop": lambda entry: entry.get("stop_reason"),
    "age": age_seconds,
    "state": lambda entry: entry["state"],
    "progress": lambda entry: entry["progress"]["fraction"],
    "left": lambda entry: entry.get("eta_seconds"),
    "place": lambda entry: (entry.get("queue") or {}).get("position"),
    "name": lambda entry: entry["name"],
    "id": lambda entry: entry["id"],
}


def _key(sort: str) -> Callable[[Json], Any]:
    found = _KEYS.get(sort.removeprefix("-"))
    if found is None:
        leave(Exit.USAGE, f"--sort takes {', '.join(_KEYS)}; -NAME sorts downwards")
    return found


def _sorted(entries: list[Json], key: Callable[[Json], Any], *, downwards: bool) -> list[Json]:
    """Stable; what has no such value comes last, in either direction."""
    keyed = [(key(entry), entry) for entry in entries]
    there = [pair for pair in keyed if isinstance(pair[0], str | int | float) and pair[0] == pair[0]]
    known = {id(entry) for _, entry in there}
    first = sorted(there, key=lambda pair: pair[0], reverse=downwards)
    return [*(entry for _, entry in first), *(entry for entry in entries if id(entry) not in known)]
