"""Every normalization trains in every network that admits it, and a resumed run ends with the same bits."""

from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from bncore.data import load_data
from bncore.networks import build_network
from bncore.spec import load_spec
from tests.norm_specs import admitted, network_with

SMALL = {"mlp": {"hidden": [12, 8]}, "cnn": {"channels": [4, 8]}}


@pytest.mark.parametrize(
    ("network", "norm"), [(network, norm) for network in SMALL for norm in admitted(network)], ids=str
)
def test_it_trains_resumes_with_the_same_bits_and_gives_the_reported_accuracy(
    runs: Any, network: str, norm: str
) -> None:
    spec = {
        "network": network_with(network, norm, **SMALL[network]),
        "optimizer": {"kind": "sgd", "lr": 0.05, "momentum": 0.9},
        "train": {"steps": 7},
        "checkpoint": {"every_steps": 4},
    }
    whole = runs.train(spec)
    summary = whole.events[-1].summary
    resumed = runs.train(spec, after=whole, step=4)
    runs.assert_continued(whole, resumed, 4)
    built = build_network(load_spec(spec).network, (1, 8, 8), 10, seed=99)
    weights = load_file(whole.path / whole.checkpoints("last")[-1].weights.file)
    built.load_state_dict(weights, strict=True)
    data = load_data(load_spec(spec).data)
    with torch.no_grad():
        predicted = built.eval()(data.test.inputs).argmax(1)
    accuracy = (predicted == data.test.targets).double().mean().item()
    assert accuracy == pytest.approx(summary.test_accuracy, abs=1e-9)
