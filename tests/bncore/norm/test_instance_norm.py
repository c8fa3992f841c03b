"""Instance norm is torch's in every layout; what it does at a single position and at large means."""

import pytest
import torch
from torch import nn

from bncore.norm.instance_norm import InstanceNorm
from tests.bncore.norm.case import per_channel, sample, standardized

TORCH = {3: nn.InstanceNorm1d, 4: nn.InstanceNorm2d, 5: nn.InstanceNorm3d}
FORMATS = {4: torch.channels_last, 5: torch.channels_last_3d}


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize("shape", [(6, 4, 5), (6, 4, 3, 2), (2, 4, 3, 2, 2)], ids=str)
def test_it_is_that_of_torch(shape: tuple[int, ...], affine: bool, last: bool) -> None:
    mine, theirs = InstanceNorm(4, affine=affine), TORCH[len(shape)](4, affine=affine)
    for layer in (mine, theirs):
        for parameter in layer.parameters():
            nn.init.uniform_(parameter, 0.5, 2.0, generator=torch.Generator().manual_seed(0))
    theirs.load_state_dict(mine.state_dict(), strict=True)
    x = sample(shape).float()
    if last and len(shape) in FORMATS:
        x = x.contiguous(memory_format=FORMATS[len(shape)])
    inputs = [x.clone().requires_grad_() for _ in range(2)]
    outputs = [layer(one) for layer, one in zip((mine, theirs), inputs, strict=True)]
    torch.testing.assert_close(*outputs, rtol=1e-5, atol=1e-5)
    found = [
        torch.autograd.grad(y.sin().sum(), [one, *layer.parameters()])
        for layer, one, y in zip((mine, theirs), inputs, outputs, strict=True)
    ]
    for first, second in zip(*found, strict=True):
        torch.testing.assert_close(first, second, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shape", [(6, 4), (6, 4, 1), (6, 4, 1, 1)], ids=str)
def test_a_single_position_is_refused_in_both_modes(shape: tuple[int, ...], training: bool) -> None:
    with pytest.raises(ValueError, match="Expected more than 1 spatial element"):
        InstanceNorm(4).train(training)(torch.ones(shape))


def test_no_positions_at_all_give_nothing() -> None:
    assert InstanceNorm(4)(torch.ones(3, 4, 0)).shape == (3, 4, 0)


@pytest.mark.parametrize("ratio", [1e4, 1e6])
def test_what_is_spelled_out_keeps_the_digits_that_the_input_has(ratio: float) -> None:
    x = (sample((32, 4, 6, 5)) + per_channel(torch.arange(1.0, 5.0), torch.empty(1, 4, 1, 1)) * ratio).float()
    expected = standardized(x.double(), (2, 3), 1e-5)
    y = InstanceNorm(4)(x.contiguous(memory_format=torch.channels_last))
    assert (y - expected).abs().max() <= 3e-6
