"""Conditions on jobs that more than one statement uses.

States are literals here, as in the partial indexes: with a bound value a database cannot know that an index serves.
"""

from sqlalchemy import ColumnElement, literal_column

from store.database import clock
from store.tables import Job

IS_QUEUED: ColumnElement[bool] = Job.state == literal_column("'queued'")
IS_RUNNING: ColumnElement[bool] = Job.state == literal_column("'running'")
IS_VISIBLE: ColumnElement[bool] = Job.deleted_at.is_(None)


def is_due() -> ColumnElement[bool]:
    """Whether a queued job may be claimed by now."""
    return Job.not_before.is_(None) | (Job.not_before <= clock())


def elapsed_seconds() -> ColumnElement[float]:
    """How much of its deadline a job that is not paused has used; null before its first claim."""
    return clock() - Job.first_claimed_at - Job.paused_seconds


def owned_by(owner: str | None) -> tuple[ColumnElement[bool], ...]:
    """The condition under which a job can be seen at all: None sees those of every owner."""
    return (IS_VISIBLE,) if owner is None else (IS_VISIBLE, Job.owner == owner)
