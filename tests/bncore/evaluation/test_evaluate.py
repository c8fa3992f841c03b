"""What is found of a model is what double precision says, with each kind of statistics, and nothing of it changes."""

import copy
import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import bncore
from bncore.adapt import tent
from bncore.data import Examples, load_data
from bncore.data.dataset import IGNORED
from bncore.evaluation.batches import Together
from bncore.networks import build_network
from bncore.spec import DigitsSpec, VariableLengthSpec
from bncore.spec.blueprint import Signal
from bncore.spec.evaluation import InBatches
from tests.bncore.evaluation import oracles

MLP = {"kind": "mlp", "hidden": [16, 12], "norm": {"kind": "batch_norm"}}


def trained(seed: int = 0) -> nn.Sequential:
    """Weights and statistics that are not those of the beginning, and in training mode."""
    model = build_network(MLP, (1, 8, 8), 10, seed)
    data = load_data(DigitsSpec()).train
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
    for first in range(0, 600, 60):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(data.inputs[first : first + 60]), data.targets[first : first + 60])
        loss.backward()
        optimizer.step()
    return model


def state_of(model: nn.Module) -> dict[str, np.ndarray]:
    return {name: tensor.numpy() for name, tensor in model.state_dict().items()}


def shifted() -> Examples:
    part = load_data(DigitsSpec()).test
    return part._replace(inputs=0.4 * part.inputs.flip(3) + 0.3)


def check(found: dict[str, Any], logits: np.ndarray, labels: np.ndarray) -> None:
    expected = oracles.of_classes(logits, labels)
    for name in ("loss", "accuracy", "calibration_error"):
        assert found[name] == pytest.approx(expected[name], rel=1e-5), name
    assert found["confusion"] == expected["confusion"]
    assert found["reliability"]["counts"] == expected["counts"]
    for number in range(len(expected["confusion"])):
        for name, value in oracles.of_class(expected["confusion"], number).items():
            assert found["classes"][name][number] == pytest.approx(value), (number, name)


@pytest.mark.parametrize(
    ("asked", "statistics"),
    [
        ("adabn", "target"),
        ({"kind": "adabn", "batch_size": 100}, "target"),
        ({"kind": "prediction_time", "batch_size": 600}, "batch"),
        ("precise", "precise"),
    ],
)
def test_before_and_after_are_what_double_precision_says(asked: Any, statistics: str) -> None:
    model, data = trained(), shifted()
    source = load_data(DigitsSpec()).train
    found = bncore.evaluate(model, data, asked, batch_size=100, train=[source])
    x, labels = data.inputs.flatten(1).numpy(), data.targets.numpy()
    check(found["before"], oracles.mlp(state_of(model), x, "running"), labels)
    check(found["after"], oracles.mlp(state_of(model), x, statistics, source.inputs.flatten(1).numpy()), labels)
    assert (found["task"], found["examples"], found["reason"]) == ("classification", 597, None)
    assert found["after"]["accuracy"] != found["before"]["accuracy"]


