"""`bnlab list`: experiments, newest first."""

from itertools import islice
from typing import Annotated

import typer
from rich.text import Text

from client.commands.connection import AsJson, Url, connect
from client.commands.filters import CreatedBefore, CreatedFrom, Name, States, Tags, filters_of
from client.commands.outcome import reported
from client.commands.output import coloured, emit, minute, show, table, tell
from client.errors import Json

Limit = Annotated[int, typer.Option("--limit", "-n", min=1, help="At most so many.")]


@reported
def list_experiments(
    states: States = None,
    tags: Tags = None,
    name: Name = None,
    created_from: CreatedFrom = None,
    created_before: CreatedBefore = None,
    limit: Limit = 20,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """List experiments, newest first.

    Example: bnlab list --state succeeded --tag paper:1702.03275
    """
    filters = filters_of(states, tags, name, created_from, created_before)
    with connect(url) as client:
        found = list(islice(client.list(page_size=min(limit, 100), **filters), limit))
    if as_json:
        emit(found)
        return
    rows = [(entry["id"], _state(entry), minute(entry["created_at"]), entry["name"]) for entry in found]
    show(table(("id", "state", "submitted (UTC)", "name"), rows))
    if len(found) == limit:
        tell(f"The newest {limit}; --limit shows more.")


def _state(entry: Json) -> Text:
    running = entry["state"] == "running"
    return coloured(entry).append(f" {100 * entry['progress']['fraction']:.0f} %" if running else "")
