"""Submitting experiments, finding them, ending them."""

from collections.abc import Sequence
from typing import Annotated, Any

import structlog
from fastapi import APIRouter, Query, Response
from pydantic import Field
from sqlalchemy.orm import Session
from starlette.requests import Request

from api.bodies import Spec
from api.deps import ApiService, Caller, ExperimentId, IdempotencyKey, ReadSession, Service, WriteSession
from api.headers import entity_tag, none_match
from api.openapi import idempotency_parameter, spec_request_body
from api.parameters import Parameters, PlainText
from api.problems import declared
from api.schemas import Experiment, Page, Shown
from bncore.spec import ExperimentSpec, plan
from store import experiments, idempotency, processes, tables
from store.experiments import MAX_PAGE, Filters, Submission
from store.idempotency import Scope, Submitted
from store.jobs import wishes
from store.jobs.states import TERMINAL, State
from store.jobs.wishes import By

_LOG = structlog.get_logger("api")

_ACCEPTED: dict[int | str, dict[str, Any]] = {
    202: {
        "description": "It is stored and will be run",
        "headers": {
            "Location": {"schema": {"type": "string"}, "description": "The experiment."},
            "Retry-After": {"schema": {"type": "integer"}, "description": "Seconds after which a look is worth it."},
            "Idempotency-Replayed": {
                "schema": {"type": "string", "enum": ["true"]},
                "description": "An earlier request with this key submitted it.",
            },
        },
    },
    **declared(400, 404, 413, 415, 422),
}
_TAG = Annotated[PlainText, Field(min_length=1, max_length=64 + 1 + 512)]


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


class Layer(Shown):
    name: str
    kind: str
    output_shape: list[int] = Field(description="Without the batch.")
    parameters: int


class SpecPlan(Shown):
    """What a spec amounts to before anything runs."""

    layers: list[Layer]
    parameters: int
    input_shape: list[int]
    classes: int
    train_examples: int
    test_examples: int
    steps_per_epoch: int
    total_steps: int


class Validated(Shown):
    spec: dict[str, Any] = Field(description="With every default filled in.")
    plan: SpecPlan


def router() -> APIRouter:
    """`/experiments` and one of them."""
    routes = APIRouter(prefix="/v1", tags=["experiments"])
    body = {"requestBody": spec_request_body()}
    routes.add_api_route(
        "/experiments",
        submit_experiment,
        methods=["POST"],
        status_code=202,
        response_model=Experiment,
        responses=_ACCEPTED,
        openapi_extra={**body, "parameters": [idempotency_parameter()]},
        summary="Submit an experiment",
    )
    routes.add_api_route(
        "/experiments:validate",
        validate_experiment,
        methods=["POST"],
        response_model=Validated,
        responses=declared(413, 415, 422),
        openapi_extra=body,
        summary="What a spec amounts to; stores nothing",
    )
    routes.add_api_route(
        "/experiments", list_experiments, response_model=Page[Experiment], responses=declared(422), summary="Find them"
    )
    _add_one(routes)
    return routes


def _add_one(routes: APIRouter) -> None:
    one = "/experiments/{experiment_id}"
    unchanged: dict[int | str, dict[str, Any]] = {304: {"description": "Nothing has changed"}}
    routes.add_api_route(
        one, get_experiment, response_model=Experiment, responses={**unchanged, **declared(404)}, summary="One of them"
    )
    routes.add_api_route(
        f"{one}/cancel",
        cancel_experiment,
        methods=["POST"],
        response_model=Experiment,
        responses={202: {"model": Experiment, "description": "A worker has been asked"}, **declared(404)},
        summary="End it early",
    )
    routes.add_api_route(
        one,
        delete_experiment,
        methods=["DELETE"],
        status_code=204,
        responses=declared(404, 409),
        summary="Delete it with everything it made",
    )


