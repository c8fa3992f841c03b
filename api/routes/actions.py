"""What is asked of one experiment: to end, rest, go on, run again, be called otherwise, be gone."""

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import Depends, FastAPI
from sqlalchemy.orm import Session
from starlette.responses import Response

from api.acting import by, done
from api.bodies import edit_patch, edits_of
from api.deps import Asked, ExperimentId, living_lately
from api.headers import if_match_parameter
from api.lanes import writing
from api.openapi import edit_body
from api.problems import declared
from api.routes.keyed import KeyedRoutes
from api.shown.experiments import Experiment
from api.shown.waiting import Living
from store import experiments, queueing
from store.jobs import wishes
from store.jobs.wishes import By


def mount(app: FastAPI) -> None:
    """Under an experiment."""
    routes = KeyedRoutes(app, "/v1/experiments", "experiments")
    only_if = {"parameters": [if_match_parameter()]}
    asked: dict[int | str, dict[str, Any]] = {202: {"model": Experiment, "description": "A worker has been asked"}}
    for route, summary, responses in (
        (cancel_experiment, "End it early", {**asked, **declared(404, 412)}),
        (kill_experiment, "End it without a moment to save", {**asked, **declared(404, 412)}),
        (pause_experiment, "Stop it for a while", {**asked, **declared(404, 409, 412)}),
        (resume_experiment, "Let it go on", declared(404, 409, 412)),
        (retry_experiment, "Run it again from its last checkpoint", declared(404, 409, 412)),
    ):
        routes.add(
            f"/{{experiment_id}}/{route.__name__.partition('_')[0]}",
            route,
            methods=["POST"],
            response_model=Experiment,
            responses=responses,
            openapi_extra=only_if,
            summary=summary,
        )
    routes.add(
        "/{experiment_id}",
        edit_experiment,
        methods=["PATCH"],
        response_model=Experiment,
        responses=declared(404, 412, 413, 415),
        openapi_extra={**only_if, "requestBody": edit_body()},
        summary="Change its name and tags",
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


@living_lately
@writing
def cancel_experiment(experiment_id: ExperimentId, asked: Asked, living: Living) -> Response:
    """202 while a worker still has to stop it, 200 when it is at its end; repeats change nothing.

    A run that completes its budget before the worker hears of it succeeds.
    """

    def ask(session: Session, by: By) -> None:
        wishes.ask(session, experiment_id, "cancel", by)

    return _done(asked, experiment_id, living, ask)


@living_lately
@writing
def kill_experiment(experiment_id: ExperimentId, asked: Asked, living: Living) -> Response:
    """Like cancel, and also after it, but a running trainer is given no time to save what it has reached."""

    def ask(session: Session, by: By) -> None:
        wishes.ask(session, experiment_id, "kill", by)

    return _done(asked, experiment_id, living, ask)


@living_lately
@writing
def pause_experiment(experiment_id: ExperimentId, asked: Asked, living: Living) -> Response:
    """202 while a worker still has to save and stop it, 200 when it rests; 409 at its end.

    Its deadline stands still meanwhile. One that is being cancelled goes on being cancelled.
    """

    def ask(session: Session, by: By) -> None:
        wishes.ask(session, experiment_id, "pause", by)

    return _done(asked, experiment_id, living, ask)


@living_lately
@writing
def resume_experiment(experiment_id: ExperimentId, asked: Asked, living: Living) -> Response:
    """Queue it again after a pause, or take back a pause that has not come yet; 409 at its end."""

    def ask(session: Session, by: By) -> None:
        queueing.resume(session, experiment_id, by, asked.service.limits)

    return _done(asked, experiment_id, living, ask)


@living_lately
@writing
def retry_experiment(experiment_id: ExperimentId, asked: Asked, living: Living) -> Response:
    """Queue it again after it failed or was cancelled, else 409: the same experiment, its next attempt.

    It goes on from its last checkpoint, with restarts and deadline counted anew.
    """

    def ask(session: Session, by: By) -> None:
        queueing.retry(session, experiment_id, by, asked.service.limits)

    return _done(asked, experiment_id, living, ask)


@living_lately
@writing
def edit_experiment(
    experiment_id: ExperimentId,
    asked: Asked,
    patch: Annotated[dict[str, Any], Depends(edit_patch)],
    living: Living,
) -> Response:
    """A JSON Merge Patch (RFC 7396) of `name` and `tags`; null takes a tag, or all of them, or the name away."""

    def ask(session: Session, by: By) -> None:
        row = experiments.lock(session, experiment_id, by)
        changes = edits_of({"name": row.name, "tags": row.tags}, patch)
        experiments.edit(session, experiment_id, by, changes)

    return _done(asked, experiment_id, living, ask)


@writing
def delete_experiment(experiment_id: ExperimentId, asked: Asked) -> Response:
    """Only at its end, else 409 with the state and the actions that it allows. It is gone at once, its bytes soon."""
    with asked.service.database.write() as session:
        experiments.delete(session, experiment_id, by(asked))
    return Response(status_code=204)


def _done(
    asked: Asked,
    experiment_id: str,
    living: Living,
    ask: Callable[[Session, By], None],
) -> Response:
    return done(
        asked,
        ask,
        lambda session: experiments.get(session, experiment_id, owner=asked.sees),
        lambda row: Experiment.of(row, living),
    )
