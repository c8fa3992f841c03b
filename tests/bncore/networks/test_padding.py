"""Normalizations that know nothing of padding, in networks of padded sequences: they see the valid steps alone."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from bncore.adapt import prediction_time
from bncore.diagnostics import norm_health
from bncore.networks import build_network
from bncore.norm import build_norm, convert, recalibrate
from bncore.spec import members
from bncore.spec.blueprint import Signal
from bncore.spec.norm import NormSpec, Place
from tests.bncore.networks.test_sequences import ENCODER, FEATURES, LENGTHS, STEPS, VALID, batch, built

NAN = float("nan")
PLACE = Place("embedding_norm", 4, 1, 0, "identity", "before_activation", frames=STEPS, padded=True)
KNOWING_NO_PADDING = [
    member for member in members(NormSpec) if member.counts_padding and not any(member().faults(PLACE))
]


@pytest.mark.parametrize("member", KNOWING_NO_PADDING, ids=lambda member: member.model_fields["kind"].default)
def test_a_norm_that_knows_nothing_of_padding_is_shown_the_valid_steps_alone(member: type[Any]) -> None:
    """As if they were a batch of rows, in numbers, statistics and gradients, whatever padding holds."""
    own = {"warmup_steps": 0} if "warmup_steps" in member.model_fields else {}
    kind = {"kind": member.model_fields["kind"].default, **own}
    found = []
    for padding in (0.0, NAN):
        network = built({**ENCODER, "norms_at": {"embedding": kind}, "norm": {"kind": "none"}})
        bare = copy.deepcopy(network.embedding_norm)
        rows = type(build_norm(kind, 4))
        x = batch(padding).requires_grad_()
        shown: list[Tensor] = []
        network.embedding_norm.register_forward_hook(lambda _layer, given, y, shown=shown: shown.extend((given[0], y)))
        for training in (True, True, False):
            network.train(training)
            y = network(x, LENGTHS)
            given, normalized = shown[-2:]
            assert isinstance(bare, rows)
            expected = bare.train(training)(given[VALID].detach())
            torch.testing.assert_close(normalized[VALID], expected, rtol=1e-12, atol=1e-12)
            assert not normalized[~VALID].any()
        y.sin().sum().backward()
        assert x.grad[~VALID].abs().max() == 0
        assert torch.isfinite(x.grad).all()
        for name, buffer in bare.named_buffers():
            torch.testing.assert_close(network.embedding_norm.get_buffer(name), buffer, rtol=1e-12, atol=1e-12)
        found.append(y)
    assert torch.equal(*found)


@pytest.mark.parametrize("norm", ["batch_norm", "batch_renorm", "noisy_batch_norm", "sync_batch_norm", "iter_norm"])
def test_statistics_that_are_measured_later_leave_padding_out_too(norm: str) -> None:
    spec = {**ENCODER, "norms_at": {"embedding": {"kind": norm}}, "norm": {"kind": "none"}}
    found = []
    for more in (0, 3):
        signal = Signal((STEPS + more, FEATURES), "sequence", lengths=True)
        network = build_network(spec, signal, 5, seed=3).double()
        with torch.no_grad():
            network.positions.weight.zero_()
        x = torch.cat((batch(), torch.full((len(LENGTHS), more, FEATURES), 1e6, dtype=torch.float64)), 1)
        before = norm_health(network, x, lengths=LENGTHS).recording
        recalibrate(network, [(x, LENGTHS)], forward=lambda model, one: model(*one))
        with prediction_time(network.eval()):
            y = network(x, LENGTHS)
        found.append(([before.arrays[name] for name in ("gap", "mean_gap", "values")], network.embedding_norm, y))
    (numbers, one, y), (others, other, also) = found
    np.testing.assert_allclose(np.array(numbers), np.array(others), rtol=1e-9)
    assert numbers[2] == int(VALID.sum())
    for name, buffer in one.named_buffers():
        torch.testing.assert_close(other.get_buffer(name), buffer, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(also, y, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("network", ["transformer_encoder", "gru"])
def test_noise_does_not_depend_on_how_much_padding_there_is(network: str) -> None:
    """It depends on the place in the batch, which is then the place among the valid steps, as of noisy batch norm."""
    spec = ENCODER if network == "transformer_encoder" else {"kind": "gru", "hidden": [4, 4], "output": "each_step"}
    at = "embedding" if network == "transformer_encoder" else "between_layers"
    noisy = {**spec, "norm": {"kind": "none"}, "norms_at": {at: {"kind": "noise"}}}
    found = []
    for more in (0, 3):
        built_for = build_network(noisy, Signal((STEPS + 3, FEATURES), "sequence", lengths=True), 5, seed=3).double()
        x = torch.cat((batch(), torch.full((len(LENGTHS), more, FEATURES), NAN, dtype=torch.float64)), 1)
        y = built_for(x, LENGTHS)
        found.append(y if y.dim() == 2 else y[:, :STEPS][VALID])
    torch.testing.assert_close(*found, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", ["batch_norm", "batch_renorm", "noise"])
@pytest.mark.parametrize("norm", ["batch_norm", "layer_norm"])
def test_a_conversion_keeps_padding_out(norm: str, kind: str) -> None:
    """Also of a norm that need not know of padding."""
    found = []
    for padding in (7.0, NAN):
        network = built({**ENCODER, "norm": {"kind": norm}})
        convert(network, {"kind": kind})
        found.append(network.train()(batch(padding), LENGTHS))
        statistics = [buffer for name, buffer in network.named_buffers() if name.endswith("running_mean")]
        assert all(each.isfinite().all() for each in statistics)
    assert torch.equal(*found)
