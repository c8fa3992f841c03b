"""Masked batch norm: the moments of arXiv 1502.03167, algorithm 1, over the valid positions alone."""

import torch
from torch import Tensor, nn

from bncore.norm.masked_batch_norm import MaskedBatchNorm
from tests.bncore.norm.case import (
    Case,
    affine,
    batch_axes,
    batch_norm_evaluation,
    batch_norm_statistics,
    standardized,
)


class Padded(MaskedBatchNorm):
    """The layer with one mask for all batches of a shape, for tests that call it with a batch alone."""

    def forward(self, x: Tensor, mask: Tensor | None = None, lengths: Tensor | None = None) -> Tensor:
        return super().forward(x, pattern(x) if x.dim() > 1 else None)


def pattern(x: Tensor) -> Tensor:
    """Three of five positions are valid, in no order; shape (N, ...) without the channel axis."""
    positions = torch.arange(x[:, 0].numel(), device="cpu" if x.is_meta else x.device)
    return ((positions * 7 + 1) % 5 < 3).view(x[:, 0].shape).to(x.device)


def _plain(layer: nn.Module, x: Tensor) -> Tensor:
    return affine(layer, standardized(x, batch_axes(x), layer.eps))


def _masked(layer: nn.Module, x: Tensor) -> Tensor:
    valid = pattern(x).unsqueeze(1).to(x.dtype)
    count = valid.sum()
    mean = (x * valid).sum(batch_axes(x), keepdim=True) / count
    var = ((x - mean) ** 2 * valid).sum(batch_axes(x), keepdim=True) / count
    return affine(layer, (x - mean) / (var + layer.eps) ** 0.5) * valid


def _masked_evaluation(layer: nn.Module, x: Tensor) -> Tensor:
    return batch_norm_evaluation(layer, x) * pattern(x).unsqueeze(1).to(x.dtype)


def _masked_statistics(layer: nn.Module, x: Tensor) -> dict[str, Tensor]:
    packed = x.movedim(1, -1)[pattern(x)]
    return batch_norm_statistics(layer, packed)


CASES = [
    Case(
        "masked_batch_norm",
        lambda: MaskedBatchNorm(4),
        _plain,
        batch_norm_evaluation,
        batch_norm_statistics,
        loads_into_torch=True,
        ignores_scale=True,
    ),
    Case(
        "masked_batch_norm, padded",
        lambda: Padded(4),
        _masked,
        _masked_evaluation,
        _masked_statistics,
        # The mask stays where it is when the samples move.
        permutes=False,
        # Padding is 0 in the output, which no batch norm of torch makes it.
        loads_into_torch=False,
    ),
]
