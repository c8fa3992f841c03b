"""Unions whose kind need not be said: where it is left out, and nothing that is said is of other kinds, the usual one
is meant.

Invariant: nothing is guessed. What another kind alone has is refused, with the kinds that have it.
"""

import json
from typing import Any

from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError

from bncore.spec.annotations import model_of, union_members
from bncore.spec.strict import SpecModel, fields_of
from bncore.spec.wording import nearest_kind

_MOST_NAMED = 4


def usual(union: Any, kind: type[SpecModel] | None = None) -> BeforeValidator:
    """Goes with the union in an `Annotated`. Without a usual kind, it only says which ones would fit."""
    members = {
        str(name): frozenset(fields_of(found))
        for name, member in union_members(union).items()
        if (found := model_of(member)) is not None
    }
    default = None if kind is None else str(kind.model_fields["kind"].default)

    def fill_in(value: Any) -> Any:
        meant = nearest_kind(value, members) if isinstance(value, str) else None
        if meant is not None:
            _refuse("", f"Must be an object, such as {json.dumps({'kind': meant})}", "not_an_object")
        if not isinstance(value, dict) or "kind" in value:
            return value
        for name in value:
            having = [found for found, fields in members.items() if name in fields]
            if having and default not in having:
                shown = ", ".join(having[:_MOST_NAMED]) + (" and others" if len(having) > _MOST_NAMED else "")
                _refuse("/kind", f"Is required; {name} is a field of {shown}", "unknown_kind")
        return value if default is None else {"kind": default, **value}

    return BeforeValidator(fill_in)


def _refuse(pointer: str, detail: str, code: str) -> None:
    raise PydanticCustomError("cross_field", "which kind is meant is not said", {"faults": [(pointer, detail, code)]})
