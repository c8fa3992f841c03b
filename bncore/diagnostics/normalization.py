"""How the normalization layers of a model are doing, seen on one batch.

Invariant: the model is after it what it was before, bit for bit: buffers, modes, gradients, and the random streams.
"""

import copy
import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from bncore.diagnostics.report import Diagnosis, LayerDiagnosis, Worst
from bncore.norm._moments import Moments, channel_axes, merge, moments, statistics_dtype
from bncore.norm._native import batch_norm
from bncore.norm.batch_renorm import BatchRenorm, Ramp
from bncore.norm.dynamic_tanh import DynamicTanh
from bncore.norm.frozen_batch_norm import FrozenBatchNorm
from bncore.norm.global_response_norm import GlobalResponseNorm
from bncore.norm.model.feed import Forward, evaluating, run
from bncore.norm.model.found import averages_instances, has_batch_statistics, normalizations
from bncore.norm.model.observe import observing
from bncore.norm.model.overlay import own_class
from bncore.norm.model.population import Population, population_of, seen_values
from bncore.norm.model.untouched import untouched
from bncore.norm.noisy_batch_norm import NoisyBatchNorm
from bncore.norm.power_norm import PowerNorm
from bncore.norm.sync_batch_norm import SyncBatchNorm
from bncore.spec.norm.cold_start import COLD_START, initial_share

_SMALL_SCALE = 1e-3
_DROWNED = 1e-2
"""Share of eps below which a variance counts as none: the output's standard deviation is below 0.1 then."""


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
    found = observed.found
    return Diagnosis(tuple(_said(name, layer, looks[layer], found.get(layer)) for name, layer in layers))


