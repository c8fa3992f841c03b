"""What flows between the layers of a network."""

from dataclasses import dataclass
from typing import Literal

SignalKind = Literal["image", "vector"]


@dataclass(frozen=True)
class Signal:
    """The shape of one example, without the batch axis: an image (C, H, W), a vector (C,)."""

    shape: tuple[int, ...]
    kind: SignalKind

    @property
    def dimensions(self) -> str:
        """For people: 3x32x32."""
        return "x".join(map(str, self.shape))

    def __str__(self) -> str:
        return f"{'an' if self.kind[0] in 'aeiou' else 'a'} {self.kind} of {self.dimensions}"

    @property
    def channels(self) -> int:
        return self.shape[0]
