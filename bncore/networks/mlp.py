"""Fully connected networks, as in Ioffe and Szegedy 2015, section 4.1."""

import math

from torch import nn

from bncore.networks.layers import Layers, add_input_norm, add_norm_and_activation
from bncore.spec.network import MlpSpec


def mlp_layers(spec: MlpSpec, input_shape: tuple[int, ...], classes: int, seed: int) -> Layers:
    """Flatten, then each hidden layer's weights, normalization and activation, then the linear output."""
    layers = Layers(flatten=nn.Flatten())
    features = math.prod(input_shape)
    if spec.normalize_input:
        add_input_norm(layers, features)
    for number, width in enumerate(spec.hidden, start=1):
        weights = nn.Linear(features, width, bias=spec.bias)
        layers[f"linear{number}"] = weights
        add_norm_and_activation(layers, spec, number, weights, seed)
        features = width
    layers["output"] = nn.Linear(features, classes)
    return layers
