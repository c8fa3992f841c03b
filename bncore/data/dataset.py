"""What a data set is to the trainer: examples of each part, checked once before training."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

IGNORED = -1
"""The target of a step that is no part of its sequence."""


class InvalidData(ValueError):
    """A data set that no network can be trained on."""


class Examples(NamedTuple):
    """Inputs (N, ...), float32; targets; and of padded sequences the number of steps each has (N,), int64.

    Targets are classes (N,), int64; a class for each step (N, T), int64, `IGNORED` behind the end; or the numbers of a
    regression (N, outputs), float32.
    """

    inputs: Tensor
    targets: Tensor
    lengths: Tensor | None = None

    def to(self, device: torch.device) -> "Examples":
        """The same examples on `device`."""
        lengths = self.lengths
        return Examples(
            self.inputs.to(device), self.targets.to(device), None if lengths is None else lengths.to(device)
        )

    def select(self, index: Tensor) -> "Examples":
        """Those of these numbers, which lie on the device of the examples."""
        lengths = self.lengths
        return Examples(
            self.inputs.index_select(0, index),
            self.targets.index_select(0, index),
            None if lengths is None else lengths.index_select(0, index),
        )

    def slice(self, first: int, end: int) -> "Examples":
        """Those from `first` up to `end`, as views."""
        lengths = self.lengths
        return Examples(
            self.inputs[first:end], self.targets[first:end], None if lengths is None else lengths[first:end]
        )


@dataclass(frozen=True)
class DataSet:
    """The parts of a data set; `outputs` is the number of classes, or of what a regression predicts."""

    train: Examples
    test: Examples
    outputs: int
    validation: Examples | None = None

    @property
    def parts(self) -> dict[str, Examples]:
        """Those that there are, by name."""
        parts = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: part for name, part in parts.items() if part is not None}

    def to(self, device: torch.device) -> "DataSet":
        """The same data on `device`."""
        return DataSet(outputs=self.outputs, **{name: part.to(device) for name, part in self.parts.items()})


def check(data: DataSet) -> None:
    """Raise `InvalidData` for non-finite numbers, classes out of range, or parts that do not match."""
    for name, part in data.parts.items():
        if len(part.inputs) != len(part.targets) or len(part.inputs) == 0:
            raise InvalidData(f"{name} part: {len(part.inputs)} inputs and {len(part.targets)} targets")
        if not torch.isfinite(part.inputs).all():
            raise InvalidData(f"{name} part: an input is not finite")
        if part.targets.is_floating_point():
            if not torch.isfinite(part.targets).all():
                raise InvalidData(f"{name} part: a target is not finite")
        else:
            _check_classes(name, part, data.outputs)
        if part.lengths is not None:
            _check_lengths(name, part, part.lengths)


def _check_classes(name: str, part: Examples, classes: int) -> None:
    counted = part.targets if part.lengths is None else part.targets[part.targets != IGNORED]
    if counted.numel() == 0 or counted.min() < 0 or counted.max() >= classes:
        raise InvalidData(f"{name} part: a class is outside 0 to {classes - 1}")


def _check_lengths(name: str, part: Examples, lengths: Tensor) -> None:
    steps = part.inputs.shape[1]
    if lengths.shape != part.inputs.shape[:1] or lengths.min() < 1 or lengths.max() > steps:
        raise InvalidData(f"{name} part: a length for each sequence is wanted, from 1 to {steps}")
