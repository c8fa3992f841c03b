"""Measure a network on examples, without a trace in its weights, its buffers or the random state."""

import itertools
import logging
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from bncore.adapt import prediction_time
from bncore.data import Examples, Part
from bncore.norm import recalibrate
from bncore.norm.model.feed import evaluation_mode
from bncore.norm.model.untouched import untouched
from bncore.spec import Statistics
from bncore.train.task import Task

_logger = logging.getLogger(__name__)


def outputs_of(network: Callable[..., Tensor], examples: Examples) -> Tensor:
    """What the network makes of the examples; of padded sequences it is told how long each is."""
    if examples.lengths is None:
        return network(examples.inputs)
    return network(examples.inputs, examples.lengths)


@torch.no_grad()
def evaluate(
    network: nn.Module, task: Task, batches: Iterable[Examples], *, with_loss: bool = True
) -> dict[str, float]:
    """Means over all examples: `loss` (without label smoothing), if it is asked for, and the metrics of the task.

    In evaluation mode and float32. Each module is left in the mode it came in. The numbers are those a plain model with
    the same weights gives.
    """
    names = ("loss", *task.metrics) if with_loss else task.metrics
    sums_of = task.totals if with_loss else task.metric_totals
    sums: list[Tensor] = []
    count: int | Tensor = 0
    with evaluation_mode(network):
        for batch in batches:
            if not sums:
                # Losses are summed in double; so are counts, which are exact in it.
                sums = [torch.zeros((), dtype=torch.float64, device=batch.inputs.device) for _ in names]
            for total, part in zip(sums, sums_of(outputs_of(network, batch), batch), strict=True):
                total += part
            count += task.weight(batch)
    # One number after another would be waited for.
    *totals, whole = torch.stack([*sums, torch.as_tensor(count, dtype=torch.float64).to(sums[0])]).tolist()
    return {name: total / whole for name, total in zip(names, totals, strict=True)}


def slices(examples: Part, size: int) -> Iterator[Examples]:
    """Batches of `size`, in the order of the examples; the last one may be smaller."""
    count = examples.size
    return (examples.slice(first, min(first + size, count)) for first in range(0, count, size))


def equal_parts(examples: Part, parts: int) -> Iterable[Examples]:
    """So many batches, none more than one example larger than another, made as often as they are gone through."""
    return _EqualParts(examples, parts)


@contextmanager
def using(statistics: Statistics, network: nn.Module, train: Iterable[Examples]) -> Iterator[bool]:
    """Within it, the network evaluates with these statistics; whether there are any that are finite.

    `train` are the training data in batches no smaller than in training, for `precise`.
    """
    if statistics == "running":
        yield True
    elif statistics == "batch":
        adaptation = prediction_time(network)
        try:
            yield True
        finally:
            adaptation.reset()
    else:
        with untouched(network):
            yield _recalibrated(network, train)


def nothing_measured(task: Task) -> dict[str, float]:
    """In the place of an evaluation."""
    return dict.fromkeys(("loss", *task.metrics), math.nan)


class _EqualParts:
    """What does not fit into memory at once is not held at once."""

    def __init__(self, examples: Part, parts: int) -> None:
        self._examples, self._parts = examples, parts

    def __iter__(self) -> Iterator[Examples]:
        ends = (self._examples.size * part // self._parts for part in range(self._parts + 1))
        return (self._examples.slice(first, end) for first, end in itertools.pairwise(ends))


def _recalibrated(network: nn.Module, train: Iterable[Examples]) -> bool:
    try:
        recalibrate(network, train, forward=outputs_of)
    except ValueError as error:
        # Weights that diverged make values that are not finite. That is a result, and no failure of the run.
        _logger.warning("no precise statistics: %s", error)
        return False
    return True
