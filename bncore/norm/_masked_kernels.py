"""Masked moments, standardization and their gradient without autograd: the fast way through memory.

Plain operations over the whole batch each read and write all of it, which is what masking costs. Here a few samples at
a time go through all operations while they are in the cache, and padding becomes 0 by a bitwise and with its mask: a
third of the time of `torch.where`, and as safe from NaN, which a product with 0 is not.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from bncore.norm._moments import along_channels, channel_axes, statistics_dtype
from bncore.norm._parts import merge_parts

_IN_CACHE = 2**18
"""Values in a part, on the CPU. Other devices take the batch in one piece: there, launches cost more than traffic."""

_WORDS = {torch.float32: torch.int32, torch.float64: torch.int64}


def masked_moments(x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean (C,), biased variance (C,) and number () of the valid values of `x` (N, C, ...) by `mask` (N, ...)."""
    bits, scratch, axes = _bits(x, mask), _scratch(x), channel_axes(x)
    valid = mask.unsqueeze(1).to(scratch.dtype)
    per_sample = mask.flatten(1).sum(1) if mask.dim() > 1 else mask
    counts = torch.stack([part.sum() for part in per_sample.split(len(scratch))]).to(scratch.dtype)
    divisors = counts.clamp(min=1)
    zero, one = scratch.new_zeros(x.shape[1]), scratch.new_ones(x.shape[1])
    means, variances = [], []
    for index, (part, part_bits, part_valid) in enumerate(_parts(scratch, x, bits, valid)):
        centred = _keep(part, part_bits, scratch[: len(part)])
        mean = centred.sum(axes) / divisors[index]
        centred.addcmul_(part_valid, along_channels(mean, x), value=-1)
        squares, rest = _sums(centred, centred, zero, one)
        # What rounding left of the mean of the centred values, and its part of their squares.
        rest = rest / divisors[index]
        means.append(mean + rest)
        variances.append(squares / divisors[index] - rest.square())
    return merge_parts(torch.stack(means), torch.stack(variances).clamp_(min=0), counts)


def masked_standardize(
    x: Tensor, mask: Tensor, mean: Tensor, inverse_sigma: Tensor, weight: Tensor | None, bias: Tensor | None
) -> Tensor:
    """`weight * (x - mean) * inverse_sigma + bias` where `mask` is true, and 0 elsewhere."""
    bits, scratch, y = _bits(x, mask), _scratch(x), torch.empty_like(x)
    scale = inverse_sigma if weight is None else weight.to(mean.dtype) * inverse_sigma
    centre, scale = along_channels(mean, x), along_channels(scale, x)
    for part, part_bits, into in _parts(scratch, x, bits, y):
        value = torch.sub(part, centre, out=scratch[: len(part)]).mul_(scale)
        if bias is not None:
            value.add_(along_channels(bias, x))
        _keep(value, part_bits, into)
    return y


def masked_gradients(
    grad: Tensor,
    x: Tensor,
    mask: Tensor,
    mean: Tensor,
    inverse_sigma: Tensor,
    count: Tensor,
    weight: Tensor | None,
    into_x: bool,
) -> tuple[Tensor | None, Tensor, Tensor]:
    """The gradients of `masked_standardize` by x (through mean and variance too), weight and bias.

    With h the standardized input: `dweight = sum(g h)`, `dbias = sum(g)` and
    `dx = weight * inverse_sigma * (g - dbias / n - h * dweight / n)` over the n valid positions.
    """
    bits, scratch = _bits(x, mask), _scratch(x)
    other = torch.empty_like(scratch)
    sums = torch.zeros(2, x.shape[1], dtype=scratch.dtype, device=x.device)
    for part, part_grad, part_bits in _parts(scratch, x, grad, bits):
        kept = _keep(part_grad, part_bits, other[: len(part)])
        sums += torch.stack(_sums(kept, _keep(part, part_bits, scratch[: len(part)]), mean, inverse_sigma))
    vector_dtype = mean.dtype if weight is None else weight.dtype
    into_weight, into_bias = sums.to(vector_dtype).unbind()
    if not into_x:
        return None, into_weight, into_bias
    scale = inverse_sigma if weight is None else weight.to(mean.dtype) * inverse_sigma
    along, constant = -scale * sums / count.clamp(min=1)
    along, constant = along_channels(along * inverse_sigma, x), along_channels(constant, x)
    centre, scale = along_channels(mean, x), along_channels(scale, x)
    dx = torch.empty_like(x)
    for part, part_grad, part_bits, into in _parts(scratch, x, grad, bits, dx):
        value = torch.sub(part, centre, out=scratch[: len(part)]).mul_(along)
        _keep(value.addcmul_(part_grad, scale).add_(constant), part_bits, into)
    return dx, into_weight, into_bias


def _scratch(x: Tensor) -> Tensor:
    """Room for one part, in the layout of `x` and the precision of its statistics."""
    samples = len(x) if x.device.type != "cpu" else max(1, min(len(x), _IN_CACHE * len(x) // x.numel()))
    return torch.empty_like(x[:samples], dtype=statistics_dtype(x.dtype))


def _parts(scratch: Tensor, *tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    return zip(*(tensor.split(len(scratch)) for tensor in tensors), strict=True)


def _bits(x: Tensor, mask: Tensor) -> Tensor:
    """For every position (N, 1, ...), a word of ones where it is valid and of zeros where it is not."""
    return mask.unsqueeze(1).to(_WORDS[statistics_dtype(x.dtype)]).neg_()


def _keep(value: Tensor, bits: Tensor, into: Tensor) -> Tensor:
    """Write `value` where it is valid, and 0 elsewhere, into `into`, which is returned."""
    if value.dtype == into.dtype:
        torch.bitwise_and(value.view(bits.dtype), bits, out=into.view(bits.dtype))
    elif into.dtype in _WORDS:
        into.copy_(value).view(bits.dtype).bitwise_and_(bits)
    else:
        value.view(bits.dtype).bitwise_and_(bits)
        into.copy_(value)
    return into


def _sums(grad: Tensor, x: Tensor, mean: Tensor, inverse_sigma: Tensor) -> tuple[Tensor, Tensor]:
    """Per channel, `sum(grad * (x - mean) * inverse_sigma)` and `sum(grad)`: what batch norm's backward pass sums."""
    mask = [False, True, True]
    _, into_weight, into_bias = torch.ops.aten.native_batch_norm_backward(
        grad, x, None, None, None, mean, inverse_sigma, True, 0.0, mask
    )
    return into_weight, into_bias
