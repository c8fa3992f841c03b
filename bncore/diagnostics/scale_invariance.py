"""Whether the scale of weights in front of a normalization makes no difference, and how much of one eps makes."""

import copy
import itertools
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Unpack

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from bncore.diagnostics._on_host import numbers
from bncore.diagnostics._own_weights import is_norm
from bncore.diagnostics._passage import Passage, passage
from bncore.diagnostics._passes import applied, is_plain
from bncore.diagnostics._probe import How, Probe, gradients, probing
from bncore.diagnostics._recorded import recorded
from bncore.norm._valid import TakesValid
from bncore.norm.cross_iteration_batch_norm import CrossIterationBatchNorm
from bncore.recording import Recording, Site
from bncore.spec.diagnostics import ScaleInvarianceSpec
from bncore.spec.diagnostics.gradients import WAYS_OF_EPS, Eps

FACTORS = (0.01, 0.1, 10.0, 100.0)

_NO_EPS = 1e-300
"""torch refuses 0; next to any variance this is none."""


def scale_invariance(
    model: nn.Module,
    inputs: Any,
    labels: Tensor | None = None,
    *,
    factors: Sequence[float] = FACTORS,
    **how: Unpack[How],
) -> Recording:
    """How far BN((aW)u) is from BN(Wu), and gradients from what theory says, for factors a.

    Sites (role `weights`): linear and convolutional layers whose output goes straight into a normalization N. Each is
    measured by itself, in float64: u is what it gets in a training pass, v the gradient of the loss by what comes out
    of N there, and f(W) = N(W u + b), whose derivatives are those of <v, f>.

    Arrays (factor, site), "1": `output_error_*` = max|f(aW) - f(W)| / max|f(W)|, `gradient_error_*` =
    |a df/d(aW) - df/dW| / |df/dW|, `input_gradient_error_*` = the same of df/du, which should not change at all, and
    `orthogonality_*` = |<aW, df/d(aW)>| / (|aW| |df/d(aW)|). For `*` as_trained: with the eps that the layer has;
    eps_scaled: with a^2 eps at aW, where batch norm is exact (errors below 1e-9); eps_zero: with none, where it is
    exact, too, and the gradient is orthogonal to W. `factor` (factor,). Scalars: the greatest of each array.

    Source: arXiv 1502.03167, section 3.3. Traps: with its eps batch norm is off by about eps / variance, which is large
    for small a and for inputs that hardly vary; a layer that is in evaluation mode, or normalizes with earlier batches
    (batch renorm within its bounds), is not invariant; biases cancel only where the mean is subtracted. Cross-iteration
    norms, which cannot be run by themselves, are left out.

    Raises:
        ValueError: no layer of weights goes straight into a normalization (as inside of recurrent layers, or where the
            normalization comes after the activation), a factor is not above 0, or there are no labels.
    """
    if not all(factor > 0.0 for factor in factors) or not len(factors):
        raise ValueError(f"factors are above 0, one at the least, and here {list(factors)}")
    with probing(model, inputs, labels, how) as probe, parametrize.cached():
        passed = passage(probe)
        pairs = _pairs(probe, passed)
        if not pairs:
            raise ValueError(
                "no linear or convolutional layer goes straight into a normalization: no scale to be invariant to"
            )
        with torch.autocast(pairs[0].x.device.type, enabled=False):
            found = [_errors(pair, eps, factors) for eps in WAYS_OF_EPS for pair in pairs]
    errors = ScaleInvarianceSpec.errors
    read = np.array(numbers([*itertools.chain.from_iterable(found)]))
    by_eps = read.reshape(len(WAYS_OF_EPS), len(pairs), len(factors), len(errors)).transpose(0, 3, 2, 1)
    arrays = {
        f"{name}_{eps}": of_eps[number]
        for eps, of_eps in zip(WAYS_OF_EPS, by_eps, strict=True)
        for number, name in enumerate(errors)
    }
    return recorded(
        "scale_invariance",
        how,
        {"factor": (list(factors), ("factor",)), **{key: (array, ("factor", "site")) for key, array in arrays.items()}},
        sites=tuple(pair.site for pair in pairs),
        scalars={f"max_{name}": float(array.max()) for name, array in arrays.items()},
    )


