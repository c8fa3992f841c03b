"""Every choice a spec offers, read off the unions themselves: what `GET /v1/normalizers` and its like show."""

import inspect
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import BaseModel, TypeAdapter

from bncore.spec.data import DataSpec
from bncore.spec.diagnostics import DiagnosticSpec
from bncore.spec.init import InitSpec
from bncore.spec.loss import LossSpec
from bncore.spec.network import NetworkSpec
from bncore.spec.norm import NormSpec
from bncore.spec.optimizer import OptimizerSpec, ScheduleSpec
from bncore.spec.wording import nearest_kind


@dataclass(frozen=True)
class Kind:
    """One member of a union: its `kind`, its docstring, the JSON schema of its fields."""

    kind: str
    description: str
    schema: dict[str, Any]


def members(union: Any) -> tuple[type[BaseModel], ...]:
    """The classes of a discriminated union, or the class itself where there is only one yet."""
    if isinstance(union, type) and issubclass(union, BaseModel):
        return (union,)
    arguments = get_args(union)
    inner = get_args(arguments[0])
    return tuple(inner) if inner else (arguments[0],)


CATALOG: dict[str, Any] = {
    "normalizers": NormSpec,
    "networks": NetworkSpec,
    "data": DataSpec,
    "initializers": InitSpec,
    "optimizers": OptimizerSpec,
    "schedules": ScheduleSpec,
    "losses": LossSpec,
    "diagnostics": DiagnosticSpec,
}
"""The noun in the URL to the union it lists."""


def kinds(noun: str) -> list[Kind]:
    """The members of one union of `CATALOG`, in the order of their definition."""
    found = members(CATALOG[noun])
    return [described(member, has_a_choice=len(found) > 1) for member in found]


def other_than(noun: str, kind: str) -> str:
    """What to say of a kind that a union has not: which was probably meant, or which it has. Empty where it has it.

    The end of a sentence.
    """
    known = [str(member.model_fields["kind"].default) for member in members(CATALOG[noun])]
    if kind in known:
        return ""
    close = nearest_kind(kind, known)
    return f"did you mean {close}?" if close else f"there are {', '.join(known)}."


def described(member: type[BaseModel], *, has_a_choice: bool) -> Kind:
    """A class in words; its kind is empty where it has none."""
    kind = member.model_fields.get("kind")
    return Kind(
        kind="" if kind is None or kind.is_required() else str(kind.default),
        description=inspect.getdoc(member) or "",
        schema=_schema(member, has_a_choice=has_a_choice),
    )


def _schema(member: type[BaseModel], has_a_choice: bool) -> dict[str, Any]:
    schema = member.model_json_schema()
    for name, field in member.model_fields.items():
        if field.default_factory is not None:  # pydantic leaves those out
            # One that depends on other parts is that of a spec which has none.
            usual = field.get_default(call_default_factory=True, validated_data={})
            default = TypeAdapter(Any).dump_python(usual, mode="json")
            schema["properties"][field.alias or name]["default"] = default
    if has_a_choice:
        # By itself the class knows its kind; in a spec it is what tells it from the others.
        schema["required"] = ["kind", *schema.get("required", [])]
    return schema
