"""Moments of parts together are those of the whole; gradients made differentiable are the gradients, once."""

import pytest
import torch

from bncore.norm._parts import differentiable_gradients, merge_parts
from bncore.norm.masked_batch_norm import MaskedBatchNorm
from tests.bncore.norm.case import sample


@pytest.mark.parametrize("sizes", [(12,), (5, 7), (0, 4, 8), (1, 1, 10), (0, 12, 0)], ids=str)
def test_parts_of_any_size_merge_to_the_moments_of_the_whole(sizes: tuple[int, ...]) -> None:
    x = sample((12, 4))
    zero = torch.zeros(4, dtype=torch.float64)
    parts = x.split(sizes)
    means = torch.stack([part.mean(0) if len(part) else zero for part in parts])
    variances = torch.stack([part.var(0, correction=0) if len(part) else zero for part in parts])
    mean, var, count = merge_parts(means, variances, torch.tensor(sizes, dtype=torch.float64))
    torch.testing.assert_close(mean, x.mean(0), rtol=1e-14, atol=1e-14)
    torch.testing.assert_close(var, x.var(0, correction=0), rtol=1e-14, atol=1e-14)
    assert count == 12


def test_parts_without_values_have_no_moments() -> None:
    mean, var, count = merge_parts(torch.zeros(3, 4), torch.zeros(3, 4), torch.zeros(3))
    assert (mean == 0).all()
    assert (var == 0).all()
    assert count == 0


def test_parts_with_the_same_large_mean_keep_it_to_the_last_digit() -> None:
    value = torch.tensor([1e6 + 0.0625, -3e7 - 2.0, 1.1], dtype=torch.float32)
    mean, var, _ = merge_parts(value.expand(5, 3), torch.full((5, 3), 2.0), torch.tensor([1.0, 3.0, 7.0, 0.0, 2.0]))
    assert torch.equal(mean, value)
    torch.testing.assert_close(var, torch.full((3,), 2.0))


def test_a_hook_on_the_input_sees_the_gradient_once() -> None:
    layer, x = MaskedBatchNorm(4).double(), sample((12, 4)).requires_grad_()
    mask = torch.arange(12) % 3 > 0
    loss = layer(x, mask).sin().sum()
    (expected,) = torch.autograd.grad(loss, x, retain_graph=True)
    x.register_hook(lambda grad: 2 * grad)
    (doubled,) = torch.autograd.grad(loss, x, create_graph=True)
    torch.testing.assert_close(doubled, 2 * expected, rtol=1e-12, atol=1e-12)


def test_an_input_that_is_missing_or_not_wanted_gets_no_gradient() -> None:
    x, weight = sample((3, 4)).requires_grad_(), sample((4,)).requires_grad_()
    grad = sample((3, 4), seed=2)
    found = differentiable_gradients(
        lambda x, weight, _: x.square() * weight, (x, weight, None), (False, True, False), grad
    )
    assert found[0] is None
    assert found[2] is None
    torch.testing.assert_close(found[1], (x.square() * grad).sum(0))
