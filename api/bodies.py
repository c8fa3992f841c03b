"""From a request body to what it describes, reading no more of it than a spec may have.

Bodies are parsed by `bncore.spec`, not by the framework: duplicate keys, depth and encoding are checked there, with
pointers.
"""

import functools
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, Any, TypeVar

from fastapi import Depends
from pydantic import ValidationError
from starlette.datastructures import Headers
from starlette.requests import Request

from api.completing import is_complete, spec_of
from api.deps import Admitted, service_of
from api.given_names import name_faults
from api.refusals import BodyTooLarge, InvalidBody, UnsupportedMediaType
from bncore.spec import ExperimentSpec, Fault, SpecError, faults_of, load_spec, parse_json
from bncore.spec.faults import MAX_FAULTS, pointer_part
from bncore.spec.merging import merged
from bncore.spec.strict import SpecModel

_JSON = re.compile(r"application/(?:[a-z0-9!#$&^_.-]+\+)?json", re.ASCII)
_AT_ONCE_BYTES = 16_384
"""A body up to this size is read within a millisecond or two; a larger one would hold up every other request."""


async def raw_body(request: Request) -> bytes:
    """The bytes of the body. Raises `BodyTooLarge` before reading when the length says so, else on the way."""
    if not _is_json(request.headers):
        raise UnsupportedMediaType
    limit = service_of(request).settings.max_body_bytes
    announced = request.headers.get("content-length", "0")
    if announced.isdecimal() and int(announced) > limit:
        raise BodyTooLarge(limit)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise BodyTooLarge(limit)
    return bytes(body)


async def submitted_spec(request: Request) -> ExperimentSpec:
    """The complete spec. Raises `SpecError`, `DatasetUnusable`."""
    found = await _read_by(_spec, request)
    if isinstance(found, ExperimentSpec):
        return found
    asked: Admitted = request.scope["state"]["asked"]
    complete = functools.partial(spec_of, asked.service.database, asked.caller.owner, found)
    return await asked.service.reads.run(complete)


Spec = Annotated[ExperimentSpec, Depends(submitted_spec)]
Read = TypeVar("Read")
Model = TypeVar("Model", bound=SpecModel)


def body(model: type[Model], *, may_be_empty: bool = False) -> Callable[..., Awaitable[Model]]:
    """A dependency: the body as one of these. Raises `InvalidBody`."""

    async def read(request: Request) -> Model:
        return await _read_by(_read, request)

    def _read(raw: bytes) -> Model:
        if not raw and may_be_empty:
            return model()
        try:
            return model.model_validate(_object(raw))
        except ValidationError as error:
            raise InvalidBody(faults_of(error, model)) from None

    return read


async def patch_object(request: Request) -> dict[str, Any]:
    """The body as a JSON object that says what is to change. Raises `InvalidBody`."""
    return await _read_by(_object, request)


async def edit_patch(request: Request) -> dict[str, Any]:
    """The body as a patch of name and tags, whatever it is applied to. Raises `InvalidBody`."""
    return await _read_by(_edit, request)


def edits_of(editable: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """Name and tags as the patch leaves them, by the rules of a spec. Raises `InvalidBody`."""
    detail = f"Cannot be changed; what can is {', '.join(editable)}"
    fixed = [Fault(pointer_part(key), detail, "not_editable") for key in patch if key not in editable]
    if fixed:
        raise InvalidBody(fixed[:MAX_FAULTS])
    try:
        # Parts that are not said are at their defaults, which fit together.
        spec = load_spec(merged(dict(editable), dict(patch)))
    except SpecError as error:
        raise InvalidBody(error.faults) from None
    return {"name": spec.name, "tags": dict(spec.tags)}


async def _read_by(read: Callable[[bytes], Read], request: Request) -> Read:
    """What a body describes: a large one is read where it holds up no other request but large ones."""
    raw = await raw_body(request)
    if len(raw) <= _AT_ONCE_BYTES:
        return read(raw)
    return await service_of(request).bodies.run(functools.partial(read, raw))


def _edit(raw: bytes) -> dict[str, Any]:
    patch = _object(raw)
    edits_of({"name": None, "tags": {}}, patch)
    return patch


def _object(raw: bytes) -> dict[str, Any]:
    try:
        found = _document(raw)
    except SpecError as error:
        raise InvalidBody(error.faults) from None
    if not isinstance(found, dict):
        raise InvalidBody([Fault("", "Must be an object", "not_an_object")])
    return found


def _document(raw: bytes) -> Any:
    found = parse_json(raw)
    if faults := name_faults(found):
        raise SpecError(faults)
    return found


def _spec(raw: bytes) -> ExperimentSpec | dict[str, Any]:
    """A document that names a data set or a checkpoint stays one: what those say is in the database."""
    document = _document(raw)
    return load_spec(document) if is_complete(document) else document


def _is_json(headers: Headers) -> bool:
    kind = headers.get("content-type", "application/json").split(";")[0].strip().lower()
    return _JSON.fullmatch(kind) is not None and headers.get("content-encoding", "identity").lower() == "identity"
