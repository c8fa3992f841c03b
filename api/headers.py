"""Request and response headers that several routes share: entity tags and idempotency keys."""

import re

from starlette.requests import Request

from api.errors import IdempotencyKeyInvalid
from bncore.spec.limits import IDEMPOTENCY_KEY_CHARS

MAX_KEY_CHARS = IDEMPOTENCY_KEY_CHARS

# A structured-field string (RFC 8941, 3.3.3): printable ASCII, with \" and \\ as the only escapes.
_QUOTED = re.compile(r'"((?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*)"')
_VISIBLE = re.compile(r"[\x21-\x7e]+")


def entity_tag(version: int) -> str:
    """The ETag of an experiment's representations: they change exactly when its version does."""
    return f'"{version}"'


def none_match(request: Request, tag: str) -> bool:
    """Whether If-None-Match names this very tag, so that the answer is 304 (RFC 9110, 13.1.2)."""
    given = ",".join(request.headers.getlist("if-none-match"))
    names = [name.strip().removeprefix("W/") for name in given.split(",")]
    return "*" in names or tag in names


def idempotency_key(request: Request) -> str | None:
    """The key of `Idempotency-Key: "..."`; the bare form without quotes means the same key."""
    given = request.headers.getlist("idempotency-key")
    if not given:
        return None
    text = given[0].strip()
    quoted = _QUOTED.fullmatch(text)
    key = re.sub(r"\\(.)", r"\1", quoted[1]) if quoted else text
    if len(given) > 1 or len(key) > MAX_KEY_CHARS or not _VISIBLE.fullmatch(key):
        raise IdempotencyKeyInvalid
    if not quoted and key.startswith('"'):
        raise IdempotencyKeyInvalid
    return key
