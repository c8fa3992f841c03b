"""Every network trains, a resumed run ends with the same bits, and what is stored loads into the network built anew."""

from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from bncore.networks import build_network
from bncore.spec import NetworkSpec, data_shape, load_spec, members, plan
from tests.norm_specs import FITTING

SMALL: dict[str, dict[str, Any]] = {
    "mlp": {"hidden": [12, 8]},
    "cnn": {"channels": [4, 8]},
    "residual_mlp": {"width": 12, "blocks": 2, "placement": "after_sum"},
    **FITTING,
    "rnn": {"hidden": [6, 5], "output": "each_step"},
    "lstm": {"hidden": [6, 5], "bidirectional": True},
    "gru": {"hidden": [6, 5], "output": "mean"},
    "transformer_encoder": {"width": 8, "heads": 2, "blocks": 2, "mlp_width": 12, "attention_dropout": 0.1},
}
DIFFERENT_LENGTHS = {"kind": "variable_length", "examples": 200, "test_examples": 50, "max_length": 7}
DATA: dict[str, dict[str, Any]] = {
    "rnn": {**DIFFERENT_LENGTHS, "tag": True},
    "lstm": DIFFERENT_LENGTHS,
    "gru": DIFFERENT_LENGTHS,
    "transformer_encoder": DIFFERENT_LENGTHS,
}
"""Digits as images for all others."""
NORMS = {
    **dict.fromkeys(("rnn", "lstm", "gru"), ("step_batch_norm", "sequence_batch_norm")),
    "transformer_encoder": ("batch_norm", "spectral_norm"),
}


@pytest.mark.parametrize(
    ("kind", "norm"),
    [
        (kind, norm)
        for kind in (member.model_fields["kind"].default for member in members(NetworkSpec))
        for norm in NORMS.get(kind, ("batch_renorm", "spectral_norm"))
    ],
)
def test_it_trains_and_resumes_with_the_same_bits(runs: Any, kind: str, norm: str) -> None:
    spec = {
        "data": DATA.get(kind, {}),
        "network": {"kind": kind, "norm": {"kind": norm}, "normalize_input": True, "dropout": 0.2, **SMALL[kind]},
        "optimizer": {"kind": "adam"},
        "train": {"steps": 7, "batch_size": 20},
        "checkpoint": {"every_steps": 4},
    }
    if kind in DATA:
        spec["evaluation"] = {"statistics": ["running", "batch", "precise"]}
    whole = runs.train(spec)
    resumed = runs.train(spec, after=whole, step=4)
    runs.assert_continued(whole, resumed, 4)
    planned = plan(load_spec(spec))
    signal = data_shape(load_spec(spec).data).signal
    built = build_network(load_spec(spec).network, signal, planned.outputs, seed=99)
    built.load_state_dict(load_file(whole.path / whole.checkpoints("last")[-1].weights.file), strict=True)
    assert torch.isfinite(built.eval()(torch.rand(3, *planned.input_shape))).all()
