"""Inputs less their mean, divided by their standard deviation: both of the training examples and of no others.

Shapes: N examples; C channels of images (N, C, H, W), else features, which are the last axis.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Standardization:
    """Mean and standard deviation of each channel, (C,), in float32; the latter is 1 where a channel is constant.

    `axis` is that of the channels in a batch: 1 of images, else -1.
    """

    mean: Tensor
    deviation: Tensor
    axis: int

    def to(self, device: torch.device) -> "Standardization":
        """The same on `device`."""
        return Standardization(self.mean.to(device), self.deviation.to(device), self.axis)

    def __call__(self, inputs: Tensor, lengths: Tensor | None = None) -> Tensor:
        """(x - mean) / deviation; what is behind the end of a sequence stays 0."""
        tail = (1,) * (inputs.dim() - 2) if self.axis == 1 else ()
        standardized = (inputs - self.mean.view(-1, *tail)) / self.deviation.view(-1, *tail)
        if lengths is None:
            return standardized
        return torch.where(is_valid(inputs, lengths).unsqueeze(-1), standardized, 0.0)


def is_valid(sequences: Tensor, lengths: Tensor) -> Tensor:
    """Which steps are no padding, (N, T)."""
    return torch.arange(sequences.shape[1], device=sequences.device) < lengths.unsqueeze(1)
