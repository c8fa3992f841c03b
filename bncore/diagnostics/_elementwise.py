"""Activations that are applied to each value by itself, and where they are flat."""

import math

import torch
from torch import Tensor, nn

_ACTIVATIONS: tuple[type[nn.Module], ...] = (
    *(nn.Sigmoid, nn.Tanh, nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Mish, nn.SELU, nn.CELU),
    *(nn.Hardtanh, nn.Hardsigmoid, nn.Hardswish, nn.Softplus, nn.Softsign, nn.LogSigmoid, nn.PReLU, nn.Tanhshrink),
)
_FLAT = 0.05
"""A derivative below this share of the activation's steepest one is saturation."""
_STEEPEST: dict[type[nn.Module], float] = {nn.Sigmoid: 0.25, nn.Hardsigmoid: 1 / 6}
"""Of the others it is 1 or a little more."""


def is_elementwise(module: nn.Module) -> bool:
    """Whether it is one of torch's activations of single values."""
    return isinstance(module, _ACTIVATIONS)


def saturated_share(activation: nn.Module, values: Tensor) -> Tensor:
    """Share () of values (M, C) at which the magnitude of its derivative is below 5 % of the steepest; NaN of none."""
    if values.numel() == 0 or isinstance(activation, nn.PReLU):
        # Its slopes are learned, one a channel, and it saturates nowhere.
        return values.new_full((), 0.0 if values.numel() else math.nan, dtype=torch.float64)
    steepest = next((slope for cls, slope in _STEEPEST.items() if isinstance(activation, cls)), 1.0)
    with torch.enable_grad():
        wide = values.detach().double().requires_grad_()
        # A copy, since it may work in place.
        (slopes,) = torch.autograd.grad(activation.forward(wide.clone()).sum(), wide)
    return (slopes.abs() < _FLAT * steepest).double().mean()
