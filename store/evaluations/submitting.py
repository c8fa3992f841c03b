"""Evaluations come in: which checkpoint is meant, and that it stays until it is measured.

Invariant: job, evaluation and a file that refers to the checkpoint's weights are one transaction: whatever becomes of
the experiment and its checkpoints, what was accepted can be measured.
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import insert, select
from sqlalchemy.orm import Session

from bncore.spec import fingerprint_of
from bncore.spec.evaluation import CheckpointEvaluation
from store import checkpoints, held, owners, queueing
from store.columns import core
from store.datasets import using
from store.errors import CheckpointNotFound
from store.prepared import Data
from store.queueing import Limits, Newcomer, Submitter
from store.tables import Checkpoint, Evaluation

MAX_RESTARTS = 3


@dataclass(frozen=True)
class Submission:
    """An evaluation with everything that is stored of it; `checkpoint` says which one it is of."""

    experiment_id: str
    checkpoint: str
    document: dict[str, Any]
    fingerprint: str

    @classmethod
    def of(cls, experiment_id: str, asked: CheckpointEvaluation) -> "Submission":
        text = asked.canonical_json()
        return cls(experiment_id, asked.checkpoint, asked.model_dump(mode="json"), fingerprint_of(text))


def submit(session: Session, submission: Submission, who: Submitter, limits: Limits) -> str:
    """Queue an evaluation for the experiment's owner, who is `who`; its id.

    Raises `QuotaExceeded`, `DatasetUnusable`, and `CheckpointNotFound` where the experiment has no such checkpoint, or
    none yet.
    """
    # The turn first, as whoever has it may be about to hold the same data set, or to give up the checkpoint.
    owners.take_turn(session, who.owner)
    data = Data.of(submission.document)
    if data is not None:
        using.hold(session, who.owner, [data.dataset_id])
    checkpoint = meant(session, submission.experiment_id, submission.checkpoint)
    newcomer = Newcomer(MAX_RESTARTS)
    (job,) = queueing.enter(session.connection(), "evaluation", [newcomer], who, limits)
    row = {
        "id": job["id"],
        "submitted_by": job["owner"],
        "submitted_at": job["created_at"],
        "experiment_id": submission.experiment_id,
        "checkpoint_id": checkpoint.id,
        "spec": {**submission.document, "checkpoint": checkpoint.id},
    }
    session.execute(insert(core(Evaluation)).values(row))
    held.hold(session, who.owner, str(job["id"]), checkpoint)
    if data is not None:
        using.use(session, {str(job["id"]): data.dataset_id})
    return str(job["id"])


def meant(session: Session, experiment_id: str, which: str) -> Checkpoint:
    """The checkpoint with that id; of `last` and `best` the newest, and for want of a best one the last."""
    # In the order of an index. For want of those of a kind, the newest weights, whatever else they are.
    newest = select(Checkpoint).where(*checkpoints.readable(experiment_id))
    newest = newest.order_by(Checkpoint.step.desc(), Checkpoint.kind, Checkpoint.id).limit(1)
    if which in ("best", "last"):
        choices = [newest.where(Checkpoint.kind == which), newest]
    else:
        choices = [newest.where(Checkpoint.id == which)]
    for choice in choices:
        found = session.scalars(choice).one_or_none()
        if found is not None:
            return found
    raise CheckpointNotFound(which)
