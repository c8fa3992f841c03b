"""From a downloaded file back to a model: the weights of a run carry the spec of their network."""

import json
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import nn

from bncore.data import Standardization
from bncore.networks import build_network
from bncore.spec import ExperimentSpec, SpecError, data_shape, load_spec
from bncore.train.checkpoint import (
    FORMAT_VERSION,
    METADATA_KEY,
    CheckpointDamaged,
    CheckpointMismatch,
    read_weights,
)


class SavedSpec(NamedTuple):
    """Of a weights file: the experiment that it is of, and the step."""

    spec: ExperimentSpec
    step: int


def load_model(path: Path, device: torch.device | str, averages: Path | None = None) -> nn.Sequential:
    """The network of a weights file, with its weights, in evaluation mode. See `bncore.load`."""
    spec = saved_spec(path).spec
    data = data_shape(spec.data)
    network = build_network(spec.network, data.signal, data.outputs, device=device)
    read_weights(path, network)
    if averages is not None:
        _take_averages(averages, network, _metadata(path)["step"])
    return network.eval()


def saved_spec(path: Path) -> SavedSpec:
    """What the weights file says of itself.

    Raises `FileNotFoundError`, `CheckpointDamaged`, and `CheckpointMismatch` for a file that is not a run's weights.
    """
    metadata = _metadata(path)
    if metadata.get("format_version") != FORMAT_VERSION:
        said = metadata.get("format_version")
        raise CheckpointMismatch(f"{path.name} is of format {said}; this version reads {FORMAT_VERSION}")
    if "spec" not in metadata:
        raise CheckpointMismatch(f"{path.name} is the training state of a run; load the weights saved beside it")
    step = metadata.get("step")
    try:
        return SavedSpec(load_spec(metadata["spec"]), step if isinstance(step, int) else 0)
    except SpecError as error:
        raise CheckpointMismatch(f"{path.name} has a spec that this version does not know: {error}") from error


def standardization_of(path: Path) -> Standardization | None:
    """By which the inputs of the network in a weights file were standardized in training; None where they were not."""
    found = _metadata(path).get("standardization")
    if not isinstance(found, dict):
        return None
    mean, deviation = (torch.tensor(found[name], dtype=torch.float64) for name in ("mean", "deviation"))
    return Standardization.of(mean, deviation)


def _take_averages(path: Path, network: nn.Module, step: object) -> None:
    progress = _metadata(path).get("progress")
    saved = progress.get("step") if isinstance(progress, dict) else None
    if saved != step:
        raise CheckpointMismatch(f"{path.name} is not the training state of step {step}, which the weights are of")
    tensors = load_file(path)
    found = {name.removeprefix("ema/"): tensor for name, tensor in tensors.items() if name.startswith("ema/")}
    if not found:
        raise CheckpointMismatch(f"{path.name} holds no averages: the run had no train.ema")
    try:
        network.load_state_dict({**network.state_dict(), **found})
    except RuntimeError as error:
        raise CheckpointMismatch(f"the averages do not fit the network: {error}") from error


def _metadata(path: Path) -> dict[str, object]:
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    try:
        with safe_open(path, framework="pt") as file:
            found = file.metadata()
    except SafetensorError as error:
        detail = f"{path.name} is no safetensors file, or not whole: {error}; download it again"
        raise CheckpointDamaged(detail) from error
    try:
        value = json.loads((found or {})[METADATA_KEY])
    except (KeyError, ValueError):
        value = None
    if not isinstance(value, dict):
        raise CheckpointMismatch(f"{path.name} was not saved by BNLab: its metadata say nothing of a network")
    return value
