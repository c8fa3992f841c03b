"""What owners change of evaluations beyond their job: that they are gone."""

from sqlalchemy.orm import Session

from store import files, judged_by
from store.evaluations.finding import get
from store.jobs import wishes
from store.jobs.wishes import By


def delete(session: Session, evaluation_id: str, by: By) -> None:
    """Hide an evaluation that has ended, for good, and let go of the checkpoint.

    Raises `EvaluationNotFound`, `VersionMismatch`, `IllegalTransition` before its end, or `InStudy`.
    """
    judged_by.require_free(session, get(session, evaluation_id, owner=by.owner).id)
    wishes.delete(session, evaluation_id, by)
    files.drop_of_jobs(session, [evaluation_id])
