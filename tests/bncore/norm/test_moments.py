"""The shared numerics."""

import pytest
import torch

from bncore.norm._moments import merge, moments


@pytest.mark.parametrize("cut", [1, 7, 19])
def test_merged_parts_have_the_moments_of_the_whole(cut: int) -> None:
    x = torch.randn(20, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 1e6
    whole, merged = moments(x, [0]), merge(moments(x[:cut], [0]), moments(x[cut:], [0]))
    assert merged.count == whole.count == 20
    torch.testing.assert_close(merged.mean, whole.mean)
    torch.testing.assert_close(merged.var, whole.var, rtol=1e-9, atol=0)


def test_the_variance_of_values_far_from_zero_is_not_negative() -> None:
    x = torch.randn(4096, 1, generator=torch.Generator().manual_seed(0)) + 1e4
    assert moments(x, [0]).var.item() == pytest.approx(1.0, rel=0.1)


def test_half_precision_is_measured_in_single() -> None:
    x = torch.full((1000, 1), 3.0, dtype=torch.float16)
    assert moments(x, [0]).mean.dtype == torch.float32
