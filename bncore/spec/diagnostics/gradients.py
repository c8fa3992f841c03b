"""Diagnostics of gradients and weights, layer by layer."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from bncore.spec.diagnostics.cadence import OnBatch, OnProbe

Factor = Annotated[float, Field(gt=0.0, le=1e6)]


class GradientHeatmapSpec(OnProbe):
    """The gradient of the loss by the outputs, an image a row and a class a column (arXiv 1806.02375, figure 4), how
    alike the rows are, and of each convolution |sum of gradients| / sum of |gradients| (its table 1)."""

    usual: ClassVar[dict[str, Any]] = {"at": (0,)}

    kind: Literal["gradient_heatmap"] = "gradient_heatmap"

    def passes(self, weight_layers: int) -> float:  # noqa: ARG002
        return 6.0

    def numbers(self, outputs: int) -> int:
        return outputs


class GradientNormsSpec(OnProbe):
    """The 2-norm of the gradient by each layer's weights, and its growth from layer to layer (arXiv 1902.08129)."""

    usual: ClassVar[dict[str, Any]] = {"at": (0,)}

    kind: Literal["gradient_norms"] = "gradient_norms"

    def passes(self, weight_layers: int) -> float:  # noqa: ARG002
        return 3.0


class ScaleInvarianceSpec(OnProbe):
    """How far outputs and gradients are from those of the same network with scaled weights, for weights that a
    normalization follows (arXiv 1502.03167, section 3.3): with eps 0, with eps scaled along, and as trained."""

    usual: ClassVar[dict[str, Any]] = {"at": (0,)}

    kind: Literal["scale_invariance"] = "scale_invariance"
    factors: Annotated[tuple[Factor, ...], Field(strict=False, min_length=1, max_length=16)] = Field(
        default=(0.1, 10.0, 100.0), description="What the weights are multiplied by."
    )

    def passes(self, weight_layers: int) -> float:  # noqa: ARG002
        # In double precision, which takes two to six times as long; each way of eps has an unscaled network of its own.
        return 3 * 3 * 3.0 * (1 + len(self.factors))


class WeightNormsSpec(OnBatch):
    """The 2-norm of each layer's weights, and its effective learning rate lr / norm^2 (arXiv 1706.05350)."""

    usual: ClassVar[dict[str, Any]] = {"every_steps": 100}

    kind: Literal["weight_norms"] = "weight_norms"

    def passes(self, weight_layers: int) -> float:  # noqa: ARG002
        return 1.0