def test_each_batch_is_normalized_by_itself_in_the_order_that_was_asked_for() -> None:
    model, data = trained(), shifted()
    asked = {"kind": "prediction_time", "batch_size": 100, "order": "by_class"}
    found = bncore.evaluate(model, data, asked)["after"]
    order = np.argsort(data.targets.numpy(), kind="stable")
    x, labels = data.inputs.flatten(1).numpy()[order], data.targets.numpy()[order]
    # 597 in 6 batches: none is larger than another by more than one.
    cuts = [597 * part // 6 for part in range(7)]
    assert {end - first for first, end in itertools.pairwise(cuts)} == {99, 100}
    state = state_of(model)
    logits = [oracles.mlp(state, x[first:end], "batch") for first, end in itertools.pairwise(cuts)]
    check(found, np.concatenate(logits), labels)
    shuffled = bncore.evaluate(model, data, {**asked, "order": "shuffled"})["after"]
    assert found["accuracy"] < shuffled["accuracy"] - 0.1, "batches of one class lose"


def test_batches_of_one_class_have_no_other_and_lose() -> None:
    model, data = trained(), shifted()
    asked = {"kind": "prediction_time", "batch_size": 25, "order": "one_class"}
    found = bncore.evaluate(model, data, asked)["after"]
    x, labels, state = data.inputs.flatten(1).numpy(), data.targets.numpy(), state_of(model)
    logits, order = [], []
    for label in range(10):
        mine = np.flatnonzero(labels == label)
        parts = np.array_split(mine[::-1], -(-len(mine) // 25))[::-1]
        # The larger ones come last, as everywhere.
        for part in (part[::-1] for part in parts):
            logits.append(oracles.mlp(state, x[part], "batch"))
            order.append(part)
    assert sorted(len(part) for part in order)[0] > 12
    check(found, np.concatenate(logits), labels[np.concatenate(order)])
    shuffled = bncore.evaluate(model, data, {**asked, "order": "shuffled"})["after"]
    assert found["accuracy"] < shuffled["accuracy"] - 0.1


def test_shuffled_is_another_order_for_each_seed_and_has_every_example_once() -> None:
    part = Examples(torch.arange(10.0).unsqueeze(1), torch.arange(10))
    orders = [
        [label for batch in Together(part, InBatches(batch_size=4, seed=seed)) for label in batch.targets.tolist()]
        for seed in (0, 0, 1)
    ]
    assert orders[0] == orders[1] != orders[2]
    assert all(sorted(order) == list(range(10)) != order for order in orders)


@pytest.mark.parametrize("steps", [1, 2])
def test_tent_goes_through_the_batches_once_and_predicts_before_it_learns(steps: int) -> None:
    model, data = trained(), shifted()
    asked = {"kind": "tent", "batch_size": 200, "order": "stored", "lr": 0.05, "steps": steps}
    found = bncore.evaluate(model, data, asked)["after"]
    by_hand = copy.deepcopy(model).train()
    scales = [parameter for name, parameter in by_hand.named_parameters() if name.startswith("norm")]
    optimizer = torch.optim.Adam(scales, lr=0.05)
    said = []
    for first in (0, 199, 398):
        for _ in range(steps):
            logits = by_hand(data.inputs[first : first + 199])
            chances = logits.softmax(1)
            optimizer.zero_grad()
            (-(chances * chances.log()).sum(1).mean()).backward()
            optimizer.step()
        said.append(logits.detach())
    check(found, torch.cat(said).numpy(), data.targets.numpy())


@pytest.mark.parametrize("asked", ["source", "adabn", "prediction_time", "precise", {"kind": "tent", "lr": 0.1}])
@pytest.mark.parametrize("norm", ["batch_norm", "batch_renorm", "iter_norm", "noisy_batch_norm"])
def test_nothing_of_the_model_changes_and_nothing_of_the_result(asked: Any, norm: str) -> None:
    network = {"kind": "cnn", "channels": [4, 8], "norm": {"kind": norm}, "dropout": 0.2}
    model = build_network(network, (1, 8, 8), 10)
    source = load_data(DigitsSpec())
    model(source.train.inputs[:200]).sum().backward()
    model[0].eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    gradients = [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]
    modes, drawn = [module.training for module in model.modules()], torch.get_rng_state()
    first, second = (bncore.evaluate(model, source.test, asked, train=[source.train.slice(0, 300)]) for _ in range(2))
    assert first == second
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert modes == [module.training for module in model.modules()]
    assert torch.equal(drawn, torch.get_rng_state())
    kept = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    assert all(torch.equal(old, new) for old, new in zip(gradients, kept, strict=True))
    assert (first["after"] is None) == (asked == "source")


def test_tagging_counts_steps_with_a_label_and_sequences_without_an_error() -> None:
    data = load_data(tagged_sequences())
    network = {"kind": "rnn", "hidden": [6], "norm": {"kind": "sequence_batch_norm"}, "output": "each_step"}
    model = build_network(network, Signal((6, 3), "sequence", lengths=True), 3)
    part = data.test
    found = bncore.evaluate(model, part, {"kind": "tent", "batch_size": 10}, batch_size=7)
    assert part.lengths is not None
    with torch.no_grad():
        logits = model.eval()(part.inputs, part.lengths)
    labelled = part.targets != IGNORED
    check(found["before"], logits[labelled].numpy(), part.targets[labelled].numpy())
    right = [
        all(logits[n, t].argmax() == part.targets[n, t] for t in range(int(length)))
        for n, length in enumerate(part.lengths)
    ]
    assert found["before"]["sequence_accuracy"] == sum(right) / len(right)
    assert found["after"]["count"] == found["before"]["count"] == int(part.lengths.sum())


def tagged_sequences() -> VariableLengthSpec:
    return VariableLengthSpec(tag=True, classes=3, min_length=2, max_length=6, examples=40, test_examples=30)


def test_padding_has_no_part_in_the_entropy() -> None:
    data = load_data(tagged_sequences()).test
    network = {"kind": "rnn", "hidden": [6], "norm": {"kind": "sequence_batch_norm"}, "output": "each_step"}
    model = build_network(network, Signal((6, 3), "sequence", lengths=True), 3)
    assert data.lengths is not None
    found = bncore.evaluate(model, data, {"kind": "tent", "batch_size": 30, "steps": 2, "lr": 0.1, "order": "stored"})

    def valid(network: nn.Module, batch: Examples) -> Tensor:
        logits = network(batch.inputs, batch.lengths)
        return torch.cat([logits[n, : int(length)] for n, length in enumerate(batch.lengths)])

    with tent(model, lambda scales: torch.optim.Adam(scales, lr=0.1), forward=valid) as adapting:
        adapting(data)
        expected = adapting(data)
    labels = torch.cat([data.targets[n, : int(length)] for n, length in enumerate(data.lengths)])
    check(found["after"], expected.numpy(), labels.numpy())


def test_a_regression_has_errors_and_r2_of_each_output() -> None:
    model = nn.Linear(3, 2)
    stream = torch.Generator().manual_seed(0)
    x, y = torch.randn(50, 3, generator=stream), torch.randn(50, 2, generator=stream) + 1e4
    y[:, 1] = 7.0
    found = bncore.evaluate(model, (x, y), batch_size=16)["before"]
    targets, predicted = y.double().numpy(), model(x).detach().double().numpy()
    errors = np.square(targets - predicted)
    assert found["loss"] == pytest.approx(errors.mean())
    assert found["mean_absolute_error"] == pytest.approx(np.abs(targets - predicted).mean())
    r2 = 1 - errors[:, 0].sum() / np.square(targets[:, 0] - targets[:, 0].mean()).sum()
    assert found["outputs"]["r2"] == [pytest.approx(r2), None]
    assert found["r2"] == pytest.approx(r2)


def test_a_model_that_diverged_has_numbers_that_are_none_and_a_reason() -> None:
    model = trained()
    with torch.no_grad():
        model.linear1.weight.fill_(math.nan)
    found = bncore.evaluate(model, shifted(), "adabn")
    assert math.isnan(found["before"]["loss"])
    assert math.isnan(found["before"]["calibration_error"])
    assert found["before"]["reliability"]["without_probability"] == 597
    assert found["after"] is None
    assert "norm1 has seen values that are not finite" in found["reason"]


def test_what_is_no_data_set_or_no_statistics_is_said_with_its_pointer() -> None:
    with pytest.raises(ValueError, match="kind: Unknown kind; did you mean adabn"):
        bncore.evaluate(trained(), shifted(), "adabm")
    with pytest.raises(ValueError, match="give them as train"):
        bncore.evaluate(trained(), shifted(), "precise")
    with pytest.raises(ValueError, match="no validation part"):
        bncore.evaluate(trained(), {"kind": "digits"}, part="validation")
