"""Ghost batch norm: a batch normalized in groups of neighbours.

Shapes: N examples in G groups of R, with S positions and C channels each. A group is a contiguous piece of memory in
either layout. All groups together are a block: a table (G, R, C, S), or in channels_last rows (G, R * S, C). Vectors of
groups broadcast against it: (G, 1, C, 1) or (G, 1, C).
Invariant: the groups are those of `torch.tensor_split`, whatever the layout, the type, the device and the way.

On CPUs, passes over all groups at once take less time than torch's kernel for batch norm takes for the whole batch, but
for the sums over long rows, which are quicker by the kernel, group by group. In half precision and on other devices,
the kernel does all of it, group by group, and writes into pieces of one result.
"""

from typing import Any

import torch
from torch import Tensor

from bncore.norm._dispatch import can_be_asked, may_use_native
from bncore.norm._moments import statistics_dtype
from bncore.norm._native import as_taken, batch_norm_of_one_type, takes
from bncore.norm._override import apply
from bncore.norm._parts import differentiable_gradients
from bncore.norm._torch import (
    batch_norm_backward,
    batch_norm_in,
    batch_statistics,
    doubled_products_in,
    is_stack_of_gradients,
    squared_distances_in,
)

_MANY_VALUES = 2**15
"""In a group, above which the sums of the kernel are quicker, for all that a call of it costs."""
_FEW = 6
"""Groups, for which a call each of the kernel costs less than a function in Python, as long as they are small."""
_FAR = 8.0
"""Deviations between a mean and zero, beyond which the kernel's sum, one after another in float32, is not enough."""
Results = tuple[Tensor, Tensor, Tensor]


def standardize_groups(x: Tensor, groups: int, weight: Tensor | None, bias: Tensor | None, eps: float) -> Results:
    """`weight * (x - mean) / sqrt(var + eps) + bias` by the moments of the group of each example of (N, C, ...).

    With the average over groups of their means and unbiased variances (C,).
    """
    primitive = torch.compiler.is_compiling() or not may_use_native(x) or not can_be_asked(x)
    if not primitive and groups <= _FEW and x.numel() < groups * _MANY_VALUES:
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


def _in_primitives(x: Tensor, groups: int, weight: Tensor | None, bias: Tensor | None, eps: float) -> Results:
    """The same for groups of one size, so that derivatives of every order are right."""
    block = x.movedim(1, -1).flatten(1, -2).to(statistics_dtype(x.dtype)).unflatten(0, (groups, -1))
    count = block.shape[1] * block.shape[2]
    mean = block.mean((1, 2), keepdim=True)
    centred = block - mean
    var = centred.square().mean((1, 2), keepdim=True)
    y = (centred * (var + eps).rsqrt()).flatten(0, 1)
    y = y if weight is None else y * weight
    y = (y if bias is None else y + bias).to(x.dtype).unflatten(1, x.shape[2:]).movedim(-1, 1)
    return y, mean.mean((0, 1, 2)), (var * (count / (count - 1))).mean((0, 1, 2))


