"""The statistics that a layer would evaluate with if some values were all that there are.

Invariant: parts are merged exactly, whatever their sizes, and never as a difference of large numbers; what is installed
is what the layer itself keeps: a variance, the square of a norm, a covariance, a whitening matrix.

Shapes: values (N, C, ...); C channels in G groups of D, for layers with groups.
"""

import inspect
import math
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from bncore.norm._moments import Moments, channel_axes, merge, moments, statistics_dtype
from bncore.norm._quadratic import QuadraticNorm
from bncore.norm._whitening import Whitening
from bncore.norm.batch_norm import BatchNorm
from bncore.norm.batch_renorm import BatchRenorm
from bncore.norm.ghost_batch_norm import GhostBatchNorm
from bncore.norm.l1_batch_norm import L1BatchNorm
from bncore.norm.lp_batch_norm import LpBatchNorm, NormBatchNorm
from bncore.norm.masked_batch_norm import MaskedBatchNorm
from bncore.norm.model.found import averages_instances
from bncore.norm.model.last_axis import LastAxis, ValidLastAxis
from bncore.norm.model.overlay import Temporary, own_class
from bncore.norm.model.positions import as_batch


class Population:
    """How a layer measures values, merges measurements, and keeps them: here, as mean and variance (C,)."""

    passes = 1
    """How often all values have to be seen."""
    least = 2
    """How much has to be counted for there to be statistics."""
    blend: type[Temporary] | None = None
    """What blends its statistics with those of a batch by the share `_alpha` of the layer; None: what blends others."""
    by_itself = False
    """Whether training normalizes each example by itself, so that no running statistics show what it does."""

    def __init__(self, layer: nn.Module) -> None:
        self.layer: Any = layer
        self.centre: Tensor | None = None
        """In a second pass, the mean of all values."""

    @property
    def takes_moments(self) -> bool:
        """Whether what it measures and merges, by forward passes, are mean and variance of each channel."""
        kind = type(self)
        return all(getattr(kind, name) is getattr(Population, name) for name in ("measure", "merge", "watching"))

    def measure(self, x: Tensor) -> Moments:
        """Of values (N, C, ...), at least one; in their own precision, or single for half; differentiable."""
        found = moments(x, channel_axes(x))
        return Moments(found.mean.flatten(), found.var.flatten(), found.count)

    def watching(
        self,
        found: dict[nn.Module, Any],  # noqa: ARG002
        order: list[tuple[nn.Module, int]],  # noqa: ARG002
        *,
        by_batch: bool,  # noqa: ARG002
    ) -> AbstractContextManager[None] | None:
        """A context in which the layer is measured otherwise than by its forward passes; None where it is by them.

        See `observing`, whose `found` and `order` these are.
        """
        return None

    def suffices(self, of: Any) -> bool:
        """Whether so much was measured that the layer can keep it."""
        return bool(of.count >= self.least)

    def together(self, x: Tensor) -> int:
        """How many values per channel training would normalize together; one would be erased."""
        return x.numel() // x.shape[1]

    def measure_alone(self, x: Tensor) -> Moments:
        """The same, in a second pass too as if there were no other values."""
        return self.measure(x)

    def merge(self, first: Moments, second: Moments) -> Moments:
        """Of both sets of values together."""
        return merge(first, second)

    def shown(self, of: Moments) -> dict[str, Tensor]:
        """By buffer, what makes evaluation of the measured values what training normalizes them to."""
        return {"running_mean": of.mean, "running_var": of.var}

    def kept(self, of: Moments) -> dict[str, Tensor]:
        """By buffer, what the layer keeps of at least `least` for others: here, with the unbiased variance."""
        return {"running_mean": of.mean, "running_var": of.var * (of.count / (of.count - 1))}


class _Deviation(Population):
    """The standard deviation is what is averaged, as it is."""

    def kept(self, of: Moments) -> dict[str, Tensor]:
        return self.shown(of)


