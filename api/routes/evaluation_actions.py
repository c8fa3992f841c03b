"""What is asked of one evaluation: to end, rest, go on, run again, be gone."""

from collections.abc import Callable

from fastapi import FastAPI
from sqlalchemy.orm import Session
from starlette.responses import Response

from api.acting import by, done
from api.deps import Asked, EvaluationId, living_lately
from api.headers import if_match_parameter
from api.lanes import writing
from api.problems import declared
from api.routes.keyed import KeyedRoutes
from api.shown.evaluations import Evaluation
from api.shown.waiting import Living
from store import evaluations, files, queueing, tables
from store.jobs import wishes
from store.jobs.wishes import By


def mount(app: FastAPI) -> None:
    """Under an evaluation."""
    routes = KeyedRoutes(app, "/v1/evaluations", "evaluations")
    only_if = {"parameters": [if_match_parameter()]}
    for route, summary in (
        (cancel_evaluation, "End it early"),
        (kill_evaluation, "End it at once"),
        (pause_evaluation, "Stop it for a while"),
        (resume_evaluation, "Let it go on"),
        (retry_evaluation, "Run it again"),
    ):
        routes.add(
            f"/{{evaluation_id}}/{route.__name__.partition('_')[0]}",
            route,
            methods=["POST"],
            response_model=Evaluation,
            responses={202: {"model": Evaluation, "description": "A worker has been asked"}, **declared(404, 409, 412)},
            openapi_extra=only_if,
            summary=summary,
        )
    routes.add(
        "/{evaluation_id}",
        delete_evaluation,
        methods=["DELETE"],
        status_code=204,
        responses=declared(404, 409, 412),
        openapi_extra=only_if,
        summary="Delete it",
    )


@living_lately
@writing
def cancel_evaluation(evaluation_id: EvaluationId, asked: Asked, living: Living) -> Response:
    """202 while a worker still has to stop it, 200 when it is at its end; repeats change nothing."""
    return _done(asked, evaluation_id, living, lambda session, who: wishes.ask(session, evaluation_id, "cancel", who))


@living_lately
@writing
def kill_evaluation(evaluation_id: EvaluationId, asked: Asked, living: Living) -> Response:
    """Like cancel, and its process is given no time."""
    return _done(asked, evaluation_id, living, lambda session, who: wishes.ask(session, evaluation_id, "kill", who))


@living_lately
@writing
def pause_evaluation(evaluation_id: EvaluationId, asked: Asked, living: Living) -> Response:
    """It begins anew when it is resumed; 409 at its end."""
    return _done(asked, evaluation_id, living, lambda session, who: wishes.ask(session, evaluation_id, "pause", who))


@living_lately
@writing
def resume_evaluation(evaluation_id: EvaluationId, asked: Asked, living: Living) -> Response:
    """Queue it again after a pause; 409 at its end."""
    limits = asked.service.limits
    return _done(
        asked, evaluation_id, living, lambda session, who: queueing.resume(session, evaluation_id, who, limits)
    )


@living_lately
@writing
def retry_evaluation(evaluation_id: EvaluationId, asked: Asked, living: Living) -> Response:
    """Queue it again after it failed or was cancelled, else 409."""
    limits = asked.service.limits
    return _done(asked, evaluation_id, living, lambda session, who: queueing.retry(session, evaluation_id, who, limits))


@writing
def delete_evaluation(evaluation_id: EvaluationId, asked: Asked) -> Response:
    """Only at its end, else 409 with the state and the actions that it allows."""
    with asked.service.database.write() as session:
        evaluations.delete(session, evaluation_id, by(asked))
    return Response(status_code=204)


def _done(asked: Asked, evaluation_id: str, living: Living, ask: Callable[[Session, By], None]) -> Response:
    left: list[tables.File] = []

    def find(session: Session) -> tables.Evaluation:
        left.extend(files.of_job(session, evaluation_id))
        return evaluations.get(session, evaluation_id, owner=asked.sees)

    return done(asked, ask, find, lambda row: Evaluation.of(row, left, living))
