"""What the service can reach, for whoever decides whether to send it requests.

Invariant: it has a connection and a thread of its own, so that busy requests do not make the service look absent, nor
many probes the service busy; the answer is a moment old at most.
"""

import asyncio
import contextlib
import time
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from api.lanes import DatabaseSilent, Lane
from store import processes
from store.columns import Table
from store.database import Database
from store.tables import Process

_WAIT_SECONDS = 3.0
_PATIENCE_SECONDS = 1.0
_LITTLE_PATIENCE_SECONDS = 0.2
_STILL_WORTH_SHOWING = 5
"""Times as long as an answer is kept."""


@dataclass(frozen=True)
class _Found:
    living: list[Process]
    error: Exception | None
    until: float


class Readiness:
    """Looks when it is asked, and for all who ask meanwhile."""

    def __init__(self, database_url: str, *, keep_seconds: float, live_within_seconds: float) -> None:
        self._database = Database(database_url, connections=1)
        self._lane = Lane("readiness", 1, _WAIT_SECONDS)
        self._keep_seconds = keep_seconds
        self._live_within_seconds = live_within_seconds
        self._looking = asyncio.Lock()
        self._found = _Found([], None, float("-inf"))
        self._refreshing: asyncio.Task[None] | None = None

    async def living(self) -> list[Process]:
        """The processes that say they live. Raises what the database raised, or `DatabaseSilent`."""
        async with self._looking:
            if self._found.until <= time.monotonic():
                self._found = await self._ask()
        if self._found.error is not None:
            raise self._found.error
        return self._found.living

    async def now(self) -> list[Process] | None:
        """The same for who can do without: None when it cannot be told soon."""
        return await self._known(0.0, _PATIENCE_SECONDS)

    async def lately(self) -> list[Process] | None:
        """The same as it was a few moments ago, mostly without waiting; what is older is made anew meanwhile."""
        return await self._known(self._keep_seconds * _STILL_WORTH_SHOWING, _LITTLE_PATIENCE_SECONDS)

    def close(self) -> None:
        self._lane.close()
        self._database.dispose()

    async def _known(self, overdue_at_most: float, patience_seconds: float) -> list[Process] | None:
        overdue = time.monotonic() - self._found.until
        if overdue > 0 and (self._refreshing is None or self._refreshing.done()):
            self._refreshing = asyncio.create_task(self._refresh())
        if overdue > overdue_at_most:
            assert self._refreshing is not None
            done, _ = await asyncio.wait({self._refreshing}, timeout=patience_seconds)
            if not done:
                return None
        return None if self._found.error is not None else self._found.living

    async def _refresh(self) -> None:
        with contextlib.suppress(SQLAlchemyError, DatabaseSilent):
            await self.living()

    async def _ask(self) -> _Found:
        living: list[Process] = []
        error: Exception | None = None
        try:
            living = await self._lane.run(self._look)
        except (SQLAlchemyError, DatabaseSilent) as caught:
            error = caught
        return _Found(living, error, time.monotonic() + self._keep_seconds)

    def _look(self) -> list[Process]:
        with self._database.read() as session:
            # Every column of every table: a database that was not migrated is none to serve from.
            for table in Table.metadata.sorted_tables:
                session.execute(select(table).limit(0))
            return processes.live(session, within_seconds=self._live_within_seconds)
