"""Noisy batch norm: its reduction to batch norm, the distributions of its noise, and what the noise depends on."""

import copy
import pickle

import pytest
import torch
from torch import Tensor, nn

from bncore.norm.noisy_batch_norm import NoisyBatchNorm

QUIET = {"mean_range": 0.0, "std_range": 1.0, "mean_jitter": 0.0, "std_jitter": 0.0}


def batch(seed: int = 0, count: int = 6) -> Tensor:
    return torch.randn(count, 5, 4, 4, generator=torch.Generator().manual_seed(seed)) * 2 + 1


def noise(layer: NoisyBatchNorm, x: Tensor) -> tuple[Tensor, Tensor]:
    """The output, and what plain batch norm gives."""
    plain = nn.BatchNorm2d(5).to(x.dtype)
    plain.load_state_dict(layer.state_dict())
    return layer(x).detach(), plain(x).detach()


def test_without_noise_fifty_steps_are_those_of_torch_bit_for_bit() -> None:
    mine, theirs = NoisyBatchNorm(5, **QUIET), nn.BatchNorm2d(5)
    for step in range(50):
        for layer in (mine, theirs):
            layer.train(step % 10 != 9)
        x, other = batch(step).requires_grad_(), batch(step).requires_grad_()
        y, expected = mine(x), theirs(other)
        y.sin().sum().backward()
        expected.sin().sum().backward()
        assert torch.equal(y, expected)
        assert torch.equal(x.grad, other.grad)
    for name, value in theirs.state_dict().items():
        assert torch.equal(mine.state_dict()[name], value)


def test_the_running_statistics_and_evaluation_do_not_see_the_noise() -> None:
    mine, theirs = NoisyBatchNorm(5), nn.BatchNorm2d(5)
    for step in range(5):
        mine(batch(step))
        theirs(batch(step))
    for name, value in theirs.state_dict().items():
        assert torch.equal(mine.state_dict()[name], value)
    assert torch.equal(mine.eval()(batch()), theirs.eval()(batch()))


def test_the_noise_of_a_channel_is_one_scale_and_one_shift_that_are_new_each_step() -> None:
    layer = NoisyBatchNorm(5, mean_jitter=0.0, std_jitter=0.0).double()
    means, stds = [], []
    for step in range(400):
        y, expected = noise(layer, batch(step, 2).double())
        mean = y.mean((0, 2, 3))
        means.append(mean)
        stds.append(y.std((0, 2, 3)) / expected.std((0, 2, 3)))
        torch.testing.assert_close(y, expected * stds[-1].view(1, 5, 1, 1) + mean.view(1, 5, 1, 1))
    for values, low, high in ((torch.stack(means), -0.5, 0.5), (torch.stack(stds), 1.0, 1.25)):
        assert values.min() >= low
        assert values.max() <= high
        share = ((values - low) / (high - low)).flatten().sort().values
        # Kolmogorov and Smirnov's distance from the uniform distribution; beyond this once in a million.
        assert (share - torch.linspace(0, 1, 2000)).abs().max() < 2.7 / 2000**0.5
        assert abs(torch.corrcoef(values.T)[0, 1]) < 4 / 400**0.5
        assert abs(torch.corrcoef(torch.stack((values[1:, 0], values[:-1, 0])))[0, 1]) < 4 / 400**0.5


def test_the_noise_of_values_is_uniform_and_normal_about_that_of_their_channel() -> None:
    x = batch(count=500).double()
    y, expected = noise(NoisyBatchNorm(5, **QUIET | {"mean_jitter": 0.2}).double(), x)
    shift = (y - expected).flatten()
    assert shift.abs().max() <= 0.2
    assert abs(shift.mean()) < 4 * 0.2 / 3**0.5 / len(shift) ** 0.5
    assert shift.std().item() == pytest.approx(0.2 / 3**0.5, rel=0.02)
    y, expected = noise(NoisyBatchNorm(5, **QUIET | {"std_jitter": 0.3}).double(), x)
    scale = (y / expected).flatten()
    assert abs(scale.mean() - 1) < 4 * 0.3 / len(scale) ** 0.5
    assert scale.std().item() == pytest.approx(0.3, rel=0.02)
    assert ((scale - 1).abs() < 0.3).double().mean().item() == pytest.approx(0.6827, abs=0.01)


def test_it_comes_after_scale_and_shift() -> None:
    layer = NoisyBatchNorm(5)
    with torch.no_grad():
        layer.weight.zero_()
        layer.bias.zero_()
    assert layer(batch()).std() > 0.05


def test_a_run_resumed_from_a_state_draws_what_it_would_have_drawn() -> None:
    layer = NoisyBatchNorm(5, seed=3)
    for step in range(3):
        layer(batch(step))
    others = [NoisyBatchNorm(5, seed=3), copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))]
    others[0].load_state_dict(copy.deepcopy(layer.state_dict()))
    for step in range(3, 6):
        expected = layer(batch(step))
        for other in others:
            assert torch.equal(other(batch(step)), expected)


def test_the_noise_depends_on_seed_and_step_and_on_nothing_else() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first = NoisyBatchNorm(5, seed=1)(batch())
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(1)
    assert torch.equal(NoisyBatchNorm(5, seed=1)(batch()), first)
    for seed in (0, 2, 1 + 2**32, 1 + 2**63):
        assert (NoisyBatchNorm(5, seed=seed)(batch()) - first).abs().max() > 0.1
    last = NoisyBatchNorm(5, seed=1)(batch().to(memory_format=torch.channels_last))
    torch.testing.assert_close(last, first, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(
        NoisyBatchNorm(5, seed=1).double()(batch().double()).float(), first, rtol=1e-5, atol=1e-5
    )


def test_while_nothing_is_counted_the_noise_stands_still() -> None:
    layer = NoisyBatchNorm(5)
    layer.track_running_stats = False
    assert torch.equal(layer(batch()), layer(batch()))
    layer.track_running_stats = True
    assert not torch.equal(layer(batch()), layer(batch()))


@pytest.mark.parametrize(
    "options",
    [
        {"mean_range": -0.1},
        {"std_range": 0.9},
        {"mean_jitter": -1.0},
        {"std_jitter": -1.0},
        {"seed": -1},
        {"seed": 2**64},
    ],
    ids=str,
)
def test_noise_that_cannot_be_is_refused(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"must be"):
        NoisyBatchNorm(5, **options)
