"""How an experiment stands, and waiting until that changes."""

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import Field
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from api.deps import ApiService, ExperimentId, Service
from api.headers import entity_tag, none_match
from api.parameters import Parameters
from api.problems import declared
from api.schemas import ResultCheckpoint, Results, Summary, failure_of, links_of, progress_of
from store import blobs, experiments, results, tables
from store.experiments import Mark
from store.jobs.states import TERMINAL

MAX_WAIT_SECONDS = 60.0


class ResultsQuery(Parameters):
    wait: float = Field(
        default=0.0,
        ge=0.0,
        le=MAX_WAIT_SECONDS,
        description="Seconds to wait for a change: with If-None-Match until the ETag is another one (304 if it stays), "
        "without it until the experiment is terminal. A terminal experiment is answered at once.",
    )


def router() -> APIRouter:
    """Under an experiment."""
    routes = APIRouter(prefix="/v1/experiments/{experiment_id}", tags=["results"])
    responses: dict[int | str, dict[str, Any]] = {**declared(404, 422), 304: {"description": "Nothing has changed"}}
    routes.add_api_route(
        "/results", get_results, response_model=Results, responses=responses, summary="Results, at once or on change"
    )
    return routes


async def get_results(
    experiment_id: ExperimentId,
    query: Annotated[ResultsQuery, Query()],
    request: Request,
    response: Response,
    service: Service,
) -> Results | Response:
    """State, progress, summary, the newest value of every metric and the checkpoints; complete at any time."""
    version, shown = await run_in_threadpool(_read, service, experiment_id)
    if query.wait and not shown.is_terminal and (ready := _ready(request, version)):
        await service.changes.wait(experiment_id, ready, query.wait)
        version, shown = await run_in_threadpool(_read, service, experiment_id)
    headers = {"ETag": entity_tag(version), "Cache-Control": "no-cache"}
    if not shown.is_terminal:
        headers["Retry-After"] = "1"
    if none_match(request, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    response.headers.update(headers)
    return shown


def _ready(request: Request, version: int) -> Callable[[Mark | None], bool] | None:
    """What to wait for; None when the client does not know this version yet."""
    if "if-none-match" not in request.headers:
        return lambda mark: mark is None or mark.is_terminal
    if not none_match(request, entity_tag(version)):
        return None
    return lambda mark: mark is None or mark.is_terminal or not none_match(request, entity_tag(mark.version))


def _read(service: ApiService, experiment_id: str) -> tuple[int, Results]:
    with service.database.read() as session:
        row = experiments.get(session, experiment_id)
        return row.version, _shown(session, row)


def _shown(session: Session, row: tables.Experiment) -> Results:
    series = {found.key: found for found in results.summaries(session, row.id)}
    return Results(
        id=row.id,
        name=row.name,
        state=row.state,
        is_terminal=row.state in TERMINAL,
        phase=row.phase,
        stop_reason=row.stop_reason,
        failure=failure_of(row),
        progress=progress_of(row),
        attempt=row.attempt,
        summary=_summary(row, series),
        metrics={key: found.last for key, found in series.items()},
        checkpoints=[ResultCheckpoint.of(found) for found in blobs.checkpoints(session, row.id)],
        links=links_of(row.id),
    )


def _summary(row: tables.Experiment, series: dict[str, tables.MetricSeries]) -> Summary:
    """The trainer's own summary once there is one; until then what the series say."""
    accuracy, loss = series.get("test/accuracy"), series.get("test/loss")
    known: dict[str, Any] = {
        "steps": row.step,
        "seconds": None,
        "test_accuracy": accuracy and accuracy.last,
        "test_loss": loss and loss.last,
        "best_test_accuracy": accuracy and accuracy.maximum,
        "steps_to_target": None,
    }
    return Summary.model_validate(known | (row.summary or {}))
