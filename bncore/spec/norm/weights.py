"""Normalizations of the weights of hidden layers: no layer of their own, no statistics of the data."""

from collections.abc import Iterator
from typing import ClassVar, Literal

from pydantic import Field

from bncore.spec.faults import Fault
from bncore.spec.norm.place import NormModel, Place, fan_in_faults
from bncore.spec.strict import Epsilon


class _Weights(NormModel):
    has_layer: ClassVar[bool] = False

    @property
    def acts_on_weights(self) -> bool:
        return True


class WeightNormSpec(_Weights):
    """Weight normalization (arXiv 1602.07868): length and direction of each unit's weights, learned apart."""

    kind: Literal["weight_norm"] = "weight_norm"

    def weight_parameters(self, units: int) -> int:
        return units


class SpectralNormSpec(_Weights):
    """Spectral normalization (arXiv 1802.05957): weights divided by their largest singular value."""

    kind: Literal["spectral_norm"] = "spectral_norm"
    power_iterations: int = Field(default=1, ge=1, le=100, description="Steps of the power iteration each forward.")


class WeightStandardizationSpec(_Weights):
    """Weight standardization (arXiv 1903.10520): each unit's weights have mean 0 and variance 1."""

    kind: Literal["weight_standardization"] = "weight_standardization"
    eps: Epsilon = Field(default=1e-5, description="Added to the variance of the weights.")

    def faults(self, place: Place) -> Iterator[Fault]:
        return fan_in_faults(place)


class ScaledWeightStandardizationSpec(_Weights):
    """Scaled weight standardization (arXiv 2101.08692): variance 1 / fan-in, times a learned gain per unit."""

    kind: Literal["scaled_weight_standardization"] = "scaled_weight_standardization"
    eps: Epsilon = Field(default=1e-4, description="Lower bound of the variance times fan-in.")
    gain: float = Field(
        default=1.0,
        gt=0.0,
        le=100.0,
        description="What the activation loses: sqrt(2 / (1 - 1 / pi)) = 1.7129 for ReLU (arXiv 2101.08692).",
    )

    def weight_parameters(self, units: int) -> int:
        return units

    def faults(self, place: Place) -> Iterator[Fault]:
        return fan_in_faults(place)
