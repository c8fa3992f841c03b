"""The checkpoints of an experiment, and their bytes.

Invariant: bytes flow from the database to the client a chunk at a time, each read in its own short session; neither a
file nor a connection is held over the network.
"""

import base64
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import Field
from sqlalchemy.orm import Session
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from api.deps import CheckpointId, ExperimentId, ReadSession, Service
from api.headers import none_match
from api.parameters import Parameters
from api.problems import declared
from api.schemas import Checkpoint, Page
from store import blobs, experiments, tables
from store.errors import CheckpointNotFound

_CONTENT: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "A safetensors file",
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
        "headers": {
            "ETag": {"schema": {"type": "string"}, "description": "The SHA-256 of the file, quoted."},
            "Repr-Digest": {"schema": {"type": "string"}, "description": "RFC 9530, sha-256."},
        },
    },
    304: {"description": "You have it"},
    **declared(404, 422),
}


class ContentQuery(Parameters):
    file: Literal["weights", "training_state"] = Field(
        default="weights",
        description="`training_state` is what resuming needs beside the weights; only kind `last` has it.",
    )


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
    routes.add_api_route(
        "/{checkpoint_id}/content",
        download_checkpoint,
        response_class=StreamingResponse,
        responses=_CONTENT,
        summary="The file",
    )
    return routes


def list_checkpoints(experiment_id: ExperimentId, session: ReadSession) -> Page[Checkpoint]:
    """All that are kept, newest step first, on one page. Which are kept is up to the spec's `checkpoint`."""
    experiments.get(session, experiment_id)
    shown = [Checkpoint.of(row) for row in blobs.checkpoints(session, experiment_id)]
    return Page[Checkpoint](data=shown, has_more=False, next_cursor=None)


def get_checkpoint(experiment_id: ExperimentId, checkpoint_id: CheckpointId, session: ReadSession) -> Checkpoint:
    """Step, sizes, digests and the metrics at its step."""
    return Checkpoint.of(_found(session, experiment_id, checkpoint_id))


def download_checkpoint(
    experiment_id: ExperimentId,
    checkpoint_id: CheckpointId,
    query: Annotated[ContentQuery, Query()],
    request: Request,
    service: Service,
) -> Response:
    """The network's state_dict under its own names, metadata with spec and step. Compare the bytes with `sha256`."""
    # Closed before the chunks are read in sessions of their own: a request that held one while it asks the pool for
    # another would wait for its like.
    with service.database.read() as session:
        row = _found(session, experiment_id, checkpoint_id)
    size, sha256, name = row.size, row.sha256, f"{experiment_id}-{row.kind}-{row.step:09d}"
    file: blobs.File = "weights"
    if query.file == "training_state":
        if row.state_size is None or row.state_sha256 is None:
            raise CheckpointNotFound(checkpoint_id)
        size, sha256, name, file = row.state_size, row.state_sha256, f"{name}.state", "state"
    digest = base64.b64encode(bytes.fromhex(sha256)).decode()
    # The bytes of a checkpoint never change, but it can be deleted, and it is behind a key.
    headers = {"ETag": f'"{sha256}"', "Repr-Digest": f"sha-256=:{digest}:", "Cache-Control": "private, no-cache"}
    if none_match(request, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    headers |= {"Content-Length": str(size), "Content-Disposition": f'attachment; filename="{name}.safetensors"'}
    chunks = blobs.read(service.database, checkpoint_id, file)
    return StreamingResponse(chunks, media_type="application/octet-stream", headers=headers)


def _found(session: Session, experiment_id: str, checkpoint_id: str) -> tables.Checkpoint:
    experiments.get(session, experiment_id)
    return blobs.get(session, experiment_id, checkpoint_id)
