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
    inputs: tuple[int, ...] | Signal,
    classes: int,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> nn.Sequential:
    """The network of `spec`, initialized from `seed`, for such inputs and outputs (N, classes).

    Inputs are (N, *shape) by their `Signal`; a shape alone is that of images. Of sequences with lengths, the network is
    called as `network(inputs, lengths)`, see `SequenceNetwork`. A network that has an output for each step of sequences
    gives (N, T, classes).

    Weights are drawn on the CPU, from a stream of each layer's own: they depend on neither the device nor the
    normalization, so that arms of a comparison start from the same weights. On the meta device nothing is drawn.
    """
    on_meta = torch.device(device).type == "meta"
    signal = inputs if isinstance(inputs, Signal) else Signal(inputs, "image")
    # Constructors draw from the global generator what initialization overwrites. On the meta device they would draw
    # nothing, but `to_empty` from there imports torch's compiler.
    with torch.random.fork_rng(devices=[]), torch.device("meta" if on_meta else "cpu"):
        network = Builder(signal, seed, draws=not on_meta).chain(spec.blueprint(signal, classes))
        if signal.lengths:
            network = SequenceNetwork(OrderedDict(network.named_children()))
    return network if on_meta else network.to(device)
