"""Masked moments, standardization and their gradient without autograd: the fast way through memory.

Plain operations over the whole batch each read and write all of it, which is what masking costs. Here a few samples at
a time go through all operations while they are in the cache, and padding becomes 0 by a bitwise and with its mask: a
third of the time of `torch.where`, and as safe from NaN, which a product with 0 is not. Bits
do not show a sign that torch keeps beside the tensor, so callers of what is here resolve it (`resolve_neg`).
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from bncore.norm._moments import along_channels, channel_axes, statistics_dtype
from bncore.norm._parts import merge_parts
from bncore.norm._torch import batch_norm_backward

_IN_CACHE = 2**19
"""Values in a part, for each thread of the CPU. Other devices take the batch in one piece: launches cost more there."""

_WORDS = {torch.float32: torch.int32, torch.float64: torch.int64}


def words_of(mask: Tensor, x: Tensor) -> Tensor:
    """For every position of `x` (N, C, ...), a word of ones where it is valid and of zeros elsewhere; (N, 1, ...)."""
    return mask.unsqueeze(1).to(_WORDS[statistics_dtype(x.dtype)]).neg_()


def masked_moments(x: Tensor, words: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean (C,), biased variance (C,) and number () of the valid values of `x` (N, C, ...); writes into `y` at will."""
    scratch = _scratch(x, y)
    zero, one = scratch.new_zeros(x.shape[1]), scratch.new_ones(x.shape[1])
    axes, found = channel_axes(x), []
    for part, part_words in _parts(scratch, x, words):
        # As numbers, words of ones are -1.
        minus_valid = part_words.to(scratch.dtype)
        count = minus_valid.sum().neg_()
        divisor = count.clamp(min=1)
        kept = _kept(part, part_words, scratch)
        mean = kept.sum(axes).div_(divisor)
        centred = kept.addcmul_(minus_valid, along_channels(mean, x))
        squares, rest = _sums(centred, centred, zero, one)
        # What rounding left of the mean of the centred values, and its part of their squares.
        rest = rest / divisor
        found.append((mean.add_(rest), (squares / divisor).addcmul_(rest, rest, value=-1).clamp_(min=0), count))
    if len(found) == 1:
        return found[0]
    means, variances, counts = (torch.stack(column) for column in zip(*found, strict=True))
    return merge_parts(means, variances, counts)


def masked_standardize(
    x: Tensor,
    words: Tensor,
    mean: Tensor,
    inverse_sigma: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    y: Tensor,
) -> None:
    """Into `y`, `weight * (x - mean) * inverse_sigma + bias` at valid positions, and 0 elsewhere."""
    scratch = _scratch(x, y)
    centre, scale = along_channels(mean, x), along_channels(_scale(inverse_sigma, weight), x)
    for part, part_words, into in _parts(scratch, x, words, y):
        value = torch.sub(part, centre, out=_room(into, scratch)).mul_(scale)
        if bias is not None:
            value.add_(along_channels(bias, x))
        _store(value, part_words, into)


def masked_gradients(
    grad: Tensor,
    x: Tensor,
    words: Tensor,
    mean: Tensor,
    inverse_sigma: Tensor,
    count: Tensor,
    weight: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of `masked_standardize` by x (through mean and variance too), weight and bias.

    With h the standardized input: `dweight = sum(g h)`, `dbias = sum(g)` and
    `dx = weight * inverse_sigma * (g - dbias / n - h * dweight / n)` over the n valid positions.
    """
    dx = torch.empty_like(x)
    scratch = _scratch(x, dx)
    other, found = torch.empty_like(scratch), []
    for part, part_grad, part_words in _parts(scratch, x, grad, words):
        kept_grad, kept = _kept(part_grad, part_words, other), _kept(part, part_words, scratch)
        found.append(_sums(kept_grad, kept, mean, inverse_sigma))
    into_weight, into_bias = found[0]
    for more_weight, more_bias in found[1:]:
        into_weight += more_weight
        into_bias += more_bias
    scale = _scale(inverse_sigma, weight)
    share = scale / count.clamp(min=1).neg_()
    along, constant = along_channels(share * into_weight * inverse_sigma, x), along_channels(share * into_bias, x)
    centre, scale = along_channels(mean, x), along_channels(scale, x)
    for part, part_grad, part_words, into in _parts(scratch, x, grad, words, dx):
        value = torch.sub(part, centre, out=_room(into, scratch)).mul_(along)
        _store(value.addcmul_(part_grad, scale).add_(constant), part_words, into)
    return dx, into_weight, into_bias


def _scratch(x: Tensor, room: Tensor) -> Tensor:
    """Space for one part in the layout of `x` and the precision of its statistics: of `room`, where that is as wide."""
    dtype = statistics_dtype(x.dtype)
    samples = len(x)
    if x.device.type == "cpu":
        samples = max(1, min(samples, torch.get_num_threads() * _IN_CACHE * samples // x.numel()))
    front = _front(room, samples)
    return front if room.dtype == dtype else torch.empty_like(front, dtype=dtype)


def _parts(scratch: Tensor, *tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    if len(scratch) == len(tensors[0]):
        return iter([tensors])
    return zip(*(tensor.split(len(scratch)) for tensor in tensors), strict=True)


def _room(into: Tensor, scratch: Tensor) -> Tensor:
    """Where to compute what goes into `into`: there, unless it is narrower than the computation."""
    return into if into.dtype == scratch.dtype else _front(scratch, len(into))


def _front(scratch: Tensor, samples: int) -> Tensor:
    return scratch if samples == len(scratch) else scratch[:samples]


def _store(value: Tensor, words: Tensor, into: Tensor) -> None:
    """`value`, which is in `_room`, with 0 in the padding, into its place."""
    value.view(words.dtype).bitwise_and_(words)
    if value is not into:
        into.copy_(value)


def _kept(part: Tensor, words: Tensor, scratch: Tensor) -> Tensor:
    """`part` with 0 in the padding, in `scratch`."""
    kept = _front(scratch, len(part))
    bits = part if part.dtype == kept.dtype else kept.copy_(part)
    torch.bitwise_and(bits.view(words.dtype), words, out=kept.view(words.dtype))
    return kept


def _scale(inverse_sigma: Tensor, weight: Tensor | None) -> Tensor:
    return inverse_sigma if weight is None else weight.to(inverse_sigma.dtype) * inverse_sigma


def _sums(grad: Tensor, x: Tensor, mean: Tensor, inverse_sigma: Tensor) -> tuple[Tensor, Tensor]:
    """Per channel, `sum(grad * (x - mean) * inverse_sigma)` and `sum(grad)`: what batch norm's backward pass sums."""
    mask = [False, True, True]
    _, into_weight, into_bias = batch_norm_backward(grad, x, None, None, None, mean, inverse_sigma, True, 0.0, mask)
    return into_weight, into_bias
