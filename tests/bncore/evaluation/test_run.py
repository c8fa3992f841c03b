"""A run directory that asks for an evaluation: what it ends with, and that it is the same again."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from safetensors.torch import save_file
from torch import nn

import bncore
from bncore.data import load_data
from bncore.evaluation import run_evaluation
from bncore.evaluation.run import CONFUSION_FILE
from bncore.events import Event, decode
from bncore.networks import build_network
from bncore.spec import ExperimentSpec, data_shape, load_spec
from bncore.spec.data.dataset import complete
from bncore.train.checkpoint import write_weights
from bncore.train.run_directory import RunDirectory
from tests.bncore.evaluation import oracles
from tests.bncore.train.conftest import Runs
from tests.canonical import vectors, write_canonical

MLP: dict[str, Any] = {"network": {"kind": "mlp", "hidden": [12], "norm": {"kind": "batch_norm"}}}


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    return Runs(tmp_path)


def written(path: Path, spec: ExperimentSpec, asked: dict[str, Any]) -> nn.Module:
    """A run directory at `path`, and the network whose weights lie in it."""
    shape = data_shape(spec.data)
    network = build_network(spec.network, shape.signal, shape.outputs, seed=3)
    data = load_data(spec.data).train
    network(data.inputs[:100]) if data.lengths is None else network(data.inputs[:100], data.lengths[:100])
    (path / "checkpoint").mkdir(parents=True)
    write_weights(path / "checkpoint" / "weights.safetensors", network, spec, 7)
    (path / "evaluation.json").write_text(json.dumps(asked))
    return network


def run(path: Path, stop: Any = lambda: False) -> list[Event]:
    directory = RunDirectory(path)
    try:
        last = run_evaluation(directory, stop)
    finally:
        directory.close()
    events = [decode(line) for line in (path / "events.jsonl").read_bytes().splitlines()]
    assert events[-1] == last
    return events


@pytest.mark.parametrize("statistics", ["source", "adabn", "precise", {"kind": "tent", "batch_size": 50}])
def test_a_run_directory_ends_with_what_the_library_finds_and_its_checkpoint_is_as_before(
    tmp_path: Path, statistics: Any
) -> None:
    asked = {"data": {"kind": "digits"}, "statistics": statistics}
    spec = load_spec({**MLP, "train": {"steps": 3, "batch_size": 60}})
    network = written(tmp_path / "first", spec, asked)
    weights = tmp_path / "first" / "checkpoint" / "weights.safetensors"
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    events = run(tmp_path / "first")
    assert [event.kind for event in events] == ["phase", "phase", "phase", "concluded"]
    result = events[-1].result
    whole = load_data(spec.data)
    expected = bncore.evaluate(
        network, whole.test, statistics, train=[whole.train.slice(n, n + 60) for n in range(0, 1200, 60)]
    )
    assert {key: result[key] for key in expected} == expected
    assert (result["step"], result["device"]) == (7, "cuda" if torch.cuda.is_available() else "cpu")
    assert hashlib.sha256(weights.read_bytes()).hexdigest() == digest
    written(tmp_path / "again", spec, asked)
    assert run(tmp_path / "again")[-1].result == result


def test_asked_to_stop_it_stops_between_batches_and_keeps_nothing(tmp_path: Path) -> None:
    written(tmp_path / "run", load_spec(MLP), {"data": {"kind": "digits"}, "batch_size": 100})
    asked = iter([False, False, True])
    events = run(tmp_path / "run", lambda: next(asked))
    assert events[-1].kind == "stopped"
    assert not (tmp_path / "run" / "files").exists()


def test_many_classes_are_confused_in_a_file(tmp_path: Path) -> None:
    data = {"kind": "variable_length", "classes": 120, "max_length": 5, "examples": 60, "test_examples": 200}
    spec = load_spec({"data": data, "network": {"kind": "rnn", "hidden": [4], "norm": {"kind": "sequence_batch_norm"}}})
    network = written(tmp_path / "run", spec, {"data": data, "statistics": "adabn"})
    events = run(tmp_path / "run")
    (saved,) = (event for event in events if event.kind == "file")
    assert (saved.name, saved.file_kind) == (CONFUSION_FILE, "confusion")
    path = tmp_path / "run" / saved.file.file
    assert hashlib.sha256(path.read_bytes()).hexdigest() == saved.file.sha256
    result, arrays = events[-1].result, load_file(path)
    assert "confusion" not in result["before"]
    assert len(result["before"]["classes"]["recall"]) == 120
    matrix = np.zeros((120, 120), dtype=int)
    matrix[arrays["before/true"], arrays["before/predicted"]] = arrays["before/count"]
    part = load_data(spec.data).test
    with torch.no_grad():
        predicted = network.eval()(part.inputs, part.lengths).argmax(1)
    expected = np.zeros((120, 120), dtype=int)
    np.add.at(expected, (part.targets.numpy(), predicted.numpy()), 1)
    assert (matrix == expected).all()
    assert arrays["after/count"].sum() == 200
    written(tmp_path / "again", spec, {"data": data, "statistics": "adabn"})
    assert [event.file.sha256 for event in run(tmp_path / "again") if event.kind == "file"] == [saved.file.sha256]


def test_numbers_that_are_not_finite_are_words(tmp_path: Path) -> None:
    spec = load_spec(MLP)
    network = written(tmp_path / "run", spec, {"data": {"kind": "digits"}, "statistics": "adabn"})
    with torch.no_grad():
        network.get_parameter("output.bias").fill_(float("inf"))
    write_weights(tmp_path / "run" / "checkpoint" / "weights.safetensors", network, spec, 7)
    result = run(tmp_path / "run")[-1].result
    assert result["before"]["loss"] == "NaN"
    assert result["before"]["reliability"]["accuracy"] == [None] * 15


def test_what_does_not_fit_fails_with_the_reason(tmp_path: Path) -> None:
    written(tmp_path / "run", load_spec(MLP), {"data": {"kind": "mnist5k"}})
    failed = run(tmp_path / "run")[-1]
    assert (failed.kind, failed.code) == ("failed", "invalid_data")
    assert "an image of 1x8x8" in failed.message


def test_a_file_that_is_damaged_or_none_of_ours_fails_with_the_reason(tmp_path: Path) -> None:
    for name, code in (("damaged", "checkpoint_damaged"), ("missing", "trainer_error"), ("other", "trainer_error")):
        written(tmp_path / name, load_spec(MLP), {"data": {"kind": "digits"}})
        weights = tmp_path / name / "checkpoint" / "weights.safetensors"
        if name == "damaged":
            weights.write_bytes(weights.read_bytes()[:100])
        elif name == "missing":
            weights.unlink()
        else:
            save_file({"weight": torch.ones(2)}, weights)
        failed = run(tmp_path / name)[-1]
        assert (failed.kind, failed.code) == ("failed", code), failed


def test_data_of_ones_own_are_shown_as_the_network_learned_to_see_them(tmp_path: Path, runs: Any) -> None:
    sets = {}
    for name, seed in (("source", 1), ("target", 2)):
        arrays = vectors(60, seed)
        # Of another scale than the source: its own mean and deviation would hide that.
        arrays["inputs"] = (arrays["inputs"] * (1 if name == "source" else 3)).astype(np.float32)
        sets[name] = write_canonical(
            tmp_path / name, {"kind": "vector", "shape": [4]}, "classification", 3, train=arrays, test=vectors(30, seed)
        )
    source, target = (
        complete({"data": {"kind": "dataset", "id": f"dat_{name}"}}, of)["data"] for name, of in sets.items()
    )
    trained = runs.prepare(
        {"data": source, "network": {"kind": "mlp", "hidden": [6]}, "train": {"steps": 9, "batch_size": 20}}
    )
    shutil.copytree(tmp_path / "source", trained.path / "data")
    weights = runs.attempt(trained).checkpoints("last")[-1].weights.file
    run_path = tmp_path / "run"
    (run_path / "checkpoint").mkdir(parents=True)
    shutil.copy(trained.path / weights, run_path / "checkpoint" / "weights.safetensors")
    shutil.copytree(tmp_path / "target", run_path / "data")
    (run_path / "evaluation.json").write_text(json.dumps({"data": target, "statistics": "adabn", "part": "train"}))
    found = run(run_path)[-1]
    assert found.kind == "concluded", found
    seen = vectors(60, 1)["inputs"].astype(np.float64)
    inputs, labels = vectors(60, 2)["inputs"] * np.float32(3), vectors(60, 2)["targets"]
    shown = ((inputs - seen.mean(0)) / seen.std(0)).astype(np.float32)
    model = bncore.load(run_path / "checkpoint" / "weights.safetensors")
    with torch.no_grad():
        logits = model(torch.from_numpy(shown)).numpy()
    expected = oracles.of_classes(logits, labels)
    assert found.result["before"]["accuracy"] == expected["accuracy"]
    assert found.result["before"]["loss"] == pytest.approx(expected["loss"], rel=1e-4)
