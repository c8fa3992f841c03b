"""Every network trains, a resumed run ends with the same bits, and what is stored loads into the network built anew."""

from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from bncore.networks import build_network
from bncore.spec import data_shape, load_spec
from tests.network_specs import DATA, KINDS, NORMS, small_spec

BY_POSITION: dict[str, dict[str, Any]] = {
    "lstm": {
        "hidden_to_hidden": {"kind": "layer_norm"},
        "cell": {"kind": "step_batch_norm", "max_steps": 3},
        "between_layers": {"kind": "batch_norm"},
        "logits": {"kind": "spectral_norm"},
    },
    "transformer_encoder": {
        "embedding": {"kind": "batch_norm"},
        "mlp": {"kind": "layer_norm"},
        "logits": {"kind": "batch_renorm"},
    },
}


@pytest.mark.parametrize(
    ("kind", "norm", "norms_at"),
    # A normalization of weights follows its primitive: `test_every_norm.py` has each in two networks.
    [
        pytest.param(kind, norm, None, marks=[pytest.mark.system] if at else [])
        for kind in KINDS
        for at, norm in enumerate(NORMS[kind])
    ]
    + [(kind, NORMS[kind][-1], norms_at) for kind, norms_at in BY_POSITION.items()],
)
def test_it_trains_and_resumes_with_the_same_bits(runs: Any, kind: str, norm: str, norms_at: Any) -> None:
    spec = small_spec(kind, norm, train={"steps": 7, "batch_size": 20}, checkpoint={"every_steps": 4})
    if norms_at is not None:
        spec["network"]["norms_at"] = norms_at
    if kind in DATA:
        spec["evaluation"] = {"statistics": ["running", "batch", "precise"]}
    whole = runs.train(spec)
    resumed = runs.train(spec, after=whole, step=4)
    runs.assert_continued(whole, resumed, 4)
    parsed = load_spec(spec)
    data = data_shape(parsed.data)
    built = build_network(parsed.network, data.signal, data.outputs, seed=99)
    built.load_state_dict(load_file(whole.path / whole.checkpoints("last")[-1].weights.file), strict=True)
    assert torch.isfinite(built.eval()(torch.rand(3, *data.input_shape))).all()
