"""What a running experiment reports.

Invariant: the points of a series have strictly increasing steps. `append` stores only points beyond the last stored
step of their series, so events that come twice, in whatever batches, are stored once. Points are packed before the
first statement, since on SQLite nobody else writes from then on.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
from sqlalchemy import BindParameter, Update, bindparam, case, insert, select, update
from sqlalchemy.orm import Session

from bncore.events import CheckpointSaved, Event, MetricsBlock, PhaseChanged, Started
from store.columns import core
from store.database import clock
from store.jobs import eventlog
from store.jobs.leases import Go, Lease, Stop, renew
from store.results.reports import entries
from store.results.segments import SEGMENT_POINTS, SUMMARY, Points, merged, segment_values
from store.tables import Experiment, MetricSegment, MetricSeries

_SERIES = core(MetricSeries)
_STORED = select(_SERIES.c.key, *(_SERIES.c[name] for name in SUMMARY)).where(
    _SERIES.c.experiment_id == bindparam("of_experiment")
)
_NEW_SERIES = insert(_SERIES)
_LONGER_SERIES = (
    update(_SERIES)
    .where(_SERIES.c.experiment_id == bindparam("of_experiment"), _SERIES.c.key == bindparam("of_key"))
    .values({name: bindparam(f"new_{name}") for name in SUMMARY})
)
_NEW_SEGMENTS = insert(core(MetricSegment))
Segment = dict[str, Any]
TEST_ACCURACY = "test/accuracy"


def append(session: Session, lease: Lease, events: Sequence[Event]) -> Go | Stop:
    """Renew the lease and store metrics, phase, progress and log lines of the events, in the order of the file.

    Checkpoints are stored by `store.checkpoints`; here they only end segments. Raises `StaleLease`.
    """
    runs = _runs(events)
    packed = {key: _fresh_segments(key_runs, -1) for key, key_runs in runs.items()}
    lines = entries(events)
    phases = [_phase(event) for event in events if isinstance(event, PhaseChanged | Started)]
    begun = [event for event in events if isinstance(event, Started)]
    answer = renew(session, lease, news=bool(runs), phase=phases[-1] if phases else None, begun=bool(begun))
    last = _store_points(session, lease, runs, packed) if runs else {}
    _store_progress(session, lease, events, begun, last.get(TEST_ACCURACY))
    eventlog.append(session, lease.job_id, lease.attempt, lines)
    return answer


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


def _fresh_segments(runs: Iterable[Points], stored_to: int) -> list[Segment]:
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


def _phase(event: PhaseChanged | Started) -> str:
    return event.phase if isinstance(event, PhaseChanged) else "training"


def _store_points(
    session: Session, lease: Lease, runs: Mapping[str, list[Points]], packed: Mapping[str, list[Segment]]
) -> dict[str, float]:
    """The last value of each series that is longer by them."""
    known = {row.key: row for row in session.execute(_STORED, {"of_experiment": lease.job_id})}
    segments: list[Segment] = []
    new: list[dict[str, Any]] = []
    longer: list[dict[str, Any]] = []
    last: dict[str, float] = {}
    for key, fresh in packed.items():
        row = known.get(key)
        if row is not None and fresh and row.last_step >= fresh[0]["first_step"]:
            # Some of it came before.
            fresh = _fresh_segments(runs[key], row.last_step)
        if not fresh:
            continue
        segments += [{"experiment_id": lease.job_id, "key": key, "attempt": lease.attempt, **one} for one in fresh]
        parts: list[Mapping[str, Any]] = [*fresh] if row is None else [row._asdict(), *fresh]
        summary = merged({name: part[name] for name in SUMMARY} for part in parts) or {}
        last[key] = summary["last"]
        if row is None:
            new.append({"experiment_id": lease.job_id, "key": key, **summary})
        else:
            place = {"of_experiment": lease.job_id, "of_key": key}
            longer.append(place | {f"new_{name}": value for name, value in summary.items()})
    for statement, rows in ((_NEW_SEGMENTS, segments), (_NEW_SERIES, new), (_LONGER_SERIES, longer)):
        if rows:
            session.execute(statement, rows)
    return last


def _store_progress(
    session: Session, lease: Lease, events: Sequence[Event], begun: Sequence[Started], accuracy: float | None
) -> None:
    blocks = [event for event in events if isinstance(event, MetricsBlock)]
    reached = max((block.first_step + block.count - 1 for block in blocks), default=0)
    if reached or begun:
        bound: dict[str, Any] = {"of_experiment": lease.job_id, "reached": reached}
        if begun:
            bound |= {"all_steps": begun[-1].total_steps, "from_step": begun[-1].step}
        if accuracy is not None:
            bound |= {"accuracy": accuracy if math.isfinite(accuracy) else None}
        session.execute(_progress(bool(begun), accuracy is not None), bound)


@cache
def _progress(begun: bool, measured: bool) -> Update:
    table = core(Experiment)
    reached: BindParameter[int] = bindparam("reached")
    values: dict[str, Any] = {"step": case((table.c.step < reached, reached), else_=table.c.step)}
    if begun:
        values |= {"total_steps": bindparam("all_steps"), "begun_at": clock(), "begun_step": bindparam("from_step")}
    if measured:
        # Only then: it is in indexes.
        values |= {"accuracy": bindparam("accuracy")}
    return update(table).where(table.c.id == bindparam("of_experiment")).values(values)
