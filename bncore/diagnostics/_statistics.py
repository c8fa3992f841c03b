"""How the statistics of one batch lie to the running ones of a layer, and how old these are."""

import math
from typing import Any, NamedTuple

from torch import Tensor

from bncore.diagnostics.report import Worst
from bncore.norm._moments import Moments
from bncore.norm.batch_renorm import BatchRenorm, Ramp
from bncore.norm.model.found import averages_instances, has_batch_statistics
from bncore.norm.model.population import Population
from bncore.norm.power_norm import PowerNorm
from bncore.spec.norm.cold_start import COLD_START, initial_share

_DROWNED = 1e-2
"""Share of eps below which a variance counts as none: the output's standard deviation is below 0.1 then."""


class Look(NamedTuple):
    """What was seen of a layer by its calls, on the host."""

    population: Population | None
    values: Moments | None
    together: int


class Measured(NamedTuple):
    """What one batch says of a layer with statistics of batches; see `LayerDiagnosis`."""

    values: int | None = None
    shift: Worst | None = None
    ratio: Worst | None = None
    channels: int | None = None
    dead: tuple[int, ...] = ()
    seen: int | None = None
    cold: float | None = None


def of_batch(layer: Any, look: Look, found: Moments | None) -> Measured:
    """Of a layer with one set of statistics, or none."""
    shift, ratio = _distances(layer, look, found)
    seen, cold = _age(layer, look, found)
    var = None if look.values is None else look.values.var.flatten()
    return Measured(
        values=look.together or None,
        shift=shift,
        ratio=ratio,
        channels=None if var is None else len(var),
        dead=() if var is None else where(var < _DROWNED * layer.eps),
        seen=seen,
        cold=cold,
    )


def of_steps(layer: Any, found: Any) -> Measured:
    """Of a layer with statistics of each step, over the steps of which the batch had two sequences or more."""
    counted = (found.count > 1).flatten()
    if not bool(counted.any()):
        return Measured(channels=found.mean.shape[1])
    mean, var = found.mean[counted], found.var[counted]
    running, running_var = (tensor.to(mean)[counted] for tensor in (layer.running_mean, layer.running_var))
    scale = running_var + layer.eps
    seen = int(layer.num_batches_tracked.to(counted.device)[counted].min())
    return Measured(
        values=int(found.count[counted].min()),
        shift=_worst(((mean - running).abs() / scale.sqrt()).amax(0)),
        ratio=_worst(((var + layer.eps) / scale).log().abs().amax(0)),
        channels=mean.shape[1],
        dead=where(var.amax(0) < _DROWNED * layer.eps),
        seen=seen,
        cold=_cold_start(initial_share(layer.momentum, seen), running, mean, 0.0),
    )


def _distances(layer: Any, look: Look, found: Moments | None) -> tuple[Worst | None, Worst | None]:
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


def _age(layer: Any, look: Look, found: Moments | None) -> tuple[int | None, float | None]:
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


def updates_wanted(layer: Any) -> float:
    """5 / momentum."""
    momentum = _momentum(layer)
    return 1.0 if momentum is None else 5.0 / momentum if momentum > 0.0 else math.inf


def clipped(layer: Any, found: Any) -> tuple[float | None, float | None, bool]:
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


def where(mask: Tensor) -> tuple[int, ...]:
    """The channels at which it holds."""
    return tuple(mask.nonzero().flatten().tolist())


def _worst(values: Tensor) -> Worst:
    # NaN is larger than any number here, as it should be.
    channel = int(values.argmax())
    return Worst(float(values[channel]), channel)
