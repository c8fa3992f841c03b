"""What the trainer prints, on its way into the store.

Invariant: a call stores one piece at most, and a trainer that prints faster than that is not followed but caught up
with: what lies between the beginning and the end of its log is what the store would not keep either.
"""

import os
from collections.abc import Callable
from pathlib import Path

from store import logs
from store.database import Database
from store.jobs.leases import Go, Lease, Stop


class TrainerLog:
    """A trainer's log and how far it has been stored."""

    def __init__(self, database: Database, lease: Lease, path: Path, on_answer: Callable[[Go | Stop], None]) -> None:
        self._database = database
        self._lease = lease
        self._path = path
        self._on_answer = on_answer
        self._stored = 0

    def store(self) -> bool:
        """Store the next piece, if anything new was printed; whether it was. Raises `StaleLease`."""
        start, data = self._next_piece()
        if not data:
            return False
        with self._database.write() as session:
            answer = logs.append(session, self._lease, start, data)
        self._stored = start + len(data)
        self._on_answer(answer)
        return True

    def _next_piece(self) -> tuple[int, bytes]:
        try:
            file = self._path.open("rb")
        except FileNotFoundError:
            return self._stored, b""
        with file:
            start = self._stored
            if start >= logs.KEPT_BYTES:
                start = max(start, os.fstat(file.fileno()).st_size - logs.KEPT_BYTES)
            file.seek(start)
            return start, file.read(logs.MAX_PIECE_BYTES)
