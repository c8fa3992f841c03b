"""Layers for channels on axis 1, put to work on channels along the last axis, where transformers have them.

Shapes: (..., C) is seen as (M, C): every other axis counts examples, as in `torch.nn.LayerNorm(C)`.
"""

from typing import Any

from torch import Tensor, nn
from torch.fx import Proxy

from bncore.norm._leaf import as_leaf
from bncore.norm.model.overlay import Overlay, lay_over


class LastAxis(Overlay):
    """Normalizes (..., C) as a batch (M, C)."""

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if isinstance(x, Proxy):
            return as_leaf(self, x, *args)
        if x.dim() < 2:
            raise ValueError(f"expected a batch of shape (..., C), got {x.dim()} axes; add the batch axis")
        y: Tensor = super().forward(x.flatten(0, -2), *args, **kwargs)
        return y.reshape(x.shape)


def by_last_axis(layer: nn.Module) -> nn.Module:
    """The layer itself, which from now on finds its channels along the last axis."""
    lay_over(layer, LastAxis)
    return layer


def normalizes_last_axis(layer: nn.Module) -> bool:
    """Whether channels are the last axis for this layer: torch's layer and RMS norm, and what was made of them."""
    return isinstance(layer, LastAxis | nn.LayerNorm | nn.RMSNorm)
