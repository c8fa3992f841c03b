"""Submitting experiments, and trying out what would be submitted."""

import functools
from collections.abc import Callable
from typing import Annotated, Any

import structlog
from fastapi import Depends, FastAPI
from sqlalchemy.orm import Session
from starlette.responses import Response

from api.answers import answer
from api.bodies import Spec, patch_object
from api.class_names import start_faults
from api.completing import cloned_document, spec_of
from api.deps import Asked, ExperimentId, living_now
from api.devices import queue_of
from api.headers import idempotency_key
from api.intake import Order
from api.openapi import clone_body, idempotency_parameter, spec_request_body
from api.problems import declared
from api.routes.keyed import KeyedRoutes
from api.shown.experiments import Submitted
from api.shown.plans import SpecWarning, Validated, warnings_of
from api.shown.waiting import Living
from api.taken_over import taken_over
from bncore.spec import ExperimentSpec, Fault, cautions, load_spec
from store import experiments, idempotency
from store.experiments import Submission
from store.idempotency import Scope
from store.idempotency import Submitted as StoredOnce
from store.tables import Experiment

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
    **declared(400, 404, 413, 415),
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
        response_model=Submitted,
        responses=_ACCEPTED,
        openapi_extra={**body, "parameters": [idempotency_parameter()]},
        summary="Submit an experiment",
    )
    routes.add(
        "/experiments/{experiment_id}/clone",
        clone_experiment,
        methods=["POST"],
        status_code=202,
        response_model=Submitted,
        responses=_ACCEPTED,
        openapi_extra={"requestBody": clone_body(), "parameters": [idempotency_parameter()]},
        summary="Submit one like it",
    )
    routes.add(
        "/experiments:validate",
        validate_experiment,
        methods=["POST"],
        response_model=Validated,
        responses=declared(413, 415),
        openapi_extra=body,
        summary="What a spec amounts to; stores nothing",
    )


@living_now
async def submit_experiment(asked: Asked, spec: Spec, living: Living) -> Response:
    """Store the experiment and queue it. With an `Idempotency-Key` a repeat within 24 hours submits nothing new.

    A repeat is answered with the experiment as it is then, 404 if it was deleted meanwhile; the same key with another
    spec is an error.
    """
    warnings = warnings_of(spec, living, found=await _of_classes(asked, spec))
    return await _accepted(asked, living, spec, Submission.of(spec), functools.partial(_answered, living, warnings))


@living_now
async def clone_experiment(
    experiment_id: ExperimentId, asked: Asked, patch: Annotated[dict[str, Any], Depends(patch_object)], living: Living
) -> Response:
    """Submit its spec once more, changed by a JSON Merge Patch (RFC 7396); `retry_of` of the new one names this one.

    Faults point into the spec that comes out. Null takes a field back to its default: where another `kind` is chosen,
    what the former kind had and the new one has not is to be nulled too; and so is `train.steps` where `train.epochs`
    is set. What both kinds have stays as it was: `warnings` name what has another default.
    """
    service = asked.service
    source = await service.reads.run(functools.partial(_source, asked, experiment_id))
    # The patch may have been a large body.
    spec, submission, known, warnings = await service.bodies.run(functools.partial(_cloned, asked, source, patch))
    of_classes = await _of_classes(asked, spec)
    answered = functools.partial(_answered, living, warnings_of(spec, living, known, of_classes) + warnings)
    return await _accepted(asked, living, spec, submission, answered)


async def validate_experiment(asked: Asked, spec: Spec) -> Response:
    """The completed spec, the network layer by layer, the budget in steps, and what may not be meant so."""
    of_classes = await _of_classes(asked, spec)
    return answer(Validated.of(spec, await asked.service.readiness.lately(), of_classes))


async def _of_classes(asked: Asked, spec: ExperimentSpec) -> list[Fault]:
    """What may not be meant of the classes of another data set than a checkpoint was trained on."""
    if spec.start_from is None:
        return []
    service = asked.service
    return await service.reads.run(functools.partial(start_faults, service.database, asked.caller.owner, spec))


def _source(asked: Asked, experiment_id: str) -> Experiment:
    with asked.service.database.read() as session:
        return experiments.get(session, experiment_id, owner=asked.sees)


def _cloned(
    asked: Asked, source: Experiment, patch: dict[str, Any]
) -> tuple[ExperimentSpec, Submission, list[Fault], list[SpecWarning]]:
    """The clone's spec and what is stored of it; what may not have been meant in its source, and what is new in it."""
    document = cloned_document(source.spec, patch)
    spec = spec_of(asked.service.database, asked.caller.owner, document)
    known = cautions(load_spec(source.spec))
    return spec, Submission.of(spec, retry_of=source.id), known, list(taken_over(source.spec, patch, spec))


async def _accepted(
    asked: Asked, living: Living, spec: ExperimentSpec, submission: Submission, answered: Callable[..., Response]
) -> Response:
    service, caller = asked.service, asked.caller
    key = idempotency_key(asked.request)
    device = functools.partial(queue_of, service, spec.resources.device, living)
    if key is None and submission.start_from is None:
        return await service.intake.submit(Order(caller.owner, caller.id, submission, device, answered))
    path = asked.request.url.path
    scope = None if key is None else Scope(owner=caller.owner, method=asked.request.method, path=path, key=key)
    return await service.writes.run(functools.partial(_once, asked, scope, submission, device, answered))


def _once(
    asked: Asked,
    scope: Scope | None,
    submission: Submission,
    device: Callable[[Session], str],
    answered: Callable[..., Response],
) -> Response:
    service = asked.service
    with service.database.write() as session:
        where: dict[str, Any] = {"device": device(session), "key_id": asked.caller.id, "limits": service.limits}
        if scope is None:
            stored = experiments.submit(session, submission, owner=asked.caller.owner, **where)
            submitted = StoredOnce(stored, replayed=False)
        else:
            submitted = idempotency.submit_once(session, scope, submission, **where)
    return answered(submitted.experiment, replayed=submitted.replayed)


def _answered(living: Living, warnings: list[SpecWarning], stored: Experiment, *, replayed: bool = False) -> Response:
    shown = Submitted.accepted(stored, living, warnings)
    _LOG.info("experiment_submitted", experiment_id=shown.id, device=shown.device, replayed=replayed)
    headers = {"Location": shown.links.self_, "Retry-After": "1"}
    return answer(shown, 202, headers | ({"Idempotency-Replayed": "true"} if replayed else {}))
