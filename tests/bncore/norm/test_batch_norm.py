"""Batch norm is torch's, number for number and key for key."""

from contextlib import nullcontext

import pytest
import torch
from torch import nn
from torch.autograd import forward_ad

from bncore.norm import (
    BatchNorm,
    BatchRenorm,
    DomainBatchNorm,
    FrozenBatchNorm,
    GhostBatchNorm,
    MaskedBatchNorm,
    SyncBatchNorm,
)

RANKS = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}


def batches(rank: int, count: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(rank)
    return [torch.randn(7, 5, *(3,) * (rank - 2), generator=generator) * 2 + 1 for _ in range(count)]


@pytest.mark.parametrize(
    "options", [{}, {"momentum": None}, {"affine": False}, {"track_running_stats": False}], ids=str
)
@pytest.mark.parametrize("rank", RANKS)
def test_fifty_steps_equal_torch_in_outputs_gradients_and_buffers(rank: int, options: dict[str, object]) -> None:
    mine, theirs = BatchNorm(5, **options), RANKS[rank](5, **options)
    theirs.load_state_dict(mine.state_dict(), strict=True)
    for step, batch in enumerate(batches(rank, 50)):
        for layer in (mine, theirs):
            layer.train(step % 10 != 9)
        x, other = batch.clone().requires_grad_(), batch.clone().requires_grad_()
        y, expected = mine(x), theirs(other)
        y.square().sum().backward()
        expected.square().sum().backward()
        torch.testing.assert_close(y, expected, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(x.grad, other.grad, rtol=1e-5, atol=1e-5)
    mine.load_state_dict(theirs.state_dict(), strict=True)
    for key, value in theirs.state_dict().items():
        torch.testing.assert_close(mine.state_dict()[key], value, rtol=1e-6, atol=1e-6, msg=key)


@pytest.mark.parametrize("momentum", [0.1, None])
def test_spelled_out_under_a_function_transform_the_statistics_move_alike(momentum: float | None) -> None:
    native, transformed = BatchNorm(5, momentum=momentum), BatchNorm(5, momentum=momentum)
    for batch in batches(4, 5):
        native(batch)
        buffers = {key: value.clone() for key, value in transformed.named_buffers()}
        torch.func.vmap(lambda buffers, x: torch.func.functional_call(transformed, buffers, (x,)), in_dims=(0, 0))(
            {key: value.unsqueeze(0) for key, value in buffers.items()}, batch.unsqueeze(0)
        )
        transformed.load_state_dict({**transformed.state_dict(), **buffers})
    for key, value in native.state_dict().items():
        torch.testing.assert_close(transformed.state_dict()[key], value, rtol=1e-5, atol=1e-5, msg=key)


@pytest.mark.parametrize("shape", [(1, 5), (1, 5, 1), (1, 5, 1, 1)], ids=str)
def test_one_value_per_channel_is_refused_in_training_only(shape: tuple[int, ...]) -> None:
    layer = BatchNorm(5)
    with pytest.raises(ValueError, match="Expected more than 1 value per channel"):
        layer(torch.zeros(shape))
    assert layer.num_batches_tracked == 0
    assert layer.eval()(torch.zeros(shape)).shape == shape


@pytest.mark.parametrize("kind", [BatchNorm, DomainBatchNorm, MaskedBatchNorm, SyncBatchNorm], ids=lambda k: k.__name__)
@pytest.mark.parametrize("spelled_out", [False, True])
def test_an_average_of_all_batches_leaves_out_those_that_are_not_finite(kind: type, spelled_out: bool) -> None:
    layer = kind(5, momentum=None, nan_guard=True).double()
    good = [10 + x.double() for x in batches(3, 3)]
    bad = good[0].clone()
    bad[0, 2, 0] = float("inf")
    masks = (torch.ones(7, 3, dtype=torch.bool),) if kind is MaskedBatchNorm else ()
    with forward_ad.dual_level() if spelled_out else nullcontext():
        for x in (bad, good[0], bad, good[1], good[2]):
            layer(x, *masks)
    means, variances = zip(*((x.mean((0, 2)), x.var((0, 2), correction=1)) for x in good), strict=True)
    torch.testing.assert_close(layer.running_mean, torch.stack(means).mean(0), rtol=1e-13, atol=0)
    torch.testing.assert_close(layer.running_var, torch.stack(variances).mean(0), rtol=1e-13, atol=0)
    assert layer.num_batches_tracked == 3


LAYERS = [BatchNorm, BatchRenorm, DomainBatchNorm, FrozenBatchNorm, GhostBatchNorm, MaskedBatchNorm, SyncBatchNorm]


@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize(("expected", "channels"), [(4, 1), (4, 3), (4, 6), (1, 3)])
@pytest.mark.parametrize("kind", LAYERS, ids=lambda kind: kind.__name__)
def test_another_number_of_channels_is_refused(kind: type, expected: int, channels: int, grad: bool) -> None:
    layer, x = kind(expected), torch.randn(6, channels, 2, requires_grad=grad)
    masks = [torch.ones(6, 2, dtype=torch.bool)] if kind is MaskedBatchNorm else []
    for training in (True, False):
        with pytest.raises(ValueError, match=f"expected {expected} channels"):
            layer.train(training)(x, *masks)
    assert layer.num_batches_tracked == 0


def test_without_running_statistics_evaluation_uses_the_batch() -> None:
    layer = BatchNorm(5, track_running_stats=False).eval()
    (batch,) = batches(4, 1)
    torch.testing.assert_close(layer(batch), nn.BatchNorm2d(5)(batch))


@pytest.mark.parametrize("kind", [GhostBatchNorm, MaskedBatchNorm, SyncBatchNorm], ids=lambda kind: kind.__name__)
def test_variants_can_be_made_without_running_statistics_as_torch_can(kind: type) -> None:
    layer, theirs = kind(5, track_running_stats=False), nn.BatchNorm2d(5, track_running_stats=False)
    theirs.load_state_dict(layer.state_dict(), strict=True)
    layer.load_state_dict(theirs.state_dict(), strict=True)
    (batch,) = batches(4, 1)
    for training in (True, False):
        torch.testing.assert_close(layer.train(training)(batch), theirs.train(training)(batch))
