"""What papers say of networks at initialization is found in ours, in its order of magnitude."""

import math
import statistics
from typing import Any

import pytest
import torch
from torch import nn

from bncore import diagnostics
from bncore.networks import build_network
from bncore.spec.blueprint import Signal

pytestmark = pytest.mark.slow
SEEDS = range(3)


def network(depth: int, norm: str, seed: int) -> nn.Module:
    spec = {"kind": "mlp", "hidden": [200] * (depth - 1), "norm": {"kind": norm}, "init": {"kind": "kaiming"}}
    return build_network(spec, Signal((64,), "vector"), 10, seed)


def mean(measure: Any, name: str, depth: int, norm: str) -> float:
    generator = torch.Generator().manual_seed(0)
    x, labels = torch.randn(512, 64, generator=generator), torch.randint(10, (512,), generator=generator)
    return statistics.fmean(measure(network(depth, norm, seed), x, labels).scalars[name] for seed in SEEDS)


def test_arxiv_1902_08129_gradients_of_a_deep_plain_network_grow_by_a_fifth_per_layer() -> None:
    expected = math.sqrt(math.pi / (math.pi - 1))
    assert mean(diagnostics.gradient_norms, "hidden_growth", 30, "batch_norm") == pytest.approx(expected, abs=0.03)
    assert 1.15 < mean(diagnostics.gradient_norms, "growth", 30, "batch_norm") < 1.25
    assert mean(diagnostics.gradient_norms, "growth", 30, "none") == pytest.approx(1.0, abs=0.05)


def test_variances_stay_with_batch_norm_and_explode_in_a_residual_network_without() -> None:
    x = torch.randn(16, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(16) % 10
    slopes, ratios = [], []
    for norm in ("batch_norm", "none"):
        spec = {"kind": "resnet", "depth": 56, "norm": {"kind": norm}, "init": {"kind": "kaiming"}}
        model = build_network(spec, (3, 16, 16), 10, 0)
        slopes.append(diagnostics.activation_moments(model, x).scalars["slope"])
        heat = diagnostics.gradient_heatmap(model, x, labels)
        ratios.append((heat.scalars["median_ratio"], heat.scalars["colcons"]))
    assert abs(slopes[0]) < 0.01
    assert slopes[1] > 0.1
    # arXiv 1806.02375, table 1.
    assert ratios[0][0] < 0.1
    assert ratios[1][0] > 0.3
    assert ratios[1][1] > 0.9


def test_one_long_step_explodes_by_orders_of_magnitude_with_depth_without_batch_norm() -> None:
    def worst(depth: int, norm: str) -> float:
        def probe(*of: Any) -> Any:
            return diagnostics.step_probe(*of, distances=(10.0,))

        return mean(probe, "exploded", depth, norm)

    assert worst(20, "none") == 1.0
    assert worst(20, "batch_norm") == 0.0
