"""Keys that were good a moment ago, and when each was used.

Invariant: a request asks the database for its key at most once in `keep_seconds`, so that is how long a key that was
revoked elsewhere may go on working; one that expires ends in time, and one that was revoked here, at once. No request
writes that a key was used: that is noted here and stored now and then.
"""

import asyncio
import contextlib
import functools
import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog
from sqlalchemy.exc import SQLAlchemyError

from api.lanes import DatabaseSilent, Lane
from store import keys
from store.database import Database
from store.keys import Authenticated

_LOG = structlog.get_logger("api")
_LAST_NOTE_SECONDS = 2.0
_REMEMBER_SECONDS = 3600.0


@dataclass(frozen=True)
class _Known:
    key: Authenticated
    until: float
    remembered_until: float
    """So long the database may be asked again without being asked whether it may."""


class Keyring:
    """The keys of one process; `note_uses` runs as long as the process does."""

    def __init__(
        self, database: Database, reads: Lane, writes: Lane, *, keep_seconds: float, note_seconds: float
    ) -> None:
        self._database = database
        self._reads = reads
        self._writes = writes
        self._keep_seconds = keep_seconds
        self._note_seconds = note_seconds
        self._known: dict[bytes, _Known] = {}
        self._times_forgotten = 0
        self._used: set[str] = set()

    async def find(self, secret: str, may_ask: Callable[[], None]) -> Authenticated | None:
        """Whose key this is; None for an unknown, revoked or expired one, which is asked about anew each time.

        `may_ask` is called before the database is asked about a key that has not been good lately, and may raise.
        """
        # A header may hold anything, lone surrogates included.
        name = hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()
        known = self._known.get(name)
        if known is None or known.until < time.monotonic():
            if known is None:
                may_ask()
            known = await self._ask(name, secret)
        if known is None:
            return None
        self._used.add(known.key.id)
        return known.key

    def forget(self, key_id: str) -> None:
        """Ask about a key anew: it was revoked or replaced."""
        self._times_forgotten += 1
        self._known = {name: known for name, known in self._known.items() if known.key.id != key_id}

    async def note_uses(self) -> None:
        """Store now and then which keys were used."""
        while True:
            await asyncio.sleep(self._note_seconds)
            await self._note()

    async def note_last_uses(self) -> None:
        """At the end of the process, which does not wait for it for long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LAST_NOTE_SECONDS):
                await self._note()

    async def _ask(self, name: bytes, secret: str) -> _Known | None:
        self._tidy_up()
        times_forgotten = self._times_forgotten
        found = await self._reads.run(functools.partial(self._read, secret))
        if found is None:
            self._known.pop(name, None)
            return None
        now = time.monotonic()
        keep = self._keep_seconds if found.seconds_left is None else min(self._keep_seconds, found.seconds_left)
        known = _Known(found, now + keep, now + _REMEMBER_SECONDS)
        # What was read while a key was forgotten may be older than its end: good for the one who asked, no longer.
        if times_forgotten == self._times_forgotten:
            self._known[name] = known
        return known

    def _read(self, secret: str) -> Authenticated | None:
        with self._database.read() as session:
            return keys.authenticate(session, secret)

    def _tidy_up(self) -> None:
        now = time.monotonic()
        if any(known.remembered_until < now for known in self._known.values()):
            self._known = {name: known for name, known in self._known.items() if known.remembered_until >= now}

    async def _note(self) -> None:
        used, self._used = self._used, set()
        if not used:
            return
        try:
            await self._writes.run(functools.partial(self._touch, used))
        except (SQLAlchemyError, DatabaseSilent) as error:
            self._used |= used
            _LOG.warning("key_uses_not_stored", error=type(error).__name__)

    def _touch(self, used: set[str]) -> None:
        with self._database.write() as session:
            keys.touch(session, sorted(used))
