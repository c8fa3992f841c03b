"""Layer norm (arXiv 1607.06450) and group norm (arXiv 1803.08494)."""

from torch import Tensor, nn

from bncore.norm.group_norm import GroupNorm
from bncore.norm.layer_norm import LayerNorm
from tests.bncore.norm.case import Case, affine, standardized


def _layer_norm(layer: nn.Module, x: Tensor) -> Tensor:
    return affine(layer, standardized(x, tuple(range(1, x.dim())), layer.eps))


def _group_norm(layer: nn.Module, x: Tensor) -> Tensor:
    grouped = x.reshape(x.shape[0], 2, 2, *x.shape[2:])
    return affine(layer, standardized(grouped, tuple(range(2, grouped.dim())), layer.eps).reshape(x.shape))


CASES = [
    Case("layer_norm", lambda: LayerNorm(4), _layer_norm, rival=lambda: nn.GroupNorm(1, 4), one_value="allowed"),
    Case(
        "group_norm",
        lambda: GroupNorm(4, num_groups=2),
        _group_norm,
        rival=lambda: nn.GroupNorm(2, 4),
        one_value="allowed",
    ),
]
