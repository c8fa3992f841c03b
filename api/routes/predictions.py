"""A few inputs, answered by a worker while the request waits.

Invariant: however a request ends, nothing of it is left: who has an answer, gives up, or is gone has the job ended.
"""

import functools
from typing import Annotated, Any

import structlog
from fastapi import Depends, FastAPI
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from api.answers import answer
from api.bodies import patch_object
from api.deps import Asked, ExperimentId, living_now
from api.devices import queue_of
from api.lanes import left
from api.openapi import model_body
from api.problems import declared
from api.refusals import InvalidBody, NoAnswerInTime, PredictionFailed
from api.routes.keyed import KeyedRoutes
from api.shown.predictions import Predicted
from api.shown.waiting import Living
from bncore.spec import Fault, SpecError, load_spec
from bncore.spec.prediction import Prediction, load_prediction, prediction_faults
from store import experiments, predictions, tables
from store.errors import CheckpointNotFound
from store.experiments import Mark
from store.jobs.states import State
from store.queueing import Submitter

_LOG = structlog.get_logger("api")

Document = Annotated[dict[str, Any], Depends(patch_object)]


def mount(app: FastAPI) -> None:
    """Under an experiment."""
    routes = KeyedRoutes(app, "/v1/experiments/{experiment_id}", "evaluations")
    routes.add(
        "/predictions",
        predict,
        methods=["POST"],
        response_model=Predicted,
        responses=declared(404, 413, 415, 504),
        openapi_extra={"requestBody": model_body(Prediction)},
        summary="Predict a few inputs",
    )


@living_now
async def predict(experiment_id: ExperimentId, asked: Asked, document: Document, living: Living) -> Response:
    """Probabilities and classes of up to 64 inputs, by the best checkpoint or another.

    A worker answers before it claims anything else, and not while it is at work: 504 with `Retry-After` when none does
    in the time that the server allows, 503 when one tried in vain. Nothing is kept.
    """
    service = asked.service
    source, wanted = await service.reads.run(functools.partial(_wanted, asked, experiment_id, document))
    job_id = await service.writes.run(functools.partial(_ask, asked, source, wanted, living))
    seconds = service.settings.prediction_seconds
    try:
        if not await service.changes.wait(job_id, _has_ended, seconds, functools.partial(left, asked.request)):
            raise ClientDisconnect
        row = await service.reads.run(functools.partial(_get, asked, job_id))
    finally:
        await service.writes.run(functools.partial(_forget, asked, job_id))
    if row.state is State.SUCCEEDED:
        return answer(Predicted.of(row))
    _LOG.warning("prediction_unanswered", prediction_id=job_id, state=row.state.value)
    if row.state is State.FAILED:
        raise PredictionFailed(row.failure_code or "unknown", row.failure_message or "")
    raise NoAnswerInTime(seconds)


def _has_ended(mark: Mark | None) -> bool:
    return mark is None or mark.is_terminal


def _wanted(asked: Asked, experiment_id: str, document: dict[str, Any]) -> tuple[tables.Experiment, Prediction]:
    with asked.service.database.read() as session:
        source = experiments.get(session, experiment_id, owner=asked.sees)
    try:
        wanted = load_prediction(document)
    except SpecError as error:
        raise InvalidBody(error.faults) from None
    faults = prediction_faults(wanted, load_spec(source.spec))
    if faults:
        raise InvalidBody(faults)
    return source, wanted


def _ask(asked: Asked, source: tables.Experiment, wanted: Prediction, living: Living) -> str:
    service = asked.service
    spec = wanted.model_dump(mode="json")
    with service.database.write() as session:
        who = Submitter(source.owner, queue_of(service, wanted.resources.device, living, session), asked.caller.id)
        try:
            return predictions.ask(session, source.id, wanted.checkpoint, spec, who, service.limits)
        except CheckpointNotFound:
            named = wanted.checkpoint in ("best", "last")
            detail = "The experiment has no checkpoint yet" if named else "The experiment has no such checkpoint"
            raise InvalidBody([Fault("/checkpoint", detail, "no_such_checkpoint")]) from None


def _get(asked: Asked, job_id: str) -> tables.Prediction:
    with asked.service.database.read() as session:
        return predictions.get(session, job_id)


def _forget(asked: Asked, job_id: str) -> None:
    with asked.service.database.write() as session:
        predictions.forget(session, job_id)
