"""Ghost batch norm: a batch normalized in groups of neighbours.

Shapes: N examples in G groups of R, with S positions and C channels each. A group is a contiguous piece of memory in
either layout. All groups together are a block: a table (G, R, C, S), or in channels_last rows (G, R * S, C). Vectors of
groups broadcast against it: (G, 1, C, 1) or (G, 1, C).
Invariant: the groups are those of `torch.tensor_split`, whatever the layout, the type, the device and the way.
"""

from typing import Any

import torch
from torch import Tensor

from bncore.norm._dispatch import can_be_asked, may_use_native
from bncore.norm._group_passes import differentiate_block, standardize_block
from bncore.norm._moments import statistics_dtype
from bncore.norm._native import (
    as_taken,
    in_one_piece,
    scale_beside,
    takes,
    together_right_to_second_order,
)
from bncore.norm._override import apply
from bncore.norm._parts import differentiable_gradients
from bncore.norm._torch import cudnn_enabled, is_stack_of_gradients

_FEW = 8
"""Groups, for which a call each of the kernel costs less than a function in Python, as long as they are small."""
_SMALL, _SMALL_IN_ROWS = 2**16, 2**18
"""Values in a group: rows take the kernel less time than tables, so that it is worth it for more."""
Results = tuple[Tensor, Tensor, Tensor]


def standardize_groups(x: Tensor, groups: int, weight: Tensor | None, bias: Tensor | None, eps: float) -> Results:
    """`weight * (x - mean) / sqrt(var + eps) + bias` by the moments of the group of each example of (N, C, ...).

    With the average over groups of their means and unbiased variances (C,).
    """
    primitive = is_spelled_out(x)
    if not primitive and are_few_and_small(x, groups):
        return _each_by_itself(x, groups, weight, bias, eps)
    standardize = _in_primitives if primitive else _by_function
    # Not `divmod`, of which the compiler makes no graph where the number of examples is left open.
    each, larger = x.shape[0] // groups, x.shape[0] % groups
    if larger == 0:
        return standardize(x, groups, weight, bias, eps)
    # Not slices: each would fill a gradient of the size of the batch with zeros.
    parts = x.split((larger * (each + 1), (groups - larger) * each))
    first, others = (
        standardize(part, number, weight, bias, eps)
        for part, number in zip(parts, (larger, groups - larger), strict=True)
    )
    y = torch.cat((first[0].movedim(1, -1), others[0].movedim(1, -1))).movedim(-1, 1)
    mean, var = (one.lerp(other, 1 - larger / groups) for one, other in zip(first[1:], others[1:], strict=True))
    return y, mean, var


def normalize_few(
    x: Tensor,
    groups: int,
    mean: Tensor,
    var: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    momentum: float,
    eps: float,
) -> Tensor:
    """The output alone, by a call of the kernel for each group.

    They move `mean` and `var` (C,), of the type of statistics, by `momentum` (0 to 1) towards the averages over groups.
    The kernel takes the other vectors beside those.
    """
    each, larger = divmod(len(x), groups)
    parts = x.split([each + 1] * larger + [each] * (groups - larger))
    weight, share = in_one_piece(scale_beside(bias, weight)), momentum / groups
    # What a group moves, the later ones take a part of: with these momenta, all have the same share in the end.
    momenta = [share / (1.0 - later * share) for later in range(groups - 1, -1, -1)]
    kernel, cudnn = torch.batch_norm, cudnn_enabled()
    normalized = [
        kernel(part, weight, bias, mean, var, True, own, eps, cudnn) for part, own in zip(parts, momenta, strict=True)
    ]
    return together_right_to_second_order(normalized)


def are_few_and_small(x: Tensor, groups: int) -> bool:
    """Whether `normalize_few` is the way that costs least, where it is one."""
    return groups <= _FEW and x.numel() < groups * (_SMALL if x.is_contiguous() else _SMALL_IN_ROWS)


def is_spelled_out(x: Tensor) -> bool:
    """Whether groups are normalized by primitive operations, and nothing may be asked of `x` but its shape."""
    return torch.compiler.is_compiling() or not may_use_native(x) or not can_be_asked(x)


