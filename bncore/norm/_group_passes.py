"""Batch norm of the groups of a block, each by itself, and what its backward pass needs.

Shapes: a block of G groups of R examples, with S positions and C channels each, is a table (G, R, C, S), or in
channels_last rows (G, R * S, C). Vectors of groups broadcast against it: (G, 1, C, 1) or (G, 1, C); vectors of all
groups (C, 1) or (C,).
Invariant: no way has another result than the others, but for rounding.

On CPUs, passes over all groups at once take less time than torch's kernel for batch norm takes for the whole batch, but
for the sums over long rows, which are quicker by the kernel, group by group. In half precision and on other devices,
the kernel does all of it, group by group, and writes into pieces of one result.
"""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from bncore.norm._moments import statistics_dtype
from bncore.norm._torch import (
    batch_norm_backward,
    batch_norm_in,
    batch_statistics,
    doubled_products_in,
    squared_distances_in,
)

_MANY_VALUES = 2**16
"""In a group, above which the sums of rows by the kernel are quicker, for all that a call of it costs."""
_RUN = 2**20
"""Values that the cache holds between two passes over them."""
_FAR = 8.0
"""Deviations between a mean and zero, beyond which the digits count that are saved by subtracting it first."""
Moments = tuple[Tensor, Tensor, Tensor, Tensor, bool]


