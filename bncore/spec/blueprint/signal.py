"""What flows between the layers of a network."""

from dataclasses import dataclass
from typing import Literal

SignalKind = Literal["image", "sequence", "vector"]


@dataclass(frozen=True)
class Signal:
    """The shape of one example, without the batch axis: an image (C, H, W), a sequence (T, C), a vector (C,).

    A sequence with `lengths` has at most T steps; what is behind its end is padding.
    """

    shape: tuple[int, ...]
    kind: SignalKind
    lengths: bool = False

    @property
    def channels(self) -> int:
        return self.shape[-1] if self.kind == "sequence" else self.shape[0]
