"""What a sweep came to: one table, a row a point, over seeds."""

import csv
import io
import json
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal

from fastapi import Depends, FastAPI
from pydantic import Field
from starlette.responses import Response

from api.answers import answer
from api.deps import Asked, SweepId
from api.lanes import reading_long
from api.parameters import Parameters, PlainText, Reading
from api.problems import declared
from api.refusals import InvalidParameter
from api.routes.keyed import KeyedRoutes
from api.shown.sweeps import SweepPoint, SweepResults
from bncore.comparison import MeasureUnknown, Run, group_of, measures, usual_measures
from bncore.comparison.measure import series_key
from bncore.spec.limits import METRIC_KEY_CHARS
from store import sweeps

_USUAL = frozenset({"test/accuracy", "test/loss"})
_COUNTS = ("mean", "sd", "n", "not_reached", "diverged", "not_finite", "missing")
_Name = Annotated[PlainText, Field(min_length=1, max_length=METRIC_KEY_CHARS + 8)]


class SweepResultsQuery(Parameters):
    measures: list[_Name] = Field(
        default_factory=list,
        max_length=16,
        description="As in POST /v1/comparisons: keys of series, for their last values; `:min`, `:max`, `:first` "
        "behind one for others; `best`, `steps_to_target`, `seconds`. Repeat it for several; there are usual ones.",
    )
    format: Literal["json", "csv"] = "json"


def mount(app: FastAPI) -> None:
    """Under a sweep."""
    routes = KeyedRoutes(app, "/v1/sweeps/{sweep_id}", "sweeps")
    table: dict[int | str, dict[str, Any]] = {200: {"content": {"text/csv": {"schema": {"type": "string"}}}}}
    routes.add(
        "/results",
        get_sweep_results,
        response_model=SweepResults,
        responses={**table, **declared(404)},
        summary="A table with a row a point",
    )


@reading_long
def get_sweep_results(
    sweep_id: SweepId, asked: Asked, query: Annotated[SweepResultsQuery, Depends(Reading(SweepResultsQuery))]
) -> Response:
    """Mean and deviation over seeds, at any time; what diverged, did not reach its target or has not ended is counted
    beside a mean and never in it."""
    keys = {series_key(name) for name in query.measures} or _USUAL
    with asked.service.database.read() as session:
        row = sweeps.get(session, sweep_id, owner=asked.sees)
        points = sweeps.measured(session, row, keys)
        runs = [run for point in points for run in point.runs]
        known = _known(runs, query.measures)
        try:
            chosen = measures(query.measures or usual_measures(runs), known)
        except MeasureUnknown as error:
            every = sweeps.measured(session, row, None)
            there = {key for point in every for run in point.runs for key in run.series}
            raise InvalidParameter("measures", str(MeasureUnknown(error.name, there))) from None
    grouped = [(point, group_of(point.values, point.runs, chosen)) for point in points]
    shown = SweepResults.of(row, [measure.name for measure in chosen], grouped)
    if query.format == "json":
        return answer(shown)
    named = {"Content-Disposition": f'attachment; filename="sweep-{sweep_id}.csv"'}
    return Response(_csv(shown), headers=named, media_type="text/csv")


def _known(runs: Sequence[Run], wanted: Sequence[str]) -> frozenset[str]:
    """The keys that may be asked for: until something has ended, any."""
    if any(run.ended for run in runs) and wanted:
        return frozenset(key for run in runs for key in run.series)
    return _USUAL | {series_key(name) for name in wanted}


def _csv(results: SweepResults) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    columns = [f"{name} {count}" for name in results.measures for count in _COUNTS]
    beside = ("n", "diverged", "censored", "unfinished", "experiments")
    writer.writerow(["point", "arm", *results.axes, *columns, *beside])
    writer.writerows([*_row(point, results)] for point in results.points)
    return text.getvalue()


def _row(point: SweepPoint, results: SweepResults) -> Iterator[Any]:
    yield from (point.point, point.arm)
    for path in results.axes:
        value = point.values[path]
        # A part of a spec, as text; and true and false as JSON has them.
        yield json.dumps(value) if isinstance(value, dict | list | bool) else value
    for name in results.measures:
        yield from (getattr(point.measures[name], count) for count in _COUNTS)
    yield from (point.n, point.diverged, point.censored, sum(point.unfinished.values()), " ".join(point.experiments))
