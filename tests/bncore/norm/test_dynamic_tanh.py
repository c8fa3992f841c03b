"""Dynamic tanh in its two limits, and under the names of the paper's code."""

import pytest
import torch

from bncore.norm.dynamic_tanh import DynamicTanh
from tests.bncore.norm.case import sample


@pytest.mark.parametrize("alpha", [1e-2, 1e-3])
def test_with_a_small_alpha_it_is_linear(alpha: float) -> None:
    layer, x = DynamicTanh(4, alpha=alpha).double(), sample((6, 4, 3))
    # tanh(t) = t - t^3 / 3 + ...
    assert (layer(x) / alpha - x).abs().max() <= alpha**2 * x.abs().max() ** 3 / 3
    assert (layer(x) / alpha - x).abs().max() > 0


def test_with_a_large_alpha_it_is_the_sign() -> None:
    x = sample((6, 4, 3)).float()
    x = x.sign() * x.abs().clamp_min(0.1)
    torch.testing.assert_close(DynamicTanh(4, alpha=100.0)(x), x.sign())


def test_its_state_is_that_of_the_papers_code() -> None:
    state = DynamicTanh(4, alpha=0.8).state_dict()
    assert {name: tuple(value.shape) for name, value in state.items()} == {"weight": (4,), "bias": (4,), "alpha": (1,)}
    assert state["alpha"].item() == pytest.approx(0.8)
    assert list(DynamicTanh(4, affine=False).state_dict()) == ["alpha"]


def test_no_value_depends_on_another() -> None:
    layer, x = DynamicTanh(4), sample((6, 4, 3)).float()
    torch.testing.assert_close(layer(x)[2:3, :, 1:2], layer(x[2:3, :, 1:2]))
