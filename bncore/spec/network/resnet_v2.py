"""Residual networks with pre-activation (He et al., arXiv 1603.05027), for CIFAR."""

from collections.abc import Iterator
from typing import Literal

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from bncore.spec.blueprint import Chain, Conv2d, Flatten, GlobalPool, Residual, Signal
from bncore.spec.network.layered import Layers, Placement
from bncore.spec.network.staged import StagedPositions, StagedSpec, convolutions, halving, is_large


class ResnetV2Spec(StagedSpec):
    """A residual network with pre-activation (arXiv 1603.05027): `x + body(x)`, normalization and activation first.

    Three stages, 16 channels. A body is two 3x3 convolutions (depth 6 n + 2, such as 20 or 110), or a bottleneck
    (9 n + 2, such as 164 or 1001), which is four times as wide outside. A normalization and an activation stand in
    front of each convolution and behind the last sum; where a projection goes around a body, it starts behind the first
    of them.
    """

    kind: Literal["resnet_v2"] = "resnet_v2"
    norm_positions: StagedPositions = ("hidden",)
    block: Literal["basic", "bottleneck"] = Field(default="basic", description="What a body is.")
    depth: int = Field(
        default=20,
        ge=8,
        le=1202,
        description="Layers with weights, projections excepted: 6 n + 2, bottlenecks 9 n + 2.",
    )
    placement: Placement = Field(
        default="before_activation", description="Where the normalization sits; before_activation is the paper's."
    )

    @model_validator(mode="after")
    def _blocks_fill_the_depth(self) -> "ResnetV2Spec":
        rest = (self.depth - 2) % self._layers_a_block
        if rest:
            below = self.depth - rest
            near = [str(depth) for depth in (below, below + self._layers_a_block) if depth >= 8]
            detail = f"Should be {self._layers_a_block} n + 2, such as {' or '.join(near)}"
            faults = [("/depth", detail, "no_such_depth")]
            raise PydanticCustomError("cross_field", "no such depth", {"faults": faults})
        return self

    def blueprint(self, signal: Signal, classes: int) -> Chain:
        return Chain(tuple(self._layers(is_large(self.stem, signal), classes)))

    def takes_a(self) -> bool:
        return self.shortcut == "A" or (self.shortcut == "auto" and self.block == "basic")

    def _layers(self, is_stem_large: bool, classes: int) -> Layers:
        yield from self.input_norm()
        width, expansion = self.width or 16, 4 if self.block == "bottleneck" else 1
        yield "stem", self.image_stem(width, is_large=is_stem_large)
        channels = width
        for stage in (1, 2, 3):
            changes = {} if stage == 1 else halving(f"Stage {stage}", is_stem_large=is_stem_large)
            yield f"stage{stage}", Chain(tuple(self._stage(stage, width, channels, changes)))
            channels, width = expansion * width, 2 * width
        yield "last", Chain(tuple(self._pre_activation("")))
        yield "global_pool", GlobalPool()
        yield "flatten", Flatten()
        yield from self.output(classes)

    def _stage(self, stage: int, width: int, channels: int, changes: dict[str, object]) -> Iterator[tuple[str, Chain]]:
        end = 4 * width if self.block == "bottleneck" else width
        for number in range(1, (self.depth - 2) // self._layers_a_block + 1):
            first = changes if number == 1 else {}
            weights = list(convolutions(self, width, first, is_bottleneck=self.block == "bottleneck"))
            shortcut = None
            if first or channels != end:
                shortcut = self.projection(end, 2 if first else 1, is_normed_behind=self._is_stream_normed)
            yield f"block{number}", Chain(tuple(self._unit(weights, shortcut, is_activated=stage == number == 1)))
            channels = end

    def _unit(self, weights: list[Conv2d], shortcut: Chain | None, *, is_activated: bool) -> Layers:
        """`is_activated` is true behind the stem, whose activation is that of both ways of the first unit."""
        body = list(self._body_of(weights))
        if not is_activated:
            first = list(self._pre_activation(1))
            if shortcut is None or self.takes_a():
                body = first + body
            else:
                yield from first
        yield "residual", Residual(body=Chain(tuple(body)), shortcut=shortcut or Chain(), pointer="/width")

    def _body_of(self, weights: list[Conv2d]) -> Layers:
        """From the first convolution on."""
        for number, conv in enumerate(weights, start=1):
            if number > 1:
                yield from self._pre_activation(number)
            yield f"conv{number}", self.without_dead_bias(conv, is_normed=self._is_stream_normed)

    def _pre_activation(self, number: int | str) -> Layers:
        norm = self.norm_layer(placement=self.placement)
        return self.activated(norm, number, norm_first=self.placement == "before_activation")

    @property
    def _is_stream_normed(self) -> bool:
        """Whether all that reads the sums normalizes them first, so that a constant in them is lost."""
        return "hidden" in self.norm_positions and self.placement == "before_activation"

    @property
    def _layers_a_block(self) -> int:
        return 9 if self.block == "bottleneck" else 6
