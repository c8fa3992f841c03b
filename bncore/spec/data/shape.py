"""What is known of a data set before it is loaded."""

from dataclasses import dataclass
from typing import Literal

from bncore.spec.blueprint.signal import Signal

Task = Literal["classification", "tagging", "regression"]
"""What there is for each example: a class, a class for each of its steps, or numbers."""


@dataclass(frozen=True)
class DataShape:
    """Signal, task and sizes; `outputs` is the number of classes, or of the numbers that a regression predicts.

    Examples held out for validation are no training examples.
    """

    signal: Signal
    outputs: int
    train_examples: int
    test_examples: int
    validation_examples: int = 0
    task: Task = "classification"
    class_counts: tuple[int, ...] | None = None
    """Training examples of each class, where that is known before they are loaded."""
    whole_batches: bool = False
    """Whether an epoch has no smaller last batch."""

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Of one example, without the batch axis."""
        return self.signal.shape

    @property
    def classes(self) -> int | None:
        """None where the task has none."""
        return None if self.task == "regression" else self.outputs
