"""A few inputs, and what a network makes of them.

Shapes: N inputs, T steps of the longest, K classes.
"""

from typing import Any

import torch
from torch import Tensor, nn

from bncore.data import Examples, Standardization
from bncore.norm.model.feed import evaluation_mode
from bncore.spec.blueprint import Signal
from bncore.spec.data import Task
from bncore.spec.prediction import Prediction
from bncore.train.evaluate import outputs_of


@torch.no_grad()
def answered(
    network: nn.Module, asked: Prediction, signal: Signal, task: Task, standardization: Standardization | None
) -> dict[str, Any]:
    """Probabilities of each class and the most probable one, for each input, or for each step of one; of a regression
    the numbers."""
    device = next(network.parameters()).device
    examples = _examples(asked, signal)
    inputs = examples.inputs
    if standardization is not None:
        inputs = standardization(inputs, examples.lengths)
    with evaluation_mode(network):
        outputs = outputs_of(network, examples._replace(inputs=inputs).to(device)).double().cpu()
    if task == "regression":
        return {"task": task, "outputs": outputs.tolist()}
    probabilities = outputs.softmax(-1)
    classes = probabilities.argmax(-1)
    if task == "classification":
        return {"task": task, "probabilities": probabilities.tolist(), "classes": classes.tolist()}
    ends = [outputs.shape[1]] * len(outputs) if examples.lengths is None else examples.lengths.tolist()
    return {
        "task": task,
        "probabilities": [one[:end].tolist() for one, end in zip(probabilities, ends, strict=True)],
        "classes": [one[:end].tolist() for one, end in zip(classes, ends, strict=True)],
    }


def _examples(asked: Prediction, signal: Signal) -> Examples:
    """The inputs (N, ...), padded where they have lengths."""
    targets = torch.zeros(len(asked.inputs), dtype=torch.int64)
    if not signal.lengths:
        return Examples(torch.tensor(asked.inputs, dtype=torch.float32), targets)
    inputs: Tensor = torch.zeros(len(asked.inputs), *signal.shape)
    for row, given in zip(inputs, asked.inputs, strict=True):
        row[: len(given)] = torch.tensor(given, dtype=torch.float32)
    return Examples(inputs, targets, torch.tensor([len(given) for given in asked.inputs]))
