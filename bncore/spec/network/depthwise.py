"""Networks of depthwise convolutions: MobileNetV2 (Sandler et al., arXiv 1801.04381)."""

from typing import Any, ClassVar, Literal

from pydantic import Field

from bncore.spec.blueprint import ActivationName, Chain, Conv2d, Flatten, GlobalPool, Residual, Signal
from bncore.spec.network.layered import Bias, Layers, PlainPositions
from bncore.spec.network.residual import ResidualLayers
from bncore.spec.network.staged import LARGE_IMAGE, Stem, halving, is_large

_STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
"""Expansion, channels, blocks and stride of each; table 2 of the paper."""
_STEM_CHANNELS, _LAST_CHANNELS = 32, 1280


class DepthwiseSpec(ResidualLayers):
    """MobileNetV2 (arXiv 1801.04381): inverted residuals, each a 1x1, a depthwise 3x3 and a linear 1x1 convolution.

    With the placement after_activation the linear convolutions are not normalized; with after_sum the end of each block
    is, whether there is a sum or not.
    """

    width_field: ClassVar[str] = "width_multiplier"

    kind: Literal["depthwise"] = "depthwise"
    width_multiplier: float = Field(
        default=1.0,
        ge=0.1,
        le=4.0,
        description="Of all channels, which stay multiples of 8; the last 1280 never shrink.",
    )
    stem: Stem = Field(
        default="auto",
        description="large: the paper's, 1/32 of the image in the end. small: without the first two halvings. auto: "
        f"large from {LARGE_IMAGE} pixels a side on.",
    )
    activation: ActivationName = "relu6"
    norm_positions: PlainPositions = ("hidden",)
    bias: Bias = Field(
        default="auto", description="Give hidden layers a bias; auto: where no normalization cancels it."
    )

    def blueprint(self, signal: Signal, classes: int) -> Chain:
        return Chain(tuple(self._layers(is_large(self.stem, signal), classes)))

    def _layers(self, is_stem_large: bool, classes: int) -> Layers:
        yield from self.input_norm()
        channels = _divisible(_STEM_CHANNELS * self.width_multiplier)
        window = halving("The stem", is_stem_large=True) if is_stem_large else {}
        yield "stem", Chain(tuple(self.stem_layer("conv", self.conv(channels, 3, **window))))
        for stage, (expansion, base, count, stride) in enumerate(_STAGES, start=1):
            width = _divisible(base * self.width_multiplier)
            halves = stride == 2 and (is_stem_large or stage > 2)
            window = halving(f"Stage {stage}", is_stem_large=is_stem_large) if halves else {}
            blocks = []
            for number in range(1, count + 1):
                weights = self._inverted(channels, width, expansion, window if number == 1 else {})
                is_residual = channels == width and not (number == 1 and halves)
                blocks.append((f"block{number}", Chain(tuple(self._block(weights, is_residual)))))
                channels = width
            yield f"stage{stage}", Chain(tuple(blocks))
        last = _divisible(_LAST_CHANNELS * max(1.0, self.width_multiplier))
        yield "last", Chain(tuple(self.stem_layer("conv", self.conv(last, 1))))
        yield "global_pool", GlobalPool()
        yield "flatten", Flatten()
        yield from self.output(classes)

    def _inverted(self, channels: int, width: int, expansion: int, window: dict[str, Any]) -> list[Conv2d]:
        wide = channels * expansion
        expand = [self.conv(wide, 1)] if expansion > 1 else []
        return [*expand, self.conv(wide, 3, groups=wide, **window), self.conv(width, 1)]

    def _block(self, weights: list[Conv2d], is_residual: bool) -> Layers:
        body = self.body("conv", weights)
        if is_residual:
            yield "residual", Residual(body=body, pointer="/width_multiplier")
        else:
            yield "body", body
        norm = self.behind_a_block() if self.placement == "after_sum" else None
        if norm is not None:
            yield "norm", norm


def _divisible(channels: float) -> int:
    """The multiple of 8 that is nearest, but at least nine tenths of it (the authors' code)."""
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * channels else nearest
