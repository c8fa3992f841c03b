"""A few inputs of each kind of network, answered as the network itself answers."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from bncore.data import Standardization
from bncore.evaluation.answering import answered
from bncore.events import decode
from bncore.job import run_job
from bncore.networks import build_network
from bncore.spec import data_shape, load_spec
from bncore.spec.prediction import Prediction, load_prediction, prediction_faults
from bncore.train.checkpoint import write_weights

SEQUENCES = {"kind": "variable_length", "max_length": 5, "classes": 3, "examples": 60, "test_examples": 20}
RNN = {"kind": "rnn", "hidden": [4], "norm": {"kind": "sequence_batch_norm"}}


def network_of(spec: dict[str, Any]) -> Any:
    parsed = load_spec(spec)
    shape = data_shape(parsed.data)
    return build_network(parsed.network, shape.signal, shape.outputs, seed=1), shape, parsed


def test_tags_are_those_of_each_step_up_to_the_end() -> None:
    network, shape, parsed = network_of({"data": {**SEQUENCES, "tag": True}, "network": {**RNN, "output": "each_step"}})
    inputs = [torch.randn(length, 3).tolist() for length in (2, 5)]
    asked = Prediction.model_validate({"inputs": inputs})
    assert prediction_faults(asked, parsed) == []
    found = answered(network, asked, shape.signal, shape.task, None)
    padded = torch.zeros(2, 5, 3)
    for row, given in zip(padded, inputs, strict=True):
        row[: len(given)] = torch.tensor(given)
    with torch.no_grad():
        expected = network.eval()(padded, torch.tensor([2, 5])).double().softmax(-1)
    assert found["probabilities"] == [expected[0, :2].tolist(), expected[1].tolist()]
    assert [len(one) for one in found["classes"]] == [2, 5]


@pytest.mark.parametrize("length", [0, 6])
def test_sequences_that_are_too_long_or_empty_are_refused(length: int) -> None:
    _, _, parsed = network_of({"data": SEQUENCES, "network": RNN})
    asked = Prediction.model_validate({"inputs": [[[0.0] * 3] * length]})
    ((pointer, code),) = [(fault.pointer, fault.code) for fault in prediction_faults(asked, parsed)]
    assert (pointer, code) == ("/inputs/0", "signal_does_not_fit")


def test_numbers_are_those_of_a_regression_and_inputs_are_standardized_as_in_training() -> None:
    network, shape, _ = network_of({"data": {"kind": "santurkar_linear", "features": 4}, "network": {"kind": "mlp"}})
    seen = Standardization(torch.arange(4.0), torch.full((4,), 2.0))
    x = torch.randn(3, 4)
    asked = load_prediction({"inputs": x.tolist()})
    network.train()
    found = answered(network, asked, shape.signal, shape.task, seen)
    assert network.training
    with torch.no_grad():
        expected = network.eval()((x - torch.arange(4.0)) / 2.0).double()
    assert found == {"task": "regression", "outputs": expected.tolist()}


def test_a_run_directory_may_ask_for_a_prediction(tmp_path: Path) -> None:
    network, _, parsed = network_of({"network": {"kind": "mlp", "hidden": [4]}})
    (tmp_path / "checkpoint").mkdir()
    write_weights(tmp_path / "checkpoint" / "weights.safetensors", network, parsed, 9)
    image = torch.rand(1, 8, 8)
    (tmp_path / "evaluation.json").write_text(json.dumps({"inputs": [image.tolist()]}))
    last = run_job(tmp_path)
    assert decode((tmp_path / "events.jsonl").read_bytes().splitlines()[-1]) == last
    with torch.no_grad():
        expected = network.eval()(image.unsqueeze(0)).argmax(1).tolist()
    assert (last.result["step"], last.result["classes"]) == (9, expected)
