"""What one step is made of: micro-batches, and an average of the weights behind it."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bncore.data import Batches, load_data
from bncore.networks import build_network
from bncore.spec import DigitsSpec, SpecError, load_spec

MLP = {"kind": "mlp", "hidden": [24], "activation": "sigmoid"}


def spec_of(network: dict[str, Any] = MLP, steps: int = 30, **train: Any) -> dict[str, Any]:
    return {
        "network": network,
        "optimizer": {"kind": "sgd", "lr": 0.3, "momentum": 0.9},
        "loss": {"label_smoothing": 0.1},
        "train": {"steps": steps, **train},
        "evaluation": {"every_steps": 10},
    }


def start_of(spec: dict[str, Any]) -> tuple[nn.Module, Batches]:
    """The network and the batches that the trainer begins with."""
    parsed = load_spec(spec)
    network = build_network(parsed.network, (1, 8, 8), 10, seed=parsed.train.seed)
    return network, Batches(load_data(DigitsSpec()).train, parsed.train.batch_size, parsed.train.seed)


def test_micro_batches_are_those_of_a_loop_in_plain_torch(runs: Any) -> None:
    # 17 batches of 70 and one of 10, in parts of 24, 23, 23 and of 10.
    spec = spec_of(batch_size=70, accumulate=3)
    network, batches = start_of(spec)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.3, momentum=0.9)
    run = runs.train(spec)
    for step, loss in run.series()["train/loss"].items():
        inputs, labels, *_ = batches.batch(step)
        sizes = [24, 23, 23] if len(inputs) == 70 else [10]
        optimizer.zero_grad()
        total = 0.0
        for part, expected in zip(inputs.split(sizes), labels.split(sizes), strict=True):
            summed = nn.functional.cross_entropy(network(part), expected, label_smoothing=0.1, reduction="sum")
            (summed / len(inputs)).backward()
            total += summed.item() / len(inputs)
        assert loss == pytest.approx(total, rel=1e-5)
        optimizer.step()
    trained = run.tensors(run.checkpoints("last")[-1])
    for name, value in network.state_dict().items():
        assert torch.allclose(trained[name].double(), value.double(), rtol=1e-4, atol=1e-6), name
    assert trained["norm1.num_batches_tracked"] == 29 * 3 + 1


def test_without_batch_statistics_micro_batches_change_rounding_alone(runs: Any) -> None:
    network = {**MLP, "norm": {"kind": "none"}}
    one, several = (runs.train(spec_of(network, accumulate=parts)).series() for parts in (1, 7))
    for key in ("train/loss", "train/accuracy", "test/accuracy"):
        assert several[key] == pytest.approx(one[key], rel=1e-4)


@pytest.mark.parametrize(
    ("train", "pointer", "code"),
    [
        ({"batch_size": 8, "accumulate": 9}, "/train/accumulate", "more_parts_than_examples"),
        ({"batch_size": 60, "accumulate": 60}, "/train/accumulate", "one_value_per_channel"),
        ({"batch_size": 1197, "accumulate": 500}, "/train/accumulate", "one_value_per_channel"),
    ],
)
def test_micro_batches_that_cannot_be_are_refused(train: dict[str, Any], pointer: str, code: str) -> None:
    with pytest.raises(SpecError) as refused:
        load_spec(spec_of(**train))
    assert [(fault.pointer, fault.code) for fault in refused.value.faults] == [(pointer, code)]


NETWORKS: dict[str, dict[str, Any]] = {
    "batch renorm": {**MLP, "norm": {"kind": "batch_renorm"}, "normalize_input": True},
    "weight norm": {**MLP, "norm": {"kind": "weight_norm"}},
    "whitening": {"kind": "cnn", "channels": [4], "norm": {"kind": "iter_norm", "num_groups": 2}},
    "power norm": {"kind": "cnn", "channels": [4], "norm": {"kind": "power_norm"}},
}


@pytest.mark.parametrize("name", NETWORKS)
def test_the_average_of_the_weights_is_evaluated_beside_them(runs: Any, name: str) -> None:
    """A run saved at every step says what was averaged."""
    spec = {**spec_of(NETWORKS[name], steps=20, ema={"decay": 0.8}), "checkpoint": {"every_steps": 1}}
    run, plain = runs.train(spec), runs.train(spec_of(NETWORKS[name], steps=20))
    assert run.checkpoints("last")[-1].weights.sha256 != ""
    saved = [run.tensors(checkpoint) for checkpoint in run.checkpoints("last")]
    average: dict[str, Tensor] = {}
    for tensors in saved:
        live = {key: value.double() for key, value in tensors.items() if f"ema/{key}" in tensors}
        average = {key: 0.8 * average.get(key, value) + 0.2 * value for key, value in live.items()}
        for key, value in average.items():
            assert torch.allclose(tensors[f"ema/{key}"].double(), value, rtol=1e-4, atol=1e-6), key
    kept = {key for key in average if "running" in key}
    assert kept == {key for key in saved[-1] if "running" in key and "/" not in key}
    parsed = load_spec(spec)
    model = build_network(parsed.network, (1, 8, 8), 10, seed=99)
    model.load_state_dict({key: saved[-1].get(f"ema/{key}", saved[-1][key]) for key in model.state_dict()})
    data = load_data(DigitsSpec()).test
    with torch.no_grad():
        outputs = model.eval()(data.inputs)
    series = run.series()
    accuracy = (outputs.argmax(1) == data.targets).double().mean().item()
    assert series["test/accuracy@ema"][20] == pytest.approx(accuracy, abs=1e-9)
    expected = nn.functional.cross_entropy(outputs, data.targets).item()
    assert series["test/loss@ema"][20] == pytest.approx(expected, rel=1e-5)
    # It changes nothing of the training.
    assert plain.series()["train/loss"] == series["train/loss"]
    assert plain.series()["test/accuracy"] == series["test/accuracy"]
