"""What one run writes: order, cadence, targets, divergence, checkpoints anybody can read."""

import json
import math
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn

from bncore.data import Batches, digits, load_data
from bncore.networks import build_network
from bncore.spec import DigitsSpec, StepSchedule, load_spec, lr_factor
from bncore.train import run_attempt

MLP = {"kind": "mlp", "hidden": [24, 24], "activation": "sigmoid"}


def spec_of(steps: int = 60, **parts: Any) -> dict[str, Any]:
    train = {"steps": steps, **parts.pop("train", {})}
    return {
        "network": MLP,
        "evaluation": {"every_steps": 25},
        "checkpoint": {"every_steps": 40},
        **parts,
        "train": train,
    }


def of_kind(run: Any, kind: str) -> list[Any]:
    return [event for event in run.events if event.kind == kind]


def test_every_step_has_its_numbers_and_evaluations_come_at_their_cadence_and_at_the_end(runs: Any) -> None:
    run = runs.train(spec_of())
    series = run.series()
    for key in ("train/loss", "train/accuracy", "lr"):
        assert list(series[key]) == list(range(1, 61))
    for key in ("test/loss", "test/accuracy"):
        assert list(series[key]) == [25, 50, 60]
    assert [event.step for event in run.checkpoints("last")] == [40, 60]


def test_the_end_is_evaluated_and_saved_once_where_the_cadence_falls_on_it(runs: Any) -> None:
    run = runs.train(spec_of(steps=50, checkpoint={"every_steps": 25}))
    assert list(run.series()["test/loss"]) == [25, 50]
    assert [event.step for event in run.checkpoints("last")] == [25, 50]


def test_metrics_come_before_the_evaluation_and_that_before_its_checkpoints(runs: Any) -> None:
    run = runs.train(spec_of(steps=50, checkpoint={"every_steps": 25}))
    seen: list[tuple[str, int]] = []
    for event in run.events:
        # Once a second there is a point of how fast it goes.
        if event.kind == "metrics" and "system/steps_per_second" not in event.values:
            seen.append((next(iter(event.values)).split("/")[0], event.first_step + event.count - 1))
        elif event.kind == "checkpoint":
            seen.append((event.checkpoint_kind, event.step))
    at_25 = [what for what, step in seen if step == 25]
    assert at_25 == ["train", "test", "best", "last"]


def test_no_block_of_metrics_spans_a_checkpoint(runs: Any) -> None:
    run = runs.train(spec_of(steps=90, checkpoint={"every_steps": 7}))
    saved = {event.step for event in of_kind(run, "checkpoint")}
    for block in of_kind(run, "metrics"):
        inside = range(block.first_step, block.first_step + block.count - 1)
        assert not saved & set(inside)


def test_two_runs_of_one_spec_are_equal_to_the_last_bit(runs: Any) -> None:
    spec = spec_of(network={**MLP, "dropout": 0.2})
    first, second = runs.train(spec), runs.train(spec)
    assert [event.weights.sha256 for event in of_kind(first, "checkpoint")] == [
        event.weights.sha256 for event in of_kind(second, "checkpoint")
    ]
    assert first.series() == second.series()
    other = runs.train({**spec, "train": {"steps": 60, "seed": 1}})
    assert other.series() != first.series()


def test_measuring_more_often_changes_no_weight(runs: Any) -> None:
    network = {"kind": "mlp", "hidden": [24], "dropout": 0.3, "norm": {"kind": "batch_renorm"}, "normalize_input": True}
    seldom = runs.train(spec_of(network=network, evaluation={"every_steps": 1000}))
    often = runs.train(spec_of(network=network, evaluation={"every_steps": 1}, checkpoint={"every_steps": 13}))
    expected, actual = (run.tensors(run.checkpoints("last")[-1]) for run in (seldom, often))
    assert all(torch.equal(expected[key], actual[key]) for key in expected)
    assert seldom.series()["train/loss"] == often.series()["train/loss"]


def test_the_learning_rate_is_that_of_the_schedule(runs: Any) -> None:
    schedule = {"kind": "step", "step_size": 20, "gamma": 0.5, "warmup_steps": 5}
    run = runs.train(spec_of(schedule=schedule, optimizer={"kind": "sgd", "lr": 0.3}))
    expected = {step: 0.3 * lr_factor(StepSchedule(**schedule), step, 60) for step in range(1, 61)}
    assert run.series()["lr"] == expected


