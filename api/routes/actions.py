"""What is asked of an experiment beyond what is asked of any job: to be called otherwise, to be gone."""

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
from store import experiments
from store.jobs.wishes import By


def mount(app: FastAPI) -> None:
    """Under an experiment."""
    routes = KeyedRoutes(app, "/v1/experiments", "experiments")
    only_if = {"parameters": [if_match_parameter()]}
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

    return done(
        asked,
        ask,
        lambda session: experiments.get(session, experiment_id, owner=asked.sees),
        lambda _session, row: Experiment.of(row, living),
    )


@writing
def delete_experiment(experiment_id: ExperimentId, asked: Asked) -> Response:
    """Only at its end, else 409 with the state and the actions that it allows. It is gone at once, its bytes soon."""
    with asked.service.database.write() as session:
        experiments.delete(session, experiment_id, by(asked))
    return Response(status_code=204)
