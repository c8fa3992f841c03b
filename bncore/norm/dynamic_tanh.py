"""Dynamic tanh: a learned squashing in place of a normalization; it looks at one value at a time.

Shapes: N examples, C channels (axis 1), any further axes are positions.
"""

import torch
from torch import Tensor, nn
from torch.fx import Proxy

from bncore.norm._affine import Affine, scale_and_shift
from bncore.norm._batches import check_channels
from bncore.norm._leaf import as_leaf
from bncore.norm._moments import along_channels
from bncore.norm._rescale import rescale


class DynamicTanh(Affine):
    """`y = weight * tanh(alpha * x) + bias` with one learned `alpha` (1,) and `weight`, `bias` (C,).

    No statistics: training and evaluation are alike, and no value depends on another. Input and output: (N, C, ...).

    There is nothing like it in torch. It takes the place of layer normalization in transformers; names and shapes are
    those of the paper's code.

    arXiv 2503.10622, section 4.

    Args:
        num_features: C.
        alpha: where the learned alpha starts.
        affine: learn `weight` and `bias`.
        bias: learn `bias` too, where `affine` does; it is None otherwise.

    Raises:
        ValueError: from the forward pass, for input without batch axis, with another number of channels or not of
            floating point.
    """

    def __init__(
        self,
        num_features: int,
        alpha: float = 0.5,
        affine: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__(num_features, 0.0, affine, device=device, dtype=dtype, bias=bias)
        self.initial_alpha = alpha
        self.alpha = nn.Parameter(torch.empty(1, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Scale 1, shift 0, alpha where it starts."""
        super().reset_parameters()
        nn.init.constant_(self.alpha, self.initial_alpha)

    def forward(self, x: Tensor) -> Tensor:
        if isinstance(x, Proxy):
            return as_leaf(self, x)
        check_channels(x, self.num_features)
        y = (x * self.alpha).tanh()
        if self.weight is None:
            return scale_and_shift(y, None, self.bias).to(x.dtype)
        shift = None if self.bias is None else along_channels(self.bias, y)
        return rescale(y, along_channels(self.weight, y), shift).to(x.dtype)

    def extra_repr(self) -> str:
        shift = self.bias is not None
        return f"{self.num_features}, alpha={self.initial_alpha}, affine={self.affine}, bias={shift}"
