"""Dotted paths into a spec: whether one is there, and a document with another value at it.

Invariant: a document is never changed; what is not on the way to the path is shared with the new one.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import Field

Path = Annotated[str, Field(max_length=200, pattern=r"^[A-Za-z0-9_@]+(\.[A-Za-z0-9_@]+)*$")]


class NoWay(LookupError):
    """On the way to a path there is something that has no parts."""


def has(complete: Any, path: str) -> bool:
    """Whether the complete spec has the path."""
    value = complete
    for key in path.split("."):
        if isinstance(value, Mapping) and key in value:
            value = value[key]
        elif isinstance(value, list) and _is_place(value, key):
            value = value[int(key)]
        else:
            return False
    return True


def null_on_the_way(complete: Any, path: str) -> str | None:
    """The beginning of the path at which the spec has nothing, so that nothing can be below it."""
    value: Any = complete
    walked: list[str] = []
    for key in path.split("."):
        if value is None:
            return ".".join(walked)
        value = value.get(key) if isinstance(value, Mapping) else None
        walked.append(key)
    return None


def put(document: Any, complete: Any, path: str, value: Any) -> Any:
    """The document with the value at the path.

    A part that the document leaves to its default is said as far as the path needs: a list whole, of an object its
    kind. `complete` is the complete spec that the document comes to. Raises `NoWay`.
    """
    return _put(document, complete, path.split("."), value)


def is_within(path: str, above: str) -> bool:
    """Whether a path is another one or lies below it."""
    return f"{path}.".startswith(f"{above}.")


def as_pointer(path: str) -> str:
    """As RFC 6901 writes it; the keys of a spec need no escape."""
    return "/" + path.replace(".", "/")


def _put(document: Any, complete: Any, keys: Sequence[str], value: Any) -> Any:
    if not keys:
        return value
    key, *rest = keys
    if isinstance(document, list):
        if not _is_place(document, key):
            raise NoWay
        place = int(key)
        inner = _put(document[place], _inside(complete, key), rest, value)
        return [*document[:place], inner, *document[place + 1 :]]
    if not isinstance(document, Mapping):
        raise NoWay
    below = _inside(complete, key)
    known = document[key] if key in document else _default(below, rest)
    if known is None and rest:
        # Nothing is there, and something is to be in it.
        known = {}
    return {**document, key: _put(known, below, rest, value)}


def _default(complete: Any, rest: Sequence[str]) -> Any:
    """What a part is that a document does not say, before the rest of the path is put into it."""
    if not rest or not isinstance(complete, Mapping):
        return complete
    return {"kind": complete["kind"]} if "kind" in complete else {}


def _inside(complete: Any, key: str) -> Any:
    if isinstance(complete, Mapping):
        return complete.get(key)
    return complete[int(key)] if isinstance(complete, list) and _is_place(complete, key) else None


def _is_place(items: Sequence[Any], key: str) -> bool:
    return key.isascii() and key.isdecimal() and int(key) < len(items)
