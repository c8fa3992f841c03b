"""The few specs that all jobs are made of, and what each of them comes to when nobody disturbs it."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from safetensors.numpy import load

from bench.chaos.sending import Sender
from tests.stack import Stack

_SECONDS = 300.0

SPECS: dict[str, dict[str, Any]] = {
    "batch-norm": {
        "network": {"kind": "mlp", "hidden": [64, 64], "norm": {"kind": "batch_norm"}},
        "optimizer": {"kind": "sgd", "lr": 0.1},
        "train": {"steps": 1200, "seed": 1},
        "evaluation": {"every_steps": 130},
        "checkpoint": {"every_steps": 100},
        "diagnostics": [
            {"kind": "norm_health", "every_steps": 60},
            {"kind": "activation_moments", "every_steps": 50},
            {"kind": "gradient_norms", "every_steps": 100},
        ],
    },
    "batch-renorm": {
        "network": {"kind": "mlp", "hidden": [64, 64], "norm": {"kind": "batch_renorm"}},
        "optimizer": {"kind": "sgd", "lr": 0.05, "momentum": 0.9},
        "train": {"steps": 1500, "seed": 2},
        "evaluation": {"every_steps": 90},
        "checkpoint": {"every_steps": 90},
    },
    "cnn": {
        "network": {"kind": "cnn", "channels": [4, 8], "norm": {"kind": "batch_norm"}},
        "optimizer": {"kind": "adam", "lr": 0.003},
        "train": {"steps": 400, "seed": 3},
        "evaluation": {"every_steps": 70},
        "checkpoint": {"every_steps": 50},
        "diagnostics": [
            {"kind": "covariate_shift", "every_steps": 80, "examples": 32},
            {"kind": "step_probe", "at": [0, 150, 400]},
        ],
    },
    "dropout": {
        "network": {"kind": "mlp", "hidden": [64, 64], "dropout": 0.3, "norm": {"kind": "batch_norm"}},
        "optimizer": {"kind": "adam", "lr": 0.002},
        "train": {"steps": 900, "seed": 4},
        "evaluation": {"every_steps": 100},
        "checkpoint": {"every_steps": 70},
    },
}
FEW_RESTARTS = 3
# Of five jobs one has few restarts, and one a stall limit that a stopped trainer passes.
_VARIANTS: tuple[dict[str, Any], ...] = (
    {"max_restarts": 100},
    {"max_restarts": 100},
    {"max_restarts": FEW_RESTARTS},
    {"max_restarts": 100, "stall_seconds": 4.0},
    {"max_restarts": 100},
)


@dataclass(frozen=True)
class Reference:
    """An undisturbed run: its series, a digest of its last and best weights, by kind, and of recordings, by name."""

    experiment_id: str
    series: Mapping[str, tuple[list[int], np.ndarray]]
    weights: Mapping[str, str]
    recordings: Mapping[str, str]


def document(number: int, names: Sequence[str]) -> tuple[str, dict[str, Any]]:
    """The spec of the job of that number, and the name of the spec that it is made of."""
    name = names[number % len(names)]
    variant = _VARIANTS[number // len(names) % len(_VARIANTS)]
    return name, {**SPECS[name], **variant, "name": f"chaos-{number}", "tags": {"spec": name, "number": str(number)}}


def train(stack: Stack, sender: Sender, names: Sequence[str]) -> dict[str, Reference]:
    """Run each spec once, undisturbed; only a lease, which is short here, may lapse on a busy machine."""
    specs = {name: {**SPECS[name], "name": f"reference-{name}"} for name in names}
    ids = {name: sender.insist("POST", "/v1/experiments", json=spec).json()["id"] for name, spec in specs.items()}
    return {name: _result(stack, ids[name]) for name in names}


def digest(weights: bytes) -> str:
    """Of the tensors alone: the file's own holds the spec as well, name and tags included."""
    found = hashlib.sha256()
    for name, tensor in sorted(load(weights).items()):
        found.update(f"{name} {tensor.dtype} {tensor.shape}".encode() + tensor.tobytes())
    return found.hexdigest()


def _result(stack: Stack, experiment_id: str) -> Reference:
    row = stack.await_state(experiment_id, seconds=_SECONDS)
    if row.state != "succeeded":
        raise RuntimeError(f"the undisturbed {row.name} is {row.state} after {row.attempt} attempts")
    kinds = ("last", "best")
    weights = {kind: digest(stack.content(stack.checkpoint(experiment_id, kind))) for kind in kinds}
    return Reference(experiment_id, stack.series(experiment_id), weights, dict(stack.recordings(experiment_id)))
