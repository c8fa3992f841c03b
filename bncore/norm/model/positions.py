"""Layers of torch that know how many axes of positions they have, and what is put in their places.

`torch.nn.InstanceNorm2d` takes (C, H, W) for one example. A layer for any rank would take it for a batch of C examples
with H channels, and where H equals C without a word.
"""

from typing import Any, cast

from torch import Tensor, nn
from torch.fx import Proxy

from bncore.norm._leaf import as_leaf
from bncore.norm.model.overlay import Overlay, lay_over

_OF_TORCH: dict[type[nn.Module], int] = {nn.InstanceNorm1d: 1, nn.InstanceNorm2d: 2, nn.InstanceNorm3d: 3}


class ExampleOrBatch(Overlay):
    """Takes (C, ...) with so many axes of positions for one example, and (N, C, ...) for a batch, and nothing else."""

    _positions: int

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if isinstance(x, Proxy):
            return as_leaf(self, x, *args)
        if x.dim() == self._positions + 1:
            y: Tensor = super().forward(x.unsqueeze(0), *args, **kwargs)
            return y.squeeze(0)
        if x.dim() != self._positions + 2:
            raise ValueError(f"expected (N, C) or (C,) and {self._positions} more axes, got size {tuple(x.shape)}")
        return cast("Tensor", super().forward(x, *args, **kwargs))


def takes_examples(layer: nn.Module) -> int | None:
    """The number of axes of positions of a layer that takes single examples; None for one that wants a batch."""
    if isinstance(layer, ExampleOrBatch):
        return layer._positions
    return next((axes for cls, axes in _OF_TORCH.items() if isinstance(layer, cls)), None)


def taking_examples_as(old: nn.Module, layer: nn.Module) -> nn.Module:
    """`layer` itself, which from now on takes examples where `old` does."""
    axes = takes_examples(old)
    if axes is not None:
        lay_over(layer, ExampleOrBatch)
        layer._positions = axes  # type: ignore[assignment]
    return layer


def as_batch(layer: nn.Module, x: Tensor) -> Tensor:
    """What a layer is given, (N, C, ...) also where that is one example."""
    axes = takes_examples(layer)
    return x.unsqueeze(0) if axes is not None and x.dim() == axes + 1 else x
