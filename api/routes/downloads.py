"""The bytes of checkpoints, sent as any file is (`api.sending`)."""

import functools
from typing import Annotated, Literal

from fastapi import Depends, FastAPI
from pydantic import Field
from starlette.responses import Response, StreamingResponse

from api.deps import Asked, CheckpointId, ExperimentId
from api.headers import if_none_match_parameter
from api.openapi import range_parameters
from api.parameters import Parameters, Reading
from api.routes.keyed import KeyedRoutes
from api.sending import Sent, file_responses, send
from store import checkpoints, experiments
from store.checkpoints import Part
from store.errors import CheckpointNotFound

_PARTS: dict[str, Part] = {"weights": "weights", "training_state": "state"}


class ContentQuery(Parameters):
    file: Literal["weights", "training_state"] = Field(
        default="weights",
        description="`training_state` is what resuming needs beside the weights; only kind `last` has it.",
    )


def mount(app: FastAPI) -> None:
    """Under a checkpoint."""
    routes = KeyedRoutes(app, "/v1/experiments/{experiment_id}/checkpoints/{checkpoint_id}", "checkpoints")
    routes.add(
        "/content",
        download_checkpoint,
        response_class=StreamingResponse,
        responses=file_responses("A safetensors file"),
        openapi_extra={"parameters": [if_none_match_parameter(), *range_parameters()]},
        summary="The file",
    )


async def download_checkpoint(
    experiment_id: ExperimentId,
    checkpoint_id: CheckpointId,
    asked: Asked,
    query: Annotated[ContentQuery, Depends(Reading(ContentQuery))],
) -> Response:
    """The network's state_dict under its own names, metadata with spec and step; 410 when what is stored is damaged.

    What is stored has been compared with `sha256`; compare with it what arrives.
    """
    part = _PARTS[query.file]
    file = await asked.service.reads.run(functools.partial(_find, asked, experiment_id, checkpoint_id, part))
    with checkpoints.said_of(checkpoint_id, part):
        return await send(asked, file)


def _find(asked: Asked, experiment_id: str, checkpoint_id: str, part: Part) -> Sent:
    with asked.service.database.read() as session:
        experiments.get(session, experiment_id, owner=asked.sees)
        row = checkpoints.get(session, experiment_id, checkpoint_id)
    file = row.weights if part == "weights" else row.state
    if file is None:
        raise CheckpointNotFound(checkpoint_id)
    # What it is now: the file is named as it was when it was saved.
    name = f"{experiment_id}-{row.kind}-{row.step:09d}{'' if part == 'weights' else '.state'}.safetensors"
    return Sent(file.id, name, file.size, file.sha256)
