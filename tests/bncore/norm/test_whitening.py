"""What both whitening layers keep to: groups, covariances of the output, autocast, state and refusals."""

import pytest
import torch
from torch import Tensor, nn

from bncore.norm import BatchNorm
from bncore.norm.decorrelated_batch_norm import DecorrelatedBatchNorm
from bncore.norm.iter_norm import IterNorm
from tests.bncore.norm.cases.whitening import covariance

LAYERS = [DecorrelatedBatchNorm, IterNorm]


def correlated(values: int, condition: float, channels: int = 8, seed: int = 0) -> Tensor:
    """A batch (values, channels) whose covariance has eigenvalues from 1 down to 1 / condition, evenly in logarithm."""
    generator = torch.Generator().manual_seed(seed)
    raw = torch.randn(values, channels, generator=generator, dtype=torch.float64)
    white, _ = torch.linalg.qr(raw - raw.mean(0))
    rotation, _ = torch.linalg.qr(torch.randn(channels, channels, generator=generator, dtype=torch.float64))
    spectrum = torch.logspace(0, -1, channels, base=condition, dtype=torch.float64)
    return white * values**0.5 @ torch.diag(spectrum.sqrt()) @ rotation.T + 3.0


def images(seed: int = 0, channels: int = 6) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(channels, channels, generator=generator, dtype=torch.float64)
    return torch.einsum("dc,nchw->ndhw", mix, torch.randn(5, channels, 4, 3, generator=generator, dtype=torch.float64))


