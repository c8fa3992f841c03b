"""Data sets that were brought in, trained on from a run directory."""

from pathlib import Path
from typing import Any

from bncore.spec import complete
from tests.canonical import images, write_canonical

IMAGE = {"kind": "image", "shape": [1, 8, 8]}


def test_it_is_trained_on_from_the_run_directory(runs: Any, tmp_path: Path) -> None:
    manifest = write_canonical(tmp_path / "sets", IMAGE, "classification", 3, train=images(60), test=images(12, 1))
    spec = complete(
        {
            "data": {"kind": "dataset", "id": "dat_01"},
            "network": {"kind": "cnn", "channels": [4]},
            "train": {"epochs": 6, "batch_size": 10},
            "evaluation": {"every_steps": 12, "statistics": ["running", "batch", "precise"]},
        },
        manifest,
    )
    run = runs.prepare(spec)
    (run.path / "data").symlink_to(tmp_path / "sets")
    runs.attempt(run)
    assert run.events[-1].summary.metrics["test/accuracy"] == 1.0
    missing = runs.train(spec)
    assert missing.events[-1].code == "invalid_data"
