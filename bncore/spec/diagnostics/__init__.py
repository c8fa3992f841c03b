"""What an experiment measures of itself beside its results: a union of kinds, each at most once."""

from typing import Annotated

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from bncore.spec.diagnostics.cadence import MOST_MEASUREMENTS, DiagnosticModel, OnProbe
from bncore.spec.diagnostics.gradients import (
    GradientHeatmapSpec,
    GradientNormsSpec,
    ScaleInvarianceSpec,
    WeightNormsSpec,
)
from bncore.spec.diagnostics.landscape import HessianTopEigenvalueSpec, LossLandscapeSpec, StepProbeSpec
from bncore.spec.diagnostics.norm_health import NormHealthSpec
from bncore.spec.diagnostics.signals import ActivationMomentsSpec, CovariateShiftSpec

__all__ = [
    "MOST_MEASUREMENTS",
    "ActivationMomentsSpec",
    "CovariateShiftSpec",
    "DiagnosticModel",
    "DiagnosticSpec",
    "Diagnostics",
    "GradientHeatmapSpec",
    "GradientNormsSpec",
    "HessianTopEigenvalueSpec",
    "LossLandscapeSpec",
    "NormHealthSpec",
    "OnProbe",
    "ScaleInvarianceSpec",
    "StepProbeSpec",
    "WeightNormsSpec",
    "usual_diagnostics",
]

DiagnosticSpec = Annotated[
    NormHealthSpec
    | ActivationMomentsSpec
    | GradientHeatmapSpec
    | GradientNormsSpec
    | ScaleInvarianceSpec
    | StepProbeSpec
    | CovariateShiftSpec
    | LossLandscapeSpec
    | HessianTopEigenvalueSpec
    | WeightNormsSpec,
    Field(discriminator="kind"),
]


def usual_diagnostics() -> tuple[DiagnosticSpec, ...]:
    """Those of a spec that names none."""
    return (NormHealthSpec(),)


def _each_once_and_health_among_them(given: tuple[DiagnosticSpec, ...]) -> tuple[DiagnosticSpec, ...]:
    kinds = [one.kind for one in given]
    faults = [
        (f"/{place}/kind", f"Is there already, at {kinds.index(kind)}; each kind is measured once", "repeated_kind")
        for place, kind in enumerate(kinds)
        if kind in kinds[:place]
    ]
    if faults:
        raise PydanticCustomError("cross_field", "diagnostics", {"faults": faults})
    return given if "norm_health" in kinds else (*given, NormHealthSpec())


Diagnostics = Annotated[
    tuple[DiagnosticSpec, ...], Field(strict=False, max_length=32), AfterValidator(_each_once_and_health_among_them)
]
