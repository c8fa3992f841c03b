"""Global response norm (arXiv 2301.00808)."""

from torch import Tensor, nn

from bncore.norm.global_response_norm import GlobalResponseNorm
from tests.bncore.norm.case import Case, affine


def _global_response(layer: nn.Module, x: Tensor) -> Tensor:
    norm = (x.reshape(*x.shape[:2], -1) ** 2).sum(2) ** 0.5
    share = norm / (norm.mean(1, keepdim=True) + layer.eps)
    return affine(layer, x * share.reshape(*x.shape[:2], *(1,) * (x.dim() - 2))) + x


CASES = [
    Case(
        "global_response_norm",
        lambda: GlobalResponseNorm(4),
        _global_response,
        ignores_offset=False,
        large_mean=False,
        one_value="allowed",
    )
]
