"""Deep linear networks, as in Santurkar et al. (arXiv 1805.11604), appendix D."""

from typing import ClassVar, Literal

from pydantic import Field

from bncore.spec.blueprint import Chain, Dropout, Flatten, Signal
from bncore.spec.blueprint.signal import SignalKind
from bncore.spec.network.layered import Bias, HiddenLayers, Layers, PlainPositions
from bncore.spec.strict import Count


class DeepLinearSpec(HiddenLayers):
    """Linear layers with nothing but normalization between them: a product of matrices (arXiv 1805.11604: 25 of 10x10).

    Its paper has them learn a linear map; of classes it learns what a linear classifier can.
    """

    width_field: ClassVar[str] = "width"
    takes: ClassVar[tuple[SignalKind, ...]] = ("image", "sequence", "vector")

    kind: Literal["deep_linear"] = "deep_linear"
    depth: int = Field(default=25, ge=1, le=1000, description="Linear layers, the last one among them.")
    width: Count = Field(default=10, description="Of every layer but the last.")
    activation: Literal["identity"] = "identity"
    norm_positions: PlainPositions = ("hidden",)
    bias: Bias = Field(default=False, description="Give hidden layers a bias; auto: where no normalization cancels it.")

    def blueprint(self, signal: Signal, classes: int) -> Chain:
        return Chain(tuple(self._layers(classes)))

    def _layers(self, classes: int) -> Layers:
        yield "flatten", Flatten()
        yield from self.input_norm()
        for number in range(1, self.depth):
            norm = self.norm_layer()
            yield f"linear{number}", self.without_dead_bias(self.linear(self.width), is_normed=norm is not None)
            if norm is not None:
                yield f"norm{number}", norm
            if self.dropout > 0.0:
                yield f"dropout{number}", Dropout(probability=self.dropout)
        yield from self.output(classes)
