"""Test-time statistics on data from elsewhere: what each kind of evaluation makes of a shift, beside its controls.

A small CNN with batch norm is trained on mnist5k at the size of each target, with several seeds, and measured on the
clean test part, on its shifts, on the digits of scikit-learn, and on data sets in canonical form that are named. The
last column normalizes batches of one class by themselves, which has to lose.

    python -m bench.adaptation --dataset usps=DIRECTORY --epochs 10 --seeds 2
"""

import argparse
import hashlib
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import bncore
from bncore.data import Part, load_data
from bncore.evaluation.measuring import measure
from bncore.spec import load_spec
from bncore.spec.data.dataset import complete
from bncore.spec.data.shift import ShiftKind
from bncore.spec.evaluation import StatisticsSpec, load_evaluation
from bncore.train import run_attempt
from bncore.train.evaluate import equal_parts

SEVERITIES = (1, 3, 5)
STATISTICS: dict[str, Any] = {
    "source": "source",
    "adabn": "adabn",
    "prediction_time": "prediction_time",
    "batches of 64": {"kind": "prediction_time", "batch_size": 64},
    "precise": "precise",
    "tent": "tent",
    "by class": {"kind": "prediction_time", "order": "by_class"},
}
BATCH = 64


def main() -> None:
    """Print a line for each seed and target: accuracies in percent."""
    parser = argparse.ArgumentParser(description="Accuracy with each kind of statistics.")
    parser.add_argument(
        "--dataset", action="append", default=[], help="NAME=DIRECTORY of a set of images of ten classes"
    )
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=2)
    asked = parser.parse_args()
    print("| target | seed |", " | ".join(STATISTICS), "|")
    print("| --- " * (len(STATISTICS) + 2) + "|")
    with tempfile.TemporaryDirectory() as name:
        for seed in range(asked.seeds):
            for side, targets in (*_built_in(), *_named(asked.dataset, Path(name))):
                source = {"kind": "mnist5k", **({"resize": side} if side < 28 else {})}
                run = Path(name) / f"mnist5k-{side}-{seed}"
                if not run.exists():
                    _train(run, source, asked.epochs, seed)
                _measure(run, source, targets, seed)


def _built_in() -> Iterator[tuple[int, dict[str, Part]]]:
    shifts = [(kind, severity) for kind in get_args(ShiftKind) for severity in SEVERITIES]
    shifted = {
        f"mnist5k, {kind} {severity}": _data({"kind": "mnist5k", "shift": {"kind": kind, "severity": severity}})
        for kind, severity in shifts
    }
    yield 28, {"mnist5k": _data({"kind": "mnist5k"}), **shifted}
    yield 8, {"mnist5k at 8x8": _data({"kind": "mnist5k", "resize": 8}), "digits": _data({"kind": "digits"})}


def _named(named: list[str], folder: Path) -> Iterator[tuple[int, dict[str, Part]]]:
    for one in named:
        name, _, directory = one.partition("=")
        text = (Path(directory) / "dataset.json").read_bytes()
        (folder / hashlib.sha256(text).hexdigest()).unlink(missing_ok=True)
        (folder / hashlib.sha256(text).hexdigest()).symlink_to(Path(directory).resolve())
        wanted = {"data": {"kind": "dataset", "id": f"dat_{name}", "standardize": False}}
        document = complete(wanted, json.loads(text))["data"]
        side = document["signal"]["shape"][1]
        clean = {f"mnist5k at {side}x{side}": _data({"kind": "mnist5k", "resize": side})}
        yield side, {**clean, name: _data(document, folder)}


def _data(document: dict[str, Any], folder: Path | None = None) -> Part:
    return load_data(load_evaluation({"data": document}).data, folder).test


def _train(run: Path, source: dict[str, Any], epochs: int, seed: int) -> None:
    run.mkdir()
    spec = {
        "data": source,
        "network": {"kind": "cnn", "channels": [16, 32, 32], "norm": {"kind": "batch_norm"}},
        "optimizer": {"kind": "sgd", "lr": 0.1, "momentum": 0.9},
        "schedule": {"kind": "cosine"},
        "train": {"epochs": epochs, "batch_size": BATCH, "seed": seed},
        "evaluation": {"every_steps": 200},
    }
    (run / "spec.json").write_text(json.dumps(spec))
    outcome = run_attempt(run)
    if outcome.kind != "finished":
        raise SystemExit(f"the training did not finish: {outcome}")


def _measure(run: Path, source: dict[str, Any], targets: dict[str, Part], seed: int) -> None:
    weights = sorted(path for path in run.glob("checkpoints/last-*.safetensors") if ".state" not in path.name)[-1]
    model = bncore.load(weights)
    examples = load_data(load_spec({"data": source}).data).train
    train = equal_parts(examples, examples.size // BATCH)
    for name, part in targets.items():
        row = []
        for asked in STATISTICS.values():
            statistics: StatisticsSpec = load_evaluation({"data": source, "statistics": asked}).statistics
            found = measure(model, part, "classification", 10, statistics, 1000, train).result
            row.append(f"{100 * (found['after'] or found['before'])['accuracy']:.1f}")
        print(f"| {name} | {seed} |", " | ".join(row), "|", flush=True)


if __name__ == "__main__":
    main()
