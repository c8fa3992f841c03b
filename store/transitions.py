"""The one place where an experiment changes its state, with everything that follows from the change.

Invariant: a move goes along `states.ALLOWED` and is decided inside the UPDATE; a row that becomes queued gets its bell
in the same transaction; a row that leaves `running` has no lease.
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, case, insert, literal, update
from sqlalchemy.orm import InstrumentedAttribute, Session
from sqlalchemy.sql.selectable import ScalarSelect

from store import eventlog
from store.database import clock
from store.eventlog import Entry
from store.models import Bell, Checkpoint, Experiment
from store.states import TERMINAL, State, sources
from store.text import storable

_RETURNING = {"synchronize_session": False, "populate_existing": True}
_NO_LEASE: dict[str, Any] = {"lease_token": None, "lease_expires_at": None, "process_id": None, "phase": None}


@dataclass(frozen=True)
class Failure:
    """Why an attempt ended: a code for programs, a message for people."""

    code: str
    message: str


def move(
    session: Session,
    experiment_id: str | ScalarSelect[str],
    target: State,
    *guards: ColumnElement[bool],
    **values: Any,
) -> Experiment | None:
    """Change the state of an experiment if it may and all guards hold; None, and nothing changed, if not."""
    statement = (
        update(Experiment)
        .where(Experiment.id == experiment_id, Experiment.state.in_(sources(target)), *guards)
        .values(state=target, version=Experiment.version + 1, **{**_consequences(target), **values})
        .returning(Experiment)
    )
    row = session.execute(statement, execution_options=_RETURNING).scalar_one_or_none()
    if row is not None and target is State.QUEUED:
        ring(session, row)
    if row is not None and target in TERMINAL:
        _drop_unfinished(session, row)
    return row


def log(session: Session, row: Experiment, *entries: Entry) -> Experiment:
    """Write lines to the log of a row and bring the row up to date."""
    eventlog.append(session, row.id, row.attempt, entries)
    session.refresh(row)
    return row


def ring(session: Session, row: Experiment) -> None:
    """Put a bell for the row's queue into the outbox."""
    session.execute(insert(Bell).values(experiment_id=row.id, device=row.device, created_at=clock()))


def leave_running(
    session: Session, row: Experiment, *guards: ColumnElement[bool], failure: Failure | None
) -> Experiment | None:
    """Move a locked running row on after its attempt ended early.

    What its owner asked for comes first. Without a failure the attempt was handed back and does not count; with one it
    is a restart, or the end when there were enough of them.
    """
    reason = {} if failure is None else {"code": failure.code, "message": failure.message}
    if row.desired in ("cancel", "pause"):
        target = State.CANCELLED if row.desired == "cancel" else State.PAUSED
        moved = move(session, row.id, target, *guards, desired=None)
        entry = Entry(target.value, f"As asked, when attempt {row.attempt} ended.", reason)
    elif failure is None:
        moved = move(session, row.id, State.QUEUED, *guards)
        entry = Entry("released", f"Attempt {row.attempt} was handed back; it does not count as a restart.")
    elif row.restarts < row.max_restarts:
        moved = move(session, row.id, State.QUEUED, *guards, restarts=Experiment.restarts + 1)
        entry = Entry("restarted", f"Restart {row.restarts + 1} of {row.max_restarts}: {failure.message}", reason)
    else:
        moved = fail(session, row.id, failure, *guards)
        entry = Entry("failed", failure.message, reason)
    return None if moved is None else log(session, moved, entry)


def fail(session: Session, experiment_id: str, failure: Failure, *guards: ColumnElement[bool]) -> Experiment | None:
    """Move to `failed` with its reason."""
    message = storable(failure.message)
    return move(session, experiment_id, State.FAILED, *guards, failure_code=failure.code, failure_message=message)


def waiting_for_worker() -> ColumnElement[str]:
    """What a queued row waits for: any worker of its queue, or one like the one that began it."""
    model: InstrumentedAttribute[str | None] = Experiment.pinned_device_model
    return case((model.is_(None), literal("worker")), else_=literal("worker with ") + model)


def _consequences(target: State) -> dict[str, Any]:
    if target is State.RUNNING:
        return {"waiting_for": None}
    if target is State.QUEUED:
        return {**_NO_LEASE, "queued_at": clock(), "waiting_for": waiting_for_worker()}
    if target is State.PAUSED:
        return {**_NO_LEASE, "paused_at": clock(), "waiting_for": None}
    return {**_NO_LEASE, "finished_at": clock(), "waiting_for": None, "desired": None}


def _drop_unfinished(session: Session, row: Experiment) -> None:
    unfinished = (
        update(Checkpoint)
        .where(Checkpoint.experiment_id == row.id, Checkpoint.whole_at.is_(None), Checkpoint.dropped_at.is_(None))
        .values(dropped_at=clock())
    )
    session.execute(unfinished, execution_options={"synchronize_session": False})
