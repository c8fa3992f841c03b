"""The last pass of normalizations whose statistics are a few numbers per channel, which fold into scale and shift."""

from typing import Any

import torch
from torch import Tensor

from bncore.norm._affine import scale_and_shift
from bncore.norm._dispatch import times_
from bncore.norm._override import apply
from bncore.norm._sample_statistics import Spread, spelled_out


def standardize_instances(
    x: Tensor, instance: Spread, scale: Tensor, shift: Tensor, weight: Tensor | None, bias: Tensor | None
) -> Tensor:
    """`weight * ((x - mean) * scale + shift) + bias` with the mean of each instance."""
    shift = scale_and_shift(shift - instance.offset * scale, weight, bias)
    return rescale(x, scale_and_shift(scale, weight, None), shift, instance.origin)


def rescale(x: Tensor, scale: Tensor, shift: Tensor | None, origin: Tensor | None = None) -> Tensor:
    """`(x - origin) * scale + shift`; no derivative for the origin, which is a constant."""
    if spelled_out(x):
        y = (x if origin is None else x - origin) * scale
        return y if shift is None else y + shift
    rescaled: Tensor = apply(_Rescale, x, scale, shift, origin)
    return rescaled


class _Rescale(torch.autograd.Function):
    """Makes one new tensor forwards and two backwards, and keeps x alone: new memory costs more than arithmetic."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, shift: Tensor | None, origin: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, scale, origin)
        ctx.shape = None if shift is None else shift.shape
        y = x * scale if origin is None else (x - origin).mul_(scale)
        return y if shift is None else y.add_(shift)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, scale, origin = ctx.saved_tensors
        (grad,) = grads
        into_scale = grad * x if origin is None else times_(x - origin, grad)
        into_x, into_shift = (grad * scale).to(x.dtype), None if ctx.shape is None else grad.sum_to_size(ctx.shape)
        return into_x, into_scale.sum_to_size(scale.shape), into_shift, None
