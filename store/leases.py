"""Who may write for a running experiment.

Invariant: a claim takes one queued row by one guarded UPDATE, and everything a worker writes afterwards begins with
`renew`, which changes nothing and raises `StaleLease` unless the worker still holds the row. An expired lease nobody
has reaped can be renewed: a database outage ends no training.
"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, assert_never

from sqlalchemy import ColumnElement, Select, func, or_, select, update
from sqlalchemy.orm import Session

from store.database import clock
from store.errors import StaleLease
from store.eventlog import Entry
from store.models import Experiment
from store.rewind import rewind
from store.states import State
from store.text import finite_json
from store.transitions import Failure, fail, leave_running, log, move


@dataclass(frozen=True)
class Worker:
    """Who claims: the process, and what it computes on."""

    process_id: str
    device: str
    device_model: str
    torch_version: str


@dataclass(frozen=True)
class Lease:
    """The right to write for one attempt of one experiment."""

    experiment_id: str
    attempt: int
    token: str


@dataclass(frozen=True)
class Claim:
    """What a worker needs to begin: the complete spec as stored, and the checkpoint to resume from."""

    lease: Lease
    spec: dict[str, Any]
    restore: str | None
    restore_step: int
    not_bit_exact: str | None
    """Why this attempt cannot be bit-identical to an undisturbed run; None when it will be."""


@dataclass(frozen=True)
class Go:
    """Carry on."""


@dataclass(frozen=True)
class Stop:
    """Save, end, and `finish` with the outcome that fits the reason."""

    reason: Literal["cancel", "pause", "deadline"]


@dataclass(frozen=True)
class Succeeded:
    stop_reason: str
    summary: Mapping[str, Any]


@dataclass(frozen=True)
class Failed:
    code: str
    message: str


@dataclass(frozen=True)
class Cancelled:
    pass


@dataclass(frozen=True)
class Paused:
    pass


Outcome = Succeeded | Failed | Cancelled | Paused


def claim(session: Session, worker: Worker, *, lease_seconds: float) -> Claim | None:
    """Take the next queued experiment of the worker's queue: highest priority, then oldest. None when there is none.

    Metrics and checkpoints beyond the checkpoint to resume from are gone after it: they will be made again.
    """
    lease_token = secrets.token_hex(16)
    row = move(
        session,
        _next_queued(worker).scalar_subquery(),
        State.RUNNING,
        lease_token=lease_token,
        lease_expires_at=clock() + lease_seconds,
        attempt=Experiment.attempt + 1,
        process_id=worker.process_id,
        phase="restoring",
        claimed_at=clock(),
        first_claimed_at=func.coalesce(Experiment.first_claimed_at, clock()),
        pinned_device_kind=worker.device,
        pinned_device_model=func.coalesce(Experiment.pinned_device_model, worker.device_model),
    )
    if row is None:
        return None
    checkpoint = rewind(session, row)
    if checkpoint is None:
        # Nothing of another torch version is left in it.
        _pin_torch(session, row, worker.torch_version)
    doubt = _not_bit_exact(row, worker)
    entries = [Entry("claimed", f"Attempt {row.attempt} begins.", _claimed_data(worker, row))]
    if doubt is not None:
        entries.append(Entry("not_bit_exact", doubt))
    log(session, row, *entries)
    lease = Lease(row.id, row.attempt, lease_token)
    return Claim(lease, row.spec, None if checkpoint is None else checkpoint.id, row.step, doubt)


def renew(session: Session, lease: Lease, *, lease_seconds: float) -> Go | Stop:
    """Prolong the lease, and lock the experiment until the transaction ends. Raises `StaleLease`."""
    statement = (
        update(Experiment)
        .where(*held(lease))
        .values(lease_expires_at=clock() + lease_seconds)
        .returning(
            Experiment.desired,
            Experiment.deadline_seconds,
            # Compared below: SQLite 3.40 compares wrongly within RETURNING.
            clock() - Experiment.first_claimed_at - Experiment.paused_seconds,
        )
    )
    found = session.execute(statement, execution_options={"synchronize_session": False}).one_or_none()
    if found is None:
        raise StaleLease(lease.experiment_id, lease.attempt)
    desired, deadline_seconds, elapsed_seconds = found
    if desired in ("cancel", "pause"):
        return Stop("cancel" if desired == "cancel" else "pause")
    overdue = deadline_seconds is not None and elapsed_seconds > deadline_seconds
    return Stop("deadline") if overdue else Go()


def release(session: Session, lease: Lease) -> Experiment:
    """Hand the experiment back to its queue; no restart is counted. Raises `StaleLease`."""
    return _moved(leave_running(session, _locked(session, lease), *held(lease), failure=None), lease)


def restart(session: Session, lease: Lease, code: str, message: str) -> Experiment:
    """Queue the experiment again, or fail it when it was restarted `max_restarts` times. Raises `StaleLease`."""
    failure = Failure(code, message)
    return _moved(leave_running(session, _locked(session, lease), *held(lease), failure=failure), lease)


def finish(session: Session, lease: Lease, outcome: Outcome) -> Experiment:
    """End the attempt. A run that completed its budget has succeeded, whatever was asked meanwhile."""
    match outcome:
        case Succeeded(stop_reason, summary):
            values = {"stop_reason": stop_reason, "summary": finite_json(dict(summary))}
            moved = move(session, lease.experiment_id, State.SUCCEEDED, *held(lease), **values)
            entry = Entry("succeeded", f"Ended by {stop_reason}.", {"stop_reason": stop_reason})
        case Failed(code, message):
            moved = fail(session, lease.experiment_id, Failure(code, message), *held(lease))
            entry = Entry("failed", message, {"code": code, "message": message})
        case Cancelled():
            moved = move(session, lease.experiment_id, State.CANCELLED, *held(lease))
            entry = Entry("cancelled", "As asked.")
        case Paused():
            moved = move(session, lease.experiment_id, State.PAUSED, *held(lease), desired=None)
            entry = Entry("paused", "As asked.")
        case _:
            assert_never(outcome)
    return log(session, _moved(moved, lease), entry)


def held(lease: Lease) -> tuple[ColumnElement[bool], ...]:
    """The conditions under which a row is the lease's."""
    return (
        Experiment.id == lease.experiment_id,
        Experiment.state == State.RUNNING,
        Experiment.lease_token == lease.token,
        Experiment.attempt == lease.attempt,
    )


