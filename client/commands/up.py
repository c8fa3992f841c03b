"""`bnlab up`: the whole service on this machine, for as long as the command runs."""

import threading
from pathlib import Path
from typing import Annotated, Literal

import typer

from client.commands.connection import AsJson
from client.commands.outcome import reported
from client.commands.output import emit, show, tell
from client.commands.stack_outcome import stack_reported
from client.local.interrupts import Interrupted, interruptible
from client.local.places import Places, default_data_dir
from client.local.stack import StackSettings, running

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
    as_json: AsJson = False,
) -> None:
    """Run the whole service here: Redis, database, API, relay and worker.

    One line on standard output says where it is, once it is ready. Ctrl-C or SIGTERM ends it in order, with code 0; a
    second one in a hurry. Nothing it started outlives it, even if it is killed.

    Example: bnlab up --data-dir ./data --port 8000
    """
    places = Places((data_dir or default_data_dir()).expanduser().resolve())
    settings = StackSettings(places, host, port, device, notice=tell)
    try:
        with interruptible() as interrupts, running(settings, interrupts) as stack:
            if as_json:
                facts = {"url": stack.url, "api_key_file": places.api_key_file, "data_dir": places.data_dir}
                emit({key: str(value) for key, value in facts.items()}, indent=None)
            else:
                show(
                    f"BNLab is ready at {stack.url} (API key in {places.api_key_file}); Ctrl-C ends it", soft_wrap=True
                )
            threading.Event().wait()
    except Interrupted:
        return