def _in_primitives(x: Tensor, groups: int, weight: Tensor | None, bias: Tensor | None, eps: float) -> Results:
    """The same for groups of one size, so that derivatives of every order are right."""
    rows = x.movedim(1, -1).to(statistics_dtype(x.dtype))
    block = rows.reshape(groups, x.shape[0] // groups, -1, x.shape[1])
    count = block.shape[1] * block.shape[2]
    mean = block.mean((1, 2), keepdim=True)
    centred = block - mean
    var = centred.square().mean((1, 2), keepdim=True)
    y = (centred * (var + eps).rsqrt()).reshape(rows.shape)
    y = y if weight is None else y * weight
    y = (y if bias is None else y + bias).to(x.dtype).movedim(-1, 1)
    return y, mean.mean((0, 1, 2)), (var * (count / (count - 1))).mean((0, 1, 2))


def _each_by_itself(x: Tensor, groups: int, weight: Tensor | None, bias: Tensor | None, eps: float) -> Results:
    mean, var = (torch.zeros(x.shape[1], dtype=statistics_dtype(x.dtype), device=x.device) for _ in range(2))
    if not takes(x, mean, weight, bias):
        weight, bias = as_taken(x, weight, bias)
    return normalize_few(x, groups, mean, var, weight, bias, 1.0, eps), mean, var


def _by_function(x: Tensor, groups: int, weight: Tensor | None, bias: Tensor | None, eps: float) -> Results:
    if not x.is_contiguous() and not _lies_in_rows(x):
        x = x.contiguous()
    y, mean, var = apply(_StandardizeGroups, x, groups, weight, bias, eps)
    return y, mean, var


class _StandardizeGroups(torch.autograd.Function):
    """The output of `_in_primitives`, differentiated through mean and variance as functions of the batch."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, groups: int, weight: Tensor | None, bias: Tensor | None, eps: float
    ) -> tuple[Tensor, ...]:
        rows = x.dim() == 2 or not x.is_contiguous()
        y = torch.empty_like(x)
        block, into = _block(x, groups, rows), _block(y, groups, rows)
        scale, shift = _beside(block, weight, bias)
        mean, inverse_sigma, *newest, ctx.is_far = standardize_block(block, into, scale, shift, eps)
        ctx.save_for_backward(x, weight, bias, mean, inverse_sigma)
        ctx.groups, ctx.eps, ctx.rows = groups, eps, rows
        ctx.mark_non_differentiable(*newest)
        ctx.set_materialize_grads(False)
        return y, *newest

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:
        if grad is None:
            return (None,) * 5
        x, weight, bias, mean, inverse_sigma = ctx.saved_tensors
        if torch.is_grad_enabled() or is_stack_of_gradients(grad):
            return _gradients_in_primitives(ctx, grad)
        wants = ctx.needs_input_grad
        # Hooks may have brought the batch back in another layout, and a gradient may have any.
        block, of = _block(x, ctx.groups, ctx.rows), _block(grad, ctx.groups, ctx.rows)
        into = torch.empty_like(block)
        (scale,) = _beside(block, weight)
        moments = mean, inverse_sigma, ctx.is_far
        found = differentiate_block(block, of, into if wants[0] else None, scale, *moments)
        into_x = None
        if wants[0]:
            into_x = into.view(len(x), *x.shape[2:], -1).movedim(-1, 1) if ctx.rows else into.view(x.shape)
        of_weight, of_bias = found.sum(1).view(2, -1).unbind()
        into_weight = of_weight.to(weight.dtype) if wants[2] else None
        into_bias = of_bias.to(bias.dtype) if wants[3] else None
        return into_x, None, into_weight, into_bias, None


def _gradients_in_primitives(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    """Of any order, or of a stack, for which there is no writing into memory."""
    x, weight, bias, *_ = ctx.saved_tensors

    def compute(x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
        return _in_primitives(x, ctx.groups, weight, bias, ctx.eps)[0]

    wants = ctx.needs_input_grad
    with torch.enable_grad():
        found = differentiable_gradients(compute, (x, weight, bias), (wants[0], *wants[2:4]), grad)
    if not torch.is_grad_enabled():
        # Not `detach`, which a stack does not know.
        found = [one if one is None else one.clone() for one in found]
    return found[0], None, *found[1:], None


def _lies_in_rows(x: Tensor) -> bool:
    """Whether it is (N, ..., C) in memory: in channels_last, or vectors."""
    return x.movedim(1, -1).is_contiguous()


def _block(x: Tensor, groups: int, rows: bool) -> Tensor:
    """A view where the batch lies so."""
    if rows:
        return (x if x.dim() == 2 else x.movedim(1, -1)).contiguous().view(groups, -1, x.shape[1])
    return x.contiguous().view(groups, x.shape[0] // groups, x.shape[1], -1)


def _beside(block: Tensor, *vectors: Tensor | None) -> list[Tensor | None]:
    """Vectors (C,) in the type of statistics, shaped to broadcast against the block."""
    dtype = statistics_dtype(block.dtype)
    wide = [vector if vector is None or vector.dtype is dtype else vector.to(dtype) for vector in vectors]
    return wide if block.dim() == 3 else [None if vector is None else vector.view(-1, 1) for vector in wide]
