"""What is found out about a network on some data, a class for each task.

Invariant: outputs come as they are and are taken in double precision, batch by batch, in the order of the examples;
nothing is kept of them but sums and counts.
"""

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from bncore.data import IGNORED, Examples
from bncore.evaluation.calibration import Reliability
from bncore.evaluation.confusion import Confusion
from bncore.spec.data import Task

INLINE_CLASSES = 100
"""Up to so many, a confusion matrix stands in the result: 20,000 numbers of two stages."""
INLINE_PER_CLASS = 1000
"""Up to so many, what is told of each class does."""


class Scores(ABC):
    """Sums over the examples that were added."""

    def __init__(self) -> None:
        self.count = 0
        """What was measured: examples, or steps of sequences that have a label."""
        self._loss = 0.0

    @abstractmethod
    def add(self, outputs: Tensor, examples: Examples) -> None:
        """What the network made of these examples."""

    @abstractmethod
    def result(self) -> dict[str, Any]:
        """All that was found, of Python's own types; numbers may be NaN or infinite."""

    def files(self) -> dict[str, NDArray[np.int64]]:
        """What is too large for the result, by name."""
        return {}


class ClassScores(Scores):
    """Loss, accuracy, confusion and calibration of logits (N, K) for classes (N,); the loss is the cross entropy."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self._classes = classes
        self._hits = 0
        self._confusion = Confusion(classes)
        self._reliability = Reliability()

    def add(self, outputs: Tensor, examples: Examples) -> None:
        self._add(outputs, examples.targets)

    def result(self) -> dict[str, Any]:
        found: dict[str, Any] = {
            "count": self.count,
            "loss": self._loss / self.count,
            "accuracy": self._hits / self.count,
            "calibration_error": self._reliability.error(),
            "reliability": self._reliability.shown(),
        }
        if self._classes <= INLINE_PER_CLASS:
            found["classes"] = self._confusion.per_class()
        if self._classes <= INLINE_CLASSES:
            found["confusion"] = self._confusion.matrix().tolist()
        return found

    def files(self) -> dict[str, NDArray[np.int64]]:
        return {} if self._classes <= INLINE_CLASSES else self._confusion.entries()

    def _add(self, logits: Tensor, targets: Tensor) -> None:
        """Logits (M, K), classes (M,)."""
        logarithms = logits.double().log_softmax(1)
        best, predicted = logarithms.max(1)
        losses = -logarithms.gather(1, targets.unsqueeze(1))
        hits = predicted == targets
        self.count += len(targets)
        self._loss += losses.sum().item()
        self._hits += int(hits.sum().item())
        self._confusion.add(targets.cpu().numpy(), predicted.cpu().numpy())
        self._reliability.add(best.exp().cpu().numpy(), hits.cpu().numpy())


class TagScores(ClassScores):
    """The same over all steps of sequences that have a label, and the share of sequences without a wrong step."""

    def __init__(self, classes: int) -> None:
        super().__init__(classes)
        self._sequences = self._all_right = 0

    def add(self, outputs: Tensor, examples: Examples) -> None:
        labelled = examples.targets != IGNORED
        self._add(outputs[labelled], examples.targets[labelled])
        right = (outputs.argmax(-1) == examples.targets) | ~labelled
        self._sequences += len(right)
        self._all_right += int(right.all(1).sum().item())

    def result(self) -> dict[str, Any]:
        return {**super().result(), "sequence_accuracy": self._all_right / self._sequences}


class NumberScores(Scores):
    """Of a regression (N, outputs): mean squared error (the loss), mean absolute error and R^2, of each output too.

    R^2 = 1 - sum (y - f)^2 / sum (y - mean y)^2; None for an output whose targets are all the same. Without a number
    for an output, the mean over outputs is over the others.
    """

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self._squares, self._magnitudes, self._mean, self._spread = np.zeros((4, outputs), dtype=np.float64)

    def add(self, outputs: Tensor, examples: Examples) -> None:
        targets = examples.targets.double().cpu().numpy()
        errors = outputs.double().cpu().numpy() - targets
        with np.errstate(invalid="ignore", over="ignore"):
            self._squares += np.square(errors).sum(0)
            self._magnitudes += np.abs(errors).sum(0)
        # Merged as in Chan, Golub, LeVeque 1979: a difference of sums of squares would cancel.
        own = targets.mean(0)
        gap, count = own - self._mean, self.count + len(targets)
        self._spread += np.square(targets - own).sum(0) + np.square(gap) * (self.count * len(targets) / count)
        self._mean += gap * (len(targets) / count)
        self.count = count

    def result(self) -> dict[str, Any]:
        squared, absolute = self._squares / self.count, self._magnitudes / self.count
        explained = [
            float(1.0 - of / spread) if spread > 0.0 else None
            for of, spread in zip(self._squares, self._spread, strict=True)
        ]
        known = [value for value in explained if value is not None]
        return {
            "count": self.count,
            "loss": float(squared.mean()),
            "mean_absolute_error": float(absolute.mean()),
            "r2": sum(known) / len(known) if known else None,
            "outputs": {"loss": squared.tolist(), "mean_absolute_error": absolute.tolist(), "r2": explained},
        }


def scores_for(task: Task, outputs: int) -> Scores:
    """Empty ones."""
    match task:
        case "classification":
            return ClassScores(outputs)
        case "tagging":
            return TagScores(outputs)
        case "regression":
            return NumberScores(outputs)


def task_of(targets: Tensor) -> Task:
    """What targets of such a type and shape are for."""
    if targets.is_floating_point():
        return "regression"
    return "classification" if targets.dim() == 1 else "tagging"
