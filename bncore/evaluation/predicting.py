"""What a network makes of data with one kind of statistics or another, batch by batch.

Invariant: the network is in evaluation mode throughout, and once the batches are gone through, or left, it has the
parameters and buffers that it had.
"""

from collections.abc import Iterable, Iterator
from typing import assert_never

import torch
from torch import Tensor, nn

from bncore.adapt import adabn, prediction_time, tent
from bncore.data import Examples, Part
from bncore.evaluation.batches import Together
from bncore.norm import recalibrate
from bncore.norm.model.untouched import untouched
from bncore.spec.evaluation import (
    AdabnStatistics,
    PreciseStatistics,
    PredictionTimeStatistics,
    SourceStatistics,
    StatisticsSpec,
    TentStatistics,
)
from bncore.train.evaluate import outputs_of, slices

Predicted = Iterator[tuple[Tensor, Examples]]


def predicted(
    network: nn.Module, examples: Part, statistics: StatisticsSpec, batch_size: int, train: Iterable[Examples]
) -> Predicted:
    """Outputs for batches of the examples, with these batches; `train` is for `precise`, in batches as in training.

    Raises:
        ValueError: where there are no such statistics: values that are not finite.
    """
    match statistics:
        case SourceStatistics():
            yield from _plainly(network, slices(examples, batch_size))
        case AdabnStatistics(sequential=sequential):
            together = Together(examples, statistics)
            with adabn(network, together, forward=outputs_of, sequential=sequential):
                yield from _plainly(network, slices(examples, batch_size))
        case PredictionTimeStatistics(alpha=alpha):
            with prediction_time(network, alpha):
                yield from _plainly(network, Together(examples, statistics))
        case PreciseStatistics():
            with untouched(network):
                recalibrate(network, train, forward=outputs_of)
                yield from _plainly(network, slices(examples, batch_size))
        case TentStatistics():
            yield from _by_entropy(network, Together(examples, statistics), statistics)
        case _:
            assert_never(statistics)


def _plainly(network: nn.Module, batches: Iterable[Examples]) -> Predicted:
    for batch in batches:
        with torch.no_grad():
            outputs = outputs_of(network, batch)
        yield outputs, batch


def _by_entropy(network: nn.Module, batches: Iterable[Examples], asked: TentStatistics) -> Predicted:
    def make(parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
        return torch.optim.Adam(parameters, lr=asked.lr)

    with tent(network, make, forward=_logits) as adapting:
        for batch in batches:
            for _ in range(asked.steps):
                logits = adapting(batch)
            yield _spread(logits, batch), batch


def _logits(network: nn.Module, batch: Examples) -> Tensor:
    """Of a batch, (M, K): of sequences with an output for each step, those of the steps that are none of padding."""
    outputs = outputs_of(network, batch)
    valid = _valid_steps(outputs, batch)
    return outputs if valid is None else outputs[valid]


def _spread(logits: Tensor, batch: Examples) -> Tensor:
    """Undo `_logits`, with zeros for padding."""
    if batch.targets.dim() == 1:
        return logits
    outputs = logits.new_zeros((*batch.targets.shape, logits.shape[-1]))
    valid = _valid_steps(outputs, batch)
    assert valid is not None
    outputs[valid] = logits
    return outputs


def _valid_steps(outputs: Tensor, batch: Examples) -> Tensor | None:
    """Those of outputs (N, T, K) that are none of padding, (N, T); None for outputs (N, K)."""
    if outputs.dim() == 2:
        return None
    steps = torch.arange(outputs.shape[1], device=outputs.device)
    if batch.lengths is None:
        return torch.ones(outputs.shape[:2], dtype=torch.bool, device=outputs.device)
    return steps < batch.lengths.unsqueeze(1)
