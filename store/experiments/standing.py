"""How the experiments of a page stand at this moment: their places in the queue, and how far they are.

Invariant: only what waits or runs is asked about, and a place is counted no further than `MOST_AHEAD_LISTED`: a page
costs what it holds, however long the queue is.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from sqlalchemy import bindparam, case, select

from store.columns import Words, core, one_of
from store.database import Asks, clock
from store.experiments.finding import Sight
from store.jobs import turns
from store.jobs.conditions import IS_QUEUED
from store.jobs.states import TERMINAL
from store.tables import Experiment, Job

MOST_AHEAD_LISTED = 100

_JOB = core(Job).c
_PLACES = select(_JOB.id, clock(), case((IS_QUEUED, turns.ahead(MOST_AHEAD_LISTED, in_order=True)))).where(
    one_of(_JOB.id, bindparam("wanted", type_=Words()))
)


@dataclass(frozen=True)
class Standing:
    """Of a page's experiments those that have not ended."""

    sights: dict[str, Sight] = field(default_factory=dict)


def standing(session: Asks, rows: Sequence[Experiment]) -> Standing:
    """How they stand; those of which the queue knows nothing more are left out."""
    waiting = {row.id: row for row in rows if row.state not in TERMINAL}
    if not waiting:
        return Standing()
    places = session.execute(_PLACES, {"wanted": list(waiting)}).all()
    sights = {
        one: Sight(waiting[one], at, None if ahead is None else min(ahead, MOST_AHEAD_LISTED), MOST_AHEAD_LISTED)
        for one, at, ahead in places
    }
    return Standing(sights)
