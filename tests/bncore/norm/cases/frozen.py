"""Frozen batch norm: evaluation of batch norm (arXiv 1502.03167), always."""

import torch
from torch import Tensor, nn

from bncore.norm.frozen_batch_norm import FrozenBatchNorm
from tests.bncore.norm.case import Case, batch_norm_evaluation


def _unchanged(layer: nn.Module, x: Tensor) -> dict[str, Tensor]:
    return {name: buffer.clone() for name, buffer in layer.named_buffers()}


def _set_affine(layer: nn.Module) -> None:
    layer.weight.copy_(torch.tensor([0.7, -1.2, 1.9, 0.4]))
    layer.bias.copy_(torch.tensor([-0.3, 0.8, 0.1, -1.1]))


CASES = [
    Case(
        "frozen_batch_norm",
        lambda: FrozenBatchNorm(4),
        batch_norm_evaluation,
        batch_norm_evaluation,
        _unchanged,
        _set_affine,
        loads_into_torch=True,
        ignores_offset=False,
        one_value="allowed",
    ),
]
