"""What is measured with which statistics, and that measuring leaves no trace."""

from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from bncore.data import load_data
from bncore.networks import build_network
from bncore.spec import DigitsSpec, SpecError, load_spec
from tests.norm_specs import network_with

MLP = {"kind": "mlp", "hidden": [24], "activation": "sigmoid", "norm": {"kind": "batch_norm", "momentum": 0.01}}
ALL = ["running", "batch", "precise"]


def spec_of(network: dict[str, Any] = MLP, statistics: list[str] = ALL, **parts: Any) -> dict[str, Any]:
    return {
        "network": network,
        "optimizer": {"kind": "sgd", "lr": 0.3},
        "train": {"steps": 30, **parts.pop("train", {})},
        "evaluation": {"every_steps": 10, "statistics": statistics},
        **parts,
    }


def measured(outputs: Tensor) -> dict[str, float]:
    labels = load_data(DigitsSpec()).test.targets
    accuracy = (outputs.argmax(1) == labels).double().mean().item()
    return {"accuracy": accuracy, "loss": nn.functional.cross_entropy(outputs.double(), labels).item()}


def test_each_kind_of_statistics_is_what_a_plain_model_gives_with_it(runs: Any) -> None:
    run = runs.train(spec_of())
    model = build_network(load_spec(spec_of()).network, (1, 8, 8), 10, seed=99)
    model.load_state_dict(load_file(run.path / run.checkpoints("last")[-1].weights.file))
    data = load_data(DigitsSpec())
    expected: dict[str, dict[str, float]] = {}
    with torch.no_grad():
        expected[""] = measured(model.eval()(data.test.inputs))
        norm = model.norm1
        before = {key: value.clone() for key, value in norm.state_dict().items()}
        expected["@batch"] = measured(model.train()(data.test.inputs))
        norm.load_state_dict(before)
        values = model.linear1(data.train.inputs.flatten(1)).double()
        norm.running_mean.copy_(values.mean(0))
        norm.running_var.copy_(values.var(0))
        expected["@precise"] = measured(model.eval()(data.test.inputs))
    series = run.series()
    for suffix, numbers in expected.items():
        for name, value in numbers.items():
            assert series[f"test/{name}{suffix}"][30] == pytest.approx(value, rel=1e-5), f"{name}{suffix}"
    assert len({series[f"test/loss{suffix}"][30] for suffix in expected}) == 3
    summary = run.events[-1].summary
    assert summary.metrics == {key: points[30] for key, points in series.items() if key.startswith("test/")}
    best = max(series["test/accuracy"].values())
    step = next(step for step, value in series["test/accuracy"].items() if value == best)
    assert (summary.best.metric, summary.best.value, summary.best.step) == ("test/accuracy", best, step)


KEEPING_STATE = [
    "batch_norm",
    "batch_renorm",
    "noisy_batch_norm",
    "l1_batch_norm",
    "iter_norm",
    "cross_iteration_batch_norm",
    "moving_average_batch_norm",
    "power_norm",
    "switchable_norm",
    "spectral_norm",
]


@pytest.mark.parametrize("norm", KEEPING_STATE)
def test_measuring_with_every_kind_leaves_no_trace(runs: Any, norm: str) -> None:
    network = network_with("cnn", norm, channels=[4, 8], dropout=0.1)
    train = {"steps": 6, "ema": {"decay": 0.9}}
    every = {"every_steps": 2, "statistics": ALL}
    often, never = (
        runs.train({**spec_of(network, train=train), "evaluation": evaluation})
        for evaluation in (every, {"every_steps": 6})
    )
    expected, actual = (run.tensors(run.checkpoints("last")[-1]) for run in (never, often))
    assert expected.keys() == actual.keys()
    assert all(torch.equal(expected[key], actual[key]) for key in expected)
    series = often.series()
    assert {key for key in series if key.startswith("test/loss")} == {
        f"test/loss{average}{how}" for average in ("", "@ema") for how in ("", "@batch", "@precise")
    }


def test_without_statistics_of_the_batch_all_kinds_give_the_same(runs: Any) -> None:
    series = runs.train(spec_of({**MLP, "norm": {"kind": "layer_norm"}})).series()
    for name in ("loss", "accuracy"):
        assert series[f"test/{name}@batch"] == pytest.approx(series[f"test/{name}"], rel=1e-6)
        assert series[f"test/{name}@precise"] == series[f"test/{name}"]


def test_a_network_that_diverged_has_no_precise_statistics_and_goes_on(runs: Any) -> None:
    network = {**MLP, "hidden": [8, 8], "activation": "relu"}
    run = runs.train(spec_of(network, optimizer={"kind": "sgd", "lr": 1e4}, train={"steps": 200}))
    finished = run.events[-1]
    assert finished.kind == "finished"
    if finished.stop_reason == "diverged":
        assert str(run.series()["test/loss@precise"][finished.step]) == "nan"


@pytest.mark.parametrize(
    ("evaluation", "code"),
    [
        ({"statistics": ["batch"]}, "running_is_missing"),
        ({"statistics": ["running", "running"]}, "repeated_statistics"),
        ({"statistics": []}, "too_short"),
    ],
)
def test_statistics_that_cannot_be_are_refused(evaluation: dict[str, Any], code: str) -> None:
    with pytest.raises(SpecError) as refused:
        load_spec({"evaluation": evaluation})
    assert [(fault.pointer, fault.code) for fault in refused.value.faults] == [("/evaluation/statistics", code)]


@pytest.mark.parametrize(
    ("target", "pointer"),
    [({}, "/train/target/accuracy"), ({"accuracy": 0.5, "test_accuracy": 0.5}, "/train/target/test_accuracy")],
)
def test_a_target_is_one_number(target: dict[str, float], pointer: str) -> None:
    with pytest.raises(SpecError) as refused:
        load_spec({"train": {"target": target}})
    assert [(fault.pointer, fault.code) for fault in refused.value.faults] == [(pointer, "one_target")]


@pytest.mark.parametrize("target", [{"accuracy": 0.5}, {"loss": 1.8}])
def test_a_target_may_be_an_accuracy_or_a_loss(runs: Any, target: dict[str, float]) -> None:
    ((name, wanted),) = target.items()
    network = {**MLP, "norm": {"kind": "batch_norm"}}
    run = runs.train(spec_of(network, ["running"], train={"steps": 60, "target": target}))
    (event,) = (event for event in run.events if event.kind == "target_reached")
    points = run.series()[f"test/{name}"]
    reached = [step for step, value in points.items() if (value <= wanted if name == "loss" else value >= wanted)]
    assert (event.metric, event.step, event.value) == (f"test/{name}", reached[0], points[reached[0]])
    assert event.test_accuracy == (event.value if name == "accuracy" else None)
