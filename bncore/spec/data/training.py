"""What becomes of the training examples of any data set: which are left, in what batches, and how they are changed."""

from typing import Annotated

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from bncore.spec.data.augment import AugmentSpec
from bncore.spec.data.sampler import ImbalanceSpec, SamplerSpec, ShuffledSampler
from bncore.spec.data.validation import WithValidation, shares

Counts = tuple[int, ...]


class TrainingPart(WithValidation):
    """A data set, and what is trained on of it."""

    imbalance: ImbalanceSpec | None = Field(default=None, description="Leave out training examples of later classes.")
    sampler: SamplerSpec = Field(default_factory=ShuffledSampler, description="Which examples a step gets.")
    augment: Annotated[tuple[AugmentSpec, ...], Field(strict=False, max_length=16)] = Field(
        default=(), description="What is done to the examples of each training step, in this order."
    )

    def all_class_counts(self) -> Counts | None:
        """Of the examples for training before any are held out; None where they have no class, or none that is known
        before they are loaded."""
        return None

    def class_counts(self) -> Counts | None:
        """Of the examples that are trained on."""
        counts = self._counts_left()
        return counts if counts is None or self.imbalance is None else tuple(self.imbalance.kept(counts))

    def train_examples(self) -> int:
        """Examples that are trained on."""
        counts = self.class_counts()
        if self.imbalance is None or counts is None:
            return self.all_train_examples() - self.held_out()
        return sum(counts)

    def _counts_left(self) -> Counts | None:
        """Without those for validation."""
        counts = self.all_class_counts()
        if counts is None or self.validation is None:
            return counts
        held_out = shares(counts, self.held_out())
        return tuple(count - share for count, share in zip(counts, held_out, strict=True))

    @model_validator(mode="after")
    def _has_classes_to_leave_out(self) -> "TrainingPart":
        if self.imbalance is not None and self.all_class_counts() is None:
            detail = "The sizes of these classes are not known, or there are none; leave it out"
            fault = ("/imbalance", detail, "imbalance_does_not_fit")
            raise PydanticCustomError("cross_field", "no counts", {"faults": [fault]})
        return self