def _each_by_itself(x: Tensor, groups: int, weight: Tensor | None, bias: Tensor | None, eps: float) -> Results:
    mean, var = (torch.zeros(x.shape[1], dtype=statistics_dtype(x.dtype), device=x.device) for _ in range(2))
    if not takes(x, mean, weight, bias):
        weight, bias = as_taken(x, weight, bias)
    # With such a momentum, the kernel leaves the average of all groups so far.
    parts = [
        batch_norm_of_one_type(part, mean, var, weight, bias, 1 / number, eps)
        for number, part in enumerate(x.tensor_split(groups), 1)
    ]
    return torch.cat(parts), mean, var


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
        standardize = _by_passes if _takes_passes(x) else _by_kernel
        block, into = _block(x, groups, rows), _block(y, groups, rows)
        mean, inverse_sigma, *newest = standardize(block, into, *_beside(block, weight, bias), eps)
        ctx.save_for_backward(x, weight, bias, mean, inverse_sigma)
        ctx.groups, ctx.eps, ctx.rows = groups, eps, rows
        ctx.mark_non_differentiable(*newest)
        ctx.set_materialize_grads(False)
        return y, *newest

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *_: None) -> tuple[Tensor | None, ...]:
        x, weight, bias, mean, inverse_sigma = ctx.saved_tensors
        if torch.is_grad_enabled() or is_stack_of_gradients(grad):
            return _gradients_in_primitives(ctx, grad)
        wants = ctx.needs_input_grad
        # Hooks may have brought the batch back in another layout, and a gradient may have any.
        block, of = _block(x, ctx.groups, ctx.rows), _block(grad, ctx.groups, ctx.rows)
        into = torch.empty_like(block)
        (scale,) = _beside(block, weight)
        differentiate = _back_by_passes if _takes_passes(x) else _back_by_kernel
        products, sums = differentiate(block, of, into, scale, mean, inverse_sigma, wants[0])
        into_x = None
        if wants[0]:
            into_x = into.view(len(x), *x.shape[2:], -1).movedim(-1, 1) if ctx.rows else into.view(x.shape)
        into_weight = products.sum(0).view(-1).to(weight.dtype) if wants[2] else None
        into_bias = sums.sum(0).view(-1).to(bias.dtype) if wants[3] else None
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


def _by_passes(
    block: Tensor, into: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
) -> tuple[Tensor, ...]:
    """Fill `into`; mean and inverse deviation of each group, and the averages of means and unbiased variances (C,)."""
    count = _values(block)
    if _takes_kernel_for_sums(block):
        mean, var = _moments_by_kernel(block)
    else:
        mean = _sums(block).div_(count)
        squared_distances_in(into, block, mean)
        var = _sums(into).div_(count)
    newest = mean.mean(0).view(-1), var.mean(0).view(-1).mul_(count / (count - 1))
    inverse_sigma = var.add_(eps).rsqrt_()
    scale = inverse_sigma if weight is None else inverse_sigma * weight
    shift = -mean * scale if bias is None else torch.addcmul(bias, mean, scale, value=-1)
    _scale_and_shift_in(into, block, scale, shift)
    return mean, inverse_sigma, *newest


def _back_by_passes(
    block: Tensor,
    grad: Tensor,
    into: Tensor,
    weight: Tensor | None,
    mean: Tensor,
    inverse_sigma: Tensor,
    wanted: bool,
) -> tuple[Tensor, Tensor]:
    """Fill `into` if it is wanted; what each group adds to the gradients of weight and bias."""
    if _takes_kernel_for_sums(block):
        products, sums = _sums_by_kernel(block, grad, mean, inverse_sigma)
    else:
        doubled_products_in(into, grad, block, mean)
        products, sums = _sums(into).mul_(inverse_sigma).mul_(0.5), _sums(grad)
    if wanted:
        scale = inverse_sigma if weight is None else inverse_sigma * weight
        share = scale / -_values(block)
        slope = (share * inverse_sigma).mul_(products)
        shift = torch.addcmul(share.mul_(sums), slope, mean, value=-1)
        _scale_and_shift_in(into, block, slope, shift)
        into.addcmul_(grad, scale)
    return products, sums


def _by_kernel(
    block: Tensor, into: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
) -> tuple[Tensor, ...]:
    like = block.new_empty(0, dtype=statistics_dtype(block.dtype))
    mean, inverse_sigma = like.new_empty(2, len(block), *_shape(block)[1:])
    newest = like.new_zeros(2, block.shape[2]).unbind()
    scale, shift = (None if vector is None else vector.view(-1) for vector in (weight, bias))
    each = zip(block, into, mean, inverse_sigma, strict=True)
    for number, (piece, memory, *own) in enumerate(each, 1):
        # With such a momentum, the kernel leaves the average of all groups so far.
        batch_norm_in(memory, *(one.view(-1) for one in own), piece, scale, shift, *newest, 1 / number, eps)
    return mean, inverse_sigma, *(one.clone() for one in newest)


