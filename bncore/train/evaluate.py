"""Measure a network on labelled data, without a trace in its weights, its buffers or the random state."""

import torch
import torch.nn.functional as F
from torch import nn

from bncore.data import Examples


@torch.no_grad()
def evaluate(network: nn.Module, examples: Examples, batch_size: int) -> tuple[float, float]:
    """Mean cross entropy (without label smoothing) and accuracy, in evaluation mode and float32.

    The network is left in the mode it came in. The numbers are those a plain model with the same weights gives.
    """
    inputs, labels, _ = examples
    training = network.training
    network.eval()
    loss = torch.zeros((), dtype=torch.float64, device=inputs.device)
    correct = torch.zeros((), dtype=torch.int64, device=inputs.device)
    for first in range(0, len(inputs), batch_size):
        logits = network(inputs[first : first + batch_size])
        expected = labels[first : first + batch_size]
        loss += F.cross_entropy(logits, expected, reduction="sum")
        correct += (logits.argmax(1) == expected).sum()
    network.train(training)
    return loss.item() / len(inputs), correct.item() / len(inputs)
