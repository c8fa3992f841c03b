"""C12, the first half: what batch normalization does for a convolutional network, in a few epochs of training.

Time and accuracy are asked for both at each one's best learning rate and at the plain network's.
"""

import math
from collections.abc import Mapping
from typing import Any

from bncore.studies.claim import Arm, Batch, Design, Question, Scale, ScaleMissing, Source, patched
from bncore.studies.estimand import Estimand, effects
from bncore.studies.guards import baseline_trains, target_reached, treatment_trains, winner_inside_grid
from bncore.studies.margin import Margin
from bncore.studies.measures import Final, FirstReaching, MeanOverSteps
from bncore.studies.results import Metric, Results
from bncore.studies.stages import Confirmed, staged
from bncore.studies.tuning import Axis, Grid, matched
from bncore.studies.verdict import Evidence, Words

_TARGET = 0.95
_EVERY = 5
"""Steps between evaluations: a normalized network is there within an epoch of 30."""
_STEPS: Mapping[Scale, int] = {"tiny": 15, "cpu": 120}
"""Four epochs of 960 images."""
_RATES: Mapping[Scale, tuple[float, ...]] = {"tiny": (0.1, 1.0), "cpu": (0.03, 0.1, 0.3, 1.0)}
_CHANCE = 0.1
_REACHED = FirstReaching("test/accuracy", _TARGET)
_CHOSEN = MeanOverSteps("validation/accuracy")
_ACCURACY = Metric("test/accuracy", when_diverged=_CHANCE)
_WHICH = {
    "best_versus_best": "each at its best learning rate",
    "at_best_of_baseline": "at the learning rate that is best without it",
}


class WorksInCnn:
    name = "works-in-cnn"
    number = "C12"
    says = "Batch normalization speeds up convolutional networks, and makes them more accurate."
    source = "arXiv 1502.03167, sections 3.2 and 4.2"
    literature: tuple[Source, ...] = (
        Source(
            "arXiv 1502.03167, figure 3", "Inception: 2.3 times fewer steps to 72.2 %, and 72.7 % at the end.", True
        ),
        Source("arXiv 1805.11604, section 2", "VGG on CIFAR-10: 83 % with and 80 % without, at the same rate.", True),
        Source("arXiv 1606.02228", "GoogLeNet of 128 pixels: .619 without, .607 and .596 with.", False),
    )

    def design(self, scale: Scale, seeds: int | None = None, overrides: Mapping[str, Any] | None = None) -> Design:
        if scale not in _STEPS:
            raise ScaleMissing(f"{self.name} has no design of scale {scale}: it needs CIFAR-10")
        n = seeds or (6 if scale == "tiny" else 10)
        steps = {f"steps-{which}": Margin("superiority", math.log(1.5)) for which in _WHICH}
        return Design(
            claim=self.name,
            scale=scale,
            template=patched(_template(_STEPS[scale]), overrides),
            arms=(
                Arm("plain", "no normalization", {"network": {"norm": {"kind": "none"}}}),
                Arm("bn", "batch normalization", {"network": {"norm": {"kind": "batch_norm"}}}),
            ),
            measures=(_REACHED, _CHOSEN, Final(_ACCURACY.key)),
            margins=steps | {f"accuracy-{which}": Margin("superiority", 0.01) for which in _WHICH},
            seeds=n,
            most=2 * n,
            pairs=(("bn", "plain"),),
            grid=Grid((Axis("optimizer.lr", _RATES[scale]),)),
            # The area under the curve is of speed and of accuracy; by the time alone all rates at which the target is
            # not reached would be alike.
            tuned_by=Metric(_CHOSEN.name, when_diverged=_CHANCE),
            tuning_seeds=1 if scale == "tiny" else 3,
        )

    def next_step(self, design: Design, found: Results) -> Batch | tuple[Question, ...]:
        at = staged(design, found)
        if isinstance(at, Batch):
            return at
        return (
            *(_steps(design, at, which) for which in _WHICH),
            *(_accuracy(design, at, which) for which in _WHICH),
        )


def _template(steps: int) -> dict[str, Any]:
    return {
        "data": {"kind": "digits", "validation": {"share": 0.2}},
        "network": {"kind": "cnn", "channels": [32, 64], "activation": "relu", "init": {"kind": "kaiming"}},
        "optimizer": {"kind": "sgd"},
        "train": {"steps": steps, "batch_size": 32},
        "evaluation": {"every_steps": _EVERY},
        "checkpoint": {"keep_best": False},
        "diagnostics": [{"kind": "norm_health", "enabled": False}],
    }


def _steps(design: Design, at: Confirmed, which: str) -> Evidence:
    treatment, baseline = matched(at.best, "bn", "plain")[which]
    estimand = Estimand(
        Metric(_REACHED.name, higher_is_better=False),
        "log_time_ratio",
        budget=design.template["train"]["steps"],
        first=_EVERY,
    )
    each = effects(estimand, at.runs, treatment, baseline, at.seeds)
    words = Words(
        f"Does a convolutional network need fewer steps to {_TARGET:.0%} test accuracy, {_WHICH[which]}?",
        f"steps to {_TARGET:.0%} test accuracy",
        design.arm("bn").words,
        design.arm("plain").words,
    )
    # As in C1: that the baseline never gets there would be the claim.
    guards = (winner_inside_grid(at.best), treatment_trains(at.runs, treatment, _ACCURACY), target_reached(each))
    name = f"steps-{which}"
    return Evidence(name, words, estimand, design.margins[name], each, guards)


def _accuracy(design: Design, at: Confirmed, which: str) -> Evidence:
    treatment, baseline = matched(at.best, "bn", "plain")[which]
    words = Words(
        f"Is a convolutional network more accurate after so many steps, {_WHICH[which]}?",
        "test accuracy",
        design.arm("bn").words,
        design.arm("plain").words,
        "points",
        100.0,
    )
    guards = (
        baseline_trains(at.runs, baseline, _ACCURACY),
        winner_inside_grid(at.best),
        treatment_trains(at.runs, treatment, _ACCURACY),
    )
    name, estimand = f"accuracy-{which}", Estimand(_ACCURACY)
    each = effects(estimand, at.runs, treatment, baseline, at.seeds)
    return Evidence(name, words, estimand, design.margins[name], each, guards)
