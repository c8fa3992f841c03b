"""Cursors: where a listing goes on, opaque to its reader.

Invariant: a cursor works only with the filters and the order it was made for; anything else is refused, not guessed at.
"""

import base64
import hashlib
import json
import math
from collections.abc import Sequence
from typing import Any

from store.errors import CursorInvalid

MAX_CHARS = 2048
"""A name of 200 characters is part of one that sorts by it."""
_LARGEST = 2**63


def encode(position: tuple[float, str], scope: Any) -> str:
    """The cursor behind a row at `position` (created_at, id) in the listing with these filters."""
    return _packed([_digest(scope), *position])


def decode(cursor: str, scope: Any) -> tuple[float, str]:
    """The position in a cursor. Raises `CursorInvalid`."""
    digest, *position = _unpacked(cursor)
    if (sort := _sort_of(position)) is not None:
        raise CursorInvalid(f"The cursor belongs to a listing sorted by {sort}, and this one is in the order of age.")
    if digest != _digest(scope) or not _fits(position, (float, str)):
        raise CursorInvalid
    created_at, found_id = position
    return created_at, found_id


def encode_sorted(place: tuple[int, tuple[Any, ...]], sort: str, scope: Any) -> str:
    """The cursor behind a row in a sorted listing: the number of its part, and its key there."""
    part, key = place
    return _packed([_digest(scope), sort, part, *key])


def decode_sorted(cursor: str, sort: str, kinds: Sequence[tuple[type, ...]], scope: Any) -> tuple[int, tuple[Any, ...]]:
    """The place in a cursor of a listing whose parts have keys of these kinds. Raises `CursorInvalid`."""
    digest, *position = _unpacked(cursor)
    was = _sort_of(position)
    if was != sort:
        was = "in the order of age" if was is None else f"sorted by {was}"
        raise CursorInvalid(f"The cursor belongs to a listing {was}, and this one is sorted by {sort}.")
    _, part, *key = position
    if digest != _digest(scope) or type(part) is not int or not 0 <= part < len(kinds) or not _fits(key, kinds[part]):
        raise CursorInvalid
    return part, tuple(key)


def _packed(parts: list[Any]) -> str:
    text = json.dumps(parts, separators=(",", ":"), ensure_ascii=False)
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _unpacked(cursor: str) -> list[Any]:
    """A digest, and what nobody has looked at yet."""
    if len(cursor) > MAX_CHARS:
        raise CursorInvalid
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        found = json.loads(text)
    except (ValueError, TypeError, RecursionError):
        raise CursorInvalid from None
    if not isinstance(found, list) or not found:
        raise CursorInvalid
    return found


def _sort_of(position: Sequence[Any]) -> str | None:
    """What a sorted listing was sorted by; it has more parts than the two of one by age."""
    first = position[0] if len(position) > 2 else None
    return first[:32] if isinstance(first, str) and first.isascii() and first.isprintable() else None


def _fits(key: Sequence[Any], kinds: tuple[type, ...]) -> bool:
    """Whether it can be compared with columns of these kinds, the last of which is an id."""
    if len(key) != len(kinds) or any(type(one) is not kind for one, kind in zip(key, kinds, strict=True)):
        return False
    return all(map(_is_comparable, key)) and key[-1].isascii() and key[-1].isprintable()


def _is_comparable(value: float | str) -> bool:
    match value:
        case float():
            return math.isfinite(value)
        case int():
            return abs(value) < _LARGEST
        case str():
            return "\0" not in value and not any("\ud800" <= one <= "\udfff" for one in value)


def _digest(scope: Any) -> str:
    return hashlib.sha256(json.dumps(scope).encode()).hexdigest()[:16]
