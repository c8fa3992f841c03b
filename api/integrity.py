"""Files that were found whole a while ago, so that each part of one that is asked for need not read all of it.

Invariant: no byte of a file leaves before all that is stored of it has been compared with its SHA-256, a chunk at a
time, each in a turn and a session of its own. Those who ask for one file at once wait for one comparison.
"""

import asyncio
import functools
import hashlib
import time

from api.lanes import Lane
from store import blobs
from store.blobs import CHUNK_BYTES, File
from store.database import Database
from store.errors import CheckpointDamaged, CheckpointNotFound

_KEEP_SECONDS = 600.0
_MOST_KEPT = 10_000

Name = tuple[str, str, File]
"""Experiment, checkpoint, file."""


class Integrity:
    """What one process has compared."""

    def __init__(self, database: Database, reads: Lane) -> None:
        self._database = database
        self._reads = reads
        self._whole_until: dict[Name, float] = {}
        self._comparing: dict[Name, asyncio.Task[None]] = {}

    async def require_whole(self, experiment_id: str, checkpoint_id: str, file: File, size: int, sha256: str) -> None:
        """Raises `CheckpointDamaged`, and `CheckpointNotFound` when it is dropped meanwhile."""
        name = (experiment_id, checkpoint_id, file)
        if self._whole_until.get(name, 0.0) > time.monotonic():
            return
        task = self._comparing.get(name)
        if task is None:
            task = self._comparing[name] = asyncio.create_task(self._compare(name, size, sha256))
            task.add_done_callback(functools.partial(self._done, name))
        # Whoever leaves leaves the others their comparison.
        await asyncio.shield(task)

    async def _compare(self, name: Name, size: int, sha256: str) -> None:
        experiment_id, checkpoint_id, file = name
        found = hashlib.sha256()
        try:
            for seq in range(-(-size // CHUNK_BYTES)):
                await self._reads.run(functools.partial(self._add_chunk, found, checkpoint_id, file, seq))
        except CheckpointNotFound:
            # A chunk is not there: with its checkpoint, or alone.
            await self._reads.run(functools.partial(self._require_shown, experiment_id, checkpoint_id))
        if found.hexdigest() != sha256:
            raise CheckpointDamaged(checkpoint_id, file, "what is stored is not what was announced")
        while len(self._whole_until) >= _MOST_KEPT:
            del self._whole_until[next(iter(self._whole_until))]
        self._whole_until[name] = time.monotonic() + _KEEP_SECONDS

    def _done(self, name: Name, task: asyncio.Task[None]) -> None:
        del self._comparing[name]
        if not task.cancelled():
            # Heard, though nobody may wait any more.
            task.exception()

    def _add_chunk(self, found: "hashlib._Hash", checkpoint_id: str, file: File, seq: int) -> None:
        with self._database.read() as session:
            data = blobs.chunk(session, checkpoint_id, file, seq)
        found.update(data)

    def _require_shown(self, experiment_id: str, checkpoint_id: str) -> None:
        with self._database.read() as session:
            blobs.get(session, experiment_id, checkpoint_id)
