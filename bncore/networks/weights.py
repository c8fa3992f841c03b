"""The normalizations of weights, applied to layers as they are built, and taken off again.

A network keeps the names of its layers; their weights move to `<layer>.parametrizations.weight.*` in its state.
"""

import copy

from torch import nn
from torch.nn.utils import parametrize

from bncore.norm._fold import fold
from bncore.norm.spectral_norm import spectral_norm
from bncore.norm.weight_centralization import weight_centralization
from bncore.norm.weight_norm import weight_norm
from bncore.norm.weight_standardization import scaled_weight_standardization, weight_standardization
from bncore.spec.norm import (
    MovingAverageBatchNormSpec,
    NormSpec,
    ScaledWeightStandardizationSpec,
    SpectralNormSpec,
    WeightNormSpec,
    WeightStandardizationSpec,
)


def normalize_weights(layer: nn.Linear | nn.Conv2d, spec: NormSpec, seed: int) -> None:
    """Do to the weights of a layer, in place, what `spec` asks for, if anything.

    To be called once the weights are set, on any device, also on meta. Weights are scaled, not drawn: networks that
    differ in the normalization start from the same learned weights. The start vector of spectral norm comes from
    `seed`.
    """
    match spec:
        case WeightNormSpec():
            weight_norm(layer)
        case SpectralNormSpec():
            spectral_norm(layer, power_iterations=spec.power_iterations, seed=seed)
        case WeightStandardizationSpec():
            weight_standardization(layer, spec.eps)
        case MovingAverageBatchNormSpec(center_weights=True):
            weight_centralization(layer)
        case ScaledWeightStandardizationSpec():
            scaled_weight_standardization(layer, spec.eps, spec.gain)


def fold_weights(network: nn.Sequential) -> nn.Sequential:
    """A copy whose weights are plain parameters with the values that they have in evaluation; the original is kept.

    Its outputs in evaluation are the same, and its state loads into plain torch modules under the layers' own names.
    """
    plain = copy.deepcopy(network)
    for layer in plain.modules():
        if parametrize.is_parametrized(layer):
            for name in list(layer.parametrizations):  # type: ignore[arg-type]
                fold(layer, name)
    return plain
