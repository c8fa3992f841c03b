"""What a running experiment reports.

Invariant: the points of a series have strictly increasing steps. `append` stores only points beyond the last stored
step of their series, so events that come twice, in whatever batches, are stored once.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from sqlalchemy import case, func, insert, select, update
from sqlalchemy.orm import Session

from bncore.events import CheckpointSaved, Event, MetricsBlock, PhaseChanged, Started
from store.columns import core
from store.database import clock
from store.jobs import eventlog
from store.jobs.leases import Go, Lease, Stop, renew
from store.results.reports import entries
from store.results.segments import SEGMENT_POINTS, Points, merged, segment_values
from store.tables import Experiment, Job, MetricSegment, MetricSeries

_SUMMARY = ("first_step", "last_step", "count", "first", "last", "minimum", "maximum", "nonfinite")


def append(session: Session, lease: Lease, events: Sequence[Event]) -> Go | Stop:
    """Renew the lease and store metrics, phase, progress and log lines of the events, in the order of the file.

    Checkpoints are stored by `store.blobs`; here they only end segments. Raises `StaleLease`.
    """
    answer = renew(session, lease, **_job_changes(events))
    _store_points(session, lease, events)
    _store_step(session, lease, events)
    eventlog.append(session, lease.job_id, lease.attempt, entries(events))
    return answer


def _store_points(session: Session, lease: Lease, events: Sequence[Event]) -> None:
    runs = _runs(events)
    if not runs:
        return
    mine = MetricSeries.experiment_id == lease.job_id
    stored = {found.key: found for found in session.scalars(select(MetricSeries).where(mine))}
    segments: list[dict[str, Any]] = []
    for key, key_runs in runs.items():
        row = stored.get(key)
        fresh = _fresh_segments(key_runs, -1 if row is None else row.last_step)
        place = {"experiment_id": lease.job_id, "key": key, "attempt": lease.attempt}
        segments += [{**place, **segment} for segment in fresh]
        _add_to_summary(session, lease.job_id, key, row, fresh)
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


def _job_changes(events: Sequence[Event]) -> dict[str, Any]:
    """What the events change in the row of the job; progress in steps counts as a visible change too."""
    changes: dict[str, Any] = {}
    for event in events:
        match event:
            case PhaseChanged():
                changes["phase"] = event.phase
            case Started():
                changes.update(phase="training", started_at=func.coalesce(Job.started_at, clock()))
            case MetricsBlock():
                # Said again, so that the version grows.
                changes.setdefault("phase", Job.phase)
            case _:
                continue
    return changes


def _store_step(session: Session, lease: Lease, events: Sequence[Event]) -> None:
    changes: dict[str, Any] = {}
    table = core(Experiment)
    reached = max(
        (event.first_step + event.count - 1 for event in events if isinstance(event, MetricsBlock)), default=0
    )
    if reached:
        changes["step"] = case((table.c.step < reached, reached), else_=table.c.step)
    for event in events:
        if isinstance(event, Started):
            changes["total_steps"] = event.total_steps
    if changes:
        session.execute(update(table).where(table.c.id == lease.job_id).values(changes))
