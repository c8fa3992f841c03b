"""The figures of numbers by depth: which quantities of which recordings, and on which axes."""

from bncore.figures.by_depth import Panel, by_depth
from bncore.figures.document import Figure
from bncore.figures.results import Options, Results

_MOMENTS = (
    Panel("variance", "variance", log=True),
    Panel("mean_magnitude", "|mean|", log=True),
)
_SHAPES = (
    Panel("kurtosis", "kurtosis"),
    Panel("dead", "dead units"),
    Panel("saturated", "saturated"),
)
_HEALTH = (
    Panel("gap", "output gap"),
    Panel("mean_gap", "mean gap"),
    Panel("variance_gap", "variance gap"),
    Panel("mean_drift", "mean drift"),
    Panel("variance_drift", "variance drift"),
    Panel("dead", "dead channels"),
    Panel("clipped_r", "clipped r"),
    Panel("clipped_d", "clipped d"),
    Panel("updates", "updates"),
)


def moments(results: Results, options: Options) -> Figure:
    """Mean and variance of activations by depth, on a logarithmic axis (1806.02375, figure 2)."""
    return by_depth(results, "activation_moments", _MOMENTS, "Activations by depth", options)


def activation_shapes(results: Results, options: Options) -> Figure:
    """Kurtosis of activations by depth, and the shares of units that are dead or saturated."""
    return by_depth(results, "activation_moments", _SHAPES, "Shape of activations by depth", options)


def gradient_norms(results: Results, options: Options) -> Figure:
    """How long the gradient of each layer's weights is (1902.08129)."""
    panels = (Panel("norm", "gradient norm", log=True),)
    return by_depth(results, "gradient_norms", panels, "Gradients by depth", options)


def weight_norms(results: Results, options: Options) -> Figure:
    """How long each layer's weights are, and the rate that this makes of the learning rate (1706.05350)."""
    panels = (Panel("norm", "weight norm", log=True), Panel("effective_lr", "effective rate", log=True))
    return by_depth(results, "weight_norms", panels, "Weights by depth", options)


def norm_health(results: Results, options: Options) -> Figure:
    """How far running statistics are from those of batches, and what else may be wrong, by layer."""
    return by_depth(results, "norm_health", _HEALTH, "Health of the normalization by layer", options)


def gradient_shift(results: Results, options: Options) -> Figure:
    """How the gradient of a layer changes when those before it take a step (1805.11604, section 2.2)."""
    panels = (Panel("cosine", "cosine"), Panel("relative", "relative change"))
    return by_depth(results, "covariate_shift", panels, "Gradients before and after a step below", options)


def kernel_ratios(results: Results, options: Options) -> Figure:
    """How much of a kernel's gradient is left in its sum over images and places: b/a (1806.02375, table 1)."""
    panels = (Panel("ratio", "|sum| / sum of |.|", log=True),)
    return by_depth(results, "gradient_heatmap", panels, "Gradients of kernels: b/a by depth", options)
