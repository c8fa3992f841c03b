"""C12, the second half: batch normalization inside an LSTM, where the literature is divided.

Each at its best learning rate, after the same number of steps. Statistics of each time step's own are what its authors
ask for: a third arm averages them over time, and differs only in what it evaluates with.
"""

from collections.abc import Mapping
from typing import Any

from bncore.studies.claim import Arm, Batch, Design, Question, Scale, ScaleMissing, Source, patched
from bncore.studies.estimand import Estimand, effects
from bncore.studies.guards import baseline_trains, treatment_trains, winner_inside_grid
from bncore.studies.margin import Margin
from bncore.studies.measures import Final
from bncore.studies.results import Metric, Results
from bncore.studies.stages import Confirmed, confirmed, tuned
from bncore.studies.tuning import Axis, Grid
from bncore.studies.verdict import Evidence, Words

_NORMS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "plain": ("no normalization", {"kind": "none"}),
    "bn": ("batch normalization by time step", {"kind": "step_batch_norm"}),
    "shared": ("statistics averaged over time", {"kind": "step_batch_norm", "max_steps": 1}),
}
_STEPS: Mapping[Scale, Mapping[str, int]] = {
    "tiny": {"rows": 10, "pixels": 2},
    "cpu": {"rows": 400, "pixels": 250},
}
_RATES: Mapping[Scale, tuple[float, ...]] = {"tiny": (0.003,), "cpu": (0.0003, 0.001, 0.003)}
"""Around Cooijmans et al.'s 0.001."""
_AS = {"rows": "row", "pixels": "permuted_pixel"}
_PAIRS = {
    "rows": ("rows-bn", "rows-plain"),
    "pixels": ("pixels-bn", "pixels-plain"),
    "by_step": ("rows-bn", "rows-shared"),
}
_QUESTIONS = {
    "rows": "Is a normalized LSTM more accurate that reads digits row by row?",
    "pixels": "Is it more accurate that reads their pixels in a shuffled order?",
    "by_step": "Does it take statistics of each time step's own?",
}
_CHANCE = 0.1
_ACCURACY = Metric("test/accuracy", when_diverged=_CHANCE)
_CHOSEN = Metric("validation/accuracy", when_diverged=_CHANCE)


class WorksInRnn:
    name = "works-in-rnn"
    number = "C12"
    says = "Batch normalization helps recurrent networks too, if each time step has statistics of its own."
    source = "arXiv 1603.09025, sections 3 and 5.1"
    literature: tuple[Source, ...] = (
        Source("arXiv 1603.09025, section 5.1", "MNIST pixel by pixel 98.9 to 99.0 %, shuffled 90.2 to 95.4.", True),
        Source("arXiv 1603.09025, section 3", "Statistics averaged over time degrade it severely.", True),
        Source(
            "arXiv 1510.01378",
            "Between hidden states it does not help; on the way in it speeds up training, and generalizes no better.",
            False,
        ),
    )

    def design(self, scale: Scale, seeds: int | None = None, overrides: Mapping[str, Any] | None = None) -> Design:
        if scale not in _STEPS:
            raise ScaleMissing(
                f"{self.name} has no design of scale {scale}: it needs MNIST's 60,000, of 784 steps each"
            )
        n = seeds or (6 if scale == "tiny" else 10)
        asked = dict.fromkeys(arm for pair in _PAIRS.values() for arm in pair)
        return Design(
            claim=self.name,
            scale=scale,
            template=patched(_TEMPLATE, overrides),
            arms=tuple(_arm(scale, *name.split("-")) for name in asked),
            measures=(Final(_ACCURACY.key), Final(_CHOSEN.key)),
            margins={
                "rows": Margin("superiority", 0.005),
                "pixels": Margin("superiority", 0.02),
                "by_step": Margin("superiority", 0.005),
            },
            seeds=n,
            most=2 * n,
            pairs=tuple(_PAIRS.values()),
            grid=Grid((Axis("optimizer.lr", _RATES[scale]),)),
            tuned_by=_CHOSEN,
            tuning_seeds=1,
        )

    def next_step(self, design: Design, found: Results) -> Batch | tuple[Question, ...]:
        """At each one's best alone: a step of 64 pixels takes a hundred times as long as one of an MLP."""
        best = tuned(design, found)
        if isinstance(best, Batch):
            return best
        at = confirmed(design, found, tuple(winner.place for winner in best.values()), best)
        return at if isinstance(at, Batch) else tuple(_evidence(design, at, name) for name in _PAIRS)


_TEMPLATE: Mapping[str, Any] = {
    "data": {"kind": "digits", "validation": {"share": 0.2}},
    "network": {"kind": "lstm", "hidden": [48]},
    "optimizer": {"kind": "rmsprop", "momentum": 0.9},
    "train": {"batch_size": 100, "clip_grad_norm": 1.0},
    "evaluation": {"every_steps": 1000},
    "checkpoint": {"keep_best": False},
    "diagnostics": [{"kind": "norm_health", "enabled": False}],
}
"""Optimizer, batch and clipping are Cooijmans et al.'s (section 5.1)."""


def _arm(scale: Scale, reads: str, norm: str) -> Arm:
    words, of_norm = _NORMS[norm]
    patch = {"data": {"as": _AS[reads]}, "network": {"norm": of_norm}, "train": {"steps": _STEPS[scale][reads]}}
    return Arm(f"{reads}-{norm}", words, patch)


def _evidence(design: Design, at: Confirmed, name: str) -> Evidence:
    treatment, baseline = (at.best[arm].place for arm in _PAIRS[name])
    words = Words(
        _QUESTIONS[name],
        "test accuracy",
        design.arm(treatment.arm).words,
        design.arm(baseline.arm).words,
        "points",
        100.0,
    )
    guards = (
        baseline_trains(at.runs, baseline, _ACCURACY),
        winner_inside_grid({arm: at.best[arm] for arm in _PAIRS[name]}),
        treatment_trains(at.runs, treatment, _ACCURACY),
    )
    each = effects(Estimand(_ACCURACY), at.runs, treatment, baseline, at.seeds)
    return Evidence(name, words, Estimand(_ACCURACY), design.margins[name], each, guards)
