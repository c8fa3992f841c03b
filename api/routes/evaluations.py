"""Evaluations: a checkpoint of an experiment measured on data, found, waited for, deleted."""

import functools
from typing import Annotated, Any

import structlog
from fastapi import Depends, FastAPI
from pydantic import Field
from sqlalchemy.orm import Session
from starlette.responses import Response

from api.acting import by
from api.answers import answer
from api.bodies import patch_object
from api.class_names import class_faults
from api.completing import completed
from api.deps import Asked, EvaluationId, ExperimentId, living_lately, living_now
from api.devices import queue_of
from api.headers import idempotency_key, if_match_parameter, if_none_match_parameter, job_headers, none_match
from api.lanes import reading, writing
from api.long_poll import Found, WaitQuery, found_in_time
from api.openapi import idempotency_parameter, model_body
from api.parameters import Parameters, Reading
from api.problems import declared
from api.refusals import InvalidBody
from api.routes.keyed import KeyedRoutes
from api.shown import Page
from api.shown.evaluations import Evaluation
from api.shown.waiting import Living
from bncore.spec import Fault, SpecError, load_spec
from bncore.spec.evaluation import CheckpointEvaluation, evaluation_faults, load_evaluation
from store import evaluations, experiments, files, idempotency, tables
from store.errors import CheckpointNotFound
from store.evaluations import Submission
from store.idempotency import Scope
from store.jobs.states import TERMINAL
from store.pages import Page as StoredPage
from store.queueing import Submitter

_LOG = structlog.get_logger("api")

Document = Annotated[dict[str, Any], Depends(patch_object)]


class EvaluationsQuery(Parameters):
    limit: int = Field(default=20, ge=1, le=100)
    cursor: Annotated[str, Field(max_length=512)] | None = Field(
        default=None, description="`next_cursor` of the page before."
    )


def mount(app: FastAPI) -> None:
    """Under an experiment, and one of them."""
    routes = KeyedRoutes(app, "/v1", "evaluations")
    under = "/experiments/{experiment_id}/evaluations"
    routes.add(
        under,
        submit_evaluation,
        methods=["POST"],
        status_code=202,
        response_model=Evaluation,
        responses=declared(400, 404, 413, 415),
        openapi_extra={"requestBody": model_body(CheckpointEvaluation), "parameters": [idempotency_parameter()]},
        summary="Evaluate a checkpoint",
    )
    page, missing = Page[Evaluation], declared(404)
    routes.add(under, list_evaluations_of, response_model=page, responses=missing, summary="Those of an experiment")
    routes.add("/evaluations", list_evaluations, response_model=page, summary="Find them")
    routes.add(
        "/evaluations/{evaluation_id}",
        get_evaluation,
        response_model=Evaluation,
        responses={304: {"description": "Nothing has changed"}, **missing},
        openapi_extra={"parameters": [if_none_match_parameter()]},
        summary="One of them, at once or on change",
    )
    routes.add(
        "/evaluations/{evaluation_id}",
        delete_evaluation,
        methods=["DELETE"],
        status_code=204,
        responses=declared(404, 409, 412),
        openapi_extra={"parameters": [if_match_parameter()]},
        summary="Delete it",
    )


@living_now
async def submit_evaluation(experiment_id: ExperimentId, asked: Asked, document: Document, living: Living) -> Response:
    """Queue it; it is run by the next worker, before or after the experiment's end.

    The checkpoint that is meant is chosen now and stays until it is measured, whatever becomes of the experiment. With
    an `Idempotency-Key` a repeat within 24 hours submits nothing new.
    """
    service = asked.service
    source, wanted = await service.reads.run(functools.partial(_wanted, asked, experiment_id, document))
    key = idempotency_key(asked.request)
    path = asked.request.url.path
    scope = None if key is None else Scope(source.owner, asked.request.method, path, key)
    return await service.writes.run(functools.partial(_submitted, asked, source, wanted, scope, living))


@living_lately
@reading
def list_evaluations_of(
    experiment_id: ExperimentId,
    asked: Asked,
    query: Annotated[EvaluationsQuery, Depends(Reading(EvaluationsQuery))],
    living: Living,
) -> Response:
    """Newest first."""
    with asked.service.database.read() as session:
        experiments.get(session, experiment_id, owner=asked.sees)
        found = evaluations.of_experiment(session, experiment_id, query.cursor, query.limit)
        return _page(session, found, living)


