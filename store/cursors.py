"""Cursors: where a listing goes on, opaque to its reader.

Invariant: a cursor works only with the filters it was made for; anything else is refused, not guessed at.
"""

import base64
import hashlib
import json
import math
from typing import Any

from store.errors import CursorInvalid

_MAX_CHARS = 512


def encode(position: tuple[float, str], scope: Any) -> str:
    """The cursor behind a row at `position` (created_at, id) in the listing with these filters."""
    text = json.dumps([_digest(scope), *position], separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def decode(cursor: str, scope: Any) -> tuple[float, str]:
    """The position in a cursor. Raises `CursorInvalid`."""
    if len(cursor) > _MAX_CHARS:
        raise CursorInvalid
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        digest, created_at, experiment_id = json.loads(text)
    except (ValueError, TypeError, RecursionError):
        raise CursorInvalid from None
    if digest != _digest(scope) or not isinstance(created_at, float) or not math.isfinite(created_at):
        raise CursorInvalid
    if not isinstance(experiment_id, str) or not experiment_id.isascii() or not experiment_id.isprintable():
        raise CursorInvalid
    return created_at, experiment_id


def _digest(scope: Any) -> str:
    return hashlib.sha256(json.dumps(scope).encode()).hexdigest()[:16]
