"""Files on their way from the run directory into the store, those of checkpoints and those that a job has made.

Invariant: bytes that the store has already are not sent: they are compared there, as those that were sent are. What is
stored is deleted here.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import structlog

from bncore.events import FileSaved, StoredFile
from store import files
from store.database import Database
from store.files import CHUNK_BYTES, Announced, Begun
from store.jobs import leases
from store.jobs.leases import Go, Lease, Stop

log = structlog.get_logger()


class FileSender:
    """Sends files of one attempt; `on_answer` hears the answer to every renewal."""

    def __init__(
        self,
        database: Database,
        lease: Lease,
        directory: Path,
        *,
        owner_bytes: int,
        renew_seconds: float,
        on_answer: Callable[[Go | Stop], None],
    ) -> None:
        self.database = database
        self.lease = lease
        self.directory = directory
        self.owner_bytes = owner_bytes
        self.on_answer = on_answer
        self.renew_seconds = renew_seconds
        self._renewed_at = -math.inf

    def sent(self, begun: Begun, file: StoredFile) -> str:
        """Send what is not there of a file; the SHA-256 of what is there then."""
        if begun.whole:
            digest = self._digest(begun.file_id)
            if digest == file.sha256:
                return digest
            log.warning("shared_content_damaged", file_id=begun.file_id)
            with self.database.write() as session:
                files.start_over(session, self.lease, begun.file_id, self.owner_bytes)
        for seq, data in self._chunks(file):
            with self.database.write() as session:
                answer = files.write_chunk(session, self.lease, begun.file_id, seq, data)
            self._hear(answer)
        return self._digest(begun.file_id)

    def _digest(self, file_id: str) -> str:
        """To read a large file takes longer than a lease lasts, so it is renewed meanwhile."""
        return files.digest(self.database, file_id, meanwhile=self._keep_lease)

    def _keep_lease(self) -> None:
        if time.monotonic() - self._renewed_at >= self.renew_seconds:
            with self.database.write() as session:
                answer = leases.renew(session, self.lease)
            self._hear(answer)

    def _hear(self, answer: Go | Stop) -> None:
        self._renewed_at = time.monotonic()
        self.on_answer(answer)

    def _chunks(self, stored: StoredFile) -> Iterator[tuple[int, bytes]]:
        with (self.directory / stored.file).open("rb") as file:
            seq = 0
            while data := file.read(CHUNK_BYTES):
                yield seq, data
                seq += 1


class FileUpload:
    """The result files of one attempt that are not stored yet."""

    def __init__(self, sender: FileSender) -> None:
        self._sender = sender
        self._waiting: list[FileSaved] = []

    def add(self, saved: Sequence[FileSaved]) -> None:
        """Take in files that were saved, in that order."""
        self._waiting += saved

    @property
    def is_up_to_date(self) -> bool:
        """Whether nothing waits."""
        return not self._waiting

    def delete(self, stored: Sequence[FileSaved]) -> None:
        """Delete files that somebody else has stored."""
        for event in stored:
            (self._sender.directory / event.file.file).unlink(missing_ok=True)

    def run(self) -> None:
        """Store what waits. After an outage, call it again: it goes on with the file that was interrupted.

        Raises `StaleLease`, `QuotaExceeded`, `FileDamaged`.
        """
        while self._waiting:
            self._store(self._waiting[0])
            self.delete([self._waiting.pop(0)])

    def _store(self, event: FileSaved) -> None:
        sender, file = self._sender, event.file
        announced = Announced(event.name, event.file_kind, event.step, file.size, file.sha256)
        with sender.database.write() as session:
            begun = files.begin(session, sender.lease, announced, sender.owner_bytes)
        digest = sender.sent(begun, file)
        with sender.database.write() as session:
            answer = files.complete(session, sender.lease, begun.file_id, digest)
        sender.on_answer(answer)
        log.info("file_stored", name=event.name, bytes=file.size, file_id=begun.file_id)