@pytest.mark.parametrize("layer", LAYERS)
def test_groups_are_layers_of_their_own(layer: type) -> None:
    whole = layer(6, num_groups=3).double()
    parts = [layer(2).double() for _ in range(3)]
    for step in range(3):
        x = images(step).requires_grad_()
        pieces = [piece.detach().requires_grad_() for piece in x.split(2, dim=1)]
        y = whole(x)
        expected = torch.cat([part(piece) for part, piece in zip(parts, pieces, strict=True)], dim=1)
        torch.testing.assert_close(y, expected, rtol=1e-12, atol=1e-12)
        y.sin().sum().backward()
        expected.sin().sum().backward()
        torch.testing.assert_close(x.grad, torch.cat([piece.grad for piece in pieces], dim=1), rtol=1e-10, atol=1e-12)
    expected = torch.cat([part.eval()(piece) for part, piece in zip(parts, images(9).split(2, dim=1), strict=True)], 1)
    torch.testing.assert_close(whole.eval()(images(9)), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("layer", LAYERS)
def test_groups_of_one_channel_train_like_batch_norm(layer: type) -> None:
    whitening, plain = layer(6, num_groups=6).double(), BatchNorm(6).double()
    plain.eps = whitening.eps
    for step in range(50):
        x, other = images(step).requires_grad_(), images(step).requires_grad_()
        y, expected = whitening(x), plain(other)
        torch.testing.assert_close(y, expected, rtol=1e-11, atol=1e-11)
        y.sin().sum().backward()
        expected.sin().sum().backward()
        torch.testing.assert_close(x.grad, other.grad, rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(whitening.running_mean, plain.running_mean, rtol=1e-12, atol=1e-12)
    assert whitening.num_batches_tracked == plain.num_batches_tracked
    if isinstance(whitening, DecorrelatedBatchNorm):
        torch.testing.assert_close(whitening.running_covariance.flatten(), plain.running_var, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(whitening.eval()(x), plain.eval()(x), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("scale", [3.7, -0.2])
def test_scale_and_offset_of_all_input_do_not_matter(layer: type, scale: float) -> None:
    whitening = layer(6, num_groups=2, eps=1e-30).double()
    expected = whitening(images())
    sign = 1.0 if scale > 0 else -1.0
    torch.testing.assert_close(whitening(scale * images() + 2.5), sign * expected, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("layer", LAYERS)
def test_the_gradient_sums_to_zero_and_is_orthogonal_to_the_centred_input_of_a_group(layer: type) -> None:
    whitening = layer(6, num_groups=2, eps=1e-30).double()
    x = images().requires_grad_()
    (whitening(x) * images(5)).sum().backward()
    assert x.grad is not None
    assert x.grad.sum((0, 2, 3)).abs().max() <= 1e-10
    along = (x.grad * (x - x.mean((0, 2, 3), keepdim=True))).detach().unflatten(1, (2, 3)).sum((0, 2, 3, 4))
    assert along.abs().max() <= 1e-10


@pytest.mark.parametrize("layer", LAYERS)
def test_fewer_values_than_channels_stay_bounded(layer: type) -> None:
    whitening = layer(8).train()
    x = correlated(64, 10.0)[:4].float().requires_grad_()
    y = whitening(x)
    y.sin().sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()
    # A batch of four spans three directions: eigenvalues at most 1 there, and 0 elsewhere.
    assert torch.linalg.eigvalsh(covariance(y.detach().double(), 1)[0])[-1] <= 1.0 + 1e-3
    assert whitening.eval()(x).isfinite().all()


@pytest.mark.parametrize("layer", LAYERS)
def test_autocast_takes_no_digits_from_the_statistics(layer: type) -> None:
    plain, cast = layer(8).train(), layer(8).train()
    x = correlated(64, 100.0).float()
    expected = plain(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = cast(x)
    torch.testing.assert_close(y, expected, rtol=0, atol=0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = cast.eval()(x)
    torch.testing.assert_close(y, plain.eval()(x), rtol=0, atol=0)


@pytest.mark.parametrize("layer", LAYERS)
def test_momentum_none_averages_all_batches_equally(layer: type) -> None:
    whitening = layer(6, momentum=None).double()
    single = [layer(6, momentum=1.0).double() for _ in range(4)]
    for step, one in enumerate(single):
        whitening(images(step))
        one(images(step))
    for name, value in whitening.named_buffers():
        if value.is_floating_point():
            torch.testing.assert_close(value, torch.stack([one.get_buffer(name) for one in single]).mean(0))


@pytest.mark.parametrize("layer", LAYERS)
def test_a_spoilt_channel_leaves_its_own_group_alone_and_nothing_else(layer: type) -> None:
    whitening = layer(6, num_groups=2, nan_guard=True).double()
    whitening(images(0))
    before = {name: value.clone() for name, value in whitening.named_buffers()}
    x = images(1)
    x[0, 1] = float("nan")
    y = whitening(x)
    assert y[:, :3].isnan().all()
    assert y[:, 3:].isfinite().all()
    for name, value in whitening.named_buffers():
        if value.is_floating_point():
            groups, previous = value.view(2, -1), before[name].view(2, -1)
            assert torch.equal(groups[0], previous[0])
            assert not torch.isclose(groups[1], previous[1]).any()


@pytest.mark.parametrize("layer", LAYERS)
def test_a_second_backward_through_a_kept_graph_gives_the_same(layer: type) -> None:
    x = images().requires_grad_()
    loss = layer(6, num_groups=2).double()(x).sin().sum()
    (first,) = torch.autograd.grad(loss, x, retain_graph=True)
    (second,) = torch.autograd.grad(loss, x)
    torch.testing.assert_close(first, second, rtol=0, atol=0)


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("groups", [4, 0, -1])
def test_groups_that_do_not_divide_the_channels_are_refused(layer: type, groups: int) -> None:
    with pytest.raises(ValueError, match="do not divide 6 channels"):
        layer(6, num_groups=groups)


@pytest.mark.parametrize(("layer", "matrix"), [(DecorrelatedBatchNorm, "covariance"), (IterNorm, "projection")])
def test_its_keys_are_its_own(layer: type, matrix: str) -> None:
    state = layer(6, num_groups=3).state_dict()
    assert set(state) == {"weight", "bias", "running_mean", f"running_{matrix}", "num_batches_tracked"}
    assert torch.equal(state[f"running_{matrix}"], torch.eye(2).expand(3, 2, 2))
    with pytest.raises(RuntimeError, match="Missing key"):
        nn.BatchNorm2d(6).load_state_dict(state)
