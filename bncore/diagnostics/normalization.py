"""How the normalization layers of a model are doing, seen on one batch.

Invariant: the model is after it what it was before, bit for bit: buffers, modes, gradients, and the random streams.
"""

import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from bncore.diagnostics._saying import Said, Sight, said_of
from bncore.diagnostics._twin import twin
from bncore.diagnostics.report import Diagnosis
from bncore.norm._moments import Moments, channel_axes, merge, moments
from bncore.norm._native import batch_norm
from bncore.norm._valid import TakesValid
from bncore.norm.model.feed import Forward, evaluating, run
from bncore.norm.model.found import averages_instances, has_batch_statistics, is_normalization, outermost
from bncore.norm.model.last_axis import ValidLastAxis
from bncore.norm.model.observe import observing
from bncore.norm.model.population import Population, population_of, seen_values
from bncore.norm.model.untouched import untouched
from bncore.norm.noisy_batch_norm import NoisyBatchNorm
from bncore.norm.sync_batch_norm import SyncBatchNorm


def diagnose(model: nn.Module, batch: Any, *, forward: Forward | None = None) -> Diagnosis:
    """Run `model` on a batch and say of each normalization layer what a training log does not show.

    Of layers with batch statistics: how far training and evaluation outputs lie apart, and by how much the statistics
    of the batch differ from the running ones; channels that do not vary; how much of the initial values is left in the
    running statistics, since a small momentum needs many batches; statistics of few values. Of all: parameters and
    statistics that are not finite, scales near 0, and groups of a single value, which torch's layers erase and ours
    refuse, and finite input whose squares overflow. `print(diagnose(model, batch))` shows a table and what is wrong.

    Each layer is looked at with the inputs that it has in training, the layers in front normalizing by the batch, but
    with dropout off. So it is its own gap that is reported, not that of the layers before it. A layer to which the
    batch is one value per channel, with which training refuses to run, normalizes it by its running statistics.

    Args:
        model: any module with normalization layers, torch's or ours.
        batch: what `forward` takes; without it, the input, or a tuple or list that begins with it. As large as in
            training, if the numbers are to be those of training.
        forward: how to run the model on a batch, `forward(model, batch)`.
    """
    return Diagnosis(tuple(said.diagnosis for said in looked_through(model, batch, forward)))


def looked_through(model: nn.Module, batch: Any, forward: Forward | None) -> list[Said]:
    """The same, each layer with a copy of it on the host."""
    layers = _layers_of(model)
    looks = {layer: _Look(layer) for _, layer in layers}
    with untouched(model), evaluating(model):
        populations = {layer: look.population for layer, look in looks.items() if look.population is not None}
        handles = [layer.register_forward_pre_hook(look.see, with_kwargs=True) for layer, look in looks.items()]
        try:
            with observing(populations, by_batch=True) as observed:
                run(model, batch, forward)
        finally:
            for handle in handles:
                handle.remove()
    return said_of([(name, layer, looks[layer].sight(observed.found.get(layer))) for name, layer in layers])


def read_off(model: nn.Module) -> list[Said]:
    """What the layers keep says of them, without a pass: what is not finite, scales near 0, batches they have seen."""
    return said_of([(name, layer, Sight()) for name, layer in _layers_of(model)])


def _layers_of(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """Those of each kind in the order of `named_modules`: those that only other layers use, in recurrences, too."""
    modules = [*model.named_modules()]
    found = dict([*outermost(modules, is_normalization), *outermost(modules, has_batch_statistics)])
    inside = tuple(f"{name}." for name in found if name)
    return [(name, found[name]) for name, _ in modules if name in found and not name.startswith(inside)]


class _Look:
    """What one layer does with the inputs that come by."""

    def __init__(self, layer: Any) -> None:
        self._sight = Sight(reached=False)
        self.population: Population | None = None
        self._values: Moments | None = None
        # The layer itself goes on with the statistics of the batch in its buffers.
        self.twin: Any = twin(layer)
        self.keeps_statistics = has_batch_statistics(layer)
        self.is_observed = False
        """Whether `observing` measures the very moments that are looked for, which are not measured twice."""
        if self.keeps_statistics and self.twin.num_batches_tracked is not None:
            self.population = _known(layer)
            self.is_observed = self.population is not None and self.population.takes_moments
            # Training shows its output and looks for no more than that. An instance norm would evaluate as it trains.
            self.twin.track_running_stats = averages_instances(layer)

    def see(self, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Before each forward pass of the layer."""
        sight = self._sight
        sight.reached = True
        values = seen_values(layer, args, kwargs)
        sight.erases = sight.erases or _values_of_one_mean(layer, values) == 1
        if values.numel() == 0:
            return
        # In one pass: it is not a number if one of them is not.
        sight.largest.append(torch.linalg.vector_norm(values, math.inf))
        if not self.keeps_statistics:
            return
        population = self.population
        together = values.numel() // values.shape[1] if population is None else population.together(values)
        if not self.is_observed:
            one = moments(values.to(torch.float64), channel_axes(values))
            self._values = one if self._values is None else merge(self._values, one)
        sight.together = together if population is not None and population.by_itself else sight.together + together
        if population is None or together == 1:
            return
        if isinstance(layer, TakesValid):
            # Which positions are valid is known while the network runs.
            self.twin._handed = layer._handed
        evaluation = self._counted(self.twin.eval().forward(*args, **kwargs))
        gap = self._train(values, args, kwargs).reshape(evaluation.shape) - evaluation
        sight.norms.append((_norm(gap), _norm(evaluation + gap)))

    def sight(self, found: Any) -> Sight:
        """What was seen, with what `observing` has found."""
        values = found if self.is_observed else self._values
        return replace(self._sight, is_compared=self.population is not None, values=values, found=found)

    def _train(self, values: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        if isinstance(self.twin, SyncBatchNorm | nn.SyncBatchNorm | NoisyBatchNorm):
            # Of this process alone: the others are not in this call. And without the noise, which is meant to be there.
            return batch_norm(values, None, None, self.twin.weight, self.twin.bias, 0.0, self.twin.eps)
        return self._counted(twin(self.twin).train().forward(*args, **kwargs))

    def _counted(self, output: Any) -> Tensor:
        """Of an output, what is no padding to a layer that is shown nothing else."""
        if isinstance(self.twin, ValidLastAxis):
            return seen_values(self.twin, (output,), {})
        frames: Tensor = output.data if isinstance(output, PackedSequence) else output
        return frames


def _norm(values: Tensor) -> Tensor:
    """() summed in double precision, without a copy in it."""
    found: Tensor = torch.linalg.vector_norm(values, dtype=torch.float64)
    return found


def _values_of_one_mean(layer: nn.Module, values: Tensor) -> int | None:
    """Of torch's layers that would take a single one; None for all others."""
    if isinstance(layer, nn.LayerNorm):
        return math.prod(layer.normalized_shape)
    if isinstance(layer, nn.GroupNorm) and len(values) > 0:
        return values.numel() // (len(values) * layer.num_groups)
    return None


def _known(layer: nn.Module) -> Population | None:
    try:
        return population_of(layer)
    except ValueError:
        return None
