"""Inputs less their mean, divided by their standard deviation: both of the training examples and of no others.

Shapes: N examples; C channels of images (N, C, H, W), else features, which are the last axis.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Standardization:
    """Mean and standard deviation of each channel, (C,), in float32; the latter is 1 where a channel is constant."""

    mean: Tensor
    deviation: Tensor

    def to(self, device: torch.device) -> "Standardization":
        """The same on `device`."""
        return Standardization(self.mean.to(device), self.deviation.to(device))

    def __call__(self, inputs: Tensor, lengths: Tensor | None = None) -> Tensor:
        """(x - mean) / deviation; what is behind the end of a sequence stays 0."""
        shape = [1] * inputs.dim()
        shape[channel_axis(inputs)] = -1
        standardized = (inputs - self.mean.view(shape)) / self.deviation.view(shape)
        if lengths is None:
            return standardized
        return torch.where(is_valid(inputs, lengths).unsqueeze(-1), standardized, 0.0)


def channel_axis(inputs: Tensor) -> int:
    """Along which axis channels or features lie."""
    return 1 if inputs.dim() == 4 else -1


def channels_of(inputs: Tensor) -> int:
    """How many channels or features they have."""
    return inputs.shape[channel_axis(inputs)]


def is_valid(sequences: Tensor, lengths: Tensor) -> Tensor:
    """Which steps are no padding, (N, T)."""
    return torch.arange(sequences.shape[1], device=sequences.device) < lengths.unsqueeze(1)
