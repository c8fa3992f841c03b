"""Filter response norm: its thresholded unit, its learned eps, and maps of one value or of zeros."""

import pytest
import torch

from bncore.norm.filter_response_norm import FilterResponseNorm
from tests.bncore.norm.case import per_channel, sample


def test_it_has_the_parameters_that_were_asked_for() -> None:
    def names(**options: bool) -> dict[str, int]:
        return {name: one.numel() for name, one in FilterResponseNorm(4, **options).named_parameters()}

    assert names() == {"weight": 4, "bias": 4, "tau": 4}
    assert names(threshold=False) == {"weight": 4, "bias": 4}
    assert names(learn_eps=True) == {"weight": 4, "bias": 4, "tau": 4, "learned_eps": 1}


def test_it_starts_as_a_rectified_normalization() -> None:
    x = sample((6, 4, 3, 3)).float()
    plain = FilterResponseNorm(4, threshold=False)(x)
    torch.testing.assert_close(plain.square().mean((2, 3)), torch.ones(6, 4), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(FilterResponseNorm(4)(x), plain.relu())


def test_nothing_comes_out_below_the_threshold_and_all_above_it_passes() -> None:
    layer, plain = FilterResponseNorm(4), FilterResponseNorm(4, threshold=False)
    tau = torch.tensor([-1.0, -0.2, 0.3, 5.0])
    with torch.no_grad():
        layer.tau.copy_(tau)
    x = sample((6, 4, 3, 3)).float()
    torch.testing.assert_close(layer(x), torch.maximum(plain(x), per_channel(tau, x)))
    layer(x).sum().backward()
    below = (plain(x) < per_channel(tau, x)).sum((0, 2, 3)).float()
    torch.testing.assert_close(layer.tau.grad, below)


@pytest.mark.parametrize("shape", [(5, 4), (5, 4, 1, 1)], ids=str)
def test_of_a_map_of_one_value_the_sign_is_left_unless_eps_is_learned(shape: tuple[int, ...]) -> None:
    x = sample(shape).float()
    sign = FilterResponseNorm(4, threshold=False)(x)
    torch.testing.assert_close(sign, x.sign(), rtol=1e-3, atol=1e-3)
    layer = FilterResponseNorm(4, learn_eps=True, threshold=False)
    torch.nn.init.constant_(layer.learned_eps, 100.0)
    torch.testing.assert_close(layer(x), x / (x.square() + 100.0).sqrt())


def test_the_learned_part_of_eps_starts_at_its_value_counts_without_sign_and_is_learned() -> None:
    layer, x = FilterResponseNorm(4, learn_eps=True), sample((6, 4, 3)).float() * 1e-2
    assert layer.learned_eps.item() == pytest.approx(1e-4)
    y = layer(x)
    y.sum().backward()
    assert layer.learned_eps.grad.abs() > 0
    with torch.no_grad():
        layer.learned_eps.neg_()
    torch.testing.assert_close(layer(x), y)


def test_a_map_of_zeros_has_finite_derivatives() -> None:
    x = torch.zeros(2, 4, 3, dtype=torch.float64, requires_grad=True)
    (first,) = torch.autograd.grad(FilterResponseNorm(4).double()(x).sin().sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.cos().sum(), x, allow_unused=True, materialize_grads=True)
    assert first.isfinite().all()
    assert second.isfinite().all()
