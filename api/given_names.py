"""Names in what is submitted: of experiments, sweeps, studies, arms, tags, data sets, keys.

Invariant: two names that look alike are one, and none turns around the text that it stands in. It is asked of what
comes in alone: what was stored before there was this rule is read as it was written, and shown with escapes.
"""

from collections.abc import Iterator
from typing import Any

from bncore.spec import Fault
from bncore.spec.faults import MAX_FAULTS, pointer_part
from bncore.spec.seen import named, unseen

_NAMES = frozenset({"name", "file_name", "owner"})
"""Fields whose value is a name, wherever they stand."""
_NAMED = frozenset({"arms", "compare", "tags"})
"""Fields whose keys are names."""
_MOST_LEVELS = 64


def name_faults(document: Any) -> list[Fault]:
    """What is wrong with the names in a document."""
    found: list[Fault] = []
    for pointer, text in _names(document, "", 0) if isinstance(document, dict) else ():
        char = unseen(text)
        if char is not None:
            detail = f"Has a character that is not seen, {named(char)}; leave it out"
            found.append(Fault(pointer, detail, "unseen_character"))
            if len(found) == MAX_FAULTS:
                break
    return found


def _names(value: Any, above: str, level: int) -> Iterator[tuple[str, str]]:
    """Where they stand, and each."""
    if level <= _MOST_LEVELS:
        for pointer, key, inner in _parts(value, above):
            yield from _at(pointer, key, inner)
            if isinstance(inner, dict | list):
                yield from _names(inner, pointer, level + 1)


def _parts(value: dict[str, Any] | list[Any], above: str) -> Iterator[tuple[str, str, Any]]:
    if isinstance(value, list):
        return ((f"{above}/{place}", "", inner) for place, inner in enumerate(value))
    return ((above + pointer_part(key), key, inner) for key, inner in value.items())


def _at(pointer: str, key: str, value: Any) -> Iterator[tuple[str, str]]:
    """The names that a field gives."""
    if key in _NAMES and isinstance(value, str):
        yield pointer, value
    elif key in _NAMED and isinstance(value, dict):
        for name, inner in value.items():
            yield pointer + pointer_part(name), name
            if key == "tags" and isinstance(inner, str):
                yield pointer + pointer_part(name), inner
