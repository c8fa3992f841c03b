"""Inputs less their mean, divided by their standard deviation: both of the training examples and of no others.

Shapes: N examples; C channels of images (N, C, H, W), else features, which are the last axis.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

ROUNDED_AWAY = 2.0**-20
"""Of a deviation: what a mean may lose in float32, which has 2^-24 of the mean at worst. So this changes no bit of data
whose means are below 16 deviations; those of pixels are below 2."""


@dataclass(frozen=True, eq=False)
class Standardization:
    """Mean and standard deviation of each channel, (C,), in float32; the latter is 1 where a channel is constant.

    `rest` (C,) is what means lost when they were rounded, and 0 where that is no more than `ROUNDED_AWAY`; None where
    it is 0 in all channels.
    """

    mean: Tensor
    deviation: Tensor
    rest: Tensor | None = None

    @classmethod
    def of(cls, mean: Tensor, deviation: Tensor) -> "Standardization":
        """By these (C,) in float64."""
        rounded = mean.float()
        rest = mean - rounded.double()
        rest = torch.where(rest.abs() > ROUNDED_AWAY * deviation, rest, 0.0).float()
        return cls(rounded, deviation.float(), rest if rest.any() else None)

    @property
    def whole_mean(self) -> Tensor:
        """`mean` and `rest` together, (C,), in float64: by this and the deviation `of` makes the same again."""
        return self.mean.double() if self.rest is None else self.mean.double() + self.rest.double()

    def to(self, device: torch.device) -> "Standardization":
        """The same on `device`."""
        rest = None if self.rest is None else self.rest.to(device)
        return Standardization(self.mean.to(device), self.deviation.to(device), rest)

    def __call__(self, inputs: Tensor, lengths: Tensor | None = None) -> Tensor:
        """(x - mean) / deviation; what is behind the end of a sequence stays 0."""
        shape = [1] * inputs.dim()
        shape[channel_axis(inputs)] = -1
        # What is near the mean loses nothing here (Sterbenz), and so the rest can be taken off behind it.
        distance = inputs - self.mean.view(shape)
        if self.rest is not None:
            distance = distance - self.rest.view(shape)
        standardized = distance / self.deviation.view(shape)
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
