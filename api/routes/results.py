"""How an experiment stands, and waiting until that changes."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, FastAPI
from pydantic import Field
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from api.answers import answer
from api.deps import Asked, ExperimentId, living_lately
from api.headers import entity_tag, experiment_headers, if_none_match_parameter, none_match
from api.lanes import left
from api.parameters import Parameters, Reading
from api.problems import declared
from api.routes.keyed import KeyedRoutes
from api.shown.results import Results
from api.shown.waiting import Living
from store import checkpoint_pages, experiments, results
from store.experiments import Mark

MAX_WAIT_SECONDS = 60.0
_MOST_CHECKPOINTS = 20


class ResultsQuery(Parameters):
    wait: float = Field(
        default=0.0,
        ge=0.0,
        le=MAX_WAIT_SECONDS,
        description="Seconds to wait for a change: with If-None-Match until the ETag is another one (304 if it stays), "
        "without it until the experiment is terminal. A terminal experiment is answered at once.",
    )


def mount(app: FastAPI) -> None:
    """Under an experiment."""
    routes = KeyedRoutes(app, "/v1/experiments/{experiment_id}", "results")
    responses: dict[int | str, dict[str, Any]] = {**declared(404), 304: {"description": "Nothing has changed"}}
    routes.add(
        "/results",
        get_results,
        response_model=Results,
        responses=responses,
        openapi_extra={"parameters": [if_none_match_parameter()]},
        summary="Results, at once or on change",
    )


@living_lately
async def get_results(
    experiment_id: ExperimentId,
    asked: Asked,
    query: Annotated[ResultsQuery, Depends(Reading(ResultsQuery))],
    living: Living,
) -> Response:
    """State, progress, summary, the newest value of every metric and the newest checkpoints; complete at any time.

    What is left out of the checkpoints is at `links.checkpoints`.
    """
    service, request = asked.service, asked.request
    read = functools.partial(_read, asked, experiment_id, living)
    found = await service.reads.run(read)
    if query.wait and not found.is_terminal and (ready := _ready(request, found.version)):
        if not await service.changes.wait(experiment_id, ready, query.wait, functools.partial(left, request)):
            raise ClientDisconnect
        found = await service.reads.run(read)
    return found.response


@dataclass(frozen=True)
class _Found:
    version: int
    is_terminal: bool
    response: Response


def _ready(request: Request, version: int) -> Callable[[Mark | None], bool] | None:
    """What to wait for; None when the client does not know this version yet."""
    if "if-none-match" not in request.headers:
        return lambda mark: mark is None or mark.is_terminal
    if not none_match(request, entity_tag(version)):
        return None
    return lambda mark: mark is None or mark.is_terminal or not none_match(request, entity_tag(mark.version))


def _read(asked: Asked, experiment_id: str, living: Living) -> _Found:
    with asked.service.database.read() as session:
        row = experiments.get(session, experiment_id, owner=asked.sees)
        series = results.summaries(session, experiment_id)
        checkpoints = checkpoint_pages.newest(session, experiment_id, _MOST_CHECKPOINTS)
    shown = Results.of(row, series, checkpoints, living)
    headers = experiment_headers(row)
    if none_match(asked.request, headers["ETag"]):
        return _Found(row.version, shown.is_terminal, Response(status_code=304, headers=headers))
    return _Found(row.version, shown.is_terminal, answer(shown, headers=headers))
