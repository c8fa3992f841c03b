"""Layers for channels on axis 1, put to work on channels along the last axis, where transformers have them.

Shapes: (..., C) is seen as (M, C): every other axis counts examples, as in `torch.nn.LayerNorm(C)`.
"""

from typing import Any

from torch import Tensor, nn
from torch.fx import Proxy

from bncore.norm._leaf import as_leaf
from bncore.norm._valid import TakesValid, Valid
from bncore.norm.masked_batch_norm import MaskedBatchNorm, check_as_at_first
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


class MaskedLastAxis(LastAxis):
    """Takes masks (...) and lengths (N,) of (N, L, C) along."""

    def forward(self, x: Tensor, mask: Tensor | None = None, lengths: Tensor | None = None) -> Tensor:
        mask = self.mask_of(x, mask, lengths)
        return super().forward(x, None if mask is None else mask.flatten())

    def mask_of(self, x: Tensor, mask: Tensor | None, lengths: Tensor | None) -> Tensor | None:
        layer: Any = self
        valid: Valid = layer._valid(x, -1, mask, lengths)
        return valid.of(x, x.shape[:-1])


class ValidLastAxis(LastAxis, TakesValid):
    """Shows a layer that knows nothing of padding the valid positions alone, as rows (M, C); zeros at all others.

    Right for whatever takes each row for an example. How many are valid is read back from the device.
    """

    def forward(self, x: Tensor) -> Tensor:
        if isinstance(x, Proxy):
            return super().forward(x)
        check_as_at_first(self, x, -1, self._handed)
        mask = self.mask_of(x)
        if mask is None:
            return super().forward(x)
        rows = mask.flatten().nonzero().squeeze(1)
        y = super().forward(x.flatten(0, -2).index_select(0, rows))
        return y.new_zeros(mask.numel(), y.shape[-1]).index_copy(0, rows, y).reshape(x.shape)

    def mask_of(self, x: Tensor) -> Tensor | None:
        """Which positions (...) of `x` (..., C) are valid; None for all."""
        return None if self._handed is None else self._handed.of(x, x.shape[:-1])


def by_last_axis(layer: nn.Module, *, padded: bool = False) -> nn.Module:
    """The layer itself, which from now on finds its channels along the last axis.

    With `padded`, one that has no masks is kept from seeing what `valid_positions` says is padding.
    """
    overlay = ValidLastAxis if padded else LastAxis
    lay_over(layer, MaskedLastAxis if isinstance(layer, MaskedBatchNorm) else overlay)
    return layer


def knows_padding(layer: nn.Module) -> bool:
    """Whether channels are the last axis for this layer, and padding beside them counts in nothing."""
    return isinstance(layer, MaskedLastAxis | ValidLastAxis)


def normalizes_last_axis(layer: nn.Module) -> bool:
    """Whether channels are the last axis for this layer: torch's layer and RMS norm, and what was made of them."""
    return isinstance(layer, LastAxis | nn.LayerNorm | nn.RMSNorm)
