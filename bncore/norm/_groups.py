"""Ghost batch norm: a batch normalized in groups of neighbours.

Shapes: N examples in G groups, with S positions and C channels each. A group is a contiguous piece of memory in either
layout: of a table of values (N, C, S), or in channels_last of rows (N * S, C). All groups of one size are a block (g,
R, C, S) or (g, R, C); there is a second one where G does not divide N. Vectors of groups are (G, C).
Invariant: the groups are those of `torch.tensor_split`, whatever the layout, the type, the device and the way.

Three ways, which differ in time alone. Beside each other: small groups are copied, so that they are channels of one
batch, and one call of torch's kernel does them all. By kernels: a call for each, which writes into a piece of one
result. By passes: rows of the processor's own types have their sums from the kernel, and the rest from passes over all
groups at once, in a third of the time that the kernel takes for it.
"""

from typing import Any

import torch
from torch import Tensor

from bncore.norm._dispatch import can_be_asked, may_use_native
from bncore.norm._moments import statistics_dtype
from bncore.norm._override import apply
from bncore.norm._parts import differentiable_gradients
from bncore.norm._torch import (
    batch_norm_backward,
    batch_norm_in,
    batch_norm_with_statistics,
    batch_statistics,
    is_stack_of_gradients,
)

_FEW_VALUES = 2**15
"""In a group, below which to copy them costs less than calls of their own."""
_FAR = 8.0
"""Deviations between a mean and zero, beyond which the kernel's sum, one after another in float32, is not enough."""
Blocks = list[Tensor]


