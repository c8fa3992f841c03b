"""Diagnostics of gradients and weights, layer by layer."""

import itertools
from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import Field

from bncore.spec.diagnostics.cadence import OnBatch, OnProbe
from bncore.spec.diagnostics.sighted import Sighted

Factor = Annotated[float, Field(gt=0.0, le=1e6)]
Eps = Literal["as_trained", "eps_scaled", "eps_zero"]
WAYS_OF_EPS: tuple[Eps, ...] = get_args(Eps)
"""With which eps of the normalization weights are scaled."""


class GradientHeatmapSpec(OnProbe):
    """The gradient of the loss by the outputs, an image a row and a class a column (arXiv 1806.02375, figure 4), how
    alike the rows are, and of each convolution |sum of gradients| / sum of |gradients| (its table 1)."""

    usual: ClassVar[dict[str, Any]] = {"at": (0,)}
    scalars: ClassVar[tuple[str, ...]] = ("mode", "colcons", "cosine", "maxcol", "median_ratio")

    blocked: ClassVar[frozenset[str]] = frozenset({"median_ratio"})

    kind: Literal["gradient_heatmap"] = "gradient_heatmap"

    def passes(self, weight_layers: int) -> float:  # noqa: ARG002
        return 6.0

    def numbers(self, outputs: int) -> int:
        return outputs


class GradientNormsSpec(OnProbe):
    """The 2-norm of the gradient by each layer's weights, and its growth from layer to layer (arXiv 1902.08129)."""

    usual: ClassVar[dict[str, Any]] = {"at": (0,)}
    scalars: ClassVar[tuple[str, ...]] = ("growth", "hidden_growth", "total")

    blocked: ClassVar[frozenset[str]] = frozenset({"hidden_growth"})
    """The deepest hidden layer is the last branch's."""
    deepest: ClassVar[dict[str, int]] = {"growth": 3, "hidden_growth": 4}
    """Layers of weights behind one another from which on it is a number."""

    kind: Literal["gradient_norms"] = "gradient_norms"

    def why_unknown(self, name: str, sighted: Sighted) -> str:
        least, there = self.deepest.get(name, 0), sighted.depth
        if there < least:
            return f"it takes {least} layers of weights behind one another, and there are {there}"
        return super().why_unknown(name, sighted)

    def passes(self, weight_layers: int) -> float:  # noqa: ARG002
        return 3.0


class ScaleInvarianceSpec(OnProbe):
    """How far outputs and gradients are from those of the same network with scaled weights, for weights that a
    normalization follows (arXiv 1502.03167, section 3.3): with eps 0, with eps scaled along, and as trained."""

    usual: ClassVar[dict[str, Any]] = {"at": (0,)}
    errors: ClassVar[tuple[str, ...]] = ("output_error", "gradient_error", "input_gradient_error", "orthogonality")
    scalars: ClassVar[tuple[str, ...]] = tuple(
        f"max_{error}_{eps}" for eps, error in itertools.product(WAYS_OF_EPS, errors)
    )

    blocked: ClassVar[frozenset[str]] = frozenset(scalars)

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
    scalars: ClassVar[tuple[str, ...]] = ("total",)

    kind: Literal["weight_norms"] = "weight_norms"

    def passes(self, weight_layers: int) -> float:  # noqa: ARG002
        return 1.0
