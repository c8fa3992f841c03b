"""Fully connected residual networks."""

from typing import ClassVar, Literal

from pydantic import Field

from bncore.spec.blueprint import Chain, Flatten, Signal
from bncore.spec.blueprint.signal import SignalKind
from bncore.spec.network.layered import Layers, PlainPositions
from bncore.spec.network.residual import ResidualLayers
from bncore.spec.strict import Count


class ResidualMlpSpec(ResidualLayers):
    """A fully connected network of residual blocks, each `activation(body(x) + x)` (as arXiv 1512.03385 has them).

    The input is mapped to `width` by a hidden layer first. A body is `block_layers` linear layers with activations
    between them. The normalization is behind each linear layer (`before_activation`), behind each activation
    (`after_activation`), or once a block, between the sum and its activation (`after_sum`).
    """

    width_field: ClassVar[str] = "width"
    takes: ClassVar[tuple[SignalKind, ...]] = ("image", "sequence", "vector")

    kind: Literal["residual_mlp"] = "residual_mlp"
    norm_positions: PlainPositions = ("hidden",)
    width: Count = Field(default=100, description="Of every hidden layer.")
    blocks: int = Field(default=4, ge=1, le=100)
    block_layers: int = Field(default=2, ge=1, le=4, description="Linear layers in the body of each block.")

    def blueprint(self, signal: Signal, classes: int) -> Chain:
        return Chain(tuple(self._layers(classes)))

    def _layers(self, classes: int) -> Layers:
        yield "flatten", Flatten()
        yield from self.input_norm()
        yield from self.stem_layer("linear", self.linear(self.width))
        for number in range(1, self.blocks + 1):
            body = self.body("linear", [self.linear(self.width)] * self.block_layers)
            yield f"block{number}", Chain(tuple(self.residual_block(body)))
        yield from self.output(classes)
