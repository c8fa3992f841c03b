"""Sequences of different lengths, drawn as they are needed."""

from typing import Literal

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from bncore.spec.blueprint.signal import Signal
from bncore.spec.data.shape import DataShape
from bncore.spec.data.training import TrainingPart

MAX_NUMBERS = 50_000_000
"""Of inputs in both parts: 200 MB in single precision."""


class VariableLengthSpec(TrainingPart):
    """Noise in which now and then a cue stands out: which was the last one?

    A sequence has `min_length` to `max_length` steps, each length as likely, and zeros behind its end. A step is
    `classes` numbers, normal with standard deviation `noise`; the first step, and each further one with probability
    1/5, is a cue, with 1 added to the number of a class drawn at random. The label of a sequence is the class of its
    last cue; with `tag` every step has a label, the class of the latest cue up to there. All of it is drawn by
    `data_seed`, which has nothing to do with that of training.
    """

    kind: Literal["variable_length"] = "variable_length"
    tag: bool = Field(default=False, description="A label for every step instead of one for the sequence.")
    classes: int = Field(default=4, ge=2, le=1000)
    min_length: int = Field(default=5, ge=1, le=100_000, description="Steps.")
    max_length: int = Field(default=20, ge=1, le=100_000, description="Steps; not below min_length.")
    noise: float = Field(default=0.2, ge=0.0, le=10.0, description="Standard deviation.")
    examples: int = Field(default=2000, ge=2, le=1_000_000, description="To train on.")
    test_examples: int = Field(default=500, ge=1, le=1_000_000)
    data_seed: int = Field(default=0, ge=0, le=2**63 - 1)

    @model_validator(mode="after")
    def _can_be_drawn(self) -> "VariableLengthSpec":
        faults = []
        if self.min_length > self.max_length:
            detail = f"Must be at least min_length, which is {self.min_length}"
            faults.append(("/max_length", detail, "lengths_out_of_order"))
        numbers = (self.examples + self.test_examples) * self.max_length * self.classes
        if numbers > MAX_NUMBERS:
            detail = f"Would be {numbers:,} numbers, and {MAX_NUMBERS:,} are allowed; use fewer or shorter sequences"
            faults.append(("/examples", detail, "too_much_data"))
        if faults:
            raise PydanticCustomError("cross_field", "such sequences cannot be drawn", {"faults": faults})
        return self

    def all_train_examples(self) -> int:
        return self.examples

    def shape(self) -> DataShape:
        """Signal and sizes."""
        return DataShape(
            signal=Signal((self.max_length, self.classes), "sequence", lengths=True),
            outputs=self.classes,
            train_examples=self.train_examples(),
            validation_examples=self.held_out(),
            test_examples=self.test_examples,
            task="tagging" if self.tag else "classification",
            whole_batches=self.sampler.whole_batches,
        )
