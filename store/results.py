"""What a running experiment reports, and how it is read.

Invariant: the points of a series have strictly increasing steps. `append` stores only points beyond the last stored
step of their series, so events that come twice, in whatever batches, are stored once.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sqlalchemy import case, func, insert, select, update
from sqlalchemy.orm import Session

from bncore.events import CheckpointSaved, Event, MetricsBlock, PhaseChanged, Started
from store import eventlog
from store.database import clock
from store.leases import Go, Lease, Stop, renew
from store.models import Experiment, MetricSegment, MetricSeries
from store.reports import entries
from store.sampling import sample
from store.segments import SEGMENT_POINTS, Points, Steps, Values, merged, segment_values, unpack

_SUMMARY = ("first_step", "last_step", "count", "first", "last", "minimum", "maximum", "nonfinite")


@dataclass(frozen=True)
class Series:
    """Points of one key; `count` is how many there are in the range, before any were left out."""

    steps: Steps
    values: Values
    count: int


def append(session: Session, lease: Lease, events: Sequence[Event], *, lease_seconds: float) -> Go | Stop:
    """Renew the lease and store metrics, phase, progress and log lines of the events, in the order of the file.

    Checkpoints are stored by `store.blobs`; here they only end segments. Raises `StaleLease`.
    """
    answer = renew(session, lease, lease_seconds=lease_seconds)
    _store_points(session, lease, events)
    _store_progress(session, lease, events)
    eventlog.append(session, lease.experiment_id, lease.attempt, entries(events))
    return answer


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


def _store_points(session: Session, lease: Lease, events: Sequence[Event]) -> None:
    runs = _runs(events)
    if not runs:
        return
    mine = MetricSeries.experiment_id == lease.experiment_id
    stored = {found.key: found for found in session.scalars(select(MetricSeries).where(mine))}
    segments: list[dict[str, Any]] = []
    for key, key_runs in runs.items():
        row = stored.get(key)
        fresh = _fresh_segments(key_runs, -1 if row is None else row.last_step)
        place = {"experiment_id": lease.experiment_id, "key": key, "attempt": lease.attempt}
        segments += [{**place, **segment} for segment in fresh]
        _add_to_summary(session, lease.experiment_id, key, row, fresh)
    if segments:
        session.execute(insert(MetricSegment), segments)
    session.flush()


def _runs(events: Iterable[Event]) -> dict[str, list[Points]]:
    """The points of each key, as runs that no checkpoint interrupts."""
    runs: dict[str, list[Points]] = {}
    for event in events:
        if isinstance(event, MetricsBlock):
            steps = range(event.first_step, event.first_step + event.count)
            for key, values in event.values.items():
                run = runs.setdefault(key, [Points()])[-1]
                run.steps.extend(steps)
                run.values.extend(values)
        elif isinstance(event, CheckpointSaved):
            for key_runs in runs.values():
                if key_runs[-1].steps:
                    key_runs.append(Points())
    return runs


def _fresh_segments(runs: Iterable[Points], stored_to: int) -> list[dict[str, Any]]:
    segments = []
    for run in runs:
        steps, values = np.array(run.steps, dtype=np.int64), np.array(run.values, dtype=np.float64)
        # Beyond what is stored, and beyond every step before it in this run.
        before = np.maximum.accumulate(np.concatenate([np.array([stored_to], dtype=np.int64), steps]))[:-1]
        fresh = steps > before
        steps, values = steps[fresh], values[fresh]
        for start in range(0, len(steps), SEGMENT_POINTS):
            part = slice(start, start + SEGMENT_POINTS)
            segments.append(segment_values(steps[part], values[part]))
        stored_to = int(steps[-1]) if len(steps) else stored_to
    return segments


def _add_to_summary(
    session: Session, experiment_id: str, key: str, row: MetricSeries | None, fresh: Sequence[dict[str, Any]]
) -> None:
    parts = [{name: part[name] for name in _SUMMARY} for part in fresh]
    before = [] if row is None else [{name: getattr(row, name) for name in _SUMMARY}]
    summary = merged([*before, *parts])
    if summary is None or not fresh:
        return
    if row is None:
        session.add(MetricSeries(experiment_id=experiment_id, key=key, **summary))
        return
    for name, value in summary.items():
        setattr(row, name, value)


def _store_progress(session: Session, lease: Lease, events: Sequence[Event]) -> None:
    changes: dict[str, Any] = {}
    reached = 0
    for event in events:
        match event:
            case PhaseChanged():
                changes["phase"] = event.phase
            case Started():
                changes.update(phase="training", total_steps=event.total_steps)
                changes["started_at"] = func.coalesce(Experiment.started_at, clock())
            case MetricsBlock():
                reached = max(reached, event.first_step + event.count - 1)
            case _:
                continue
    if reached:
        changes["step"] = case((Experiment.step < reached, reached), else_=Experiment.step)
    if changes:
        statement = update(Experiment).where(Experiment.id == lease.experiment_id)
        statement = statement.values(version=Experiment.version + 1, **changes)
        session.execute(statement, execution_options={"synchronize_session": False})


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
