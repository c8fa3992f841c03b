"""Checkpoints: two safetensors files, readable by anything that reads the format, and nothing that is ever executed.

The weights file is the network's state_dict under its own names. The training state file holds the optimizer's tensors,
the random states and, as JSON, everything else. Metadata is one key with a JSON text: with several keys the format's
order of them, and with it the hash of the file, changes from run to run.
"""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from bncore.data import Standardization
from bncore.spec import ExperimentSpec
from bncore.spec.blueprint import in_head
from bncore.train.environment import Environment
from bncore.train.optimizer import Optimizer
from bncore.train.progress import Progress

FORMAT_VERSION = 1
METADATA_KEY = "bnlab"


class HostState(BaseModel):
    """The part of the training state that is not tensors."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")

    format_version: int = FORMAT_VERSION
    progress: Progress
    environment: Environment


class CheckpointMismatch(ValueError):
    """A checkpoint that does not belong to the run it was given to."""


class CheckpointDamaged(ValueError):
    """A file of a checkpoint that is missing or not what was written: an older one may do."""


def write_weights(
    path: Path, network: nn.Module, spec: ExperimentSpec, step: int, standardization: Standardization | None = None
) -> None:
    """Write the network's state_dict; metadata `{format_version, spec, step}`, and of data that were standardized
    `standardization: {mean, deviation}`, without which nobody knows what the network takes."""
    tensors = {name: _plain(tensor) for name, tensor in network.state_dict().items()}
    metadata: dict[str, object] = {"format_version": FORMAT_VERSION, "spec": spec.model_dump(mode="json"), "step": step}
    if standardization is not None:
        found = {"mean": standardization.whole_mean, "deviation": standardization.deviation}
        metadata["standardization"] = {name: tensor.tolist() for name, tensor in found.items()}
    _write(path, tensors, json.dumps(metadata, sort_keys=True, separators=(",", ":")))


def write_state(
    path: Path, network: nn.Module, optimizer: Optimizer, state: HostState, others: Mapping[str, Tensor]
) -> None:
    """Write all that training needs beside the weights to go on as if it had not stopped.

    `others` are further tensors by name.
    """
    tensors = {"rng/cpu": torch.get_rng_state()}
    if state.environment.device == "cuda":
        tensors["rng/cuda"] = torch.cuda.get_rng_state()
    for name, parameter in network.named_parameters():
        for key, value in optimizer.state.get(parameter, {}).items():
            tensors[f"optimizer/{name}/{key}"] = _plain(value)
    tensors |= {name: _plain(tensor) for name, tensor in others.items()}
    _write(path, tensors, state.model_dump_json())


def read_weights(path: Path, network: nn.Module) -> None:
    """Load a weights file into `network`. Raises `CheckpointDamaged`; `CheckpointMismatch` unless it fits exactly."""
    with _reading(path):
        tensors = load_file(path)
    _load(tensors, network)


def read_start(path: Path, network: nn.Module, *, reset_head: bool) -> None:
    """Load a weights file into `network`, whose head stays as it is if it is to be reset.

    Raises `CheckpointDamaged`; `CheckpointMismatch` unless all else fits exactly.
    """
    with _reading(path):
        tensors = load_file(path)
    if reset_head:
        # With those of the network itself, the rest has to fit exactly.
        tensors = {name: tensor for name, tensor in tensors.items() if not in_head(name)}
        tensors |= {name: tensor for name, tensor in network.state_dict().items() if in_head(name)}
    _load(tensors, network)


def read_state(path: Path, network: nn.Module, optimizer: Optimizer, others: Mapping[str, Tensor]) -> HostState:
    """Load a training state file into `optimizer`, the tensors `others` and the random generators; return the rest.

    Raises `CheckpointDamaged` and `CheckpointMismatch`.
    """
    with _reading(path):
        with safe_open(path, framework="pt") as file:
            state = HostState.model_validate_json(file.metadata()[METADATA_KEY])
        tensors = load_file(path)
        random_state = tensors["rng/cpu"]
    if state.format_version != FORMAT_VERSION:
        raise CheckpointMismatch(
            f"training state of format {state.format_version}; this version reads {FORMAT_VERSION}"
        )
    _restore_optimizer(tensors, network, optimizer)
    for name, tensor in others.items():
        if name not in tensors or tensors[name].shape != tensor.shape:
            raise CheckpointMismatch(f"the training state has no {name} of shape {list(tensor.shape)}")
        tensor.copy_(tensors[name])
    torch.set_rng_state(random_state)
    if "rng/cuda" in tensors and torch.cuda.is_available():
        torch.cuda.set_rng_state(tensors["rng/cuda"])
    return state


def read_others(path: Path, prefix: str) -> dict[str, Tensor]:
    """Those further tensors of a training state file whose names begin so, as many as there are.

    Raises `CheckpointDamaged`.
    """
    with _reading(path), safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys() if name.startswith(prefix)}  # noqa: SIM118


def _load(tensors: dict[str, Tensor], network: nn.Module) -> None:
    try:
        network.load_state_dict(tensors, strict=True)
    except RuntimeError as error:
        raise CheckpointMismatch(f"the weights do not fit the network: {error}") from error


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except (SafetensorError, FileNotFoundError, ValidationError, KeyError, TypeError) as error:
        raise CheckpointDamaged(f"{path.name} cannot be read: {error}") from error


def _restore_optimizer(tensors: dict[str, Tensor], network: nn.Module, optimizer: Optimizer) -> None:
    parameters = dict(network.named_parameters())
    optimizer.state = {}
    for path, tensor in tensors.items():
        if not path.startswith("optimizer/"):
            continue
        _, name, key = path.split("/")
        if name not in parameters:
            raise CheckpointMismatch(f"optimizer state for {name}, which the network does not have")
        parameter = parameters[name]
        # A copy has the alignment of every other tensor; a view into the file has the file's. And the layout of the
        # parameter, since kernels walk both alike.
        like = parameter if tensor.shape == parameter.shape else tensor
        kept = torch.empty_like(like, dtype=tensor.dtype, device=parameter.device, requires_grad=False)
        optimizer.state.setdefault(parameter, {})[key] = kept.copy_(tensor)


def _plain(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().contiguous()


def _write(path: Path, tensors: dict[str, Tensor], metadata: str) -> None:
    try:
        save_file(tensors, path, metadata={METADATA_KEY: metadata})
    except SafetensorError as error:
        # It wraps what the system says into a text, the number at its end.
        number = re.search(r"\(os error (\d+)\)", str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), str(error)) from error
