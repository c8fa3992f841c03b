"""Ghost batch norm of a batch in channels_last, where the examples of a group do not lie together in memory.

Shapes: a batch of N examples in G groups, with S positions and C channels each, is seen as rows (N, ..., C), or in
parts: as a table (R, G, S, C) of the R examples that each group has and, where G does not divide N, another of one row.
Vectors of groups are (G, 1, C).
Invariant: example i is in group i mod G, whatever N. No example is copied, and there is no memory but that of the
result: until it is known, it holds what is summed up. Of large images, a kernel of torch's takes one image after the
other, which is still in the cache the second time.
"""

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from bncore.norm._dispatch import can_be_asked, may_use_native
from bncore.norm._moments import statistics_dtype
from bncore.norm._override import apply
from bncore.norm._parts import differentiable_gradients
from bncore.norm._torch import (
    batch_norm_backward,
    batch_statistics,
    doubled_products_in,
    is_stack_of_gradients,
    squared_distances_in,
)

_LEAST_VALUES = 2**15
"""In what a kernel is called for: what a call costs over its work, passes over the whole batch cost for as many."""
_MOST_POSITIONS = 2**10
"""Of which a kernel adds up one after another in float32, so that it loses few digits."""
_FEW_POSITIONS = 16
"""Below which to add up each image by itself saves nothing: there are as many sums as each has terms."""
_MANY_CHANNELS = 2**8
_LARGE_BATCH = 2**20
"""Values, beyond which a batch of images with many channels is out of the cache, and BLAS is quicker than `sum`."""
_FAR = 8.0
"""Deviations between a mean and zero, beyond which those few digits are too many: with it, an error of 1e-5 of one."""


