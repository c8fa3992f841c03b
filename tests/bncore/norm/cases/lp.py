"""Lp batch norm (arXiv 1805.11604, section 3.3) and L1 batch norm (arXiv 1803.01814)."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from bncore.norm.l1_batch_norm import L1BatchNorm
from bncore.norm.lp_batch_norm import LpBatchNorm
from tests.bncore.norm.case import Case, Oracle, affine, batch_axes, batch_norm_evaluation, per_channel

Norm = Callable[[Tensor], Tensor]
"""From the values of one channel to their norm."""


def norms(x: Tensor, norm: Norm) -> Tensor:
    return torch.stack([norm(x[:, channel].flatten()) for channel in range(x.shape[1])])


def divided_by(norm: Norm) -> Oracle:
    def run(layer: nn.Module, x: Tensor) -> Tensor:
        centred = x - per_channel(x.mean(batch_axes(x)), x)
        return affine(layer, centred / per_channel((norms(x, norm) ** 2 + layer.eps) ** 0.5, x))

    return run


def averaged(norm: Norm) -> Callable[[nn.Module, Tensor], dict[str, Tensor]]:
    def run(layer: nn.Module, x: Tensor) -> dict[str, Tensor]:
        return {
            "running_mean": 0.9 * layer.running_mean + 0.1 * x.mean(batch_axes(x)),
            "running_var": (0.9 * layer.running_var**0.5 + 0.1 * norms(x, norm)) ** 2,
            "num_batches_tracked": layer.num_batches_tracked + 1,
        }

    return run


NORMS: dict[float, Norm] = {
    1: lambda values: values.abs().sum() / values.numel(),
    2: lambda values: (values @ values / values.numel()) ** 0.5,
    math.inf: lambda values: torch.maximum(values.amax(), -values.amin()),
}


def _deviation(values: Tensor) -> Tensor:
    return (math.pi / 2) ** 0.5 * (values - values.mean()).abs().sum() / values.numel()


CASES = [
    *(
        Case(
            f"lp_batch_norm, p={p}",
            lambda p=p: LpBatchNorm(4, p=p),
            divided_by(norm),
            batch_norm_evaluation,
            averaged(norm),
            loads_into_torch=True,
            ignores_offset=False,
        )
        for p, norm in NORMS.items()
    ),
    Case(
        "l1_batch_norm",
        lambda: L1BatchNorm(4),
        divided_by(_deviation),
        batch_norm_evaluation,
        averaged(_deviation),
        loads_into_torch=True,
        ignores_scale=True,
    ),
]
