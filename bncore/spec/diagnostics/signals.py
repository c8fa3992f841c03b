"""Diagnostics of what passes through a network."""

from typing import Any, ClassVar, Literal

from bncore.spec.blueprint import Activation, Norm, Positions, Primitive, Recurrent, Residual, has_matrix
from bncore.spec.diagnostics.cadence import OnProbe
from bncore.spec.diagnostics.sighted import Sighted

_LAYERS = 20
"""Of which gradients are looked at, at most; in equal distances."""


class ActivationMomentsSpec(OnProbe):
    """Mean, variance, kurtosis, dead and saturated share of every layer's outputs by depth, before and after each
    normalization (arXiv 1806.02375, section 3)."""

    usual: ClassVar[dict[str, Any]] = {"at": (0,)}

    blocked: ClassVar[frozenset[str]] = frozenset({"slope_after_norm"})

    kind: Literal["activation_moments"] = "activation_moments"

    def found_in(self, sighted: Sighted) -> tuple[str, ...]:
        """The slope of each role that there is, by the sites of `bncore.diagnostics.activation_moments`."""
        return ("slope", *(f"slope_{role}" for role in _IN_WORDS if _depths(role, sighted) or role == "weights"))

    def why_unknown(self, name: str, sighted: Sighted) -> str:
        role = name.removeprefix("slope").removeprefix("_") or self._usual_role(sighted)
        if len(set(_depths(role, sighted))) < 2:
            return f"a slope takes two depths, and {_IN_WORDS[role]} lie at one; take another role, or a deeper network"
        return super().why_unknown(name, sighted)

    def _usual_role(self, sighted: Sighted) -> str:
        return "activation" if _depths("activation", sighted) else "weights"

    def passes(self, weight_layers: int) -> float:  # noqa: ARG002
        # Moments in double precision of what a pass lets by, before and behind each layer.
        return 5.0


def _is_site(role: str, layer: Primitive | Residual) -> bool:
    """By what `bncore.diagnostics.activation_moments` looks at."""
    match layer:
        case Activation():
            return role == "activation" and layer.name != "identity"
        case Norm():
            return role in ("before_norm", "after_norm") and layer.spec.has_layer and layer.spec.is_passed
        case Residual():
            return role == "sum"
        case Positions():
            # What only adds its matrix is a site, and no layer deeper.
            return role == "weights" and layer.how == "learned"
    return role == "weights" and has_matrix(layer)


def _depths(role: str, sighted: Sighted) -> list[int]:
    """Of the sites of a role, each."""
    found = sighted.depths(lambda layer: _is_site(role, layer))
    if role in ("before_norm", "after_norm"):
        # What a recurrent layer normalizes for all steps at once comes from its first matrix, and not out of it.
        found += [depth - 1 for depth in sighted.depths(_normalizes_sequences)]
    return found


def _normalizes_sequences(layer: Primitive | Residual) -> bool:
    return isinstance(layer, Recurrent) and any(inside.spec.is_passed for inside in layer.norms)


_IN_WORDS = {
    "activation": "activations",
    "after_norm": "normalizations",
    "before_norm": "normalizations",
    "sum": "sums",
    "weights": "layers of weights",
}


class CovariateShiftSpec(OnProbe):
    """Percentiles 15, 50 and 85 of pre-activations on fixed examples and their drift (arXiv 1502.03167, figure 1), and
    of every layer how an update of those before it changes its gradient (arXiv 1805.11604, definition 2.1)."""

    usual: ClassVar[dict[str, Any]] = {"every_steps": 100}
    scalars: ClassVar[tuple[str, ...]] = ("last_drift", "mean_cosine", "mean_relative")

    kind: Literal["covariate_shift"] = "covariate_shift"

    def known_at(self, name: str, sighted: Sighted) -> tuple[int, ...]:
        known = super().known_at(name, sighted)
        return known[1:] if name == "last_drift" else known

    def why_unknown(self, name: str, sighted: Sighted) -> str:
        if name == "last_drift":
            return "" if len(sighted.moments) > 1 else "it is since the time before; measure twice or more"
        if len(_depths("weights", sighted)) < 2:
            return "the first layer of weights has nothing before it, and there is no other"
        return ""

    def passes(self, weight_layers: int) -> float:
        return 1.0 + 3.0 * (min(weight_layers, _LAYERS) + 1)
