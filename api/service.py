"""The parts of one API process, made once and closed once.

Invariant: nothing is asked of a database before a request needs it: the service starts while its database is down.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from api.aside.pool import Aside
from api.aside.pool import Limits as AsideLimits
from api.changes import ChangeWatch
from api.gate import Gate
from api.intake import Intake
from api.integrity import Integrity
from api.keyring import Keyring
from api.lanes import Lane
from api.readiness import Readiness
from api.settings import ApiSettings
from store.database import CONNECTIONS, Database
from store.queueing import Limits

_READ_THREADS = {"sqlite": 1, "postgresql": 2}
"""Of each lane for reading. Python runs one thread at a time, and the event loop waits for its turn among them. Others
are of use while they wait for the database, which takes a PostgreSQL server's time and no time at all with SQLite."""


class ApiService:
    """What lives as long as the process; `create_app` puts it into `app.state.service`."""

    def __init__(self, settings: ApiSettings) -> None:
        url = settings.database_url.get_secret_value()
        self.settings = settings
        self.limits = Limits(settings.queued_per_owner, settings.bytes_per_owner)
        self.database = Database(url)
        kind = self.database.engine.dialect.name
        readers = _READ_THREADS[kind]
        # SQLite lets one write at a time: the next one waits here for its turn, not in there, blindly and in no order.
        writers = 1 if kind == "sqlite" else CONNECTIONS - 1 - 3 * readers
        self.reads, self.long_reads, self.chunk_reads = (
            Lane(name, readers, settings.database_seconds) for name in ("reads", "long reads", "chunk reads")
        )
        self.bodies = Lane("bodies", 1, settings.database_seconds)
        # Pieces of uploads come by the thousand, and nothing else waits for more than one of them.
        self.uploads = Lane("uploads", 1, settings.database_seconds)
        self.writes = Lane("writes", writers, settings.database_seconds)
        self.intake = Intake(self.database, self.writes, self.limits, settings.database_seconds)
        self.keyring = Keyring(
            self.database,
            self.reads,
            self.writes,
            keep_seconds=settings.key_cache_seconds,
            note_seconds=settings.key_use_seconds,
        )
        self.integrity = Integrity(self.database, self.chunk_reads, self.writes)
        self.gate = Gate(
            requests_per_second=settings.requests_per_second,
            request_burst=settings.request_burst,
            failed_keys_per_minute=settings.failed_keys_per_minute,
        )
        self.aside = Aside(_aside_limits(settings))
        self.changes = ChangeWatch(url, settings.poll_seconds)
        self.readiness = Readiness(
            url,
            keep_seconds=settings.readiness_cache_seconds,
            live_within_seconds=settings.live_within_seconds,
        )

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Around the life of the application."""
        noting = asyncio.create_task(self.keyring.note_uses())
        yield
        noting.cancel()
        await self.keyring.note_last_uses()
        self.aside.close()
        self.changes.close()
        self.readiness.close()
        for lane in (self.reads, self.long_reads, self.chunk_reads, self.bodies, self.uploads, self.writes):
            lane.close()
        self.database.dispose()


def _aside_limits(settings: ApiSettings) -> AsideLimits:
    return AsideLimits(
        cpu_seconds=settings.aside_seconds,
        stuck_seconds=settings.aside_stuck_seconds,
        wait_seconds=settings.aside_wait_seconds,
        waiting=settings.aside_waiting,
        idle_seconds=settings.aside_idle_seconds,
        memory_bytes=settings.aside_memory_bytes,
    )
