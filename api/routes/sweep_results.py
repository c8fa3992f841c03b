"""What a sweep came to: one table, a row a point, over seeds."""

import csv
import functools
import io
import json
from typing import Annotated, Any, Literal

from fastapi import Depends, FastAPI
from pydantic import Field
from starlette.responses import Response

from api.answers import answer
from api.aside.pool import Work
from api.deps import Admitted, Asked, SweepId
from api.parameters import Parameters, PlainText, Reading
from api.problems import declared
from api.routes.keyed import KeyedRoutes
from api.routes.metrics import TABLE_MEDIA, table_answer
from api.shown.sweeps import SweepResults
from api.sweep_table import table_of
from bncore.spec.limits import METRIC_KEY_CHARS
from store import sweeps
from store.sweeps import rungs

_COUNTS = ("mean", "sd", "n", "not_reached", "diverged", "not_finite", "missing")
_INTERVALS = "bncore.studies.asked:intervals"
_TABLE = "bncore.figures.asked:columns_table"
_Name = Annotated[PlainText, Field(min_length=1, max_length=METRIC_KEY_CHARS + 8)]


class SweepResultsQuery(Parameters):
    measures: list[_Name] = Field(
        default_factory=list,
        max_length=16,
        description="As in POST /v1/comparisons: keys of series, for their last values; `:min`, `:max`, `:first` "
        "behind one for others; `best`, `steps_to_target`, `seconds`. Repeat it for several; there are usual ones.",
    )
    confidence: float | None = Field(
        default=None, gt=0.5, lt=1.0, description="Such as 0.95: intervals of the means, by Student's t over seeds."
    )
    format: Literal["json", "csv", "parquet"] = "json"


def mount(app: FastAPI) -> None:
    """Under a sweep."""
    routes = KeyedRoutes(app, "/v1/sweeps/{sweep_id}", "sweeps")
    content = {media: {"schema": {"type": "string"}} for media in TABLE_MEDIA.values()}
    table: dict[int | str, dict[str, Any]] = {200: {"content": content}}
    routes.add(
        "/results",
        get_sweep_results,
        response_model=SweepResults,
        responses={**table, **declared(404)},
        summary="A table with a row a point",
    )


async def get_sweep_results(
    sweep_id: SweepId, asked: Asked, query: Annotated[SweepResultsQuery, Depends(Reading(SweepResultsQuery))]
) -> Response:
    """Mean and deviation over seeds, at any time; what diverged, did not reach its target or has not ended is counted
    beside a mean and never in it."""
    long_reads = asked.service.long_reads
    found = await long_reads.run(functools.partial(_read, sweep_id, asked, query))
    if query.confidence is not None:
        samples = [list(cell.by_seed.values()) for cell in found.cells]
        made = await _aside(asked, _INTERVALS, {"confidence": query.confidence, "samples": samples})
        found = found.with_intervals([one and tuple(one) for one in json.loads(made)])
    if query.format == "json":
        return await long_reads.run(functools.partial(answer, found))
    columns = await long_reads.run(functools.partial(_columns, found, query.confidence is not None))
    if query.format == "parquet":
        table = await _aside(asked, _TABLE, {"columns": columns})
    else:
        table = await long_reads.run(functools.partial(_csv, columns))
    return table_answer(table, query.format, f"sweep-{sweep_id}")


async def _aside(asked: Admitted, function: str, what: dict[str, Any]) -> bytes:
    async def prepare() -> Work:
        return Work(what)

    return await asked.service.aside.run(asked.request, asked.caller.owner, function, prepare)


def _read(sweep_id: str, asked: Admitted, query: SweepResultsQuery) -> SweepResults:
    with asked.service.database.read() as session:
        row = sweeps.get(session, sweep_id, owner=asked.sees)
        chosen, grouped = table_of(session, row, query.measures, "measures")
        ended = rungs.ended(session, row)
    return SweepResults.of(row, [measure.name for measure in chosen], grouped, ended)


def _columns(found: SweepResults, has_intervals: bool) -> dict[str, list[Any]]:
    """By name, a cell a point."""
    points = found.points
    columns: dict[str, list[Any]] = {"point": [one.point for one in points], "arm": [one.arm for one in points]}
    columns |= {path: _alike([one.values[path] for one in points]) for path in found.axes}
    for name in found.measures:
        cells = [one.measures[name] for one in points]
        columns |= {f"{name} {count}": [getattr(cell, count) for cell in cells] for count in _COUNTS}
        for place, end in enumerate(("low", "high") if has_intervals else ()):
            columns[f"{name} {end}"] = [None if cell.interval is None else cell.interval[place] for cell in cells]
    columns |= {count: [getattr(one, count) for one in points] for count in ("n", "diverged", "censored")}
    columns["unfinished"] = [sum(one.unfinished.values()) for one in points]
    columns["pruned"] = [None if one.pruned is None else one.pruned.step for one in points]
    columns["experiments"] = [" ".join(one.experiments) for one in points]
    return columns


def _alike(values: list[Any]) -> list[Any]:
    """Numbers or texts as they are; whatever else a column has, all of it as JSON."""
    for kinds in ((int, float), (str,)):
        if all(type(value) in kinds for value in values):
            return values
    return [json.dumps(value) for value in values]


def _csv(columns: dict[str, list[Any]]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    return text.getvalue().encode()
