"""Networks as plain `torch.nn` modules, and the one place where a blueprint becomes one.

The children carry the names of `bncore.spec.blueprint`, in its order, so that a checkpoint loads into a model that
knows nothing of this package. A test holds both equal over the whole union.
"""

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError
from torch import nn

from bncore.networks.build import Builder
from bncore.networks.sequences import SequenceNetwork
from bncore.spec.blueprint import Chain, Signal, lay
from bncore.spec.faults import SpecError, faults_of
from bncore.spec.network import NetworkSpec

__all__ = ["build_network"]

_SPEC: TypeAdapter[NetworkSpec] = TypeAdapter(NetworkSpec)


def build_network(
    spec: NetworkSpec | Mapping[str, Any],
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

    The children have the names that a plan of the spec lists, and the state has torch.nn's own keys. It is in training
    mode. Which networks there are is in docs/networks.md.

    Args:
        spec: a member of `bncore.spec.NetworkSpec`, or a dict as it stands in an experiment:
            `{"kind": "resnet", "depth": 20, "norm": {"kind": "batch_renorm"}}`.
        signal: the shape of one example: an image's (channels, height, width), or a `bncore.spec.blueprint.Signal`.
        outputs: numbers that come out for an example, or for each step of one.
        seed: the same seed draws the same weights.
        device: where the network is.

    Raises:
        ValueError: for a dict that is no spec, or a network or a normalization that does not fit such inputs
            (`bncore.spec.SpecError`, whose `faults` name the fields, as those of a POST do).
    """
    spec = _network_spec(spec)
    on_meta = torch.device(device).type == "meta"
    if not isinstance(signal, Signal):
        signal = Signal(tuple(signal), "image")
    # Constructors draw from the global generator what initialization overwrites. On the meta device they would draw
    # nothing, but `to_empty` from there imports torch's compiler.
    with torch.random.fork_rng(devices=[]), torch.device("meta" if on_meta else "cpu"):
        network = Builder(signal, seed, draws=not on_meta).chain(_fitting(spec.blueprint(signal, outputs), signal))
        if signal.lengths:
            network = SequenceNetwork(OrderedDict(network.named_children()))
    return network if on_meta else network.to(device)


def _network_spec(spec: NetworkSpec | Mapping[str, Any]) -> NetworkSpec:
    if not isinstance(spec, Mapping):
        return spec
    try:
        return _SPEC.validate_python(dict(spec))
    except ValidationError as error:
        raise SpecError(faults_of(error, NetworkSpec)) from None


def _fitting(blueprint: Chain, signal: Signal) -> Chain:
    laid = lay(blueprint, signal, "")
    if laid.faults:
        raise SpecError(list(laid.faults))
    return blueprint
