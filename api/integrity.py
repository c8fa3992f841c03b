"""Files that were found whole a while ago, so that each part of one that is asked for need not read all of it.

Invariant: no byte of a file leaves before all that is stored of it has been compared with its SHA-256, a chunk at a
time, each in a turn and a session of its own. Those who ask for one file at once wait for one comparison.
"""

import asyncio
import functools
import hashlib
import time

from api.lanes import Lane
from store import files
from store.database import Database
from store.errors import FileDamaged
from store.files import CHUNK_BYTES

_KEEP_SECONDS = 600.0
_MOST_KEPT = 10_000


class Integrity:
    """What one process has compared."""

    def __init__(self, database: Database, reads: Lane, writes: Lane) -> None:
        self._database = database
        self._reads = reads
        self._writes = writes
        self._whole_until: dict[str, float] = {}
        self._comparing: dict[str, asyncio.Task[None]] = {}

    async def require_whole(self, file_id: str, size: int, sha256: str) -> None:
        """Raises `FileDamaged`, after which nothing new refers to those bytes, and `FileNotFound` when it is dropped
        meanwhile."""
        if self._whole_until.get(file_id, 0.0) > time.monotonic():
            return
        task = self._comparing.get(file_id)
        if task is None:
            task = self._comparing[file_id] = asyncio.create_task(self._compare(file_id, size, sha256))
            task.add_done_callback(functools.partial(self._done, file_id))
        # Whoever leaves leaves the others their comparison.
        await asyncio.shield(task)

    async def _compare(self, file_id: str, size: int, sha256: str) -> None:
        try:
            await self._read_through(file_id, size, sha256)
        except FileDamaged:
            await self._writes.run(functools.partial(self._condemn, file_id))
            raise
        while len(self._whole_until) >= _MOST_KEPT:
            del self._whole_until[next(iter(self._whole_until))]
        self._whole_until[file_id] = time.monotonic() + _KEEP_SECONDS

    async def _read_through(self, file_id: str, size: int, sha256: str) -> None:
        found = hashlib.sha256()
        for seq in range(-(-size // CHUNK_BYTES)):
            await self._reads.run(functools.partial(self._add_chunk, found, file_id, seq))
        if found.hexdigest() != sha256:
            raise FileDamaged(file_id, "what is stored is not what was announced")

    def _condemn(self, file_id: str) -> None:
        with self._database.write() as session:
            files.condemn(session, [file_id])

    def _done(self, file_id: str, task: asyncio.Task[None]) -> None:
        del self._comparing[file_id]
        if not task.cancelled():
            # Heard, though nobody may wait any more.
            task.exception()

    def _add_chunk(self, found: "hashlib._Hash", file_id: str, seq: int) -> None:
        with self._database.read() as session:
            data = files.chunk(session, file_id, seq)
        found.update(data)
