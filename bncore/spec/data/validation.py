"""Examples held out of training, to choose by: the test data choose nothing where there are some."""

import math
from abc import abstractmethod
from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache
from typing import Annotated

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from bncore.spec.strict import SpecModel


def shares(sizes: Sequence[int], count: int) -> list[int]:
    """How many each class of these sizes gives of `count` examples: in proportion, rounded down; what is left over goes
    one by one to the classes with the largest remainders, the first ones among equals."""
    return list(_shares(tuple(sizes), count))


@lru_cache(maxsize=256)
def _shares(sizes: tuple[int, ...], count: int) -> tuple[int, ...]:
    # A spec asks six times while it is validated, and a sweep's have mostly the same data.
    total = sum(sizes)
    given = [size * count // total for size in sizes]
    by_remainder = sorted(range(len(sizes)), key=lambda place: (-(sizes[place] * count % total), place))
    for place in by_remainder[: count - sum(given)]:
        given[place] += 1
    return tuple(given)


class ValidationSpec(SpecModel):
    """Hold out a share of the training examples, or a number of them; give one of the two.

    Where examples have a class, each class gives in proportion to its size. Which examples these are depends on `seed`
    here and not on that of training, so that runs of different seeds choose by the same ones.
    """

    share: Annotated[float, Field(gt=0.0, lt=1.0)] | None = Field(
        default=None, description="Of the training examples, rounded down to a whole number."
    )
    count: Annotated[int, Field(ge=1, le=100_000_000)] | None = Field(default=None, description="Of examples.")
    seed: int = Field(default=0, ge=0, le=2**63 - 1)

    @model_validator(mode="after")
    def _says_one_of_both(self) -> "ValidationSpec":
        if (self.share is None) == (self.count is None):
            pointer, detail = ("/share", "Give share or count") if self.share is None else ("/count", "Not with share")
            fault = (pointer, detail, "share_or_count")
            raise PydanticCustomError("cross_field", "share or count", {"faults": [fault]})
        return self

    def examples(self, available: int) -> int:
        """How many of the available ones are held out."""
        if self.count is not None:
            return self.count
        assert self.share is not None
        # Of the number as it was written: 0.29 in binary is a little less, and so would be 0.29 of 100.
        return math.floor(Fraction(str(self.share)) * available)


class WithValidation(SpecModel):
    """A data set, some of whose training examples may be held out."""

    validation: ValidationSpec | None = Field(
        default=None,
        description="Training examples held out to choose by; without, what is chosen is chosen on the test data.",
    )

    @abstractmethod
    def all_train_examples(self) -> int:
        """Those for training before any are held out."""

    def held_out(self) -> int:
        """Examples for validation."""
        return 0 if self.validation is None else self.validation.examples(self.all_train_examples())

    @model_validator(mode="after")
    def _leaves_some_of_both(self) -> "WithValidation":
        available, held_out = self.all_train_examples(), self.held_out()
        if self.validation is not None and not 0 < held_out < available:
            field = "count" if self.validation.count is not None else "share"
            detail = (
                f"Would hold out {held_out} of {available} training examples; at least one has to be held out, "
                "and one to be left"
            )
            fault = (f"/validation/{field}", detail, "nothing_left")
            raise PydanticCustomError("cross_field", "validation leaves nothing", {"faults": [fault]})
        return self