@dataclass
class _Pair:
    """Weights W and the normalization behind them as both were in one pass; v is known when it is over."""

    site: Site
    layer: Any
    norm: nn.Module
    x: Tensor
    rest: tuple[tuple[Any, ...], dict[str, Any]]
    """What else the normalization was given."""
    v: Tensor
    """Until then, what goes into the normalization."""
    usual_eps: float
    """Of torch's normalizations that name none: it is that of the type that they get."""


class _Watch:
    """Sees one pass, and which output of weights is the very input of a normalization."""

    def __init__(self, network: nn.Module, passed: Passage) -> None:
        self.pairs: list[_Pair] = []
        self.sites = {matrix.owner: matrix.site for matrix in passed.matrices if is_plain(matrix.owner)}
        self.twins = {
            module: copy.deepcopy(module).double()
            for module in network.modules()
            if is_norm(module) and not isinstance(module, CrossIterationBatchNorm)
        }
        """As they are before the pass moves what they keep."""
        self._came_out: list[tuple[nn.Module, Tensor, Tensor]] = []

    def weighted(self, layer: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
        self._came_out.append((layer, args[0], output))

    def enters(self, norm: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        for layer, x, output in self._came_out:
            if args and output is args[0]:
                twin, rest = copy.deepcopy(self.twins[norm]), (args[1:], kwargs)
                for part, own in zip(twin.modules(), norm.modules(), strict=True):
                    if isinstance(part, TakesValid) and isinstance(own, TakesValid):
                        # Which positions are valid is known while the network runs.
                        part._handed = own._handed
                usual = torch.finfo(output.dtype).eps
                self.pairs.append(_Pair(self.sites[layer], layer, twin, x.detach().double(), rest, output, usual))

    def leaves(self, _norm: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
        if not self.pairs or not args or self.pairs[-1].v is not args[0]:
            return output
        if not output.requires_grad:
            # Behind frozen layers alone: it can be asked for all the same.
            output = output.detach().requires_grad_()
        self.pairs[-1].v = output
        return output.clone()


def _pairs(probe: Probe, passed: Passage) -> list[_Pair]:
    watch = _Watch(probe.network, passed)
    with ExitStack() as until:
        for module in probe.network.modules():
            if module in watch.sites:
                until.callback(module.register_forward_hook(watch.weighted).remove)
            elif module in watch.twins:
                until.callback(module.register_forward_pre_hook(watch.enters, with_kwargs=True).remove)
                until.callback(module.register_forward_hook(watch.leaves).remove)
        loss = probe.loss()
    for pair, v in zip(watch.pairs, gradients(loss, [pair.v for pair in watch.pairs]), strict=True):
        pair.v = v.double()
    return watch.pairs


def _errors(pair: _Pair, eps: Eps, factors: Sequence[float]) -> list[Tensor]:
    """For each factor, the four errors, () each."""
    y, by_weight, by_x = _at(pair, eps, 1.0)
    found: list[Tensor] = []
    for factor in factors:
        scaled, by_scaled, by_its_x = _at(pair, eps, factor)
        weight = pair.layer.weight.detach().double() * factor
        inner = (weight * by_scaled).sum().abs() / (_length(weight) * _length(by_scaled))
        found += (
            (scaled - y).abs().max() / y.abs().max(),
            _length(by_scaled * factor - by_weight) / _length(by_weight),
            _length(by_its_x - by_x) / _length(by_x),
            inner,
        )
    return found


def _at(pair: _Pair, eps: Eps, factor: float) -> tuple[Tensor, Tensor, Tensor]:
    """f(aW), and the derivatives of <v, f> by aW and by u."""
    norm = copy.deepcopy(pair.norm)
    for part in norm.modules():
        own: Any = part
        if isinstance(own, nn.RMSNorm) and own.eps is None:
            own.eps = pair.usual_eps
        if eps != "as_trained" and isinstance(getattr(own, "eps", None), float):
            own.eps = own.eps * factor**2 if eps == "eps_scaled" else _NO_EPS
    weight = (pair.layer.weight.detach().double() * factor).requires_grad_()
    x = pair.x.clone().requires_grad_()
    bias = None if pair.layer.bias is None else pair.layer.bias.detach().double()
    args, kwargs = pair.rest
    y = norm(applied(pair.layer, x, weight, bias), *args, **kwargs)
    by_weight, by_x = gradients((y * pair.v).sum(), [weight, x])
    return y.detach(), by_weight, by_x


def _length(tensor: Tensor) -> Tensor:
    found: Tensor = torch.linalg.vector_norm(tensor)
    return found
