"""Batch-instance norm (arXiv 1805.07925) and switchable norm (arXiv 1806.10779)."""

import torch
from torch import Tensor, nn

from bncore.norm.batch_instance_norm import BatchInstanceNorm
from bncore.norm.switchable_norm import SwitchableNorm
from tests.bncore.norm.case import (
    SHAPES,
    Case,
    affine,
    batch_axes,
    batch_norm_statistics,
    per_channel,
    standardized,
)


def _batch_instance(layer: nn.Module, x: Tensor, by_batch: Tensor) -> Tensor:
    rho = per_channel(layer.gate, x)
    by_instance = standardized(x, tuple(range(2, x.dim())), layer.eps)
    return affine(layer, rho * by_batch + (1 - rho) * by_instance)


def _batch_instance_training(layer: nn.Module, x: Tensor) -> Tensor:
    return _batch_instance(layer, x, standardized(x, batch_axes(x), layer.eps))


def _batch_instance_evaluation(layer: nn.Module, x: Tensor) -> Tensor:
    by_batch = (x - per_channel(layer.running_mean, x)) / per_channel(layer.running_var + layer.eps, x) ** 0.5
    return _batch_instance(layer, x, by_batch)


def _between_the_ends(layer: nn.Module) -> None:
    layer.gate.copy_(torch.tensor([0.2, 0.9, 0.5, 0.7]))


def _switchable(layer: nn.Module, x: Tensor, batch_mean: Tensor, batch_var: Tensor) -> Tensor:
    means, variances = [], []
    for first in (2, 1):
        axes = tuple(range(first, x.dim()))
        mean = x.mean(axes, keepdim=True)
        means.append(mean)
        variances.append(((x - mean) ** 2).mean(axes, keepdim=True))
    mean = sum(share * one for share, one in zip(_shares(layer.mean_weight), [*means, batch_mean], strict=True))
    var = sum(share * one for share, one in zip(_shares(layer.var_weight), [*variances, batch_var], strict=True))
    return affine(layer, (x - mean) / (var + layer.eps) ** 0.5)


def _shares(logits: Tensor) -> list[Tensor]:
    return [logit.exp() / logits.exp().sum() for logit in logits]


def _switchable_training(layer: nn.Module, x: Tensor) -> Tensor:
    mean = x.mean(batch_axes(x), keepdim=True)
    return _switchable(layer, x, mean, ((x - mean) ** 2).mean(batch_axes(x), keepdim=True))


def _switchable_evaluation(layer: nn.Module, x: Tensor) -> Tensor:
    return _switchable(layer, x, per_channel(layer.running_mean, x), per_channel(layer.running_var, x))


CASES = [
    Case(
        "batch_instance_norm",
        lambda: BatchInstanceNorm(4),
        _batch_instance_training,
        _batch_instance_evaluation,
        batch_norm_statistics,
        _between_the_ends,
        shapes=SHAPES[1:],
        one_value="always refused",
        trains_exported=False,
    ),
    Case(
        "switchable_norm",
        lambda: SwitchableNorm(4),
        _switchable_training,
        _switchable_evaluation,
        batch_norm_statistics,
        shapes=SHAPES[1:],
        one_value="always refused",
    ),
]
