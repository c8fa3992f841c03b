"""Fixup: residual networks without normalization, by initialization and a few scalars.

The rule is the paper's: with L branches, each moves the output by O(1/L) in a step of gradient descent, whatever the
depth.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from bncore.norm._torch import AnyConv


def fixup_(branches: Sequence[nn.Module], classifier: nn.Module | None = None) -> None:
    """Rescale the residual branches of a network that is initialized for its activation (He et al. for ReLU).

    With L = `len(branches)` and m weight layers (linear, convolution) in a branch: all but the last are multiplied by
    `L^(-1 / (2m - 2))`, and the last one of each branch and those of the classifier are set to 0, biases included. So
    every branch starts at 0 and the network at its skip connections. Layers are taken in the order of
    `branch.modules()`, which has to be that of computation. The third part of the method is the caller's: layers
    without biases of their own, whose sum over all branches would move the output by O(L), but a `ScalarBias` in front
    of each layer and activation, and a `ScalarMultiplier` in each branch.

    Difference from `torch.nn.init`: nothing is drawn; what is there is scaled, in place.

    arXiv 1901.09321, section 3, "Fixup initialization", rules 1 and 2 (rule 3 is the scalars).

    Args:
        branches: the residual branches, each without its skip connection.
        classifier: the last layer of the network; None leaves it as it is.

    Raises:
        ValueError: for a branch without weight layer, a layer that belongs to two branches, or a parametrized weight,
            which cannot be set to 0 or scaled in place; nothing is changed then.
    """
    layers = [_weight_layers(branch) for branch in branches]
    every = [layer for of_branch in layers for layer in of_branch]
    if len({id(layer) for layer in every}) < len(every):
        raise ValueError("a layer belongs to two branches, and would be scaled twice")
    last = [of_branch[-1] for of_branch in layers] + ([] if classifier is None else _weight_layers(classifier))
    with torch.no_grad():
        for of_branch in layers:
            for layer in of_branch[:-1]:
                layer.weight.mul_(len(branches) ** (-1.0 / (2 * len(of_branch) - 2)))
        for layer in last:
            layer.weight.zero_()
            if layer.bias is not None:
                layer.bias.zero_()


class ScalarBias(nn.Module):
    """Adds one learned number, which starts at 0, to all of its input.

    `y = x + bias` with `bias` of shape (). Input and output: any shape.

    Difference from torch: layers there have a bias per unit. arXiv 1901.09321, section 3, rule 3.
    """

    bias: nn.Parameter

    def __init__(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros((), device=device, dtype=dtype))

    def reset_parameters(self) -> None:
        """The scalar at 0."""
        nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.bias


class ScalarMultiplier(nn.Module):
    """Multiplies all of its input by one learned number, which starts at 1.

    `y = weight * x` with `weight` of shape (). Input and output: any shape.

    Difference from torch: there is no such module there. arXiv 1901.09321, section 3, rule 3.
    """

    weight: nn.Parameter

    def __init__(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones((), device=device, dtype=dtype))

    def reset_parameters(self) -> None:
        """The scalar at 1."""
        nn.init.ones_(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight


def _weight_layers(module: nn.Module) -> list[nn.Linear | AnyConv]:
    layers = [layer for layer in module.modules() if isinstance(layer, nn.Linear | AnyConv)]
    if not layers:
        raise ValueError(f"{type(module).__name__} has no linear or convolutional layer to initialize")
    if any(parametrize.is_parametrized(layer, "weight") for layer in layers):
        raise ValueError("a parametrized weight cannot be initialized in place; apply fixup_ first")
    return layers
