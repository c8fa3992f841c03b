"""Root mean square norm (arXiv 1910.07467)."""

from torch import Tensor, nn

from bncore.norm.rms_norm import RMSNorm
from tests.bncore.norm.case import Case, affine


def _rms_norm(layer: nn.Module, x: Tensor) -> Tensor:
    square = (x**2).mean(tuple(range(1, x.dim())), keepdim=True)
    return affine(layer, x / (square + layer.eps) ** 0.5)


CASES = [Case("rms_norm", lambda: RMSNorm(4), _rms_norm, ignores_offset=False, large_mean=False, one_value="allowed")]
