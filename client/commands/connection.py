"""Which server a command talks to: the one named, else the local stack of this user, found by its lock file."""

import os
from typing import Annotated

import typer

from client.commands.output import tell
from client.http import DEFAULT_URL, Client
from client.local.lock import holder_of
from client.local.places import Places, data_dir_of

RETRY_SECONDS = 5.0
"""A person is waiting, and is told; long waits (`submit --wait`) have their own patience."""

Url = Annotated[
    str | None,
    typer.Option(
        "--url", envvar="BNLAB_URL", help="The server; without it, the stack that `bnlab up` runs.", metavar="URL"
    ),
]
AsJson = Annotated[
    bool, typer.Option("--json", help="Machine-readable: JSON on standard output, and nothing else there.")
]
ExperimentId = Annotated[
    str,
    typer.Argument(
        help="An experiment: its id, the beginning of that, its name, or `last` for the newest.",
        metavar="EXPERIMENT",
        show_default=False,
    ),
]


def connect(url: str | None) -> Client:
    """A client. The local stack's own key is used for the local stack alone: no other server ever sees it."""
    places = Places(data_dir_of())
    local_url = holder_of(places.lock_file).get("url")
    url = url or local_url or DEFAULT_URL
    key = os.environ.get("BNLAB_API_KEY")
    if not key and url.rstrip("/") == local_url:
        key = places.api_key()
    return Client(url, key, retry_seconds=RETRY_SECONDS, refused_at_once=True, notice=tell)
