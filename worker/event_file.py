"""Reading what a trainer writes, while it writes.

Invariant: only lines whose newline is there are read, and the place moves on only when the caller says that what it
read is stored. Nothing else is kept in memory, however long the database is away.
"""

import time
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from bncore.events import Event, decode

BATCH_BYTES = 1 << 20


class NotAnEvent(Exception):
    """The trainer wrote a line that is none of `bncore.events`."""


@dataclass(frozen=True)
class Batch:
    """Events in the order of the file, and where the one after them begins."""

    events: tuple[Event, ...]
    end: int


class EventFile:
    """An `events.jsonl` and how far it has been stored."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stored = 0
        self._foreseen = 0
        self._size = 0
        self._grew_at = time.monotonic()

    def read(self) -> Batch:
        """The next complete lines, about `BATCH_BYTES` of them at most; an empty batch when there are none."""
        return self._batch(self._stored)

    def advance(self, batch: Batch) -> None:
        """What the batch holds is stored."""
        self._stored = batch.end

    def ahead(self) -> tuple[Event, ...]:
        """A batch of events that are not stored yet, each given once by this."""
        batch = self._batch(max(self._stored, self._foreseen))
        self._foreseen = batch.end
        return batch.events

    def silent_seconds(self) -> float:
        """How long ago the file was last seen to have grown."""
        try:
            size = self._path.stat().st_size
        except FileNotFoundError:
            size = 0
        if size != self._size:
            self._size, self._grew_at = size, time.monotonic()
        return time.monotonic() - self._grew_at

    def _batch(self, start: int) -> Batch:
        lines = self._lines(start)
        try:
            events = tuple(decode(line) for line in lines.splitlines())
        except ValidationError as error:
            raise NotAnEvent(str(error)) from error
        return Batch(events, start + len(lines))

    def _lines(self, start: int) -> bytes:
        try:
            file = self._path.open("rb")
        except FileNotFoundError:
            return b""
        with file:
            file.seek(start)
            read = file.read(BATCH_BYTES)
            while read and b"\n" not in read and (more := file.read(BATCH_BYTES)):
                read += more  # one line longer than a batch
        return read[: read.rfind(b"\n") + 1]
