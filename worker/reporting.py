"""What the trainer reports, on its way into the store, and the lease that is renewed with it.

Invariant: metrics are stored before the checkpoint that follows them; what is stored is stored once, however often a
transaction whose answer was lost is repeated (`store.results.append`).
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bncore.events import CheckpointSaved, Event
from store import results
from store.database import Database
from store.leases import Go, Lease, Stop
from worker.checkpoint_upload import CheckpointUpload
from worker.event_file import EventFile


class Reporting:
    """The events and checkpoints of one attempt; `on_answer` hears the answer to every renewal."""

    def __init__(
        self,
        database: Database,
        lease: Lease,
        spec: dict[str, Any],
        directory: Path,
        *,
        lease_seconds: float,
        renew_seconds: float,
        on_answer: Callable[[Go | Stop], None],
    ) -> None:
        self._database = database
        self._lease = lease
        self._lease_seconds = lease_seconds
        self._renew_seconds = renew_seconds
        self._on_answer = on_answer
        self._renewed_at = time.monotonic()
        self._events = EventFile(directory / "events.jsonl")
        self._upload = CheckpointUpload(
            database,
            lease,
            directory,
            lease_seconds=lease_seconds,
            keep_periodic=bool(spec["checkpoint"]["keep_periodic"]),
            on_answer=self._renewed,
        )
        self.last_event: Event | None = None

    def flush(self) -> bool:
        """Store what is new and renew the lease if that is due; whether anything was new.

        Raises `StaleLease`, `NotAnEvent`, and what `worker.outage` lists; after an outage call it again.
        """
        batch = self._events.read()
        if batch.events or self._renewal_is_due():
            with self._database.write() as session:
                answer = results.append(session, self._lease, batch.events, lease_seconds=self._lease_seconds)
            self._renewed(answer)
        self._events.advance(batch)
        if batch.events:
            self.last_event = batch.events[-1]
        self._upload.add([event for event in batch.events if isinstance(event, CheckpointSaved)])
        self._upload.run()
        return bool(batch.events)

    def _renewal_is_due(self) -> bool:
        return time.monotonic() - self._renewed_at >= self._renew_seconds

    def _renewed(self, answer: Go | Stop) -> None:
        self._renewed_at = time.monotonic()
        self._on_answer(answer)
