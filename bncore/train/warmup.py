"""Everything slow that does not depend on the spec, done before there is one.

Importing torch takes seconds, and torch imports more of itself at the first optimizer, the first step, the first file.
Whole tiny runs are the one list of those that cannot go stale. No CUDA context is made: an idle trainer holds no device
memory. Results do not depend on it: a run sets its own seeds, threads and modes.
"""

import json
import tempfile
from pathlib import Path

from bncore.train.attempt import run_attempt

_MLP: dict[str, object] = {"kind": "mlp", "hidden": [8], "norm": {"kind": "batch_renorm"}, "dropout": 0.1}
_CNN: dict[str, object] = {"kind": "cnn", "channels": [4], "norm": {"kind": "batch_norm"}}


def warm_up() -> None:
    """Train two tiny networks for two steps each, and go on from a checkpoint once."""
    with tempfile.TemporaryDirectory(prefix="bncore-warm-") as name:
        folder = Path(name)
        first, second, third = (folder / part for part in ("mlp", "cnn", "resumed"))
        _run(first, _MLP, {"kind": "sgd", "momentum": 0.9}, steps=2)
        _run(second, _CNN, {"kind": "adam"}, steps=2)
        restore = third / "restore"
        restore.mkdir(parents=True)
        for suffix, kept in (("", "weights"), (".state", "state")):
            (second / "checkpoints" / f"last-000000002{suffix}.safetensors").rename(restore / f"{kept}.safetensors")
        _run(third, _CNN, {"kind": "adam"}, steps=3)


def _run(folder: Path, network: dict[str, object], optimizer: dict[str, object], steps: int) -> None:
    folder.mkdir(exist_ok=True)
    train = {"steps": steps, "batch_size": 60}
    spec = {"network": network, "optimizer": optimizer, "train": train, "resources": {"device": "cpu", "threads": 1}}
    (folder / "spec.json").write_text(json.dumps(spec))
    outcome = run_attempt(folder, durable=False)
    if outcome.kind != "finished":
        raise RuntimeError(f"the warm-up did not finish: {outcome}")
