"""What is going on inside of a model; looking changes nothing in it."""

from bncore.diagnostics.normalization import diagnose
from bncore.diagnostics.report import Diagnosis, LayerDiagnosis, Worst

__all__ = ["Diagnosis", "LayerDiagnosis", "Worst", "diagnose"]
