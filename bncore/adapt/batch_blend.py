"""Prediction-time batch normalization: statistics of the test batch, or a blend of them with those of training.

Shapes: N examples, C channels (axis 1), any further axes are positions and count as examples.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.fx import Proxy

from bncore.adapt.adaptation import Adaptation
from bncore.norm._affine import scale_and_shift
from bncore.norm._moments import along_channels, moments
from bncore.norm._native import batch_norm, evaluate_batch_norm
from bncore.norm._other_formula import OtherFormula
from bncore.norm._quadratic import QuadraticNorm
from bncore.norm._snapshot import as_of_now
from bncore.norm._torch import AnyBatchNorm
from bncore.norm.batch_norm import BatchNorm, standardize
from bncore.norm.lp_batch_norm import NormBatchNorm
from bncore.norm.model.found import averages_instances, check_not_lazy, normalizations, path
from bncore.norm.model.last_axis import LastAxis
from bncore.norm.model.overlay import Temporary, buffers_replaced, lay_over, own_class, take_off
from bncore.norm.model.population import population_of, seen_values


def prediction_time(
    model: nn.Module, alpha: float = 1.0, *, where: Callable[[str, nn.Module], bool] | None = None
) -> Adaptation:
    """Let batch norm layers in evaluation mode use `(1 - alpha) * running + alpha * batch` for mean and variance.

    With the biased variance of the batch, so that `alpha=1` gives the numbers of batch norm in training mode exactly,
    and `alpha=0` those of evaluation. Each batch stands for itself: nothing is stored, dropout stays off, and layers in
    training mode do what they always do. A batch is normalized once, and the gradient flows through its statistics (of
    a class of others that is derived from torch's, only with `alpha=1`). Layers with other statistics than a variance
    blend those, `torch.nn.InstanceNorm*` with running statistics those of each example, `StepBatchNorm` those of each
    step that has two sequences. Of a layer for several
    processes, the batch is the local one. A deep copy that is made meanwhile stays adapted.

    arXiv 2006.10963 (alpha = 1); arXiv 2006.16971, with `alpha = n / (N + n)` for batches of n that are to count beside
    N of the source.

    Args:
        model: any module with batch norm layers, torch's or ours; call `model.eval()` yourself.
        alpha: weight of the batch, 0 to 1.
        where: called with the path and the layer; only layers for which it is true are adapted.

    Returns:
        The adaptation; `reset()` gives the layers back what they do by themselves.

    Raises:
        ValueError: for an alpha outside of 0 to 1; with its path, for a layer that is adapted already, or of an unknown
            class. From the forward pass with alpha 1, for one value per channel.
    """
    return _Blend(model, alpha, where)


class _Blend(Adaptation):
    def __init__(self, model: nn.Module, alpha: float, where: Callable[[str, nn.Module], bool] | None) -> None:
        if not 0.0 <= alpha <= 1.0:
            raise ValueError(f"alpha is the weight of the batch, from 0 to 1, got {alpha}")
        self._layers = layers_to_adapt(model, where)
        for layer in self._layers:
            lay_over(layer, population_of(layer).blend or _BatchBlend)
            layer._alpha = alpha

    def reset(self) -> None:
        for layer in self._layers:
            take_off(layer, population_of(layer).blend or _BatchBlend)
            del layer._alpha
        self._layers = []


def layers_to_adapt(model: nn.Module, where: Callable[[str, nn.Module], bool] | None) -> list[Any]:
    """The batch norm layers with statistics that can be blended."""
    layers = []
    for name, layer in normalizations(model, batch_statistics=True):
        if layer.num_batches_tracked is None or (where is not None and not where(name, layer)):
            continue
        if "_alpha" in vars(layer):
            raise ValueError(f"{path(name, layer)} is being adapted already; reset that first")
        check_not_lazy(path(name, layer), layer)
        try:
            population_of(layer)
        except ValueError as error:
            raise ValueError(f"{path(name, layer)}: {error}") from None
        layers.append(layer)
    return layers


class _BatchBlend(Temporary, OtherFormula):
    """Blends statistics in evaluation mode, where the layer's own forward pass would use the running ones."""

    _alpha: float

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        if self.training or self._alpha == 0.0 or isinstance(next(iter(args), None), Proxy):
            return super().forward(*args, **kwargs)
        values = seen_values(self, args, kwargs)
        if values.numel() == 0:
            return super().forward(*args, **kwargs)
        if averages_instances(self):
            given: Tensor = args[0] if args else kwargs["input"]
            return _blend_instances(self, values, self._alpha).reshape(given.shape)
        # Without a mask or another layout, the values are what the forward pass was given.
        direct = _only_standardizes(self) and any(values is given for given in (*args, *kwargs.values()))
        if direct and self._alpha == 1.0:
            layer: Any = self
            # The kernel of training, for its numbers to the last bit.
            return batch_norm(values, None, None, layer.weight, layer.bias, 0.0, layer.eps)
        if self._alpha == 1.0 and not isinstance(self, BatchNorm | QuadraticNorm):
            # A class of others, derived from torch's: its own training, which moves no average here.
            with _training(self):
                return super().forward(*args, **kwargs)
        population = population_of(self)
        batch = population.shown(population.measure(values))
        running = {name: getattr(self, name) for name in batch}
        blended = {name: one.lerp(batch[name].to(one.dtype), self._alpha) for name, one in running.items()}
        if direct:
            return _batch_norm(values, blended["running_mean"], blended["running_var"], self)
        if not isinstance(self, BatchNorm | QuadraticNorm):
            # Others' forward pass ends in a kernel that takes statistics for constants.
            blended = {name: one.detach() for name, one in blended.items()}
        with buffers_replaced(self, blended):
            return super().forward(*args, **kwargs)

    def _normalize_with_running(self, x: Tensor) -> Tensor:
        layer: Any = self
        if _evaluates_as_batch_norm(layer):
            mean, var = as_of_now(layer.running_mean, layer.running_var)
            return _batch_norm(x, mean, var, self)
        y: Tensor = super()._normalize_with_running(x)  # type: ignore[misc]
        return y


def _blend_instances(layer: Any, x: Tensor, alpha: float) -> Tensor:
    """Each example by its own statistics, blended with the running ones."""
    if alpha == 1.0:
        return F.instance_norm(x, None, None, layer.weight, layer.bias, True, 0.0, layer.eps)
    own = moments(x, range(2, x.dim()))
    mean, var = (
        along_channels(running.to(one.dtype), x).lerp(one, alpha)
        for running, one in ((layer.running_mean, own.mean), (layer.running_var, own.var))
    )
    y = (x.to(mean.dtype) - mean) * (var + layer.eps).rsqrt()
    return scale_and_shift(y, layer.weight, layer.bias).to(x.dtype)


@contextmanager
def _training(layer: Any) -> Iterator[None]:
    """Within it, the layer alone is in training mode, and keeps no statistics."""
    before = layer.track_running_stats
    layer.training, layer.track_running_stats = True, False
    try:
        yield
    finally:
        layer.training, layer.track_running_stats = False, before


def _batch_norm(x: Tensor, mean: Tensor, var: Tensor, layer: Any) -> Tensor:
    """Evaluation with statistics through which the gradient flows."""
    if torch.is_grad_enabled() and mean.requires_grad:
        return standardize(x, mean, var, layer.eps, layer.weight, layer.bias)
    return evaluate_batch_norm(x, mean, var, layer.weight, layer.bias, layer.eps)


def _evaluates_as_batch_norm(layer: BatchNorm) -> bool:
    """Whether evaluation is plain batch norm, by whatever statistics."""
    own: Any = own_class(layer)
    return own._normalize_with_running is BatchNorm._normalize_with_running


def _only_standardizes(layer: nn.Module) -> bool:
    """Whether its statistics are mean and variance, and its evaluation plain batch norm: torch's and most of ours.

    A class that others derive from these may do more.
    """
    if not own_class(layer).forward.__module__.startswith(("torch.nn.modules.", "bncore.norm.")):
        return False
    if isinstance(layer, BatchNorm):
        return _evaluates_as_batch_norm(layer) and not isinstance(layer, NormBatchNorm | LastAxis)
    return isinstance(layer, AnyBatchNorm)
