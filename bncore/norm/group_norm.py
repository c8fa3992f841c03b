"""Group normalization over the channels of a group and all positions of a sample.

Shapes: N examples, C channels (axis 1) in G groups of neighbours, any further axes are positions.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bncore.norm.batch_norm import check_rank


class GroupNorm(nn.Module):
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

    weight: nn.Parameter | None
    bias: nn.Parameter | None

    def __init__(
        self,
        num_features: int,
        num_groups: int = 32,
        eps: float = 1e-5,
        affine: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if num_features % num_groups:
            raise ValueError(f"{num_groups} groups do not divide {num_features} channels")
        self.num_features = num_features
        self.num_groups = num_groups
        self.eps = eps
        self.affine = affine
        for name in ("weight", "bias"):
            vector = nn.Parameter(torch.empty(num_features, device=device, dtype=dtype)) if affine else None
            self.register_parameter(name, vector)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Scale 1, shift 0."""
        if self.weight is not None and self.bias is not None:
            nn.init.ones_(self.weight)
            nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        check_rank(x)
        return F.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return f"{self.num_features}, num_groups={self.num_groups}, eps={self.eps}, affine={self.affine}"
