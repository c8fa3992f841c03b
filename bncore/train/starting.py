"""How training begins with the weights of a checkpoint, and what of them stays.

Invariant: what is frozen keeps its bits, whatever the optimizer, weight decay, averages and measurements do; frozen is
what the spec says, so that a resumed run freezes the same.
"""

import hashlib
from pathlib import Path

from torch import nn

from bncore.norm import freeze
from bncore.norm.model.found import normalizations
from bncore.spec import ExperimentSpec, SpecError
from bncore.spec.blueprint import in_head
from bncore.spec.start_from import Freeze, StartFrom, Trained, start_faults
from bncore.train.checkpoint import CheckpointMismatch, read_start
from bncore.train.loading import saved_spec


def load_start(path: Path, spec: ExperimentSpec, start: StartFrom, network: nn.Module) -> None:
    """Put the weights of the file `path` into the network of `spec`.

    Raises `FileNotFoundError`, `CheckpointDamaged`, and `CheckpointMismatch` where they are of another network, or not
    those that the spec was completed with.
    """
    saved = saved_spec(path)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if start.source is not None and digest != start.source.sha256:
        raise CheckpointMismatch(f"{path.name} is not the checkpoint that the spec names: its SHA-256 is {digest}")
    faults = start_faults(start, Trained(saved.spec.network, saved.spec.data), Trained(spec.network, spec.data))
    if faults:
        raise CheckpointMismatch(str(SpecError(faults)))
    read_start(path, network, reset_head=start.reset_head)


def freeze_part(network: nn.Sequential, what: Freeze) -> None:
    """Keep the normalizations, or all but the head, from learning: without gradients, and in evaluation mode."""
    if what == "norms":
        freeze(network, where=lambda name, _: not in_head(name))
        for name, layer in normalizations(network):
            if not in_head(name):
                layer.requires_grad_(False)
        return
    for name, child in network.named_children():
        if not in_head(name):
            child.requires_grad_(False).eval()
