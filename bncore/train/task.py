"""What the outputs of a network are held against: the loss that is descended, and the numbers that say how good it is.

Invariant: nothing here waits for the device, but for reading what was kept of steps that are over. Names of metrics are
data: whoever stores or shows them knows none.

Shapes: N examples, C classes, T steps.
"""

import itertools
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, assert_never

import torch
import torch.nn.functional as F
from torch import Tensor

from bncore.data import IGNORED, Examples
from bncore.spec import CrossEntropySpec, LossSpec, MeanSquaredErrorSpec
from bncore.spec import Task as TaskName

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
        """What a training step descends: a mean over the batch, in float32 at least."""

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
    def total_loss(self, outputs: Tensor, examples: Examples) -> Tensor:
        """The sum over a batch () of the loss as it is measured."""

    def metric_totals(self, outputs: Tensor, examples: Examples) -> tuple[Tensor, ...]:  # noqa: ARG002
        """Sums over a batch () of each metric; without any, nothing."""
        return ()

    def totals(self, outputs: Tensor, examples: Examples) -> tuple[Tensor, ...]:
        """Both: of the loss, and of each metric."""
        return (self.total_loss(outputs, examples), *self.metric_totals(outputs, examples))


class Classification(Task):
    """One of C classes for each example: cross entropy of logits (N, C); accuracy is the share of right ones."""

    metrics = ("accuracy",)
    chosen_by = "accuracy"
    larger_is_better = True

    def __init__(self, label_smoothing: float = 0.0) -> None:
        self._smoothing = label_smoothing

    def loss(self, outputs: Tensor, examples: Examples) -> Tensor:
        return F.cross_entropy(_wide(outputs), examples.targets, label_smoothing=self._smoothing)

    def kept(self, outputs: Tensor, examples: Examples) -> Kept:
        # Comparing and counting waits as well: two operations less a step, for a small network 1 % of its time.
        return outputs.detach().argmax(1), examples.targets

    def read(self, steps: Sequence[Kept]) -> dict[str, list[float]]:
        predicted, labels = zip(*steps, strict=True)
        ends = _ends(labels)
        hits = _within(torch.cat(predicted) == torch.cat(labels), ends)
        return {"accuracy": [hit / len(batch) for hit, batch in zip(hits, labels, strict=True)]}

    def total_loss(self, outputs: Tensor, examples: Examples) -> Tensor:
        return F.cross_entropy(outputs, examples.targets, reduction="sum")

    def metric_totals(self, outputs: Tensor, examples: Examples) -> tuple[Tensor, ...]:
        return ((outputs.argmax(1) == examples.targets).sum(),)


class Tagging(Task):
    """One of C classes for each step of a sequence: logits (N, T, C), targets (N, T) with `IGNORED` behind the end.

    Means are over all steps of all sequences of a batch: long ones count for more.
    """

    metrics = ("accuracy",)
    chosen_by = "accuracy"
    larger_is_better = True

    def __init__(self, label_smoothing: float = 0.0) -> None:
        self._smoothing = label_smoothing

    def loss(self, outputs: Tensor, examples: Examples) -> Tensor:
        logits, labels = _wide(outputs).flatten(0, 1), examples.targets.flatten()
        return F.cross_entropy(logits, labels, ignore_index=IGNORED, label_smoothing=self._smoothing)

    def weight(self, examples: Examples) -> int | Tensor:
        return (examples.targets != IGNORED).sum()

    def kept(self, outputs: Tensor, examples: Examples) -> Kept:
        return outputs.detach().argmax(-1).flatten(), examples.targets.flatten()

    def read(self, steps: Sequence[Kept]) -> dict[str, list[float]]:
        predicted, labels = zip(*steps, strict=True)
        ends, every = _ends(labels), torch.cat(labels)
        hits = _within(torch.cat(predicted) == every, ends)
        counted = _within(every != IGNORED, ends)
        return {"accuracy": [hit / count for hit, count in zip(hits, counted, strict=True)]}

    def total_loss(self, outputs: Tensor, examples: Examples) -> Tensor:
        logits, labels = outputs.flatten(0, 1), examples.targets.flatten()
        return F.cross_entropy(logits, labels, ignore_index=IGNORED, reduction="sum")

    def metric_totals(self, outputs: Tensor, examples: Examples) -> tuple[Tensor, ...]:
        return ((outputs.argmax(-1) == examples.targets).sum(),)


class Regression(Task):
    """Numbers for each example, (N, outputs): the loss is their mean squared error, and all that is measured."""

    metrics = ()
    chosen_by = "loss"
    larger_is_better = False

    def loss(self, outputs: Tensor, examples: Examples) -> Tensor:
        wide = _wide(outputs)
        return F.mse_loss(wide, examples.targets.to(wide.dtype))

    def kept(self, outputs: Tensor, examples: Examples) -> Kept:  # noqa: ARG002
        return ()

    def read(self, steps: Sequence[Kept]) -> dict[str, list[float]]:  # noqa: ARG002
        return {}

    def total_loss(self, outputs: Tensor, examples: Examples) -> Tensor:
        return F.mse_loss(outputs, examples.targets, reduction="sum") / examples.targets[0].numel()


def build_task(name: TaskName, loss: LossSpec) -> Task:
    """The task of that name, with a loss that fits it."""
    match loss:
        case CrossEntropySpec(label_smoothing=smoothing):
            return Tagging(smoothing) if name == "tagging" else Classification(smoothing)
        case MeanSquaredErrorSpec():
            return Regression()
        case _:
            assert_never(loss)


def descended(task: Task, outputs: Tensor, examples: Examples) -> Tensor:
    """The loss of a training step: of examples that were mixed, by the shares of the two."""
    loss = task.loss(outputs, examples)
    if examples.mixed is None:
        return loss
    targets, share = examples.mixed
    return share * loss + (1.0 - share) * task.loss(outputs, examples._replace(targets=targets))


def _wide(outputs: Tensor) -> Tensor:
    return outputs if outputs.dtype == torch.float64 else outputs.float()


def _ends(steps: Sequence[Tensor]) -> list[int]:
    return list(itertools.accumulate(map(len, steps)))


def _within(marks: Tensor, ends: Sequence[int]) -> list[int]:
    """How many marks (M,) there are up to each end, behind the one before."""
    upto: list[int] = marks.cumsum(0)[torch.tensor(ends, device=marks.device) - 1].tolist()
    return [second - first for first, second in itertools.pairwise([0, *upto])]
