"""The points of an experiment's series."""

from typing import Annotated

from fastapi import Depends, FastAPI
from pydantic import Field
from starlette.responses import Response

from api.answers import answer
from api.deps import Asked, ExperimentId
from api.lanes import reading_long
from api.parameters import MAX_INTEGER, Parameters, PlainText, Reading
from api.problems import declared
from api.routes.keyed import KeyedRoutes
from api.shown.metrics import Metrics, MetricSeries
from store import experiments, results

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
        description="Of each series. Where points are left out, those that remain include the first, last, least and "
        "greatest of every stretch: a spike never vanishes.",
    )


def mount(app: FastAPI) -> None:
    """Under an experiment."""
    routes = KeyedRoutes(app, "/v1/experiments/{experiment_id}", "results")
    routes.add("/metrics", get_metrics, response_model=Metrics, responses=declared(404), summary="Series of points")


@reading_long
def get_metrics(
    experiment_id: ExperimentId,
    asked: Asked,
    query: Annotated[MetricsQuery, Depends(Reading(MetricsQuery))],
) -> Response:
    """Points by key. A key without points, because none was written yet or ever, is an empty series, not an error."""
    with asked.service.database.read() as session:
        experiments.get(session, experiment_id, owner=asked.sees)
        found = results.series(
            session,
            experiment_id,
            query.keys or None,
            first_step=query.first_step,
            last_step=query.last_step,
            max_points=query.max_points,
        )
    shown = {
        key: MetricSeries(steps=series.steps.tolist(), values=series.values.tolist(), count=series.count)
        for key, series in found.items()
    }
    return answer(Metrics(series={key: _NO_POINTS for key in query.keys} | shown))
