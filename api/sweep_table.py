"""The table of a sweep: its points with their runs, grouped, by the measures that are asked for."""

from collections.abc import Sequence

from sqlalchemy.orm import Session

from api.refusals import InvalidParameter
from bncore.comparison import BEST, Group, Measure, MeasureUnknown, Run, group_of, measures, usual_measures
from bncore.comparison.measure import series_key
from store import sweeps, tables
from store.sweeps import MeasuredPoint

_USUAL = frozenset({"test/accuracy", "test/loss"})
Table = tuple[list[Measure], list[tuple[MeasuredPoint, Group]]]


def table_of(session: Session, row: tables.Sweep, names: Sequence[str], parameter: str) -> Table:
    """The measures with these names, or the usual ones, and each point with its group.

    Raises `InvalidParameter`, of `parameter`.
    """
    points = sweeps.measured(session, row, {series_key(name) for name in names} or _USUAL)
    runs = [run for point in points for run in point.runs]
    try:
        chosen = measures(names or usual_measures(runs), _known(runs, names))
    except MeasureUnknown as error:
        every = sweeps.measured(session, row, None)
        there = {key for point in every for run in point.runs for key in run.series}
        raise InvalidParameter(parameter, str(MeasureUnknown(error.name, there))) from None
    return chosen, [(point, group_of(point.values, point.runs, chosen)) for point in points]


def larger_is_better(measure: Measure, runs: Sequence[Run]) -> bool:
    """Of `best` the runs say it."""
    if measure.name != BEST:
        return measure.larger_is_better
    chosen = (run.summary.get(BEST) or {} for run in runs if run.ended)
    return any("accuracy" in str(best.get("metric", "")) for best in chosen)


def _known(runs: Sequence[Run], wanted: Sequence[str]) -> frozenset[str]:
    """The keys that may be asked for: until something has ended, any."""
    if any(run.ended for run in runs) and wanted:
        return frozenset(key for run in runs for key in run.series)
    return _USUAL | {series_key(name) for name in wanted}
