"""Weight standardization: the weights of each output unit have mean 0 and a fixed variance.

Shapes: those of `_units.py`. `fan_in` is the number of weights of one unit.
"""

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from bncore.norm._dispatch import may_use_native
from bncore.norm._fold import fold, weight_of
from bncore.norm._moments import moments
from bncore.norm._native import batch_norm
from bncore.norm._units import by_unit, check_fan_in, transposed_groups


def weight_standardization(module: nn.Module, eps: float = 1e-5, name: str = "weight") -> nn.Module:
    """Replace `module.<name>` by its `WeightStandardization`; returns the module.

    In the state, the weight that is learned is `parametrizations.<name>.original`. Linear layers, convolutions and
    transposed convolutions of any rank. A parametrized module can be deep-copied, but pickled only after
    `remove_weight_standardization`.

    Args:
        module: the layer that holds the weight.
        eps: added to the variance.
        name: the weight's name.

    Raises:
        ValueError: for units with one weight each, which would become 0, and where `module` has no such weight.
    """
    groups = transposed_groups(module)
    check_fan_in(weight_of(module, name), groups)
    return parametrize.register_parametrization(module, name, WeightStandardization(eps, groups))


def scaled_weight_standardization(
    module: nn.Module, eps: float = 1e-4, gain: float = 1.0, name: str = "weight"
) -> nn.Module:
    """Replace `module.<name>` by its `ScaledWeightStandardization`; returns the module.

    In the state, the weight that is learned is `parametrizations.<name>.original` and its gains are
    `parametrizations.<name>.0.gain`. Otherwise as `weight_standardization`.

    Args:
        module: the layer that holds the weight.
        eps: lower bound of the variance times fan-in.
        gain: what the activation loses, a constant.
        name: the weight's name.

    Raises:
        ValueError: for units with one weight each, which would become 0, and where `module` has no such weight.
    """
    weight, groups = weight_of(module, name), transposed_groups(module)
    check_fan_in(weight, groups)
    units = weight.shape[0] if groups is None else groups * weight.shape[1]
    scaled = ScaledWeightStandardization(units, eps, gain, groups, device=weight.device, dtype=weight.dtype)
    return parametrize.register_parametrization(module, name, scaled)


def remove_weight_standardization(module: nn.Module, name: str = "weight") -> nn.Module:
    """Make `module.<name>` a plain parameter again, with the value that it has now; returns the module.

    For both kinds of standardization.
    """
    return fold(module, name)


class WeightStandardization(nn.Module):
    """A parametrization that standardizes the weights of each output unit.

    `(w - mean) / sqrt(var + eps)` with mean and biased variance over the weights of a unit. Input and output: a weight
    (O, I, ...), or (I, O / groups, ...) of a transposed convolution.

    Difference from torch: there is none there. Others differ in eps and in the variance, which a comparison of numbers
    has to know: the authors' repository divides by (unbiased standard deviation + 1e-5), timm's `StdConv2d` by
    sqrt(biased variance + 1e-6).

    arXiv 1903.10520, the definition of weight standardization.

    Args:
        eps: added to the variance.
        transposed_groups: the groups of a transposed convolution; None for every other layer.
    """

    def __init__(self, eps: float = 1e-5, transposed_groups: int | None = None) -> None:
        super().__init__()
        self.eps = eps
        self.transposed_groups = transposed_groups

    def forward(self, weight: Tensor) -> Tensor:
        if self.transposed_groups is None and weight.is_contiguous() and may_use_native(weight):
            rows = weight.view(1, weight.shape[0], -1)
            return batch_norm(rows, None, None, None, None, 0.0, self.eps).view_as(weight)
        parts, axes = by_unit(weight, self.transposed_groups)
        of_unit = moments(parts, axes)
        standardized = (parts.to(of_unit.mean.dtype) - of_unit.mean) * (of_unit.var + self.eps).rsqrt()
        return standardized.view_as(weight).to(weight.dtype)

    def right_inverse(self, value: Tensor) -> Tensor:
        """An assigned value is what gets standardized."""
        return value

    def extra_repr(self) -> str:
        return f"eps={self.eps}"


class ScaledWeightStandardization(nn.Module):
    """A parametrization that keeps the variance of the activations, for networks without normalization layers.

    `gamma * gain * (w - mean) / sqrt(max(var * fan_in, eps))` with mean and biased variance over the weights of a unit,
    `gain` (O,) learned from 1, and a constant gamma for what the activation behind the layer loses. Input and output: a
    weight (O, I, ...), or (I, O / groups, ...) of a transposed convolution.

    Difference from torch: there is none there. The authors' code applies gamma to the activation's output instead,
    which is the same for the next layer; timm's `ScaledStdConv2d` adds 1e-6 to the variance where this takes the
    maximum.

    arXiv 2101.08692; eq. 1 of arXiv 2102.06171.

    Args:
        units: O.
        eps: lower bound of the variance times fan-in.
        gain: gamma: sqrt(2 / (1 - 1 / pi)) = 1.7129 for ReLU, 1 for none.
        transposed_groups: the groups of a transposed convolution; None for every other layer.
    """

    gain: nn.Parameter

    def __init__(
        self,
        units: int,
        eps: float = 1e-4,
        gain: float = 1.0,
        transposed_groups: int | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.eps = eps
        self.gamma = gain
        self.transposed_groups = transposed_groups
        self.gain = nn.Parameter(torch.ones(units, device=device, dtype=dtype))

    def reset_parameters(self) -> None:
        """All gains 1."""
        nn.init.ones_(self.gain)

    def forward(self, weight: Tensor) -> Tensor:
        parts, axes = by_unit(weight, self.transposed_groups)
        of_unit = moments(parts, axes)
        scale = self.gamma * (of_unit.var * of_unit.count).clamp_min(self.eps).rsqrt()
        scaled = (parts.to(of_unit.mean.dtype) - of_unit.mean) * (scale * self.gain.view_as(scale))
        return scaled.view_as(weight).to(weight.dtype)

    def right_inverse(self, value: Tensor) -> Tensor:
        """An assigned value is what gets standardized."""
        return value

    def extra_repr(self) -> str:
        return f"eps={self.eps}, gamma={self.gamma}"