def standardize_groups(
    x: Tensor, groups: int, weight: Tensor | None, bias: Tensor | None, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """`weight * (x - mean) / sqrt(var + eps) + bias` by the moments of the group of each example of (N, C, ...).

    With the average over groups of their means and unbiased variances (C,).
    """
    if torch.compiler.is_compiling() or not may_use_native(x) or not can_be_asked(x):
        return _in_primitives(x, groups, weight, bias, eps)
    if not x.is_contiguous() and not _lies_in_rows(x):
        x = x.contiguous()
    newest = torch.zeros(2, x.shape[1], dtype=statistics_dtype(x.dtype), device=x.device)
    y: Tensor = apply(_StandardizeGroups, x, groups, weight, bias, newest, eps)
    mean, var = newest.unbind()
    return y, mean, var


def _in_primitives(
    x: Tensor, groups: int, weight: Tensor | None, bias: Tensor | None, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """The same, so that derivatives of every order are right."""
    flat = x.movedim(1, -1).flatten(1, -2).to(statistics_dtype(x.dtype))
    outputs, means, variances = [], [], []
    for block in _blocks(flat, flat.shape[0], groups):
        count = block.shape[1] * block.shape[2]
        mean = block.mean((1, 2))
        centred = block - mean.unflatten(1, (1, 1, -1))
        var = centred.square().mean((1, 2))
        outputs.append((centred * (var + eps).rsqrt().unflatten(1, (1, 1, -1))).flatten(0, 1))
        means.append(mean)
        variances.append(var * (count / (count - 1)))
    y = torch.cat(outputs)
    y = y if weight is None else y * weight
    y = (y if bias is None else y + bias).to(x.dtype).unflatten(1, x.shape[2:]).movedim(-1, 1)
    return y, torch.cat(means).mean(0), torch.cat(variances).mean(0)


class _StandardizeGroups(torch.autograd.Function):
    """The output of `_in_primitives`, differentiated through mean and variance as functions of the batch.

    The averages are added to `newest` (2, C).
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, groups: int, weight: Tensor | None, bias: Tensor | None, newest: Tensor, eps: float
    ) -> Tensor:
        ctx.groups, ctx.eps, ctx.rows = groups, eps, x.dim() == 2 or _lies_in_rows(x)
        scale, shift = (None if vector is None else vector.to(newest.dtype) for vector in (weight, bias))
        y = torch.empty_like(x)
        blocks, into = (_blocks(_flat(one, ctx.rows), len(x), groups) for one in (x, y))
        if x.numel() < groups * _FEW_VALUES:
            mean, inverse_sigma = _forward_beside(blocks, into, scale, shift, newest, eps)
        elif _takes_passes(x, ctx.rows):
            mean, inverse_sigma = _forward_by_passes(blocks, into, scale, shift, newest, eps)
        else:
            mean, inverse_sigma = _forward_by_kernels(blocks, into, scale, shift, newest, eps)
        ctx.save_for_backward(x, weight, bias, mean, inverse_sigma)
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias, mean, inverse_sigma = ctx.saved_tensors
        wants, groups = ctx.needs_input_grad, ctx.groups
        if torch.is_grad_enabled() or is_stack_of_gradients(grads[0]):
            return _gradients_in_primitives(ctx, grads[0])
        scale = None if weight is None else weight.to(mean.dtype)
        into_x = torch.empty_like(x) if wants[0] else None
        # Hooks may have brought the batch back in another layout, and a gradient may have any.
        batch, grad = (_blocks(_flat(one, ctx.rows), len(x), groups) for one in (x, grads[0]))
        into = None if into_x is None else _blocks(_flat(into_x, ctx.rows), len(x), groups)
        if x.numel() < groups * _FEW_VALUES:
            sums = _backward_beside(batch, grad, into, scale, mean, inverse_sigma)
        elif _takes_passes(x, ctx.rows):
            sums = _backward_by_passes(batch, grad, into, scale, mean, inverse_sigma)
        else:
            sums = _backward_by_kernels(batch, grad, into, scale, mean, inverse_sigma)
        into_weight = sums[0].sum(0).to(weight.dtype) if wants[2] else None
        into_bias = sums[1].sum(0).to(bias.dtype) if wants[3] else None
        return into_x, None, into_weight, into_bias, None, None


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
    return found[0], None, *found[1:], None, None


def _forward_beside(
    blocks: Blocks, into: Blocks, weight: Tensor | None, bias: Tensor | None, newest: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    """Fill `into`, and give the mean and the inverse deviation of each group; like the other ways forward."""
    groups, saved = sum(map(len, blocks)), []
    for block, memory in zip(blocks, into, strict=True):
        columns = len(block)
        scale, shift = (None if vector is None else vector.repeat(columns) for vector in (weight, bias))
        statistics = newest.new_zeros(2, columns * newest.shape[1])
        y, *own = batch_norm_with_statistics(_beside(block), scale, shift, statistics[0], statistics[1], 1.0, eps)
        memory.copy_(_behind(y, columns))
        newest.add_(statistics.view(2, columns, -1).sum(1), alpha=1 / groups)
        saved.append([one.view(columns, -1) for one in own])
    mean, inverse_sigma = (one[0] if len(one) == 1 else torch.cat(one) for one in zip(*saved, strict=True))
    return mean, inverse_sigma


def _backward_beside(
    batch: Blocks, grad: Blocks, into: Blocks | None, weight: Tensor | None, mean: Tensor, inverse_sigma: Tensor
) -> tuple[Tensor, Tensor]:
    """Fill `into`, and give what each group adds to the gradients of weight and bias; like the other ways back."""
    wanted, sums, first = [into is not None, True, True], [], 0
    for number, (values, of) in enumerate(zip(batch, grad, strict=True)):
        columns = len(values)
        own = (one[first : first + columns].flatten() for one in (mean, inverse_sigma))
        scale = None if weight is None else weight.repeat(columns)
        dx, *found = batch_norm_backward(_beside(of), _beside(values), scale, None, None, *own, True, 0.0, wanted)
        if into is not None:
            into[number].copy_(_behind(dx, columns))
        sums.append([one.view(columns, -1) for one in found])
        first += columns
    products, plain = (one[0] if len(one) == 1 else torch.cat(one) for one in zip(*sums, strict=True))
    return products, plain


def _forward_by_kernels(
    blocks: Blocks, into: Blocks, weight: Tensor | None, bias: Tensor | None, newest: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    pieces = _pieces(blocks)
    mean, inverse_sigma = newest.new_empty(2, len(pieces), newest.shape[1])
    vectors = zip(mean.unbind(), inverse_sigma.unbind(), strict=True)
    for number, (piece, memory, own) in enumerate(zip(pieces, _pieces(into), vectors, strict=True), 1):
        # With such a momentum, the kernel leaves the average of all groups so far.
        batch_norm_in(memory, *own, piece, weight, bias, newest[0], newest[1], 1 / number, eps)
    return mean, inverse_sigma


def _backward_by_kernels(
    batch: Blocks, grad: Blocks, into: Blocks | None, weight: Tensor | None, mean: Tensor, inverse_sigma: Tensor
) -> tuple[Tensor, Tensor]:
    wanted, sums, vectors = [into is not None, True, True], [], (mean.unbind(), inverse_sigma.unbind())
    memory = None if into is None else _pieces(into)
    for number, (values, of, *own) in enumerate(zip(_pieces(batch), _pieces(grad), *vectors, strict=True)):
        dx, *found = batch_norm_backward(of, values, weight, None, None, *own, True, 0.0, wanted)
        if memory is not None:
            memory[number].copy_(dx)
        sums.append(found)
    products, plain = (torch.stack(one) for one in zip(*sums, strict=True))
    return products, plain


def _forward_by_passes(
    blocks: Blocks, into: Blocks, weight: Tensor | None, bias: Tensor | None, newest: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    to_mean, to_var = newest.unbind()
    found = [batch_statistics(piece, to_mean, to_var, 1 / k) for k, piece in enumerate(_pieces(blocks), 1)]
    mean, var = (torch.stack(one) for one in zip(*found, strict=True))
    if (mean.square() > var * _FAR**2).any():
        far = [(block - own).mean(1) for block, own in zip(blocks, _of_blocks(mean, blocks), strict=True)]
        gap = torch.cat(far)
        mean, var = mean + gap, var - gap.square()
    inverse_sigma = (var + eps).rsqrt_()
    scale = inverse_sigma if weight is None else inverse_sigma * weight
    shift = -mean * scale if bias is None else torch.addcmul(bias, mean, scale, value=-1)
    vectors = (_of_blocks(one, blocks) for one in (shift, scale))
    for memory, block, a, b in zip(into, blocks, *vectors, strict=True):
        torch.addcmul(a, block, b, out=memory)
    return mean, inverse_sigma


def _backward_by_passes(
    batch: Blocks, grad: Blocks, into: Blocks | None, weight: Tensor | None, mean: Tensor, inverse_sigma: Tensor
) -> tuple[Tensor, Tensor]:
    only, vectors = [False, True, True], (mean.unbind(), inverse_sigma.unbind())
    found = [
        batch_norm_backward(of, values, None, None, None, *own, True, 0.0, only)[1:]
        for values, of, *own in zip(_pieces(batch), _pieces(grad), *vectors, strict=True)
    ]
    products, plain = (torch.stack(one) for one in zip(*found, strict=True))
    if into is None:
        return products, plain
    scale = inverse_sigma if weight is None else inverse_sigma * weight
    share = scale / -_counts(batch, mean)
    slope = (share * inverse_sigma).mul_(products)
    constant = torch.addcmul(share.mul_(plain), slope, mean, value=-1)
    own = (_of_blocks(one, batch) for one in (constant, slope, scale))
    for memory, values, of, a, b, c in zip(into, batch, grad, *own, strict=True):
        torch.addcmul(a, values, b, out=memory)
        memory.addcmul_(of, c)
    return products, plain


def _lies_in_rows(x: Tensor) -> bool:
    """Whether it is in channels_last: (N, ..., C) in memory."""
    return x.movedim(1, -1).is_contiguous()


def _takes_passes(x: Tensor, rows: bool) -> bool:
    return rows and x.device.type == "cpu" and statistics_dtype(x.dtype) == x.dtype


def _flat(x: Tensor, rows: bool) -> Tensor:
    """Rows (N * S, C), or a table (N, C, S); a view where the batch lies so."""
    return x.movedim(1, -1).contiguous().view(-1, x.shape[1]) if rows else x.contiguous().view(*x.shape[:2], -1)


def _blocks(flat: Tensor, examples: int, groups: int) -> Blocks:
    """The groups that have one example more than the others, if there are such, and these: (g, R, ...)."""
    # Not `divmod`, of which the compiler makes no graph where the number of examples is left open.
    each, larger = examples // groups, examples % groups
    if larger == 0:
        return [flat.unflatten(0, (groups, -1))]
    values = flat.shape[0] // examples * (each + 1) * larger
    # Not slices: each would fill a gradient of the size of the batch with zeros.
    first, others = flat.split((values, flat.shape[0] - values))
    return [first.unflatten(0, (larger, -1)), others.unflatten(0, (groups - larger, -1))]


def _pieces(blocks: Blocks) -> list[Tensor]:
    return [piece for block in blocks for piece in block.unbind()]


def _of_blocks(vectors: Tensor, blocks: Blocks) -> list[Tensor]:
    """Of each block the vectors of its groups, (g, 1, C)."""
    wide = vectors.unsqueeze(1)
    return [wide] if len(blocks) == 1 else list(wide.split([len(block) for block in blocks]))


def _counts(blocks: Blocks, like: Tensor) -> Any:
    """How many values of each channel a group has: of all, or of each (G, 1)."""
    if len(blocks) == 1:
        return blocks[0].shape[1]
    return torch.cat([like.new_full((len(block), 1), block.shape[1]) for block in blocks])


def _beside(block: Tensor) -> Tensor:
    """The groups as further channels, (R, g * C, ...)."""
    return block.transpose(0, 1).flatten(1, 2)


def _behind(x: Tensor, groups: int) -> Tensor:
    """The inverse of `_beside`, which may lie otherwise in memory."""
    return x.unflatten(1, (groups, -1)).transpose(0, 1)
