"""A small spec of every network, with normalizations that it takes, on data that it reads."""

from typing import Any

from bncore.spec import NetworkSpec, members
from tests.norm_specs import FITTING

KINDS: list[str] = [member.model_fields["kind"].default for member in members(NetworkSpec)]
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
    "deep_linear": {"kind": "santurkar_linear", "examples": 200, "test_examples": 50},
    "rnn": {**DIFFERENT_LENGTHS, "tag": True},
    "lstm": DIFFERENT_LENGTHS,
    "gru": DIFFERENT_LENGTHS,
    "transformer_encoder": DIFFERENT_LENGTHS,
}
"""Digits as images for all others."""
NORMS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(KINDS, ("batch_renorm", "spectral_norm")),
    **dict.fromkeys(("rnn", "lstm", "gru"), ("step_batch_norm", "sequence_batch_norm")),
    "transformer_encoder": ("batch_norm", "spectral_norm"),
}
"""One with statistics of batches first."""


def small_spec(kind: str, norm: str, **parts: Any) -> dict[str, Any]:
    """With everything in it that draws, or keeps something from batch to batch."""
    network = {"kind": kind, "norm": {"kind": norm}, "normalize_input": True, "dropout": 0.2, **SMALL[kind]}
    return {"data": DATA.get(kind, {}), "network": network, "optimizer": {"kind": "adam"}, **parts}
