"""Many experiments as a comparison sees them: what was asked, how it ended, and their series in four numbers each.

Invariant: two statements, however many there are, and not a point of a series is read.
"""

from collections import defaultdict
from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import bindparam, select
from sqlalchemy.orm import Session

from bncore.comparison import Ends, Run
from bncore.spec import up_to_date
from store.columns import Words, core, one_of
from store.errors import ExperimentNotFound
from store.jobs.conditions import owned_by
from store.tables import Experiment, Job, MetricSeries

MOST_COMPARED = 500

_JOB, _EXPERIMENT, _SERIES = core(Job).c, core(Experiment).c, core(MetricSeries).c
_SHOWN = (_JOB.id, _JOB.state, _EXPERIMENT.stop_reason, _EXPERIMENT.total_steps)
_FACTS = (
    select(*_SHOWN, _EXPERIMENT.spec, _EXPERIMENT.summary)
    .join_from(core(Job), core(Experiment), _EXPERIMENT.id == _JOB.id)
    .where(one_of(_JOB.id, bindparam("wanted", type_=Words())))
)
_ENDS = select(_SERIES.experiment_id, _SERIES.key, _SERIES.first, _SERIES.last, _SERIES.minimum, _SERIES.maximum).where(
    one_of(_SERIES.experiment_id, bindparam("wanted", type_=Words()))
)
_ENDS_OF_KEYS = _ENDS.where(one_of(_SERIES.key, bindparam("keys", type_=Words())))


def compared(
    session: Session, experiment_ids: Sequence[str], keys: Collection[str] | None, *, owner: str | None = None
) -> list[Run]:
    """The experiments in the order of the ids, with these series (all when None).

    Raises `ExperimentNotFound` for the first that is not there, or somebody else's.
    """
    bound = {"wanted": experiment_ids, "keys": keys or ()}
    facts = {row.id: row for row in session.execute(_FACTS.where(*owned_by(owner)), bound)}
    for one in experiment_ids:
        if one not in facts:
            raise ExperimentNotFound(one)
    series: dict[str, dict[str, Ends]] = defaultdict(dict)
    for one, key, *numbers in session.execute(_ENDS if keys is None else _ENDS_OF_KEYS, bound):
        series[one][key] = Ends(*numbers)
    return [_run(facts[one], series[one]) for one in dict.fromkeys(experiment_ids)]


def _run(row: Any, series: dict[str, Ends]) -> Run:
    return Run(
        id=row.id,
        spec=up_to_date(row.spec),
        state=row.state.value,
        stop_reason=row.stop_reason,
        total_steps=row.total_steps,
        summary=row.summary or {},
        series=series,
    )
