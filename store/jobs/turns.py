"""Whose turn it is: how claims are fair between owners, by a number in each row and one index.

Invariant: of what waits in a queue at one priority, an owner's jobs have increasing turns, and an owner who had nothing
waiting begins at the lowest turn there is. So claims in the order of turns alternate between owners, however many jobs
each has, and an owner gains nothing by having waited (start-time fair queueing, Goyal et al. 1996, all weights equal).
"""

from sqlalchemy import ColumnElement, func, select

from store.jobs.conditions import IS_QUEUED
from store.tables import Job


def next_turn(owner: str | ColumnElement[str], queue: str, priority: int) -> ColumnElement[int]:
    """The turn of the next job that this owner puts into the queue."""
    waiting = (IS_QUEUED, Job.queue == queue, Job.priority == priority)
    mine = select(func.max(Job.turn) + 1).where(*waiting, Job.owner == owner).scalar_subquery()
    # Ordered and cut rather than a minimum: the index of claims ends after one row.
    first = select(Job.turn).where(*waiting).order_by(Job.turn).limit(1).scalar_subquery()
    return func.coalesce(mine, first, 0)
