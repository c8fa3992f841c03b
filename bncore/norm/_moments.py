"""Mean and variance as every normalization layer here takes them, and how partial ones combine.

The variance is the biased one (division by the count) and is computed from centred values: E[x^2] - E[x]^2 loses all
digits, and its sign, once the mean is large beside the spread.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Moments:
    """Mean and biased variance over `count` values."""

    mean: Tensor
    var: Tensor
    count: int


def moments(x: Tensor, axes: Sequence[int]) -> Moments:
    """The moments of `x` over `axes`, which are kept with size 1; half-precision input is measured in float32.

    Two passes over the data in primitive operations, so that every order of derivative and every transform holds.
    """
    wide = x.to(statistics_dtype(x.dtype))
    mean = wide.mean(tuple(axes), keepdim=True)
    var = (wide - mean).square().mean(tuple(axes), keepdim=True)
    return Moments(mean, var, number_of_values(x, axes))


def merge(first: Moments, second: Moments) -> Moments:
    """The moments of both sets of values together (Chan, Golub, LeVeque 1979, eq. 2.1)."""
    count = first.count + second.count
    if count == 0:
        return first
    share = second.count / count
    gap = second.mean - first.mean
    spread = first.var * (1.0 - share) + second.var * share
    return Moments(first.mean + gap * share, spread + gap.square() * (share * (1.0 - share)), count)


def number_of_values(x: Tensor, axes: Sequence[int]) -> int:
    """The product of the sizes of these axes.

    Not `torch.Size.numel`, which makes a constant of a size that an exported program leaves open, and not `math.prod`,
    which the compiler does not follow.
    """
    count = 1
    for axis in axes:
        count *= x.shape[axis]
    return count


def channel_axes(x: Tensor) -> list[int]:
    """All axes of a batch but the channel axis 1."""
    return [axis for axis in range(x.dim()) if axis != 1]


def along_channels(vector: Tensor, like: Tensor) -> Tensor:
    """A vector with one value a channel, shaped to broadcast against a batch."""
    return vector.view(1, -1, *(1,) * (like.dim() - 2))


def statistics_dtype(dtype: torch.dtype) -> torch.dtype:
    """Half-precision types are measured in float32, others in their own precision."""
    return torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype
