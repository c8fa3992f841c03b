"""Weight centralization: the weights of each output unit have mean 0, so that a common shift of its inputs is lost.

Shapes: those of `_units.py`.
"""

from torch import Tensor, nn
from torch.nn.utils import parametrize

from bncore.norm._fold import fold, weight_of
from bncore.norm._moments import statistics_dtype
from bncore.norm._units import by_unit, check_fan_in, transposed_groups


def weight_centralization(module: nn.Module, name: str = "weight") -> nn.Module:
    """Replace `module.<name>` by its `WeightCentralization`; returns the module.

    In the state, the weight that is learned is `parametrizations.<name>.original`. Linear layers, convolutions and
    transposed convolutions of any rank. A parametrized module can be deep-copied, but pickled only after
    `remove_weight_centralization`.

    Args:
        module: the layer that holds the weight.
        name: the weight's name.

    Raises:
        ValueError: for units with one weight each, which would become 0, and where `module` has no such weight.
    """
    groups = transposed_groups(module)
    check_fan_in(weight_of(module, name), groups)
    return parametrize.register_parametrization(module, name, WeightCentralization(groups))


def remove_weight_centralization(module: nn.Module, name: str = "weight") -> nn.Module:
    """Make `module.<name>` a plain parameter again, with the value that it has now; returns the module."""
    return fold(module, name)


class WeightCentralization(nn.Module):
    """A parametrization that takes the mean of each output unit's weights from them.

    `w - mean` over the weights of a unit. Input and output: a weight (O, I, ...), or (I, O / groups, ...) of a
    transposed convolution.

    Inputs that share a mean, as the outputs of a ReLU nearly do, no longer move the mean of the outputs: what
    `MovingAverageBatchNorm`, which subtracts none, relies on. The gradient of the learned weight has mean 0 in each
    unit too, so that its mean stays as it was, but for weight decay.

    Difference from torch: there is none there. arXiv 2001.06838, section 4.

    Args:
        transposed_groups: the groups of a transposed convolution; None for every other layer.
    """

    def __init__(self, transposed_groups: int | None = None) -> None:
        super().__init__()
        self.transposed_groups = transposed_groups

    def forward(self, weight: Tensor) -> Tensor:
        parts, axes = by_unit(weight, self.transposed_groups)
        wide = parts.to(statistics_dtype(weight.dtype))
        return (wide - wide.mean(axes, keepdim=True)).view_as(weight).to(weight.dtype)

    def right_inverse(self, value: Tensor) -> Tensor:
        """An assigned value is what gets centred."""
        return value