def standardize_block(block: Tensor, into: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> Moments:
    """Fill `into`.

    Returns mean and inverse deviation of each group, the averages over groups of means and unbiased variances (C,), and
    whether a mean is so far from zero that the backward pass has to subtract it first.
    """
    standardize = _by_passes if _takes_passes(block) else _by_kernel
    return standardize(block, into, weight, bias, eps)


def differentiate_block(
    block: Tensor,
    grad: Tensor,
    into: Tensor | None,
    weight: Tensor | None,
    mean: Tensor,
    inverse_sigma: Tensor,
    is_far: bool,
) -> Tensor:
    """Fill `into` with the gradient of the block, if it is wanted.

    Returns what each group adds to the gradients of weight and bias, (2, G, ...).
    """
    if _takes_passes(block):
        return _back_by_passes(block, grad, into, weight, mean, inverse_sigma, is_far)
    return _back_by_kernel(block, grad, into, weight, mean, inverse_sigma)


def _by_passes(block: Tensor, into: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> Moments:
    count = _values(block)
    tables, deviations, is_far = [], [], False
    for values, memory in zip(_runs(block, block), _runs(into, block), strict=True):
        table = _moments_by_kernel(values) if _takes_kernel_for_sums(values) else _moments(values, memory)
        mean, var = table.unbind()
        inverse_sigma = (var + eps).rsqrt_()
        if _are_far(mean, inverse_sigma):
            is_far = True
            gap = _sums(torch.sub(values, mean, out=memory)).mul_(1.0 / count)
            var.sub_(gap.square())
            inverse_sigma = (var + eps).rsqrt_()
            scale = inverse_sigma if weight is None else inverse_sigma * weight
            # Before it is added to the mean, where it loses its digits.
            memory.sub_(gap).mul_(scale).add_(0.0 if bias is None else bias)
            mean.add_(gap)
        else:
            scale = inverse_sigma if weight is None else inverse_sigma * weight
            shift = -mean * scale if bias is None else torch.addcmul(bias, mean, scale, value=-1)
            _scale_and_shift_in(memory, values, scale, shift)
        tables.append(table)
        deviations.append(inverse_sigma)
    table = _together(tables, 1)
    average, average_var = table.sum(1).view(2, -1).mul_(1.0 / len(block)).unbind()
    return table[0], _together(deviations), average, average_var.mul_(count / (count - 1)), is_far


def _back_by_passes(
    block: Tensor,
    grad: Tensor,
    into: Tensor | None,
    weight: Tensor | None,
    mean: Tensor,
    inverse_sigma: Tensor,
    is_far: bool,
) -> Tensor:
    found, spoilt = [], torch.empty_like(block) if into is None else into
    batch = (_runs(one, block) for one in (block, grad, spoilt, mean, inverse_sigma))
    for values, of, memory, middle, inverse in zip(*batch, strict=True):
        table = _sums_of_gradient(values, of, memory, middle, inverse)
        if into is not None:
            _gradient_in(memory, values, of, weight, middle, inverse, table, is_far)
        found.append(table)
    return _together(found, 1)


def _gradient_in(
    memory: Tensor,
    block: Tensor,
    grad: Tensor,
    weight: Tensor | None,
    mean: Tensor,
    inverse_sigma: Tensor,
    table: Tensor,
    is_far: bool,
) -> None:
    products, sums = table.unbind()
    scale = inverse_sigma if weight is None else inverse_sigma * weight
    share = scale * (-1.0 / _values(block))
    slope = (share * inverse_sigma).mul_(products)
    if is_far:
        torch.sub(block, mean, out=memory).mul_(slope).add_(share.mul_(sums))
    else:
        _scale_and_shift_in(memory, block, slope, torch.addcmul(share.mul_(sums), slope, mean, value=-1))
    memory.addcmul_(grad, scale)


def _by_kernel(block: Tensor, into: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> Moments:
    mean, inverse_sigma = block.new_empty(2, *_shape(block), dtype=statistics_dtype(block.dtype))
    average, average_var = mean.new_zeros(2, block.shape[2])
    scale, shift = (None if vector is None else vector.view(-1) for vector in (weight, bias))
    each = zip(block, into, mean.flatten(1), inverse_sigma.flatten(1), strict=True)
    for number, (values, memory, middle, inverse) in enumerate(each, 1):
        # With such a momentum, the kernel leaves the average of all groups so far.
        batch_norm_in(memory, middle, inverse, values, scale, shift, average, average_var, 1 / number, eps)
    return mean, inverse_sigma, average.clone(), average_var.clone(), False


def _back_by_kernel(
    block: Tensor, grad: Tensor, into: Tensor | None, weight: Tensor | None, mean: Tensor, inverse_sigma: Tensor
) -> Tensor:
    found, scale = [], None if weight is None else weight.view(-1)
    each = zip(block, grad, mean.flatten(1), inverse_sigma.flatten(1), strict=True)
    for number, (values, of, *own) in enumerate(each):
        wanted = [into is not None, True, True]
        dx, *sums = batch_norm_backward(of, values, scale, None, None, *own, True, 0.0, wanted)
        if into is not None:
            into[number].copy_(dx)
        found.append(sums)
    return torch.stack([one for of_groups in zip(*found, strict=True) for one in of_groups]).view(2, len(block), -1)


def _moments(block: Tensor, memory: Tensor) -> Tensor:
    """Mean and biased variance of each group, (2, G, ...); `memory` is spoilt."""
    table = block.new_empty(2, *_shape(block))
    mean, var = table.unbind()
    axes = _axes(block)
    torch.sum(block, axes, keepdim=True, out=mean).mul_(1.0 / _values(block))
    squared_distances_in(memory, block, mean)
    torch.sum(memory, axes, keepdim=True, out=var).mul_(1.0 / _values(block))
    return table


def _moments_by_kernel(rows: Tensor) -> Tensor:
    found = zip(*map(batch_statistics, rows.unbind()), strict=True)
    return _as_table(found, rows)


def _sums_of_gradient(block: Tensor, grad: Tensor, memory: Tensor, mean: Tensor, inverse_sigma: Tensor) -> Tensor:
    """The sums over each group of products of a gradient with standardized values, and of itself, (2, G, ...)."""
    if not _takes_kernel_for_sums(block):
        doubled_products_in(memory, grad, block, mean)
        return torch.stack((_sums(memory).mul_(inverse_sigma).mul_(0.5), _sums(grad)))
    only = [False, True, True]
    each = zip(grad.unbind(), block.unbind(), *(one.squeeze(1).unbind() for one in (mean, inverse_sigma)), strict=True)
    found = [batch_norm_backward(of, values, None, None, None, *own, True, 0.0, only)[1:] for of, values, *own in each]
    return _as_table(zip(*found, strict=True), block)


def _as_table(vectors: Iterable[Sequence[Tensor]], rows: Tensor) -> Tensor:
    """Two vectors of each group as (2, G, 1, C), all in one piece."""
    return torch.stack([one for of_groups in vectors for one in of_groups]).view(2, len(rows), 1, -1)


def _sums(block: Tensor) -> Tensor:
    return block.sum(_axes(block), keepdim=True)


def _axes(block: Tensor) -> tuple[int, ...]:
    """Those of the values of a group."""
    return (1,) if block.dim() == 3 else (1, 3)


def _scale_and_shift_in(memory: Tensor, block: Tensor, scale: Tensor, shift: Tensor) -> None:
    if block.dim() == 3:
        torch.addcmul(shift, block, scale, out=memory)
    else:
        # Two constants along a row keep `addcmul` from taking several values at once.
        torch.mul(block, scale, out=memory).add_(shift)


def _are_far(mean: Tensor, inverse_sigma: Tensor) -> bool:
    # Also where it is no number: that takes longer, and is right for the other channels.
    return not (mean * inverse_sigma).abs_().max().item() <= _FAR


def _takes_passes(x: Tensor) -> bool:
    return x.device.type == "cpu" and statistics_dtype(x.dtype) == x.dtype


def _takes_kernel_for_sums(block: Tensor) -> bool:
    return block.dim() == 3 and block.numel() >= len(block) * _MANY_VALUES


def _runs(of_groups: Tensor, block: Tensor) -> Sequence[Tensor]:
    """As many groups at a time as the cache holds between two passes over them."""
    groups = len(block)
    size = _RUN * groups // block.numel()
    return (of_groups,) if size >= groups else of_groups.split(max(1, size))


def _together(runs: list[Tensor], axis: int = 0) -> Tensor:
    return runs[0] if len(runs) == 1 else torch.cat(runs, axis)


def _shape(block: Tensor) -> tuple[int, ...]:
    """Of vectors of groups."""
    return (len(block), 1, block.shape[2], *(1,) * (block.dim() - 3))


def _values(block: Tensor) -> int:
    """How many of each channel a group has."""
    return block.numel() // (len(block) * block.shape[2])
