"""Batch-instance and switchable norm: their mixtures at the ends, the gate outside of its range, and large means."""

import pytest
import torch
from torch import Tensor, nn

from bncore.norm.batch_instance_norm import BatchInstanceNorm
from bncore.norm.switchable_norm import SwitchableNorm
from tests.bncore.norm.case import Case, sample
from tests.bncore.norm.cases.mixtures import CASES

BOTH = pytest.mark.where(lambda case: case in CASES)


def gated(gate: float) -> nn.Module:
    layer = BatchInstanceNorm(4)
    nn.init.constant_(layer.gate, gate)
    return layer


def switched(place: int) -> nn.Module:
    """All weight on instance (0), layer (1) or batch (2)."""
    layer = SwitchableNorm(4)
    with torch.no_grad():
        for logits in (layer.mean_weight, layer.var_weight):
            logits.fill_(-200.0)[place] = 200.0
    return layer


@pytest.mark.parametrize(
    ("mine", "theirs"),
    [
        (gated(1.0), nn.BatchNorm2d(4)),
        (gated(1.7), nn.BatchNorm2d(4)),
        (switched(2), nn.BatchNorm2d(4)),
        (gated(0.0), nn.InstanceNorm2d(4, affine=True)),
        (gated(-0.3), nn.InstanceNorm2d(4, affine=True)),
        (switched(0), nn.InstanceNorm2d(4, affine=True)),
        (switched(1), nn.GroupNorm(1, 4)),
    ],
    ids=["gate 1", "gate above 1", "batch", "gate 0", "gate below 0", "instance", "layer"],
)
def test_with_all_weight_on_one_part_it_is_that_part_over_fifty_steps(mine: nn.Module, theirs: nn.Module) -> None:
    for step in range(50):
        for layer in (mine, theirs):
            layer.train(step % 10 != 9)
        x, other = (sample((5, 4, 3, 2), seed=step).float().requires_grad_() for _ in range(2))
        y, expected = mine(x), theirs(other)
        torch.testing.assert_close(y, expected, rtol=1e-5, atol=1e-5)
        y.sin().sum().backward()
        expected.sin().sum().backward()
        torch.testing.assert_close(x.grad, other.grad, rtol=1e-4, atol=1e-4)
    for name, value in theirs.state_dict().items():
        torch.testing.assert_close(mine.state_dict()[name], value, rtol=1e-5, atol=1e-5, msg=name)


def test_a_gate_outside_takes_only_gradients_that_move_it_back() -> None:
    layer, x = gated(0.0), sample((5, 4, 3, 2)).float()
    with torch.no_grad():
        layer.gate.copy_(torch.tensor([1.5, -0.5, 1.5, -0.5]))
    weights = torch.ones(5, 4, 3, 2)
    # Per channel, the loss is the mixture along the difference of its ends: its slope in the gate has a known sign.
    ends = (gated(1.0)(x) - gated(0.0)(x)).detach()
    sign = torch.tensor([1.0, 1.0, -1.0, -1.0]).view(1, 4, 1, 1)
    (layer(x) * ends * sign * weights).sum().backward()
    slope = (ends.square() * sign).sum((0, 2, 3))
    inwards = torch.tensor([True, False, False, True])
    torch.testing.assert_close(layer.gate.grad, torch.where(inwards, slope, 0.0), rtol=1e-4, atol=1e-4)


def test_gradient_descent_leaves_the_gate_at_its_end_and_lets_it_return() -> None:
    layer, x = gated(0.9), sample((5, 4, 3, 2)).float()
    optimizer = torch.optim.SGD([layer.gate], lr=1e-2)
    ends = (gated(1.0)(x) - gated(0.0)(x)).detach()
    path = []
    for step in range(60):
        optimizer.zero_grad()
        (layer(x) * ends).sum().mul(-1.0 if step < 30 else 1.0).backward()
        optimizer.step()
        path.append(layer.gate.detach().clone())
    step_length = 1e-2 * ends.square().sum((0, 2, 3))
    assert (path[29] >= 1.0).all()
    assert (path[29] <= 1.0 + step_length).all()
    assert (path[-1] < path[29]).all()
    assert (path[-1] >= -step_length).all()


