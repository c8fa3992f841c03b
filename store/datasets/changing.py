"""What owners change of data sets: that an import is tried again, that they are gone."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from store import files, queueing
from store.datasets import uploads
from store.datasets.using import users
from store.errors import DatasetInUse
from store.jobs import wishes
from store.jobs.states import State
from store.jobs.wishes import By
from store.queueing import Limits
from store.tables import Job
from store.upload_errors import SourceGone


def retry(session: Session, dataset_id: str, by: By, limits: Limits) -> None:
    """`queueing.retry`, which also raises `SourceGone` where what was uploaded has been given up."""
    queueing.retry(session, dataset_id, by, limits)
    if not any(file.kind == uploads.PART for file in files.of_job(session, dataset_id)):
        raise SourceGone


def delete(session: Session, dataset_id: str, by: By) -> None:
    """Hide a data set whose import has ended, for good, with all its files.

    Raises `DatasetNotFound`, `VersionMismatch`, `IllegalTransition` before its end, and `DatasetInUse`.
    """
    held = select(Job.state).where(Job.id == dataset_id, *by.may()).with_for_update()
    if session.scalars(held).one_or_none() is State.SUCCEEDED and (using := users(session, dataset_id)):
        raise DatasetInUse(using)
    wishes.delete(session, dataset_id, by)
    files.drop_of_jobs(session, [dataset_id])
