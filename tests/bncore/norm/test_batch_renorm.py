"""Batch renorm: its reductions to batch norm, its running standard deviation, its bounds over time."""

import pytest
import torch
from torch import Tensor, nn

from bncore.norm import BatchNorm, BatchRenorm, Ramp


def batches(count: int, scale: float = 2.0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(3)
    return [torch.randn(8, 5, 3, 3, generator=generator) * scale + 1 for _ in range(count)]


def test_with_bounds_one_and_zero_it_trains_like_batch_norm() -> None:
    renorm, plain = BatchRenorm(5, r_max=1.0, d_max=0.0), BatchNorm(5)
    for batch in batches(50):
        x, other = batch.clone().requires_grad_(), batch.clone().requires_grad_()
        y, expected = renorm(x), plain(other)
        y.sin().sum().backward()
        expected.sin().sum().backward()
        torch.testing.assert_close(y, expected, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(x.grad, other.grad, rtol=1e-5, atol=1e-6)


def test_the_first_step_of_a_warm_up_is_plain_batch_norm() -> None:
    (batch,) = batches(1)
    torch.testing.assert_close(BatchRenorm(5)(batch), BatchNorm(5)(batch), rtol=1e-6, atol=1e-6)


def test_within_bounds_training_gives_the_evaluation_output_of_the_statistics_before() -> None:
    renorm = BatchRenorm(5, r_max=1e6, d_max=1e6, warmup_steps=0)
    for batch in batches(5):
        expected = renorm.eval()(batch)
        torch.testing.assert_close(renorm.train()(batch), expected, rtol=1e-5, atol=1e-5)


def test_it_averages_the_standard_deviation_and_keeps_it_under_the_key_of_torch() -> None:
    renorm = BatchRenorm(5, momentum=0.25, eps=1e-3).double()
    mean, sigma = torch.zeros(5).double(), torch.full((5,), 1 + 1e-3).double().sqrt()
    for batch in batches(4):
        wide = batch.double()
        renorm(wide)
        mean += 0.25 * (wide.mean((0, 2, 3)) - mean)
        sigma += 0.25 * ((wide.var((0, 2, 3), correction=0) + 1e-3).sqrt() - sigma)
    torch.testing.assert_close(renorm.running_mean, mean)
    torch.testing.assert_close(renorm.running_var, sigma**2 - 1e-3)
    assert renorm.num_batches_tracked == 4
    plain = nn.BatchNorm2d(5, eps=1e-3).double()
    plain.load_state_dict(renorm.state_dict(), strict=True)
    torch.testing.assert_close(plain.eval()(wide), renorm.eval()(wide), rtol=0, atol=0)


def test_a_channel_that_is_constant_keeps_its_variance_at_zero_or_above() -> None:
    renorm = BatchRenorm(5, momentum=1.0)
    renorm(torch.full((8, 5), 3.0))
    assert (renorm.running_var >= 0).all()


def test_momentum_none_averages_all_batches_equally() -> None:
    renorm = BatchRenorm(5, momentum=None)
    data = batches(6)
    for batch in data:
        renorm(batch)
    torch.testing.assert_close(renorm.running_mean, torch.stack([batch.mean((0, 2, 3)) for batch in data]).mean(0))


def test_no_gradient_flows_through_r_and_d() -> None:
    # A shifted and scaled input changes r and d but not the standardized values: with r and d held fixed the derivative
    # along the shift is exactly 0, while the output itself moves with d.
    renorm = BatchRenorm(5, r_max=100.0, d_max=100.0, warmup_steps=0).double()
    x = batches(1)[0].double()
    state = {key: value.clone() for key, value in renorm.state_dict().items()}
    shift = torch.zeros((), dtype=torch.float64, requires_grad=True)
    y = renorm(x + shift)
    (slope,) = torch.autograd.grad((y * torch.linspace(0, 1, y.numel()).view_as(y)).sum(), shift)
    renorm.load_state_dict(state)
    assert slope.abs() < 1e-9
    assert (renorm(x + 1.0) - y).abs().min() > 0.5


@pytest.mark.parametrize(
    ("batches_seen", "expected"), [(0, 1.0), (5, 1.0), (10, 2.0), (15, 3.0), (150, 3.0), (10**6, 3.0)]
)
def test_a_ramp_is_clamped_at_both_ends(batches_seen: int, expected: float) -> None:
    ramp = Ramp(start=1.0, end=3.0, start_step=5, end_step=15)
    assert ramp.at(torch.tensor(float(batches_seen))).item() == pytest.approx(expected)


def test_the_bounds_hold_at_every_point_of_their_ramp() -> None:
    renorm = BatchRenorm(1, r_max=3.0, d_max=5.0, warmup_steps=10, momentum=1e-6)
    values = torch.tensor([[-100.0], [100.0]]) + 1000.0
    for step in range(30):
        share = min(step / 10, 1.0)
        y = renorm(values).flatten()
        assert (y[1] - y[0]).item() / 2 == pytest.approx(1 + 2 * share, rel=1e-4)
        assert (y[1] + y[0]).item() / 2 == pytest.approx(5 * share, abs=1e-3)


@pytest.mark.parametrize(
    ("bounds", "message"),
    [
        ({"r_max": 0.5}, "r_max must be at least 1"),
        ({"d_max": -1.0}, "d_max must be at least 0"),
        ({"r_max": Ramp(0.0, 3.0, 0, 10)}, "r_max must be at least 1"),
        ({"r_max": float("nan"), "warmup_steps": 0}, "r_max must be at least 1"),
        ({"d_max": float("inf")}, "d_max must be finite"),
        ({"r_max": lambda step: 2.0}, "r_max must be a number or a Ramp"),
        ({"d_max": Ramp(0.0, 3.0, 5, 5)}, "ramp of d_max must end after"),
    ],
)
def test_bounds_that_bound_nothing_are_refused(bounds: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BatchRenorm(5, **bounds)


def test_without_bounds_training_gives_the_evaluation_output() -> None:
    renorm = BatchRenorm(5, r_max=float("inf"), d_max=float("inf"), warmup_steps=0)
    for batch in batches(3):
        expected = renorm.eval()(batch)
        torch.testing.assert_close(renorm.train()(batch), expected, rtol=1e-5, atol=1e-5)


def test_without_running_statistics_it_says_so() -> None:
    renorm = BatchRenorm(5)
    renorm.running_mean = renorm.running_var = None
    with pytest.raises(ValueError, match="running statistics"):
        renorm(batches(1)[0])


def test_the_third_derivative_is_right_though_that_of_the_kernel_is_not() -> None:
    renorm = BatchRenorm(5, warmup_steps=0).double()
    x, weights = (batch.double()[:3].requires_grad_() for batch in batches(2))

    def third(y: Tensor) -> Tensor:
        loss = (y.sin() * weights).sum()
        for _ in range(3):
            (grad,) = torch.autograd.grad(loss, x, create_graph=True)
            loss = (grad * weights).sum()
        return grad

    mean, sigma = x.mean((0, 2, 3), keepdim=True), (x.var((0, 2, 3), correction=0, keepdim=True) + 1e-5).sqrt()
    # Fresh statistics: mean 0, sigma sqrt(1 + eps).
    r, d = (sigma / (1 + 1e-5) ** 0.5).detach().clamp(1 / 3, 3), (mean / (1 + 1e-5) ** 0.5).detach().clamp(-5, 5)
    torch.testing.assert_close(third(renorm(x)), third((x - mean) / sigma * r + d), rtol=1e-9, atol=1e-9)


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_compiled_as_one_graph_it_gives_the_eager_gradients_and_buffers() -> None:
    """The contract suite has the backend that recomputes; this one saved the wrong thing without a word."""
    eager, other = (BatchRenorm(5, warmup_steps=4) for _ in range(2))
    compiled = torch.compile(other, backend="aot_eager", fullgraph=True)
    for batch in batches(6):
        x, y = batch.clone().requires_grad_(), batch.clone().requires_grad_()
        eager(x).sin().sum().backward()
        compiled(y).sin().sum().backward()
        torch.testing.assert_close(y.grad, x.grad, rtol=1e-4, atol=1e-5)
    for key, value in eager.state_dict().items():
        torch.testing.assert_close(other.state_dict()[key], value, rtol=1e-5, atol=1e-6, msg=key)
