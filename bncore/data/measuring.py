"""Mean and standard deviation of examples that need not fit into memory together."""

from collections.abc import Iterable

import torch

from bncore.data.dataset import Examples
from bncore.data.standardize import Standardization, channels_last, is_valid


def measure(batches: Iterable[Examples]) -> Standardization:
    """That of the inputs of all batches, accumulated in float64 (Chan, Golub, LeVeque 1979); steps that are padding do
    not count. The deviation is that of the examples themselves: sums are divided by their number."""
    count, mean, squares = 0, torch.zeros((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
    for batch in batches:
        values = channels_last(batch.inputs)
        if batch.lengths is not None:
            values = values[is_valid(values, batch.lengths)]
        rows = values.reshape(-1, values.shape[-1]).double()
        own = rows.mean(0)
        distance, total = own - mean, count + len(rows)
        squares = squares + (rows - own).square().sum(0) + distance.square() * (count * len(rows) / total)
        mean, count = mean + distance * (len(rows) / total), total
    deviation = (squares / count).sqrt()
    # Of a channel that is constant, what is left is the rounding of its mean.
    is_constant = deviation <= 1e-7 * mean.abs()
    return Standardization(mean.float(), torch.where(is_constant, 1.0, deviation).float())
