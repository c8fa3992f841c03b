"""The plain deep networks of Simonyan and Zisserman (arXiv 1409.1556), with normalization."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from bncore.spec.blueprint import Chain, Flatten, GlobalPool, Pool, Signal
from bncore.spec.network.layered import Bias, LayeredSpec, Layers
from bncore.spec.strict import Count, Integer

_CONVOLUTIONS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
"""Of each stage; table 1 of the paper, A, B, D and E."""
_WIDENING = (1, 2, 4, 8, 8)


class VggSpec(LayeredSpec):
    """VGG (arXiv 1409.1556): five stages of 3x3 convolutions, each of which ends in a 2x2 maximum.

    By default what is left of the image is averaged and classified by one linear layer, as is usual for CIFAR.
    """

    width_field: ClassVar[str] = "width"

    kind: Literal["vgg"] = "vgg"
    depth: Annotated[Literal[11, 13, 16, 19], Integer] = Field(
        default=16, description="Layers with weights, the paper's three linear ones among them."
    )
    width: Count = Field(
        default=64, description="Channels of the first stage; the others have 2, 4, 8 and 8 times that."
    )
    pools: int = Field(
        default=5, ge=0, le=5, description="Stages that end in a pool, counted from the first; fewer for small images."
    )
    head: Annotated[tuple[Count, ...], Field(strict=False, max_length=10)] = Field(
        default=(),
        description="Widths of linear hidden layers in front of the last one, on the flattened image instead of its "
        "average; the paper has [4096, 4096].",
    )
    bias: Bias = Field(
        default="auto", description="Give hidden layers a bias; auto: where no normalization cancels it."
    )

    def blueprint(self, signal: Signal, classes: int) -> Chain:
        return Chain(tuple(self._layers(classes)))

    def _layers(self, classes: int) -> Layers:
        yield from self.input_norm()
        for stage in range(1, 6):
            yield f"stage{stage}", Chain(tuple(self._stage(stage)))
        if not self.head:
            yield "global_pool", GlobalPool()
        yield "flatten", Flatten()
        if self.head:
            yield "head", Chain(tuple(self._head()))
        yield from self.output(classes)

    def _stage(self, stage: int) -> Layers:
        width = self.width * _WIDENING[stage - 1]
        for number in range(1, _CONVOLUTIONS[self.depth][stage - 1] + 1):
            yield from self.layer(f"conv{number}", self.conv(width, 3), number)
        if stage <= self.pools:
            cure = f"use {stage - 1} pools, or larger images"
            yield "pool", Pool(how="max", pointer="/pools", place=f"Stage {stage}", cure=cure)

    def _head(self) -> Layers:
        for number, width in enumerate(self.head, start=1):
            where = f"/head/{number - 1}"
            yield from self.layer(f"linear{number}", self.linear(width), number, width_pointer=where)
