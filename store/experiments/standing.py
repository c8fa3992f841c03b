"""How the experiments of a page stand at this moment: their places in the queue, and what they have measured so far.

Invariant: only what waits or runs is asked about, and a place is counted no further than `MOST_AHEAD_LISTED`: a page
costs what it holds, however long the queue is.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from sqlalchemy import bindparam, case, select

from store.columns import Words, core, one_of
from store.database import Asks, clock
from store.experiments.finding import Sight
from store.jobs import turns
from store.jobs.conditions import IS_QUEUED
from store.jobs.states import TERMINAL
from store.tables import Experiment, Job, MetricSeries

MOST_AHEAD_LISTED = 100

_JOB, _SERIES = core(Job).c, core(MetricSeries).c
_PLACES = select(_JOB.id, clock(), case((IS_QUEUED, turns.ahead(MOST_AHEAD_LISTED, in_order=True)))).where(
    one_of(_JOB.id, bindparam("wanted", type_=Words()))
)
_ACCURACIES = select(_SERIES.experiment_id, _SERIES.last).where(
    one_of(_SERIES.experiment_id, bindparam("wanted", type_=Words())), _SERIES.key == bindparam("key")
)


@dataclass(frozen=True)
class Standing:
    """Of a page's experiments those that have not ended."""

    sights: dict[str, Sight] = field(default_factory=dict)
    accuracies: dict[str, float] = field(default_factory=dict)
    """On the test data, at the last evaluation."""


def standing(session: Asks, rows: Sequence[Experiment]) -> Standing:
    """How they stand; those of which the queue and the series know nothing more are left out."""
    waiting = {row.id: row for row in rows if row.state not in TERMINAL}
    if not waiting:
        return Standing()
    places = session.execute(_PLACES, {"wanted": list(waiting)}).all()
    measured = session.execute(_ACCURACIES, {"wanted": list(waiting), "key": "test/accuracy"}).all()
    sights = {
        one: Sight(waiting[one], at, None if ahead is None else min(ahead, MOST_AHEAD_LISTED), MOST_AHEAD_LISTED)
        for one, at, ahead in places
    }
    return Standing(sights, {one: value for one, value in measured if math.isfinite(value)})
