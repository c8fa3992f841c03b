"""Synchronized batch norm in one process: batch norm (arXiv 1502.03167). For several see `test_sync_batch_norm.py`."""

from torch import Tensor, nn

from bncore.norm.sync_batch_norm import SyncBatchNorm
from tests.bncore.norm.case import (
    Case,
    affine,
    batch_axes,
    batch_norm_evaluation,
    batch_norm_statistics,
    standardized,
)


def _batch_norm(layer: nn.Module, x: Tensor) -> Tensor:
    return affine(layer, standardized(x, batch_axes(x), layer.eps))


CASES = [
    Case(
        "sync_batch_norm",
        lambda: SyncBatchNorm(4),
        _batch_norm,
        batch_norm_evaluation,
        batch_norm_statistics,
        loads_into_torch=True,
        ignores_scale=True,
    ),
]
