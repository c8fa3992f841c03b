"""What a data set is to the trainer: inputs and labels of two parts, checked once before training."""

from dataclasses import dataclass

import torch
from torch import Tensor


class InvalidData(ValueError):
    """A data set that no network can be trained on."""


@dataclass(frozen=True)
class DataSet:
    """Inputs (N, channels, height, width), float32; labels (N,), int64, from 0 to `classes` - 1."""

    train_inputs: Tensor
    train_labels: Tensor
    test_inputs: Tensor
    test_labels: Tensor
    classes: int

    def to(self, device: torch.device) -> "DataSet":
        """The same data on `device`."""
        return DataSet(
            self.train_inputs.to(device),
            self.train_labels.to(device),
            self.test_inputs.to(device),
            self.test_labels.to(device),
            self.classes,
        )


def check(data: DataSet) -> None:
    """Raise `InvalidData` for non-finite inputs, labels out of range, or parts that do not match."""
    parts = (("train", data.train_inputs, data.train_labels), ("test", data.test_inputs, data.test_labels))
    for part, inputs, labels in parts:
        if len(inputs) != len(labels) or len(inputs) == 0:
            raise InvalidData(f"{part} part: {len(inputs)} inputs and {len(labels)} labels")
        if not torch.isfinite(inputs).all():
            raise InvalidData(f"{part} part: an input is not finite")
        if labels.min() < 0 or labels.max() >= data.classes:
            raise InvalidData(f"{part} part: a label is outside 0 to {data.classes - 1}")