def _layers_of(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """Those of each kind in the order of `named_modules`: those that only other layers use, in recurrences, too."""
    found = dict([*normalizations(model), *normalizations(model, batch_statistics=True)])
    inside = tuple(f"{name}." for name in found if name)
    return [(name, found[name]) for name, _ in model.named_modules() if name in found and not name.startswith(inside)]


class _Look:
    """What one layer does with the inputs that come by."""

    def __init__(self, layer: Any) -> None:
        self.reached = False
        self.finite_input = True
        self.erases = False
        self.squares = not isinstance(layer, DynamicTanh | FrozenBatchNorm)
        self.overflows = False
        self.population: Population | None = None
        self.values: Moments | None = None
        # The layer itself goes on with the statistics of the batch in its buffers.
        self.twin: Any = _twin(layer)
        self.squared_gap = self.squared_output = 0.0
        self.keeps_statistics = has_batch_statistics(layer)
        self.together = 0
        if self.keeps_statistics and self.twin.num_batches_tracked is not None:
            self.population = _known(layer)
            # Training shows its output and looks for no more than that. An instance norm would evaluate as it trains.
            self.twin.track_running_stats = averages_instances(layer)

    def see(self, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Before each forward pass of the layer."""
        self.reached = True
        values = seen_values(layer, args, kwargs)
        self.erases = self.erases or _values_of_one_mean(layer, values) == 1
        self.finite_input = self.finite_input and bool(values.isfinite().all())
        if self.squares and self.finite_input and not self.overflows:
            self.overflows = not bool(values.to(statistics_dtype(values.dtype)).square().isfinite().all())
        if not self.keeps_statistics or values.numel() == 0:
            return
        one = moments(values.to(torch.float64), channel_axes(values))
        self.values = one if self.values is None else merge(self.values, one)
        population = self.population
        together = one.count if population is None else population.together(values)
        self.together = together if population is not None and population.by_itself else self.together + together
        if population is None or together == 1:
            return
        evaluation = _frames(self.twin.eval().forward(*args, **kwargs))
        gap = self._train(values, args, kwargs).reshape(evaluation.shape) - evaluation
        self.squared_gap += float(gap.double().square().sum())
        self.squared_output += float((evaluation + gap).double().square().sum())

    @property
    def gap(self) -> float | None:
        """None where the batch showed none, or no output to compare it with."""
        if self.population is None or self.squared_output == 0.0:
            return None
        return math.sqrt(self.squared_gap / self.squared_output)

    def _train(self, values: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        if isinstance(self.twin, SyncBatchNorm | nn.SyncBatchNorm | NoisyBatchNorm):
            # Of this process alone: the others are not in this call. And without the noise, which is meant to be there.
            return batch_norm(values, None, None, self.twin.weight, self.twin.bias, 0.0, self.twin.eps)
        return _frames(_twin(self.twin).train().forward(*args, **kwargs))


def _values_of_one_mean(layer: nn.Module, values: Tensor) -> int | None:
    """Of torch's layers that would take a single one; None for all others."""
    if isinstance(layer, nn.LayerNorm):
        return math.prod(layer.normalized_shape)
    if isinstance(layer, nn.GroupNorm) and len(values) > 0:
        return values.numel() // (len(values) * layer.num_groups)
    return None


def _twin(layer: nn.Module) -> Any:
    """A copy with tensors of its own; whatever else others hung on the layer is shared, as not all can be copied."""
    own = ("_parameters", "_buffers", "_modules")
    return copy.deepcopy(layer, {id(value): value for name, value in vars(layer).items() if name not in own})


def _known(layer: nn.Module) -> Population | None:
    try:
        return population_of(layer)
    except ValueError:
        return None


def _frames(output: Any) -> Tensor:
    frames: Tensor = output.data if isinstance(output, PackedSequence) else output
    return frames


def _said(name: str, layer: Any, look: _Look, found: Any) -> LayerDiagnosis:
    tensors = [*layer.named_parameters(), *layer.named_buffers()]
    of_steps = found is not None and isinstance(found.count, Tensor)
    measured = _of_steps(layer, found) if of_steps else _of_batch(layer, look, found)
    clipped_r, clipped_d, is_ramping = _clipped(layer, found)
    return LayerDiagnosis(
        name=name,
        kind=own_class(layer).__name__,
        reached=look.reached or found is not None,
        finite_input=look.finite_input and not (of_steps and not bool(found.mean.isfinite().all())),
        erases=look.erases,
        overflows=look.overflows,
        not_finite=tuple(key for key, tensor in tensors if not bool(tensor.isfinite().all())),
        small_scales=_small_scales(layer),
        values=measured.values,
        gap=look.gap,
        mean_shift=measured.shift,
        log_variance_ratio=measured.ratio,
        channels=measured.channels,
        dead=measured.dead,
        batches_seen=measured.seen,
        cold_start=measured.cold,
        updates_wanted=None if measured.seen is None else _updates_wanted(layer),
        clipped_r=clipped_r,
        clipped_d=clipped_d,
        is_ramping=is_ramping,
    )


class _Measured(NamedTuple):
    """What one batch says of a layer with statistics of batches; see `LayerDiagnosis`."""

    values: int | None = None
    shift: Worst | None = None
    ratio: Worst | None = None
    channels: int | None = None
    dead: tuple[int, ...] = ()
    seen: int | None = None
    cold: float | None = None


def _of_batch(layer: Any, look: _Look, found: Moments | None) -> _Measured:
    shift, ratio = _distances(layer, look, found)
    seen, cold = _age(layer, look, found)
    var = None if look.values is None else look.values.var.flatten()
    return _Measured(
        values=look.together or None,
        shift=shift,
        ratio=ratio,
        channels=None if var is None else len(var),
        dead=() if var is None else _where(var < _DROWNED * layer.eps),
        seen=seen,
        cold=cold,
    )


def _of_steps(layer: Any, found: Any) -> _Measured:
    """Of a layer with statistics of each step, over the steps of which the batch had two sequences or more."""
    counted = (found.count > 1).flatten()
    if not bool(counted.any()):
        return _Measured(channels=found.mean.shape[1])
    mean, var = found.mean[counted], found.var[counted]
    running, running_var = (tensor.to(mean)[counted] for tensor in (layer.running_mean, layer.running_var))
    scale = running_var + layer.eps
    seen = int(layer.num_batches_tracked.to(counted.device)[counted].min())
    return _Measured(
        values=int(found.count[counted].min()),
        shift=_worst(((mean - running).abs() / scale.sqrt()).amax(0)),
        ratio=_worst(((var + layer.eps) / scale).log().abs().amax(0)),
        channels=mean.shape[1],
        dead=_where(var.amax(0) < _DROWNED * layer.eps),
        seen=seen,
        cold=_cold_start(initial_share(layer.momentum, seen), running, mean, 0.0),
    )


def _distances(layer: Any, look: _Look, found: Moments | None) -> tuple[Worst | None, Worst | None]:
    """Of the statistics of the batch from the running ones, in their own units."""
    if look.values is None or look.population is None or found is None:
        return None, None
    batch, shift, ratio = look.population.shown(found), None, None
    scale = look.values.var.flatten() + layer.eps
    for name in ("running_var", "running_square"):
        if name in batch:
            scale = getattr(layer, name).double() + layer.eps
            ratio = _worst(((batch[name] + layer.eps) / scale).log().abs())
    if "running_mean" in batch:
        shift = _worst((batch["running_mean"] - layer.running_mean).abs() / scale.sqrt())
    return shift, ratio


def _age(layer: Any, look: _Look, found: Moments | None) -> tuple[int | None, float | None]:
    """How many batches it has seen, and what is left of the initial values."""
    if not has_batch_statistics(layer) or layer.num_batches_tracked is None or averages_instances(layer):
        # torch's instance norm has a count of batches, and does not count.
        return None, None
    seen = int(layer.num_batches_tracked.max())
    share = initial_share(_momentum(layer), seen)
    if look.population is None or found is None:
        return seen, share
    batch = look.population.shown(found)
    name, initial = ("running_mean", 0.0) if "running_mean" in batch else ("running_square", 1.0)
    return seen, _cold_start(share, getattr(layer, name), batch[name], initial)


def _cold_start(share: float, running: Tensor, batch: Tensor, initial: float) -> float | None:
    """`share`, unless it is not what was left: statistics that were measured or loaded lie where those of the batch do.

    They are as old as the count says all the same.
    """
    cold_value = batch + share * (initial - batch)
    cold = (running - cold_value).square().sum() < (running - batch).square().sum()
    return share if bool(cold) or share < COLD_START else None


def _momentum(layer: Any) -> float | None:
    found: float | None = layer.forward_momentum if isinstance(layer, PowerNorm) else layer.momentum
    return found


def _updates_wanted(layer: Any) -> float:
    momentum = _momentum(layer)
    return 1.0 if momentum is None else 5.0 / momentum if momentum > 0.0 else math.inf


def _clipped(layer: Any, found: Any) -> tuple[float | None, float | None, bool]:
    """Of batch renorm, the shares of channels at the bounds of r and d, and whether these still move."""
    if not isinstance(layer, BatchRenorm) or found is None or layer.running_mean is None:
        return None, None, False
    assert layer.running_var is not None
    assert layer.num_batches_tracked is not None
    sigma = (layer.running_var.double() + layer.eps).sqrt()
    r = (found.var.flatten() + layer.eps).sqrt() / sigma
    d = (found.mean.flatten() - layer.running_mean.double()).abs() / sigma
    r_max, d_max = (float(bound) for bound in layer._bounds(sigma))
    ends = [bound.end_step for bound in (layer.r_max, layer.d_max) if isinstance(bound, Ramp)]
    is_ramping = int(layer.num_batches_tracked) < max(ends, default=0)
    shares = ((r > r_max) | (r < 1.0 / r_max)), d > d_max
    return float(shares[0].double().mean()), float(shares[1].double().mean()), is_ramping


def _small_scales(layer: nn.Module) -> tuple[int, ...]:
    scale = getattr(layer, "weight", None)
    if scale is None or scale.dim() != 1 or isinstance(layer, GlobalResponseNorm):
        # Global response norm scales what it adds to its input: 0 leaves that alone.
        return ()
    return _where(scale.detach().abs() < _SMALL_SCALE)


def _where(mask: Tensor) -> tuple[int, ...]:
    return tuple(mask.nonzero().flatten().tolist())


def _worst(values: Tensor) -> Worst:
    # NaN is larger than any number here, as it should be.
    channel = int(values.argmax())
    return Worst(float(values[channel]), channel)
