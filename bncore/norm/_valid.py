"""Which positions of a batch are valid: said to a layer as a mask or as lengths, or handed to it by `valid_positions`.

Shapes: N examples, L steps; positions (N, ...) are a batch without its channels.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor


@dataclass(frozen=True)
class Valid:
    """A mask, or lengths, or neither, for a batch that is not there yet; `path` is the layer's, where it was handed."""

    mask: Tensor | None = None
    lengths: Tensor | None = None
    path: str | None = None

    def __post_init__(self) -> None:
        if self.mask is not None and self.lengths is not None:
            raise ValueError("a mask and lengths were given; one of them says which positions are valid")
        for name in ("mask", "lengths"):
            given = getattr(self, name)
            if given is not None and not isinstance(given, Tensor):
                raise ValueError(f"{name} must be a tensor, got {type(given).__name__}")

    def of(self, x: Tensor, positions: tuple[int, ...]) -> Tensor | None:
        """The mask of `x`, which has these positions, on its device; None where all are valid.

        Raises:
            ValueError: it does not fit.
        """
        mask, lengths = self.mask, self.lengths
        if lengths is not None:
            if len(positions) != 2 or lengths.shape != positions[:1] or not _is_integer(lengths):
                raise ValueError(
                    f"lengths are integers, one for each example of a batch of sequences; {lengths.dtype} of shape "
                    f"{tuple(lengths.shape)} do not fit a batch of shape {tuple(x.shape)}{self._at}"
                )
            return torch.arange(positions[1], device=x.device) < lengths.to(x.device).unsqueeze(1)
        if mask is not None and (mask.dtype != torch.bool or tuple(mask.shape) != tuple(positions)):
            raise ValueError(
                f"the mask of a batch of shape {tuple(x.shape)} is bool of shape {tuple(positions)}, got {mask.dtype} "
                f"of shape {tuple(mask.shape)}{self._at}"
            )
        return mask

    def says_as(self, other: "Valid") -> bool:
        """Whether both say the same, in the same words."""
        pairs = ((self.mask, other.mask), (self.lengths, other.lengths))
        return all(one is two or (one is not None and two is not None and torch.equal(one, two)) for one, two in pairs)

    @property
    def _at(self) -> str:
        return "" if self.path is None else f", handed to {self.path}"


class TakesValid:
    """A layer that can be told which positions are valid without an argument of its forward pass."""

    wants_lengths: ClassVar[bool] = False
    """Whether a mask does not say enough."""
    _handed: Valid | None = None
    """What it was told."""


@contextmanager
def handed(layers: Iterable[tuple[TakesValid, Valid]]) -> Iterator[None]:
    """Within it, each layer is told this; it may be nested."""
    before = []
    try:
        for layer, valid in layers:
            before.append((layer, layer._handed))
            layer._handed = valid
        yield
    finally:
        for layer, earlier in before:
            layer._handed = earlier


def _is_integer(lengths: Tensor) -> bool:
    return not lengths.is_floating_point() and lengths.dtype != torch.bool
