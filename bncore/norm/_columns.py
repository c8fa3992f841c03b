"""Ghost batch norm of a batch in channels_last, where the examples of a group do not lie together in memory.

Shapes: a batch of N examples in G groups, with S positions and C channels each, is seen as (N, S, C), or as a table of
R rows (R, G, S, C). Vectors of groups are (G, 1, C).
Invariant: example i is in group i mod G, whatever N. No example is copied: sums go over the positions of each, where
channels lie together, and then over examples. What has to be gone over twice is gone over in blocks, which the second
time are still in the cache, and whose intermediate results share one piece of memory: new memory costs as much as a
pass.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from bncore.norm._dispatch import may_use_native
from bncore.norm._moments import statistics_dtype
from bncore.norm._override import apply
from bncore.norm._parts import differentiable_gradients
from bncore.norm._torch import is_stack_of_gradients, squared_distances_in

_BLOCK = 2**17
"""Values in a block, for each thread: of the ones measured, 25 000 to 500 000, the fastest by a little."""


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
        flat = _flat(wide)
        count = _counts(flat, groups)
        mean = _of_groups(flat.sum(1, keepdim=True), groups) / count
        distances = _of_groups(_squared_distances(flat, mean), groups)
        inverse_sigma = (distances / count).add_(eps).rsqrt_()
        ctx.save_for_backward(x, weight, bias, mean, inverse_sigma)
        ctx.eps = eps
        scale = inverse_sigma if weight is None else inverse_sigma * weight
        shift = -mean * scale if bias is None else torch.addcmul(bias, mean, scale, value=-1)
        y = torch.empty_like(wide)
        for into, part in zip(_parts(_flat(y), groups), _parts(flat, groups), strict=True):
            torch.addcmul(_of_columns(shift, part), part, _of_columns(scale, part), out=into)
        newest = mean.mean((0, 1)), (distances / (count - 1)).mean((0, 1))
        ctx.mark_non_differentiable(*newest)
        return y.to(x.dtype), *newest

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias, mean, inverse_sigma = ctx.saved_tensors
        wants = ctx.needs_input_grad
        if torch.is_grad_enabled() or is_stack_of_gradients(grads[0]):
            return _gradients_in_primitives(ctx, grads[0])
        flat, grad = (_flat(one.to(statistics_dtype(x.dtype))) for one in (x, grads[0]))
        by_shift, by_scale = (_of_groups(sums, len(mean)) for sums in _sums_of_gradient(flat, grad, mean))
        by_scale.mul_(inverse_sigma)
        into_x = None
        if wants[0]:
            scale = inverse_sigma if weight is None else inverse_sigma * weight
            share = scale / -_counts(flat, len(mean))
            slope = (share * inverse_sigma).mul_(by_scale)
            constant = torch.addcmul(share * by_shift, slope, mean, value=-1)
            into_flat = flat.new_empty(flat.shape)
            for (values, of, into), vectors in _blocks((flat, grad, into_flat), (constant, slope, scale)):
                torch.addcmul(vectors[0], values, vectors[1], out=into).addcmul_(of, vectors[2])
            into_x = into_flat.to(x.dtype).unflatten(1, x.shape[2:]).movedim(-1, 1)
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
    """(N, S, C), a view of a batch in channels_last."""
    return x.movedim(1, -1).flatten(1, -2)


def _counts(flat: Tensor, groups: int) -> Any:
    """How many values a group has: of all, or of each (G, 1, 1)."""
    rows, larger = divmod(len(flat), groups)
    if larger == 0:
        return rows * flat.shape[1]
    counts = flat.new_full((groups, 1, 1), rows * flat.shape[1])
    counts[:larger] += flat.shape[1]
    return counts


def _of_groups(sums: Tensor, groups: int) -> Tensor:
    """Sums over the images of each group (G, 1, C), from those of each image (N, 1, C)."""
    whole, *rest = _parts(sums, groups)
    total = whole.sum(0)
    for larger in rest:
        total[: larger.shape[1]] += larger[0]
    return total


def _squared_distances(flat: Tensor, mean: Tensor) -> Tensor:
    """The sum of those of each image (N, 1, C) from the mean of its group."""
    sums = flat.new_empty(len(flat), 1, flat.shape[2])
    memory = flat.new_empty(0)
    for (values, into), (centre,) in _blocks((flat, sums), (mean,)):
        memory = memory if memory.shape == values.shape else torch.empty_like(values)
        squared_distances_in(memory, values, centre)
        torch.sum(memory, -2, keepdim=True, out=into)
    return sums


def _sums_of_gradient(flat: Tensor, grad: Tensor, mean: Tensor) -> tuple[Tensor, Tensor]:
    """The sums of each image (N, 1, C) of a gradient, and of its products with distances from the mean of a group."""
    sums, products = flat.new_empty(2, len(flat), 1, flat.shape[2]).unbind()
    memory = flat.new_empty(0)
    for (values, of, into, into_products), (centre,) in _blocks((flat, grad, sums, products), (mean,)):
        memory = memory if memory.shape == values.shape else torch.empty_like(values)
        torch.sum(of, -2, keepdim=True, out=into)
        torch.sub(values, centre, out=memory).mul_(of)
        torch.sum(memory, -2, keepdim=True, out=into_products)
    return sums, products


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


def _blocks(flats: Sequence[Tensor], vectors: Sequence[Tensor]) -> Iterator[tuple[Sequence[Tensor], Sequence[Tensor]]]:
    """Batches (N, S, C) in blocks of whole rows, or of some columns of one, each with the vectors of its groups."""
    first, groups = flats[0], len(vectors[0])
    # On other devices, a launch costs more than the memory.
    size = _BLOCK * torch.get_num_threads() if first.device.type == "cpu" else first.numel()
    images = max(1, size // first[0].numel())
    for tables in zip(*(_parts(flat, groups) for flat in flats), strict=True):
        columns = tables[0].shape[1]
        own = [_of_columns(vector, tables[0]) for vector in vectors]
        if images >= columns:
            for block in zip(*(table.split(images // columns) for table in tables), strict=True):
                yield block, own
            continue
        pieces = list(zip(*(vector.split(images) for vector in own), strict=True))
        for row in zip(*(table.unbind() for table in tables), strict=True):
            yield from zip(zip(*(table.split(images) for table in row), strict=True), pieces, strict=True)
