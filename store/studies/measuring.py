"""What the experiments of a study have to say to it: rows of numbers.

Invariant: read from stored results alone, so that they are the same whenever they are read; what has failed, was
cancelled or deleted is no row, and is listed as missing.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from bncore.studies.claim import Design
from bncore.studies.measures import DIVERGED_LOSS, evaluation_metrics, measured
from store import results
from store.columns import core, one_of
from store.database import Database
from store.jobs.conditions import owned_by, still_in_state
from store.jobs.states import State
from store.tables import Evaluation, Experiment, Job, MetricSeries, StudyJob
from store.text import finite_json

_AT_ONCE = 50
_LOSS = "train/loss"
_JOB, _EXPERIMENT, _EVALUATION, _MEMBER, _SERIES = (
    core(one).c for one in (Job, Experiment, Evaluation, StudyJob, MetricSeries)
)
_FACTS = (
    select(
        _MEMBER.job_id,
        _MEMBER.stage,
        _MEMBER.arm,
        _MEMBER.setting,
        _MEMBER.seed,
        _JOB.state,
        _JOB.failure_code,
        _JOB.deleted_at,
        _EXPERIMENT.stop_reason,
        _EXPERIMENT.summary,
        _JOB.pinned_device_kind,
        _JOB.pinned_device_model,
        _JOB.pinned_torch_version,
    )
    .join_from(core(StudyJob), core(Job), _JOB.id == _MEMBER.job_id)
    .join(core(Experiment), _EXPERIMENT.id == _MEMBER.job_id)
    .order_by(_MEMBER.place)
)
_Facts = Mapping[str, Any]


def rows(database: Database, study_id: str, design: Design, between: Callable[[], None]) -> list[dict[str, Any]]:
    """One a run: those that have a result are measured, all others say why they have none (`missing`).

    Read a few at a time: `between` is called in between, and what it raises ends it.
    """
    with database.read() as session:
        facts = [dict(row) for row in session.execute(_FACTS.where(_MEMBER.study_id == study_id)).mappings()]
    found = []
    for start in range(0, len(facts), _AT_ONCE):
        between()
        with database.read() as session:
            found += _measured(session, facts[start : start + _AT_ONCE], design)
    return found


def _measured(session: Session, facts: Sequence[_Facts], design: Design) -> list[dict[str, Any]]:
    ids = [one["job_id"] for one in facts]
    diverged, evaluated = _diverged(session, ids), _evaluated(session, ids)
    return [_row(session, one, design, one["job_id"] in diverged, evaluated.get(one["job_id"], {})) for one in facts]


def _row(
    session: Session, one: _Facts, design: Design, diverged: bool, evaluated: Mapping[str, float | None]
) -> dict[str, Any]:
    row = {"arm": one["arm"], "seed": one["seed"], "setting": one["setting"], "stage": one["stage"]}
    row |= {"experiment": one["job_id"], "seconds": (one["summary"] or {}).get("seconds")}
    row |= {"device": one["pinned_device_model"], "torch": one["pinned_torch_version"]}
    if one["deleted_at"] is not None or one["state"] is not State.SUCCEEDED:
        why = "deleted" if one["deleted_at"] is not None else one["failure_code"] or one["state"].value
        return {**row, "metrics": {}, "diverged": False, "missing": why}
    keys = [key for measure in design.measures for key in (measure.series, getattr(measure, "by", None)) if key]
    series = {
        key: (found.steps.tolist(), found.values.tolist())
        for key, found in results.series(session, one["job_id"], sorted(set(keys))).items()
    }
    metrics = {**measured(design.measures, series), **evaluated}
    said = finite_json(metrics)
    return {**row, "metrics": said, "diverged": one["stop_reason"] == "diverged" or diverged, "missing": None}


def _diverged(session: Session, ids: Sequence[str]) -> set[str]:
    """Whose training loss was ever not finite, or beyond `DIVERGED_LOSS`, as `measures.diverged` has it of a series."""
    wanted = select(_SERIES.experiment_id, _SERIES.nonfinite, _SERIES.maximum)
    found = session.execute(wanted.where(one_of(_SERIES.experiment_id, ids), _SERIES.key == _LOSS))
    return {one for one, nonfinite, most in found if nonfinite or (not math.isnan(most) and most > DIVERGED_LOSS)}


def _evaluated(session: Session, ids: Sequence[str]) -> dict[str, dict[str, float | None]]:
    """Of each experiment, the numbers of its evaluations."""
    wanted = (
        select(_MEMBER.of_experiment, _MEMBER.evaluation, _EVALUATION.result)
        .join_from(core(StudyJob), core(Evaluation), _EVALUATION.id == _MEMBER.job_id)
        .join(core(Job), _JOB.id == _MEMBER.job_id)
        .where(one_of(_MEMBER.of_experiment, ids), still_in_state(State.SUCCEEDED), *owned_by(None))
    )
    found: dict[str, dict[str, float | None]] = {}
    for experiment_id, name, result in session.execute(wanted):
        if result is not None:
            found.setdefault(experiment_id, {}).update(evaluation_metrics(name, result))
    return found
