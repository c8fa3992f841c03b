"""The checkpoints of an experiment."""

from fastapi import APIRouter
from starlette.responses import Response

from api.answers import answer
from api.deps import Caller, CheckpointId, ExperimentId, Service, sees
from api.lanes import reading
from api.problems import declared
from api.shown import Page
from api.shown.checkpoints import Checkpoint
from store import blobs, experiments


def router() -> APIRouter:
    """Under an experiment."""
    routes = APIRouter(prefix="/v1/experiments/{experiment_id}/checkpoints", tags=["checkpoints"])
    missing = declared(404)
    routes.add_api_route(
        "", list_checkpoints, response_model=Page[Checkpoint], responses=missing, summary="Its checkpoints"
    )
    routes.add_api_route(
        "/{checkpoint_id}", get_checkpoint, response_model=Checkpoint, responses=missing, summary="One checkpoint"
    )
    return routes


@reading
def list_checkpoints(experiment_id: ExperimentId, caller: Caller, service: Service) -> Response:
    """All that are kept, newest step first, on one page. Which are kept is up to the spec's `checkpoint`."""
    with service.database.read() as session:
        experiments.get(session, experiment_id, owner=sees(caller))
        rows = blobs.checkpoints(session, experiment_id)
    shown = [Checkpoint.of(row) for row in rows]
    return answer(Page[Checkpoint](data=shown, has_more=False, next_cursor=None))


@reading
def get_checkpoint(
    experiment_id: ExperimentId, caller: Caller, checkpoint_id: CheckpointId, service: Service
) -> Response:
    """Step, sizes, digests and the metrics at its step."""
    with service.database.read() as session:
        experiments.get(session, experiment_id, owner=sees(caller))
        row = blobs.get(session, experiment_id, checkpoint_id)
    return answer(Checkpoint.of(row))
