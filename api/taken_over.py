"""What a clone has of its source that belonged to another kind.

A merge patch that names another `kind` keeps the fields that both kinds have, although each has defaults of its own:
0.1 is a learning rate for SGD and none for Adam. It is what was asked, and may not be what was meant.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from api.shown.plans import SpecWarning
from bncore.spec import CATALOG, members

_PLAIN = (bool, int, float, str, type(None))
"""What has a default that a line can say; a required field has none."""


def taken_over(
    source: Mapping[str, Any], patch: Mapping[str, Any], spec: BaseModel, pointer: str = ""
) -> Iterator[SpecWarning]:
    """Of each part of `spec` whose kind the patch changed, the numbers of the former kind that stand in it.

    `source` is the complete spec that `patch` made into `spec`.
    """
    for name in type(spec).model_fields:
        part, was, asked = getattr(spec, name), source.get(name), patch.get(name)
        if isinstance(part, BaseModel) and isinstance(was, dict) and isinstance(asked, dict):
            yield from _of_another_kind(was, asked, part, f"{pointer}/{name}")
            yield from taken_over(was, asked, part, f"{pointer}/{name}")


def _of_another_kind(
    was: Mapping[str, Any], asked: Mapping[str, Any], part: BaseModel, pointer: str
) -> Iterator[SpecWarning]:
    kind, former = getattr(part, "kind", None), _sibling(type(part), was.get("kind"))
    if former is None or kind == was["kind"]:
        return
    for name, field in type(part).model_fields.items():
        default, said = field.default, field.alias or name
        if said in asked or name not in former.model_fields or not isinstance(default, _PLAIN):
            continue
        if default not in (former.model_fields[name].default, getattr(part, name)):
            detail = f"Is taken over from {was['kind']}; null gives the default of {kind}, {json.dumps(default)}."
            yield SpecWarning(pointer=f"{pointer}/{said}", detail=detail, code="taken_over")


def _sibling(model: type[BaseModel], kind: object) -> type[BaseModel] | None:
    """The class of that kind in the union that `model` is a member of."""
    union = next((union for union in map(members, CATALOG.values()) if model in union), ())
    return next((member for member in union if member.model_fields["kind"].default == kind), None)
