"""Networks as plain `torch.nn` modules, and the one place where a blueprint becomes one.

The children carry the names of `bncore.spec.blueprint`, in its order, so that a checkpoint loads into a model that
knows nothing of this package. A test holds both equal over the whole union.
"""

from collections import OrderedDict

import torch
from torch import nn

from bncore.networks.build import Builder
from bncore.networks.sequences import SequenceNetwork
from bncore.spec.blueprint import Signal
from bncore.spec.network import NetworkSpec

__all__ = ["build_network"]


def build_network(
    spec: NetworkSpec,
    signal: Signal | tuple[int, ...],
    outputs: int,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> nn.Sequential:
    """The network of `spec`, initialized from `seed`, with outputs (N, outputs), or (N, T, outputs) for each step.

    Inputs are (N, *shape), of the signal's shape; three sizes by themselves are an image's (channels, height, width).
    For sequences with lengths the network is called as `network(inputs, lengths)`, see `SequenceNetwork`.

    Weights are drawn on the CPU, from a stream of each layer's own: they depend on neither the device nor the
    normalization, so that arms of a comparison start from the same weights. On the meta device nothing is drawn.
    """
    on_meta = torch.device(device).type == "meta"
    if not isinstance(signal, Signal):
        signal = Signal(tuple(signal), "image")
    # Constructors draw from the global generator what initialization overwrites. On the meta device they would draw
    # nothing, but `to_empty` from there imports torch's compiler.
    with torch.random.fork_rng(devices=[]), torch.device("meta" if on_meta else "cpu"):
        network = Builder(signal, seed, draws=not on_meta).chain(spec.blueprint(signal, outputs))
        if signal.lengths:
            network = SequenceNetwork(OrderedDict(network.named_children()))
    return network if on_meta else network.to(device)
