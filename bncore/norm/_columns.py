"""Ghost batch norm of a batch in channels_last, where the examples of a group do not lie together in memory.

Shapes: a batch of N examples in G groups, with S positions and C channels each, is seen as (N, S, C), or as a table of
R rows (R, G, S, C). Vectors of groups are (G, 1, C).
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
"""Below which sums over images one by one are as many as the sums are long."""
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
        flat, y = _flat(wide), torch.empty_like(wide)
        parts, into = _parts(flat, groups), _parts(_flat(y), groups)
        count = _counts(flat, groups)
        mean, distances = _moments(flat, parts, into, count)
        inverse_sigma = distances.div(count).add_(eps).rsqrt_()
        ctx.save_for_backward(x, weight, bias, mean, inverse_sigma)
        ctx.eps = eps
        scale = inverse_sigma if weight is None else inverse_sigma * weight
        shift = -mean * scale if bias is None else torch.addcmul(bias, mean, scale, value=-1)
        for memory, part in zip(into, parts, strict=True):
            torch.addcmul(_of_columns(shift, part), part, _of_columns(scale, part), out=memory)
        newest = mean.mean((0, 1)), distances.div_(count - 1).mean((0, 1))
        ctx.mark_non_differentiable(*newest)
        return y.to(x.dtype), *newest

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias, mean, inverse_sigma = ctx.saved_tensors
        wants = ctx.needs_input_grad
        if torch.is_grad_enabled() or is_stack_of_gradients(grads[0]):
            return _gradients_in_primitives(ctx, grads[0])
        dtype, groups = statistics_dtype(x.dtype), len(mean)
        flat, grad = _flat(x.to(dtype)), _flat(grads[0].to(dtype))
        into_flat = torch.empty_like(flat)
        triples = list(zip(*(_parts(one, groups) for one in (into_flat, flat, grad)), strict=True))
        by_shift, by_scale = _sums_of_gradient(flat, grad, triples, mean, inverse_sigma)
        into_x = None
        if wants[0]:
            scale = inverse_sigma if weight is None else inverse_sigma * weight
            share = scale / -_counts(flat, groups)
            slope = (share * inverse_sigma).mul_(by_scale)
            constant = torch.addcmul(share.mul_(by_shift), slope, mean, value=-1)
            for into, values, of in triples:
                torch.addcmul(_of_columns(constant, into), values, _of_columns(slope, into), out=into)
                into.addcmul_(of, _of_columns(scale, into))
            into_x = into_flat.to(x.dtype).view(len(x), *x.shape[2:], x.shape[1]).movedim(-1, 1)
        into_weight = by_scale.sum((0, 1)).to(weight.dtype) if wants[2] else None
        into_bias = by_shift.sum((0, 1)).to(bias.dtype) if wants[3] else None
        return into_x, None, into_weight, into_bias, None


def _gradients_in_primitives(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    """Of any order, or of a stack, for which there is no writing into memory."""
    x, weight, bias, mean, _ = ctx.saved_tensors

    def compute(x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
        return _in_primitives(x, len(mean), weight, bias, ctx.eps)[0]

    wants = ctx.needs_input_grad
    with torch.enable_grad():
        found = differentiable_gradients(compute, (x, weight, bias), (wants[0], *wants[2:4]), grad)
    if not torch.is_grad_enabled():
        # Not `detach`, which a stack does not know.
        found = [one if one is None else one.clone() for one in found]
    return found[0], None, *found[1:], None


def _flat(x: Tensor) -> Tensor:
    """(N, S, C), a view of a batch in channels_last; a gradient may be in another layout, and is copied."""
    return x.movedim(1, -1).flatten(1, -2).contiguous()


def _counts(flat: Tensor, groups: int) -> Any:
    """How many values a group has: of all, or of each (G, 1, 1)."""
    rows, larger = divmod(len(flat), groups)
    if larger == 0:
        return rows * flat.shape[1]
    counts = flat.new_full((groups, 1, 1), rows * flat.shape[1])
    counts[:larger] += flat.shape[1]
    return counts


def _moments(flat: Tensor, parts: list[Tensor], memory: list[Tensor], count: Any) -> tuple[Tensor, Tensor]:
    """The mean of each group (G, 1, C), and the sum of the squared distances from it; `memory` is spoilt."""
    rows = _positions_a_call(flat)
    if rows and can_be_asked(flat):
        mean, distances = _moments_of_pieces(flat, parts[0].shape[1], rows)
        if not (mean.square().mul_(count) > distances * _FAR**2).any():
            return mean, distances
    mean = _sums(parts).div_(count)
    _squared_distances(parts, mean, memory)
    return mean, _sums(memory)


def _moments_of_pieces(flat: Tensor, groups: int, rows: int) -> tuple[Tensor, Tensor]:
    """The same from those of so many positions of each image, put together as by Chan, Golub and LeVeque (1979)."""
    found = [batch_statistics(piece) for piece in _pieces(flat, rows)]
    means, variances = (torch.stack(one).view(len(flat), -1, flat.shape[2]) for one in zip(*found, strict=True))
    mean = _sums(_parts(means, groups)) / _counts(means, groups)
    between = torch.empty_like(means)
    _squared_distances(_parts(means, groups), mean, _parts(between, groups))
    return mean, _sums(_parts(between.add_(variances), groups)).mul_(rows)


def _squared_distances(parts: list[Tensor], mean: Tensor, into: list[Tensor]) -> None:
    """From the mean of the group of each example."""
    for memory, part in zip(into, parts, strict=True):
        squared_distances_in(memory, part, _of_columns(mean, part))


def _sums_of_gradient(
    flat: Tensor, grad: Tensor, triples: list[tuple[Tensor, ...]], mean: Tensor, inverse_sigma: Tensor
) -> tuple[Tensor, Tensor]:
    """The sums over each group (G, 1, C) of a gradient, and of its products with standardized values.

    `triples` are the parts of memory, which is spoilt, of the batch and of the gradient.
    """
    groups, rows = len(mean), _positions_a_call(flat)
    if rows:
        of_group = list(zip(mean.flatten(0, 1).unbind(), inverse_sigma.flatten(0, 1).unbind(), strict=True))
        each, found = flat.shape[1] // rows, []
        for number, (values, of) in enumerate(zip(_pieces(flat, rows), _pieces(grad, rows), strict=True)):
            own = of_group[number // each % groups]
            only = [False, True, True]
            found.append(batch_norm_backward(of, values, None, None, None, *own, True, 0.0, only)[1:])
        products, sums = (torch.stack(one).view(len(flat), each, -1) for one in zip(*found, strict=True))
        return _sums(_parts(sums, groups)), _sums(_parts(products, groups))
    for memory, values, of in triples:
        doubled_products_in(memory, of, values, _of_columns(mean, values))
    products = _sums([memory for memory, _, _ in triples])
    return _sums([of for _, _, of in triples]), products.mul_(inverse_sigma).mul_(0.5)


def _sums(parts: list[Tensor]) -> Tensor:
    """Sums over each group (G, 1, C)."""
    whole, *rest = parts
    rows, _, positions, _ = whole.shape
    if positions < _FEW_POSITIONS and rows > 3 and whole.device.type == "cpu":
        # Half the time of `sum`. Each value stands in a sum with those of its group alone: one that is not finite
        # spoils no other.
        table = whole.view(rows, -1)
        total = torch.mv(table.t(), table.new_ones(rows)).view(whole.shape[1:]).sum(1, keepdim=True)
    else:
        total = whole.sum(2, keepdim=True).sum(0)
    for larger in rest:
        total[: larger.shape[1]] += larger[0].sum(1, keepdim=True)
    return total


def _pieces(flat: Tensor, rows: int) -> tuple[Tensor, ...]:
    """So many positions of an image each (rows, C), image after image."""
    return flat.view(-1, rows, flat.shape[2]).unbind()


def _positions_a_call(flat: Tensor) -> int:
    """How many positions of an image a kernel takes at once, the same of each; 0 where calls cost too much."""
    return _divisor(flat.shape[1], -(-_LEAST_VALUES // flat.shape[2])) if flat.device.type == "cpu" else 0


@lru_cache
def _divisor(positions: int, least: int) -> int:
    most = min(positions, _MOST_POSITIONS)
    return next((rows for rows in range(most, least - 1, -1) if positions % rows == 0), 0)


def _parts(flat: Tensor, groups: int) -> list[Tensor]:
    """The table of as many rows as every group has, and the row of those that have one example more."""
    rows, larger = divmod(len(flat), groups)
    if larger == 0:
        return [flat.view(rows, groups, *flat.shape[1:])]
    whole, rest = flat.split((rows * groups, larger))
    return [whole.view(rows, groups, *flat.shape[1:]), rest.unsqueeze(0)]


def _of_columns(vector: Tensor, table: Tensor) -> Tensor:
    columns = table.shape[1]
    return vector if columns == len(vector) else vector[:columns]
