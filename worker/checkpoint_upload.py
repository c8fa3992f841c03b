"""Checkpoints on their way from the run directory into the store.

Invariant: a `last` is uploaded only after the newest `best` before it, so that a run set back to that `last` still has
its best; what is uploaded, or replaced by something newer, is deleted here, also while the database is away.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import structlog

from bncore.events import CheckpointSaved
from store import blobs
from store.blobs import CHUNK_BYTES, File
from store.database import Database
from store.errors import CheckpointDamaged
from store.jobs.leases import Go, Lease, Stop

log = structlog.get_logger()


class CheckpointUpload:
    """The checkpoints of one attempt that are not stored yet."""

    def __init__(
        self,
        database: Database,
        lease: Lease,
        directory: Path,
        *,
        keep_periodic: bool,
        owner_bytes: int,
        on_answer: Callable[[Go | Stop], None],
    ) -> None:
        self._database = database
        self._lease = lease
        self._directory = directory
        self._keep_periodic = keep_periodic
        self._owner_bytes = owner_bytes
        self._on_answer = on_answer
        self._waiting: list[CheckpointSaved] = []
        self._coming: list[CheckpointSaved] = []
        self._replaced: set[str] = set()

    def add(self, checkpoints: Sequence[CheckpointSaved]) -> None:
        """Take in checkpoints that were saved, in that order; those that newer ones replace are dropped."""
        self._waiting += [event for event in checkpoints if event.weights.file not in self._replaced]
        self._coming = [event for event in self._coming if event not in checkpoints]
        self.foresee([])

    def foresee(self, coming: Sequence[CheckpointSaved]) -> None:
        """Drop now what those replace that will be taken in later: an outage must not fill the disk."""
        saved = [*self._waiting, *self._coming, *coming]
        kept = saved if self._keep_periodic else worth_storing(saved)
        for event in saved:
            if event not in kept:
                self._replaced.add(event.weights.file)
                self._delete_files(event)
        self._waiting = [event for event in self._waiting if event in kept]
        self._coming = [event for event in (*self._coming, *coming) if event in kept]

    def run(self) -> None:
        """Store what waits. After an outage, call it again: it goes on with the checkpoint that was interrupted."""
        while self._waiting:
            self._store(self._waiting[0])
            self._delete_files(self._waiting.pop(0))

    def _store(self, event: CheckpointSaved) -> None:
        with self._database.write() as session:
            checkpoint_id = blobs.begin(session, self._lease, event, owner_bytes=self._owner_bytes)
        for file, seq, data in self._chunks(event):
            with self._database.write() as session:
                answer = blobs.write_chunk(session, self._lease, checkpoint_id, file, seq, data)
            self._on_answer(answer)
        digests = {file: blobs.digest(self._database, checkpoint_id, file) for file, _ in _files(event)}
        try:
            with self._database.write() as session:
                answer = blobs.complete(session, self._lease, checkpoint_id, digests)
        except CheckpointDamaged as error:
            log.error("checkpoint_damaged", error=str(error), checkpoint_id=checkpoint_id)
            with self._database.write() as session:
                blobs.give_up(session, self._lease, checkpoint_id, str(error))
            return
        self._on_answer(answer)
        log.info("checkpoint_stored", kind=event.checkpoint_kind, step=event.step, checkpoint_id=checkpoint_id)

    def _chunks(self, event: CheckpointSaved) -> Iterator[tuple[File, int, bytes]]:
        for name, path in _files(event):
            with (self._directory / path).open("rb") as file:
                seq = 0
                while data := file.read(CHUNK_BYTES):
                    yield name, seq, data
                    seq += 1

    def _delete_files(self, event: CheckpointSaved) -> None:
        for _, path in _files(event):
            (self._directory / path).unlink(missing_ok=True)


def worth_storing(saved: Sequence[CheckpointSaved]) -> list[CheckpointSaved]:
    """The newest `last`, the newest `best` before it, and the newest `best` after it, in the order of saving."""
    lasts = [place for place, event in enumerate(saved) if event.checkpoint_kind == "last"]
    cut = lasts[-1] if lasts else 0
    before = [event for event in saved[:cut] if event.checkpoint_kind == "best"]
    after = [event for event in saved[cut:] if event.checkpoint_kind == "best"]
    return [*before[-1:], *([saved[cut]] if lasts else []), *after[-1:]]


def _files(event: CheckpointSaved) -> list[tuple[File, str]]:
    files: list[tuple[File, str]] = [("weights", event.weights.file)]
    if event.state is not None:
        files.append(("state", event.state.file))
    return files
