"""The points of an experiment's series, as JSON or as a table."""

import functools
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from fastapi import Depends, FastAPI
from pydantic import Field
from starlette.responses import Response

from api.answers import answer
from api.aside.pool import Work
from api.deps import Admitted, Asked, ExperimentId
from api.lanes import reading_long
from api.parameters import MAX_INTEGER, Parameters, PlainText, Reading
from api.problems import declared
from api.refusals import InvalidParameter
from api.routes.keyed import KeyedRoutes
from api.shown.metrics import Metrics, MetricSeries
from bncore.figures.asked import packed
from store import experiments, results
from store.results import Series

TABLE_MEDIA = {"csv": "text/csv", "parquet": "application/vnd.apache.parquet"}
_TABLE = "bncore.figures.asked:metrics_table"
_POINTS_OF_TABLE = 100_000
_MOST_ROWS = 1_000_000
_NO_POINTS = MetricSeries(steps=[], values=[], count=0)


class MetricsQuery(Parameters):
    keys: list[Annotated[PlainText, Field(min_length=1, max_length=200)]] = Field(
        default_factory=list,
        max_length=64,
        description="Repeat it for several series, e.g. keys=train/loss&keys=test/loss; without it, all of them.",
    )
    first_step: int = Field(default=0, ge=0, le=MAX_INTEGER, description="Included.")
    last_step: int = Field(default=MAX_INTEGER, ge=0, le=MAX_INTEGER, description="Included.")
    max_points: int = Field(
        default=1000,
        ge=10,
        le=100_000,
        description="Of each series; where nobody says, 100000 in a table. Where points are left out, those that "
        "remain include the first, last, least and greatest of every stretch: a spike never vanishes.",
    )
    format: Literal["json", "csv", "parquet"] = Field(
        default="json", description="A table has a row a point: key, step, value. At most a million of them."
    )

    @property
    def points(self) -> int:
        """Of each series at most."""
        is_said = self.format == "json" or "max_points" in self.model_fields_set
        return self.max_points if is_said else _POINTS_OF_TABLE


def mount(app: FastAPI) -> None:
    """Under an experiment."""
    routes = KeyedRoutes(app, "/v1/experiments/{experiment_id}", "results")
    tables = {media: {"schema": {"type": "string"}} for media in TABLE_MEDIA.values()}
    responses: dict[int | str, dict[str, Any]] = {200: {"content": tables}, **declared(404)}
    routes.add("/metrics", get_metrics, response_model=Metrics, responses=responses, summary="Series of points")


async def get_metrics(
    experiment_id: ExperimentId,
    asked: Asked,
    query: Annotated[MetricsQuery, Depends(Reading(MetricsQuery))],
) -> Response:
    """Points by key. A key without points, because none was written yet or ever, is an empty series, not an error;
    `missing` names it.
    """
    if query.format == "json":
        return await _as_json(experiment_id=experiment_id, asked=asked, query=query)
    with_rows = functools.partial(_require_few_rows, experiment_id, asked, query)
    await asked.service.reads.run(with_rows)

    async def prepare() -> Work:
        found = await asked.service.long_reads.run(functools.partial(_series, experiment_id, asked, query))
        pairs = {key: (series.steps, series.values) for key, series in found.items()}
        described, blobs = packed({experiment_id: {}}, {experiment_id: pairs}, {})
        return Work({"format": query.format, "experiments": described}, blobs)

    table = await asked.service.aside.run(asked.request, asked.caller.owner, _TABLE, prepare)
    return table_answer(table, query.format, f"metrics-{experiment_id}")


def table_answer(content: bytes, form: str, name: str, headers: Mapping[str, str] | None = None) -> Response:
    """A table as a file of that name."""
    named = {**(headers or {}), "Content-Disposition": f'attachment; filename="{name}.{form}"'}
    return Response(content, headers=named, media_type=TABLE_MEDIA[form])


@reading_long
def _as_json(*, experiment_id: str, asked: Admitted, query: MetricsQuery) -> Response:
    shown = {
        key: MetricSeries(steps=series.steps.tolist(), values=series.values.tolist(), count=series.count)
        for key, series in _series(experiment_id, asked, query).items()
    }
    series = {key: _NO_POINTS for key in query.keys} | shown
    if all(found.count for found in series.values()):
        return answer(Metrics(series=series))
    with asked.service.database.read() as session:
        known = results.keys_of(session, [experiment_id])
    missing = [key for key in series if key not in known]
    return answer(Metrics(series=series, missing=missing, there_are=known if missing else []))


def _require_few_rows(experiment_id: str, asked: Admitted, query: MetricsQuery) -> None:
    with asked.service.database.read() as session:
        experiments.get(session, experiment_id, owner=asked.sees)
        counts = results.points_of(session, [experiment_id], query.keys or None)
    rows = sum(min(count, query.points) for count in counts.values())
    if rows > _MOST_ROWS:
        detail = f"The table would have {rows:,} rows, more than {_MOST_ROWS:,}: name fewer keys, or bound max_points"
        raise InvalidParameter("max_points", detail)


def _series(experiment_id: str, asked: Admitted, query: MetricsQuery) -> dict[str, Series]:
    with asked.service.database.read() as session:
        experiments.get(session, experiment_id, owner=asked.sees)
        return results.series(
            session,
            experiment_id,
            query.keys or None,
            first_step=query.first_step,
            last_step=query.last_step,
            max_points=query.points,
        )
