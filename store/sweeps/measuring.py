"""What the experiments of a sweep came to, as a comparison sees them.

Invariant: two statements, however many there are, and not a point of a series is read.
"""

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from bncore.comparison import Ends, Run
from store.columns import core, one_of
from store.jobs.conditions import LACKS_ROOM, owned_by
from store.jobs.failures import PRUNED
from store.tables import Experiment, Job, MetricSeries, Sweep, SweepExperiment

_JOB, _EXPERIMENT, _MEMBER, _SERIES = (core(one).c for one in (Job, Experiment, SweepExperiment, MetricSeries))
_FACTS = (
    select(
        core(SweepExperiment),
        _JOB.state,
        _JOB.failure_code,
        LACKS_ROOM.label("lacks_room"),
        _EXPERIMENT.stop_reason,
        _EXPERIMENT.total_steps,
        _EXPERIMENT.summary,
        _EXPERIMENT.spec["train"]["target"].label("target"),
    )
    .join_from(core(SweepExperiment), core(Job), _JOB.id == _MEMBER.experiment_id)
    .join(core(Experiment), _EXPERIMENT.id == _MEMBER.experiment_id)
    .where(*owned_by(None))
    .order_by(_MEMBER.place)
)
_ENDS = select(
    _SERIES.experiment_id, _SERIES.key, _SERIES.first, _SERIES.last, _SERIES.minimum, _SERIES.maximum
).join_from(core(SweepExperiment), core(MetricSeries), _SERIES.experiment_id == _MEMBER.experiment_id)


@dataclass
class MeasuredPoint:
    """A point of a sweep: its values, its arm, and its runs, a seed each."""

    number: int
    values: dict[str, Any]
    arm: str | None
    runs: list[Run] = field(default_factory=list)
    pruned_at: int | None = None
    """The step at which it was ended, if it was."""
    lacks_room: bool = False
    """Whether any of its runs failed since its owner had no room left for checkpoints: it is to be tried again."""


def measured(session: Session, sweep: Sweep, keys: Collection[str] | None) -> list[MeasuredPoint]:
    """The points in their order, with these series of their runs (all when None)."""
    series: dict[str, dict[str, Ends]] = defaultdict(dict)
    wanted = _ENDS if keys is None else _ENDS.where(one_of(_SERIES.key, keys))
    for one, key, *numbers in session.execute(wanted.where(_MEMBER.sweep_id == sweep.id)):
        series[one][key] = Ends(*numbers)
    points: dict[int, MeasuredPoint] = {}
    for row in session.execute(_FACTS.where(_MEMBER.sweep_id == sweep.id)).mappings():
        point = points.setdefault(
            row["point"], MeasuredPoint(row["point"], row["values"], row["arm"], pruned_at=row["pruned_at"])
        )
        point.runs.append(_run(row, series[row["experiment_id"]]))
        point.lacks_room |= bool(row["lacks_room"])
    return [points[number] for number in sorted(points)]


def _run(row: Any, series: dict[str, Ends]) -> Run:
    return Run(
        id=row["experiment_id"],
        # Of a spec a point's measures ask for no more.
        spec={"train": {"seed": row["seed"], "target": row["target"]}},
        state=PRUNED if row["failure_code"] == PRUNED else row["state"].value,
        stop_reason=row["stop_reason"],
        total_steps=row["total_steps"],
        summary=row["summary"] or {},
        series=series,
    )
