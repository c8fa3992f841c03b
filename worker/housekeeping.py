"""Reaping lost jobs, waking studies, and giving back the bytes of what was deleted.

Invariant: nothing is reaped until workers have had one whole lease to renew after the database came back, its clock
jumped, or the machine was away (`store.jobs.reaper`): what lives and renews is never reaped.
"""

import time
from collections.abc import Callable

import structlog

from store import idempotency, processes, purging, studies
from store.database import Database
from store.datasets import uploads
from store.jobs import reaper
from store.jobs.reaper import Reaped

log = structlog.get_logger()

_FORGET_PROCESS_SECONDS = 600.0
# Steps of a clock below this are its being kept right, or a statement that waited.
_JUMP_SECONDS = 30.0


class Reaper:
    """Looks for expired leases, and for jobs whose time is over while they wait."""

    def __init__(
        self,
        database: Database,
        *,
        lease_seconds: float,
        every_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._clock = clock
        self._lease_seconds = lease_seconds
        # A look that comes late is an outage, whether the database was away or this process was stopped.
        self._longest_gap_seconds = 2 * every_seconds
        self._looked: tuple[float, float] | None = None

    def turn(self) -> None:
        """Move on what is lost, if it is safe to say so."""
        with self._database.write() as session:
            look = reaper.look(
                session, lease_seconds=self._lease_seconds, longest_gap_seconds=self._longest_gap_seconds
            )
            jumped = self._jumped_seconds(look.at)
            if jumped:
                reaper.forgive(session, jumped)
        if jumped:
            log.warning("clock_jumped", seconds=round(jumped, 1))
        if not look.trusted:
            return
        with self._database.write() as session:
            reaped = [*reaper.reap(session), *reaper.end_overdue(session)]
        for one in reaped:
            _say(one)

    def _jumped_seconds(self, at: float) -> float:
        """By how much the database's clock went further than ours since the last look; 0 when about as far."""
        before, self._looked = self._looked, (at, self._clock())
        if before is None:
            return 0.0
        jumped = (at - before[0]) - (self._looked[1] - before[1])
        return jumped if abs(jumped) >= _JUMP_SECONDS else 0.0


class Purge:
    """Gives back what was deleted, in steps between which others get at the database."""

    def __init__(self, database: Database, rest: Callable[[float], object] = time.sleep) -> None:
        self._database = database
        self._rest = rest
        self._has_purged = False

    def turn(self) -> bool:
        """A step; whether there may be more."""
        began = time.monotonic()
        with self._database.read() as session:
            due = purging.is_due(session)
        with self._database.write() as session:
            processes.purge(session, older_than_seconds=_FORGET_PROCESS_SECONDS)
            idempotency.purge(session)
            uploads.purge(session)
            deleted = purging.purge(session) if due else 0
        if deleted:
            log.info("purged", rows=deleted)
            self._rest(2 * (time.monotonic() - began))
        elif self._has_purged:
            purging.truncate_log(self._database)
        self._has_purged = deleted > 0
        return deleted > 0


class Waking:
    """Looks for studies that wait for nothing any more, where it was no worker that ended the last of their jobs."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def turn(self) -> None:
        """Queue some; where none is due, nothing is written."""
        with self._database.read() as session:
            due = studies.due(session)
        if not due:
            return
        with self._database.write() as session:
            woken = studies.wake(session, due)
        log.info("studies_woken", count=woken)


def _say(one: Reaped) -> None:
    log.warning("reaped", job_id=one.job_id, attempt=one.attempt, state=one.state.value)