def standardize_groups(
    x: Tensor, groups: int, weight: Tensor | None, bias: Tensor | None, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """`weight * (x - mean) / sqrt(var + eps) + bias` by the moments of the group of each example of (N, C, ...).

    With the average over groups of their means and unbiased variances (C,).
    """
    if torch.compiler.is_compiling() or not may_use_native(x):
        return _in_primitives(x, groups, weight, bias, eps)
    y, mean, var = apply(_StandardizeGroups, x, groups, weight, bias, eps)
    return y, mean, var


def tables(x: Tensor, groups: int) -> list[Tensor]:
    """The groups as columns of a table; of two, where the first groups have one example more than the others."""
    # Not `divmod`, of which the compiler makes no graph where the number of examples is left open.
    rows, larger = x.shape[0] // groups, x.shape[0] % groups
    if larger == 0:
        return [x.unflatten(0, (rows, groups))]
    # Not slices: each would fill a gradient of the size of x with zeros.
    whole, rest = x.split((rows * groups, larger))
    first, others = whole.unflatten(0, (rows, groups)).split((larger, groups - larger), 1)
    return [torch.cat((first, rest.unsqueeze(0))), others]


def examples(tables: tuple[Tensor, ...]) -> Tensor:
    """The inverse of `tables`: the examples of all columns in the order in which they came."""
    if len(tables) == 1:
        return tables[0].flatten(0, 1)
    longer, others = tables
    first, rest = longer.split((len(others), 1))
    return torch.cat((torch.cat((first, others), 1).flatten(0, 1), rest.squeeze(0)))


def _in_primitives(
    x: Tensor, groups: int, weight: Tensor | None, bias: Tensor | None, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """The same, so that derivatives of every order are right."""
    flat = x.movedim(1, -1).flatten(1, -2).to(statistics_dtype(x.dtype))
    outputs, means, variances = [], [], []
    for table in tables(flat, groups):
        count = table.shape[0] * table.shape[2]
        mean = table.mean((0, 2))
        centred = table - mean.unsqueeze(1)
        var = centred.square().mean((0, 2))
        outputs.append(centred * (var + eps).rsqrt().unsqueeze(1))
        means.append(mean)
        variances.append(var * (count / (count - 1)))
    y = examples(tuple(outputs))
    y = y if weight is None else y * weight
    y = (y if bias is None else y + bias).to(x.dtype).unflatten(1, x.shape[2:]).movedim(-1, 1)
    return y, torch.cat(means).mean(0), torch.cat(variances).mean(0)


class _StandardizeGroups(torch.autograd.Function):
    """The output of `_in_primitives`, differentiated through mean and variance as functions of the batch."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, groups: int, weight: Tensor | None, bias: Tensor | None, eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        wide = x.to(statistics_dtype(x.dtype))
        rows, y = _rows(wide), torch.empty_like(wide)
        parts, into = _parts(rows, groups), _parts(_rows(y), groups)
        count = _counts(parts, groups)
        mean, distances = _moments(rows, parts, into, count)
        inverse_sigma = (distances / count).add_(eps).rsqrt_()
        scale = inverse_sigma if weight is None else inverse_sigma * weight
        ctx.save_for_backward(x, weight, bias, mean, inverse_sigma, scale)
        ctx.eps = eps
        shift = -mean * scale if bias is None else torch.addcmul(bias, mean, scale, value=-1)
        for memory, part in zip(into, parts, strict=True):
            torch.addcmul(_of_columns(shift, part), part, _of_columns(scale, part), out=memory)
        newest = mean.mean((0, 1)), distances.div_(count - 1).mean((0, 1))
        ctx.mark_non_differentiable(*newest)
        return y.to(x.dtype), *newest

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias, mean, inverse_sigma, scale = ctx.saved_tensors
        wants, groups, dtype = ctx.needs_input_grad, len(mean), mean.dtype
        if torch.is_grad_enabled() or is_stack_of_gradients(grads[0]):
            return _gradients_in_primitives(ctx, grads[0])
        rows, grad = _rows(x.to(dtype)), _rows(grads[0].to(dtype))
        memory = torch.empty_like(rows)
        parts, parts_of_grad, into = (_parts(one, groups) for one in (rows, grad, memory))
        by_shift, by_scale = _sums_of_gradient(rows, grad, parts, parts_of_grad, mean, inverse_sigma, into)
        into_x = None
        if wants[0]:
            share = scale / -_counts(parts, groups)
            slope = (share * inverse_sigma).mul_(by_scale)
            constant = torch.addcmul(share.mul_(by_shift), slope, mean, value=-1)
            for one, values, of in zip(into, parts, parts_of_grad, strict=True):
                torch.addcmul(_of_columns(constant, one), values, _of_columns(slope, one), out=one)
                one.addcmul_(of, _of_columns(scale, one))
            into_x = memory.to(x.dtype).movedim(-1, 1)
        into_weight = by_scale.sum((0, 1)).to(weight.dtype) if wants[2] else None
        into_bias = by_shift.sum((0, 1)).to(bias.dtype) if wants[3] else None
        return into_x, None, into_weight, into_bias, None


def _gradients_in_primitives(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    """Of any order, or of a stack, for which there is no writing into memory."""
    x, weight, bias, mean, *_ = ctx.saved_tensors

    def compute(x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
        return _in_primitives(x, len(mean), weight, bias, ctx.eps)[0]

    wants = ctx.needs_input_grad
    with torch.enable_grad():
        found = differentiable_gradients(compute, (x, weight, bias), (wants[0], *wants[2:4]), grad)
    if not torch.is_grad_enabled():
        # Not `detach`, which a stack does not know.
        found = [one if one is None else one.clone() for one in found]
    return found[0], None, *found[1:], None


def _rows(x: Tensor) -> Tensor:
    """(N, ..., C), a view of a batch in channels_last; a gradient may be in another layout, and is copied."""
    return x.movedim(1, -1).contiguous()


def _counts(parts: list[Tensor], groups: int) -> Any:
    """How many values a group has: of all, or of each (G, 1, 1)."""
    whole, *rest = parts
    count = whole.shape[0] * whole.shape[2]
    if not rest:
        return count
    counts = whole.new_full((groups, 1, 1), count)
    counts[: rest[0].shape[1]] += whole.shape[2]
    return counts


def _moments(rows: Tensor, parts: list[Tensor], memory: list[Tensor], count: Any) -> tuple[Tensor, Tensor]:
    """The mean of each group (G, 1, C), and the sum of the squared distances from it; `memory` is spoilt."""
    positions = _positions_a_call(parts[0])
    if positions and can_be_asked(rows):
        mean, distances = _moments_of_pieces(rows, parts[0].shape[1], positions)
        if not (mean.square().mul_(count) > distances * _FAR**2).any():
            return mean, distances
    mean = _sums(parts).div_(count)
    _squared_distances(parts, mean, memory)
    return mean, _sums(memory)


def _moments_of_pieces(rows: Tensor, groups: int, positions: int) -> tuple[Tensor, Tensor]:
    """The same from those of so many positions of each image, put together as by Chan, Golub and LeVeque (1979)."""
    found = [batch_statistics(piece) for piece in _pieces(rows, positions)]
    means, variances = (torch.stack(one).view(len(rows), -1, rows.shape[-1]) for one in zip(*found, strict=True))
    parts, between = _parts(means, groups), torch.empty_like(means)
    mean = _sums(parts) / _counts(parts, groups)
    _squared_distances(parts, mean, _parts(between, groups))
    return mean, _sums(_parts(between.add_(variances), groups)).mul_(positions)


def _squared_distances(parts: list[Tensor], mean: Tensor, into: list[Tensor]) -> None:
    """From the mean of the group of each example."""
    for memory, part in zip(into, parts, strict=True):
        squared_distances_in(memory, part, _of_columns(mean, part))


def _sums_of_gradient(
    rows: Tensor,
    grad: Tensor,
    parts: list[Tensor],
    parts_of_grad: list[Tensor],
    mean: Tensor,
    inverse_sigma: Tensor,
    memory: list[Tensor],
) -> tuple[Tensor, Tensor]:
    """The sums over each group (G, 1, C) of a gradient, and of its products with standardized values.

    `memory`, in parts as the batch and the gradient are, is spoilt.
    """
    positions = _positions_a_call(parts[0])
    if positions:
        return _sums_of_pieces(rows, grad, positions, mean, inverse_sigma)
    for into, values, of in zip(memory, parts, parts_of_grad, strict=True):
        doubled_products_in(into, of, values, _of_columns(mean, values))
    return _sums(parts_of_grad), _sums(memory).mul_(inverse_sigma).mul_(0.5)


def _sums_of_pieces(
    rows: Tensor, grad: Tensor, positions: int, mean: Tensor, inverse_sigma: Tensor
) -> tuple[Tensor, Tensor]:
    """The same from those of so many positions of each image."""
    groups, examples, channels = len(mean), len(rows), rows.shape[-1]
    of_group = list(zip(mean.flatten(0, 1).unbind(), inverse_sigma.flatten(0, 1).unbind(), strict=True))
    found, pieces = [], _pieces(rows, positions)
    each, only = len(pieces) // examples, [False, True, True]
    for number, (values, of) in enumerate(zip(pieces, _pieces(grad, positions), strict=True)):
        own = of_group[number // each % groups]
        found.append(batch_norm_backward(of, values, None, None, None, *own, True, 0.0, only)[1:])
    products, sums = (torch.stack(one).view(examples, each, channels) for one in zip(*found, strict=True))
    return _sums(_parts(sums, groups)), _sums(_parts(products, groups))


def _sums(parts: list[Tensor]) -> Tensor:
    """Sums over each group (G, 1, C)."""
    whole, *rest = parts
    if _by_rows(whole):
        # Each value stands in a sum with those of its group alone: one that is not finite spoils no other.
        table = whole.view(len(whole), -1)
        total = torch.mv(table.t(), table.new_ones(len(table))).view(whole.shape[1:]).sum(1, keepdim=True)
    else:
        total = whole.sum(2, keepdim=True).sum(0)
    for larger in rest:
        total[: larger.shape[1]] += larger[0].sum(1, keepdim=True)
    return total


def _by_rows(table: Tensor) -> bool:
    """Whether BLAS adds up the rows first, in half of the time that `sum` takes: measured, on one core."""
    rows, _, positions, channels = table.shape
    if rows < 4 or table.device.type != "cpu":
        return False
    return positions < _FEW_POSITIONS or (channels > _MANY_CHANNELS and table.numel() > _LARGE_BATCH)


def _pieces(rows: Tensor, positions: int) -> tuple[Tensor, ...]:
    """So many positions of an image each (positions, C), image after image."""
    return rows.view(-1, positions, rows.shape[-1]).unbind()


def _positions_a_call(table: Tensor) -> int:
    """How many positions of an image a kernel takes at once, the same of each; 0 where calls cost too much."""
    _, _, positions, channels = table.shape
    return _divisor(positions, -(-_LEAST_VALUES // channels)) if table.device.type == "cpu" else 0


@lru_cache
def _divisor(positions: int, least: int) -> int:
    most = min(positions, _MOST_POSITIONS)
    return next((rows for rows in range(most, least - 1, -1) if positions % rows == 0), 0)


def _parts(rows: Tensor, groups: int) -> list[Tensor]:
    """The table of as many rows as every group has, and the row of those that have one example more."""
    each, larger = divmod(len(rows), groups)
    channels = rows.shape[-1]
    if larger == 0:
        return [rows.view(each, groups, -1, channels)]
    whole, rest = rows.split((each * groups, larger))
    return [whole.view(each, groups, -1, channels), rest.view(1, larger, -1, channels)]


def _of_columns(vector: Tensor, table: Tensor) -> Tensor:
    columns = table.shape[1]
    return vector if columns == len(vector) else vector[:columns]
