"""The bytes of a file as an answer: whole or in part, verified, tagged by their SHA-256.

Invariant: bytes flow from the database to the client a chunk at a time, each read in its own short session; neither a
thread nor a connection is held over the network. Of a file that is not what it was not a byte is sent.
"""

import base64
import functools
import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from starlette.responses import Response, StreamingResponse

from api.deps import Asked
from api.headers import none_match
from api.problems import declared
from api.ranges import Span, span_wanted
from api.service import ApiService
from store import files
from store.files import CHUNK_BYTES

_PIECE_BYTES = 128 << 10
_BINARY = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
_TAG = {
    "ETag": {"schema": {"type": "string"}, "description": "The SHA-256 of the whole file, quoted."},
    "Repr-Digest": {"schema": {"type": "string"}, "description": "RFC 9530, sha-256."},
    "Accept-Ranges": {"schema": {"type": "string", "enum": ["bytes"]}},
}
_RANGE = {"Content-Range": {"schema": {"type": "string"}, "description": "`bytes first-last/size`"}}
# What a quoted filename has no escape for, or what folders are told by.
_NOT_PLAIN = re.compile(r"[^ !#-.0-9:-\[\]-~]")


@dataclass(frozen=True)
class Sent:
    """A file that is there to be sent, under which name; size in bytes, SHA-256 in hex."""

    file_id: str
    name: str
    size: int
    sha256: str
    media_type: str = "application/octet-stream"


def file_responses(what: str) -> dict[int | str, dict[str, Any]]:
    """What a route that sends a file may answer, for OpenAPI."""
    return {
        200: {"description": what, "content": _BINARY, "headers": _TAG},
        206: {"description": "The part that Range asks for", "content": _BINARY, "headers": {**_TAG, **_RANGE}},
        304: {"description": "You have it"},
        **declared(404, 410, 416),
    }


async def send(asked: Asked, file: Sent) -> Response:
    """The file, the part of it that is asked for, or that the client has it; to HEAD the headers alone.

    Raises `FileNotFound`, `FileDamaged`, `RangeNotSatisfiable`, all before a byte is sent.
    """
    service, request = asked.service, asked.request
    tag = f'"{file.sha256}"'
    digest = base64.b64encode(bytes.fromhex(file.sha256)).decode()
    # The bytes of a file never change, but it can be deleted, and it is behind a key.
    headers = {"ETag": tag, "Repr-Digest": f"sha-256=:{digest}:", "Cache-Control": "private, no-cache"}
    if none_match(request, tag):
        return Response(status_code=304, headers=headers)
    # Before a status is said: a file that is not what it was must not begin as one that is.
    await service.integrity.require_whole(file.file_id, file.size, file.sha256)
    span = span_wanted(request, tag, file.size)
    headers |= {"Accept-Ranges": "bytes", "Content-Length": str(span.length if span else file.size)}
    headers |= {"Content-Range": span.content_range} if span else {}
    headers |= {"Content-Disposition": _attachment(file.name)}
    status, kind = 206 if span else 200, file.media_type
    if request.scope["state"]["head"] or not file.size:
        return Response(status_code=status, headers=headers, media_type=kind)
    part = span or Span(0, file.size - 1, file.size)
    # And one that is purged at this moment is not there.
    first = await _chunk(service, file, part.first // CHUNK_BYTES)
    return StreamingResponse(_bytes(service, file, part, first), status_code=status, headers=headers, media_type=kind)


def _attachment(name: str) -> str:
    """RFC 6266: the name in ASCII, and as it is where that is another."""
    plain = _NOT_PLAIN.sub("_", name)
    said = f'attachment; filename="{plain}"'
    return said if plain == name else f"{said}; filename*=UTF-8''{quote(name.replace('/', '_'), safe='')}"


async def _bytes(service: ApiService, file: Sent, part: Span, chunk: bytes) -> AsyncIterator[memoryview]:
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


async def _chunk(service: ApiService, file: Sent, seq: int) -> bytes:
    return await service.chunk_reads.run(functools.partial(_read_chunk, service, file, seq))


def _read_chunk(service: ApiService, file: Sent, seq: int) -> bytes:
    with service.database.read() as session:
        return files.chunk(session, file.file_id, seq)
