"""Random numbers that are a function of a seed and a step, for layers that add noise.

Invariant: nothing is drawn from a generator and nothing is read back from the device. Value i of a draw is computed
from (seed, step, stream, i) alone, in integer tensor operations below 2^63, so that it is the same on every device, in
a resumed run, compiled, under `torch.func.vmap` and when a forward pass runs again.

The construction is SplitMix (Steele, Lea and Flood 2014) with words of 32 bits: a draw walks in steps of an odd number
of its own from a start of its own, and a mixing function scrambles each position.
"""

import math
from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor

_WORD = 0xFFFFFFFF
# Stages of a mixing function found by search (Wellons, Hash Prospector). Both are below 2^31: no product overflows.
_FIRST, _SECOND = 0x21F0AAAD, 0x735A2D97
# Any two different words: the fractional digits of sqrt(2) and sqrt(3).
_START, _STRIDE = 0x6A09E667, 0xBB67AE85
_IN_CACHE = 2**16
"""Numbers computed at a time on a CPU: memory for all of a batch at each operation would cost several times as much."""

Word = TypeVar("Word", int, Tensor)


def signed_uniform(seed: int, step: Tensor, stream: int, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """Numbers from the uniform distribution on (-1, 1): odd multiples of 2^-24, so that float32 holds each exactly.

    Args:
        seed: from 0 to 2^64 - 1.
        step: () int64, at least 0.
        stream: tells draws of one step apart; from 0 to 2^32 - 1.
        shape: of the result; beyond 2^32 elements, they repeat.
        dtype: of the result; float32 or float64.
    """
    words = (seed & _WORD, seed >> 32, stream)
    start = _absorb(_START, words, step)
    stride = (_absorb(_STRIDE, words, step) >> 1) | 1
    count = 1
    for size in shape:
        count *= size
    if step.device.type != "cpu" or torch.compiler.is_compiling():
        # An exported program leaves open how many: nothing may be asked of the count.
        return _numbers(0, count, start, stride, dtype).view(tuple(shape))
    ends = [*range(_IN_CACHE, count, _IN_CACHE), count]
    parts = [_numbers(first, end, start, stride, dtype) for first, end in zip((0, *ends), ends, strict=False)]
    return (torch.cat(parts) if len(parts) > 1 else parts[0]).view(tuple(shape))


def normal(seed: int, step: Tensor, stream: int, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """Numbers from the standard normal distribution, by inversion of `signed_uniform`; none is beyond 5.5."""
    return torch.erfinv(signed_uniform(seed, step, stream, shape, dtype)) * math.sqrt(2.0)


def _numbers(first: int, end: int, start: Tensor, stride: Tensor, dtype: torch.dtype) -> Tensor:
    """The numbers from index `first` to before `end` of the walk."""
    position = (torch.arange(first, end, device=start.device) * stride + start) & _WORD
    return ((_mix(position) >> 7 | 1) - 2**24).to(dtype) * 2.0**-24


def _absorb(state: int, words: Sequence[int], step: Tensor) -> Tensor:
    """A word that depends on every bit of the words and of the step."""
    for word in words:
        state = _mix(state ^ word)
    low = _mix((step & _WORD) ^ state)
    return _mix((step >> 32) ^ low)


def _mix(word: Word) -> Word:
    """Scramble 32 bits; one to one."""
    word = word ^ (word >> 16)
    word = word * _FIRST & _WORD
    word = word ^ (word >> 15)
    word = word * _SECOND & _WORD
    return word ^ (word >> 15)
