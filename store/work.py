"""What a worker takes, and how it ends: the queue kernel's jobs with what each kind of them is about.

Invariant: a claimed job is prepared in the transaction that claims it, and its result is stored in the one that ends
it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, assert_never

from sqlalchemy import bindparam, select, update
from sqlalchemy.orm import Session

from store.columns import core
from store.experiments.rewind import rewind
from store.jobs import eventlog, leases
from store.jobs.eventlog import Entry
from store.jobs.failures import Failure
from store.jobs.leases import Lease, Terms, Worker
from store.jobs.moves import Moved
from store.jobs.states import State
from store.tables import Checkpoint, Experiment
from store.text import finite_json

_SPEC = select(core(Experiment).c.spec).where(core(Experiment).c.id == bindparam("of_experiment"))


@dataclass(frozen=True)
class Claim:
    """What a worker needs to begin: the complete spec as stored, and the checkpoint to resume from."""

    lease: Lease
    kind: str
    spec: dict[str, Any]
    restore: str | None
    restore_step: int
    not_bit_exact: str | None
    """Why this attempt cannot be bit-identical to an undisturbed run; None when it will be."""
    seconds_left: float | None
    """Until the deadline, by the worker's own clock from now on; None when there is none."""


@dataclass(frozen=True)
class Succeeded:
    stop_reason: str
    summary: Mapping[str, Any]


@dataclass(frozen=True)
class Failed:
    """Its code says whether the job is queued again (`store.jobs.failures`)."""

    code: str
    message: str


@dataclass(frozen=True)
class Cancelled:
    pass


@dataclass(frozen=True)
class Paused:
    pass


@dataclass(frozen=True)
class Released:
    """Handed back: nothing went wrong."""


Outcome = Succeeded | Failed | Cancelled | Paused | Released


def take(session: Session, worker: Worker, terms: Terms, token: str) -> Claim | None:
    """Claim the next job of the worker's queue, and prepare it; None when there is none.

    Metrics and checkpoints beyond the checkpoint to resume from are gone after it: they will be made again.
    """
    moved = leases.claim(session, worker, terms, token)
    return None if moved is None else _prepared(session, moved, worker, token)


def taken(session: Session, worker: Worker, token: str) -> Claim | None:
    """What `take` with this token took when its answer was lost; None when it took nothing."""
    moved = leases.claimed(session, token)
    return None if moved is None else _prepared(session, moved, worker, token)


def go_back(session: Session, lease: Lease) -> Checkpoint | None:
    """Set the job back to the newest checkpoint that is left, and return that; None for the beginning.

    Raises `StaleLease`.
    """
    leases.renew(session, lease)
    return rewind(session, lease.job_id)


def finish(session: Session, lease: Lease, outcome: Outcome) -> Moved:
    """End the attempt. A run that completed its budget has succeeded, whatever was asked meanwhile.

    Raises `StaleLease`.
    """
    match outcome:
        case Succeeded(stop_reason, summary):
            entry = Entry("succeeded", f"Ended by {stop_reason}.", {"stop_reason": stop_reason})
            moved = leases.succeed(session, lease, entry)
            values = {"stop_reason": stop_reason, "summary": finite_json(dict(summary))}
            table = core(Experiment)
            session.execute(update(table).where(table.c.id == lease.job_id).values(values))
            return moved
        case Failed(code, message):
            return leases.end_badly(session, lease, Failure(code, message))
        case Cancelled():
            return leases.stop_as_asked(session, lease, State.CANCELLED)
        case Paused():
            return leases.stop_as_asked(session, lease, State.PAUSED)
        case Released():
            return leases.release(session, lease)
        case _:
            assert_never(outcome)


def _prepared(session: Session, moved: Moved, worker: Worker, token: str) -> Claim:
    """Set the experiment back to its newest restorable checkpoint; the first attempt has nothing to go back from."""
    lease = Lease(moved.id, moved.attempt, token)
    checkpoint = rewind(session, moved.id) if moved.attempt > 1 else None
    doubt = _doubt(session, lease, moved, worker, checkpoint)
    spec = session.execute(_SPEC, {"of_experiment": moved.id}).scalar_one()
    seconds_left = None
    if moved.deadline_seconds is not None and moved.elapsed_seconds is not None:
        seconds_left = moved.deadline_seconds - moved.elapsed_seconds
    return Claim(
        lease=lease,
        kind=moved.kind,
        spec=spec,
        restore=None if checkpoint is None else checkpoint.id,
        restore_step=0 if checkpoint is None else checkpoint.step,
        not_bit_exact=doubt,
        seconds_left=seconds_left,
    )


def _doubt(session: Session, lease: Lease, moved: Moved, worker: Worker, checkpoint: Checkpoint | None) -> str | None:
    if moved.pinned_torch_version == worker.torch_version:
        return None
    if checkpoint is None:
        # Nothing of another torch version is left in it.
        leases.pin_torch(session, lease, worker.torch_version)
        return None
    doubt = f"Began with torch {moved.pinned_torch_version}, resumes with torch {worker.torch_version}."
    eventlog.append(session, lease.job_id, lease.attempt, [Entry("not_bit_exact", doubt)])
    return doubt
