"""Whose turn it is: how claims are fair between owners, by a number in each row and one index.

Invariant: of the jobs in a queue at one priority, an owner's have increasing turns in the order they were queued, and
none begins before what is claimed at that moment. So claims in the order of turns alternate between the owners who
wait, however many jobs each has, and nobody gains by having waited or by coming one by one: start-time fair queueing
(Goyal, Vin and Cheng 1996), all weights equal, with a claim for the service of a packet.
"""

from typing import Any

from sqlalchemy import ColumnElement, Select, bindparam, func, literal_column, select, tuple_
from sqlalchemy.orm import Session

from store.columns import core
from store.database import clock
from store.jobs.conditions import IS_QUEUED, WAS_CLAIMED
from store.tables import Job

_JOB = core(Job).c

NO_TURN = -1
"""Of a job that left its queue without having been claimed: it took nobody's place."""


def next_turn(session: Session, owner: str, queue: str, priority: int) -> tuple[int, float]:
    """The turn of the next job that this owner puts into the queue, and what time it is there."""
    mine, claimed, waiting, at = session.execute(STANDING, place(owner, queue, priority)).one()
    return turn_after(mine, claimed, waiting), at


def place(owner: str, queue: str, priority: int) -> dict[str, Any]:
    """What `STANDING` has to be told."""
    return {"of_owner": owner, "of_queue": queue, "of_priority": priority}


def turn_after(mine: int | None, claimed: int | None, waiting: int | None) -> int:
    """The next turn of an owner who stands so."""
    # What waits counts too, as if the turn before it had been claimed: those that were may be cancelled or purged.
    return max(mine + 1 if mine is not None else 0, claimed or 0, waiting - 1 if waiting is not None else 0)


def ahead(at_most: int, *, in_order: bool = False) -> ColumnElement[int]:
    """How many jobs of its queue are claimed before a queued one, as a column of a statement over jobs.

    Those of a higher priority, and those whose turn is sooner; neither is counted further than `at_most`. `in_order`
    is for a small one: a planner that expects more than that would rather read the table until it has found them. For
    a large one it would sort what it counts.
    """
    other = core(Job).alias().c
    waits = (other.state == literal_column("'queued'"), other.queue == _JOB.queue)
    sooner = tuple_(other.turn, other.created_at, other.id) < tuple_(_JOB.turn, _JOB.created_at, _JOB.id)
    order = (other.priority.desc(), other.turn, other.created_at, other.id) if in_order else ()
    # Two stretches of the index of claims: with one condition for both, all of the queue would be looked at.
    above, beside = (
        select(other.id).where(*waits, *these).order_by(*order).limit(at_most).correlate(core(Job)).subquery()
        for these in ((other.priority > _JOB.priority,), (other.priority == _JOB.priority, sooner))
    )
    count_above, count_beside = (select(func.count()).select_from(part).scalar_subquery() for part in (above, beside))
    return count_above + count_beside


def _newest_and_first() -> Select[Any]:
    """An owner's last turn, the last that was claimed, and the first that waits: each the end of an index."""
    place = (_JOB.queue == bindparam("of_queue"), _JOB.priority == bindparam("of_priority"))
    mine = select(func.max(_JOB.turn)).where(_JOB.owner == bindparam("of_owner"), *place)
    claimed = select(func.max(_JOB.turn)).where(WAS_CLAIMED, *place)
    # Ordered and cut rather than a minimum: the index of claims ends after one row.
    waiting = select(_JOB.turn).where(IS_QUEUED, *place).order_by(_JOB.turn).limit(1)
    return select(mine.scalar_subquery(), claimed.scalar_subquery(), waiting.scalar_subquery(), clock())


STANDING = _newest_and_first()
"""An owner's last turn, the last that was claimed, the first that waits, and what time it is."""
