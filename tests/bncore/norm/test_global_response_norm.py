"""Global response norm: where it starts, a case by hand, and channels or samples of zeros."""

import torch

from bncore.norm.global_response_norm import GlobalResponseNorm
from tests.bncore.norm.case import sample


def test_it_starts_as_the_identity() -> None:
    layer = GlobalResponseNorm(4)
    for shape in ((6, 4), (6, 4, 3), (6, 4, 3, 2)):
        x = sample(shape).float()
        assert torch.equal(layer(x), x)
    assert {name: one.numel() for name, one in layer.named_parameters()} == {"weight": 4, "bias": 4}


def test_two_channels_by_hand() -> None:
    layer = GlobalResponseNorm(2, eps=1.0)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([1.0, 2.0]))
        layer.bias.copy_(torch.tensor([0.5, -0.5]))
    # Norms 5 and 13, mean 9: shares 5 / 10 and 13 / 10.
    x = torch.tensor([[[3.0, 4.0], [12.0, -5.0]]])
    expected = torch.tensor([[[3.0 * 1.5 + 0.5, 4.0 * 1.5 + 0.5], [12.0 * 3.6 - 0.5, -5.0 * 3.6 - 0.5]]])
    torch.testing.assert_close(layer(x), expected)


def test_the_shares_of_a_sample_average_to_one() -> None:
    layer, x = GlobalResponseNorm(4, eps=1e-30).double(), sample((5, 4, 3, 2))
    torch.nn.init.ones_(layer.weight)
    share = (layer(x) - x) / x
    torch.testing.assert_close(share.mean((1, 2, 3)), torch.ones(5, dtype=torch.float64))
    assert (share.amax((2, 3)) - share.amin((2, 3))).abs().max() <= 1e-9


def test_zeros_stay_zero_and_have_finite_derivatives() -> None:
    layer = GlobalResponseNorm(4).double()
    torch.nn.init.ones_(layer.weight)
    for x in (torch.zeros(2, 4, 3, dtype=torch.float64), sample((2, 4, 3))):
        x[:, 1] = 0
        x.requires_grad_()
        y = layer(x)
        assert (y[:, 1] == 0).all()
        (first,) = torch.autograd.grad(y.sin().sum(), x, create_graph=True)
        (second,) = torch.autograd.grad(first.cos().sum(), x)
        assert first.isfinite().all()
        assert second.isfinite().all()
