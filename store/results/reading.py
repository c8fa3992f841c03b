"""How the points of experiments are read."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sqlalchemy import ColumnElement, bindparam, select
from sqlalchemy.orm import Session

from store.columns import core
from store.results.sampling import Outline, Parts
from store.results.segments import SEGMENT_POINTS, Steps, Values, unpack
from store.tables import MetricSegment, MetricSeries

_SEGMENTS_A_STATEMENT = 500


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

    More than `max_points` (at least 10) are thinned as `store.results.sampling` says, while they are read: it costs
    segments in proportion to the points that come back. Keys without a series are left out.
    """
    known = {key: count for key, count in session.execute(_COUNTS, {"wanted": experiment_id})}
    wanted = list(known) if keys is None else [key for key in dict.fromkeys(keys) if key in known]

    def points(key: str) -> Series:
        inside = _Range(session, experiment_id, key, first_step, last_step)
        # Of so few there is nothing to be left out, however many of them are inside.
        return _one_series(inside, max_points if max_points is not None and known[key] > max_points else None)

    return {key: points(key) for key in wanted}


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


_SERIES = core(MetricSeries)
_COUNTS = (
    select(_SERIES.c.key, _SERIES.c.count).where(_SERIES.c.experiment_id == bindparam("wanted")).order_by(_SERIES.c.key)
)
_SEGMENT = core(MetricSegment)
_ORDER = _SEGMENT.c.first_step
_PACKED = (_SEGMENT.c.first_step, _SEGMENT.c.count, _SEGMENT.c.steps, _SEGMENT.c.points)
_KNOWN = (_SEGMENT.c.first_step, _SEGMENT.c.last_step, _SEGMENT.c.count)
_WHOLE = (
    select(*_PACKED)
    .where(_SEGMENT.c.experiment_id == bindparam("wanted"), _SEGMENT.c.key == bindparam("wanted_key"))
    .order_by(_ORDER)
)
"""Made once: to make a statement takes as long as SQLite to answer it."""
_KNOWN_VALUES = (_SEGMENT.c.minimum, _SEGMENT.c.maximum, _SEGMENT.c.nonfinite)


@dataclass(frozen=True)
class _Range:
    """Points of one key, from a step to a step."""

    session: Session
    experiment_id: str
    key: str
    first_step: int | None
    last_step: int | None

    def conditions(self) -> list[ColumnElement[bool]]:
        found = [_SEGMENT.c.experiment_id == self.experiment_id, _SEGMENT.c.key == self.key]
        if self.first_step is not None:
            found += [_SEGMENT.c.last_step >= self.first_step]
        if self.last_step is not None:
            found += [_SEGMENT.c.first_step <= self.last_step]
        return found

    def cut(self, steps: Steps, values: Values) -> tuple[Steps, Values]:
        """What of some points is inside."""
        start = 0 if self.first_step is None else int(np.searchsorted(steps, self.first_step, side="left"))
        end = len(steps) if self.last_step is None else int(np.searchsorted(steps, self.last_step, side="right"))
        return steps[start:end], values[start:end]

    def points(self, first_steps: Sequence[int] | None = None) -> Iterator[tuple[Steps, Values]]:
        """The points inside, segment by segment: of all, or of those that begin at some steps."""
        if first_steps is None and self.first_step is None and self.last_step is None:
            found = self.session.execute(_WHOLE, {"wanted": self.experiment_id, "wanted_key": self.key})
        else:
            statement = select(*_PACKED).where(*self.conditions()).order_by(_ORDER)
            if first_steps is not None:
                statement = statement.where(_SEGMENT.c.first_step.in_(first_steps))
            found = self.session.execute(statement)
        for packed in found:
            yield self.cut(*unpack(*packed))


def _one_series(points: _Range, max_points: int | None) -> Series:
    if max_points is not None:
        return _thinned(points, max_points)
    parts = list(points.points())
    steps = np.concatenate([part[0] for part in parts] or [np.empty(0, dtype=np.int64)])
    values = np.concatenate([part[1] for part in parts] or [np.empty(0, dtype=np.float64)])
    return Series(steps, values, len(steps))


def _thinned(points: _Range, max_points: int) -> Series:
    """The same as `sample` of all points, from a few segments a bucket, which are read one after another."""
    known, parts = _known(points)
    count = int(parts.counts.sum())
    if count <= max_points:
        return _one_series(points, None)
    outline = Outline(count, int(parts.nonfinite.sum()), max_points)
    starts = parts.starts
    for batch in _batches(outline.wanted(parts), parts.counts):
        begun = points.points([known[place] for place in batch])
        for place, (steps, values) in zip(batch, begun, strict=True):
            outline.add(int(starts[place]), steps, values)
    return Series(*outline.points(), count)


def _known(points: _Range) -> tuple[list[int], Parts]:
    """Where the segments begin, and what is known of what of them is inside."""
    rows = points.session.execute(select(*_KNOWN, *_KNOWN_VALUES).where(*points.conditions()).order_by(_ORDER)).all()
    known = [row.first_step for row in rows]
    parts = Parts(
        counts=np.array([row.count for row in rows], dtype=np.int64),
        minima=np.array([row.minimum for row in rows], dtype=np.float64),
        maxima=np.array([row.maximum for row in rows], dtype=np.float64),
        nonfinite=np.array([row.nonfinite for row in rows], dtype=np.int64),
    )
    # The first and the last may reach beyond the range: of these the points say what is inside.
    cut = [] if points.first_step is None else [0]
    cut += [] if points.last_step is None else [len(rows) - 1]
    for place in dict.fromkeys(cut) if rows else ():
        for _, values in points.points([known[place]]):
            finite = values[np.isfinite(values)]
            parts.counts[place], parts.nonfinite[place] = len(values), len(values) - len(finite)
            parts.minima[place], parts.maxima[place] = (finite.min(), finite.max()) if len(finite) else (np.nan, np.nan)
    return known, parts


def _batches(places: Sequence[int] | npt.NDArray[np.intp], counts: npt.NDArray[np.int64]) -> Iterator[list[int]]:
    """Places in batches that are worth a statement and have no more points than one large segment, or are one."""
    batch: list[int] = []
    points = 0
    for place in map(int, places):
        if batch and (points + counts[place] > SEGMENT_POINTS or len(batch) == _SEGMENTS_A_STATEMENT):
            yield batch
            batch, points = [], 0
        batch.append(place)
        points += int(counts[place])
    if batch:
        yield batch
