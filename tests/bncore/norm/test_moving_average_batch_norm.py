"""Moving average batch norm over many steps against its equations written out by hand, and what follows from them."""

import pytest
import torch
from torch import Tensor

from bncore.norm.moving_average_batch_norm import MovingAverageBatchNorm
from bncore.norm.power_norm import PowerNorm


def batches(count: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    spread = 1.0 + torch.rand(count, 1, 4, 1, generator=generator, dtype=torch.float64)
    return torch.randn(count, 2, 4, 3, generator=generator, dtype=torch.float64) * spread + 0.2


def upstream(count: int) -> Tensor:
    return torch.linspace(-1, 1, 4, dtype=torch.float64)[None, None, :, None] * batches(count, seed=1)


def layer_with(**options: object) -> MovingAverageBatchNorm:
    layer = MovingAverageBatchNorm(4, **options).double()
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([0.5, -1.0, 1.5, 2.0]))
        layer.bias.copy_(torch.tensor([0.1, 0.2, -0.3, 0.0]))
    return layer


def over_batch(x: Tensor) -> Tensor:
    return x.mean((0, 2))


def exact(layer: MovingAverageBatchNorm, x: Tensor) -> Tensor:
    """Division by the quadratic mean of the batch itself, for autograd to differentiate."""
    z = x / (over_batch(x.square()) + layer.eps).sqrt()[:, None]
    return z * layer.weight[:, None] + layer.bias[:, None]


def test_forty_steps_follow_the_equations_through_both_warm_ups() -> None:
    layer = layer_with(window=4, momentum=0.1, r_max=1.2, warmup_steps=6, r_warmup_steps=12)
    weight, bias = layer.weight.detach()[:, None], layer.bias.detach()[:, None]
    running, squares, products = torch.ones(4, dtype=torch.float64), [], []
    bounded = []
    for step, (x, grad) in enumerate(zip(batches(40), upstream(40), strict=True)):
        squares = [over_batch(x.square()), *squares][:4]
        chi = ((squares[0] if step < 6 else torch.stack(squares).mean(0)) + layer.eps).sqrt()
        r = chi / (running + layer.eps).sqrt()
        bounded.append(((r > 1.2) | (r < 1 / 1.2)).any().item())
        r = r.clamp(1 / 1.2, 1.2) if step >= 12 else torch.ones(4, dtype=torch.float64)
        running = 0.9 * running + 0.1 * squares[0]
        z = x / chi[:, None]
        x.requires_grad_()
        y = layer(x)
        torch.testing.assert_close(y, weight * r[:, None] * z + bias, rtol=1e-10, atol=1e-11)
        y.backward(grad)
        g = grad * weight * r[:, None]
        products = [over_batch(g * z), *products][:4]
        average = products[0] if step < 6 else torch.stack(products).mean(0)
        torch.testing.assert_close(x.grad, (g - z * average[:, None]) / chi[:, None], rtol=1e-9, atol=1e-11)
    assert any(bounded[12:])
    assert not all(bounded[12:])
    torch.testing.assert_close(layer.running_square, running, rtol=1e-11, atol=1e-12)
    torch.testing.assert_close(layer.window_square, torch.stack(squares), rtol=1e-11, atol=1e-12)
    torch.testing.assert_close(layer.window_product, torch.stack(products), rtol=1e-10, atol=1e-12)
    assert layer.num_batches_tracked == layer.num_gradients_tracked == 40


@pytest.mark.parametrize(
    "options", [{"window": 1, "r_max": 1.0, "warmup_steps": 0}, {"warmup_steps": 50}], ids=["window of one", "warm-up"]
)
def test_by_its_own_statistics_the_gradient_is_the_exact_one_over_fifty_steps(options: dict[str, float]) -> None:
    layer = layer_with(**options)
    for x, grad in zip(batches(50), upstream(50), strict=True):
        mine, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
        y, expected = layer(mine), exact(layer, theirs)
        torch.testing.assert_close(y, expected, rtol=1e-11, atol=1e-11)
        y.backward(grad)
        expected.backward(grad)
        torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-9, atol=1e-11)


def test_batches_of_a_window_are_normalized_like_one_batch_of_them_all() -> None:
    layer = layer_with(window=4, warmup_steps=0)
    parts = batches(4)
    for x in parts:
        y = layer(x)
    whole = exact(layer, parts.flatten(0, 1))
    torch.testing.assert_close(y, whole[-2:], rtol=1e-11, atol=1e-11)


