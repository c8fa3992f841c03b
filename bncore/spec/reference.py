"""Everything that can stand in a spec, found by walking its classes: what `bnlab kinds` and docs/spec.md show.

Invariant: nothing is listed by hand. A field, a kind or a part of a spec that is new appears by itself.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, get_args

from pydantic import BaseModel

from bncore.spec.annotations import model_of
from bncore.spec.catalog import Kind, described
from bncore.spec.experiment import ExperimentSpec
from bncore.spec.strict import fields_of

_BOUNDS = {"exclusiveMinimum": ">", "minimum": ">=", "exclusiveMaximum": "<", "maximum": "<="}
_NAMES = {"boolean": "true, false", "null": "null", "string": "text"}
_FEW = 6


@dataclass(frozen=True)
class Field:
    """A field as a person reads it: its name, its default, what it takes, what it means."""

    name: str
    default: Any
    takes: str
    meaning: str


@dataclass(frozen=True)
class Part:
    """A class, or a union of classes, that stands somewhere in a spec."""

    name: str
    """Where it stands first, as a dotted path; the kinds that have it, where another part is at the same place."""
    places: tuple[str, ...]
    members: tuple[type[BaseModel], ...]

    @property
    def path(self) -> str:
        return self.places[0]

    @property
    def is_a_choice(self) -> bool:
        kinds = [member.model_fields.get("kind") for member in self.members]
        return all(kind is not None and not kind.is_required() for kind in kinds)

    def kinds(self) -> list[Kind]:
        """Its classes; of one that is no choice, the kind is empty."""
        return [described(member, has_a_choice=len(self.members) > 1) for member in self.members]


@cache
def parts() -> tuple[Part, ...]:
    """The parts of an experiment's spec, in the order of its fields; each once, at whatever places."""
    found: dict[tuple[type[BaseModel], ...], list[tuple[str, str]]] = {}
    for path, owner, members in _walk(ExperimentSpec, ""):
        found.setdefault(members, []).append((path, owner))
    firsts = [places[0][0] for places in found.values()]
    return tuple(
        Part(
            name=_name(places, is_shared=firsts.count(places[0][0]) > 1 and at != firsts.index(places[0][0])),
            places=tuple(dict.fromkeys(path for path, _ in places)),
            members=members,
        )
        for at, (members, places) in enumerate(found.items())
    )


def fields(schema: Mapping[str, Any]) -> list[Field]:
    """What a JSON schema of a class says of its fields; a kind of which there is one is none."""
    listed = schema.get("properties", {}).items()
    return [
        Field(name, _default(field), _takes(field), field.get("description", ""))
        for name, field in listed
        if name != "kind" or "const" not in field
    ]


def _walk(owner: type[BaseModel], path: str) -> Iterator[tuple[str, str, tuple[type[BaseModel], ...]]]:
    """Depth first; what has been met is not entered again."""
    entered: set[tuple[type[BaseModel], ...]] = set()

    def below(owner: type[BaseModel], path: str) -> Iterator[tuple[str, str, tuple[type[BaseModel], ...]]]:
        for name, field in fields_of(owner).items():
            members = tuple(dict.fromkeys(_models(field.annotation)))
            if not members:
                continue
            inner = f"{path}.{name}" if path else name
            yield inner, str(owner.model_fields["kind"].default) if "kind" in owner.model_fields else "", members
            if members not in entered:
                entered.add(members)
                for member in members:
                    yield from below(member, inner)

    yield from below(owner, path)


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    model = model_of(annotation)
    if model is not None:
        yield model
        return
    for argument in get_args(annotation):
        yield from _models(argument)


def _name(places: list[tuple[str, str]], *, is_shared: bool) -> str:
    path = places[0][0]
    owners = dict.fromkeys(owner for where, owner in places if where == path)
    return f"{path} of {', '.join(owners)}" if is_shared else path


def _default(field: Mapping[str, Any]) -> Any:
    """Of a part that has kinds, the kind."""
    default = field.get("default")
    return default.get("kind", default) if isinstance(default, dict) else default


def _takes(field: Mapping[str, Any]) -> str:
    """The choices or the range of a field, read off its JSON schema; of a list, those of what is in it."""
    if "anyOf" in field:
        return " or ".join(filter(None, map(_takes, field["anyOf"])))
    if "enum" in field or "const" in field:
        return ", ".join(map(str, field.get("enum", [field.get("const")])))
    if "discriminator" in field:
        return _kinds_of(list(field["discriminator"].get("mapping", {})))
    if "$ref" in field:
        return "an object"
    if "items" in field:
        return f"list of {_takes(field['items']) or 'values'}"
    if field.get("type") in _NAMES:
        return _NAMES[field["type"]]
    return ", ".join(f"{sign} {field[bound]:g}" for bound, sign in _BOUNDS.items() if bound in field)


def _kinds_of(kinds: list[str]) -> str:
    """Named while they are few enough for a line."""
    return ", ".join(kinds) if len(kinds) <= _FEW else f"{len(kinds)} kinds"
