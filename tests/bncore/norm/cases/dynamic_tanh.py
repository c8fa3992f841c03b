"""Dynamic tanh (arXiv 2503.10622)."""

from torch import Tensor, nn

from bncore.norm.dynamic_tanh import DynamicTanh
from tests.bncore.norm.case import Case, affine


def _dynamic_tanh(layer: nn.Module, x: Tensor) -> Tensor:
    twice = (2 * layer.alpha * x).exp()
    return affine(layer, (twice - 1) / (twice + 1))


CASES = [
    Case(
        "dynamic_tanh",
        lambda: DynamicTanh(4),
        _dynamic_tanh,
        ignores_offset=False,
        large_mean=False,
        one_value="allowed",
    )
]
