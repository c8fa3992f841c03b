"""Batch norm of each column of a table by itself: what ghost batch norm does with a batch in channels_last.

Shapes: a table (R, G, S, C) of R rows, G columns, S positions and C channels; statistics (G, C). Nothing is copied:
sums go over positions and then over rows, which for channels that lie together in memory is as fast as memory.
"""

from typing import Any

import torch
from torch import Tensor

from bncore.norm._dispatch import may_use_native
from bncore.norm._moments import statistics_dtype
from bncore.norm._override import apply
from bncore.norm._parts import differentiable_gradients
from bncore.norm._torch import is_stack_of_gradients, squared_distances


def standardize_columns(
    table: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """`weight * (x - mean) / sqrt(var + eps) + bias`, and of each column mean and unbiased variance (G, C)."""
    count = table.shape[0] * table.shape[2]
    if not may_use_native(table):
        y, mean, var = _in_primitives(table, weight, bias, eps)
        return y, mean, var * (count / (count - 1))
    y, mean, var = apply(_StandardizeColumns, table, weight, bias, eps)
    return y, mean, var * (count / (count - 1))


def _wide(x: Tensor) -> Tensor:
    return x.to(statistics_dtype(x.dtype))


def _sums(table: Tensor) -> Tensor:
    """Over rows and positions, (G, C). Over both at once, torch goes through memory in strides."""
    return table.sum(2).sum(0)


def _addcmul_in(memory: Tensor, base: Tensor, x: Tensor, factor: Tensor) -> Tensor:
    """`base + x * factor`, in the memory of a tensor that is of no more use: new memory costs as much as a pass."""
    if torch.compiler.is_compiling() or is_stack_of_gradients(memory):
        return torch.addcmul(base, x, factor)
    return torch.addcmul(base, x, factor, out=memory)


def _in_primitives(
    table: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """The table standardized, with mean and biased variance (G, C), so that derivatives of every order are right."""
    wide = _wide(table)
    mean = wide.mean((0, 2))
    centred = wide - mean.unsqueeze(1)
    var = centred.square().mean((0, 2))
    y = centred * (var + eps).rsqrt().unsqueeze(1)
    y = y if weight is None else y * weight
    return (y if bias is None else y + bias).to(table.dtype), mean, var


class _StandardizeColumns(torch.autograd.Function):
    """The output of `_in_primitives`, differentiated through mean and variance as functions of the table."""

    @staticmethod
    def forward(
        ctx: Any, table: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        count = table.shape[0] * table.shape[2]
        wide = _wide(table)
        mean = _sums(wide) / count
        distances = squared_distances(wide, mean.unsqueeze(1))
        var = _sums(distances) / count
        inverse_sigma = (var + eps).rsqrt()
        ctx.save_for_backward(table, weight, bias, mean, inverse_sigma)
        ctx.eps = eps
        ctx.mark_non_differentiable(mean, var)
        scale = inverse_sigma if weight is None else inverse_sigma * weight
        shift = -mean * scale if bias is None else torch.addcmul(bias, mean, scale, value=-1)
        y = _addcmul_in(distances, shift.unsqueeze(1), wide, scale.unsqueeze(1))
        return y.to(table.dtype), mean, var

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        table, weight, bias, mean, inverse_sigma = ctx.saved_tensors
        if torch.is_grad_enabled():

            def compute(table: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
                return _in_primitives(table, weight, bias, ctx.eps)[0]

            wanted = ctx.needs_input_grad[:3]
            return (*differentiable_gradients(compute, (table, weight, bias), wanted, grads[0]), None)
        grad, centred = _wide(grads[0]), _wide(table) - mean.unsqueeze(1)
        products = grad * centred
        by_shift, by_scale = _sums(grad), _sums(products) * inverse_sigma
        into_table = None
        if ctx.needs_input_grad[0]:
            count = table.shape[0] * table.shape[2]
            scale = inverse_sigma if weight is None else inverse_sigma * weight
            slope, constant = -scale * inverse_sigma * by_scale / count, -scale * by_shift / count
            into_table = _addcmul_in(products, constant.unsqueeze(1), centred, slope.unsqueeze(1))
            into_table = into_table.addcmul_(grad, scale.unsqueeze(1)).to(table.dtype)
        into_weight = by_scale.sum(0).to(weight.dtype) if ctx.needs_input_grad[1] else None
        into_bias = by_shift.sum(0).to(bias.dtype) if ctx.needs_input_grad[2] else None
        return into_table, into_weight, into_bias, None
