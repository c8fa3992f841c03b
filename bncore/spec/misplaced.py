"""A field where it does not belong: what was probably meant, and where that stands.

Invariant: only names of the spec are said, none that was sent but as the name of a field elsewhere, which it then is.
"""

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from bncore.spec.annotations import model_of, plain, union_members
from bncore.spec.strict import fields_of
from bncore.spec.wording import name_here, nearest, nearest_kind

_MOST_NAMED = 3
_DEPTH = 3
"""`network.norm.momentum`: deeper ones are nobody's slip."""
_COPIES = frozenset({"start_from"})
"""Has whole specs in it, whose fields nobody writes."""


@dataclass(frozen=True)
class Spot:
    """The class that a fault lies in, its path, and the union that it was chosen from."""

    owner: type[BaseModel] | None
    path: tuple[str, ...] = ()
    union: Any = None


@dataclass(frozen=True)
class _Atlas:
    """Where fields and kinds are in a model, the nearest to its top first."""

    fields: dict[str, list[tuple[str, ...]]]
    kinds: dict[str, tuple[str, ...]]


def unknown_field(name: str, spot: Spot, model: Any) -> str:
    """The sentence for a field that its owner has not."""
    known = sorted(fields_of(spot.owner)) if spot.owner else []
    kinds = _kinds_with(name, spot.union)
    if kinds and spot.owner is not None:
        has = "has" if len(kinds) == 1 else "have"
        return f"Unknown field of {spot.owner.model_fields['kind'].default}; {_listed(kinds, 'and')} {has} it"
    meant = _meant(name, known, spot, model)
    if meant:
        return f"Unknown field; did you mean {meant}?"
    return f"Unknown field; known here: {', '.join(known)}" if known else "Unknown field"


def _meant(name: str, known: Sequence[str], spot: Spot, model: Any) -> str | None:
    atlas = _atlas(model) if model_of(model) else _Atlas({}, {})
    here = name_here(name)
    if here in known:
        return here
    for wanted in (name, here):
        if wanted in atlas.fields:
            return _listed(_nearby(atlas.fields[wanted], spot.path), "or")
    close = nearest(name, known)
    if close:
        return close
    kind = nearest_kind(name, atlas.kinds) if len(name) > 1 else None
    if kind is not None and kind.replace("_", "") == name.lower().replace("_", ""):
        return f'{".".join(atlas.kinds[kind])}: {{"kind": "{kind}"}}'
    return None


def _kinds_with(name: str, union: Any) -> list[str]:
    """The kinds of a union that have the field."""
    members = ((kind, model_of(member)) for kind, member in union_members(union).items())
    return [str(kind) for kind, member in members if member is not None and name in fields_of(member)]


def _nearby(paths: Sequence[tuple[str, ...]], around: tuple[str, ...]) -> list[str]:
    """As dotted paths; those that are within what the fault lies in alone, if there are any."""
    inside = [path for path in paths if path[: len(around)] == around]
    return [".".join(path) for path in inside or paths]


def _listed(words: Sequence[str], last: str) -> str:
    shown = [*words[:_MOST_NAMED], *(["others"] if len(words) > _MOST_NAMED else [])]
    *first, end = shown
    return f"{', '.join(first)} {last} {end}" if first else end


@functools.cache
def _atlas(model: Any) -> _Atlas:
    atlas = _Atlas({}, {})
    for path, union in sorted(set(_walk(plain(model), ())), key=lambda found: len(found[0])):
        if path[-1] == "kind" and union:
            atlas.kinds.setdefault(union, path[:-1])
        elif path[-1] != "kind":
            known = atlas.fields.setdefault(path[-1], [])
            known += [path] if path not in known else []
    return atlas


def _walk(annotation: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str]]:
    """Paths of fields, and for those of the name `kind` what it is."""
    for kind, member in (union_members(annotation) or {"": annotation}).items():
        owner = model_of(member)
        if owner is None or len(path) == _DEPTH:
            continue
        for name, field in fields_of(owner).items():
            yield (*path, name), str(kind)
            if name not in _COPIES:
                yield from _walk(plain(field.annotation), (*path, name))
