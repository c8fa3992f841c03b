"""Submitting experiments, and trying out what would be submitted."""

from typing import Any

import structlog
from fastapi import FastAPI
from sqlalchemy.orm import Session
from starlette.requests import Request
from starlette.responses import Response

from api.answers import answer
from api.bodies import Spec
from api.deps import IdempotencyKey, Owner, Service
from api.lanes import writing
from api.openapi import idempotency_parameter, spec_request_body
from api.problems import declared
from api.routes.keyed import KeyedRoutes
from api.service import ApiService
from api.shown.experiments import Experiment
from api.shown.plans import Validated
from bncore.spec import ExperimentSpec
from store import experiments, idempotency, processes
from store.idempotency import Scope, Submitted

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


def mount(app: FastAPI) -> None:
    """POST `/experiments`, and the same without consequences."""
    routes = KeyedRoutes(app, "/v1", "experiments")
    body = {"requestBody": spec_request_body()}
    routes.add(
        "/experiments",
        submit_experiment,
        methods=["POST"],
        status_code=202,
        response_model=Experiment,
        responses=_ACCEPTED,
        openapi_extra={**body, "parameters": [idempotency_parameter()]},
        summary="Submit an experiment",
    )
    routes.add(
        "/experiments:validate",
        validate_experiment,
        methods=["POST"],
        response_model=Validated,
        responses=declared(413, 415, 422),
        openapi_extra=body,
        summary="What a spec amounts to; stores nothing",
    )


@writing
def submit_experiment(spec: Spec, owner: Owner, key: IdempotencyKey, service: Service, request: Request) -> Response:
    """Store the experiment and queue it. With an `Idempotency-Key` a repeat within 24 hours submits nothing new.

    A repeat is answered with the experiment as it is then, 404 if it was deleted meanwhile; the same key with another
    spec is an error.
    """
    with service.database.write() as session:
        device = _device(session, service, spec)
        if key is None:
            submitted = Submitted(experiments.submit(session, spec, owner=owner, device=device), replayed=False)
        else:
            scope = Scope(owner=owner, method=request.method, path=request.url.path, key=key)
            submitted = idempotency.submit_once(session, scope, spec, device=device)
    shown = Experiment.of(submitted.experiment)
    _LOG.info("experiment_submitted", experiment_id=shown.id, device=device, replayed=submitted.replayed)
    headers = {"Location": shown.links.self_, "Retry-After": "1"}
    return answer(shown, 202, headers | ({"Idempotency-Replayed": "true"} if submitted.replayed else {}))


async def validate_experiment(spec: Spec) -> Response:
    """The completed spec, the network layer by layer, and the budget in steps."""
    return answer(Validated.of(spec))


def _device(session: Session, service: ApiService, spec: ExperimentSpec) -> str:
    """The queue: `auto` is cuda if a worker for it lives right now, else cpu."""
    if spec.resources.device != "auto":
        return spec.resources.device
    within = service.settings.live_within_seconds
    return "cuda" if processes.device_is_live(session, "cuda", within_seconds=within) else "cpu"
