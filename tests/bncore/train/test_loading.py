"""A downloaded checkpoint is a model again in one line, or the error says what the file is instead."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import bncore
from bncore.data import load_data
from bncore.spec import load_spec
from bncore.train.checkpoint import METADATA_KEY, CheckpointDamaged, CheckpointMismatch

SPEC: dict[str, Any] = {
    "network": {"kind": "resnet", "depth": 8, "width": 4, "norm_positions": ["input", "hidden"], "dropout": 0.3},
    "train": {"steps": 3, "batch_size": 20},
}


@pytest.fixture
def weights(runs: Any) -> tuple[Path, Any]:
    run = runs.train(SPEC)
    return run.path / run.checkpoints("last")[-1].weights.file, run


def test_a_checkpoint_is_a_model_that_predicts_what_the_run_measured(weights: tuple[Path, Any]) -> None:
    path, run = weights
    model = bncore.load(str(path))
    assert not any(module.training for module in model.modules())
    assert all(torch.equal(value, load_file(path)[key]) for key, value in model.state_dict().items())
    inputs, labels, *_ = load_data(load_spec(SPEC).data).test
    with torch.no_grad():
        logits = model(inputs)
    series = run.series()
    assert (logits.argmax(1) == labels).double().mean().item() == series["test/accuracy"][3]
    assert torch.nn.functional.cross_entropy(logits, labels).item() == pytest.approx(series["test/loss"][3])


def test_the_averages_of_a_run_are_a_model_too(runs: Any) -> None:
    run = runs.train({**SPEC, "train": {**SPEC["train"], "ema": {"decay": 0.5}}, "checkpoint": {"every_steps": 2}})
    first, last = run.checkpoints("last")
    weights, state = run.path / last.weights.file, run.path / last.state.file
    model = bncore.load(weights, averages=state)
    inputs, labels, *_ = load_data(load_spec(SPEC).data).test
    with torch.no_grad():
        accuracy = (model(inputs).argmax(1) == labels).double().mean().item()
    assert accuracy == run.series()["test/accuracy@ema"][3]
    assert not torch.equal(model.output.weight, bncore.load(weights).output.weight)
    for other, said in ((run.path / first.state.file, "step 3"), (weights, "step 3")):
        with pytest.raises(CheckpointMismatch, match=said):
            bncore.load(weights, averages=other)
    plain = runs.train(SPEC)
    saved = plain.checkpoints("last")[-1]
    with pytest.raises(CheckpointMismatch, match=r"no train\.ema"):
        bncore.load(plain.path / saved.weights.file, averages=plain.path / saved.state.file)


def rewritten(path: Path, metadata: dict[str, str] | None, tensors: dict[str, torch.Tensor] | None = None) -> Path:
    other = path.with_name("other.safetensors")
    save_file(tensors or load_file(path), other, metadata=metadata)
    return other


def test_a_file_that_is_not_a_model_says_what_it_is(weights: tuple[Path, Any]) -> None:
    path, run = weights
    spec = load_spec(SPEC).model_dump(mode="json")
    said = {"format_version": 1, "spec": spec, "step": 3}

    def saved(**changes: object) -> Path:
        return rewritten(path, {METADATA_KEY: json.dumps({**said, **changes})})

    cut = path.with_name("cut.safetensors")
    cut.write_bytes(path.read_bytes()[:-100])
    text = path.with_name("text.safetensors")
    text.write_text("not a model")
    state = run.path / run.checkpoints("last")[-1].state.file
    wider = {**spec, "network": {**spec["network"], "width": 8}}
    unknown = {**spec, "network": {"kind": "perceptron"}}
    for make, error, words in (
        (lambda: cut, CheckpointDamaged, "cut.safetensors is no safetensors file, or not whole"),
        (lambda: text, CheckpointDamaged, "download it again"),
        (lambda: state, CheckpointMismatch, "is the training state of a run; load the weights"),
        (lambda: rewritten(path, None), CheckpointMismatch, "was not saved by BNLab"),
        (lambda: rewritten(path, {METADATA_KEY: "[]"}), CheckpointMismatch, "was not saved by BNLab"),
        (lambda: rewritten(path, {METADATA_KEY: "{"}), CheckpointMismatch, "was not saved by BNLab"),
        (lambda: saved(format_version=2), CheckpointMismatch, "format 2; this version reads 1"),
        (lambda: saved(spec=wider), CheckpointMismatch, "the weights do not fit the network"),
        (lambda: saved(spec=unknown), CheckpointMismatch, "a spec that this version does not know: /network/kind"),
        (lambda: path.with_name("nowhere"), FileNotFoundError, "there is no file .*nowhere"),
        (lambda: path.parent, FileNotFoundError, "there is no file"),
    ):
        with pytest.raises(error, match=words):
            bncore.load(make())