class _Ghosts(Population):
    """Evaluation is of all values, as of batch norm; training normalizes a group of examples together."""

    def together(self, x: Tensor) -> int:
        """Of the smallest group."""
        examples, positions = len(x), x.numel() // (len(x) * x.shape[1])
        size: int = self.layer.virtual_batch_size
        groups = -(-examples // size)
        # As the layer has it: no group has a single value, unless a larger one is not allowed.
        most = groups if positions > 1 or size == 1 else max(1, examples // 2)
        return examples // min(groups, most) * positions


class _Norms(_Deviation):
    """Mean and the square of a norm (C,): of the mean magnitude, of the root of the mean square, of the maximum."""

    def __init__(self, layer: NormBatchNorm) -> None:
        super().__init__(layer)
        self.power = layer.p if isinstance(layer, LpBatchNorm) else 1
        # Deviations from the mean of all values can be measured when that is known.
        self.passes = 2 if isinstance(layer, L1BatchNorm) else 1

    def measure(self, x: Tensor) -> Moments:
        return self._measure(x, self.centre)

    def measure_alone(self, x: Tensor) -> Moments:
        return self._measure(x, None)

    def merge(self, first: Moments, second: Moments) -> Moments:
        count = first.count + second.count
        share = second.count / count
        mean = first.mean + (second.mean - first.mean) * share
        if self.power == math.inf:
            return Moments(mean, torch.maximum(first.var, second.var), count)
        half = self.power / 2
        return Moments(mean, (first.var**half * (1.0 - share) + second.var**half * share) ** (1.0 / half), count)

    def _measure(self, x: Tensor, centre: Tensor | None) -> Moments:
        found = moments(x, channel_axes(x))
        around = found.mean if centre is None else centre.view_as(found.mean)
        wide = x.to(found.mean.dtype)
        squared: Tensor = self.layer._squared_norm(wide if self.layer._before_centring else wide - around)
        return Moments(found.mean.flatten(), squared.flatten(), found.count)


class _Averages(_Deviation):
    """Averages of means and of squares or variances that take no part in each other."""

    def merge(self, first: Moments, second: Moments) -> Moments:
        count = first.count + second.count
        share = second.count / count
        return Moments(first.mean.lerp(second.mean, share), first.var.lerp(second.var, share), count)


class _Instances(_Averages):
    """The means over instances of their mean and variance, as torch's instance norm averages them; `count` instances.

    In training each instance is normalized by its own, which no statistics of several are.
    """

    least = 1
    by_itself = True

    def together(self, x: Tensor) -> int:
        return x[0, 0].numel()

    def measure(self, x: Tensor) -> Moments:
        found = moments(x, range(2, x.dim()))
        if found.count == 1:
            raise ValueError(f"Expected more than 1 spatial element when training, got input size {tuple(x.shape)}")
        unbiased = found.var * (found.count / (found.count - 1))
        return Moments(found.mean.flatten(1).mean(0), unbiased.flatten(1).mean(0), len(x))


class _Square(_Averages):
    """The mean of x^2 (C,), in the place of the variance; the mean is measured for those who ask."""

    def measure(self, x: Tensor) -> Moments:
        wide = x.to(statistics_dtype(x.dtype))
        axes = channel_axes(x)
        return Moments(wide.mean(axes), wide.square().mean(axes), x.numel() // x.shape[1])

    def shown(self, of: Moments) -> dict[str, Tensor]:
        return {"running_square": of.var}


class _Covariance(Population):
    """Mean (G, D, 1) and covariance (G, D, D) of groups of channels."""

    def measure(self, x: Tensor) -> Moments:
        groups = self.layer.num_groups
        rows = x.to(statistics_dtype(x.dtype)).transpose(0, 1).reshape(groups, x.shape[1] // groups, -1)
        mean = rows.mean(-1, keepdim=True)
        centred = rows - mean
        return Moments(mean, centred @ centred.mT / rows.shape[-1], rows.shape[-1])

    def merge(self, first: Moments, second: Moments) -> Moments:
        count = first.count + second.count
        share = second.count / count
        gap = second.mean - first.mean
        spread = first.var * (1.0 - share) + second.var * share
        return Moments(first.mean + gap * share, spread + gap @ gap.mT * (share * (1.0 - share)), count)

    def shown(self, of: Moments) -> dict[str, Tensor]:
        return self._averaged(of, 1.0)

    def kept(self, of: Moments) -> dict[str, Tensor]:
        return self._averaged(of, of.count / (of.count - 1))

    def _averaged(self, of: Moments, factor: float) -> dict[str, Tensor]:
        mean = of.mean.flatten()
        if "running_covariance" in self.layer._buffers:
            return {"running_mean": mean, "running_covariance": of.var * factor}
        return {"running_mean": mean, "running_projection": self.layer._whitening_matrix(of.var)}


_MEASURED_AS: list[tuple[type[nn.Module], type[Population]]] = [
    (NormBatchNorm, _Norms),
    (QuadraticNorm, _Square),
    (Whitening, _Covariance),
    (BatchRenorm, _Deviation),
    (GhostBatchNorm, _Ghosts),
    *((cls, Population) for cls in (BatchNorm, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)),
]
"""The first class that a layer is of says how it is measured."""


def measure_as(cls: type[nn.Module], population: type[Population]) -> None:
    """Make known how layers of a package above this one are measured."""
    _MEASURED_AS.append((cls, population))


def in_double(values: Tensor) -> Tensor:
    """Values as they are measured; on the CPU, from the one kind of device without double precision."""
    return (values.cpu() if values.device.type == "mps" else values).to(torch.float64)


def population_of(layer: nn.Module) -> Population:
    """How `layer` is measured.

    Raises:
        ValueError: it is of a class whose statistics are not known here.
    """
    if averages_instances(layer):
        return _Instances(layer)
    for cls, population in _MEASURED_AS:
        if isinstance(layer, cls):
            return population(layer)
    raise ValueError(f"what statistics a {own_class(layer).__name__} keeps is not known; exclude it")


def seen_values(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    """Of the arguments of a forward pass of `layer`, the values that enter its statistics, as a batch (N, C, ...)."""
    x, mask, lengths = _arguments(layer, args, kwargs)
    if isinstance(x, PackedSequence):
        return x.data
    x = as_batch(layer, x)
    if isinstance(layer, MaskedBatchNorm):
        mask = layer.mask_of(x, mask, lengths)
    elif isinstance(layer, ValidLastAxis):
        mask = layer.mask_of(x)
    # `SequenceBatchNorm` of the package above this one has its channels there too.
    on_last_axis = isinstance(layer, LastAxis) or hasattr(layer, "batch_first")
    if mask is None:
        values: Tensor = x.flatten(0, -2) if on_last_axis else x
    else:
        values = (x if on_last_axis else x.movedim(1, -1))[mask]
    return values


def _arguments(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any, Any]:
    """The batch, which is the first argument whatever its name, mask and lengths."""
    if len(args) == 1 and not kwargs:
        return args[0], None, None
    declared: Any = own_class(layer).forward
    given = inspect.signature(declared).bind(layer, *args, **kwargs).arguments
    return list(given.values())[1], given.get("mask"), given.get("lengths")
