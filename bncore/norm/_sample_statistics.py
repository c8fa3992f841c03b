"""Statistics of the positions of each channel of each sample, and those of groups, samples and batches made from them.

One reading of the data gives all of them, because sets of equal size pool exactly. Values are centred before they are
squared, and every formula is differentiable to any order.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bncore.norm._affine import scale_and_shift
from bncore.norm._dispatch import being_transformed
from bncore.norm._moments import statistics_dtype


@dataclass(frozen=True)
class Spread:
    """Mean and biased variance of sets of equal size, which lie along the axes that are not 1."""

    mean: Tensor
    var: Tensor


@dataclass(frozen=True)
class Instances(Spread):
    """The moments (N, C, 1, ...) of each channel of each sample, and the values, as they are and minus their mean."""

    values: Tensor
    centred: Tensor


def instances(x: Tensor) -> Instances:
    """Each channel of each sample by itself; half-precision input is measured in float32."""
    wide = x.to(statistics_dtype(x.dtype))
    axes = position_axes(x)
    if not axes:
        return Instances(wide, torch.zeros_like(wide), wide, torch.zeros_like(wide))
    mean = wide.mean(axes, keepdim=True)
    centred = wide - mean
    # What rounding left in the mean of large numbers; as a function of x it is 0.
    rest = centred.detach().mean(axes, keepdim=True)
    centred.sub_(rest)
    return Instances(mean + rest, mean_square(centred), wide, centred)


def pooled(parts: Spread, axis: int) -> Spread:
    """Of the unions of the sets along `axis`, which is kept with size 1."""
    mean = parts.mean.mean(axis, keepdim=True)
    return Spread(mean, (parts.var + (parts.mean - mean).square()).mean(axis, keepdim=True))


def mean_square(x: Tensor) -> Tensor:
    """The mean of the squares over positions (N, C, 1, ...), at least in float32."""
    if not position_axes(x):
        return x.to(statistics_dtype(x.dtype)).square()
    if torch.compiler.is_compiling() or being_transformed(x):
        return _mean_square(x)
    square: Tensor = _MeanSquare.apply(x)
    return square


def position_axes(x: Tensor) -> tuple[int, ...]:
    """All axes behind the channel axis."""
    return tuple(range(2, x.dim()))


def rescale(x: Tensor, scale: Tensor, shift: Tensor | None, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    """`weight * (x * scale + shift) + bias` with a few values per channel each, so that x is passed over twice."""
    y = x * scale_and_shift(scale, weight, None)
    return scale_and_shift(y, None, bias) if shift is None else y + scale_and_shift(shift, weight, bias)


def _mean_square(x: Tensor) -> Tensor:
    return x.to(statistics_dtype(x.dtype)).square().mean(position_axes(x), keepdim=True)


class _MeanSquare(torch.autograd.Function):
    """The same without the squares in memory, where the layout allows it: a quarter of the time."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        if not x.is_contiguous():
            return _mean_square(x)
        axes = position_axes(x)
        norm = torch.linalg.vector_norm(x, 2, axes, keepdim=True, dtype=statistics_dtype(x.dtype))
        return norm.square_().div_(x.shape[2:].numel())

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        # In differentiable operations on x itself, so that further derivatives are right.
        return (x * (grads[0] * 2.0 / x.shape[2:].numel())).to(x.dtype)
