"""Classification, tagging and regression: what is descended, what is measured, what is best."""

from typing import Any

import pytest
import torch
from torch import nn

from bncore.data import IGNORED, Examples, load_data
from bncore.networks import build_network
from bncore.spec import CrossEntropySpec, SpecError, data_shape, load_spec
from bncore.train.evaluate import evaluate, slices
from bncore.train.task import build_task

LENGTHS = (5, 1, 3, 4)


def tagged() -> tuple[torch.Tensor, Examples]:
    """Logits (4, 5, 3), and labels of which those behind the end are ignored."""
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(4, 5, 3, generator=generator)
    labels = torch.randint(0, 3, (4, 5), generator=generator)
    for number, length in enumerate(LENGTHS):
        labels[number, length:] = IGNORED
    return logits, Examples(torch.zeros(4, 5, 2), labels, torch.tensor(LENGTHS))


def by_hand(logits: torch.Tensor, examples: Examples, smoothing: float = 0.0) -> tuple[float, float]:
    """Cross entropy and accuracy, step by step in double precision."""
    losses, hits = [], []
    for row, labels, length in zip(logits.double(), examples.targets, examples.lengths, strict=True):
        for step in range(length):
            logs = row[step].log_softmax(0)
            losses.append(-((1.0 - smoothing) * logs[labels[step]] + smoothing * logs.mean()).item())
            hits.append(float(row[step].argmax() == labels[step]))
    return sum(losses) / len(losses), sum(hits) / len(hits)


def test_tagging_counts_the_steps_of_sequences_and_no_padding() -> None:
    logits, examples = tagged()
    task = build_task("tagging", CrossEntropySpec(label_smoothing=0.2))
    expected, accuracy = by_hand(logits, examples, 0.2)
    assert task.loss(logits, examples).item() == pytest.approx(expected, rel=1e-6)
    kept = [task.kept(logits, examples), task.kept(logits[:2], examples.slice(0, 2))]
    part = by_hand(logits[:2], examples.slice(0, 2))[1]
    assert task.read(kept)["accuracy"] == [accuracy, part]
    loss, hits = task.totals(logits, examples)
    plain = by_hand(logits, examples)[0]
    assert (loss.item() / sum(LENGTHS), hits.item() / sum(LENGTHS)) == (pytest.approx(plain, rel=1e-6), accuracy)


