"""Layers of torch that know how many axes of positions they have, and what is put in their places.

`torch.nn.InstanceNorm2d` takes (C, H, W) for one example. A layer for any rank would take it for a batch of C examples
with H channels, and where H equals C without a word. And the way back to torch's classes needs the number.
"""

from typing import Any, cast

from torch import Tensor, nn
from torch.fx import Proxy

from bncore.norm._leaf import as_leaf
from bncore.norm.model.overlay import Overlay, lay_over

_INSTANCES: dict[type[nn.Module], int] = {nn.InstanceNorm1d: 1, nn.InstanceNorm2d: 2, nn.InstanceNorm3d: 3}
_BATCHES: dict[type[nn.Module], int] = {nn.BatchNorm1d: 1, nn.BatchNorm2d: 2, nn.BatchNorm3d: 3}


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


def positions_of(layer: nn.Module) -> int | None:
    """For how many axes of positions a layer was made, or the one of torch that it replaced; None where nobody knows.

    `torch.nn.BatchNorm1d` takes vectors too.
    """
    known = next((axes for cls, axes in (_INSTANCES | _BATCHES).items() if isinstance(layer, cls)), None)
    return vars(layer).get("_positions", known)


def takes_examples(layer: nn.Module) -> bool:
    """Whether a layer takes single examples besides batches."""
    return isinstance(layer, (ExampleOrBatch, *_INSTANCES))


def remember_positions(old: nn.Module, new: nn.Module) -> nn.Module:
    """`new` itself, which from now on knows what `old` did, and takes examples where that does."""
    axes = positions_of(old)
    if axes is not None:
        new._positions = axes  # type: ignore[assignment]
    if takes_examples(old):
        lay_over(new, ExampleOrBatch)
    return new


def as_batch(layer: nn.Module, x: Tensor) -> Tensor:
    """What a layer is given, (N, C, ...) also where that is one example."""
    return x.unsqueeze(0) if takes_examples(layer) and x.dim() == cast(int, positions_of(layer)) + 1 else x