def test_a_backward_pass_that_does_not_come_is_not_averaged() -> None:
    layer = layer_with(window=4, warmup_steps=0)
    for x in batches(5):
        layer(x)
    x, grad = batches(1, seed=3)[0].requires_grad_(), upstream(1)[0]
    layer(x).backward(grad)
    chi = (layer.window_square.mean(0) + layer.eps).sqrt()[:, None]
    z, g = x.detach() / chi, grad * layer.weight.detach()[:, None]
    torch.testing.assert_close(x.grad, (g - z * over_batch(g * z)[:, None]) / chi, rtol=1e-10, atol=1e-11)
    assert layer.num_gradients_tracked == 1


def test_no_gradient_flows_through_r() -> None:
    layer = layer_with(window=2, warmup_steps=0, r_warmup_steps=0)
    layer(batches(1)[0]).sum().backward()
    before = {name: value.clone() for name, value in layer.named_buffers()}
    x = batches(1, seed=2)[0]
    layer(x)
    r = ((layer.window_square.mean(0) + layer.eps) / (before["running_square"] + layer.eps)).sqrt()
    assert (r - 1).abs().min() > 1e-3
    layer.zero_grad()
    for name, value in before.items():
        layer.get_buffer(name).copy_(value)
    layer(x).backward(upstream(1)[0])
    z = x / (layer.window_square.mean(0) + layer.eps).sqrt()[:, None]
    expected = (upstream(1)[0] * z * r[:, None]).sum((0, 2))
    torch.testing.assert_close(layer.weight.grad, expected, rtol=1e-10, atol=1e-11)


def test_spoilt_statistics_do_not_stay_where_the_guard_is_on() -> None:
    layer = layer_with(window=3, warmup_steps=0, nan_guard=True)
    x, grad = batches(1)[0], upstream(1)[0].clone()
    layer(x).sum().backward()
    spoilt = x.clone()
    spoilt[0, 1, 0] = float("nan")
    layer(spoilt.requires_grad_()).backward(grad)
    assert all(value.isfinite().all() for value in layer.state_dict().values())
    fresh = x.clone().requires_grad_()
    grad[0, 2, 0] = float("inf")
    layer(fresh).backward(grad)
    assert all(value.isfinite().all() for value in layer.state_dict().values())
    assert fresh.grad[:, [0, 1, 3]].isfinite().all()


def test_what_the_guard_keeps_out_is_no_part_of_the_windows_averages() -> None:
    layer = layer_with(window=3, warmup_steps=0, nan_guard=True)
    x, grad = batches(1)[0], upstream(1)[0]
    spoilt = x.clone()
    spoilt[0, 1, 0] = float("nan")
    layer(spoilt.requires_grad_()).backward(grad)
    z = x / (over_batch(x.square()) + layer.eps).sqrt()[:, None]
    g = grad * layer.weight.detach()[:, None]
    y = layer(x.requires_grad_())
    torch.testing.assert_close(y, exact(layer, x), rtol=1e-10, atol=1e-11)
    y.backward(grad)
    expected = (g - z * over_batch(g * z)[:, None]) / (over_batch(x.square()) + layer.eps).sqrt()[:, None]
    torch.testing.assert_close(x.grad, expected.detach(), rtol=1e-10, atol=1e-11)
    assert (layer.num_batches_tracked, layer.num_gradients_tracked) == (1, 1)


def test_it_cannot_be_differentiated_again() -> None:
    x = batches(1)[0].requires_grad_()
    (grad,) = torch.autograd.grad(layer_with()(x).sin().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()


@pytest.mark.parametrize("options", [{"window": 0}, {"r_max": 0.5}], ids=str)
def test_averages_over_nothing_and_bounds_that_bound_nothing_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be at least 1"):
        MovingAverageBatchNorm(4, **options)


@pytest.mark.parametrize("momentum", [None, -0.1, 1.5])
def test_a_momentum_that_is_no_weight_is_refused(momentum: float | None) -> None:
    with pytest.raises(ValueError, match="momentum must be a number from 0 to 1"):
        MovingAverageBatchNorm(4, momentum=momentum)
    for name in ("forward_momentum", "backward_momentum"):
        with pytest.raises(ValueError, match=f"{name} must be a number from 0 to 1"):
            PowerNorm(4, **{name: momentum})
