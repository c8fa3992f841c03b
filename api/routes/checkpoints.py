"""The checkpoints of an experiment."""

from fastapi import FastAPI
from starlette.responses import Response

from api.answers import answer
from api.deps import CheckpointId, ExperimentId, Service
from api.lanes import reading
from api.problems import declared
from api.routes.keyed import KeyedRoutes
from api.shown import Page
from api.shown.checkpoints import Checkpoint
from store import blobs, experiments


def mount(app: FastAPI) -> None:
    """Under an experiment."""
    routes = KeyedRoutes(app, "/v1/experiments/{experiment_id}/checkpoints", "checkpoints")
    missing = declared(404)
    routes.add("", list_checkpoints, response_model=Page[Checkpoint], responses=missing, summary="Its checkpoints")
    routes.add(
        "/{checkpoint_id}", get_checkpoint, response_model=Checkpoint, responses=missing, summary="One checkpoint"
    )


@reading
def list_checkpoints(experiment_id: ExperimentId, service: Service) -> Response:
    """All that are kept, newest step first, on one page. Which are kept is up to the spec's `checkpoint`."""
    with service.database.read() as session:
        experiments.get(session, experiment_id)
        rows = blobs.checkpoints(session, experiment_id)
    shown = [Checkpoint.of(row) for row in rows]
    return answer(Page[Checkpoint](data=shown, has_more=False, next_cursor=None))


@reading
def get_checkpoint(experiment_id: ExperimentId, checkpoint_id: CheckpointId, service: Service) -> Response:
    """Step, sizes, digests and the metrics at its step."""
    with service.database.read() as session:
        experiments.get(session, experiment_id)
        row = blobs.get(session, experiment_id, checkpoint_id)
    return answer(Checkpoint.of(row))