def _back_by_kernel(
    block: Tensor,
    grad: Tensor,
    into: Tensor,
    weight: Tensor | None,
    mean: Tensor,
    inverse_sigma: Tensor,
    wanted: bool,
) -> tuple[Tensor, Tensor]:
    found = []
    scale = None if weight is None else weight.view(-1)
    for values, of, memory, *own in zip(block, grad, into, mean, inverse_sigma, strict=True):
        vectors = (one.view(-1) for one in own)
        dx, *sums = batch_norm_backward(of, values, scale, None, None, *vectors, True, 0.0, [wanted, True, True])
        if wanted:
            memory.copy_(dx)
        found.append(sums)
    products, plain = (torch.stack(one) for one in zip(*found, strict=True))
    return products, plain


def _moments_by_kernel(rows: Tensor) -> tuple[Tensor, Tensor]:
    means, variances = zip(*map(batch_statistics, rows.unbind()), strict=True)
    mean, var = torch.stack(means).unsqueeze(1), torch.stack(variances).unsqueeze(1)
    if (mean.square() > var * _FAR**2).any():
        gap = (rows - mean).mean(1, keepdim=True)
        mean, var = mean + gap, var - gap.square()
    return mean, var


def _sums_by_kernel(rows: Tensor, grad: Tensor, mean: Tensor, inverse_sigma: Tensor) -> tuple[Tensor, Tensor]:
    """The sums over each group of products of a gradient with standardized values, and of itself."""
    only = [False, True, True]
    each = zip(
        grad.unbind(), rows.unbind(), mean.flatten(0, 1).unbind(), inverse_sigma.flatten(0, 1).unbind(), strict=True
    )
    found = [batch_norm_backward(of, values, None, None, None, *own, True, 0.0, only)[1:] for of, values, *own in each]
    products, sums = zip(*found, strict=True)
    return torch.stack(products).unsqueeze(1), torch.stack(sums).unsqueeze(1)


def _sums(block: Tensor) -> Tensor:
    return block.sum(1, keepdim=True) if block.dim() == 3 else block.sum((1, 3), keepdim=True)


def _scale_and_shift_in(memory: Tensor, block: Tensor, scale: Tensor, shift: Tensor) -> None:
    if block.dim() == 3:
        torch.addcmul(shift, block, scale, out=memory)
    else:
        # Two constants along a row keep `addcmul` from taking several values at once.
        torch.mul(block, scale, out=memory).add_(shift)


def _lies_in_rows(x: Tensor) -> bool:
    """Whether it is (N, ..., C) in memory: in channels_last, or vectors."""
    return x.movedim(1, -1).is_contiguous()


def _takes_passes(x: Tensor) -> bool:
    return x.device.type == "cpu" and statistics_dtype(x.dtype) == x.dtype


def _takes_kernel_for_sums(block: Tensor) -> bool:
    return block.dim() == 3 and block.numel() >= len(block) * _MANY_VALUES


def _block(x: Tensor, groups: int, rows: bool) -> Tensor:
    """A view where the batch lies so."""
    channels = x.shape[1]
    if rows:
        return (x if x.dim() == 2 else x.movedim(1, -1)).contiguous().view(groups, -1, channels)
    return x.contiguous().view(groups, x.shape[0] // groups, channels, -1)


def _beside(block: Tensor, *vectors: Tensor | None) -> list[Tensor | None]:
    """Vectors (C,) in the type of statistics, shaped to broadcast against the block."""
    dtype, shape = statistics_dtype(block.dtype), (-1,) if block.dim() == 3 else (-1, 1)
    return [None if vector is None else vector.to(dtype).view(shape) for vector in vectors]


def _shape(block: Tensor) -> tuple[int, ...]:
    """Of vectors of groups."""
    return (len(block), 1, block.shape[2], *(1,) * (block.dim() - 3))


def _values(block: Tensor) -> int:
    """How many of each channel a group has."""
    return block.numel() // (len(block) * block.shape[2])
