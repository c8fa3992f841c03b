"""Reaping lost experiments and giving back the bytes of deleted ones.

Invariant: nothing is reaped until workers have had one whole lease to renew after the database came back, or after this
process itself was away: an outage kills nothing that lives.
"""

import time
from collections.abc import Callable

import structlog

from store import experiments, idempotency, processes
from store.database import Database, now
from store.reaper import reap

log = structlog.get_logger()

_FORGET_PROCESS_SECONDS = 24 * 3600.0


class ReapingClock:
    """When reaping is safe: one lease after the first contact that followed a gap."""

    def __init__(self, *, lease_seconds: float, longest_gap_seconds: float, clock: Callable[[], float]) -> None:
        self._lease_seconds = lease_seconds
        self._longest_gap_seconds = longest_gap_seconds
        self._clock = clock
        self._contact_at = -float("inf")
        self._safe_at = 0.0

    def contact(self) -> bool:
        """The database has answered; whether it has done so long enough."""
        moment = self._clock()
        if moment - self._contact_at > self._longest_gap_seconds:
            self._safe_at = moment + self._lease_seconds
        self._contact_at = moment
        return moment >= self._safe_at


class Reaper:
    """Looks for expired leases."""

    def __init__(self, database: Database, *, lease_seconds: float, every_seconds: float) -> None:
        self._database = database
        # A contact that comes late is an outage, whether the database was away or this process was stopped.
        self._clock = ReapingClock(
            lease_seconds=lease_seconds, longest_gap_seconds=2 * every_seconds, clock=time.monotonic
        )

    def turn(self) -> None:
        """Move on what is lost, if it is safe to say so."""
        with self._database.read() as session:
            now(session)
        if not self._clock.contact():
            return
        with self._database.write() as session:
            reaped = reap(session)
        for one in reaped:
            log.warning("reaped", experiment_id=one.experiment_id, attempt=one.attempt, state=one.state.value)


class Purge:
    """Gives back what was deleted."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def turn(self) -> bool:
        """A batch of rows; whether there may be more."""
        with self._database.write() as session:
            processes.purge(session, older_than_seconds=_FORGET_PROCESS_SECONDS)
            idempotency.purge(session)
            deleted = experiments.purge(session)
        if deleted:
            log.info("purged", rows=deleted)
        return deleted > 0
