"""Accuracies of one network by statistics: how many test examples it gets right with running, batch, precise ones.

Invariant: numbers that are compared are of the same examples, and how many these are is said. Which they are is a
function of the seed: the first of an order that is drawn once, so that no order of classes matters.
"""

import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from bncore.data import DataSet, Examples, Part
from bncore.norm.model.found import normalizations
from bncore.seeds import derive_seed
from bncore.spec import ExperimentSpec, Plan, Statistics
from bncore.spec.diagnostics.affordable import Measured, affordable, least_steps, precise_examples
from bncore.train.evaluate import equal_parts, evaluate, using
from bncore.train.progress import TEST_ACCURACY
from bncore.train.task import Task

_PRECISE_BATCH = 256
"""At the least: front layers normalized by small batches leave errors behind (arXiv 2105.07576, section 3.3)."""
_KINDS: tuple[Statistics, ...] = ("running", "batch", "precise")


class Accuracies(NamedTuple):
    """By statistics; on how many examples, `accuracy` of the test data, `precise` of the training data; in words."""

    values: Mapping[str, float]
    examples: Mapping[str, int]
    notes: tuple[str, ...] = ()


class Judging:
    """Of the network of one run. `order` holds numbers of training examples as the seed draws them."""

    def __init__(
        self, spec: ExperimentSpec, planned: Plan, network: nn.Module, task: Task, data: DataSet, order: Tensor
    ) -> None:
        self._spec, self._planned = spec, planned
        self._network = network
        self._task = task
        self._data = data
        self._order = order

    def accuracies(self, evaluated: Mapping[str, float], step: int, *, full: bool) -> Accuracies:
        """Nothing where there is no accuracy, or no statistics to choose. What `evaluated` has is not measured again.

        Without `full`, on as many examples as the steps so far allow.
        """
        if self._task.chosen_by != "accuracy" or not normalizations(self._network, batch_statistics=True):
            return Accuracies({}, {})
        keys = {kind: TEST_ACCURACY if kind == "running" else f"{TEST_ACCURACY}@{kind}" for kind in _KINDS}
        known = {kind: evaluated[key] for kind, key in keys.items() if key in evaluated}
        tested, size = self._data.test, self._data.test.size
        on = self._measured_on(step, full=full or len(known) == len(_KINDS))
        if on is None:
            return Accuracies({}, {}, (self._too_short(step),))
        if on.tested < size:
            known, tested = {}, self._drawn(on.tested)
        values: dict[str, float] = {
            kind: known[kind] if kind in known else self._accuracy(kind, tested, on.precise) for kind in _KINDS
        }
        precise = self._data.train.size if "precise" in known else on.precise
        return Accuracies(values, {"accuracy": on.tested, "precise": precise}, _said_of(on.tested, size))

    def _measured_on(self, step: int, *, full: bool) -> Measured | None:
        train, test, batch = self._data.train.size, self._data.test.size, self._spec.train.batch_size
        if not full:
            return affordable(step, batch, train, test)
        return Measured(test, min(precise_examples(self._planned.total_steps * batch), train))

    def _too_short(self, step: int) -> str:
        batch = self._spec.train.batch_size
        least = least_steps(batch, self._data.train.size, self._data.test.size)
        return (
            f"Accuracies by statistics were not measured: the run was too short, {step:,} steps of {batch}; from "
            f'{least:,} on they take little of it. "full": true measures them all the same'
        )

    def _drawn(self, count: int) -> Part:
        """So many test examples, in the order in which they lie."""
        test = self._data.test
        generator = torch.Generator().manual_seed(derive_seed(self._spec.train.seed, "diagnostics", "test"))
        drawn = torch.randperm(test.size, generator=generator)[:count]
        return test.select(drawn.sort().values.to(test.index_device))

    def _accuracy(self, statistics: Statistics, test: Part, precise: int) -> float:
        batches = self._drawn_for_statistics(precise) if statistics == "precise" else ()
        tested = equal_parts(test, -(-test.size // self._spec.evaluation.batch_size))
        try:
            with using(statistics, self._network, batches) as usable:
                return evaluate(self._network, self._task, tested, with_loss=False)["accuracy"] if usable else math.nan
        except ValueError:
            # Too few examples for statistics of their own.
            return math.nan

    def _drawn_for_statistics(self, count: int) -> Iterable[Examples]:
        """So many training examples, in batches no smaller than in training."""
        train = self._data.train
        drawn = train.select(self._order[:count].sort().values.to(train.index_device))
        normalized = min(self._spec.train.micro_batches(self._spec.train.batch_size))
        together = max(normalized, min(_PRECISE_BATCH, self._spec.evaluation.batch_size))
        return equal_parts(drawn, max(1, drawn.size // together))


def _said_of(tested: int, size: int) -> tuple[str, ...]:
    if tested == size:
        return ()
    return (
        f"Accuracies by statistics are of {tested:,} of the {size:,} test examples, drawn by the seed: all of them "
        'would take much of so short a run. "full": true measures all',
    )
