"""Networks as plain `torch.nn.Sequential`s, and the one place where a spec becomes one.

The children carry the names of `bncore.spec.plan`, in its order, so that a checkpoint loads into a model that knows
nothing of this package. A test holds both equal over the whole union.
"""

from typing import assert_never

import torch
from torch import nn

from bncore.networks.cnn import cnn_layers
from bncore.networks.init import initialize
from bncore.networks.layers import Layers
from bncore.networks.mlp import mlp_layers
from bncore.networks.weights import normalize_weights
from bncore.spec.network import CnnSpec, MlpSpec, NetworkSpec

__all__ = ["build_network"]


def build_network(
    spec: NetworkSpec,
    input_shape: tuple[int, ...],
    classes: int,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> nn.Sequential:
    """The network of `spec`, initialized from `seed`, for inputs (N, *input_shape) and outputs (N, classes).

    Weights are drawn on the CPU, from a stream of each layer's own: they depend on neither the device nor the
    normalization, so that arms of a comparison start from the same weights. On the meta device nothing is drawn.
    """
    on_meta = torch.device(device).type == "meta"
    # Constructors draw from the global generator what `initialize` overwrites. On the meta device they would draw
    # nothing, but `to_empty` from there imports torch's compiler.
    with torch.random.fork_rng(devices=[]), torch.device("meta" if on_meta else "cpu"):
        network = nn.Sequential(_layers(spec, input_shape, classes, seed))
    if not on_meta:
        initialize(network, spec.init, seed)
    normalize_weights(network, spec.norm, seed)
    return network if on_meta else network.to(device)


def _layers(spec: NetworkSpec, input_shape: tuple[int, ...], classes: int, seed: int) -> Layers:
    match spec:
        case MlpSpec():
            return mlp_layers(spec, input_shape, classes, seed)
        case CnnSpec():
            return cnn_layers(spec, input_shape, classes, seed)
        case _:
            assert_never(spec)
