"""What one hidden layer adds behind its weights: normalization, activation, dropout, by the names of the plan."""

from collections import OrderedDict
from typing import assert_never

from torch import nn

from bncore.norm import BatchNorm, CrossIterationBatchNorm, build_norm
from bncore.seeds import derive_seed
from bncore.spec.network import INPUT_NORM_EPS, Activation, CnnSpec, MlpSpec

Layers = OrderedDict[str, nn.Module]
"""The children of an `nn.Sequential`, by name."""


def add_input_norm(layers: Layers, num_features: int) -> None:
    """Standardize the input: no scale or shift to learn, all batches weighted equally in the running statistics."""
    layers["input_norm"] = BatchNorm(num_features, eps=INPUT_NORM_EPS, momentum=None, affine=False)


def add_norm_and_activation(
    layers: Layers, spec: MlpSpec | CnnSpec, number: int, weights: nn.Linear | nn.Conv2d, seed: int
) -> None:
    """Normalization behind `weights`, on the side of the activation that `placement` says, then dropout."""
    norm = build_norm(spec.norm, len(weights.weight), seed=derive_seed(seed, "norm", number))
    if isinstance(norm, CrossIterationBatchNorm):
        norm.follow(weights)
    if norm is not None and spec.placement == "before_activation":
        layers[f"norm{number}"] = norm
    layers[f"activation{number}"] = build_activation(spec.activation)
    if norm is not None and spec.placement == "after_activation":
        layers[f"norm{number}"] = norm
    if spec.dropout > 0.0:
        layers[f"dropout{number}"] = nn.Dropout(spec.dropout)


def build_activation(name: Activation) -> nn.Module:
    """The module of an activation."""
    layer: type[nn.Module]
    match name:
        case "sigmoid":
            layer = nn.Sigmoid
        case "tanh":
            layer = nn.Tanh
        case "relu":
            layer = nn.ReLU
        case "leaky_relu":
            layer = nn.LeakyReLU
        case "elu" | "gelu" | "silu":
            layer = {"elu": nn.ELU, "gelu": nn.GELU, "silu": nn.SiLU}[name]
        case "identity":
            layer = nn.Identity
        case _:
            assert_never(name)
    return layer()
