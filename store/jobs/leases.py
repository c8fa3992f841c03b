"""Who may write for a running job.

Invariant: a claim takes one queued row by one guarded UPDATE, and everything a worker writes afterwards begins with
`renew`, which changes nothing and raises `StaleLease` unless the worker still holds the row. An expired lease nobody
has reaped can be renewed: a database outage ends no training.
"""

import secrets
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import ColumnElement, Select, func, or_, select, update
from sqlalchemy.orm import Session

from store.columns import core
from store.database import clock
from store.errors import StaleLease
from store.jobs.conditions import IS_QUEUED, IS_RUNNING, is_due
from store.jobs.eventlog import Entry
from store.jobs.failures import Failure
from store.jobs.moves import RETURNED, Moved, leave_running, move, moved_of
from store.jobs.states import State
from store.tables import Job


@dataclass(frozen=True)
class Worker:
    """Who claims: the process, and what it computes on."""

    process_id: str
    device: str
    device_model: str
    torch_version: str


@dataclass(frozen=True)
class Terms:
    """How a worker claims: how long one renewal of its lease lasts, and how many jobs an owner may have running."""

    lease_seconds: float
    running_per_owner: int = 2**31 - 1


@dataclass(frozen=True)
class Lease:
    """The right to write for one attempt of one job."""

    job_id: str
    attempt: int
    token: str


@dataclass(frozen=True)
class Go:
    """Carry on."""


@dataclass(frozen=True)
class Stop:
    """Save, end, and store the outcome that fits the reason; after `kill` there is no time to save."""

    reason: Literal["cancel", "pause", "kill"]


def new_token() -> str:
    """A token for a claim. Keep it until the claim's answer is there: with it a claim can be repeated."""
    return secrets.token_hex(16)


def claim(session: Session, worker: Worker, terms: Terms, token: str) -> Moved | None:
    """Take the next queued job of the worker's queue: highest priority, then by turns of owners, then the oldest.

    None when there is none. When the answer to a claim was lost, `claimed` says what it took.
    """
    return move(
        session,
        _next_queued(worker, terms).scalar_subquery(),
        State.RUNNING,
        lambda moved: Entry("claimed", f"Attempt {moved.attempt} begins.", _who(worker)),
        lease_token=token,
        lease_seconds=terms.lease_seconds,
        lease_expires_at=clock() + terms.lease_seconds,
        attempt=Job.attempt + 1,
        process_id=worker.process_id,
        phase="restoring",
        claimed_at=clock(),
        first_claimed_at=func.coalesce(Job.first_claimed_at, clock()),
        pinned_device_kind=worker.device,
        pinned_device_model=func.coalesce(Job.pinned_device_model, worker.device_model),
        pinned_torch_version=func.coalesce(Job.pinned_torch_version, worker.torch_version),
    )


def claimed(session: Session, token: str) -> Moved | None:
    """The running job that was claimed with this token, if there is one."""
    found = session.execute(select(*RETURNED).where(IS_RUNNING, Job.lease_token == token)).one_or_none()
    return None if found is None else moved_of(found)


def pin_torch(session: Session, lease: Lease, version: str) -> None:
    """Remember another torch version: nothing of the earlier one is left in the job."""
    session.execute(update(core(Job)).where(*held(lease)).values(pinned_torch_version=version))


def renew(session: Session, lease: Lease, **changes: Any) -> Go | Stop:
    """Prolong the lease, and lock the job until the transaction ends. Raises `StaleLease`.

    What else is to change in the row comes along in the same statement.
    """
    if changes:
        changes["version"] = Job.version + 1
    statement = (
        update(core(Job))
        .where(*held(lease))
        .values(lease_expires_at=clock() + Job.lease_seconds, **changes)
        .returning(Job.desired)
    )
    found = session.execute(statement).one_or_none()
    if found is None:
        raise StaleLease(lease.job_id, lease.attempt)
    return Go() if found.desired is None else Stop(found.desired)


def release(session: Session, lease: Lease) -> Moved:
    """Hand the job back to its queue; no restart is counted. Raises `StaleLease`."""
    return _left(session, lease, None)


def end_badly(session: Session, lease: Lease, failure: Failure) -> Moved:
    """End the attempt by a failure, whose code says whether the job is queued again. Raises `StaleLease`."""
    return _left(session, lease, failure)


def succeed(session: Session, lease: Lease, entry: Entry) -> Moved:
    """End the job well. A job that is done has succeeded, whatever was asked meanwhile. Raises `StaleLease`."""
    return _moved(move(session, lease.job_id, State.SUCCEEDED, lambda _: entry, *held(lease)), lease)


def stop_as_asked(session: Session, lease: Lease, target: Literal[State.CANCELLED, State.PAUSED]) -> Moved:
    """End the attempt because its owner wanted that. Raises `StaleLease`."""
    entry = Entry(target.value, "As asked.")
    return _moved(move(session, lease.job_id, target, lambda _: entry, *held(lease), desired=None), lease)


def held(lease: Lease) -> tuple[ColumnElement[bool], ...]:
    """The conditions under which a row is the lease's."""
    return (Job.id == lease.job_id, IS_RUNNING, Job.lease_token == lease.token, Job.attempt == lease.attempt)


def _next_queued(worker: Worker, terms: Terms) -> Select[str]:
    busy = select(Job.owner).where(IS_RUNNING).group_by(Job.owner).having(func.count() >= terms.running_per_owner)
    # SKIP LOCKED (PostgreSQL only): claimants racing for different rows do not wait for each other.
    return (
        select(Job.id)
        .where(
            IS_QUEUED,
            Job.queue == worker.device,
            is_due(),
            or_(Job.pinned_device_model.is_(None), Job.pinned_device_model == worker.device_model),
            Job.owner.not_in(busy),
        )
        .order_by(Job.priority.desc(), Job.turn, Job.created_at, Job.id)
        .limit(1)
        .with_for_update(skip_locked=True)
    )


def _left(session: Session, lease: Lease, failure: Failure | None) -> Moved:
    statement = select(Job.desired, Job.restarts < Job.max_restarts).where(*held(lease)).with_for_update()
    found = session.execute(statement).one_or_none()
    if found is None:
        raise StaleLease(lease.job_id, lease.attempt)
    desired, restarts_left = found
    return _moved(
        leave_running(session, lease.job_id, desired, bool(restarts_left), *held(lease), failure=failure), lease
    )


def _who(worker: Worker) -> dict[str, Any]:
    return {
        "process_id": worker.process_id,
        "device": worker.device,
        "device_model": worker.device_model,
        "torch_version": worker.torch_version,
    }


def _moved(moved: Moved | None, lease: Lease) -> Moved:
    if moved is None:
        raise StaleLease(lease.job_id, lease.attempt)
    return moved
