"""Root mean square norm is torch's where torch has it; its scale is its only parameter."""

import pytest
import torch
from torch import nn

from bncore.norm import convert, to_torch
from bncore.norm.rms_norm import RMSNorm
from tests.bncore.norm.case import sample


@pytest.mark.parametrize("shape", [(6, 4), (6, 4, 5), (6, 4, 3, 2)], ids=str)
def test_it_is_that_of_torch(shape: tuple[int, ...]) -> None:
    mine, theirs = RMSNorm(4), nn.RMSNorm(shape[1:], eps=1e-6)
    scale = torch.linspace(0.5, 2.0, 4)
    with torch.no_grad():
        mine.weight.copy_(scale)
        theirs.weight.copy_(scale.view(4, *(1,) * (len(shape) - 2)).expand(shape[1:]))
    x, other = (sample(shape).float().requires_grad_() for _ in range(2))
    y, expected = mine(x), theirs(other)
    torch.testing.assert_close(y, expected, rtol=1e-6, atol=1e-6)
    y.sin().sum().backward()
    expected.sin().sum().backward()
    torch.testing.assert_close(x.grad, other.grad, rtol=1e-5, atol=1e-5)
    into_scale = theirs.weight.grad.flatten(1).sum(1) if len(shape) > 2 else theirs.weight.grad
    torch.testing.assert_close(mine.weight.grad, into_scale, rtol=1e-5, atol=1e-5)


def test_its_state_is_that_of_torch() -> None:
    mine = RMSNorm(4)
    assert list(mine.state_dict()) == ["weight"]
    assert mine.bias is None
    mine.load_state_dict(nn.RMSNorm(4).state_dict(), strict=True)
    assert list(RMSNorm(4, affine=False).parameters()) == []


@pytest.mark.parametrize("shape", [(3, 4), (3, 4, 5)], ids=str)
def test_a_sample_of_zeros_stays_zero_and_has_finite_derivatives(shape: tuple[int, ...]) -> None:
    x = torch.zeros(shape, dtype=torch.float64, requires_grad=True)
    y = RMSNorm(4).double()(x)
    assert (y == 0).all()
    (first,) = torch.autograd.grad(y.sin().sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.cos().sum(), x)
    # At zero it is x / sqrt(eps).
    torch.testing.assert_close(first.detach(), torch.full_like(first, 1e3))
    assert second.isfinite().all()


@pytest.mark.parametrize("scale", [1e-3, 7.0, 1e4])
def test_the_scale_of_a_sample_does_not_matter(scale: float) -> None:
    layer, x = RMSNorm(4, eps=1e-30).double(), sample((3, 4, 5))
    torch.testing.assert_close(layer(x * scale), layer(x), rtol=1e-10, atol=1e-10)


def test_eps_is_inside_the_root() -> None:
    y = RMSNorm(2, eps=9.0)(torch.tensor([[4.0, -4.0]]))
    torch.testing.assert_close(y, torch.tensor([[0.8, -0.8]]))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("shape", [(3, 4), (3, 4, 2)], ids=str)
def test_without_eps_it_is_the_machine_epsilon_of_the_input(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    x = (sample(shape) * 1e-8).to(dtype)
    eps = 2.0**-52 if dtype == torch.float64 else 2.0**-23
    expected = x.double() / (x.double().square().flatten(1).mean(1).view(-1, *(1,) * (x.dim() - 1)) + eps) ** 0.5
    torch.testing.assert_close(RMSNorm(4, eps=None)(x), expected.to(dtype))
    if x.dim() == 2:
        converted = convert(nn.RMSNorm(4), {"kind": "rms_norm"})
        torch.testing.assert_close(converted(x), expected.to(dtype))
        assert to_torch(converted, copy=True).eps is None
        assert convert(converted, {"kind": "dynamic_tanh"}).weight is not None
