"""What every part of a spec is made of: strict, finite, frozen, and without unknown fields.

Strict because a spec is evidence: `true` read as 1 or "0.1" read as 0.1 would be a guess about what was meant.
"""

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError


class SpecModel(BaseModel):
    """A part of a spec. Unknown fields, numbers in strings, NaN and infinities are errors."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False, serialize_by_alias=True)


def fields_of(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """The fields of a model by their names in a document, of which `as` is none in Python."""
    return {info.alias or name: info for name, info in model.model_fields.items()}


# The Unicode categories Cc and Cs.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def _plain_text(text: str) -> str:
    if _CONTROL.search(text):
        # PostgreSQL cannot store NUL, UTF-8 has no lone surrogates, and the others forge log lines and terminals.
        raise PydanticCustomError("control_character", "Control characters are not allowed")
    return text


def _not_nearly_an_integer(value: object) -> object:
    if isinstance(value, bool | float):
        # Compared as Python does, true is the literal 1, and so is 1.0.
        raise PydanticCustomError("int_type", "Input should be a valid integer")
    return value


Integer = BeforeValidator(_not_nearly_an_integer)
"""Goes with a `Literal` of integers."""

Text = Annotated[str, AfterValidator(_plain_text)]

Count = Annotated[int, Field(ge=1, le=65_536)]
"""A layer width: above 65,536 one hidden layer alone exceeds any checkpoint this service should carry."""

Steps = Annotated[int, Field(ge=1, le=100_000_000)]
"""A number of optimizer steps; the upper end is a month of one-core training at 30 steps a second."""

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Epsilon = Annotated[float, Field(ge=1e-30, le=1.0)]
"""Added to a variance: positive in single precision too, or a constant channel divides by zero; above 1 it drowns the
variance itself."""
