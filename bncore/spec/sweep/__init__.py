"""Sweeps: many experiments from one template, torch-free and without a database.

Invariant: the same document expands to the same experiments, in the same order, wherever and whenever it is expanded;
each knows its axes' values, its arm and its seed. Arms and points of one seed are paired: whatever the seed draws is
the same in all of them.
"""

from bncore.spec.sweep.axes import Axis, values_of
from bncore.spec.sweep.costing import Extremes, examples, extremes, parameters, steps
from bncore.spec.sweep.expanding import Complete, Point, Trial, corner_points, expand, extended, trial_points
from bncore.spec.sweep.pruning import PruneSpec, Rung, pruned_steps
from bncore.spec.sweep.search import SearchSpec
from bncore.spec.sweep.spec import MOST_EXPERIMENTS, Extension, SweepSpec, load_sweep, seeds_of

__all__ = [
    "MOST_EXPERIMENTS",
    "Axis",
    "Complete",
    "Extension",
    "Extremes",
    "Point",
    "PruneSpec",
    "Rung",
    "SearchSpec",
    "SweepSpec",
    "Trial",
    "corner_points",
    "examples",
    "expand",
    "extended",
    "extremes",
    "load_sweep",
    "parameters",
    "pruned_steps",
    "seeds_of",
    "steps",
    "trial_points",
    "values_of",
]
