"""Layer normalization along the last axis, as the pre-activations of a recurrent cell want it."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bncore.norm._dispatch import may_use_native
from bncore.norm._moments import moments
from bncore.norm._native import right_to_second_order


class GateLayerNorm(nn.Module):
    """Standardizes neighbouring groups of the last axis, each by its own mean and variance.

    `y = weight * (x - mean) / sqrt(var + eps) + bias` with mean and biased variance (..., groups), and `weight`, `bias`
    (C,). Input and output: (..., C).

    arXiv 1607.06450, eq. 3.

    Args:
        sizes: of the groups, which add up to C.
        eps: added to the variance.
        bias: learn `bias`; None otherwise.

    Raises:
        ValueError: for a group of one.
    """

    bias: nn.Parameter | None

    def __init__(
        self,
        sizes: tuple[int, ...],
        eps: float,
        bias: bool,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        if min(sizes) == 1:
            raise ValueError("layer norm would erase what is a single value: hidden_size must be at least 2")
        super().__init__()
        self.sizes = sizes
        self.eps = eps
        self.weight = nn.Parameter(torch.empty(sum(sizes), device=device, dtype=dtype))
        shift = nn.Parameter(torch.empty(sum(sizes), device=device, dtype=dtype)) if bias else None
        self.register_parameter("bias", shift)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Scale 1, shift 0."""
        nn.init.ones_(self.weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        weights = torch.split(self.weight.to(x.dtype), list(self.sizes))
        groups = zip(torch.split(x, list(self.sizes), -1), weights, strict=True)
        parts = [_standardize(part, weight, self.eps) for part, weight in groups]
        y = parts[0] if len(parts) == 1 else torch.cat(parts, -1)
        return y if self.bias is None else y + self.bias

    def extra_repr(self) -> str:
        return f"{self.sizes}, eps={self.eps}, bias={self.bias is not None}"


def _standardize(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """`weight * (x - mean) / sqrt(var + eps)` along the last axis."""
    if may_use_native(x):
        return right_to_second_order(F.layer_norm(x, tuple(weight.shape), weight, None, eps))
    # The kernel's second derivative in forward mode is silently wrong.
    group = moments(x, [-1])
    return (x - group.mean) * (group.var + eps).rsqrt() * weight
