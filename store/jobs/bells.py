"""Bells to be rung: written with the change that queued rows, deleted once the message is out.

The rows of `jobs` are the queue; a bell that is lost or rung twice costs a moment, never a job.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Integer, bindparam, delete, func, insert, select
from sqlalchemy.orm import Session

from store.columns import core
from store.database import Asks
from store.jobs.conditions import CLAIM_ORDER, IS_QUEUED, is_due
from store.tables import Bell, Job

_JOB = core(Job).c
_BELL = core(Bell).c
_HANG = insert(core(Bell))
_HANGING = select(_BELL.id, _BELL.queue, _BELL.jobs).order_by(_BELL.id).limit(bindparam("at_most", type_=Integer()))


@dataclass(frozen=True)
class Hanging:
    """A bell that nobody has rung yet."""

    id: int
    queue: str
    jobs: int


def hang(session: Asks, queue: str, jobs: int = 1) -> None:
    """Put a bell for so many newly queued jobs into the outbox."""
    session.execute(_HANG, {"queue": queue, "jobs": jobs})


def hanging(session: Asks, limit: int = 1000) -> list[Hanging]:
    """The oldest bells that nobody has rung."""
    return [Hanging(*row) for row in session.execute(_HANGING, {"at_most": limit})]


def take_down(session: Session, ids: Sequence[int]) -> None:
    """Forget bells that were rung."""
    session.execute(delete(core(Bell)).where(Bell.id.in_(ids)))


def claimable(session: Session, queue: str, at_most: int) -> int:
    """How many jobs of a queue could be claimed now; counts no further than `at_most`."""
    # In the order of claims: in any order, a planner hopes to meet some early in the table, where the old ones are.
    waiting = select(_JOB.id).where(IS_QUEUED, _JOB.queue == queue, is_due()).order_by(*CLAIM_ORDER).limit(at_most)
    return session.execute(select(func.count()).select_from(waiting.subquery())).scalar_one()