class Remembers(nn.Module):
    """The outputs of examples by their number."""

    def __init__(self, outputs: torch.Tensor) -> None:
        super().__init__()
        self.outputs = outputs

    def forward(self, number: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        return self.outputs[number]


def test_tags_are_evaluated_over_all_steps_whatever_the_batches() -> None:
    logits, examples = tagged()
    numbered = examples._replace(inputs=torch.arange(4))
    model = Remembers(logits)
    task = build_task("tagging", CrossEntropySpec())
    loss, accuracy = by_hand(logits, examples)
    for size in (1, 3, 4):
        found = evaluate(model, task, slices(numbered, size))
        assert found == {"loss": pytest.approx(loss, rel=1e-6), "accuracy": accuracy}


def test_the_gradient_of_micro_batches_of_tags_is_the_mean_over_all_steps() -> None:
    logits, examples = tagged()
    task = build_task("tagging", CrossEntropySpec())
    whole, parts = (logits.clone().requires_grad_() for _ in range(2))
    task.loss(whole, examples).backward()
    for first, end in ((0, 1), (1, 4)):
        part = examples.slice(first, end)
        (task.loss(parts[first:end], part) * (task.weight(part) / task.weight(examples))).backward()
    assert torch.allclose(whole.grad, parts.grad, atol=1e-7)


REGRESSION = {
    "data": {"kind": "santurkar_linear", "features": 6, "examples": 200, "test_examples": 50},
    "network": {"kind": "mlp", "hidden": [6], "activation": "identity", "norm": {"kind": "none"}},
    "optimizer": {"kind": "sgd", "lr": 0.01},
    "train": {"steps": 40, "batch_size": 50},
    "evaluation": {"every_steps": 10},
}


def test_a_regression_descends_the_mean_squared_error_and_its_least_is_best(runs: Any) -> None:
    spec = load_spec(REGRESSION)
    assert spec.loss.kind == "mean_squared_error"
    run = runs.train({**REGRESSION, "train": {"steps": 40, "batch_size": 50, "target": {"loss": 4.0}}})
    series, finished = run.series(), run.events[-1]
    assert sorted(series) == ["lr", "test/loss", "train/loss"]
    model = build_network(spec.network, data_shape(spec.data).signal, 6, seed=99)
    model.load_state_dict(
        {key: value for key, value in run.tensors(run.checkpoints("last")[-1]).items() if "/" not in key}
    )
    test = load_data(spec.data).test
    with torch.no_grad():
        expected = (model(test.inputs).double() - test.targets.double()).square().mean().item()
    assert series["test/loss"][40] == pytest.approx(expected, rel=1e-5)
    least = min(series["test/loss"].values())
    summary = finished.summary
    assert (summary.best.metric, summary.best.value) == ("test/loss", least)
    assert (summary.test_accuracy, summary.best_test_accuracy) == (None, None)
    reached = [step for step, loss in series["test/loss"].items() if loss <= 4.0]
    assert summary.steps_to_target == (reached[0] if reached else None)
    assert [event.metrics["test/loss"] for event in run.checkpoints("best")][-1] == least


@pytest.mark.parametrize(
    ("changes", "pointer", "code"),
    [
        ({"loss": {"kind": "cross_entropy"}}, "/loss/kind", "loss_does_not_fit"),
        ({"data": {"kind": "digits"}, "loss": {"kind": "mean_squared_error"}}, "/loss/kind", "loss_does_not_fit"),
        ({"train": {"target": {"accuracy": 0.5}}}, "/train/target/accuracy", "target_does_not_fit"),
        ({"train": {"target": {"test_accuracy": 0.5}}}, "/train/target/test_accuracy", "target_does_not_fit"),
        (
            {
                "data": {"kind": "digits"},
                "network": {"kind": "mlp"},
                "evaluation": {"batch_size": 1, "statistics": ["running", "batch"]},
            },
            "/evaluation/batch_size",
            "one_value_per_channel",
        ),
        (
            # A larger batch would not help: there is one example.
            {
                "data": {"kind": "digits", "validation": {"count": 1}},
                "network": {"kind": "mlp"},
                "evaluation": {"batch_size": 1, "statistics": ["running", "batch"]},
            },
            "/evaluation/statistics",
            "one_value_per_channel",
        ),
    ],
)
def test_what_the_data_have_no_answer_for_is_refused(changes: dict[str, Any], pointer: str, code: str) -> None:
    with pytest.raises(SpecError) as refused:
        load_spec({**REGRESSION, **changes})
    assert [(fault.pointer, fault.code) for fault in refused.value.faults] == [(pointer, code)]


@pytest.mark.parametrize("target", [{"accuracy": 0.3}, {"test_accuracy": 0.3}])
def test_with_examples_for_validation_these_choose(runs: Any, target: dict[str, float]) -> None:
    spec = {
        "data": {"kind": "digits", "validation": {"count": 200}},
        "network": {"kind": "mlp", "hidden": [24], "activation": "sigmoid"},
        "optimizer": {"kind": "sgd", "lr": 0.5},
        "train": {"steps": 60, "target": target},
        "evaluation": {"every_steps": 6},
        "checkpoint": {"every_steps": 24},
    }
    run = runs.train(spec)
    series, summary = run.series(), run.events[-1].summary
    points = series["validation/accuracy"]
    best = max(points.values())
    step = next(step for step, value in points.items() if value == best)
    assert (summary.best.metric, summary.best.value, summary.best.step) == ("validation/accuracy", best, step)
    assert run.checkpoints("best")[-1].step == step
    assert summary.best_test_accuracy == max(series["test/accuracy"].values())
    measured = "test/accuracy" if "test_accuracy" in target else "validation/accuracy"
    (event,) = (event for event in run.events if event.kind == "target_reached")
    reached = next(step for step, value in series[measured].items() if value >= 0.3)
    assert (event.metric, event.step) == (measured, reached)
    runs.assert_continued(run, runs.train(spec, after=run, step=24), 24)


def test_padded_sequences_are_tagged_step_by_step_and_resumed(runs: Any) -> None:
    spec = {
        "data": {"kind": "variable_length", "tag": True, "examples": 120, "test_examples": 50, "max_length": 8},
        "network": {"kind": "gru", "hidden": [6], "output": "each_step", "norm": {"kind": "sequence_batch_norm"}},
        "train": {"steps": 9, "batch_size": 32, "accumulate": 2},
        "evaluation": {"every_steps": 3, "batch_size": 20, "statistics": ["running", "batch", "precise"]},
        "checkpoint": {"every_steps": 5},
    }
    whole = runs.train(spec)
    runs.assert_continued(whole, runs.train(spec, after=whole, step=5), 5)
    parsed = load_spec(spec)
    model = build_network(parsed.network, data_shape(parsed.data).signal, 4, seed=99)
    tensors = whole.tensors(whole.checkpoints("last")[-1])
    model.load_state_dict({key: value for key, value in tensors.items() if "/" not in key})
    test = load_data(parsed.data).test
    with torch.no_grad():
        loss, accuracy = by_hand(model.eval()(test.inputs, test.lengths), test)
    metrics = whole.events[-1].summary.metrics
    assert metrics["test/loss"] == pytest.approx(loss, rel=1e-5)
    assert metrics["test/accuracy"] == pytest.approx(accuracy, abs=1e-12)
