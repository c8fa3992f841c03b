"""From a request body to a spec, reading no more of it than a spec may have.

The body is parsed by `bncore.spec`, not by the framework: duplicate keys, depth and encoding are checked there, with
pointers.
"""

import functools
import re
from typing import Annotated

from fastapi import Depends
from starlette.datastructures import Headers
from starlette.requests import Request

from api.deps import Service
from api.errors import BodyTooLarge, UnsupportedMediaType
from bncore.spec import ExperimentSpec, load_spec, parse_json

_JSON = re.compile(r"application/(?:[a-z0-9!#$&^_.-]+\+)?json", re.ASCII)
_AT_ONCE_BYTES = 16_384
"""A body up to this size is read within a millisecond or two; a larger one would hold up every other request."""


async def raw_body(request: Request, service: Service) -> bytes:
    """The bytes of the body. Raises `BodyTooLarge` before reading when the length says so, else on the way."""
    if not _is_json(request.headers):
        raise UnsupportedMediaType
    limit = service.settings.max_body_bytes
    announced = request.headers.get("content-length", "0")
    if announced.isdecimal() and int(announced) > limit:
        raise BodyTooLarge(limit)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise BodyTooLarge(limit)
    return bytes(body)


async def submitted_spec(body: Annotated[bytes, Depends(raw_body)], service: Service) -> ExperimentSpec:
    """The complete spec. Raises `SpecError`."""
    if len(body) <= _AT_ONCE_BYTES:
        return _read(body)
    return await service.reads.run(functools.partial(_read, body))


Spec = Annotated[ExperimentSpec, Depends(submitted_spec)]


def _read(body: bytes) -> ExperimentSpec:
    return load_spec(parse_json(body))


def _is_json(headers: Headers) -> bool:
    kind = headers.get("content-type", "application/json").split(";")[0].strip().lower()
    return _JSON.fullmatch(kind) is not None and headers.get("content-encoding", "identity").lower() == "identity"
