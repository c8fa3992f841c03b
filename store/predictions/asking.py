"""From a question to its answer, and to its being forgotten."""

from typing import Any

from sqlalchemy import insert, literal_column, select, update
from sqlalchemy.orm import Session

from store import files, held, owners, queueing
from store.columns import core
from store.database import clock
from store.errors import PredictionNotFound
from store.evaluations.submitting import meant
from store.jobs import wishes
from store.jobs.conditions import IS_OVER, IS_VISIBLE, owned_by
from store.jobs.wishes import By
from store.queueing import Limits, Newcomer, Submitter
from store.tables import Job, Prediction

PRIORITY = 100
"""Before all that nobody waits for."""
FORGOTTEN_SECONDS = 60.0
"""After its end: whoever asked has gone without a word."""
_JOB = core(Job).c
_OVER = (_JOB.kind == literal_column("'prediction'"), IS_OVER, IS_VISIBLE)
ENDED = select(_JOB.id).where(*_OVER, _JOB.finished_at < clock() - FORGOTTEN_SECONDS)
"""Those that nobody came for."""


def ask(
    session: Session, experiment_id: str, checkpoint: str, spec: dict[str, Any], who: Submitter, limits: Limits
) -> str:
    """Queue a prediction with a checkpoint of the experiment, whose owner is `who`; its id.

    Raises `CheckpointNotFound`, and `QuotaExceeded` where its owner's queue is full.
    """
    owners.take_turn(session, who.owner)
    found = meant(session, experiment_id, checkpoint)
    newcomer = Newcomer(max_restarts=0)
    (job,) = queueing.enter(session.connection(), "prediction", [newcomer], who, Limits(limits.queued_jobs), PRIORITY)
    row = {
        "id": job["id"],
        "submitted_by": job["owner"],
        "submitted_at": job["created_at"],
        "checkpoint_id": found.id,
        "spec": {**spec, "checkpoint": found.id},
    }
    session.execute(insert(core(Prediction)).values(row))
    held.hold(session, who.owner, str(job["id"]), found)
    return str(job["id"])


def get(session: Session, prediction_id: str) -> Prediction:
    """The prediction as it is now. Raises `PredictionNotFound`."""
    statement = select(Prediction).where(Prediction.id == prediction_id, *owned_by(None))
    found = session.scalars(statement).one_or_none()
    if found is None:
        raise PredictionNotFound(prediction_id)
    return found


def forget(session: Session, prediction_id: str) -> None:
    """Nobody wants the answer any more: one that waits is cancelled and gone; of a running one, once it has ended."""
    by = By(None)
    wishes.ask(session, prediction_id, "kill", by)
    files.drop_of_jobs(session, wishes.delete_all(session, [prediction_id], by))


def forget_ended(session: Session) -> int:
    """Hide those of `ENDED`; how many."""
    late = _JOB.finished_at < clock() - FORGOTTEN_SECONDS
    statement = update(core(Job)).where(*_OVER, late).values(deleted_at=clock()).returning(_JOB.id)
    gone = list(session.execute(statement).scalars())
    files.drop_of_jobs(session, gone)
    return len(gone)
