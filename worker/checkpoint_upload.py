"""Checkpoints on their way from the run directory into the store.

Invariant: a `last` is uploaded only after the newest `best` before it, so that a run set back to that `last` still has
its best; what is uploaded, or replaced by something newer, is deleted here, also while the database is away. Bytes that
the store has already are not sent: they are compared there, as those that were sent are.
"""

from collections.abc import Sequence

import structlog

from bncore.events import CheckpointSaved
from store import checkpoints
from store.errors import CheckpointDamaged
from worker.file_upload import FileSender

log = structlog.get_logger()


class CheckpointUpload:
    """The checkpoints of one attempt that are not stored yet."""

    def __init__(self, sender: FileSender, *, keep_periodic: bool) -> None:
        self._sender = sender
        self._keep_periodic = keep_periodic
        self._waiting: list[CheckpointSaved] = []
        self._coming: list[CheckpointSaved] = []
        self._replaced: set[str] = set()

    def add(self, saved: Sequence[CheckpointSaved]) -> None:
        """Take in checkpoints that were saved, in that order; those that newer ones replace are dropped."""
        self._waiting += [event for event in saved if event.weights.file not in self._replaced]
        self._coming = [event for event in self._coming if event not in saved]
        self.foresee([])

    def foresee(self, coming: Sequence[CheckpointSaved]) -> None:
        """Drop now what those replace that will be taken in later: an outage must not fill the disk."""
        saved = [*self._waiting, *self._coming, *coming]
        kept = self.worth_storing(saved)
        for event in saved:
            if event not in kept:
                self._replaced.add(event.weights.file)
                self._delete_files(event)
        self._waiting = [event for event in self._waiting if event in kept]
        self._coming = [event for event in (*self._coming, *coming) if event in kept]

    def is_up_to_date_with(self, saved: Sequence[CheckpointSaved]) -> bool:
        """Whether nothing waits, and none of these, which come next, has been dropped already."""
        return not (self._waiting or self._coming or self._replaced & {one.weights.file for one in saved})

    def worth_storing(self, saved: Sequence[CheckpointSaved]) -> Sequence[CheckpointSaved]:
        """Those that are not replaced by others of them."""
        return saved if self._keep_periodic else worth_storing(saved)

    def delete(self, stored: Sequence[CheckpointSaved]) -> None:
        """Delete the files of checkpoints that somebody else has stored, or that are not worth it."""
        for event in stored:
            self._delete_files(event)

    def run(self) -> None:
        """Store what waits. After an outage, call it again: it goes on with the checkpoint that was interrupted."""
        while self._waiting:
            self._store(self._waiting[0])
            self._delete_files(self._waiting.pop(0))

    def _store(self, event: CheckpointSaved) -> None:
        with self._sender.database.write() as session:
            begun = checkpoints.begin(session, self._sender.lease, event, owner_bytes=self._sender.owner_bytes)
        if begun is None:
            return
        digests = {
            part: self._sender.sent(begun.files[part], stored) for part, stored in checkpoints.parts(event).items()
        }
        try:
            with self._sender.database.write() as session:
                answer = checkpoints.complete(session, self._sender.lease, begun.id, digests)
        except CheckpointDamaged as error:
            log.error("checkpoint_damaged", error=str(error), checkpoint_id=begun.id)
            with self._sender.database.write() as session:
                checkpoints.give_up(session, self._sender.lease, begun.id, str(error))
            return
        self._sender.on_answer(answer)
        log.info("checkpoint_stored", kind=event.checkpoint_kind, step=event.step, checkpoint_id=begun.id)

    def _delete_files(self, event: CheckpointSaved) -> None:
        for stored in checkpoints.parts(event).values():
            (self._sender.directory / stored.file).unlink(missing_ok=True)


def worth_storing(saved: Sequence[CheckpointSaved]) -> list[CheckpointSaved]:
    """The newest `last`, the newest `best` before it, and the newest `best` after it, in the order of saving."""
    lasts = [place for place, event in enumerate(saved) if event.checkpoint_kind == "last"]
    cut = lasts[-1] if lasts else 0
    before = [event for event in saved[:cut] if event.checkpoint_kind == "best"]
    after = [event for event in saved[cut:] if event.checkpoint_kind == "best"]
    return [*before[-1:], *([saved[cut]] if lasts else []), *after[-1:]]
