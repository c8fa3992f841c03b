"""All figures by name: what each shows, and which results allow it."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from bncore.figures.anything import anything
from bncore.figures.curves import curves
from bncore.figures.distances import scale_invariance, step_probe
from bncore.figures.document import Figure
from bncore.figures.heat_map import gradient_heatmap
from bncore.figures.landscape import effective_smoothness, gradient_predictiveness, landscape
from bncore.figures.layers import (
    activation_shapes,
    gradient_norms,
    gradient_shift,
    kernel_ratios,
    moments,
    norm_health,
    weight_norms,
)
from bncore.figures.percentiles import percentiles
from bncore.figures.results import FigureRefused, Options, Result, Results, chosen
from bncore.recording import Recording


@dataclass(frozen=True)
class Drawable:
    """A figure that can be asked for."""

    name: str
    title: str
    draw: Callable[[Results, Options], Figure]
    recordings: str | None
    """Of which kind it shows recordings; None for series."""
    over_steps: bool = False
    """Whether it shows all recordings, not a few of them."""

    @property
    def summary(self) -> str:
        """The first paragraph of its docstring, for those who choose: it raises nothing."""
        return (self.draw.__doc__ or "").strip().split("\n\n")[0].replace("\n    ", " ")


def _over_steps(name: str, title: str, draw: Callable[[Results, Options], Figure]) -> Drawable:
    return Drawable(name, title, draw, name, over_steps=True)


FIGURES: dict[str, Drawable] = {
    one.name: one
    for one in (
        Drawable("curves", "Learning curves", curves, None),
        Drawable("moments", "Activations by depth", moments, "activation_moments"),
        Drawable("activation_shapes", "Shape of activations by depth", activation_shapes, "activation_moments"),
        Drawable("gradient_heatmap", "Gradient by image and class", gradient_heatmap, "gradient_heatmap"),
        Drawable("kernel_ratios", "Gradients of kernels", kernel_ratios, "gradient_heatmap"),
        Drawable("gradient_norms", "Gradients by depth", gradient_norms, "gradient_norms"),
        Drawable("weight_norms", "Weights by depth", weight_norms, "weight_norms"),
        Drawable("percentiles", "Inputs of a layer over training", percentiles, "covariate_shift", over_steps=True),
        Drawable("gradient_shift", "Gradients before and after a step below", gradient_shift, "covariate_shift"),
        Drawable("landscape", "Loss landscape over training", landscape, "loss_landscape", over_steps=True),
        _over_steps("gradient_predictiveness", "Gradient predictiveness", gradient_predictiveness),
        _over_steps("effective_smoothness", "Effective smoothness", effective_smoothness),
        Drawable("step_probe", "Loss after one step", step_probe, "step_probe"),
        Drawable("scale_invariance", "Scale invariance", scale_invariance, "scale_invariance"),
        Drawable("norm_health", "Health of the normalization", norm_health, "norm_health"),
    )
}


def allowed(keys: Collection[str], kinds: Collection[str]) -> list[Drawable]:
    """The figures that results with these series and kinds of recordings allow."""
    return [one for one in FIGURES.values() if (one.recordings in kinds if one.recordings is not None else bool(keys))]


def draw(name: str, results: Results, options: Options | None = None) -> Figure:
    """A figure by its name. Raises `FigureRefused`."""
    return chosen(name, FIGURES).draw(results, options or Options())


def of(recording: Recording, options: Options | None = None) -> Figure:
    """The figure of one recording by itself. Raises `FigureRefused`."""
    options = options or Options()
    results = {"recording": Result({}, {}, {recording.kind: [recording]})}
    for one in _showing(recording.kind):
        try:
            return one.draw(results, options)
        except FigureRefused:
            # It holds something else than what this figure shows.
            continue
    return anything(recording, options)


def _showing(kind: str) -> Sequence[Drawable]:
    # One step is no course of steps.
    return [one for one in FIGURES.values() if one.recordings == kind and not one.over_steps]
