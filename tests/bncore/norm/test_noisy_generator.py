"""The generator of noise: its distributions, no trace of one draw in another, and the same numbers wherever it runs."""

import math

import pytest
import torch
from torch import Tensor

from bncore.norm import _noise
from bncore.norm._noise import normal, signed_uniform
from tests.bncore.norm.cases.noisy import drawn

COUNT = 2**17
KEYS = [(0, 0, 0), (0, 1, 0), (1, 0, 0), (0, 0, 1), (2**64 - 1, 2**40, 3)]
keys = pytest.mark.parametrize("key", KEYS, ids=str)


def uniform(key: tuple[int, int, int], count: int = COUNT, dtype: torch.dtype = torch.float64) -> Tensor:
    seed, step, stream = key
    return signed_uniform(seed, torch.tensor(step), stream, (count,), dtype)


def integers(values: Tensor) -> Tensor:
    """The 24 random bits of each number."""
    return ((values * 2**24 + 2**24 - 1) / 2).long()


def beyond(share: float) -> float:
    """The number of standard deviations that this share of normally distributed values exceeds, on both sides."""
    return math.sqrt(2) * torch.erfinv(torch.tensor(1 - share, dtype=torch.float64)).item()


@keys
def test_they_are_those_of_the_same_construction_in_plain_integers(key: tuple[int, int, int]) -> None:
    assert uniform(key, 300).tolist() == drawn(*key, 300)


def test_they_stay_the_same_from_release_to_release() -> None:
    # A resumed run relies on that.
    assert integers(uniform((0, 0, 0), 4)).tolist() == [834269, 9942077, 8198321, 14903791]


@keys
def test_they_are_uniform(key: tuple[int, int, int]) -> None:
    values = uniform(key)
    assert values.abs().max() < 1
    share = (values.sort().values + 1) / 2
    assert (share - (torch.arange(COUNT) + 0.5) / COUNT).abs().max() < 2.7 / COUNT**0.5
    for power in range(1, 7):
        exact = 0.0 if power % 2 else 1 / (power + 1)
        deviation = (1 / (2 * power + 1) - exact**2) ** 0.5
        assert abs((values**power).mean() - exact) < 5 * deviation / COUNT**0.5
    bits = (integers(values).unsqueeze(1) >> torch.arange(24) & 1).double()
    assert (bits.mean(0) - 0.5).abs().max() < 0.5 * beyond(1e-6) / COUNT**0.5
    # No two bits agree or differ more often than half the time.
    together = torch.corrcoef(bits.T) - torch.eye(24)
    assert together.abs().max() < beyond(1e-7) / COUNT**0.5


@keys
def test_pairs_of_neighbours_fill_the_square_evenly(key: tuple[int, int, int]) -> None:
    cells = integers(uniform(key)).view(-1, 2) >> 19
    counts = torch.bincount(cells[:, 0] * 32 + cells[:, 1], minlength=1024).double()
    chi_squared = ((counts - COUNT / 2048).square() / (COUNT / 2048)).sum()
    assert abs(chi_squared - 1023) < 5 * (2 * 1023) ** 0.5


@keys
def test_none_is_correlated_with_another_at_any_distance(key: tuple[int, int, int]) -> None:
    spectrum = torch.fft.fft(uniform(key) * 3**0.5)
    distances = torch.fft.ifft(spectrum.abs().square()).real / COUNT
    assert distances[0].item() == pytest.approx(1.0, abs=0.01)
    assert distances[1:].abs().max() < beyond(1e-7 / COUNT) / COUNT**0.5


@pytest.mark.parametrize("other", [(0, 1, 0), (0, 2, 0), (0, 2**32, 0), (1, 0, 0), (2**32, 0, 0), (0, 0, 1)], ids=str)
def test_no_draw_is_another_one_moved(other: tuple[int, int, int]) -> None:
    first, second = (torch.fft.fft(uniform(key) * 3**0.5) for key in ((0, 0, 0), other))
    distances = torch.fft.ifft(first * second.conj()).real / COUNT
    assert distances.abs().max() < beyond(1e-7 / COUNT) / COUNT**0.5


def test_no_two_steps_draw_the_same() -> None:
    steps = torch.cat((torch.arange(100_000), 2**32 * torch.arange(1, 1000)))
    rows = torch.func.vmap(lambda step: signed_uniform(5, step, 2, (3,), torch.float64))(steps)
    assert torch.equal(rows[7], signed_uniform(5, torch.tensor(7), 2, (3,), torch.float64))
    assert len(rows.unique(dim=0)) == len(steps)
    # And the first numbers of successive steps are as random as those of one step.
    assert rows.mean(0).abs().max() < 4 * 3**-0.5 / len(steps) ** 0.5
    assert (torch.corrcoef(rows.T) - torch.eye(3)).abs().max() < 4 / len(steps) ** 0.5
    assert abs(torch.corrcoef(torch.stack((rows[1:, 0], rows[:-1, 0])))[0, 1]) < 4 / len(steps) ** 0.5


def test_each_bit_of_seed_step_and_stream_changes_half_of_the_bits() -> None:
    count = 2000
    reference = integers(uniform((0, 0, 0), count))
    flipped = [(1 << bit, 0, 0) for bit in range(64)]
    flipped += [(0, 1 << bit, 0) for bit in range(63)] + [(0, 0, 1 << bit) for bit in range(32)]
    for key in flipped:
        changed = (integers(uniform(key, count)) ^ reference).unsqueeze(1) >> torch.arange(24) & 1
        assert abs(changed.double().mean().item() - 0.5) < 0.5 * beyond(1e-7) / (24 * count) ** 0.5, key


@keys
def test_normal_ones_are_normal(key: tuple[int, int, int]) -> None:
    seed, step, stream = key
    values = normal(seed, torch.tensor(step), stream, (COUNT,), torch.float64)
    share = torch.special.ndtr(values.sort().values)
    assert (share - (torch.arange(COUNT) + 0.5) / COUNT).abs().max() < 2.7 / COUNT**0.5
    for power, exact, square in ((1, 0, 1), (2, 1, 3), (3, 0, 15), (4, 3, 105)):
        assert abs((values**power).mean() - exact) < 5 * (square - exact**2) ** 0.5 / COUNT**0.5
    assert 4.0 < values.abs().max() < 5.5


def test_the_most_extreme_normal_one_is_finite_in_single_precision() -> None:
    extreme = torch.tensor([1 - 2**-24, 2**-24 - 1], dtype=torch.float32)
    assert (torch.erfinv(extreme) * 2**0.5).abs().max() < 5.5


@keys
def test_precision_and_shape_do_not_change_them(key: tuple[int, int, int]) -> None:
    seed, step, stream = key
    # More than are computed at a time.
    count = 2 * _noise._IN_CACHE + 3
    wide = uniform(key, count)
    assert torch.equal(uniform(key, count, torch.float32).double(), wide)
    assert torch.equal(uniform(key, 70_000), wide[:70_000])
    shaped = signed_uniform(seed, torch.tensor(step), stream, (2, 3, 5), torch.float64)
    assert torch.equal(shaped.flatten(), wide[:30])
    assert uniform(key, 0).shape == (0,)


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_compiled_they_are_the_same() -> None:
    compiled = torch.compile(signed_uniform, backend="aot_eager_decomp_partition", fullgraph=True)
    count = _noise._IN_CACHE + 3
    for step in (0, 2**40):
        eager = signed_uniform(9, torch.tensor(step), 1, (count,), torch.float32)
        assert torch.equal(compiled(9, torch.tensor(step), 1, (count,), torch.float32), eager)
