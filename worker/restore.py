"""A checkpoint on its way from the store back into a run directory."""

from collections.abc import Callable
from pathlib import Path
from typing import get_args

from store import blobs
from store.blobs import File
from store.database import Database


class RestoreInterrupted(Exception):
    """There was a reason to stop before everything was there."""


def fetch(database: Database, checkpoint_id: str, directory: Path, go_on: Callable[[], bool]) -> None:
    """Write `weights.safetensors` and `state.safetensors`, a chunk at a time, for as long as `go_on` says so.

    Raises `RestoreInterrupted` when it does not.
    """
    directory.mkdir(exist_ok=True)
    files: tuple[File, ...] = get_args(File)
    for name in files:
        with (directory / f"{name}.safetensors").open("wb") as file:
            for data in blobs.read(database, checkpoint_id, name):
                file.write(data)
                if not go_on():
                    raise RestoreInterrupted
