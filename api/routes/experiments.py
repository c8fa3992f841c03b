"""Finding experiments and ending them."""

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import Depends, FastAPI
from pydantic import Field
from sqlalchemy.orm import Session
from starlette.requests import Request
from starlette.responses import Response

from api.answers import answer, answer_unless_known
from api.deps import ExperimentId, Service
from api.headers import entity_tag, if_match_parameter, if_none_match_parameter, require_match
from api.lanes import reading, writing
from api.parameters import Parameters, PlainText, parameters
from api.problems import declared
from api.routes.keyed import KeyedRoutes
from api.shown import Page
from api.shown.experiments import Experiment
from store import experiments, models
from store.errors import CursorInvalid
from store.experiments import MAX_PAGE, Filters
from store.states import TERMINAL, State

_TAG = Annotated[PlainText, Field(min_length=1, max_length=64 + 1 + 512)]
_NOTHING = Page[Experiment](data=[], has_more=False, next_cursor=None)


class ListQuery(Parameters):
    state: list[State] = Field(default_factory=list, max_length=16, description="Repeat it for any of several.")
    tag: list[_TAG] = Field(
        default_factory=list,
        max_length=16,
        description="`key:value`, or `key` alone for any value. Repeated, all must hold.",
    )
    name: Annotated[PlainText, Field(max_length=200)] | None = Field(default=None, description="The whole name.")
    limit: int = Field(default=20, ge=1, le=MAX_PAGE)
    cursor: Annotated[str, Field(max_length=512)] | None = Field(
        default=None, description="`next_cursor` of the page before, with the same filters."
    )


def mount(app: FastAPI) -> None:
    """`/experiments` and one of them."""
    routes = KeyedRoutes(app, "/v1/experiments", "experiments")
    unchanged: dict[int | str, dict[str, Any]] = {304: {"description": "Nothing has changed"}}
    routes.add("", list_experiments, response_model=Page[Experiment], responses=declared(422), summary="Find them")
    routes.add(
        "/{experiment_id}",
        get_experiment,
        response_model=Experiment,
        responses={**unchanged, **declared(404)},
        openapi_extra={"parameters": [if_none_match_parameter()]},
        summary="One of them",
    )
    _add_actions(routes)


def _add_actions(routes: KeyedRoutes) -> None:
    only_if = {"parameters": [if_match_parameter()]}
    routes.add(
        "/{experiment_id}/cancel",
        cancel_experiment,
        methods=["POST"],
        response_model=Experiment,
        responses={202: {"model": Experiment, "description": "A worker has been asked"}, **declared(404, 412)},
        openapi_extra=only_if,
        summary="End it early",
    )
    routes.add(
        "/{experiment_id}",
        delete_experiment,
        methods=["DELETE"],
        status_code=204,
        responses=declared(404, 409, 412),
        openapi_extra=only_if,
        summary="Delete it with everything it made",
    )


@reading
def list_experiments(query: Annotated[ListQuery, Depends(parameters(ListQuery))], service: Service) -> Response:
    """Newest first. Pages do not shift when experiments are added meanwhile."""
    tags = _tags(query.tag)
    if tags is None:
        if query.cursor is not None:
            raise CursorInvalid
        return answer(_NOTHING)
    filters = Filters(states=tuple(dict.fromkeys(query.state)), tags=tags, name=query.name)
    with service.database.read() as session:
        found = experiments.page(session, filters, query.cursor, query.limit)
    shown = [Experiment.of(row) for row in found.rows]
    return answer(Page[Experiment](data=shown, has_more=found.has_more, next_cursor=found.next_cursor))


@reading
def get_experiment(experiment_id: ExperimentId, request: Request, service: Service) -> Response:
    """State, progress and the complete spec. Send the ETag back in `If-None-Match` to poll for nearly nothing."""
    with service.database.read() as session:
        row = experiments.get(session, experiment_id)
    return answer_unless_known(request, _headers(row), lambda: Experiment.of(row))


@writing
def cancel_experiment(experiment_id: ExperimentId, request: Request, service: Service) -> Response:
    """202 while a worker still has to stop it, 200 when it is at its end; repeats change nothing.

    A run that completes its budget before the worker hears of it succeeds.
    """
    with service.database.write() as session:
        _require_match(session, request, experiment_id)
        row = experiments.request_cancel(session, experiment_id)
    return answer(Experiment.of(row), 200 if row.state in TERMINAL else 202, _headers(row))


@writing
def delete_experiment(experiment_id: ExperimentId, request: Request, service: Service) -> Response:
    """Only at its end, else 409 with the state and the actions that it allows. It is gone at once, its bytes soon."""
    with service.database.write() as session:
        _require_match(session, request, experiment_id)
        experiments.delete(session, experiment_id)
    return Response(status_code=204)


def _require_match(session: Session, request: Request, experiment_id: str) -> None:
    if "if-match" in request.headers:
        require_match(request, entity_tag(experiments.get(session, experiment_id).version))


def _headers(row: models.Experiment) -> dict[str, str]:
    headers = {"ETag": entity_tag(row.version), "Cache-Control": "no-cache"}
    return headers if row.state in TERMINAL else {**headers, "Retry-After": "1"}


def _tags(given: Sequence[str]) -> dict[str, str | None] | None:
    """What is asked of each key; None when that is two different values, which no experiment has."""
    asked: dict[str, str | None] = {}
    for key, colon, value in (text.partition(":") for text in given):
        known = asked.get(key)
        if colon and known not in (None, value):
            return None
        asked[key] = value if colon else known
    return asked
