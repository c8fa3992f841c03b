"""Adaptive gradient clipping: the paper's rule unit by unit, and what it leaves alone."""

import copy

import pytest
import torch
from torch import Tensor, nn

from bncore.norm.adaptive_clipping import adaptive_clip_grad_
from bncore.norm.weight_norm import weight_norm


def parameter(shape: tuple[int, ...], gradient_scale: float = 1.0, dtype: torch.dtype = torch.float64) -> nn.Parameter:
    generator = torch.Generator().manual_seed(len(shape))
    value = nn.Parameter(torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype))
    value.grad = (torch.randn(shape, generator=generator, dtype=torch.float64) * gradient_scale).to(dtype)
    return value


def by_the_paper(weight: Tensor, gradient: Tensor, clipping: float, eps: float) -> Tensor:
    """Eq. 3, a loop over units."""
    if weight.dim() <= 1 or weight.squeeze().dim() <= 1:
        weight, gradient, shape = weight.reshape(1, -1), gradient.reshape(1, -1), weight.shape
    else:
        shape = weight.shape
    rows = []
    for unit, own in zip(weight, gradient, strict=True):
        size, length = max(unit.norm().item(), eps), own.norm().item()
        rows.append(own * clipping * size / length if length / size > clipping else own)
    return torch.stack(rows).reshape(shape)


@pytest.mark.parametrize(
    "shape", [(), (7,), (5, 1), (1, 6), (1, 6, 3), (5, 6), (5, 6, 3), (5, 3, 2, 2), (4, 2, 2, 2, 2)], ids=str
)
@pytest.mark.parametrize("clipping", [0.01, 1.0])
def test_each_unit_is_scaled_as_in_the_paper(shape: tuple[int, ...], clipping: float) -> None:
    weight = parameter(shape)
    expected = by_the_paper(weight.detach(), weight.grad, clipping, 1e-3)
    adaptive_clip_grad_(weight, clipping)
    torch.testing.assert_close(weight.grad, expected, rtol=1e-12, atol=0)


def test_with_a_limit_between_them_some_units_are_clipped_and_the_others_keep_their_bits() -> None:
    weight = parameter((64, 5))
    before = weight.grad.clone()
    adaptive_clip_grad_([weight], 1.0)
    kept = (weight.grad == before).all(1)
    assert 5 < kept.sum() < 59
    ratio = weight.grad.norm(dim=1) / weight.detach().norm(dim=1)
    torch.testing.assert_close(ratio[~kept], torch.ones_like(ratio[~kept]), rtol=1e-12, atol=0)
    assert (ratio[kept] <= 1.0).all()


def test_many_parameters_at_once_are_clipped_as_each_by_itself() -> None:
    shapes = [(3, 4), (), (5,), (2, 3, 2, 2)]
    together, apart = [[parameter(shape) for shape in shapes] for _ in range(2)]
    gradients = [value.grad for value in together]
    adaptive_clip_grad_(iter(together), 0.02)
    for mine, alone, gradient in zip(together, apart, gradients, strict=True):
        adaptive_clip_grad_(alone, 0.02)
        assert mine.grad is gradient
        torch.testing.assert_close(mine.grad, alone.grad, rtol=0, atol=0)


def test_a_unit_at_0_may_still_move_and_a_gradient_of_0_stays() -> None:
    weight = parameter((3, 4))
    with torch.no_grad():
        weight[0] = 0.0
        weight.grad[1] = 0.0
    adaptive_clip_grad_(weight, 0.1, eps=0.01)
    assert weight.grad[0].norm().item() == pytest.approx(0.1 * 0.01)
    assert (weight.grad[1] == 0).all()


def test_parameters_without_gradient_are_left_out() -> None:
    weight, frozen = parameter((3, 4)), nn.Parameter(torch.ones(2))
    adaptive_clip_grad_([frozen, weight])
    assert frozen.grad is None
    adaptive_clip_grad_([frozen])
    adaptive_clip_grad_([])


def test_a_gradient_that_is_not_finite_stays_visible_in_its_unit_and_spoils_no_other() -> None:
    for poison in (float("nan"), float("inf")):
        weight = parameter((3, 4))
        weight.grad[1, 2] = poison
        adaptive_clip_grad_(weight, 0.1)
        assert weight.grad[1].isnan().any()
        assert weight.grad[[0, 2]].isfinite().all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_gradients_are_measured_in_float32(dtype: torch.dtype) -> None:
    # The square of 300 is beyond float16.
    weight = parameter((4, 50), gradient_scale=300.0, dtype=dtype)
    expected = by_the_paper(weight.detach().float(), weight.grad.float(), 0.5, 1e-3)
    adaptive_clip_grad_(weight, 0.5)
    assert weight.grad.dtype == dtype
    torch.testing.assert_close(weight.grad.float(), expected, rtol=0.01, atol=1e-3)


def test_lengths_of_weight_norm_are_one_unit_and_its_directions_one_each() -> None:
    layer = weight_norm(nn.Linear(5, 4).double())
    layer(torch.linspace(-3, 3, 40, dtype=torch.float64).view(8, 5)).square().sum().backward()
    before = copy.deepcopy({name: (value.detach(), value.grad) for name, value in layer.named_parameters()})
    adaptive_clip_grad_(layer.parameters(), 0.01)
    for name, value in layer.named_parameters():
        torch.testing.assert_close(value.grad, by_the_paper(*before[name], 0.01, 1e-3), rtol=1e-12, atol=1e-15)


def test_a_negative_limit_would_turn_gradients_around_and_is_refused() -> None:
    with pytest.raises(ValueError, match="clipping must be at least 0"):
        adaptive_clip_grad_([], clipping=-0.01)


def test_a_tied_parameter_that_is_given_twice_is_clipped_once() -> None:
    tied, alone = parameter((5, 6), 10.0), parameter((5, 6), 10.0)
    adaptive_clip_grad_([tied, tied], 0.1)
    adaptive_clip_grad_(alone, 0.1)
    assert torch.equal(tied.grad, alone.grad)
