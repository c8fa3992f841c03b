"""Files on their way from the store to this host's disk.

Invariant: what is written is what was announced when it was stored (`store.files.read`).
"""

from collections.abc import Callable, Sequence
from pathlib import Path

from store import files
from store.database import Database


class Interrupted(Exception):
    """There was a reason to stop before everything was there."""


def write(database: Database, file_ids: Sequence[str], target: Path, go_on: Callable[[], bool]) -> None:
    """Write files, one behind the other, into one, for as long as `go_on` says so.

    Raises `Interrupted` when it does not, `FileDamaged`, `FileNotFound`.
    """
    with target.open("wb") as file:
        for file_id in file_ids:
            for data in files.read(database, file_id):
                file.write(data)
                if not go_on():
                    raise Interrupted
