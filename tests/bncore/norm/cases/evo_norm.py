"""EvoNorm-B0 and EvoNorm-S0 (arXiv 2004.02967)."""

import torch
from torch import Tensor, nn

from bncore.norm.evo_norm import EvoNormB0, EvoNormS0
from tests.bncore.norm.case import Case, affine, batch_axes, batch_norm_statistics, per_channel


def _deviation(x: Tensor, axes: tuple[int, ...], eps: float) -> Tensor:
    mean = x.mean(axes, keepdim=True)
    return (((x - mean) ** 2).mean(axes, keepdim=True) + eps) ** 0.5


def _b0(layer: nn.Module, x: Tensor, batch: Tensor) -> Tensor:
    instance = per_channel(layer.v, x) * x + _deviation(x[:, :, None], tuple(range(2, x.dim() + 1)), layer.eps)[:, :, 0]
    return affine(layer, x / torch.where(instance > batch, instance, batch))


def _b0_training(layer: nn.Module, x: Tensor) -> Tensor:
    return _b0(layer, x, _deviation(x, batch_axes(x), layer.eps))


def _b0_evaluation(layer: nn.Module, x: Tensor) -> Tensor:
    return _b0(layer, x, per_channel(layer.running_var + layer.eps, x) ** 0.5)


def _s0(layer: nn.Module, x: Tensor) -> Tensor:
    grouped = x.reshape(x.shape[0], 2, 2, *x.shape[2:])
    group = _deviation(grouped, tuple(range(2, grouped.dim())), layer.eps)
    swish = x / (1 + (-per_channel(layer.v, x) * x).exp())
    return affine(layer, (swish.reshape(grouped.shape) / group).reshape(x.shape))


CASES = [
    Case(
        "evo_norm_b0",
        lambda: EvoNormB0(4),
        _b0_training,
        _b0_evaluation,
        batch_norm_statistics,
        ignores_offset=False,
        large_mean=False,
    ),
    Case(
        "evo_norm_s0",
        lambda: EvoNormS0(4, num_groups=2),
        _s0,
        ignores_offset=False,
        large_mean=False,
        one_value="allowed",
    ),
]
