"""What the outputs of a network are held against: the loss that is descended, and the numbers that say how good it is.

Invariant: nothing here waits for the device, but for reading what was kept of steps that are over. Names of metrics are
data: whoever stores or shows them knows none.

Shapes: N examples, C classes.
"""

import itertools
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from bncore.data import Examples
from bncore.spec import LossSpec

Kept = tuple[Tensor, ...]
"""Of one step, what its metrics are made of when they are read: tensors on the device, along their first axis."""


class Task(ABC):
    """One kind of question to a network."""

    metrics: ClassVar[tuple[str, ...]]
    """What is measured beside the loss."""
    chosen_by: ClassVar[str]
    """What of it makes weights the best, ..."""
    larger_is_better: ClassVar[bool]
    """... and whether that is its greatest value."""

    @abstractmethod
    def loss(self, outputs: Tensor, examples: Examples) -> Tensor:
        """What a training step descends: a mean over the batch, in float32 whatever the outputs are."""

    def weight(self, examples: Examples) -> int | Tensor:
        """How much that mean is over."""
        return len(examples.inputs)

    @abstractmethod
    def kept(self, outputs: Tensor, examples: Examples) -> Kept:
        """What of a step its metrics will be made of."""

    @abstractmethod
    def read(self, steps: Sequence[Kept]) -> dict[str, list[float]]:
        """Of every metric, the value of each step; waits for the device once."""

    @abstractmethod
    def totals(self, outputs: Tensor, examples: Examples) -> tuple[Tensor, ...]:
        """Sums over a batch: of the loss as it is measured, and of each metric."""


class Classification(Task):
    """One of C classes for each example: cross entropy of logits (N, C); accuracy is the share of right ones."""

    metrics = ("accuracy",)
    chosen_by = "accuracy"
    larger_is_better = True

    def __init__(self, loss: LossSpec) -> None:
        self._smoothing = loss.label_smoothing

    def loss(self, outputs: Tensor, examples: Examples) -> Tensor:
        return F.cross_entropy(outputs.float(), examples.targets, label_smoothing=self._smoothing)

    def kept(self, outputs: Tensor, examples: Examples) -> Kept:
        # Comparing and counting waits as well: two operations less a step, for a small network 1 % of its time.
        return outputs.detach().argmax(1), examples.targets

    def read(self, steps: Sequence[Kept]) -> dict[str, list[float]]:
        predicted, labels = zip(*steps, strict=True)
        hits = torch.cat(predicted) == torch.cat(labels)
        ends = list(itertools.accumulate(len(batch) for batch in labels))
        # Hits up to the end of each batch; batches may differ in size.
        upto: list[int] = hits.cumsum(0)[torch.tensor(ends, device=hits.device) - 1].tolist()
        starts, before = [0, *ends], [0, *upto]
        return {"accuracy": [(upto[i] - before[i]) / (ends[i] - starts[i]) for i in range(len(ends))]}

    def totals(self, outputs: Tensor, examples: Examples) -> tuple[Tensor, ...]:
        hits = (outputs.argmax(1) == examples.targets).sum()
        return F.cross_entropy(outputs, examples.targets, reduction="sum"), hits
