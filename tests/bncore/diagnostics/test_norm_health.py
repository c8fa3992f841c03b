"""The health of normalization layers in numbers by hand, and warnings where something was broken and nowhere else."""

import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bncore.diagnostics import NormHealth, diagnose, norm_health, running_statistics
from bncore.networks import build_network
from bncore.norm.batch_renorm import BatchRenorm, Ramp
from bncore.norm.build import build_norm
from bncore.recurrent import BatchNormLSTM
from bncore.spec.blueprint import Signal
from bncore.spec.catalog import members
from bncore.spec.norm import NormSpec

KINDS = [member() for member in members(NormSpec) if build_norm(member(), 64, device="meta") is not None]


def values(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 2 + 1


def trained(layer: nn.Module, steps: int = 60) -> nn.Sequential:
    model = nn.Sequential(nn.Linear(3, 4), layer, nn.ReLU()).double()
    with torch.no_grad():
        model[0].weight.copy_(values(4, 3, seed=9))
    for step in range(steps):
        model(values(64, 3, seed=step))
    return model


def codes(found: NormHealth) -> list[tuple[str, str]]:
    return [(one.layer, one.code) for one in found.warnings]


def one(found: NormHealth, name: str) -> float:
    (value,) = found.recording.arrays[name].tolist()
    return value


def test_gaps_and_drift_are_distances_of_statistics_by_hand() -> None:
    model = trained(nn.BatchNorm1d(4))
    earlier = running_statistics(model)
    for step in range(60, 80):
        model(values(64, 3, seed=step) + 0.5)
    x, layer = values(64, 3, seed=200), model[1]
    found = norm_health(model, x, earlier=earlier, step=80)
    z = model[0](x).detach()
    mean, var = z.mean(0), z.var(0, correction=0)
    sigma = (layer.running_var + layer.eps).sqrt()
    training = (z - mean) / (var + layer.eps).sqrt()
    gap = (training - (z - layer.running_mean) / sigma).norm() / training.norm()
    old_var = earlier["1.running_var"] + layer.eps
    expected = {
        "gap": gap,
        "mean_gap": ((mean - layer.running_mean).abs() / sigma).max(),
        "variance_gap": ((var + layer.eps) / sigma**2).log().abs().max(),
        "mean_drift": ((layer.running_mean - earlier["1.running_mean"]).abs() / sigma).max(),
        "variance_drift": (sigma**2 / old_var).log().abs().max(),
        "dead": 0.0,
        "non_finite": 0.0,
        "values": 64.0,
        "updates": 80.0,
        "updates_wanted": 50.0,
    }
    for name, value in expected.items():
        assert one(found, name) == pytest.approx(float(value), rel=1e-9), name
    assert found.recording.scalars["max_mean_drift"] == one(found, "mean_drift")
    (site,) = found.recording.sites
    assert (site.name, site.depth, site.role, found.recording.step) == ("1", 1, "norm", 80)


def test_clipped_shares_are_those_beyond_the_bounds_that_hold_now() -> None:
    model = trained(BatchRenorm(4, r_max=1.05, d_max=0.05, warmup_steps=0))
    x, layer = values(64, 3, seed=200) * 1.2 + 0.3, model[1]
    z = model[0](x).detach()
    sigma = (layer.running_var + layer.eps).sqrt()
    r = (z.var(0, correction=0) + layer.eps).sqrt() / sigma
    d = (z.mean(0) - layer.running_mean).abs() / sigma
    found = norm_health(model, x)
    assert one(found, "clipped_r") == ((r > 1.05) | (r < 1 / 1.05)).double().mean()
    assert one(found, "clipped_d") == (d > 0.05).double().mean() > 0
    assert ("1", "clipped") in codes(found)
    ramping = trained(BatchRenorm(4, r_max=Ramp(1.0, 3.0, 0, 1000), d_max=Ramp(0.0, 5.0, 0, 1000)))
    found = norm_health(ramping, x)
    assert one(found, "clipped_r") > 0
    assert ("1", "clipped") not in codes(found)


@pytest.mark.parametrize("spec", KINDS, ids=lambda spec: spec.kind)
def test_every_layer_is_looked_at_as_diagnose_looks_at_it(spec: Any) -> None:
    layer = build_norm(spec, 64)
    assert layer is not None
    model = nn.Sequential(nn.Conv2d(2, 64, 1), layer)
    if hasattr(layer, "follow"):
        layer.follow(model[0])
    for step in range(3):
        model(values(8, 2, 3, 3, seed=step).float())
    x = values(8, 2, 3, 3, seed=9).float()
    found, said = norm_health(model, x), diagnose(model, x).layers[0]
    assert one(found, "gap") == pytest.approx(math.nan if said.gap is None else said.gap, nan_ok=True)
    assert {code for _, code in codes(found)} >= {finding.code for finding in said.coded}
    assert np.isnan(one(found, "mean_drift"))


def test_torchs_instance_norm_with_averages_is_seen_as_it_trains() -> None:
    model = nn.Sequential(nn.Conv2d(2, 4, 1), nn.InstanceNorm2d(4, track_running_stats=True)).double()
    x = values(8, 2, 3, 3)
    for step in range(3):
        model(values(8, 2, 3, 3, seed=step))
    assert one(norm_health(model, x), "gap") == pytest.approx(diagnose(model, x).layers[0].gap, rel=1e-12)


def test_statistics_of_each_step_are_compared_step_by_step() -> None:
    torch.manual_seed(0)
    layer = BatchNormLSTM(3, 4, max_length=5, batch_first=True).double()
    for step in range(9):
        layer(values(6, 5, 3, seed=step))
    x, norm = values(6, 5, 3, seed=99), layer.cells[0].norm_ih
    z = x.transpose(0, 1) @ layer.cells[0].weight_ih.detach().T
    sigma = (norm.running_var + norm.eps).sqrt()
    found = norm_health(layer, x)
    at = [site.name for site in found.recording.sites].index("cells.0.norm_ih")
    gap = ((z.mean(1) - norm.running_mean).abs() / sigma).max()
    ratio = ((z.var(1, correction=0) + norm.eps) / sigma**2).log().abs().max()
    assert found.recording.arrays["mean_gap"][at] == pytest.approx(gap.item(), rel=1e-9)
    assert found.recording.arrays["variance_gap"][at] == pytest.approx(ratio.item(), rel=1e-9)
    assert found.recording.arrays["updates"][at] == 9
    assert found.recording.arrays["values"][at] == 6
    assert len(found.recording.sites) == 3


@pytest.mark.parametrize("norm", ["step_batch_norm", "sequence_batch_norm", "layer_norm"])
def test_norms_of_a_recurrent_network_with_lengths_have_numbers(norm: str) -> None:
    signal = Signal((5, 3), "sequence", lengths=True)
    network = build_network({"kind": "gru", "hidden": [4], "norm": {"kind": norm}}, signal, 3)
    lengths = torch.tensor([5, 3, 2, 5, 4, 1])
    x = values(6, 5, 3).float()
    x[lengths.argmin(), 1:] = math.nan
    found = norm_health(network, x, lengths=lengths)
    sites = {"step_batch_norm": 2, "sequence_batch_norm": 1, "layer_norm": 0}[norm]
    assert found.recording.scalars["layers"] == sites
    assert np.isfinite(found.recording.arrays["mean_gap"]).all()


def test_the_figure_tells_the_norms_in_a_cell_apart() -> None:
    spec = {"kind": "lstm", "hidden": [4, 3], "bidirectional": True, "norms_at": {"head": {"kind": "batch_norm"}}}
    network = build_network(spec, Signal((5, 3), "sequence"), 3)
    found = norm_health(network, values(6, 5, 3).float())
    inside = ("norm_ih", "norm_hh", "norm_c")
    roles = {(site.name.rpartition(".")[2], "reverse" in site.name): site.role for site in found.recording.sites}
    backward = {(place, True): f"{place}_backward" for place in inside}
    assert roles == {("norm", False): "norm", **{(place, False): place for place in inside}, **backward}
    assert [site.depth for site in found.recording.sites] == [1] * 6 + [2] * 7
    drawn = json.dumps(found.figure())
    assert all(word in drawn for word in ("norm_ih, of W_x x", "norm_c, of the cell", "norm hh backward"))


def test_a_healthy_network_is_not_warned_of() -> None:
    found = norm_health(
        trained(nn.BatchNorm1d(4), 100), values(64, 3, seed=50), accuracy={"running": 0.9, "batch": 0.92}
    )
    assert found.warnings == ()
    assert found.recording.scalars["accuracy_batch"] == 0.92


def broken(how: str) -> tuple[nn.Module, Tensor]:
    model = trained(nn.BatchNorm1d(4), 100)
    layer, x = model[1], values(64, 3, seed=50)
    with torch.no_grad():
        if how == "not_finite":
            layer.running_var[2] = math.nan
        elif how == "dead":
            model[0].weight[1] = 0.0
        elif how == "output_not_finite":
            layer.running_var[0] = -1.0
        elif how == "gap":
            layer.running_mean += 3.0
        elif how == "small_scales":
            layer.weight[0] = 1e-6
        elif how == "input_not_finite":
            x[0, 0] = math.inf
        elif how == "few_values":
            x = x[:5]
    return model, x


@pytest.mark.parametrize(
    "how", ["not_finite", "dead", "output_not_finite", "gap", "small_scales", "input_not_finite", "few_values"]
)
def test_what_is_broken_is_named_with_what_to_do(how: str) -> None:
    found = norm_health(*broken(how))
    assert ("1", how) in codes(found)
    words = next(one.words for one in found.warnings if one.code == how)
    assert words.startswith("1: ")
    assert any(verb in words for verb in ("use ", "lower ", "recalibrate", "look at", "spare "))


def test_too_few_updates_for_the_momentum_count_at_the_end_alone() -> None:
    model, x = trained(nn.BatchNorm1d(4, momentum=0.01), 40), values(64, 3, seed=50)
    ends, goes_on = norm_health(model, x), norm_health(model, x, at_end=False)
    assert {code for _, code in codes(ends)} == {"cold_start", "few_updates"}
    assert codes(goes_on) == []
    words = next(one.words for one in ends.warnings if one.code == "few_updates")
    assert "have seen 40 batches" in words
    assert "wants 500" in words
    assert not norm_health(trained(nn.BatchNorm1d(4, momentum=None), 9), x).warnings
    still = norm_health(trained(nn.BatchNorm1d(4, momentum=0.0), 40), x).warnings
    assert "its momentum is 0" in next(one.words for one in still if one.code == "few_updates")
    assert not any("inf" in one.words for one in still)


def test_accuracy_that_other_statistics_would_have_is_a_warning() -> None:
    model, x = trained(nn.BatchNorm1d(4), 100), values(64, 3, seed=50)
    found = norm_health(model, x, accuracy={"running": 0.5, "batch": 0.83, "precise": 0.57})
    assert codes(found) == [("", "stale_statistics"), ("", "batch_dependent")]
    assert "50.0% with running statistics and 57.0% with precise ones" in found.warnings[0].words
    assert norm_health(model, x, accuracy={"running": 0.5, "batch": 0.54, "precise": math.nan}).warnings == ()
    mended = norm_health(model, x, accuracy={"running": 0.24, "batch": 0.755, "precise": 0.75})
    assert codes(mended) == [("", "stale_statistics")], "precise statistics mend it: no other batches are wanted"
    unknown = norm_health(model, x, accuracy={"running": 0.5, "batch": 0.6, "precise": math.nan})
    assert codes(unknown) == [("", "batch_dependent")]
