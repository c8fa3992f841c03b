"""Shared weights, weights that diverged, a normalization without an eps, parts of cells: by hand in float64."""

import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bncore import diagnostics, recurrent
from bncore.norm import GhostBatchNorm


class Tied(nn.Module):
    """Two layers that have one matrix, one of them called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.out = nn.Linear(5, 5), nn.Linear(5, 5, bias=False), nn.Linear(5, 3)
        self.second.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.out(self.second(self.first(self.first(x).tanh()).tanh()).tanh())
        return found


def test_the_ratio_of_shared_weights_is_over_all_layers_that_have_them() -> None:
    torch.manual_seed(0)
    model = Tied().double()
    x, labels = torch.randn(12, 5, dtype=torch.float64), torch.randint(3, (12,))
    u1 = x
    z1 = model.first(u1)
    u2 = z1.tanh()
    z2 = model.first(u2)
    u3 = z2.tanh()
    z3 = model.second(u3)
    u4 = z3.tanh()
    z4 = model.out(u4)
    blames = torch.autograd.grad(F.cross_entropy(z4, labels), [z1, z2, z3, z4])

    def products(blame: Tensor, u: Tensor) -> Tensor:
        return torch.einsum("no,ni->noi", blame, u.detach())

    shared = torch.cat([products(blame, u) for blame, u in zip(blames[:3], (u1, u2, u3), strict=True)])
    expected = [one.sum(0).abs().sum() / one.abs().sum() for one in (shared, products(blames[3], u4))]
    found = diagnostics.gradient_heatmap(model, x, labels)
    assert [site.name for site in found.sites] == ["first", "out"]
    np.testing.assert_allclose(found.arrays["ratio"], expected, rtol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_rms_norm_without_an_eps_has_that_of_the_type_it_was_trained_in(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 5, bias=False), nn.RMSNorm(5), nn.Linear(5, 3)).to(dtype)
    with torch.no_grad():
        model[0].weight.mul_(0.05)
    x = torch.randn(20, 6, dtype=dtype)
    factors = (0.1, 10.0)
    found = diagnostics.scale_invariance(model, x, torch.randint(3, (20,)), factors=factors)
    eps, u = torch.finfo(dtype).eps, x.double() @ model[0].weight.detach().double().T

    def normalized(factor: float) -> Tensor:
        return factor * u / ((factor * u).square().mean(1, keepdim=True) + eps).sqrt()

    plain = normalized(1.0)
    expected = [(normalized(factor) - plain).abs().max() / plain.abs().max() for factor in factors]
    np.testing.assert_allclose(found.arrays["output_error_as_trained"][:, 0], expected, rtol=1e-9)
    for way in ("eps_scaled", "eps_zero"):
        assert found.scalars[f"max_output_error_{way}"] < 1e-9
        assert found.scalars[f"max_gradient_error_{way}"] < 1e-9


def test_weights_that_are_no_numbers_have_no_rate_and_predict_no_class() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 3))
    x, labels = torch.randn(6, 4), torch.randint(3, (6,))
    with torch.no_grad():
        model[0].weight.zero_()
        model[2].weight.fill_(math.nan)
    rates = diagnostics.weight_norms(model, x, lr=0.5).arrays["effective_lr"]
    np.testing.assert_array_equal(rates, [math.inf, math.nan])
    found = diagnostics.gradient_heatmap(model, x, labels)
    assert {name: math.isnan(value) for name, value in found.scalars.items() if name != "median_ratio"} == {
        "mode": True, "colcons": True, "cosine": True, "maxcol": True,
    }  # fmt: skip


class Recurrent(nn.Module):
    def __init__(self, kind: str, bidirectional: bool) -> None:
        super().__init__()
        made: Any = getattr(recurrent, kind)
        self.before = nn.Linear(5, 4)
        self.cells = made(4, 6, num_layers=2, batch_first=True, bidirectional=bidirectional)
        self.after = nn.Linear(12 if bidirectional else 6, 3)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.after(self.cells(self.before(x))[0][:, -1])
        return found


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("kind", ["SequenceBatchNormLSTM", "SequenceBatchNormGRU", "BatchNormLSTM", "BatchNormRNN"])
def test_normalizations_in_cells_lie_as_deep_as_the_matrices_of_their_layer(kind: str, bidirectional: bool) -> None:
    torch.manual_seed(0)
    model = Recurrent(kind, bidirectional)
    x, labels = torch.randn(8, 5, 5), torch.randint(3, (8,))
    matrices = {site.name: site.depth for site in diagnostics.gradient_norms(model, x, labels).sites}
    assert {matrices["cells.cells.0.weight_ih"], matrices["before"] + 1} == {2}
    assert {matrices["cells.cells.1.weight_ih"], matrices["after"] - 1} == {3}
    moments = diagnostics.activation_moments(model, x).sites
    health = diagnostics.norm_health(model, x).recording.sites
    inside = [site for site in (*moments, *health) if "norm" in site.name]
    assert len(health) >= (4 if bidirectional else 2)
    assert {site.name.rpartition(".norm_")[0]: site.depth for site in inside} == {
        name.removesuffix(".weight_ih"): depth for name, depth in matrices.items() if name.endswith(".weight_ih")
    }


@pytest.mark.parametrize(("examples", "size", "positions", "expected"), [
    (64, 8, 1, 8), (20, 8, 1, 6), (20, 8, 9, 54), (5, 2, 1, 2), (4, 1, 3, 3), (6, 8, 1, 6),
])  # fmt: skip
def test_ghost_statistics_are_of_the_values_of_a_group(examples: int, size: int, positions: int, expected: int) -> None:
    torch.manual_seed(0)
    norm = GhostBatchNorm(3, size)
    found = diagnostics.norm_health(
        norm, torch.randn(examples, 3, positions)[:, :, 0 if positions == 1 else slice(None)]
    )
    assert found.recording.arrays["values"].tolist() == [expected]
    assert ("few_values" in [warning.code for warning in found.warnings]) == (expected < 16)


def test_channels_of_one_example_by_itself_are_its_first_axis() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.InstanceNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 3, stride=2)).double()
    x = torch.randn(3, 9, 7, dtype=torch.float64)
    found = diagnostics.activation_moments(model, x)
    first, normalized, active, last = (model[: end + 1](x).detach().flatten(1) for end in range(4))
    seen = (first, first, normalized, active, last, last)
    roles = ("weights", "before_norm", "after_norm", "activation", "weights", "output")
    assert tuple(site.role for site in found.sites) == roles
    np.testing.assert_allclose(found.arrays["variance"], [one.var(1, correction=0).mean() for one in seen], rtol=1e-9)
    shift = diagnostics.covariate_shift(model, x)
    assert shift.arrays["units"].tolist() == [8, 0, 0]
    middle = np.percentile(normalized.numpy(), 50, axis=1).mean()
    np.testing.assert_allclose(shift.arrays["percentiles"][0, 1], middle, rtol=1e-9)


@pytest.mark.parametrize("measure", [diagnostics.activation_moments, diagnostics.covariate_shift])
def test_lengths_of_sequences_that_come_step_by_step_are_refused_and_not_ignored(measure: Any) -> None:
    class Steps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 2)

        def forward(self, x: Tensor, _: Tensor) -> Tensor:
            found: Tensor = self.layer(x)
            return found

    lengths = torch.tensor([6, 2, 3, 1])
    steps = torch.randn(6, 4, 3)
    with pytest.raises(ValueError, match=r"lengths are of 4 sequences, and inputs .* are .6, 4, 3."):
        measure(Steps(), steps, lengths=lengths)
    assert measure(Steps(), steps.transpose(0, 1), lengths=lengths).sites
