"""What flows between the layers of a network."""

from dataclasses import dataclass
from typing import Literal

SignalKind = Literal["image", "vector", "sequence", "tokens"]


@dataclass(frozen=True)
class Signal:
    """The shape of one example, without the batch axis.

    An image (C, H, W), a vector (C,), a sequence of T steps with F features each (T, F), or T tokens (T,), which are
    whole numbers below `vocabulary`. With `lengths`, T is the longest: each example says how many of its steps count.
    """

    shape: tuple[int, ...]
    kind: SignalKind
    lengths: bool = False
    vocabulary: int = 0

    @property
    def channels(self) -> int:
        """Values of one position: F of a sequence."""
        return self.shape[-1] if self.kind == "sequence" else self.shape[0]

    @property
    def steps(self) -> int:
        """T of what has steps, 1 of what has none."""
        return self.shape[0] if self.kind in ("sequence", "tokens") else 1

    def __str__(self) -> str:
        article = "an" if self.kind == "image" else "a"
        noun = self.kind if self.kind != "tokens" else "sequence of tokens"
        return f"{article} {noun} of {'x'.join(map(str, self.shape))}"
