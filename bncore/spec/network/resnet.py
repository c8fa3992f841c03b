"""Residual networks of images (He et al., arXiv 1512.03385), for CIFAR and for ImageNet."""

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from bncore.spec.blueprint import Chain, Flatten, GlobalPool, Signal
from bncore.spec.network.layered import Layers
from bncore.spec.network.staged import StagedPositions, StagedSpec, convolutions, halving, is_large

_IMAGENET = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
"""Blocks of each stage; table 1 of the paper. From 50 layers on they are bottlenecks."""

_FLAT_AT_ZERO = ("relu", "relu6")
"""Activations whose slope at 0 torch takes for 0."""


def _a_depth(depth: int) -> int:
    if depth in _IMAGENET or (depth - 2) % 6 == 0:
        return depth
    below = depth - (depth - 2) % 6
    detail = "Should be 6 n + 2 (such as {below} or {above}), or 18, 34, 50, 101 or 152"
    raise PydanticCustomError("no_such_depth", detail, {"below": below, "above": below + 6})


class ResnetSpec(StagedSpec):
    """A residual network (arXiv 1512.03385): `activation(body(x) + shortcut(x))`, the image halved from stage to stage.

    Depths 6 n + 2 (20, 32, 44, 56, 110) are those for CIFAR: three stages of n blocks with two 3x3 convolutions, 16
    channels, shortcut A. 18, 34, 50, 101 and 152 are those for ImageNet: four stages, 64 channels, shortcut B; from 50
    on a block is a bottleneck, which halves the image in its 3x3 convolution.
    """

    kind: Literal["resnet"] = "resnet"
    norm_positions: StagedPositions = ("hidden", "shortcut")
    depth: Annotated[int, Field(ge=8, le=1202), AfterValidator(_a_depth)] = Field(
        default=20, description="Layers with weights, projections excepted: 6 n + 2, or 18, 34, 50, 101, 152."
    )
    zero_init_last_gamma: bool = Field(
        default=False,
        description="Start the scale of each block's last normalization at 0, so that a block starts as its shortcut "
        "(arXiv 1706.02677, section 5.1).",
    )

    @model_validator(mode="after")
    def _has_a_last_gamma(self) -> "ResnetSpec":
        is_there = "hidden" in self.norm_positions and self.placement == "before_activation" and self.norm.has_scale
        if self.zero_init_last_gamma and not is_there:
            detail = (
                "No block ends in a scale; use a normalization that has one, in position hidden with the placement "
                "before_activation, or leave it out"
            )
            faults = [("/zero_init_last_gamma", detail, "no_last_gamma")]
            raise PydanticCustomError("cross_field", "there is nothing to start at 0", {"faults": faults})
        return self

    def blueprint(self, signal: Signal, classes: int) -> Chain:
        return Chain(tuple(self._layers(is_large(self.stem, signal), classes)))

    def takes_a(self) -> bool:
        return self.shortcut == "A" or (self.shortcut == "auto" and self.depth not in _IMAGENET)

    def channels_at_zero(self) -> tuple[int, int]:
        """How many of the last stage's channels can never be anything but 0, and how many there are.

        Shortcut A fills channels with zeros. Where the body's last scale begins at 0 too, so does their sum, at which
        the slope of the activation is 0: nothing that is behind can move it.
        """
        width, last = self._first_width, self._expansion * self._first_width * 2 ** (len(self._blocks) - 1)
        is_kept = self.zero_init_last_gamma and self.takes_a() and self.activation in _FLAT_AT_ZERO
        return last - width if is_kept else 0, last

    def _layers(self, is_stem_large: bool, classes: int) -> Layers:
        yield from self.input_norm()
        width, expansion = self._first_width, self._expansion
        yield "stem", self.image_stem(width, is_large=is_stem_large)
        channels = width
        for stage, count in enumerate(self._blocks, start=1):
            changes = {} if stage == 1 else halving(f"Stage {stage}", is_stem_large=is_stem_large)
            yield f"stage{stage}", Chain(tuple(self._stage(count, width, channels, changes)))
            channels, width = expansion * width, 2 * width
        yield "global_pool", GlobalPool()
        yield "flatten", Flatten()
        yield from self.output(classes)

    def _stage(self, count: int, width: int, channels: int, changes: dict[str, object]) -> Iterator[tuple[str, Chain]]:
        end = 4 * width if self._is_bottleneck else width
        for number in range(1, count + 1):
            first = changes if number == 1 else {}
            shortcut = None
            if first or channels != end:
                is_normed = self.placement == "after_sum" and "hidden" in self.norm_positions
                shortcut = self.projection(end, 2 if first else 1, is_normed_behind=is_normed)
            weights = list(convolutions(self, width, first, is_bottleneck=self._is_bottleneck))
            body = self.body("conv", weights, is_zeroed=self.zero_init_last_gamma)
            yield f"block{number}", Chain(tuple(self.residual_block(body, shortcut)))
            channels = end

    @property
    def _blocks(self) -> tuple[int, ...]:
        return _IMAGENET.get(self.depth) or ((self.depth - 2) // 6,) * 3

    @property
    def _first_width(self) -> int:
        return self.width or (64 if self.depth in _IMAGENET else 16)

    @property
    def _expansion(self) -> int:
        return 4 if self._is_bottleneck else 1

    @property
    def _is_bottleneck(self) -> bool:
        return self.depth in _IMAGENET and self.depth >= 50