def test_the_losses_are_those_of_a_loop_in_plain_torch(runs: Any) -> None:
    spec = spec_of(steps=30, optimizer={"kind": "sgd", "lr": 0.2, "momentum": 0.9}, loss={"label_smoothing": 0.1})
    parsed, data = load_spec(spec), load_data(DigitsSpec())
    network = build_network(parsed.network, (1, 8, 8), 10, seed=parsed.train.seed)
    batches = Batches(data.train, parsed.train.batch_size, parsed.train.seed)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.2, momentum=0.9)
    for step, loss in runs.train(spec).series()["train/loss"].items():
        inputs, labels, *_ = batches.batch(step)
        expected = nn.functional.cross_entropy(network(inputs), labels, label_smoothing=0.1)
        assert loss == pytest.approx(expected.item(), rel=1e-5)
        optimizer.zero_grad()
        expected.backward()
        optimizer.step()


def test_adaptive_clipping_limits_each_unit_but_those_of_the_output(runs: Any) -> None:
    spec = spec_of(steps=20, optimizer={"kind": "sgd", "lr": 0.5}, train={"adaptive_clipping": 0.02})
    parsed, data = load_spec(spec), load_data(DigitsSpec())
    network = build_network(parsed.network, (1, 8, 8), 10, seed=parsed.train.seed)
    batches = Batches(data.train, parsed.train.batch_size, parsed.train.seed)
    clipped = 0
    for step, loss in runs.train(spec).series()["train/loss"].items():
        inputs, labels, *_ = batches.batch(step)
        expected = nn.functional.cross_entropy(network(inputs), labels)
        assert loss == pytest.approx(expected.item(), rel=1e-5)
        network.zero_grad()
        expected.backward()
        with torch.no_grad():
            for name, parameter in network.named_parameters():
                shape = (len(parameter) if parameter.dim() > 1 else 1, -1)
                size, slope = (
                    tensor.reshape(shape).norm(dim=1, keepdim=True) for tensor in (parameter, parameter.grad)
                )
                factor = (0.02 * size.clamp(min=1e-3) / slope).clamp(max=1.0)
                if name.startswith("output"):
                    factor = torch.ones_like(factor)
                clipped += (factor < 1.0).sum().item()
                parameter.sub_(0.5 * (parameter.grad.reshape(shape) * factor).reshape(parameter.shape))
    assert clipped > 100


def test_a_target_is_recorded_at_the_first_evaluation_that_reaches_it(runs: Any) -> None:
    spec = spec_of(steps=200, train={"target": {"test_accuracy": 0.6}}, optimizer={"kind": "sgd", "lr": 0.5})
    run = runs.train(spec)
    (event,) = of_kind(run, "target_reached")
    accuracies = run.series()["test/accuracy"]
    assert event.step == min(step for step, accuracy in accuracies.items() if accuracy >= 0.6)
    finished = run.events[-1]
    assert (finished.stop_reason, finished.step, finished.summary.steps_to_target) == ("budget", 200, event.step)


def test_a_target_with_stop_ends_the_run_there_with_a_last_checkpoint(runs: Any) -> None:
    target = {"test_accuracy": 0.6, "stop": True}
    spec = spec_of(steps=200, train={"target": target}, optimizer={"kind": "sgd", "lr": 0.5})
    run = runs.train(spec)
    finished = run.events[-1]
    assert finished.stop_reason == "target_reached"
    assert finished.step == finished.summary.steps_to_target < 200
    assert run.checkpoints("last")[-1].step == finished.step
    again = runs.train(spec, after=run, step=finished.step).events[-1]
    assert (again.stop_reason, again.step) == ("target_reached", finished.step)


def test_the_best_checkpoint_is_saved_on_strict_improvement_only(runs: Any) -> None:
    run = runs.train(spec_of(steps=120, evaluation={"every_steps": 5}))
    best, improved = -1.0, []
    for step, accuracy in run.series()["test/accuracy"].items():
        if accuracy > best:
            best = accuracy
            improved.append(step)
    assert [event.step for event in run.checkpoints("best")] == improved
    assert run.events[-1].summary.best_test_accuracy == best
    assert all(event.state is None for event in run.checkpoints("best"))


