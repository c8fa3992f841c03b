"""How the points of experiments are read."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sqlalchemy import select
from sqlalchemy.orm import Session

from store.results.sampling import sample
from store.results.segments import Steps, Values, unpack
from store.tables import MetricSegment, MetricSeries


@dataclass(frozen=True)
class Series:
    """Points of one key; `count` is how many there are in the range, before any were left out."""

    steps: Steps
    values: Values
    count: int


def series(
    session: Session,
    experiment_id: str,
    keys: Sequence[str] | None = None,
    *,
    first_step: int | None = None,
    last_step: int | None = None,
    max_points: int | None = None,
) -> dict[str, Series]:
    """The points of the keys (all keys when None) from `first_step` to `last_step`, both included.

    More than `max_points` (at least 10) are thinned as `store.sampling` says. Keys without a series are left out.
    """
    known = last_values(session, experiment_id)
    wanted = list(known) if keys is None else [key for key in dict.fromkeys(keys) if key in known]
    return {key: _one_series(session, experiment_id, key, first_step, last_step, max_points) for key in wanted}


def last_values(session: Session, experiment_id: str) -> dict[str, float]:
    """The newest value of every series, by key."""
    statement = (
        select(MetricSeries.key, MetricSeries.last)
        .where(MetricSeries.experiment_id == experiment_id)
        .order_by(MetricSeries.key)
    )
    return {key: last for key, last in session.execute(statement)}


def summaries(session: Session, experiment_id: str) -> list[MetricSeries]:
    """One row a series, in order of keys: count, range of steps, first, last, least and greatest value."""
    statement = select(MetricSeries).where(MetricSeries.experiment_id == experiment_id).order_by(MetricSeries.key)
    return list(session.scalars(statement))


def _one_series(
    session: Session,
    experiment_id: str,
    key: str,
    first_step: int | None,
    last_step: int | None,
    max_points: int | None,
) -> Series:
    statement = (
        select(MetricSegment.first_step, MetricSegment.count, MetricSegment.steps, MetricSegment.points)
        .where(MetricSegment.experiment_id == experiment_id, MetricSegment.key == key)
        .order_by(MetricSegment.first_step)
    )
    if first_step is not None:
        statement = statement.where(MetricSegment.last_step >= first_step)
    if last_step is not None:
        statement = statement.where(MetricSegment.first_step <= last_step)
    parts = [unpack(*found) for found in session.execute(statement)]
    steps = np.concatenate([part[0] for part in parts] or [np.empty(0, dtype=np.int64)])
    values = np.concatenate([part[1] for part in parts] or [np.empty(0, dtype=np.float64)])
    start = 0 if first_step is None else int(np.searchsorted(steps, first_step, side="left"))
    end = len(steps) if last_step is None else int(np.searchsorted(steps, last_step, side="right"))
    steps, values = steps[start:end], values[start:end]
    count = len(steps)
    if max_points is not None:
        steps, values = sample(steps, values, max_points)
    return Series(steps, values, count)
