"""C2: with batch normalization a network trains at larger learning rates.

Two questions: how large the rate may be in training, and what a single long step does to the loss at initialization.
Layer normalization is a third arm that no verdict rests on: what it allows as well is no merit of the batch.
"""

import math
from collections.abc import Mapping
from typing import Any

from bncore.studies.claim import Arm, Batch, Design, Question, Scale, ScaleMissing, Source, patched
from bncore.studies.estimand import Estimand, effects
from bncore.studies.guards import Guard, baseline_trains, treatment_trains, winner_inside_grid
from bncore.studies.margin import Margin
from bncore.studies.measures import AtStep, Final
from bncore.studies.results import Metric, Place, Results, setting
from bncore.studies.stages import Confirmed, confirmed, everywhere
from bncore.studies.tuning import Axis, Grid
from bncore.studies.verdict import Evidence, Words
from bncore.studies.working import Extent, accuracies, best_of, farther, largest

_LR = "optimizer.lr"
_RATES: Mapping[Scale, tuple[float, ...]] = {
    "tiny": (0.1, 1.0, 10.0),
    "cpu": (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0),
}
_STEPS: Mapping[Scale, int] = {"tiny": 20, "cpu": 400}
_ETA = 10.0
"""Of the probe: Bjorck et al. see plain networks explode from 1e-3 on, at 110 layers; five take more."""
_PROBE = AtStep("diagnostics/step_probe/worst_ratio", 0)
_CHANCE = 0.1
_ACCURACY = Metric("test/accuracy", when_diverged=_CHANCE)
_CHOSEN = Metric("validation/accuracy", when_diverged=_CHANCE)


class LargerLearningRates:
    name = "larger-learning-rates"
    number = "C2"
    says = "Normalized networks train at learning rates at which others diverge."
    source = "arXiv 1502.03167, section 3.3"
    literature: tuple[Source, ...] = (
        Source(
            "arXiv 1502.03167, section 4.2",
            "Trained at five and thirty times the rate; without it, that diverged.",
            True,
        ),
        Source(
            "arXiv 1806.02375, section 3",
            "Without it, steps beyond 1e-3 already make the loss of a ResNet-110 explode; with it, none do.",
            True,
        ),
        Source(
            "arXiv 1806.02375, section 3",
            "Normalizing the last layer alone gives most of that, so that not every layer has to be normalized.",
            False,
        ),
    )

    def design(self, scale: Scale, seeds: int | None = None, overrides: Mapping[str, Any] | None = None) -> Design:
        if scale not in _STEPS:
            raise ScaleMissing(f"{self.name} has no design of scale {scale}: it needs CIFAR-10 and residual networks")
        n = seeds or (6 if scale == "tiny" else 10)
        return Design(
            claim=self.name,
            scale=scale,
            template=patched(_template(_STEPS[scale]), overrides),
            arms=(
                Arm("plain", "no normalization", {"network": {"norm": {"kind": "none"}}}),
                Arm("bn", "batch normalization", {"network": {"norm": {"kind": "batch_norm"}}}),
                Arm("ln", "layer normalization", {"network": {"norm": {"kind": "layer_norm"}}}),
            ),
            measures=(Final(_ACCURACY.key), Final(_CHOSEN.key), _PROBE),
            margins={"largest": Margin("superiority", 0.5), "one_step": Margin("superiority", math.log(10))},
            seeds=n,
            most=2 * n,
            pairs=(("bn", "plain"),),
            grid=Grid((Axis(_LR, _RATES[scale]),)),
        )

    def next_step(self, design: Design, found: Results) -> Batch | tuple[Question, ...]:
        """All rates with all seeds: what is compared is up to where each arm works, not the best of it."""
        at = confirmed(design, found, everywhere(design))
        return at if isinstance(at, Batch) else (_largest(design, at), _one_step(design, at))


def _template(steps: int) -> dict[str, Any]:
    return {
        "data": {"kind": "digits", "validation": {"share": 0.2}},
        "network": {"kind": "mlp", "hidden": [100] * 5, "activation": "relu", "init": {"kind": "kaiming"}},
        "optimizer": {"kind": "sgd"},
        "train": {"steps": steps, "batch_size": 60},
        "evaluation": {"every_steps": steps},
        "checkpoint": {"keep_best": False},
        "diagnostics": [
            {"kind": "norm_health", "enabled": False},
            {"kind": "step_probe", "at": [_PROBE.step], "distances": [_ETA]},
        ],
    }


def _largest(design: Design, at: Confirmed) -> Evidence:
    each = {arm.name: _extents(design, at, arm.name) for arm in design.arms}
    words = Words(
        "Does batch normalization train at larger learning rates?",
        "the largest learning rate that works",
        design.arm("bn").words,
        design.arm("plain").words,
        "decades",
    )
    known = {arm: [extent.decades for extent in extents if extent] for arm, extents in each.items()}
    return Evidence(
        "largest",
        words,
        Estimand(Metric("log10 of the largest learning rate that works")),
        design.margins["largest"],
        farther(at.seeds, each["bn"], each["plain"]),
        _guards(design, at),
        measured={
            f"largest learning rate, geometric mean, {design.arm(arm).words}": 10 ** (math.fsum(values) / len(values))
            for arm, values in known.items()
            if values
        },
    )


def _extents(design: Design, at: Confirmed, arm: str) -> list[Extent | None]:
    places = {float(rate): Place(arm, setting({_LR: rate})) for rate in design.grid.axes[0].values}
    each = accuracies(at.runs, places, _ACCURACY, at.seeds).values()
    return [largest(scores) if scores else None for scores in each]


def _guards(design: Design, at: Confirmed) -> tuple[Guard, ...]:
    best = best_of(at.runs, ("plain", "bn"), design.grid, _CHOSEN, at.seeds)
    if not best:
        return ()
    return (
        baseline_trains(at.runs, best["plain"].place, _ACCURACY),
        winner_inside_grid(best),
        treatment_trains(at.runs, best["bn"].place, _ACCURACY),
    )


def _one_step(design: Design, at: Confirmed) -> Evidence:
    """At initialization, so that the learning rate of what follows makes no difference; measured at the smallest."""
    first = setting({_LR: design.grid.axes[0].values[0]})
    estimand = Estimand(Metric(_PROBE.name, higher_is_better=False, before_training=True), "log_ratio")
    words = Words(
        f"Does the loss grow less in one step of length {_ETA:g} along the gradient, at initialization?",
        "the loss after that step over the loss before it",
        design.arm("bn").words,
        design.arm("plain").words,
    )
    each = effects(estimand, at.runs, Place("bn", first), Place("plain", first), at.seeds)
    return Evidence("one_step", words, estimand, design.margins["one_step"], each)
