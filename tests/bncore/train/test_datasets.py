"""Data sets that were brought in, trained on from a run directory: in memory, from files, and resumed elsewhere."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from bncore.data import InvalidData, dataset, load_data, load_for
from bncore.data.stored import StoredPart
from bncore.spec import complete, load_spec, plan
from bncore.train.loading import standardization_of
from bncore.train.solo import Solo
from tests.canonical import images, write_canonical

IMAGE = {"kind": "image", "shape": [2, 8, 8]}
EVERYTHING = {
    "data": {
        "kind": "dataset",
        "id": "dat_01",
        "validation": {"share": 0.2},
        "imbalance": {"factor": 2},
        "shift": {"kind": "noise", "severity": 2},
        "resize": 7,
        "sampler": {"kind": "classes_per_batch", "classes": 2, "examples": 6},
        "augment": [
            {"kind": "pad_crop", "padding": 1},
            {"kind": "flip"},
            {"kind": "rotate"},
            {"kind": "cutout", "size": 2},
            {"kind": "mixup"},
            {"kind": "noise"},
        ],
    },
    "network": {"kind": "cnn", "channels": [4], "norm": {"kind": "batch_renorm"}, "dropout": 0.2},
    "optimizer": {"kind": "adam"},
    "train": {"steps": 13, "batch_size": 12, "accumulate": 2, "ema": {"decay": 0.9}},
    "evaluation": {"every_steps": 5, "batch_size": 7, "statistics": ["running", "batch", "precise"]},
    "checkpoint": {"every_steps": 4},
}


@pytest.fixture
def spec(tmp_path: Path) -> dict[str, Any]:
    """Of a set in `tmp_path`/sets; an epoch is of 8 steps."""
    parts = {"train": images(180, channels=2), "test": images(30, 1, channels=2)}
    return complete(EVERYTHING, write_canonical(tmp_path / "sets", IMAGE, "classification", 3, **parts))


def train(runs: Any, spec: dict[str, Any], sets: Path, after: Any = None, step: int | None = None) -> Any:
    run = runs.prepare(spec, after, step)
    (run.path / "data").symlink_to(sets)
    return runs.attempt(run)


def from_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on, no data set is small enough to be held in memory."""
    monkeypatch.setitem(dataset.HELD_BYTES, "cpu", 0)


def test_a_set_in_memory_and_one_in_files_have_the_same_bits(
    runs: Any, spec: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = train(runs, spec, tmp_path / "sets")
    from_files(monkeypatch)
    filed = train(runs, spec, tmp_path / "sets")
    assert held.series() == filed.series()
    first, second = (run.tensors(run.checkpoints("last")[-1]) for run in (held, filed))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_run_that_is_moved_in_mid_epoch_ends_with_the_same_bits(
    runs: Any, spec: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from_files(monkeypatch)
    whole = train(runs, spec, tmp_path / "sets")
    assert [saved.step for saved in whole.checkpoints("last")] == [4, 8, 12, 13]
    shutil.move(tmp_path / "sets", tmp_path / "elsewhere")
    for step in (4, 12):
        resumed = train(runs, spec, tmp_path / "elsewhere", after=whole, step=step)
        runs.assert_continued(whole, resumed, step)


def test_where_examples_are_read_from_is_decided_by_the_room_there_is(
    spec: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = load_data(load_spec(spec).data, tmp_path / "sets")
    held = data.to(torch.device("cpu"))
    from_files(monkeypatch)
    filed = data.to(torch.device("cpu"))
    for name in ("train", "validation", "test"):
        parts: list[StoredPart] = [one.parts[name] for one in (held, filed)]
        assert [part.kept is None for part in parts] == [False, True]
        # Bytes are kept as bytes until they are asked for.
        assert parts[0].kept.inputs.dtype == torch.uint8
        index = torch.randperm(parts[0].size)[:7]
        assert all(
            torch.equal(first, second)
            for first, second in zip(parts[0].gather(index)[:2], parts[1].gather(index)[:2], strict=True)
        )


def test_evaluation_and_precise_statistics_see_examples_as_they_are(spec: dict[str, Any], tmp_path: Path) -> None:
    plain = {**spec, "data": {**spec["data"], "augment": []}}
    values = []
    for one in (spec, plain):
        parsed = load_spec(one)
        data = load_data(parsed.data, tmp_path / "sets")
        values.append(Solo(parsed, plan(parsed), torch.device("cpu"), data).evaluate())
    assert values[0] == values[1]
    assert {"test/loss", "test/loss@batch", "test/loss@precise", "validation/loss@ema@precise"} <= values[0].keys()


def test_it_learns_what_is_in_the_files(runs: Any, spec: dict[str, Any], tmp_path: Path) -> None:
    network = {"kind": "cnn", "channels": [4]}
    plain = {name: value for name, value in spec["data"].items() if name not in ("augment", "sampler", "shift")}
    run = train(runs, {"data": plain, "network": network, "train": {"epochs": 8, "batch_size": 10}}, tmp_path / "sets")
    assert run.events[-1].summary.metrics["test/accuracy"] == 1.0
    missing = runs.train(spec)
    assert missing.events[-1].code == "invalid_data"


def test_weights_say_how_their_inputs_were_standardized_and_other_data_are_seen_so(runs: Any, tmp_path: Path) -> None:
    network = {"kind": "mlp", "hidden": [4]}
    spec = {"data": {"kind": "wine"}, "network": network, "train": {"steps": 2, "batch_size": 20}}
    run = runs.train(spec)
    weights = run.path / run.checkpoints("last")[-1].weights.file
    found = standardization_of(weights)
    own = load_data(load_spec(spec).data)
    assert found is not None
    assert torch.equal(found.mean, own.standardization.mean)
    assert torch.equal(found.deviation, own.standardization.deviation)
    wines = load_data(load_spec({"data": {"kind": "wine", "standardize": False}}).data)
    # As another set it is seen by the numbers of the first, whatever it says of itself.
    arrays = {"inputs": wines.test.inputs.numpy() + 1, "targets": wines.test.targets.numpy()}
    signal = {"kind": "vector", "shape": [13]}
    manifest = write_canonical(tmp_path, signal, "classification", 3, train=arrays, test=arrays)
    other = load_spec(complete({"data": {"kind": "dataset", "id": "dat_02"}, "train": {"batch_size": 9}}, manifest))
    seen = load_for(other.data, tmp_path, found).test.slice(0, 58).inputs
    torch.testing.assert_close(seen, (wines.test.inputs + 1 - found.mean) / found.deviation)
    assert torch.equal(load_for(other.data, tmp_path, None).test.slice(0, 58).inputs, wines.test.inputs + 1)
    with pytest.raises(InvalidData, match="1 channels cannot be standardized by those of 13"):
        load_for(load_spec({}).data, None, found)
    digits = runs.train({"network": network, "train": {"steps": 1}})
    assert standardization_of(digits.path / digits.checkpoints("last")[-1].weights.file) is None
