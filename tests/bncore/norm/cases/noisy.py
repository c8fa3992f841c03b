"""Noisy batch norm and its noise alone (arXiv 1805.11604, appendix A.2.1)."""

from statistics import NormalDist

import torch
from torch import Tensor, nn

from bncore.norm.noise import Noise
from bncore.norm.noisy_batch_norm import NoisyBatchNorm
from tests.bncore.norm.case import (
    Case,
    affine,
    batch_axes,
    batch_norm_evaluation,
    batch_norm_statistics,
    per_channel,
    standardized,
)

WORD = 2**32


def mixed(word: int) -> int:
    """The generator's mixing function in plain integers."""
    for shift, factor in ((16, 0x21F0AAAD), (15, 0x735A2D97)):
        word = (word ^ word >> shift) * factor % WORD
    return word ^ word >> 15


def drawn(seed: int, step: int, stream: int, count: int) -> list[float]:
    """The generator's numbers in (-1, 1), in plain integers."""
    start, stride = 0x6A09E667, 0xBB67AE85
    for word in (seed % WORD, seed // WORD, stream, step % WORD, step // WORD):
        start, stride = mixed(start ^ word), mixed(stride ^ word)
    words = [mixed((start + i * (stride // 2 | 1)) % WORD) for i in range(count)]
    return [(2 * (word // 2**8) + 1) / 2**24 - 1 for word in words]


def _noised(layer: nn.Module, x: Tensor, step: int) -> Tensor:
    channels, values = x.shape[1], x.numel()
    mean = torch.tensor(drawn(layer.seed, step, 0, channels), dtype=torch.float64) * layer.mean_range
    share = torch.tensor(drawn(layer.seed, step, 1, channels), dtype=torch.float64) / 2 + 0.5
    std = 1 + (layer.std_range - 1) * share
    uniform = torch.tensor(drawn(layer.seed, step, 2, values), dtype=torch.float64).view(x.shape)
    normal = [NormalDist().inv_cdf((one + 1) / 2) for one in drawn(layer.seed, step, 3, values)]
    m = per_channel(mean, x) + layer.mean_jitter * uniform
    s = per_channel(std, x) + layer.std_jitter * torch.tensor(normal, dtype=torch.float64).view(x.shape)
    return x * s + m


def _noisy(layer: nn.Module, x: Tensor) -> Tensor:
    y = affine(layer, standardized(x, batch_axes(x), layer.eps))
    return _noised(layer, y, int(layer.num_batches_tracked))


def _noise(layer: nn.Module, x: Tensor) -> Tensor:
    return _noised(layer, x, int(layer.steps_seen))


def _same(_layer: nn.Module, x: Tensor) -> Tensor:
    return x


def _one_more(layer: nn.Module, _x: Tensor) -> dict[str, Tensor]:
    return {"steps_seen": layer.steps_seen + 1}


def _see_steps(layer: nn.Module) -> None:
    layer.steps_seen.fill_(3)


def _see_batches(layer: nn.Module) -> None:
    layer.num_batches_tracked.fill_(3)


CASES = [
    Case(
        "noisy_batch_norm",
        lambda: NoisyBatchNorm(4, seed=2**40 + 17),
        _noisy,
        batch_norm_evaluation,
        batch_norm_statistics,
        _see_batches,
        loads_into_torch=True,
        permutes=False,
    ),
    Case(
        "noise",
        lambda: Noise(4, seed=2**40 + 17),
        _noise,
        _same,
        _one_more,
        _see_steps,
        permutes=False,
        ignores_offset=False,
        large_mean=False,
        one_value="allowed",
    ),
]
