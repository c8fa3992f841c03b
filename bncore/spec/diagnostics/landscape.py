"""Diagnostics of the loss around the weights."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from bncore.spec.diagnostics.cadence import OnProbe

Distance = Annotated[float, Field(gt=0.0, le=1e9)]
Distances = Annotated[tuple[Distance, ...], Field(strict=False, min_length=1, max_length=100)]

_PROBED = tuple(10.0 ** (exponent / 2) for exponent in range(-6, 5))


class StepProbeSpec(OnProbe):
    """The loss after one step along the gradient, by the size of the step (arXiv 1806.02375, figure 3)."""

    usual: ClassVar[dict[str, Any]] = {"at": (0,)}
    scalars: ClassVar[tuple[str, ...]] = ("loss_0", "exploded", "largest_eta", "worst_ratio")

    kind: Literal["step_probe"] = "step_probe"
    distances: Distances = Field(default=_PROBED, description="Learning rates of that one step.")

    def passes(self, weight_layers: int) -> float:  # noqa: ARG002
        return 3.0 + len(self.distances)


class LossLandscapeSpec(OnProbe):
    """Along the gradient, in multiples of the learning rate: the range of the loss, how far gradients change (gradient
    predictiveness), and by how much a unit of the way (effective smoothness; arXiv 1805.11604, figure 4)."""

    usual: ClassVar[dict[str, Any]] = {"every_steps": 100}
    scalars: ClassVar[tuple[str, ...]] = (
        *("loss_0", "min", "max", "range", "predictiveness"),
        *("effective_smoothness", "scale_free_smoothness"),
    )

    kind: Literal["loss_landscape"] = "loss_landscape"
    distances: Distances = Field(
        default=(0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0), description="Multiples of the learning rate of the step."
    )

    def passes(self, weight_layers: int) -> float:  # noqa: ARG002
        return 3.0 * (1 + len(self.distances))


class HessianTopEigenvalueSpec(OnProbe):
    """The eigenvalue of the loss's Hessian that is largest by amount, by power iteration, with its residual."""

    usual: ClassVar[dict[str, Any]] = {"every_steps": 100}
    takes_second_derivatives: ClassVar[bool] = True
    scalars: ClassVar[tuple[str, ...]] = ("eigenvalue", "residual", "iterations")

    kind: Literal["hessian_top_eigenvalue"] = "hessian_top_eigenvalue"
    iterations: int = Field(default=20, ge=1, le=1000, description="Products of the Hessian with a vector, at most.")
    tolerance: float = Field(
        default=1e-3, gt=0.0, lt=1.0, description="End where the residual is below this times the eigenvalue."
    )

    def passes(self, weight_layers: int) -> float:  # noqa: ARG002
        return 9.0 * self.iterations
