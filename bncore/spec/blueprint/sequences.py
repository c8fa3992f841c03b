"""What networks of sequences are made of besides weights, without torch.

Shapes are those of one example: T steps, C features of a step.
"""

import math
from dataclasses import dataclass, replace
from typing import Literal

from bncore.spec.blueprint.layer import Layer
from bncore.spec.blueprint.recurrent import Recurrent
from bncore.spec.blueprint.signal import Signal
from bncore.spec.faults import Fault


@dataclass(frozen=True, kw_only=True)
class Patches(Layer):
    """Square patches of an image (C, H, W), row by row, as the steps of a sequence (H W / P^2, C P^2).

    arXiv 2010.11929, section 3.1. `pointer` names the field that holds P, `size`.
    """

    size: int | None

    @property
    def kind(self) -> str:
        return "patches"

    def output(self, signal: Signal) -> Signal:
        assert self.size is not None
        channels, height, width = signal.shape
        return Signal((height * width // self.size**2, channels * self.size**2), "sequence")

    def misfit(self, signal: Signal) -> Fault | None:
        if signal.kind != "image":
            return Fault(self.pointer, f"Only images are cut, and an example is a {signal.kind}; use null", "no_image")
        _, height, width = signal.shape
        fits = [side for side in range(1, min(height, width) + 1) if height % side == 0 and width % side == 0]
        if self.size in fits:
            return None
        if self.size is None:
            detail = (
                f"The data are images; give the side of the patches that are the steps, such as {fits[len(fits) // 2]}"
            )
            return Fault(self.pointer, detail, "patch_missing")
        detail = (
            f"Patches of {self.size}x{self.size} do not divide images of {height}x{width}; try {_near(self.size, fits)}"
        )
        return Fault(self.pointer, detail, "patches_do_not_divide")


@dataclass(frozen=True, kw_only=True)
class Embedding(Layer):
    """A learned vector (C,) for each token."""

    width: int

    @property
    def kind(self) -> str:
        return "embedding"

    def output(self, signal: Signal) -> Signal:
        return Signal((signal.steps, self.width), "sequence", signal.lengths)

    def parameters(self, signal: Signal) -> int:
        return signal.vocabulary * self.width


@dataclass(frozen=True, kw_only=True)
class FirstToken(Layer):
    """A learned step in front of all others: (T, C) to (T + 1, C)."""

    @property
    def kind(self) -> str:
        return "first_token"

    def output(self, signal: Signal) -> Signal:
        return replace(signal, shape=(signal.steps + 1, signal.channels))

    def parameters(self, signal: Signal) -> int:
        return signal.channels


@dataclass(frozen=True, kw_only=True)
class Positions(Layer):
    """Adds a vector for each position: a learned one, or sines and cosines (arXiv 1706.03762, section 3.5)."""

    how: Literal["learned", "sinusoidal"]

    @property
    def kind(self) -> str:
        return f"{self.how}_positions"

    def parameters(self, signal: Signal) -> int:
        return signal.steps * signal.channels if self.how == "learned" else 0


@dataclass(frozen=True, kw_only=True)
class Attention(Layer):
    """Self-attention of several heads, from queries, keys and values side by side: (T, 3 C) to (T, C).

    The weights are those of the linear layers around it (arXiv 1706.03762, section 3.2). `pointer` names the field
    that holds the number of heads.
    """

    heads: int
    dropout: float = 0.0

    @property
    def kind(self) -> str:
        return "attention"

    def output(self, signal: Signal) -> Signal:
        return replace(signal, shape=(signal.steps, signal.channels // 3))

    def kept(self, signal: Signal) -> int:
        # Kernels that keep no weights of attention have no dropout on every device.
        weights = 3 * self.heads * signal.steps**2 if self.dropout > 0.0 else 0
        return math.prod(signal.shape) + weights

    def misfit(self, signal: Signal) -> Fault | None:
        width = signal.channels // 3
        if width % self.heads == 0:
            return None
        fits = [heads for heads in range(1, width + 1) if width % heads == 0]
        detail = f"{self.heads} heads do not divide the width of {width}; try {_near(self.heads, fits)}"
        return Fault(self.pointer, detail, "heads_do_not_divide")


@dataclass(frozen=True, kw_only=True)
class OverTime(Layer):
    """One vector (C,) of a sequence (T, C): its last or first step that is no padding, or the mean of all those.

    With `bidirectional`, `last` takes of the second half of the features, which comes from the end, the first step.
    """

    how: Literal["last", "first", "mean"]
    bidirectional: bool = False

    @property
    def kind(self) -> str:
        return f"{self.how}_step" if self.how != "mean" else "mean_over_time"

    def output(self, signal: Signal) -> Signal:
        return Signal((signal.channels,), "vector")


SequencePrimitive = Patches | Embedding | FirstToken | Positions | Attention | OverTime | Recurrent


def _near(given: int, fits: list[int]) -> str:
    nearest = sorted(fits, key=lambda fit: abs(fit - given))[:3]
    return ", ".join(str(fit) for fit in sorted(nearest))