def submit_experiment(
    spec: Spec,
    caller: Caller,
    key: IdempotencyKey,
    session: WriteSession,
    service: Service,
    request: Request,
    response: Response,
) -> Experiment:
    """Store the experiment and queue it. With an `Idempotency-Key` a repeat within 24 hours submits nothing new.

    A repeat is answered with the experiment as it is then, 404 if it was deleted meanwhile; the same key with another
    spec is an error.
    """
    submission = Submission.of(spec)
    device = _device(session, service, spec)
    if key is None:
        submitted = Submitted(
            experiments.submit(session, submission, owner=caller.owner, device=device, key_id=caller.id), replayed=False
        )
    else:
        scope = Scope(owner=caller.owner, method=request.method, path=request.url.path, key=key)
        submitted = idempotency.submit_once(session, scope, submission, device=device, key_id=caller.id)
    shown = Experiment.of(submitted.experiment)
    response.headers["Location"] = shown.links.self_
    response.headers["Retry-After"] = "1"
    if submitted.replayed:
        response.headers["Idempotency-Replayed"] = "true"
    _LOG.info("experiment_submitted", experiment_id=shown.id, device=device, replayed=submitted.replayed)
    return shown


def validate_experiment(spec: Spec) -> Validated:
    """The completed spec, the network layer by layer, and the budget in steps."""
    found = plan(spec)
    layers = [
        Layer(name=layer.name, kind=layer.kind, output_shape=list(layer.output_shape), parameters=layer.parameters)
        for layer in found.layers
    ]
    shown = SpecPlan(
        layers=layers,
        parameters=found.parameters,
        input_shape=list(found.input_shape),
        classes=found.classes,
        train_examples=found.train_examples,
        test_examples=found.test_examples,
        steps_per_epoch=found.steps_per_epoch,
        total_steps=found.total_steps,
    )
    return Validated(spec=spec.model_dump(mode="json"), plan=shown)


def list_experiments(query: Annotated[ListQuery, Query()], session: ReadSession) -> Page[Experiment]:
    """Newest first. Pages do not shift when experiments are added meanwhile."""
    filters = Filters(states=tuple(dict.fromkeys(query.state)), tags=_tags(query.tag), name=query.name)
    found = experiments.page(session, filters, query.cursor, query.limit)
    shown = [Experiment.of(row) for row in found.rows]
    return Page[Experiment](data=shown, has_more=found.has_more, next_cursor=found.next_cursor)


def get_experiment(
    experiment_id: ExperimentId, request: Request, response: Response, session: ReadSession
) -> Experiment | Response:
    """State, progress and the complete spec. Send the ETag back in `If-None-Match` to poll for nearly nothing."""
    row = experiments.get(session, experiment_id)
    headers = _headers(row)
    if none_match(request, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    response.headers.update(headers)
    return Experiment.of(row)


def cancel_experiment(
    experiment_id: ExperimentId, caller: Caller, response: Response, session: WriteSession
) -> Experiment:
    """202 while a worker still has to stop it, 200 when it is at its end; repeats change nothing.

    A run that completes its budget before the worker hears of it succeeds.
    """
    wishes.ask(session, experiment_id, "cancel", By(None, caller.id))
    row = experiments.get(session, experiment_id)
    response.status_code = 200 if row.state in TERMINAL else 202
    response.headers.update(_headers(row))
    return Experiment.of(row)


def delete_experiment(experiment_id: ExperimentId, caller: Caller, session: WriteSession) -> None:
    """Only at its end, else 409 with the state and the actions that it allows. It is gone at once, its bytes soon."""
    experiments.delete(session, experiment_id, By(None, caller.id))


def _device(session: Session, service: ApiService, spec: ExperimentSpec) -> str:
    """The queue: `auto` is cuda if a worker for it lives right now, else cpu."""
    if spec.resources.device != "auto":
        return spec.resources.device
    within = service.settings.live_within_seconds
    return "cuda" if processes.device_is_live(session, "cuda", within_seconds=within) else "cpu"


def _headers(row: tables.Experiment) -> dict[str, str]:
    headers = {"ETag": entity_tag(row.version), "Cache-Control": "no-cache"}
    return headers if row.state in TERMINAL else {**headers, "Retry-After": "1"}


def _tags(given: Sequence[str]) -> dict[str, str | None]:
    # Two values asked of one key can never both hold; the last one counts.
    pairs = (text.partition(":") for text in given)
    return {key: value if colon else None for key, colon, value in pairs}