def _next_queued(worker: Worker) -> Select[str]:
    # SKIP LOCKED (PostgreSQL only): claimants racing for different rows do not wait for each other.
    return (
        select(Experiment.id)
        .where(
            Experiment.state == State.QUEUED,
            Experiment.device == worker.device,
            or_(Experiment.pinned_device_kind.is_(None), Experiment.pinned_device_kind == worker.device),
            or_(Experiment.pinned_device_model.is_(None), Experiment.pinned_device_model == worker.device_model),
        )
        .order_by(Experiment.priority.desc(), Experiment.created_at, Experiment.id)
        .limit(1)
        .with_for_update(skip_locked=True)
    )


def _pin_torch(session: Session, row: Experiment, version: str) -> None:
    statement = update(Experiment).where(Experiment.id == row.id).values(pinned_torch_version=version)
    session.execute(statement, execution_options={"synchronize_session": False})
    session.refresh(row)


def _not_bit_exact(row: Experiment, worker: Worker) -> str | None:
    if row.pinned_torch_version == worker.torch_version:
        return None
    return f"Began with torch {row.pinned_torch_version}, resumes with torch {worker.torch_version}."


def _claimed_data(worker: Worker, row: Experiment) -> dict[str, Any]:
    return {
        "process_id": worker.process_id,
        "device": worker.device,
        "device_model": worker.device_model,
        "torch_version": worker.torch_version,
        "restore_step": row.step,
    }


def _locked(session: Session, lease: Lease) -> Experiment:
    statement = select(Experiment).where(*held(lease)).with_for_update()
    return _moved(session.scalars(statement, execution_options={"populate_existing": True}).one_or_none(), lease)


def _moved(row: Experiment | None, lease: Lease) -> Experiment:
    if row is None:
        raise StaleLease(lease.experiment_id, lease.attempt)
    return row
