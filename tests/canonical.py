"""Data sets in canonical form, written here by numpy alone from the words of docs/data.md."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np


def write_canonical(
    folder: Path,
    signal: dict[str, Any],
    task: str,
    outputs: int,
    classes: list[str] | None = None,
    **parts: dict[str, Any],
) -> dict:
    """Write arrays (`inputs`, `targets`, maybe `lengths`) of each part under `folder`/<sha256>; the manifest."""
    building = folder / "building"
    building.mkdir(parents=True)
    manifest = {
        "version": 1,
        "signal": {"lengths": False, **signal},
        "task": task,
        "outputs": outputs,
        "classes": classes,
        "parts": {name: _part(building, name, arrays, task, outputs) for name, arrays in parts.items()},
    }
    text = json.dumps(manifest, sort_keys=True, separators=(",", ":")) + "\n"
    (building / "dataset.json").write_text(text)
    building.rename(folder / hashlib.sha256(text.encode()).hexdigest())
    return manifest


def sha256(manifest: dict[str, Any]) -> str:
    """Of the manifest's text."""
    text = json.dumps(manifest, sort_keys=True, separators=(",", ":")) + "\n"
    return hashlib.sha256(text.encode()).hexdigest()


def images(count: int, seed: int = 0, channels: int = 1, side: int = 8, classes: int = 3) -> dict[str, np.ndarray]:
    """Noise whose brightness tells its class."""
    random = np.random.default_rng(seed)
    targets = np.arange(count) % classes
    dark = random.integers(0, 120, (count, channels, side, side))
    return {"inputs": (dark + 60 * targets[:, None, None, None]).astype(np.uint8), "targets": targets.astype(np.int64)}


def vectors(count: int, seed: int = 0, features: int = 4, classes: int = 3) -> dict[str, np.ndarray]:
    """Around a point for each class, of unlike scales."""
    random = np.random.default_rng(seed)
    targets = random.integers(0, classes, count)
    inputs = (random.normal(size=(count, features)) + targets[:, None]) * 10.0 ** np.arange(features) + 7
    return {"inputs": inputs.astype(np.float32), "targets": targets.astype(np.int64)}


def _part(folder: Path, name: str, arrays: dict[str, np.ndarray], task: str, outputs: int) -> dict[str, Any]:
    part: dict[str, Any] = {"examples": len(arrays["inputs"]), "lengths": None, "class_counts": None}
    if task == "classification":
        part["class_counts"] = np.bincount(arrays["targets"], minlength=outputs).tolist()
    for kind, array in arrays.items():
        path = folder / f"{name}-{kind}.npy"
        np.save(path, np.ascontiguousarray(array))
        content = path.read_bytes()
        part[kind] = {
            "file": path.name,
            "dtype": array.dtype.name,
            "shape": list(array.shape),
            "size": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
        }
    return part
