"""Global response normalization: channels of a sample compete by their energy.

Shapes: N examples, C channels (axis 1), any further axes are positions.
"""

import torch
from torch import Tensor, nn
from torch.fx import Proxy

from bncore.norm._affine import Affine
from bncore.norm._batches import check_channels
from bncore.norm._leaf import as_leaf
from bncore.norm._moments import along_channels
from bncore.norm._rescale import rescale
from bncore.norm._sample_statistics import mean_square, positions_of


class GlobalResponseNorm(Affine):
    """Scales each channel of each sample by its share of the sample's energy; starts as the identity.

    `y = weight * (x * n) + bias + x` with `n = g / (mean of g over channels + eps)` and g (N, C), the Euclidean norm
    over positions; `weight`, `bias` (C,) start at 0. Training and evaluation are alike. Input and output: (N, C, ...).

    There is nothing like it in torch. It does not standardize: it adds contrast between channels, and in the paper goes
    inside a block beside layer normalization.

    arXiv 2301.00808, algorithm 1. Where the algorithm takes the mean over channels, the paper's equation writes the
    sum, which `weight` makes up for.

    Args:
        num_features: C.
        eps: added to the mean over channels.
        bias: learn `bias`; it is None otherwise.

    Raises:
        ValueError: from the forward pass, for input without batch axis, with another number of channels or not of
            floating point.
    """

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-6,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__(num_features, eps, affine=True, device=device, dtype=dtype, bias=bias)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Scale 0, shift 0: the identity."""
        for vector in (self.weight, self.bias):
            if vector is not None:
                nn.init.zeros_(vector)

    def forward(self, x: Tensor) -> Tensor:
        if isinstance(x, Proxy):
            return as_leaf(self, x)
        check_channels(x, self.num_features)
        assert self.weight is not None
        norm = _root(mean_square(x) * positions_of(x))
        share = norm / (norm.mean(1, keepdim=True) + self.eps)
        scale = along_channels(self.weight, x) * share + 1.0
        return rescale(x, scale, None if self.bias is None else along_channels(self.bias, x)).to(x.dtype)

    def extra_repr(self) -> str:
        return f"{self.num_features}, eps={self.eps}, bias={self.bias is not None}"


def _root(square: Tensor) -> Tensor:
    """The square root, with derivative 0 at 0, where the norm as a function of x has its minimum."""
    above = square > 0
    return torch.where(above, torch.where(above, square, torch.ones_like(square)).sqrt(), torch.zeros_like(square))
