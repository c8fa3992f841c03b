"""Whose turn it is: how claims are fair between owners, by a number in each row and one index.

Invariant: of what waits in a queue at one priority, an owner's jobs have increasing turns, and an owner who had nothing
waiting begins at the lowest turn there is. So claims in the order of turns alternate between owners, however many jobs
each has, and an owner gains nothing by having waited (start-time fair queueing, Goyal et al. 1996, all weights equal).
"""

from sqlalchemy import ColumnElement, func, select, tuple_, union_all
from sqlalchemy.orm import Session

from store.jobs.conditions import IS_QUEUED
from store.tables import Job


def next_turn(owner: str | ColumnElement[str], queue: str, priority: int) -> ColumnElement[int]:
    """The turn of the next job that this owner puts into the queue."""
    waiting = (IS_QUEUED, Job.queue == queue, Job.priority == priority)
    mine = select(func.max(Job.turn) + 1).where(*waiting, Job.owner == owner).scalar_subquery()
    # Ordered and cut rather than a minimum: the index of claims ends after one row.
    first = select(Job.turn).where(*waiting).order_by(Job.turn).limit(1).scalar_subquery()
    return func.coalesce(mine, first, 0)


def ahead_of(session: Session, job: Job, at_most: int) -> int:
    """How many jobs of its queue are claimed before a queued one; counts no further than `at_most`."""
    waiting = (IS_QUEUED, Job.queue == job.queue)
    sooner = tuple_(Job.turn, Job.created_at, Job.id) < tuple_(job.turn, job.created_at, job.id)
    # Two stretches of the index of claims: with one condition for both, all of the queue would be looked at.
    parts = (
        select(Job.id).where(*waiting, Job.priority > job.priority).limit(at_most),
        select(Job.id).where(*waiting, Job.priority == job.priority, sooner).limit(at_most),
    )
    both = union_all(*(select(part.subquery()) for part in parts)).limit(at_most).subquery()
    return session.execute(select(func.count()).select_from(both)).scalar_one()
