"""Request and response headers that several routes share: entity tags and idempotency keys."""

import re
from typing import Any

from starlette.requests import Request

from api.refusals import IdempotencyKeyInvalid
from bncore.spec.limits import IDEMPOTENCY_KEY_CHARS
from store import tables
from store.jobs.states import TERMINAL

# A structured-field string (RFC 8941, 3.3.3): printable ASCII, with \" and \\ as the only escapes.
_QUOTED = re.compile(r'"((?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*)"')
# As many digits as a version ever has.
_VERSION_TAG = re.compile(r'"([0-9]{1,9})"')
_VISIBLE = re.compile(r"[\x21-\x7e]+")


def entity_tag(version: int | str) -> str:
    """The ETag of a job's representations: they change exactly when its version does."""
    return f'"{version}"'


def job_headers(row: tables.Job) -> dict[str, str]:
    """What an answer says that shows this job."""
    headers = {"ETag": entity_tag(row.version), "Cache-Control": "no-cache"}
    return headers if row.state in TERMINAL else {**headers, "Retry-After": "1"}


def none_match(request: Request, tag: str) -> bool:
    """Whether If-None-Match names this very tag, so that the answer is 304 (RFC 9110, 13.1.2)."""
    names = [name.removeprefix("W/") for name in _tags(request, "if-none-match")]
    return "*" in names or tag in names


def matched_versions(request: Request) -> frozenset[int] | None:
    """The versions that If-Match names (RFC 9110, 13.1.1; a weak tag names none); None when any will do."""
    names = _tags(request, "if-match")
    if not names or "*" in names:
        return None
    return frozenset(int(found[1]) for name in names if (found := _VERSION_TAG.fullmatch(name)))


def if_match_parameter() -> dict[str, Any]:
    """For the description of an operation that calls `matched_versions`."""
    return _parameter("If-Match", "ETags, or *: only if it still has one of them, else 412.")


def if_none_match_parameter() -> dict[str, Any]:
    """For the description of an operation that calls `none_match`."""
    return _parameter("If-None-Match", "ETags, or *: 304 without a body if one of them is still the newest.")


def idempotency_key(request: Request) -> str | None:
    """The key of `Idempotency-Key: "..."`; the bare form without quotes means the same key."""
    given = request.headers.getlist("idempotency-key")
    if not given:
        return None
    text = given[0].strip()
    quoted = _QUOTED.fullmatch(text)
    key = re.sub(r"\\(.)", r"\1", quoted[1]) if quoted else text
    if len(given) > 1 or len(key) > IDEMPOTENCY_KEY_CHARS or not _VISIBLE.fullmatch(key):
        raise IdempotencyKeyInvalid
    if not quoted and key.startswith('"'):
        raise IdempotencyKeyInvalid
    return key


def _parameter(name: str, description: str) -> dict[str, Any]:
    text = {"type": "string"}
    return {"name": name, "in": "header", "required": False, "description": description, "schema": text}


def _tags(request: Request, header: str) -> list[str]:
    # A comma inside a tag would cut it in two; tags of this service have none.
    return [name.strip() for given in request.headers.getlist(header) for name in given.split(",")]
