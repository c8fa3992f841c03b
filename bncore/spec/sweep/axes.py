"""The values of an axis: listed, on a grid, or drawn at random.

Invariant: what is drawn depends on the axis' own seed and its path, so that it comes again, and two axes with one seed
are independent.
"""

import itertools
import math
import random
import sys
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator
from pydantic_core import PydanticCustomError

from bncore.seeds import derive_seed
from bncore.spec.strict import SpecModel

MOST_VALUES = 10_000
"""Of one axis, as many as a sweep may have experiments."""

_BOUND = 1e300
_DIGITS = 12
"""Significant digits of a value on a grid: a tenth is 0.1 there, and not what logarithms make of it."""

Number = Annotated[float, Field(ge=-_BOUND, le=_BOUND)]
Positive = Annotated[float, Field(gt=0.0, le=_BOUND)]
Whole = Annotated[int, Field(ge=-(2**63), le=2**63 - 1)]
Drawn = Annotated[int, Field(ge=1, le=MOST_VALUES)]
Seed = Annotated[int, Field(ge=0, le=2**63 - 1)]


class _Between(SpecModel):
    """From `low` to `high`."""

    @model_validator(mode="after")
    def _low_is_lower(self) -> "_Between":
        if self.low >= self.high:  # type: ignore[attr-defined]  # each kind has its own type of bounds
            detail = "Must be greater than low; swap them, or give one value as a list"
            _refuse("/high", detail, "bounds_swapped")
        return self


class GridAxis(_Between):
    """`count` values from `low` to `high`, both included, at equal distances, or at equal ratios where scale is log.

    They are whole numbers where both bounds are and all of them come out whole.
    """

    kind: Literal["grid"] = "grid"
    low: Whole | Number
    high: Whole | Number
    count: Annotated[int, Field(ge=2, le=MOST_VALUES)]
    scale: Literal["linear", "log"] = "linear"

    @model_validator(mode="after")
    def _log_is_of_positives(self) -> "GridAxis":
        if self.scale == "log" and self.low <= 0:
            _refuse("/low", "Must be greater than 0 where scale is log", "not_positive")
        return self

    @model_validator(mode="after")
    def _values_differ(self) -> "GridAxis":
        if not _ascends(_on_grid(self)):
            detail = f"There are no {self.count:,} different numbers from low to high; set them further apart"
            _refuse("/count", detail, "repeated_value")
        return self


class UniformAxis(_Between):
    """`count` numbers drawn uniformly between `low` and `high`."""

    kind: Literal["uniform"] = "uniform"
    low: Number
    high: Number
    count: Drawn
    seed: Seed = 0


class LogUniformAxis(_Between):
    """`count` numbers whose logarithms are drawn uniformly: as many between 0.001 and 0.01 as between 0.1 and 1."""

    kind: Literal["log_uniform"] = "log_uniform"
    low: Positive
    high: Positive
    count: Drawn
    seed: Seed = 0


class IntegerAxis(_Between):
    """`count` different whole numbers drawn from `low` to `high`, both included."""

    kind: Literal["integer"] = "integer"
    low: Whole
    high: Whole
    count: Drawn
    seed: Seed = 0

    @model_validator(mode="after")
    def _there_are_so_many(self) -> "IntegerAxis":
        if self.count > self.high - self.low + 1:
            detail = f"There are {self.high - self.low + 1} whole numbers from low to high; they are drawn once each"
            _refuse("/count", detail, "too_many")
        return self


def which(value: Any) -> str | None:
    """A list is its values; anything else says its kind."""
    if isinstance(value, list | tuple):
        return "values"
    found = value.get("kind") if isinstance(value, dict) else getattr(value, "kind", None)
    return found if isinstance(found, str) else None


Axis = Annotated[
    Annotated[list[Any], Field(min_length=1, max_length=MOST_VALUES), Tag("values")]
    | Annotated[GridAxis, Tag("grid")]
    | Annotated[UniformAxis, Tag("uniform")]
    | Annotated[LogUniformAxis, Tag("log_uniform")]
    | Annotated[IntegerAxis, Tag("integer")],
    Discriminator(which),
]


def count_of(axis: Axis) -> int:
    """How many values it has, none of which is made for that."""
    return len(axis) if isinstance(axis, list) else axis.count


def values_of(path: str, axis: Axis) -> list[Any]:
    """The values of the axis at this path, in their order; drawn ones as they are drawn."""
    if isinstance(axis, list):
        return list(axis)
    if isinstance(axis, GridAxis):
        return _on_grid(axis)
    source = random.Random(derive_seed(axis.seed, "sweep", path))
    if isinstance(axis, IntegerAxis):
        return _distinct(source, axis)
    if isinstance(axis, UniformAxis):
        return [axis.low + (axis.high - axis.low) * source.random() for _ in range(axis.count)]
    low, high = math.log(axis.low), math.log(axis.high)
    drawn = (math.exp(low + (high - low) * source.random()) for _ in range(axis.count))
    return [min(max(value, axis.low), axis.high) for value in drawn]


def _distinct(source: random.Random, axis: IntegerAxis) -> list[int]:
    numbers = range(axis.low, axis.high + 1)
    if axis.high - axis.low < sys.maxsize:
        return source.sample(numbers, axis.count)
    # `sample` takes no range whose length is no C integer.
    found: dict[int, None] = {}
    while len(found) < axis.count:
        found[numbers[source.randrange(axis.high - axis.low + 1)]] = None
    return list(found)


def _on_grid(axis: GridAxis) -> list[float] | list[int]:
    are_ints = isinstance(axis.low, int) and isinstance(axis.high, int)
    if are_ints and axis.scale == "linear" and (axis.high - axis.low) % (axis.count - 1) == 0:
        distance = (axis.high - axis.low) // (axis.count - 1)
        return [int(axis.low + distance * place) for place in range(axis.count)]
    inner = _between(axis)
    found = [axis.low, *(float(f"{value:.{_DIGITS}g}") for value in inner), axis.high]
    if not _ascends(found):
        # So near to each other that they differ in later digits alone.
        found = [axis.low, *inner, axis.high]
    are_whole = are_ints and all(value == int(value) for value in found)
    return [int(value) for value in found] if are_whole else [float(value) for value in found]


def _between(axis: GridAxis) -> list[float]:
    shares = [place / (axis.count - 1) for place in range(1, axis.count - 1)]
    if axis.scale == "linear":
        return [axis.low + (axis.high - axis.low) * share for share in shares]
    low, high = math.log(axis.low), math.log(axis.high)
    return [math.exp(low + (high - low) * share) for share in shares]


def _ascends(values: Sequence[float]) -> bool:
    return all(one < other for one, other in itertools.pairwise(values))


def _refuse(pointer: str, detail: str, code: str) -> None:
    raise PydanticCustomError("cross_field", "values of an axis", {"faults": [(pointer, detail, code)]})