def test_without_keep_best_there_is_none(runs: Any) -> None:
    run = runs.train(spec_of(checkpoint={"every_steps": 30, "keep_best": False}))
    assert run.checkpoints("best") == []


DIVERGING = {
    "network": {**MLP, "activation": "relu", "norm": {"kind": "none"}},
    "optimizer": {"kind": "sgd", "lr": 1e4},
}


@pytest.mark.parametrize("cadence", [1, 7, 40])
def test_divergence_is_a_result_and_ends_the_run_at_the_same_step_whenever_it_was_seen(runs: Any, cadence: int) -> None:
    spec = spec_of(steps=200, checkpoint={"every_steps": cadence}, **DIVERGING)
    run = runs.train(spec)
    finished = run.events[-1]
    losses = run.series()["train/loss"]
    first = min(step for step, loss in losses.items() if not math.isfinite(loss))
    assert finished.stop_reason == "diverged"
    assert finished.summary.diverged_at == first
    assert finished.step == -(-first // 32) * 32
    assert run.checkpoints("last")[-1].step == finished.step
    again = runs.train(spec, after=run, step=finished.step).events[-1]
    assert (again.stop_reason, again.step) == ("diverged", finished.step)


def test_divergence_shortly_before_the_end_of_the_budget_is_not_overlooked(runs: Any) -> None:
    finished = runs.train(spec_of(steps=20, **DIVERGING)).events[-1]
    assert (finished.stop_reason, finished.step) == ("diverged", 20)


def test_the_weights_load_into_a_plain_model_and_give_the_reported_accuracy(runs: Any) -> None:
    run = runs.train(spec_of(steps=100, optimizer={"kind": "sgd", "lr": 0.5}))
    layers = {"flatten": nn.Flatten()}
    for number, features in ((1, 64), (2, 24)):
        layers[f"linear{number}"] = nn.Linear(features, 24)
        layers[f"norm{number}"] = nn.BatchNorm1d(24)
        layers[f"activation{number}"] = nn.Sigmoid()
    layers["output"] = nn.Linear(24, 10)
    model = nn.Sequential()
    for name, layer in layers.items():
        model.add_module(name, layer)
    checkpoint = run.checkpoints("last")[-1]
    model.load_state_dict(load_file(run.path / checkpoint.weights.file), strict=True)
    data = load_data(DigitsSpec())
    with torch.no_grad():
        predicted = model.eval()(data.test.inputs).argmax(1)
    accuracy = (predicted == data.test.targets).double().mean().item()
    assert accuracy == pytest.approx(run.events[-1].summary.test_accuracy, abs=1e-12)
    assert checkpoint.metrics["test/accuracy"] == run.events[-1].summary.test_accuracy


def test_metadata_is_one_key_with_the_complete_spec(runs: Any) -> None:
    spec = spec_of(steps=2)
    run = runs.train(spec)
    with safe_open(run.path / run.checkpoints("last")[-1].weights.file, framework="pt") as file:
        (text,) = file.metadata().values()
    metadata = json.loads(text)
    assert metadata["step"] == 2
    assert metadata["format_version"] == 1
    assert load_spec(metadata["spec"]) == load_spec(spec)


@pytest.mark.parametrize("fault", ["pixel", "label"])
def test_data_that_cannot_be_trained_on_fail_the_run_as_such(runs: Any, monkeypatch: Any, fault: str) -> None:
    images, labels = digits.read_pixels()
    if fault == "pixel":
        images[5, 5] = math.inf
    if fault == "label":
        labels[labels == 9] = 10
    monkeypatch.setattr(digits, "read_pixels", lambda: (images, labels))
    digits.load_digits.cache_clear()
    try:
        failed = runs.train(spec_of()).events[-1]
    finally:
        digits.load_digits.cache_clear()
    assert (failed.kind, failed.code) == ("failed", "invalid_data")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "SpecError"),
        ('{"train": {"batch_size": 0}}', "batch_size"),
        pytest.param(
            '{"resources": {"device": "cuda"}}',
            "no CUDA device",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has one"),
        ),
    ],
)
def test_whatever_else_goes_wrong_is_a_failure_in_one_line(runs: Any, text: str, said: str) -> None:
    run = runs.prepare({})
    (run.path / "spec.json").write_text(text)
    failed = run_attempt(run.path)
    assert run.events[-1] == failed
    assert failed.code == "trainer_error"
    assert said in failed.message
    assert "\n" not in failed.message
