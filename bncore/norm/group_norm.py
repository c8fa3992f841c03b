"""Group normalization over the channels of a group and all positions of a sample.

Shapes: N examples, C channels (axis 1) in G groups of neighbours, any further axes are positions.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from bncore.norm._affine import Affine
from bncore.norm.batch_norm import check_rank


class GroupNorm(Affine):
    """Standardizes each group of channels of each sample, in training and evaluation alike.

    `y = weight * (x - mean) / sqrt(var + eps) + bias` with mean and biased variance (N, G) over the C / G channels of a
    group and all positions, and `weight`, `bias` (C,). Input and output: (N, C, ...).

    Difference from `torch.nn.GroupNorm`: the number of channels comes first and the number of groups has the paper's
    default. The numbers and keys are the same.

    arXiv 1803.08494, eq. 7.

    Args:
        num_features: C, a multiple of `num_groups`.
        num_groups: G.
        eps: added to the variance.
        affine: learn `weight` and `bias`.
    """

    def __init__(
        self,
        num_features: int,
        num_groups: int = 32,
        eps: float = 1e-5,
        affine: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        if num_features % num_groups:
            raise ValueError(f"{num_groups} groups do not divide {num_features} channels")
        super().__init__(num_features, eps, affine, device=device, dtype=dtype)
        self.num_groups = num_groups

    def forward(self, x: Tensor) -> Tensor:
        check_rank(x)
        return F.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, num_groups={self.num_groups}"
