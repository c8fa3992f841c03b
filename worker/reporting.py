"""What the trainer reports, on its way into the store, and the lease that is renewed with it.

Invariant: metrics and files are stored before the checkpoint that follows them, so that a run set back to it has them;
what is stored is stored once, however often a transaction whose answer was lost is repeated (`store.results.append`).
Where inserts fail, the lease is renewed without them.
"""

import time
from collections.abc import Callable
from pathlib import Path

import structlog
from sqlalchemy.orm import Session

from bncore.events import CheckpointSaved, Event, FileSaved, Finished
from bncore.run_directory import RunLayout
from store import results
from store.database import Database
from store.jobs import leases
from store.jobs.leases import Go, Lease, Stop
from store.jobs.moves import Moved
from worker import at_once
from worker.at_once import nothing
from worker.checkpoint_upload import CheckpointUpload
from worker.event_file import Batch, EventFile
from worker.file_upload import FileSender, FileUpload
from worker.outage import OUTAGE, in_a_line
from worker.trainer_log import TrainerLog

log = structlog.get_logger()


Finish = Callable[[Session, Finished], Moved | None]
"""Ends a job whose training has finished so, if it may."""


class Reporting:
    """The events, checkpoints and printed lines of one attempt; `on_answer` hears the answer to every renewal."""

    def __init__(
        self,
        database: Database,
        lease: Lease,
        directory: Path,
        *,
        keep_periodic: bool,
        owner_bytes: int,
        renew_seconds: float,
        on_answer: Callable[[Go | Stop], None],
    ) -> None:
        self._database = database
        self._lease = lease
        self._renew_seconds = renew_seconds
        self._on_answer = on_answer
        self._events = EventFile(directory / "events.jsonl")
        self._sender = sender = FileSender(
            database,
            lease,
            directory,
            owner_bytes=owner_bytes,
            renew_seconds=renew_seconds,
            on_answer=self._renewed,
        )
        self._upload = CheckpointUpload(sender, keep_periodic=keep_periodic)
        self._files = FileUpload(sender)
        self._log = TrainerLog(database, lease, RunLayout(directory).log, on_answer=self._renewed)
        self.renewed_at = time.monotonic()
        """When the newest renewal that was answered had been sent, or a moment later."""
        self.last_event: Event | None = None

    def flush(self) -> bool:
        """Store what is new and renew the lease if that is due; whether anything was new.

        Raises `StaleLease`, `QuotaExceeded`, `NotAnEvent`, and what `worker.outage` lists; after an outage call it
        again.
        """
        batch = self._events.read()
        if not self._is_stored_at_once(batch):
            self._store_one_by_one(batch)
        return self._log.store() or bool(batch.events)

    def drain(self, finish: Finish) -> Moved | None:
        """Store all that is left of a trainer that has ended; how the job has moved, if it has been ended with it.

        `finish` ends it, if it may, in the transaction that stores the event by which training has finished. Raises
        what `flush` raises; after an outage call it again.
        """
        while self._log.store():
            continue
        moved: Moved | None = None
        while moved is None and (batch := self._events.read()).events:
            is_stored, moved = self._is_finished(batch, finish)
            if not is_stored and not self._is_stored_at_once(batch):
                self._store_one_by_one(batch)
        # The lines of what an outage interrupted have been read already.
        self._files.run()
        self._upload.run()
        return moved

    def hold_on(self) -> None:
        """After a flush that failed: keep the lease, if that much works, and the disk from filling. Raises
        `StaleLease`.
        """
        self._upload.foresee(_checkpoints(self._events.ahead()))
        if not self._renewal_is_due():
            return
        began = time.monotonic()
        try:
            with self._database.write() as session:
                answer = leases.renew(session, self._lease)
        except OUTAGE as error:
            log.debug("renewal_failed", error=in_a_line(error))
        else:
            self._renewed(answer, began)

    def silent_seconds(self) -> float:
        """For how long the trainer has written nothing."""
        return self._events.silent_seconds()

    def _is_finished(self, batch: Batch, finish: Finish) -> tuple[bool, Moved | None]:
        """Whether a batch that ends a training is stored, in one transaction, and how the job has moved in it."""
        last = batch.events[-1]
        if not isinstance(last, Finished):
            return False, None
        moved: list[Moved | None] = []
        # Where the answer is lost this is not reached, and the next call finds what has come of it.
        stored = self._is_stored_at_once(batch, lambda session: moved.append(finish(session, last)), always=True)
        return stored, moved[-1] if stored else None

    def _is_stored_at_once(
        self, batch: Batch, then: Callable[[Session], object] = nothing, *, always: bool = False
    ) -> bool:
        """Whether all of a batch with a few small files is stored now, in one transaction; else nothing of it is."""
        made, saved = _files(batch.events), _checkpoints(batch.events)
        is_up_to_date = self._files.is_up_to_date and self._upload.is_up_to_date_with(saved)
        if not is_up_to_date or not (made or saved or always):
            return False
        began = time.monotonic()
        answer = at_once.stored(self._sender, batch.events, made, self._upload.worth_storing(saved), then)
        if answer is None:
            return False
        self._renewed(answer, began)
        self._move_on(batch)
        self._files.delete(made)
        self._upload.delete(saved)
        log.info("stored_at_once", files=len(made), checkpoints=len(saved))
        return True

    def _store_one_by_one(self, batch: Batch) -> None:
        if batch.events or self._renewal_is_due():
            began = time.monotonic()
            with self._database.write() as session:
                answer = results.append(session, self._lease, batch.events)
            self._renewed(answer, began)
        self._move_on(batch)
        self._upload.add(_checkpoints(batch.events))
        self._files.add(_files(batch.events))
        self._files.run()
        self._upload.run()

    def _move_on(self, batch: Batch) -> None:
        self._events.advance(batch)
        if batch.events:
            self.last_event = batch.events[-1]

    def _renewal_is_due(self) -> bool:
        return time.monotonic() - self.renewed_at >= self._renew_seconds

    def _renewed(self, answer: Go | Stop, began: float | None = None) -> None:
        self.renewed_at = time.monotonic() if began is None else began
        self._on_answer(answer)


def _checkpoints(events: tuple[Event, ...]) -> list[CheckpointSaved]:
    return [event for event in events if isinstance(event, CheckpointSaved)]


def _files(events: tuple[Event, ...]) -> list[FileSaved]:
    return [event for event in events if isinstance(event, FileSaved)]
