"""What flows between the layers of a network."""

from dataclasses import dataclass
from typing import Literal

SignalKind = Literal["image", "sequence", "vector", "tokens"]


@dataclass(frozen=True)
class Signal:
    """The shape of one example, without the batch axis: an image (C, H, W), a sequence (T, C), a vector (C,).

    Tokens (T,) are whole numbers below `vocabulary`. A sequence with `lengths`, of either kind, has at most T steps;
    what is behind its end is padding.
    """

    shape: tuple[int, ...]
    kind: SignalKind
    lengths: bool = False
    vocabulary: int = 0

    @property
    def dimensions(self) -> str:
        """For people: 3x32x32."""
        return "x".join(map(str, self.shape))

    def __str__(self) -> str:
        return f"{'an' if self.kind[0] in 'aeiou' else 'a'} {self.kind} of {self.dimensions}"

    @property
    def channels(self) -> int:
        return self.shape[-1] if self.kind == "sequence" else self.shape[0]

    @property
    def steps(self) -> int:
        """T, and 1 of what has no steps."""
        return self.shape[0] if self.kind in ("sequence", "tokens") else 1
