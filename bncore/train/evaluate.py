"""Measure a network on examples, without a trace in its weights, its buffers or the random state."""

import torch
from torch import nn

from bncore.data import Examples
from bncore.train.task import Task


@torch.no_grad()
def evaluate(network: nn.Module, task: Task, examples: Examples, batch_size: int) -> dict[str, float]:
    """Means over all examples: `loss` (without label smoothing) and the metrics of the task.

    In evaluation mode and float32. The network is left in the mode it came in. The numbers are those a plain model with
    the same weights gives.
    """
    training = network.training
    network.eval()
    names = ("loss", *task.metrics)
    # Losses are summed in double; so are counts, which are exact in it.
    sums = [torch.zeros((), dtype=torch.float64, device=examples.inputs.device) for _ in names]
    count = len(examples.inputs)
    for first in range(0, count, batch_size):
        batch = examples.slice(first, first + batch_size)
        for total, part in zip(sums, task.totals(network(batch.inputs), batch), strict=True):
            total += part
    network.train(training)
    return {name: total.item() / count for name, total in zip(names, sums, strict=True)}
