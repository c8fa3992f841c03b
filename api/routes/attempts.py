"""The attempts at an experiment."""

from typing import Annotated

from fastapi import Depends, FastAPI
from pydantic import Field
from starlette.responses import Response

from api.answers import answer
from api.deps import Asked, ExperimentId
from api.lanes import reading
from api.parameters import Parameters, Reading
from api.problems import declared
from api.routes.keyed import KeyedRoutes
from api.shown.attempts import Attempt, AttemptPage
from store import attempts, experiments


class AttemptsQuery(Parameters):
    after: int = Field(default=0, ge=0, lt=2**31, description="Only attempts with greater numbers.")
    limit: int = Field(default=20, ge=1, le=100)


def mount(app: FastAPI) -> None:
    """Under an experiment."""
    routes = KeyedRoutes(app, "/v1/experiments/{experiment_id}", "results")
    routes.add("/attempts", list_attempts, response_model=AttemptPage, responses=declared(404), summary="Its attempts")


@reading
def list_attempts(
    experiment_id: ExperimentId,
    asked: Asked,
    query: Annotated[AttemptsQuery, Depends(Reading(AttemptsQuery))],
) -> Response:
    """Who tried it, on what, from which step, and how each try ended; oldest first."""
    with asked.service.database.read() as session:
        experiments.get(session, experiment_id, owner=asked.sees)
        found = attempts.page(session, experiment_id, query.after, query.limit + 1)
    shown = [Attempt.of(attempt) for attempt in found[: query.limit]]
    more = len(found) > query.limit
    return answer(AttemptPage(data=shown, has_more=more, next_cursor=shown[-1].number if more else None))
