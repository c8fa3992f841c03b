"""What residual networks of images share: a stem by the size of the image, stages that halve it, shortcuts."""

from abc import abstractmethod
from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from bncore.spec.blueprint import Chain, Conv2d, Pool, Signal, Subsample
from bncore.spec.network.layered import Bias, EachOnce, Layers, Position
from bncore.spec.network.residual import ResidualLayers
from bncore.spec.strict import Count

LARGE_IMAGE = 64
"""Pixels of the shorter side from which on `auto` takes the stem that was made for ImageNet."""

Stem = Literal["auto", "small", "large"]
StagedPositions = Annotated[
    tuple[Position, ...],
    Field(
        strict=False,
        description="Which layers are normalized: hidden ones, shortcut (the convolutions of shortcut B), logits (the "
        "output), input (means normalize_input, and is shown as that).",
    ),
    EachOnce,
]


def is_large(stem: Stem, signal: Signal) -> bool:
    """Whether the stem is that of ImageNet."""
    if stem == "auto":
        return signal.kind == "image" and min(signal.shape[1:]) >= LARGE_IMAGE
    return stem == "large"


def halving(place: str, *, is_stem_large: bool) -> dict[str, Any]:
    """Stride 2, and what to say where there is nothing left to halve."""
    cure = "use the stem small, or larger images" if is_stem_large else "use larger images"
    return {"stride": 2, "pointer": "/stem", "place": place, "cure": cure}


class StagedSpec(ResidualLayers):
    """Residual networks of images; each stage but the first halves the image and doubles the channels."""

    width_field: ClassVar[str] = "width"

    width: Count | None = Field(
        default=None, description="Channels of the first stage's 3x3 convolutions; null: the paper's."
    )
    stem: Stem = Field(
        default="auto",
        description="small: a 3x3 convolution. large: a 7x7 one and a 3x3 maximum, each with stride 2. auto: large "
        f"from {LARGE_IMAGE} pixels a side on.",
    )
    shortcut: Literal["auto", "A", "B"] = Field(
        default="auto",
        description="Where shapes change. A: every second pixel, and channels of zeros. B: a 1x1 convolution. auto: "
        "the paper's.",
    )
    norm_positions: StagedPositions
    bias: Bias = Field(
        default="auto", description="Give hidden layers a bias; auto: where no normalization cancels it."
    )

    def image_stem(self, width: int, *, is_large: bool) -> Chain:
        """What is in front of the first stage."""
        return Chain(tuple(self._stem(width, is_large)))

    def projection(self, width: int, stride: int, *, is_normed_behind: bool) -> Chain:
        """The way around a body where shapes change; `is_normed_behind` is about what follows the sum."""
        if self.takes_a():
            return Chain((("subsample", Subsample(width=width, stride=stride)),))
        return Chain(tuple(self._projection(width, stride, is_normed_behind)))

    @abstractmethod
    def takes_a(self) -> bool:
        """Whether shortcuts have no parameters."""

    def _stem(self, width: int, is_large: bool) -> Layers:
        if not is_large:
            yield from self.stem_layer("conv", self.conv(width, 3))
            return
        where = halving("The stem", is_stem_large=True)
        yield from self.stem_layer("conv", self.conv(width, 7, **where))
        yield "pool", Pool(how="max", kernel_size=3, **where)

    def _projection(self, width: int, stride: int, is_normed_behind: bool) -> Layers:
        norm = self.norm_layer("shortcut")
        conv = self.conv(width, 1, "shortcut", stride=stride)
        yield "conv", self.without_dead_bias(conv, is_normed=norm is not None or is_normed_behind)
        if norm is not None:
            yield "norm", norm


def convolutions(spec: StagedSpec, width: int, first: dict[str, Any], *, is_bottleneck: bool) -> Iterator[Conv2d]:
    """Of a body: two of 3x3, or one between two of 1x1, the last four times as wide; `first` is of the first 3x3."""
    if not is_bottleneck:
        yield spec.conv(width, 3, **first)
        yield spec.conv(width, 3)
        return
    yield spec.conv(width, 1)
    yield spec.conv(width, 3, **first)
    yield spec.conv(4 * width, 1)
