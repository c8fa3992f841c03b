"""A run that begins with another's weights: where it begins, what stays, and that it resumes with the same bits."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from bncore.data import load_data
from bncore.networks import build_network
from bncore.spec import load_spec
from tests.bncore.train.conftest import Run
from tests.network_specs import small_spec
from tests.norm_specs import network_with

MLP: dict[str, Any] = {
    "kind": "mlp",
    "hidden": [12, 8],
    "norm": {"kind": "batch_norm"},
    "norm_positions": ["hidden", "logits"],
}


def source_of(runs: Any, spec: dict[str, Any]) -> Path:
    """The weights of a run of ten steps."""
    run = runs.train({**spec, "train": {"steps": 10}})
    return run.path / run.checkpoints("last")[-1].weights.file


def started(runs: Any, weights: Path, spec: dict[str, Any], **from_where: Any) -> Run:
    """A run that begins with these weights."""
    prepared = runs.prepare(spec, **from_where)
    (prepared.path / "checkpoint").mkdir()
    shutil.copy(weights, prepared.path / "checkpoint" / "weights.safetensors")
    return runs.attempt(prepared)


def weights_of(run: Run) -> dict[str, Tensor]:
    assert run.events[-1].kind == "finished", run.events[-1]
    return load_file(run.path / run.checkpoints("last")[-1].weights.file)


def test_it_takes_its_first_step_from_the_weights_of_the_checkpoint(runs: Any) -> None:
    spec = {"network": MLP, "optimizer": {"kind": "sgd", "lr": 0.1}, "evaluation": {"every_steps": 1}}
    weights = source_of(runs, spec)
    run = started(runs, weights, {**spec, "train": {"steps": 1, "batch_size": 1200}, "start_from": {}})
    model = build_network(load_spec(spec).network, (1, 8, 8), 10, seed=5)
    model.load_state_dict(load_file(weights))
    data = load_data(load_spec(spec).data).train
    loss = torch.nn.functional.cross_entropy(model(data.inputs), data.targets)
    loss.backward()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter -= 0.1 * parameter.grad
    assert run.series()["train/loss"][1] == pytest.approx(loss.item(), rel=1e-5)
    found = weights_of(run)
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-4, atol=1e-6)
    assert found["norm1.num_batches_tracked"] == 11


MOVING = {
    "optimizer": {"kind": "sgd", "lr": 0.3, "momentum": 0.9, "weight_decay": 0.01},
    "train": {"steps": 6, "ema": {"decay": 0.7}},
    "evaluation": {"every_steps": 2, "statistics": ["running", "batch", "precise"]},
    "checkpoint": {"every_steps": 3},
}


@pytest.mark.parametrize("optimizer", [MOVING["optimizer"], {"kind": "adamw", "lr": 0.05, "weight_decay": 0.1}])
def test_with_a_new_head_all_else_stays_to_the_bit_and_the_head_is_that_of_a_new_network(
    runs: Any, optimizer: dict[str, Any]
) -> None:
    network = {**MLP, "dropout": 0.3, "normalize_input": True}
    weights = source_of(runs, {"network": network})
    start = {"reset_head": True, "freeze": "all_but_head"}
    spec = {**MOVING, "network": network, "optimizer": optimizer, "start_from": start}
    spec["train"] = {**MOVING["train"], "seed": 4}
    run = started(runs, weights, spec)
    source, found = load_file(weights), weights_of(run)
    body = [name for name in source if not name.startswith("output")]
    assert all(torch.equal(source[name], found[name]) for name in body)
    assert not any(torch.equal(source[name], found[name]) for name in source if name.startswith("output"))
    model = build_network(load_spec(spec).network, (1, 8, 8), 10, seed=4)
    still = {"optimizer": {"kind": "sgd", "lr": 1e-30}, "train": {"steps": 1, "seed": 4}}
    begun = weights_of(started(runs, weights, {**spec, **still}))
    for name, parameter in model.named_parameters():
        if name.startswith("output"):
            torch.testing.assert_close(begun[name], parameter.data, rtol=0.0, atol=1e-20)
    state = load_file(run.path / run.checkpoints("last")[-1].state.file)
    assert all(torch.equal(state[f"ema/{name}"], source[name]) for name in body if f"ema/{name}" in state)
    assert not any(key.split("/")[1] in body for key in state if key.startswith("optimizer/"))


NORMS = [
    *("batch_norm", "batch_renorm", "ghost_batch_norm", "iter_norm", "moving_average_batch_norm", "power_norm"),
    *("switchable_norm", "cross_iteration_batch_norm", "evo_norm_b0", "layer_norm", "filter_response_norm"),
]


@pytest.mark.parametrize("norm", NORMS)
def test_frozen_normalizations_keep_every_bit_while_the_rest_learns(runs: Any, norm: str) -> None:
    network = network_with("cnn", norm, channels=[4, 8])
    if norm in ("batch_norm", "layer_norm"):
        network["norm_positions"] = ["hidden", "logits"]
    weights = source_of(runs, {"network": network})
    run = started(runs, weights, {**MOVING, "network": network, "start_from": {"freeze": "norms"}})
    source, found = load_file(weights), weights_of(run)
    is_frozen = {name: name.startswith("norm") for name in source}
    assert sum(is_frozen.values()) >= 2
    for name, tensor in source.items():
        same = torch.equal(tensor, found[name])
        assert same == is_frozen[name], name


def test_frozen_normalizations_normalize_with_the_statistics_of_the_checkpoint(runs: Any) -> None:
    spec = {"network": MLP, "optimizer": {"kind": "sgd", "lr": 0.1}}
    weights = source_of(runs, spec)
    run = started(runs, weights, {**spec, "train": {"steps": 1, "batch_size": 1200}, "start_from": {"freeze": "norms"}})
    model = build_network(load_spec(spec).network, (1, 8, 8), 10)
    model.load_state_dict(load_file(weights))
    model.norm1.eval()
    model.norm2.eval()
    data = load_data(load_spec(spec).data).train
    loss = torch.nn.functional.cross_entropy(model(data.inputs), data.targets)
    assert run.series()["train/loss"][1] == pytest.approx(loss.item(), rel=1e-5)


RESUMED = {
    "cnn": network_with("cnn", "batch_renorm", channels=[4, 8], dropout=0.2),
    "spectral": network_with("cnn", "spectral_norm", channels=[4, 8], dropout=0.2),
    **{kind: small_spec(kind, "step_batch_norm")["network"] for kind in ("lstm",)},
}


@pytest.mark.parametrize(
    ("network", "freeze"), [("cnn", "norms"), ("spectral", "all_but_head"), ("lstm", "norms"), ("cnn", None)]
)
def test_it_resumes_with_the_same_bits_and_needs_the_checkpoint_no_more(runs: Any, network: str, freeze: str) -> None:
    parts = {**small_spec(network, "step_batch_norm"), **MOVING} if network == "lstm" else dict(MOVING)
    spec = {**parts, "network": RESUMED[network]}
    weights = source_of(runs, {key: spec[key] for key in ("data", "network") if key in spec})
    spec["start_from"] = {"freeze": freeze, "reset_head": True}
    whole = started(runs, weights, spec)
    resumed = runs.train(spec, after=whole, step=3)
    runs.assert_continued(whole, resumed, 3)
    if freeze == "all_but_head":
        source, found = load_file(weights), weights_of(resumed)
        assert all(torch.equal(source[name], found[name]) for name in source if not name.startswith("output"))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"network": {**MLP, "hidden": [12, 9]}}, "/network/hidden: The checkpoint's network has another hidden"),
        ({"data": {"kind": "digits", "as": "row"}, "network": {"kind": "rnn"}}, "/network/kind: The checkpoint is of"),
        ({"sha256": 64 * "0"}, "is not the checkpoint that the spec names"),
        ({"missing": True}, "FileNotFoundError"),
    ],
)
def test_another_checkpoint_than_the_spec_needs_is_refused_with_the_reason(
    runs: Any, change: dict[str, Any], said: str
) -> None:
    weights = source_of(runs, {"network": MLP})
    start: dict[str, Any] = {}
    if "sha256" in change:
        shown = load_spec({"network": MLP}).model_dump(mode="json", include={"network", "data"})
        start["source"] = {"experiment": f"exp_{32 * '0'}", "step": 10, "sha256": change["sha256"], **shown}
    parts = {key: value for key, value in change.items() if key in ("data", "network")}
    spec = {"network": MLP, "train": {"steps": 2}, "start_from": start, **parts}
    run = runs.prepare(spec)
    if "missing" not in change:
        (run.path / "checkpoint").mkdir()
        shutil.copy(weights, run.path / "checkpoint" / "weights.safetensors")
    failed = runs.attempt(run).events[-1]
    assert failed.kind == "failed"
    assert said in failed.message
