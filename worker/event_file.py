"""Reading what a trainer writes, while it writes.

Invariant: only lines whose newline is there are read, and the place moves on only when the caller says that what it
read is stored. Nothing else is kept in memory, however long the database is away.
"""

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

    def read(self) -> Batch:
        """The next complete lines, about `BATCH_BYTES` of them at most; an empty batch when there are none."""
        lines = self._lines()
        try:
            events = tuple(decode(line) for line in lines.splitlines())
        except ValidationError as error:
            raise NotAnEvent(str(error)) from error
        return Batch(events, self._stored + len(lines))

    def advance(self, batch: Batch) -> None:
        """What the batch holds is stored."""
        self._stored = batch.end

    def _lines(self) -> bytes:
        try:
            file = self._path.open("rb")
        except FileNotFoundError:
            return b""
        with file:
            file.seek(self._stored)
            read = file.read(BATCH_BYTES)
            while read and b"\n" not in read and (more := file.read(BATCH_BYTES)):
                read += more  # one line longer than a batch
        return read[: read.rfind(b"\n") + 1]
