"""EvoNorms where their formulas come down to those of torch, and where they refuse."""

import pytest
import torch
from torch import nn

from bncore.norm.evo_norm import EvoNormB0, EvoNormS0
from bncore.norm.group_norm import GroupNorm
from tests.bncore.norm.case import per_channel, sample


def test_b0_with_the_batch_always_larger_is_batch_norm_without_centring_over_fifty_steps() -> None:
    mine, theirs = EvoNormB0(4).double(), nn.BatchNorm2d(4).double()
    nn.init.constant_(mine.v, -1e6)
    for step in range(50):
        for layer in (mine, theirs):
            layer.train(step % 10 != 9)
        # Of positive values, a multiple by so negative a number is never the larger one.
        x = sample((5, 4, 3, 2), seed=step).exp()
        y, expected = mine(x), theirs(x)
        mean, var = theirs.running_mean, theirs.running_var
        if mine.training:
            mean, var = x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0)
        torch.testing.assert_close(y, expected + per_channel(mean / (var + 1e-5).sqrt(), x))
    for name, value in theirs.state_dict().items():
        torch.testing.assert_close(mine.state_dict()[name], value, msg=name)


def test_b0_with_the_instance_always_larger_forgets_the_batch() -> None:
    layer, x = EvoNormB0(4).double(), sample((5, 4, 3, 2)).exp()
    nn.init.constant_(layer.v, 1e6)
    torch.testing.assert_close(layer(x), torch.full_like(x, 1e-6), rtol=1e-3, atol=0)
    layer(x[:2])
    torch.testing.assert_close(layer(x[:2]), layer(x)[:2])


def test_b0_needs_no_positions() -> None:
    layer, x = EvoNormB0(4).double(), sample((6, 4))
    deviation = (x.var(0, correction=0) + 1e-5).sqrt()
    torch.testing.assert_close(layer(x), x / torch.maximum(x + 1e-5**0.5, deviation))


def test_s0_without_slope_is_half_a_group_norm_without_centring() -> None:
    layer, x = EvoNormS0(4, num_groups=2).double(), sample((5, 4, 3, 2))
    nn.init.zeros_(layer.v)
    grouped = x.unflatten(1, (2, 2))
    axes = (2, 3, 4)
    ratio = grouped.mean(axes) / (grouped.var(axes, correction=0) + 1e-5).sqrt()
    expected = GroupNorm(4, num_groups=2).double()(x) + ratio.repeat_interleave(2, 1)[..., None, None]
    torch.testing.assert_close(layer(x), expected / 2)


def test_s0_with_a_steep_slope_is_rectified() -> None:
    layer, x = EvoNormS0(4, num_groups=1).double(), sample((5, 4, 3))
    nn.init.constant_(layer.v, 1e6)
    deviation = (x.var((1, 2), correction=0) + 1e-5).sqrt()
    torch.testing.assert_close(layer(x), x.relu() / deviation.view(5, 1, 1))


@pytest.mark.parametrize("training", [True, False])
def test_s0_refuses_a_group_of_one_value(training: bool) -> None:
    layer = EvoNormS0(4, num_groups=4).train(training)
    with pytest.raises(ValueError, match="Expected more than 1 value per group"):
        layer(torch.ones(3, 4))
    assert layer(torch.ones(3, 4, 2)).shape == (3, 4, 2)
    with pytest.raises(ValueError, match="3 groups do not divide 4 channels"):
        EvoNormS0(4, num_groups=3)


@pytest.mark.parametrize("layer", [EvoNormB0(4), EvoNormS0(4, num_groups=2)], ids=["b0", "s0"])
def test_they_have_three_vectors_to_learn_and_keep_one_copy_of_the_input(layer: nn.Module) -> None:
    assert {name: one.numel() for name, one in layer.named_parameters()} == {"weight": 4, "bias": 4, "v": 4}
    x = sample((8, 4, 16, 16)).float().requires_grad_()
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        y = layer(x)
    assert y.shape == x.shape
    assert sum(kept.values()) <= 1.2 * x.numel() * 4
