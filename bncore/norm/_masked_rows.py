"""Masked batch norm of rows: batches in which the channels of a position lie side by side, as in channels_last.

Valid rows are copied out, torch's own batch norm sees these alone, and its output is copied back: less work than to
mask every pass, and padding is not even read. Only on the CPU, since the number of valid rows shapes the tensors and
reading it would stall a GPU.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from bncore.norm._affine import scale_and_shift
from bncore.norm._moments import moments, statistics_dtype
from bncore.norm._native import in_one_piece
from bncore.norm._override import apply
from bncore.norm._parts import differentiable_gradients
from bncore.norm._torch import batch_norm_backward
from bncore.norm.batch_norm import standardize


def lies_in_rows(x: Tensor, weight: Tensor | None) -> bool:
    """Whether `x` (N, C, ...) is stored as rows of C, in the precision of its statistics and of `weight`.

    Torch's kernel for half precision in this layout loses digits where the mean is large.
    """
    one_precision = x.dtype == statistics_dtype(x.dtype) and (weight is None or weight.dtype == x.dtype)
    return one_precision and x.device.type == "cpu" and x.movedim(1, -1).is_contiguous()


def normalize_rows(
    x: Tensor, mask: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
) -> tuple[Tensor, Tensor, Tensor, int]:
    """The output, 0 in the padding, and the mean (C,), unbiased variance (C,) and number of valid values."""
    flat = mask.reshape(-1)
    valid = flat.nonzero().squeeze(1).int()
    count = len(valid)
    # Which of the valid rows, counted from 1, each position is; 0 for padding.
    places = flat.cumsum(0, dtype=torch.int32).mul_(flat)
    in_memory = x.movedim(1, -1)
    rows: Tensor = apply(_Take, in_memory.reshape(-1, x.shape[1]), valid, places)
    mean, var = x.new_zeros(2, x.shape[1])
    if count == 0:
        rows = scale_and_shift(rows, weight, bias)
    else:
        # With momentum 1 the kernel leaves the batch's own statistics in the running ones.
        rows = apply(_NormalizeRows, rows, in_one_piece(weight), bias, mean, var, eps)
    y: Tensor = apply(_PutBack, rows, valid, places)
    return y.view(in_memory.shape).movedim(-1, 1), mean, var, count


class _NormalizeRows(torch.autograd.Function):
    """Torch's batch norm of (V, C), whose own third derivative is silently wrong; leaves the statistics of the rows."""

    @staticmethod
    def forward(
        ctx: Any, rows: Tensor, weight: Tensor | None, bias: Tensor | None, mean: Tensor, var: Tensor, eps: float
    ) -> Tensor:
        y, *statistics = torch.native_batch_norm(rows, weight, bias, mean, var, True, 1.0, eps)
        ctx.save_for_backward(rows, weight, bias, *statistics)
        ctx.eps = eps
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        rows, weight, bias, *statistics = ctx.saved_tensors
        wanted = ctx.needs_input_grad[:3]
        inputs: Sequence[Tensor | None]
        if torch.is_grad_enabled():

            def compute(rows: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
                batch = moments(rows, [0])
                return standardize(rows, batch.mean.flatten(), batch.var.flatten(), ctx.eps, weight, bias)

            inputs = differentiable_gradients(compute, (rows, weight, bias), wanted, grads[0])
        else:
            inputs = batch_norm_backward(grads[0], rows, weight, None, None, *statistics, True, ctx.eps, wanted)
        return (*inputs, None, None, None)


class _Take(torch.autograd.Function):
    """The valid rows (V, C) of rows (M, C). Its gradient is `_PutBack`, and the other way round."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, valid: Tensor, places: Tensor) -> Tensor:
        ctx.save_for_backward(valid, places)
        return rows.index_select(0, valid)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return _PutBack.apply(grads[0], *ctx.saved_tensors), None, None


class _PutBack(torch.autograd.Function):
    """The rows (M, C) whose valid rows these are; 0 in the padding."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, valid: Tensor, places: Tensor) -> Tensor:
        ctx.save_for_backward(valid, places)
        zero = rows.new_zeros(1, rows.shape[1])
        return torch.cat((zero, rows)).index_select(0, places)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return _Take.apply(grads[0], *ctx.saved_tensors), None, None
