"""Diagnostics of what passes through a network."""

from typing import Any, ClassVar, Literal

from bncore.spec.blueprint import Activation
from bncore.spec.diagnostics.cadence import OnProbe
from bncore.spec.diagnostics.sighted import Sighted

_LAYERS = 20
"""Of which gradients are looked at, at most; in equal distances."""


class ActivationMomentsSpec(OnProbe):
    """Mean, variance, kurtosis, dead and saturated share of every layer's outputs by depth, before and after each
    normalization (arXiv 1806.02375, section 3)."""

    usual: ClassVar[dict[str, Any]] = {"at": (0,)}

    kind: Literal["activation_moments"] = "activation_moments"

    def found_in(self, sighted: Sighted) -> tuple[str, ...]:
        """The slope of each role that there is, by the sites of `bncore.diagnostics.activation_moments`."""
        acts = any(isinstance(layer, Activation) and layer.name != "identity" for layer in sighted.primitives)
        normalizes = any(norm.is_passed for norm in sighted.norms)
        there = {
            "activation": acts,
            "after_norm": normalizes,
            "before_norm": normalizes,
            "sum": sighted.adds_branches,
            "weights": True,
        }
        return ("slope", *(f"slope_{role}" for role, is_there in there.items() if is_there))

    def passes(self, weight_layers: int) -> float:  # noqa: ARG002
        # Moments in double precision of what a pass lets by, before and behind each layer.
        return 5.0


class CovariateShiftSpec(OnProbe):
    """Percentiles 15, 50 and 85 of pre-activations on fixed examples and their drift (arXiv 1502.03167, figure 1), and
    of every layer how an update of those before it changes its gradient (arXiv 1805.11604, definition 2.1)."""

    usual: ClassVar[dict[str, Any]] = {"every_steps": 100}
    scalars: ClassVar[tuple[str, ...]] = ("last_drift", "mean_cosine", "mean_relative")

    kind: Literal["covariate_shift"] = "covariate_shift"

    def passes(self, weight_layers: int) -> float:
        return 1.0 + 3.0 * (min(weight_layers, _LAYERS) + 1)
