"""`bnlab list`: experiments, newest first."""

from itertools import islice
from typing import Annotated

import typer
from rich.text import Text

from client.commands.connection import AsJson, Url, connect
from client.commands.outcome import reported
from client.commands.output import coloured, emit, minute, show, table, tell
from client.errors import Json

State = Annotated[
    str | None,
    typer.Option("--state", help="queued, running, paused, succeeded, failed or cancelled.", metavar="STATE"),
]
Tags = Annotated[
    list[str] | None,
    typer.Option("--tag", help="Only with this tag; repeatable.", metavar="KEY[:VALUE]", show_default=False),
]
Name = Annotated[str | None, typer.Option("--name", help="Only with this name.", metavar="TEXT")]
Limit = Annotated[int, typer.Option("--limit", "-n", min=1, help="At most so many.")]


@reported
def list_experiments(
    state: State = None,
    tags: Tags = None,
    name: Name = None,
    limit: Limit = 20,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """List experiments, newest first.

    Example: bnlab list --state succeeded --tag paper:1702.03275
    """
    with connect(url) as client:
        pages = client.list(state=state, tags=tags or (), name=name, page_size=min(limit, 100))
        found = list(islice(pages, limit))
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
