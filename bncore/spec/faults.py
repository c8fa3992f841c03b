"""What is wrong with a spec, as JSON pointers into what was sent.

The pointer names the field as the sender wrote it: pydantic's tags for union members are left out, an unknown kind
points to `.../kind`. No text repeats a value that was sent.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, get_args

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from bncore.spec.annotations import model_of, plain, union_members
from bncore.spec.misplaced import Spot, unknown_field
from bncore.spec.strict import fields_of
from bncore.spec.wording import nearest_kind, worded

MAX_FAULTS = 100


@dataclass(frozen=True)
class Fault:
    """`pointer` is RFC 6901 ("" is the whole body), `detail` says what would be right, `code` is for programs."""

    pointer: str
    detail: str
    code: str


class SpecError(ValueError):
    """A spec that cannot be run. `faults` lists what is wrong, at most 100 of them."""

    def __init__(self, faults: list[Fault]) -> None:
        self.faults = faults[:MAX_FAULTS]
        super().__init__("; ".join(f"{fault.pointer or 'body'}: {fault.detail}" for fault in self.faults))


def faults_of(error: ValidationError, model: Any) -> list[Fault]:
    """The faults of a pydantic error raised while validating `model`, a class or a union of such.

    They are counted first and worded up to `MAX_FAULTS`.
    """
    # Without the input: an error would carry, and its text repeat, what was sent.
    every = _without_consequences(error.errors(include_url=False))
    return list(islice((fault for details in every for fault in _faults(details, model)), MAX_FAULTS))


def pointer_part(part: int | str) -> str:
    """One step of an RFC 6901 pointer, cut to what JSON and a terminal can show: a misspelt field may be any string."""
    shown = "".join(
        character if character.isprintable() else f"\\u{ord(character):04x}" for character in str(part)[:100]
    )
    return "/" + shown.replace("~", "~0").replace("/", "~1")


def _without_consequences(every: list[ErrorDetails]) -> list[ErrorDetails]:
    """Without those that only say that a list is too short when its faulty items do not count, or that a default cannot
    be chosen by a part that is at fault."""
    every = [details for details in every if details["type"] != "default_factory_not_called"]
    within = {details["loc"][:end] for details in every for end in range(len(details["loc"]))}
    return [details for details in every if details["type"] != "too_short" or details["loc"] not in within]


def _faults(details: ErrorDetails, model: Any) -> Iterator[Fault]:
    pointer, spot, expected = _locate(details["loc"], model)
    kind, context = details["type"], details.get("ctx", {})
    if kind == "cross_field":
        for inner, detail, code in context["faults"]:
            yield Fault(pointer + inner, detail, code)
    elif kind in ("union_tag_invalid", "union_tag_not_found"):
        yield Fault(f"{pointer}/kind", _unknown_kind(context), "unknown_kind")
    elif kind == "extra_forbidden":
        yield Fault(pointer, unknown_field(str(details["loc"][-1]), spot, model), "unknown_field")
    elif kind == "literal_error" and details["loc"][-1] == "kind":
        yield Fault(pointer, f"Must be {context['expected']}", "unknown_kind")
    elif kind in ("model_type", "model_attributes_type", "dict_type"):
        yield Fault(pointer, f"Must be an object{_example(expected)}", "not_an_object")
    else:
        yield Fault(pointer, worded(details), kind)


def _unknown_kind(context: Mapping[str, Any]) -> str:
    known = str(context.get("expected_tags", ""))
    if not known:
        return "Is required"
    close = nearest_kind(str(context["tag"]), known.replace("'", "").split(", "))
    return f"Unknown kind; did you mean {close}?" if close else f"Must be one of {known}"


def _example(expected: Any) -> str:
    members = [member for member in map(model_of, union_members(expected).values()) if member]
    return f', such as {{"kind": "{members[0].model_fields["kind"].default}"}}' if members else ""


def _locate(location: tuple[int | str, ...], model: Any) -> tuple[str, Spot, Any]:
    """Follow pydantic's location through the annotations, so that a union tag is never taken for a field.

    The pointer, the class that the fault lies in, and the annotation of what stands there.
    """
    pointer: list[str] = []
    path: list[str] = []
    current: Any = plain(model)
    spot = Spot(model_of(current))
    for part in location:
        members = union_members(current)
        if members:
            chosen = members.get(part)
            spot = Spot(model_of(chosen) or spot.owner, tuple(path), current)
            current = chosen
            continue
        if part != "[key]":
            pointer.append(pointer_part(part))
            path.append(str(part))
            current = _inside(current, part)
        if model_of(current):
            spot = Spot(model_of(current), tuple(path))
    return "".join(pointer), spot, current


def _inside(current: Any, part: int | str) -> Any:
    model = model_of(current)
    if model:
        info = fields_of(model).get(str(part))
        return plain(info.annotation) if info else None
    arguments = [argument for argument in get_args(current) if argument is not Ellipsis]
    return plain(arguments[-1]) if arguments else None
