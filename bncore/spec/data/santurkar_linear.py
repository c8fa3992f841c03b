"""The regression on which deep linear networks are studied."""

from typing import Literal

from pydantic import Field

from bncore.spec.blueprint.signal import Signal
from bncore.spec.data.shape import DataShape
from bncore.spec.data.training import TrainingPart


class SanturkarLinearSpec(TrainingPart):
    """Gaussian vectors x, and A x to predict, for one Gaussian matrix A (arXiv 1805.11604, section 2.3).

    All numbers are drawn from a standard normal distribution by `data_seed`, which has nothing to do with that of
    training. The paper trains on the whole set at once: `train.batch_size` equal to `examples`.
    """

    kind: Literal["santurkar_linear"] = "santurkar_linear"
    features: int = Field(default=10, ge=1, le=1000, description="Of x and of A x.")
    examples: int = Field(default=1000, ge=2, le=100_000, description="To train on.")
    test_examples: int = Field(default=1000, ge=1, le=100_000, description="Of the same matrix A.")
    data_seed: int = Field(default=0, ge=0, le=2**63 - 1, description="Draws A, then the examples.")

    def all_train_examples(self) -> int:
        return self.examples

    def shape(self) -> DataShape:
        """Signal and sizes."""
        return DataShape(
            signal=Signal((self.features,), "vector"),
            outputs=self.features,
            train_examples=self.train_examples(),
            validation_examples=self.held_out(),
            test_examples=self.test_examples,
            task="regression",
        )
