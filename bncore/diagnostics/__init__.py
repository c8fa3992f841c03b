"""What is going on inside of a network: the measurements of the papers on normalization, for any `torch.nn` model.

Each takes `(model, inputs, labels)`, options of its own, and what `How` says (`lengths`, `loss`, `forward`, `seed`,
`step`), and gives a `bncore.recording.Recording`: arrays with axes, units and sites, and scalars. `recording.figure()`
is a Vega-Lite document. Looking changes nothing in the model, nor in any random stream: it works on a copy, which is in
training mode unless parts of the model were frozen in evaluation mode, and in the precision of the caller (within
`torch.autocast`, in that). Values that are not finite are found, not raised.

All raise ValueError for a model that cannot be copied, has no values yet, or returns no tensor, and for labels that do
not fit. `norm_health` gives warnings besides; `diagnose` is its table for people.
"""

from bncore.diagnostics._health_warnings import HealthWarning
from bncore.diagnostics._probe import How, usual_loss
from bncore.diagnostics.activation_moments import activation_moments
from bncore.diagnostics.covariate_shift import covariate_shift
from bncore.diagnostics.gradient_heatmap import gradient_heatmap
from bncore.diagnostics.gradient_norms import gradient_norms
from bncore.diagnostics.hessian_top_eigenvalue import hessian_top_eigenvalue
from bncore.diagnostics.loss_landscape import effective_smoothness, gradient_predictiveness, loss_landscape
from bncore.diagnostics.norm_health import NormHealth, norm_health, running_statistics
from bncore.diagnostics.normalization import diagnose
from bncore.diagnostics.report import Diagnosis, Finding, LayerDiagnosis, Worst
from bncore.diagnostics.scale_invariance import scale_invariance
from bncore.diagnostics.step_probe import step_probe
from bncore.diagnostics.weight_norms import weight_norms

__all__ = [
    "Diagnosis",
    "Finding",
    "HealthWarning",
    "How",
    "LayerDiagnosis",
    "NormHealth",
    "Worst",
    "activation_moments",
    "covariate_shift",
    "diagnose",
    "effective_smoothness",
    "gradient_heatmap",
    "gradient_norms",
    "gradient_predictiveness",
    "hessian_top_eigenvalue",
    "loss_landscape",
    "norm_health",
    "running_statistics",
    "scale_invariance",
    "step_probe",
    "usual_loss",
    "weight_norms",
]
