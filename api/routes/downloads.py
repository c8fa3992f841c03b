"""The bytes of checkpoints.

Invariant: bytes flow from the database to the client a chunk at a time, each read in its own short session; neither a
thread nor a connection is held over the network.
"""

import base64
import functools
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from fastapi import Depends, FastAPI
from pydantic import Field
from starlette.responses import Response, StreamingResponse

from api.deps import Asked, CheckpointId, ExperimentId
from api.headers import if_none_match_parameter, none_match
from api.openapi import range_parameters
from api.parameters import Parameters, Reading
from api.problems import declared
from api.ranges import Span, span_wanted
from api.routes.keyed import KeyedRoutes
from api.service import ApiService
from store import blobs, experiments
from store.blobs import CHUNK_BYTES
from store.errors import CheckpointNotFound

_FILE = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
_TAG = {
    "ETag": {"schema": {"type": "string"}, "description": "The SHA-256 of the whole file, quoted."},
    "Repr-Digest": {"schema": {"type": "string"}, "description": "RFC 9530, sha-256."},
    "Accept-Ranges": {"schema": {"type": "string", "enum": ["bytes"]}},
}
_RANGE = {"Content-Range": {"schema": {"type": "string"}, "description": "`bytes first-last/size`"}}
_CONTENT: dict[int | str, dict[str, Any]] = {
    200: {"description": "A safetensors file", "content": _FILE, "headers": _TAG},
    206: {"description": "The part that Range asks for", "content": _FILE, "headers": {**_TAG, **_RANGE}},
    304: {"description": "You have it"},
    **declared(404, 410, 416),
}


_PIECE_BYTES = 128 << 10


class ContentQuery(Parameters):
    file: Literal["weights", "training_state"] = Field(
        default="weights",
        description="`training_state` is what resuming needs beside the weights; only kind `last` has it.",
    )


@dataclass(frozen=True)
class _File:
    checkpoint_id: str
    kind: blobs.File
    name: str
    size: int
    sha256: str


def mount(app: FastAPI) -> None:
    """Under a checkpoint."""
    routes = KeyedRoutes(app, "/v1/experiments/{experiment_id}/checkpoints/{checkpoint_id}", "checkpoints")
    routes.add(
        "/content",
        download_checkpoint,
        response_class=StreamingResponse,
        responses=_CONTENT,
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
    service, request = asked.service, asked.request
    find = functools.partial(_find, asked, experiment_id, checkpoint_id, query.file)
    file = await service.reads.run(find)
    tag = f'"{file.sha256}"'
    digest = base64.b64encode(bytes.fromhex(file.sha256)).decode()
    # The bytes of a checkpoint never change, but it can be deleted, and it is behind a key.
    headers = {"ETag": tag, "Repr-Digest": f"sha-256=:{digest}:", "Cache-Control": "private, no-cache"}
    if none_match(request, tag):
        return Response(status_code=304, headers=headers)
    # Before a status is said: a file that is not what it was must not begin as one that is.
    await service.integrity.require_whole(experiment_id, file.checkpoint_id, file.kind, file.size, file.sha256)
    span = span_wanted(request, tag, file.size)
    headers |= {"Accept-Ranges": "bytes", "Content-Length": str(span.length if span else file.size)}
    headers |= {"Content-Range": span.content_range} if span else {}
    headers |= {"Content-Disposition": f'attachment; filename="{file.name}.safetensors"'}
    status, kind = 206 if span else 200, "application/octet-stream"
    if request.scope["state"]["head"] or not file.size:
        return Response(status_code=status, headers=headers, media_type=kind)
    part = span or Span(0, file.size - 1, file.size)
    # And one that is purged at this moment is not there.
    first = await _chunk(service, file, part.first // CHUNK_BYTES)
    return StreamingResponse(_bytes(service, file, part, first), status_code=status, headers=headers, media_type=kind)


def _find(asked: Asked, experiment_id: str, checkpoint_id: str, which: Literal["weights", "training_state"]) -> _File:
    with asked.service.database.read() as session:
        experiments.get(session, experiment_id, owner=asked.sees)
        row = blobs.get(session, experiment_id, checkpoint_id)
    name = f"{experiment_id}-{row.kind}-{row.step:09d}"
    if which == "weights":
        return _File(row.id, "weights", name, row.size, row.sha256)
    if row.state_size is None or row.state_sha256 is None:
        raise CheckpointNotFound(checkpoint_id)
    return _File(row.id, "state", f"{name}.state", row.state_size, row.state_sha256)


async def _bytes(service: ApiService, file: _File, part: Span, chunk: bytes) -> AsyncIterator[memoryview]:
    """The part, from its first chunk on; a download holds one chunk, and none while it waits for the next."""
    last = part.last // CHUNK_BYTES
    for seq in range(part.first // CHUNK_BYTES, last + 1):
        begin = seq * CHUNK_BYTES
        for piece in _pieces(chunk, max(0, part.first - begin), min(CHUNK_BYTES, part.last + 1 - begin)):
            yield piece
        chunk = b""
        if seq < last:
            chunk = await _chunk(service, file, seq + 1)


def _pieces(chunk: bytes, start: int, end: int) -> Iterator[memoryview]:
    # So small that little waits in the connection for a slow client.
    view = memoryview(chunk)
    for offset in range(start, end, _PIECE_BYTES):
        yield view[offset : min(offset + _PIECE_BYTES, end)]


async def _chunk(service: ApiService, file: _File, seq: int) -> bytes:
    return await service.chunk_reads.run(functools.partial(_read_chunk, service, file, seq))


def _read_chunk(service: ApiService, file: _File, seq: int) -> bytes:
    with service.database.read() as session:
        return blobs.chunk(session, file.checkpoint_id, file.kind, seq)
