"""What the host does to a run: a full disk, damaged files. Neither is taken for a fault of the experiment."""

from pathlib import Path
from typing import Any

import pytest

from bncore.events import decode
from bncore.run_directory import EXIT_DISK_FULL
from tests.bncore.train.small_disk import small

SPEC = {"network": {"kind": "mlp", "hidden": [64]}, "train": {"steps": 20}, "checkpoint": {"every_steps": 5}}


def test_a_full_disk_has_its_own_failure_and_exit_code_and_leaves_whole_lines_only(tmp_path: Path) -> None:
    # The first checkpoint fits in, the second does not.
    done = small(tmp_path, SPEC, "60k")
    assert done.returncode == EXIT_DISK_FULL
    events = [decode(line) for line in (tmp_path / "left" / "events.jsonl").read_bytes().splitlines(keepends=True)]
    assert (events[-1].kind, events[-1].code) == ("failed", "disk_full")
    assert "No space left" in events[-1].message
    assert not list((tmp_path / "left").rglob("*.tmp"))


def test_a_line_that_does_not_fit_in_leaves_nothing_of_itself(tmp_path: Path) -> None:
    # Evaluations write lines until the disk is full in the middle of one; there are no checkpoints to make room.
    spec = {
        "network": {"kind": "mlp", "hidden": [2]},
        "train": {"steps": 20_000},
        "evaluation": {"every_steps": 1},
        "checkpoint": {"every_steps": 1_000_000, "keep_best": False},
    }
    done = small(tmp_path, spec, "24k")
    assert done.returncode == EXIT_DISK_FULL
    text = (tmp_path / "left" / "events.jsonl").read_bytes()
    assert text.endswith(b"\n")
    assert {decode(line).kind for line in text.splitlines()} >= {"started", "metrics"}


@pytest.mark.parametrize("file", ["weights", "state"])
@pytest.mark.parametrize("damage", ["truncated", "empty", "garbage", "missing"])
def test_a_damaged_checkpoint_has_its_own_failure_code(runs: Any, whole: Any, file: str, damage: str) -> None:
    run = runs.prepare(SPEC, after=whole, step=10)
    path = run.path / "restore" / f"{file}.safetensors"
    content = path.read_bytes()
    damaged = {"truncated": content[:-100], "empty": b"", "garbage": content[:8] + b"x" * len(content)}
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(damaged[damage])
    failed = runs.attempt(run).events[-1]
    assert (failed.kind, failed.code) == ("failed", "checkpoint_damaged")
    assert path.name in failed.message


@pytest.fixture
def whole(runs: Any) -> Any:
    return runs.train(SPEC)
