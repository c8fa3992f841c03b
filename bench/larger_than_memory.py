"""What a trainer holds of a data set that is larger than its bound: `python -m bench.larger_than_memory`.

A set of images is generated in canonical form (2 GB unless said otherwise), and a small network trained on it by
`python -m bncore RUN_DIR` as a process of its own. Printed is the greatest resident set the system saw of that process
(`ru_maxrss` of wait4: anonymous memory and pages of files alike; nothing of the set is mapped), and the same for a set
of 10 MB with as many test examples, which is what torch and the network take.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from bncore.events import decode
from bncore.spec import complete

_SHAPE, _CLASSES, _PIECE = (3, 32, 32), 10, 4096


def main() -> None:
    """Print a line for the small and one for the large set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=2.0)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument(
        "--folder", type=Path, help="where there is room for it; the default is that of temporary files"
    )
    arguments = parser.parse_args()
    for size in (1e7, arguments.gigabytes * 1e9):
        with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
            _measure(Path(name), int(size / np.prod(_SHAPE)), arguments.steps)


def _measure(folder: Path, examples: int, steps: int) -> None:
    spec = {
        "data": {"kind": "dataset", "id": "dat_bench", "test": {"count": 2000}},
        "network": {"kind": "cnn", "channels": [8, 8]},
        "train": {"steps": steps, "batch_size": 64},
        "evaluation": {"every_steps": max(1, steps // 2), "batch_size": 256},
    }
    manifest = _generate(folder / "data", examples)
    (folder / "spec.json").write_text(json.dumps(complete(spec, manifest)))
    began = time.perf_counter()
    child = subprocess.Popen([sys.executable, "-m", "bncore", str(folder)], stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(child.pid, 0)
    seconds = time.perf_counter() - began
    child.returncode = os.waitstatus_to_exitcode(status)
    events = [decode(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    assert events[-1].kind == "finished", events[-1]
    stored = examples * int(np.prod(_SHAPE))
    sys.stdout.write(
        f"{stored / 1e6:8.0f} MB of images   peak resident {used.ru_maxrss * 1024 / 1e6:6.0f} MB"
        f"   {seconds:6.1f} s in all, {events[-1].summary.seconds:6.1f} s of it for {steps} steps\n"
    )
    sys.stdout.flush()


def _generate(folder: Path, examples: int) -> dict[str, Any]:
    """Noise whose brightness tells its class; written in pieces."""
    building = folder / "building"
    building.mkdir(parents=True)
    random = np.random.default_rng(0)
    targets = random.integers(0, _CLASSES, examples)
    noise = random.integers(0, 100, (_PIECE, *_SHAPE), dtype=np.uint8)
    pieces = (targets[first : first + _PIECE] for first in range(0, examples, _PIECE))
    images = (noise[: len(piece)] + (12 * piece).astype(np.uint8)[:, None, None, None] for piece in pieces)
    part = {
        "examples": examples,
        "inputs": _write(building / "train-inputs.npy", np.dtype(np.uint8), (examples, *_SHAPE), images),
        "targets": _write(building / "train-targets.npy", np.dtype(np.int64), (examples,), [targets]),
        "lengths": None,
        "class_counts": np.bincount(targets, minlength=_CLASSES).tolist(),
    }
    manifest = {
        "version": 1,
        "signal": {"kind": "image", "shape": list(_SHAPE), "lengths": False},
        "task": "classification",
        "outputs": _CLASSES,
        "classes": None,
        "parts": {"train": part},
    }
    text = json.dumps(manifest, sort_keys=True, separators=(",", ":")) + "\n"
    (building / "dataset.json").write_text(text)
    building.rename(folder / hashlib.sha256(text.encode()).hexdigest())
    return manifest


def _write(path: Path, dtype: "np.dtype[Any]", shape: tuple[int, ...], pieces: Any) -> dict[str, Any]:
    with path.open("wb") as file:
        said = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, said)
        for piece in pieces:
            file.write(piece.tobytes())
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {
        "file": path.name, "dtype": dtype.name, "shape": list(shape), "size": path.stat().st_size, "sha256": digest,
    }  # fmt: skip


if __name__ == "__main__":
    main()
