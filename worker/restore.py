"""A checkpoint on its way from the store back into a run directory.

Invariant: what is handed to a trainer is what was announced when it was stored (`store.checkpoints.read`).
"""

from collections.abc import Callable
from pathlib import Path

from bncore.run_directory import RunLayout
from store import checkpoints
from store.checkpoints import Part
from store.database import Database
from worker.fetching import write


def fetch(database: Database, checkpoint_id: str, layout: RunLayout, go_on: Callable[[], bool]) -> None:
    """Write weights and training state into a run directory, a chunk at a time, for as long as `go_on` says so.

    Raises `Interrupted` when it does not, `CheckpointDamaged`, and `CheckpointNotFound`.
    """
    layout.restore.mkdir(exist_ok=True)
    files: tuple[tuple[Part, Path], ...] = (("weights", layout.restore_weights), ("state", layout.restore_state))
    for name, path in files:
        write(checkpoints.read(database, checkpoint_id, name), path, go_on)
