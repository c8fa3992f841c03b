"""Plain convolutional networks: blocks of convolution and pooling, global average pooling, one linear layer."""

from torch import nn

from bncore.networks.layers import Layers, add_input_norm, add_norm_and_activation
from bncore.spec.network import CnnSpec


def cnn_layers(spec: CnnSpec, input_shape: tuple[int, ...], classes: int, seed: int) -> Layers:
    """Each block's convolution, normalization, activation and pooling, then global pooling and the output."""
    layers = Layers()
    channels = input_shape[0]
    if spec.normalize_input:
        add_input_norm(layers, channels)
    for number, width in enumerate(spec.channels, start=1):
        padding = spec.kernel_size // 2
        weights = nn.Conv2d(channels, width, spec.kernel_size, padding=padding, bias=spec.bias)
        layers[f"conv{number}"] = weights
        add_norm_and_activation(layers, spec, number, weights, seed)
        if spec.pool != "none":
            layers[f"pool{number}"] = nn.MaxPool2d(2) if spec.pool == "max" else nn.AvgPool2d(2)
        channels = width
    layers["global_pool"] = nn.AdaptiveAvgPool2d(1)
    layers["flatten"] = nn.Flatten()
    layers["output"] = nn.Linear(channels, classes)
    return layers
