"""The checkpoints of an experiment."""

from typing import Annotated

from fastapi import Depends, FastAPI
from pydantic import Field
from starlette.responses import Response

from api.answers import answer
from api.deps import Asked, CheckpointId, ExperimentId
from api.lanes import reading
from api.parameters import Parameters, Reading
from api.problems import declared
from api.routes.keyed import KeyedRoutes
from api.shown import Page
from api.shown.checkpoints import Checkpoint
from store import checkpoint_pages, checkpoints, experiments


class CheckpointsQuery(Parameters):
    limit: int = Field(default=100, ge=1, le=100)
    cursor: Annotated[str, Field(max_length=512)] | None = Field(
        default=None, description="`next_cursor` of the page before."
    )


def mount(app: FastAPI) -> None:
    """Under an experiment."""
    routes = KeyedRoutes(app, "/v1/experiments/{experiment_id}/checkpoints", "checkpoints")
    missing = declared(404)
    routes.add(
        "", list_checkpoints, response_model=Page[Checkpoint], responses=declared(404), summary="Its checkpoints"
    )
    routes.add(
        "/{checkpoint_id}", get_checkpoint, response_model=Checkpoint, responses=missing, summary="One checkpoint"
    )


@reading
def list_checkpoints(
    experiment_id: ExperimentId,
    asked: Asked,
    query: Annotated[CheckpointsQuery, Depends(Reading(CheckpointsQuery))],
) -> Response:
    """Those that are kept, newest step first, in pages. Which are kept is up to the spec's `checkpoint`."""
    with asked.service.database.read() as session:
        experiments.get(session, experiment_id, owner=asked.sees)
        found = checkpoint_pages.page(session, experiment_id, query.cursor, query.limit)
    shown = [Checkpoint.of(row) for row in found.rows]
    return answer(Page[Checkpoint](data=shown, has_more=found.has_more, next_cursor=found.next_cursor))


@reading
def get_checkpoint(experiment_id: ExperimentId, checkpoint_id: CheckpointId, asked: Asked) -> Response:
    """Step, sizes, digests and the metrics at its step."""
    with asked.service.database.read() as session:
        experiments.get(session, experiment_id, owner=asked.sees)
        row = checkpoints.get(session, experiment_id, checkpoint_id)
    return answer(Checkpoint.of(row))
