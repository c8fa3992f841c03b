"""What a plan expects training to keep for its backward pass is, by and large, what autograd keeps."""

from typing import Any

import pytest
import torch
from pydantic import TypeAdapter

from bncore.networks import build_network
from bncore.spec import NetworkSpec, cautions, load_spec
from bncore.spec.blueprint import Signal, lay
from tests.bncore.networks.test_sequences import ENCODER

IMAGES, ROWS = Signal((3, 16, 16), "image"), Signal((20, 8), "sequence")
EXAMPLES = 16
CASES = [
    ({"kind": "mlp"}, IMAGES),
    ({"kind": "resnet", "depth": 8}, IMAGES),
    ({"kind": "resnet_v2", "depth": 8}, IMAGES),
    ({"kind": "vgg", "depth": 11, "width": 8, "pools": 4}, IMAGES),
    *(
        ({"kind": kind, "hidden": [30, 20], "bidirectional": kind == "gru", "norm": {"kind": norm}}, ROWS)
        for kind in ("rnn", "lstm", "gru")
        for norm in ("none", "sequence_batch_norm", "step_batch_norm", "layer_norm")
    ),
    ({**ENCODER, "width": 16, "mlp_width": 32}, ROWS),
    ({**ENCODER, "width": 16, "mlp_width": 32, "attention_dropout": 0.1, "placement": "post_norm"}, ROWS),
]


@pytest.mark.parametrize(("network", "signal"), CASES, ids=str)
def test_an_estimate_is_right_to_a_third(network: dict[str, Any], signal: Signal) -> None:
    built = build_network(network, signal, 10)
    own = {tensor.untyped_storage().data_ptr() for tensor in (*built.parameters(), *built.buffers())}
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        y = built(torch.randn(EXAMPLES, *signal.shape))
    numbers = sum(tensor.untyped_storage().nbytes() // 4 for at, tensor in kept.items() if at not in own) / EXAMPLES
    spec = TypeAdapter(NetworkSpec).validate_python(network)
    assert y.requires_grad
    assert 0.67 < lay(spec.blueprint(signal, 10), signal, "").activations / numbers < 1.5


def test_batches_that_would_take_much_memory_are_warned_of_with_numbers() -> None:
    long = {"kind": "variable_length", "max_length": 20_000, "examples": 200, "test_examples": 150}
    spec = {"data": long, "network": {"kind": "lstm"}, "train": {"batch_size": 100, "steps": 1000}}
    training, evaluation = (one for one in cautions(load_spec(spec)) if one.code == "much_memory")
    assert (training.pointer, evaluation.pointer) == ("/train/batch_size", "/evaluation/batch_size")
    # 100 sequences, 20,000 steps, 100 units, 17 numbers of 4 bytes, in GiB.
    assert "about 13 GiB" in training.detail
    assert "150 examples of 20,000 steps" in evaluation.detail
    smaller = {**spec, "train": {"batch_size": 100, "steps": 1000, "accumulate": 2}, "evaluation": {"batch_size": 20}}
    assert "much_memory" not in [one.code for one in cautions(load_spec(smaller))]
