"""Mean and standard deviation of examples that need not fit into memory together."""

from collections.abc import Iterable

import torch
from torch import Tensor

from bncore.data.dataset import Examples
from bncore.data.standardize import Standardization, channel_axis, is_valid


def measure(batches: Iterable[Examples]) -> Standardization:
    """That of the inputs of all batches, accumulated in float64 (Chan, Golub, LeVeque 1979); steps that are padding do
    not count. The deviation is that of the examples themselves: sums are divided by their number."""
    count, mean, squares = 0, torch.zeros((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
    for batch in batches:
        values = batch.inputs if batch.lengths is None else batch.inputs[is_valid(batch.inputs, batch.lengths)]
        own_count, own, own_squares = _moments(values.double())
        distance, total = own - mean, count + own_count
        squares = squares + own_squares + distance.square() * (count * own_count / total)
        mean, count = mean + distance * (own_count / total), total
    deviation = (squares / count).sqrt()
    # Of a channel that is constant, what is left is the rounding of its mean.
    is_constant = deviation <= torch.clamp(1e-7 * mean.abs(), min=1e-30)
    return Standardization.of(mean, torch.where(is_constant, 1.0, deviation))


def _moments(values: Tensor) -> tuple[int, Tensor, Tensor]:
    """Values for each channel, their mean, and the sum of squared distances from it. The values are spent."""
    axis = channel_axis(values)
    others = [other for other in range(values.dim()) if other != axis % values.dim()]
    mean = values.mean(others, keepdim=True)
    squares = values.sub_(mean).square_().sum(others)
    return values.numel() // len(squares), mean.flatten(), squares