@living_lately
@reading
def list_evaluations(
    asked: Asked, query: Annotated[EvaluationsQuery, Depends(Reading(EvaluationsQuery))], living: Living
) -> Response:
    """Newest first, those of deleted experiments among them."""
    with asked.service.database.read() as session:
        return _page(session, evaluations.of_owner(session, asked.sees, query.cursor, query.limit), living)


@living_lately
async def get_evaluation(
    evaluation_id: EvaluationId, asked: Asked, query: Annotated[WaitQuery, Depends(Reading(WaitQuery))], living: Living
) -> Response:
    """State, what was asked, and the result once there is one."""
    return await found_in_time(asked, evaluation_id, functools.partial(_read, asked, evaluation_id, living), query.wait)


@writing
def delete_evaluation(evaluation_id: EvaluationId, asked: Asked) -> Response:
    """Only at its end, else 409 with the state and the actions that it allows."""
    with asked.service.database.write() as session:
        evaluations.delete(session, evaluation_id, by(asked))
    return Response(status_code=204)


def _wanted(
    asked: Asked, experiment_id: str, document: dict[str, Any]
) -> tuple[tables.Experiment, CheckpointEvaluation]:
    """The experiment, and what is to be done with a checkpoint of it, complete."""
    database = asked.service.database
    with database.read() as session:
        source = experiments.get(session, experiment_id, owner=asked.sees)
    try:
        wanted = load_evaluation(completed(database, source.owner, document))
    except SpecError as error:
        raise InvalidBody(error.faults) from None
    faults = evaluation_faults(wanted, load_spec(source.spec))
    faults = faults or class_faults(database, source.owner, source.spec["data"], wanted.data.model_dump(mode="json"))
    if faults:
        raise InvalidBody(faults)
    return source, wanted


def _submitted(
    asked: Asked, source: tables.Experiment, wanted: CheckpointEvaluation, scope: Scope | None, living: Living
) -> Response:
    service = asked.service
    submission = Submission.of(source.id, wanted)
    with service.database.write() as session:
        device = queue_of(service, wanted.resources.device, living, session)
        known = None if scope is None else idempotency.reserve(session, scope, submission.fingerprint)
        if known is None:
            who = Submitter(source.owner, device, asked.caller.id)
            evaluation_id = _stored(session, submission, who, asked)
            if scope is not None:
                idempotency.bind(session, scope, evaluation_id)
        row = evaluations.get(session, known or evaluation_id)
        shown = Evaluation.of(row, files.of_job(session, row.id), living)
    _LOG.info("evaluation_submitted", evaluation_id=shown.id, device=shown.device, replayed=known is not None)
    headers = {"Location": shown.links.self_, "Retry-After": "1"}
    return answer(shown, 202, headers | ({"Idempotency-Replayed": "true"} if known else {}))


def _stored(session: Session, submission: Submission, who: Submitter, asked: Asked) -> str:
    try:
        return evaluations.submit(session, submission, who, asked.service.limits)
    except CheckpointNotFound:
        named = submission.checkpoint in ("best", "last")
        detail = "The experiment has no checkpoint yet" if named else "The experiment has no such checkpoint"
        raise InvalidBody([Fault("/checkpoint", detail, "no_such_checkpoint")]) from None


def _read(asked: Asked, evaluation_id: str, living: Living) -> Found:
    with asked.service.database.read() as session:
        row = evaluations.get(session, evaluation_id, owner=asked.sees)
        left = files.of_job(session, row.id)
    headers, is_terminal = job_headers(row), row.state in TERMINAL
    if none_match(asked.request, headers["ETag"]):
        return Found(row.version, is_terminal, Response(status_code=304, headers=headers))
    return Found(row.version, is_terminal, answer(Evaluation.of(row, left, living), headers=headers))


def _page(session: Session, found: StoredPage[tables.Evaluation], living: Living) -> Response:
    shown = [Evaluation.of(row, files.of_job(session, row.id), living) for row in found.rows]
    return answer(Page[Evaluation](data=shown, has_more=found.has_more, next_cursor=found.next_cursor))