def test_the_shares_of_the_mixture_are_learned() -> None:
    layer, x = SwitchableNorm(4), sample((5, 4, 3, 2)).float()
    assert {name: one.numel() for name, one in layer.named_parameters()} == {
        "weight": 4,
        "bias": 4,
        "mean_weight": 3,
        "var_weight": 3,
    }
    target = switched(1)(x).detach()
    optimizer = torch.optim.SGD([layer.mean_weight, layer.var_weight], lr=20.0)
    for _ in range(200):
        optimizer.zero_grad()
        (layer(x) - target).square().mean().backward()
        optimizer.step()
    assert layer.mean_weight.softmax(0)[1] > 0.8
    assert layer.var_weight.softmax(0)[1] > 0.8


@BOTH
def test_evaluation_before_any_training_is_harmless(case: Case) -> None:
    x = sample((5, 4, 3, 2)).float()
    assert case.make().eval()(x).abs().max() <= 2 * x.abs().max()


@BOTH
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("size", [(6, 4), (6, 4, 1), (6, 4, 1, 1)], ids=str)
def test_a_single_position_is_refused_in_both_modes_and_counts_for_nothing(
    case: Case, size: tuple[int, ...], training: bool
) -> None:
    layer = case.make().train(training)
    with pytest.raises(ValueError, match="Expected more than 1 spatial element"):
        layer(torch.ones(size))
    assert layer.num_batches_tracked == 0
    assert (layer.running_var == 1).all()


@BOTH
def test_a_constant_input_gives_the_shift_and_finite_derivatives(case: Case) -> None:
    layer = case.prepared()
    x = torch.full((3, 4, 2, 2), 5.0, dtype=torch.float64, requires_grad=True)
    y = layer(x)
    torch.testing.assert_close(y, layer.bias.view(1, 4, 1, 1).expand_as(y))
    (first,) = torch.autograd.grad(y.sin().sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum(), x)
    assert first.isfinite().all()
    assert second.isfinite().all()


@BOTH
@pytest.mark.parametrize(("scale", "offset"), [(3.0, -2.0), (-0.5, 4.0)])
def test_scale_and_offset_of_the_input_do_not_matter(case: Case, scale: float, offset: float) -> None:
    layer, x = case.prepared(), sample((5, 4, 3, 2))
    layer.eps = 1e-30
    nn.init.zeros_(layer.bias)
    expected = layer(x) * (1.0 if scale > 0 else -1.0)
    torch.testing.assert_close(layer(x * scale + offset), expected, rtol=1e-9, atol=1e-9)


@BOTH
@pytest.mark.parametrize("ratio", [1e4, 1e6])
def test_the_digits_that_the_input_has_at_a_large_mean_are_kept_in_outputs_and_gradients(
    case: Case, ratio: float
) -> None:
    exact = case.prepared()
    single = case.prepared().float()
    means = torch.linspace(-1.0, 1.5, 4, dtype=torch.float64).view(1, 4, 1, 1) * ratio
    # What the layer norm inside sees of different channels is their means: one for all where it has a share.
    means = means if isinstance(exact, BatchInstanceNorm) else torch.full_like(means, ratio)
    x = (sample((8, 4, 6, 5)) + means).float()

    def run(layer: nn.Module, x: Tensor) -> list[Tensor]:
        x = x.clone().requires_grad_()
        y = case.training(layer, x) if layer is exact else layer(x)
        return [y, *torch.autograd.grad(y.sin().sum(), [x, *layer.parameters()])]

    for mine, theirs in zip(run(single, x), run(exact, x.double()), strict=True):
        assert (mine - theirs).abs().max() <= 1e-5 * theirs.abs().max().clamp_min(1.0)
