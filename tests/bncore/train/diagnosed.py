"""Specs of one network of each family with every diagnostic that it can have, and what a run recorded."""

from typing import Any

from bncore.events import FileSaved, Note
from bncore.spec import kinds

OFF = [{"kind": "norm_health", "enabled": False}]
DIGITS_ROWS = {"kind": "digits", "as": "row"}
NETWORKS: dict[str, dict[str, Any]] = {
    "mlp": {"network": {"kind": "mlp", "hidden": [12, 12], "dropout": 0.2, "norm": {"kind": "batch_renorm"}}},
    "cnn": {
        "network": {"kind": "cnn", "channels": [4, 6], "dropout": 0.1},
        "train": {"precision": "bf16", "accumulate": 2, "ema": {"decay": 0.9}},
        "resources": {"channels_last": True},
    },
    "resnet": {"network": {"kind": "resnet", "depth": 8, "width": 4}},
    "lstm": {
        "data": DIGITS_ROWS,
        "network": {"kind": "lstm", "hidden": [6], "norm": {"kind": "step_batch_norm"}},
    },
    "transformer": {
        "data": DIGITS_ROWS,
        "network": {
            "kind": "transformer_encoder",
            "width": 8,
            "heads": 2,
            "blocks": 1,
            "mlp_width": 12,
            "dropout": 0.1,
        },
    },
}


def spec_of(name: str, diagnostics: list[dict[str, Any]], **parts: Any) -> dict[str, Any]:
    chosen = NETWORKS[name]
    train = {"steps": 8, "seed": 4, **chosen.get("train", {})}
    cadence = {"evaluation": {"every_steps": 5}, "checkpoint": {"every_steps": 3}}
    return {"optimizer": {"kind": "adam"}, **chosen, **cadence, "train": train, "diagnostics": diagnostics, **parts}


def all_of(name: str) -> list[dict[str, Any]]:
    """Every diagnostic that the network can have, on few examples."""
    left_out = {"scale_invariance"} if name in ("lstm", "transformer") else set()
    asked: list[dict[str, Any]] = [
        {"kind": found.kind, "every_steps": 3} for found in kinds("diagnostics") if found.kind not in left_out
    ]
    options = {"weight_norms": {}, "hessian_top_eigenvalue": {"examples": 16, "iterations": 3}}
    return [{**one, **options.get(one["kind"], {"examples": 16})} for one in asked]


def recordings(*runs: Any) -> dict[str, bytes]:
    """The files of attempts, by name; a later one of the same name replaces an earlier one."""
    found = [(run.path, event) for run in runs for event in run.whole_events() if isinstance(event, FileSaved)]
    return {event.name: (path / event.file.file).read_bytes() for path, event in found}


def failures(run: Any) -> list[str]:
    return [event.message for event in run.events if isinstance(event, Note) and event.code == "diagnostic_failed"]
