"""Instance norm (arXiv 1607.08022)."""

from torch import Tensor, nn

from bncore.norm.instance_norm import InstanceNorm
from tests.bncore.norm.case import SHAPES, Case, affine, standardized


def _instance_norm(layer: nn.Module, x: Tensor) -> Tensor:
    return affine(layer, standardized(x, tuple(range(2, x.dim())), layer.eps))


CASES = [
    Case(
        "instance_norm",
        lambda: InstanceNorm(4),
        _instance_norm,
        shapes=SHAPES[1:],
        rival=lambda: nn.InstanceNorm1d(4),
        one_value="always refused",
    )
]
