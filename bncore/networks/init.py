"""Initialization, each layer from a random stream of its own.

The seed of a layer is made of the network's and the layer's name: a network with a normalization layer more draws the
same weights for all others.
"""

import math
from typing import assert_never

import torch
from torch import Tensor, nn

from bncore.spec.init import (
    DefaultInit,
    InitSpec,
    KaimingInit,
    NormalInit,
    OrthogonalInit,
    UniformInit,
    XavierInit,
)


def initialize(layer: nn.Linear | nn.Conv2d, spec: InitSpec, seed: int, scale: float = 1.0) -> None:
    """Set the weights and the bias of a layer on the CPU; `scale` multiplies all that is drawn."""
    with torch.no_grad():
        if layer.bias is not None:
            layer.bias.zero_()
        _fill(layer, spec, torch.Generator().manual_seed(seed))
        for drawn in (layer.weight, layer.bias):
            if scale != 1.0 and drawn is not None:
                drawn.mul_(scale)


def _fill(layer: nn.Linear | nn.Conv2d, spec: InitSpec, generator: torch.Generator) -> None:
    weight = layer.weight
    fan_in = weight[0].numel()
    match spec:
        case DefaultInit():
            bound = 1.0 / math.sqrt(fan_in)
            weight.uniform_(-bound, bound, generator=generator)
            if layer.bias is not None:
                layer.bias.uniform_(-bound, bound, generator=generator)
        case NormalInit(std=std):
            weight.normal_(0.0, std, generator=generator)
        case UniformInit(bound=bound):
            weight.uniform_(-bound, bound, generator=generator)
        case XavierInit(distribution=distribution, gain=gain):
            fan_out = weight.shape[0] * weight[0, 0].numel()
            _draw(weight, distribution, gain * math.sqrt(2.0 / (fan_in + fan_out)), generator)
        case KaimingInit(distribution=distribution, gain=gain):
            _draw(weight, distribution, gain / math.sqrt(fan_in), generator)
        case OrthogonalInit(gain=gain):
            nn.init.orthogonal_(weight, gain, generator=generator)
        case _:
            assert_never(spec)


def _draw(weight: Tensor, distribution: str, std: float, generator: torch.Generator) -> None:
    if distribution == "normal":
        weight.normal_(0.0, std, generator=generator)
    else:
        # A uniform distribution on [-b, b] has standard deviation b / sqrt(3).
        weight.uniform_(-math.sqrt(3.0) * std, math.sqrt(3.0) * std, generator=generator)
