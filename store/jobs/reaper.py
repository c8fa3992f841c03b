"""Moving on the jobs whose worker vanished, and ending those whose time is over while nobody runs them.

Invariant: a worker that renews is alive, whatever clocks and databases do. Only an expired lease is reaped, decided
inside the UPDATE, so a renewal that comes first wins; and only once workers have had a whole lease to renew since the
database was last away or its clock last jumped. What is known of that is a row, so it outlives whoever looks, and
looking writes, to the table that renewals write to: where they cannot, nobody has looked.
"""

from dataclasses import dataclass

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from store.columns import core
from store.database import clock, insert_if_absent, now
from store.jobs.conditions import IS_QUEUED, IS_RUNNING, elapsed_seconds
from store.jobs.failures import Failure
from store.jobs.moves import fail, leave_running
from store.jobs.states import TERMINAL, State
from store.tables import Job, Watch

_JOB = core(Job).c

_NAME = "reaper"
_LOST = Failure("worker_lost", "The worker stopped renewing its lease.")
_OVERDUE = Failure("deadline", "It took longer than deadline_seconds.")
_JITTER_SECONDS = 1.0


@dataclass(frozen=True)
class Reaped:
    """A job that was moved on, and where to."""

    job_id: str
    attempt: int
    state: State


@dataclass(frozen=True)
class Look:
    """What one look at the clock says."""

    at: float
    trusted: bool
    """Workers have had a whole lease to renew since anything was wrong."""


def look(session: Session, *, lease_seconds: float, longest_gap_seconds: float) -> Look:
    """Look at the clock, and write down that this was possible.

    A look that comes long after the last one, or before it, follows an outage, a jump of the clock or a machine that
    was suspended: for one lease after it nothing is believed.
    """
    _shorten_impossible_leases(session)
    at = now(session)
    insert_if_absent(session, Watch, {"name": _NAME, "looked_at": at, "trusted_from": at + lease_seconds})
    statement = select(Watch.looked_at, Watch.trusted_from).where(Watch.name == _NAME).with_for_update()
    looked_at, trusted_from = session.execute(statement).one()
    if not -_JITTER_SECONDS <= at - looked_at <= longest_gap_seconds:
        trusted_from = at + lease_seconds
    values = {"looked_at": at, "trusted_from": trusted_from}
    session.execute(update(core(Watch)).where(Watch.name == _NAME).values(values))
    return Look(at, at >= trusted_from)


def forgive(session: Session, seconds: float) -> None:
    """Take a jump of the database's clock out of what counts towards deadlines."""
    statement = (
        update(core(Job))
        .where(_JOB.state.not_in(TERMINAL), _JOB.first_claimed_at.is_not(None), _JOB.deadline_seconds.is_not(None))
        .values(paused_seconds=_JOB.paused_seconds + seconds)
    )
    session.execute(statement)


def reap(session: Session) -> list[Reaped]:
    """Move every running job with an expired lease on: to what was asked of it, its queue, or `failed`."""
    expired = (IS_RUNNING, _JOB.lease_expires_at < clock())
    statement = (
        select(_JOB.id, _JOB.desired, _JOB.restarts < _JOB.max_restarts, _JOB.lease_token)
        .where(*expired)
        .with_for_update(skip_locked=True)
    )
    reaped = []
    for job_id, desired, restarts_left, token in sorted(session.execute(statement).all()):
        guards = (*expired, _JOB.lease_token == token)
        moved = leave_running(session, job_id, desired, bool(restarts_left), *guards, failure=_LOST)
        if moved is not None:
            reaped.append(Reaped(moved.id, moved.attempt, moved.state))
    return reaped


def end_overdue(session: Session) -> list[Reaped]:
    """Fail what waits in a queue beyond its deadline; a running job's worker looks at that itself."""
    timed = (_JOB.deadline_seconds.is_not(None), _JOB.first_claimed_at.is_not(None))
    overdue = (IS_QUEUED, *timed, _JOB.deadline_seconds < elapsed_seconds())
    # Sorted here: asked for in that order, they would be looked for in it, through all there are.
    found = sorted(session.scalars(select(_JOB.id).where(*overdue)))
    ended = [fail(session, job_id, _OVERDUE, *overdue) for job_id in found]
    return [Reaped(moved.id, moved.attempt, moved.state) for moved in ended if moved is not None]


def _shorten_impossible_leases(session: Session) -> None:
    """A lease that ends later than a renewal right now could make it was written before the clock was set back."""
    latest = clock() + _JOB.lease_seconds
    statement = (
        update(core(Job))
        .where(IS_RUNNING, _JOB.lease_expires_at > latest + _JITTER_SECONDS)
        .values(lease_expires_at=latest)
    )
    session.execute(statement)
