"""What a worker takes, and how it ends: the queue kernel's jobs with what each kind of them is about.

Invariant: a claimed job is prepared in the transaction that claims it, and its result is stored in the one that ends
it. What a kind adds to a job is in a module of its own (`store.<kind>s.working`), and named in the `match`es here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, assert_never, cast

from sqlalchemy.orm import Session

from bncore.run_directory import JobKind
from store.datasets import working as datasets
from store.evaluations import working as evaluations
from store.experiments import working as experiments
from store.experiments.rewind import rewind
from store.jobs import leases
from store.jobs.eventlog import Entry
from store.jobs.failures import Failure
from store.jobs.leases import Lease, Terms, Worker
from store.jobs.moves import Moved
from store.jobs.states import TERMINAL, State
from store.predictions import working as predictions
from store.prepared import Data, Prepared
from store.studies import waking
from store.studies import working as studies
from store.studies.working import Step
from store.tables import Checkpoint


@dataclass(frozen=True)
class Claim:
    """What a worker needs to begin: what is asked, complete as stored, and what has to lie in the run directory."""

    lease: Lease
    kind: JobKind
    spec: dict[str, Any]
    """Of an experiment, import or evaluation."""
    restore: str | None
    """The checkpoint to resume from; an experiment's alone."""
    restore_step: int
    not_bit_exact: str | None
    """Why this attempt cannot be bit-identical to an undisturbed run; None when it will be."""
    seconds_left: float | None
    """Until the deadline, by the worker's own clock from now on; None when there is none."""
    inputs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Files to be written first: the path in the run directory, and the files that it is put together of."""
    data: Data | None = None
    """The data set that is read."""
    rest_at: int | None = None
    """The step at which an experiment rests; None: it goes on to its end."""


@dataclass(frozen=True)
class Succeeded:
    """An experiment has a result."""

    stop_reason: str
    summary: Mapping[str, Any]


@dataclass(frozen=True)
class Concluded:
    """A job of another kind has one."""

    result: Mapping[str, Any]


@dataclass(frozen=True)
class Stepped:
    """A study has come one step further."""

    step: Step


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


@dataclass(frozen=True)
class Rested:
    """An experiment has come to the step at which it was to rest."""

    step: int


Outcome = Succeeded | Concluded | Stepped | Failed | Cancelled | Paused | Released | Rested


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
    """End the attempt. A job that is done has succeeded, whatever was asked meanwhile.

    Where a study waited for no other, it is queued. Raises `StaleLease`, and of a step of a study what that raises.
    """
    moved = _finish(session, lease, outcome)
    if moved.state in TERMINAL and (study_id := waking.of_job(session, moved.id)) is not None:
        waking.wake(session, [study_id])
    return moved


def finish_alone(session: Session, lease: Lease, outcome: Outcome) -> Moved | None:
    """The same where the transaction has the owner's turn; None, and nothing is done, where a study waits for the job.

    Whoever wakes a study has its row before the owner's turn, and two that wait for each other would both wait long.
    """
    return _finish(session, lease, outcome) if waking.of_job(session, lease.job_id) is None else None


def _finish(session: Session, lease: Lease, outcome: Outcome) -> Moved:
    match outcome:
        case Succeeded(stop_reason, summary):
            entry = Entry("succeeded", f"Ended by {stop_reason}.", {"stop_reason": stop_reason})
            moved = leases.succeed(session, lease, entry)
            experiments.conclude(session, lease.job_id, stop_reason, summary)
            return moved
        case Concluded(result):
            moved = leases.succeed(session, lease, Entry("succeeded", "Done."))
            _conclude(session, moved, result)
            return moved
        case Stepped(step):
            return studies.advance(session, lease, step)
        case Failed(code, message):
            return _end_badly(session, lease, Failure(code, message))
        case Cancelled() | Paused():
            return leases.stop_as_asked(
                session, lease, State.PAUSED if isinstance(outcome, Paused) else State.CANCELLED
            )
        case Released():
            return leases.release(session, lease)
        case Rested(step):
            return experiments.rest(session, lease, step)
        case _:
            assert_never(outcome)


def _prepared(session: Session, moved: Moved, worker: Worker, token: str) -> Claim:
    lease = Lease(moved.id, moved.attempt, token)
    kind = cast(JobKind, moved.kind)
    prepared = _prepare(session, kind, lease, moved, worker)
    seconds_left = None
    if moved.deadline_seconds is not None and moved.elapsed_seconds is not None:
        seconds_left = moved.deadline_seconds - moved.elapsed_seconds
    return Claim(
        lease=lease,
        kind=kind,
        spec=prepared.spec,
        restore=None if prepared.restore is None else prepared.restore.id,
        restore_step=0 if prepared.restore is None else prepared.restore.step,
        not_bit_exact=prepared.not_bit_exact,
        seconds_left=seconds_left,
        inputs=prepared.inputs,
        data=prepared.data,
        rest_at=prepared.rest_at,
    )


def _prepare(session: Session, kind: JobKind, lease: Lease, moved: Moved, worker: Worker) -> Prepared:
    match kind:
        case "experiment":
            return experiments.prepare(session, lease, moved, worker)
        case "dataset":
            return datasets.prepare(session, lease)
        case "evaluation":
            return evaluations.prepare(session, lease)
        case "prediction":
            return predictions.prepare(session, lease)
        case "study":
            return studies.prepare(session, lease)
        case _:
            assert_never(kind)


def _conclude(session: Session, moved: Moved, result: Mapping[str, Any]) -> None:
    match cast(JobKind, moved.kind):
        case "dataset":
            datasets.conclude(session, moved.id, result)
        case "evaluation":
            evaluations.conclude(session, moved.id, result)
        case "prediction":
            predictions.conclude(session, moved.id, result)
        case "experiment":
            raise ValueError("an experiment ends by a summary")
        case "study":
            raise ValueError("a study ends by a verdict")


def _end_badly(session: Session, lease: Lease, failure: Failure) -> Moved:
    moved = leases.end_badly(session, lease, failure)
    if moved.state is State.FAILED:
        _fail(session, moved, failure)
    return moved


def _fail(session: Session, moved: Moved, failure: Failure) -> None:
    match cast(JobKind, moved.kind):
        case "dataset":
            datasets.fail(session, moved.id, failure)
        case "experiment" | "evaluation" | "prediction" | "study":
            # What they have stays: the first two may be tried again, the last is forgotten.
            return
        case kind:
            assert_never(kind)
