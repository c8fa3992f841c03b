"""Moments over the sequences that are still running, in shapes that do not depend on how many those are.

Padding never enters: it is replaced before it is summed, so that not even NaN in it reaches a result or a gradient.
"""

import torch
from torch import Tensor


def check_lengths(lengths: object, sequences: int) -> None:
    """Raise ValueError unless `lengths` are whole numbers on a device, one for each sequence."""
    if not isinstance(lengths, Tensor):
        raise ValueError(f"lengths must be a tensor of whole numbers, got {type(lengths).__name__}")
    if lengths.is_floating_point() or lengths.dtype == torch.bool or lengths.shape != (sequences,):
        got = f"{lengths.dtype} of size {tuple(lengths.shape)}"
        raise ValueError(f"expected {sequences} lengths, which are whole numbers; {got} do not fit")


def check_valid(valid: Tensor | None, shape: tuple[int, ...]) -> None:
    """Raise ValueError unless `valid` is bool of this shape, or None."""
    if valid is not None and (valid.dtype != torch.bool or tuple(valid.shape) != shape):
        raise ValueError(f"valid is bool of shape {shape}, got {valid.dtype} of shape {tuple(valid.shape)}")


def valid_steps(lengths: Tensor, steps: int) -> Tensor:
    """Whether sequence n of `lengths` (N,) has a step t: (T, N)."""
    return torch.arange(steps, device=lengths.device).unsqueeze(1) < lengths.unsqueeze(0)


def without_padding(x: Tensor, valid: Tensor | None) -> Tensor:
    """`x` (..., C) with zeros where `valid` (...) is False."""
    return x if valid is None else torch.where(valid.unsqueeze(-1), x, torch.zeros((), dtype=x.dtype, device=x.device))


def masked_moments(x: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor]:
    """Mean and biased variance (T, C) of each step of `x` (T, N, C) over the sequences that are `valid` (T, N) there.

    The variance is taken of centred values. A step with no valid sequence has mean and variance 0.
    """
    if valid is None:
        mean = x.mean(1)
        return mean, (x - mean.unsqueeze(1)).square().mean(1)
    share = valid.sum(1, keepdim=True).clamp_min(1).to(x.dtype).reciprocal()
    mean = without_padding(x, valid).sum(1) * share
    return mean, without_padding(x - mean.unsqueeze(1), valid).square().sum(1) * share


def pool(mean: Tensor, var: Tensor, count: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The moments (1, C), and the count (1, 1), of all values together of which the rows of (T, C), (T, 1) have theirs.

    The law of total variance: Chan, Golub, LeVeque 1979, eq. 2.1, for T sets at once.
    """
    total = count.sum(0, keepdim=True)
    share = count / total.clamp_min(1)
    middle = (share * mean).sum(0, keepdim=True)
    return middle, (share * (var + (mean - middle).square())).sum(0, keepdim=True), total
