"""Statistics of the positions of each channel of each sample, and those of groups, samples and batches made from them.

One set of them serves all, because sets of equal size pool exactly. A mean is kept as an origin, which is a constant,
and an offset from it: means that are large beside the spread of the values then differ by what they really differ by,
and not by their rounding.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bncore.norm._dispatch import being_transformed, times_
from bncore.norm._moments import number_of_values, statistics_dtype

_MANY = 2**16
"""Of positions. torch's norm adds up so many squares with an error of 2e-6 of their sum, and more with an error that
grows with their number; its mean has no such limit."""


@dataclass(frozen=True)
class Spread:
    """Mean, `origin + offset`, and biased variance of sets of equal size, which lie along the axes that are not 1."""

    origin: Tensor
    offset: Tensor
    var: Tensor

    @property
    def mean(self) -> Tensor:
        return self.origin + self.offset

    def above(self, other: "Spread") -> Tensor:
        """The difference of the means."""
        return (self.origin - other.origin) + (self.offset - other.offset)


def instances(x: Tensor) -> Spread:
    """Each channel of each sample of (N, C, ...) by itself, at least in float32."""
    axes = position_axes(x)
    if not axes:
        wide = x.to(statistics_dtype(x.dtype))
        return Spread(torch.zeros_like(wide), wide, torch.zeros_like(wide))
    origin = x.detach().mean(axes, keepdim=True, dtype=statistics_dtype(x.dtype))
    if spelled_out(x):
        centred = x - origin
        offset = centred.mean(axes, keepdim=True)
        return Spread(origin, offset, (centred - offset).square().mean(axes, keepdim=True))
    offset, var = _Moments.apply(x, origin)
    return Spread(origin, offset, var)


def pooled(parts: Spread, axis: int) -> Spread:
    """Of the unions of the sets along `axis`, which is kept with size 1."""
    origin = parts.origin.mean(axis, keepdim=True)
    of_parts = (parts.origin - origin) + parts.offset
    offset = of_parts.mean(axis, keepdim=True)
    return Spread(origin, offset, (parts.var + (of_parts - offset).square()).mean(axis, keepdim=True))


def mean_square(x: Tensor) -> Tensor:
    """The mean of the squares over positions (N, C, 1, ...), at least in float32."""
    if not position_axes(x):
        return x.to(statistics_dtype(x.dtype)).square()
    if spelled_out(x):
        return x.to(statistics_dtype(x.dtype)).square().mean(position_axes(x), keepdim=True)
    square: Tensor = _MeanSquare.apply(x)
    return square


def position_axes(x: Tensor) -> tuple[int, ...]:
    """All axes behind the channel axis. Beware: to torch, no axes are all axes."""
    return tuple(range(2, x.dim()))


def positions_of(x: Tensor) -> int:
    """How many positions there are; 1 where there is no axis of them."""
    return number_of_values(x, position_axes(x))


def spelled_out(x: Tensor) -> bool:
    """Whether to leave out the functions below that save passes over memory: compilers and transforms do without."""
    return torch.compiler.is_compiling() or being_transformed(x)


class _Moments(torch.autograd.Function):
    """Offset of the mean from `origin`, and variance; keeps nothing for the backward pass but x."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, origin: Tensor) -> tuple[Tensor, Tensor]:
        centred = x - origin
        offset = centred.mean(position_axes(x), keepdim=True)
        ctx.save_for_backward(x, origin, offset)
        return offset, _mean_square(centred).sub_(offset.square()).clamp_min_(0.0)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        # Differentiable operations on inputs and outputs, here and below: further derivatives are right.
        x, origin, offset = ctx.saved_tensors
        into_offset, into_var = (grad / positions_of(x) for grad in grads)
        slope = 2.0 * into_var
        return times_(x - origin, slope).add_(into_offset - offset * slope).to(x.dtype), None


class _MeanSquare(torch.autograd.Function):
    """Without the squares in memory where the layout allows it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return _mean_square(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        x: Tensor = ctx.saved_tensors[0]
        return (x * (grads[0] * 2.0 / positions_of(x))).to(x.dtype)


def _mean_square(x: Tensor) -> Tensor:
    axes, wide = position_axes(x), statistics_dtype(x.dtype)
    if not x.is_contiguous() or positions_of(x) > _MANY:
        # Across positions that are not neighbours in memory, torch's norm is slow.
        return x.to(wide).square().mean(axes, keepdim=True)
    norm = torch.linalg.vector_norm(x, 2, axes, keepdim=True, dtype=wide)
    square: Tensor = norm.square_().div_(positions_of(x))
    return square
