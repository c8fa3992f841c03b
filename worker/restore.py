"""A checkpoint on its way from the store back into a run directory.

Invariant: what is handed to a trainer has the size and the SHA-256 that were announced when it was stored.
"""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

from bncore.run_directory import RunLayout
from store import blobs
from store.blobs import File
from store.database import Database
from store.errors import CheckpointDamaged, CheckpointNotFound


class RestoreInterrupted(Exception):
    """There was a reason to stop before everything was there."""


def fetch(
    database: Database, experiment_id: str, checkpoint_id: str, layout: RunLayout, go_on: Callable[[], bool]
) -> None:
    """Write weights and training state into a run directory, a chunk at a time, for as long as `go_on` says so.

    Raises `RestoreInterrupted` when it does not, `CheckpointDamaged`, and `CheckpointNotFound`.
    """
    with database.read() as session:
        checkpoint = blobs.get(session, experiment_id, checkpoint_id)
    layout.restore.mkdir(exist_ok=True)
    files: tuple[tuple[File, Path, int | None, str | None], ...] = (
        ("weights", layout.restore_weights, checkpoint.size, checkpoint.sha256),
        ("state", layout.restore_state, checkpoint.state_size, checkpoint.state_sha256),
    )
    for name, path, size, sha256 in files:
        digest, written = hashlib.sha256(), 0
        with path.open("wb") as file:
            for data in _chunks(database, checkpoint_id, name):
                file.write(data)
                digest.update(data)
                written += len(data)
                if not go_on():
                    raise RestoreInterrupted
        if written != size:
            raise CheckpointDamaged(checkpoint_id, name, f"{written} of {size} bytes are there")
        if digest.hexdigest() != sha256:
            raise CheckpointDamaged(checkpoint_id, name, "what is there has another SHA-256")


def _chunks(database: Database, checkpoint_id: str, name: File) -> Iterator[bytes]:
    chunks = blobs.read(database, checkpoint_id, name)
    try:
        yield from chunks
    except CheckpointNotFound as error:
        raise CheckpointDamaged(checkpoint_id, name, "a chunk is missing") from error
