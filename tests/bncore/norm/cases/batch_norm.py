"""Batch norm (arXiv 1502.03167) and batch renorm (arXiv 1702.03275)."""

import torch
from torch import Tensor, nn

from bncore.norm import BatchNorm, BatchRenorm
from tests.bncore.norm.case import (
    Case,
    affine,
    batch_axes,
    batch_norm_evaluation,
    batch_norm_statistics,
    per_channel,
    standardized,
)


def _batch_norm(layer: nn.Module, x: Tensor) -> Tensor:
    return affine(layer, standardized(x, batch_axes(x), layer.eps))


def _batch_renorm(layer: nn.Module, x: Tensor) -> Tensor:
    mean = x.detach().mean(batch_axes(x))
    sigma_batch = (x.detach().var(batch_axes(x), correction=0) + layer.eps).sqrt()
    sigma = (layer.running_var + layer.eps).sqrt()
    r = (sigma_batch / sigma).clamp(1 / layer.r_max, layer.r_max)
    d = ((mean - layer.running_mean) / sigma).clamp(-layer.d_max, layer.d_max)
    return affine(layer, standardized(x, batch_axes(x), layer.eps) * per_channel(r, x) + per_channel(d, x))


def _batch_renorm_statistics(layer: nn.Module, x: Tensor) -> dict[str, Tensor]:
    sigma_batch = (x.var(batch_axes(x), correction=0) + layer.eps).sqrt()
    sigma = (layer.running_var + layer.eps).sqrt()
    sigma = sigma + layer.momentum * (sigma_batch - sigma)
    mean = layer.running_mean + layer.momentum * (x.mean(batch_axes(x)) - layer.running_mean)
    return {
        "running_mean": mean,
        "running_var": sigma**2 - layer.eps,
        "num_batches_tracked": layer.num_batches_tracked + 1,
    }


def _see_batches(layer: nn.Module) -> None:
    assert isinstance(layer.num_batches_tracked, torch.Tensor)
    layer.num_batches_tracked.fill_(3)


CASES = [
    Case(
        "batch_norm",
        lambda: BatchNorm(4),
        _batch_norm,
        batch_norm_evaluation,
        batch_norm_statistics,
        loads_into_torch=True,
        ignores_scale=True,
    ),
    Case(
        "batch_norm, cumulative",
        lambda: BatchNorm(4, momentum=None),
        _batch_norm,
        batch_norm_evaluation,
        batch_norm_statistics,
        _see_batches,
        loads_into_torch=True,
        ignores_scale=True,
    ),
    Case(
        "batch_renorm within bounds",
        lambda: BatchRenorm(4, r_max=50.0, d_max=50.0, warmup_steps=0),
        _batch_renorm,
        batch_norm_evaluation,
        _batch_renorm_statistics,
        loads_into_torch=True,
        ignores_offset=False,
    ),
    Case(
        "batch_renorm at its bounds",
        lambda: BatchRenorm(4, r_max=1.1, d_max=0.2, warmup_steps=0),
        _batch_renorm,
        batch_norm_evaluation,
        _batch_renorm_statistics,
        loads_into_torch=True,
        ignores_offset=False,
    ),
]
