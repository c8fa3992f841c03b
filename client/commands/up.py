"""`bnlab up`: the whole service on this machine, for as long as the command runs."""

import shlex
import threading
from pathlib import Path
from typing import Annotated, Literal

import typer

from client.address import is_loopback
from client.commands.connection import AsJson
from client.commands.outcome import reported
from client.commands.output import emit, inline, show, tell
from client.commands.stack_outcome import Workers, stack_reported
from client.local.capacity import default_workers
from client.local.interrupts import Interrupted, interruptible
from client.local.places import Places, data_dir_of
from client.local.stack import Stack, StackSettings, running

DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        help="Database, runs, logs and the API key. Default: BNLAB_DATA_DIR, else the user's data directory.",
        metavar="DIRECTORY",
        show_default=False,
    ),
]
Host = Annotated[str, typer.Option("--host", help="The address to listen on.")]
Port = Annotated[int, typer.Option("--port", min=0, max=65_535, help="The port to listen on; 0 takes a free one.")]
Device = Annotated[
    Literal["auto", "cpu", "cuda"], typer.Option("--device", envvar="BNLAB_DEVICE", help="What the worker trains on.")
]


@reported
@stack_reported
def up(
    data_dir: DataDir = None,
    host: Host = "127.0.0.1",
    port: Port = 8000,
    device: Device = "auto",
    workers: Workers = None,
    as_json: AsJson = False,
) -> None:
    """Run the whole service here: Redis, database, API, relay and workers.

    Once it is ready, standard output says where it is, and the line that tells another terminal. Ctrl-C or SIGTERM ends
    it in order, with code 0; a second one in a hurry. Nothing it started outlives it, even if it is killed.

    Example: bnlab up --data-dir ./data --port 8000
    """
    places = Places(data_dir_of(data_dir))
    settings = StackSettings(places, host, port, device, workers or default_workers(device), notice=tell)
    if not is_loopback(host):
        tell(
            f"Warning: --host {host} lets every machine that reaches this one use the API, given a key, and read its "
            "documentation without one. Keys, specs and results travel in the clear (no TLS): put a proxy with TLS "
            "before it, or leave --host out."
        )
    try:
        with interruptible() as interrupts, running(settings, interrupts) as stack:
            _announce(stack, settings, as_json)
            threading.Event().wait()
    except Interrupted:
        return


def _announce(stack: Stack, settings: StackSettings, as_json: bool) -> None:
    key_file, data_dir = str(settings.places.api_key_file), str(settings.places.data_dir)
    if as_json:
        facts = {"url": stack.url, "api_key_file": key_file, "data_dir": data_dir, "workers": settings.workers}
        emit(facts, indent=None)
        return
    with_workers = f"{settings.workers} worker{'s' * (settings.workers > 1)}"
    show(f"BNLab is ready at {stack.url} with {with_workers}; Ctrl-C ends it. For another terminal:")
    show(
        f'export BNLAB_URL={stack.url} BNLAB_API_KEY="$(cat {inline(shlex.quote(key_file))})"',
        soft_wrap=True,
    )
