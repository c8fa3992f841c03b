"""Lp and L1 batch norm: values worked out by hand, where they meet batch norm, and their running norm."""

import math

import pytest
import torch
from torch import Tensor, nn

from bncore.norm.l1_batch_norm import L1BatchNorm
from bncore.norm.lp_batch_norm import LpBatchNorm

ROOT = (math.pi / 2) ** 0.5
LAYERS = {
    "p=1": lambda **options: LpBatchNorm(2, p=1, **options),
    "p=2": lambda **options: LpBatchNorm(2, p=2, **options),
    "p=inf": lambda **options: LpBatchNorm(2, p=math.inf, **options),
    "L1": lambda **options: L1BatchNorm(2, **options),
}
layers = pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)


def column(*values: float) -> Tensor:
    """A batch of two channels: these values, and their negatives."""
    one = torch.tensor(values, dtype=torch.float64)
    return torch.stack((one, -one), 1)


@pytest.mark.parametrize(
    ("name", "norm"),
    # The values are 1, 2, 3 and 6: mean 3, magnitudes 1, 2, 3 and 6, distances from the mean 2, 1, 0 and 3.
    [("p=1", 3.0), ("p=2", 12.5**0.5), ("p=inf", 6.0), ("L1", ROOT * 1.5)],
)
def test_values_worked_out_by_hand(name: str, norm: float) -> None:
    layer = LAYERS[name](eps=0.0, momentum=0.5).double()
    y = layer(column(1, 2, 3, 6))
    torch.testing.assert_close(y, column(-2, -1, 0, 3) / norm)
    torch.testing.assert_close(layer.running_mean, torch.tensor([1.5, -1.5]).double())
    # The norm is averaged, not its square: halfway from 1.
    torch.testing.assert_close(layer.running_var, torch.full((2,), ((1 + norm) / 2) ** 2).double())


def test_with_mean_zero_p_2_is_batch_norm() -> None:
    half = torch.randn(8, 2, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    x = torch.cat((half, -half))
    torch.testing.assert_close(LpBatchNorm(2, p=2).double()(x), nn.BatchNorm1d(2).double()(x))


def test_for_normally_distributed_values_l1_is_nearly_batch_norm() -> None:
    x = torch.randn(100_000, 2, generator=torch.Generator().manual_seed(1)) * 3 + 5
    layer, plain = L1BatchNorm(2, momentum=1.0), nn.BatchNorm1d(2, momentum=1.0)
    torch.testing.assert_close(layer(x), plain(x), rtol=5e-3, atol=5e-3)
    torch.testing.assert_close(layer.running_var, plain.running_var, rtol=1e-2, atol=0.0)


@pytest.mark.parametrize("name", ["p=1", "p=2", "p=inf"])
def test_the_norm_is_taken_before_centring(name: str) -> None:
    layer = LAYERS[name]().double()
    x = column(1, 2, 3, 6)
    assert (layer(x + 100.0).std(0) < 0.1 * layer(x).std(0)).all()


@layers
def test_momentum_none_averages_the_norms_of_all_batches_equally(make) -> None:
    layer, newest = make(momentum=None).double(), make(momentum=1.0).double()
    roots = []
    for seed in range(5):
        x = torch.randn(6, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * (seed + 1)
        layer(x)
        newest(x)
        roots.append(newest.running_var.sqrt())
    torch.testing.assert_close(layer.running_var.sqrt(), torch.stack(roots).mean(0))


@layers
def test_a_channel_of_zeros_has_finite_gradients(make) -> None:
    layer = make().double()
    x = column(1, 2, 3, 6)
    x[:, 0] = 0
    x.requires_grad_()
    y = layer(x)
    (first,) = torch.autograd.grad(y.sin().sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum(), x)
    assert (y[:, 0] == 0).all()
    assert first.isfinite().all()
    assert second.isfinite().all()


@layers
def test_large_half_precision_values_do_not_overflow(make) -> None:
    y = make()(column(6e4, -6e4, 3e4, 0.0).half())
    assert y.dtype == torch.float16
    assert y.isfinite().all()
    assert y.abs().max() > 0.5


@layers
def test_without_scale_and_shift_it_is_the_same_as_with_one_and_zero(make) -> None:
    x = column(1, 2, 3, 6)
    assert make(affine=False).weight is None
    torch.testing.assert_close(make(affine=False)(x), make()(x))


@pytest.mark.parametrize("p", [0, 1.5, 3, -1, float("nan")])
def test_other_norms_are_refused(p: float) -> None:
    with pytest.raises(ValueError, match="1, 2 or inf"):
        LpBatchNorm(2, p=p)
