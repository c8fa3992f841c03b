"""Which examples `norm_health` looks at: such as come together in training, whatever brings them together."""

from typing import Any

import numpy as np
import pytest
import torch

from bncore.data import Batches, load_data
from bncore.networks import build_network
from bncore.recording import from_bytes
from bncore.seeds import derive_seed
from bncore.spec import data_shape, load_spec, plan
from tests.bncore.train.diagnosed import recordings

ONE_CLASS = {"kind": "classes_per_batch", "classes": 1, "examples": 40}


@pytest.mark.parametrize(("sampler", "classes"), [
    (ONE_CLASS, 1), ({"kind": "class_ordered"}, 1), ({"kind": "balanced_classes"}, 10), ({"kind": "shuffled"}, 10),
])  # fmt: skip
def test_gaps_are_those_of_a_batch_as_the_sampler_makes_them(runs: Any, sampler: dict[str, Any], classes: int) -> None:
    """Before training running statistics are 0 and 1: the gaps of the first norm are those of one matrix product."""
    document = {
        "data": {"kind": "digits", "sampler": sampler},
        "network": {"kind": "mlp", "hidden": [12], "norm": {"kind": "batch_norm"}, "bias": True},
        "train": {"steps": 2, "batch_size": 40, "accumulate": 2, "seed": 7},
        "diagnostics": [{"kind": "norm_health", "at": [0]}],
    }
    found = from_bytes(recordings(runs.train(document))["norm_health-000000000.safetensors"])
    spec = load_spec(document)
    data = load_data(spec.data, None)
    seed = derive_seed(spec.train.seed, "diagnostics")
    batch = Batches(data.train, 40, seed, sampler=spec.data.sampler).batch(1).slice(0, 20)
    if sampler["kind"] == "shuffled":
        first = torch.randperm(data.train.size, generator=torch.Generator().manual_seed(seed))[:20]
        batch = data.train.gather(first)
    assert len(batch.targets.unique()) >= min(classes, 5)
    assert (len(batch.targets.unique()) == 1) == (classes == 1)
    network = build_network(spec.network, data_shape(spec.data).signal, plan(spec).outputs, 7, torch.device("cpu"))
    parameters = {name: value.detach().double() for name, value in network.named_parameters()}
    values = batch.inputs.double().flatten(1) @ parameters["linear1.weight"].T + parameters["linear1.bias"]
    eps = 1e-5
    mean, var = values.mean(0), values.var(0, correction=0)
    expected = {
        "mean_gap": (mean.abs() / (1 + eps) ** 0.5).max(),
        "variance_gap": ((var + eps) / (1 + eps)).log().abs().max(),
    }
    for name, value in expected.items():
        np.testing.assert_allclose(found.arrays[name], [value], rtol=1e-4, err_msg=name)
    assert found.arrays["values"].tolist() == [20]
