"""C9: batch normalization belongs behind sigmoid and tanh, and in front of ReLU.

By activation, never one average, and each placement at its own best learning rate. Three questions each: whether the
recommended placement is better in final accuracy, whether the two are equal in it, and whether they are equal in the
mean accuracy over training, which shows a difference in speed.
"""

from collections.abc import Mapping
from typing import Any

from bncore.studies.claim import Arm, Batch, Design, Question, Scale, ScaleMissing, Source, patched
from bncore.studies.estimand import Estimand, effects
from bncore.studies.guards import baseline_trains, treatment_trains, winner_inside_grid
from bncore.studies.margin import Margin
from bncore.studies.measures import Final, MeanOverSteps
from bncore.studies.results import Metric, Place, Results
from bncore.studies.stages import Confirmed, staged
from bncore.studies.tuning import Axis, Grid, matched
from bncore.studies.verdict import Evidence, Words

RECOMMENDED = {"sigmoid": "after", "tanh": "after", "relu": "before"}
_OTHER = {"after": "before", "before": "after"}
_STEPS: Mapping[Scale, int] = {"tiny": 20, "cpu": 800}
_CURVE = MeanOverSteps("test/accuracy")
_FINAL = Metric("test/accuracy", when_diverged=0.1)
_MEAN = Metric(_CURVE.name, when_diverged=0.1)
_QUESTIONS = {
    "better": (_FINAL, Margin("superiority", 0.005)),
    "equal": (_FINAL, Margin("equality", 0.005)),
    "equal-curve": (_MEAN, Margin("equality", 0.005)),
}


class Placement:
    name = "placement"
    number = "C9"
    says = "Batch normalization is best placed behind sigmoid and tanh, and in front of ReLU."
    source = "arXiv 1502.03167, section 3.2, for the place in front of the nonlinearity"
    literature: tuple[Source, ...] = (
        Source(
            "arXiv 1502.03167, section 3.2",
            "In front of every nonlinearity, since what comes out of a linear map is the likelier to become stable by "
            "its first two moments: so for ReLU, but for sigmoid too, which contradicts the article.",
            False,
        ),
        Source(
            "github.com/ducha-aiki/caffenet-benchmark, batchnorm.md",
            "CaffeNet with ReLU on ImageNet at 128 pixels: 47.1 % without, 47.4 to 47.8 % in front, 49.3 to 49.9 % "
            "behind.",
            False,
        ),
        Source(
            "github.com/ducha-aiki/caffenet-benchmark, batchnorm.md",
            "GoogLeNet, likewise: 61.9 % without, 60.7 % in front, 59.6 % behind.",
            True,
        ),
    )

    def design(self, scale: Scale, seeds: int | None = None, overrides: Mapping[str, Any] | None = None) -> Design:
        if scale not in _STEPS:
            raise ScaleMissing(f"{self.name} has no design of scale {scale}: VGG and ResNets need CIFAR-10")
        tiny = scale == "tiny"
        n = seeds or (2 if tiny else 20)
        pairs = tuple((f"{name}-{place}", f"{name}-{_OTHER[place]}") for name, place in RECOMMENDED.items())
        return Design(
            claim=self.name,
            scale=scale,
            template=patched(_template(_STEPS[scale]), overrides),
            arms=tuple(_arm(activation, place) for activation in RECOMMENDED for place in _OTHER),
            measures=(Final("test/accuracy"), Final("validation/accuracy"), _CURVE),
            margins={
                f"{activation}-{which}": margin
                for activation in RECOMMENDED
                for which, (_, margin) in _QUESTIONS.items()
            },
            seeds=n,
            most=2 * n,
            # At `tiny` a grid that is not widened and no matched settings: a third of the runs.
            pairs=() if tiny else pairs,
            grid=Grid((Axis("optimizer.lr", (0.05, 0.3, 1.0), "choice" if tiny else "log"),)),
            tuned_by=Metric("validation/accuracy", when_diverged=0.1),
            tuning_seeds=1 if tiny else 3,
        )

    def next_step(self, design: Design, found: Results) -> Batch | tuple[Question, ...]:
        at = staged(design, found)
        if isinstance(at, Batch):
            return at
        return tuple(_evidence(design, at, activation, which) for activation in RECOMMENDED for which in _QUESTIONS)


def _template(steps: int) -> dict[str, Any]:
    return {
        "data": {"kind": "digits", "validation": {"share": 0.2}},
        "network": {"kind": "mlp", "hidden": [100] * 4, "norm": {"kind": "batch_norm"}},
        "optimizer": {"kind": "sgd"},
        "train": {"steps": steps, "batch_size": 60},
        "evaluation": {"every_steps": max(1, steps // 20)},
        "checkpoint": {"every_steps": steps, "keep_best": False},
        "diagnostics": [{"kind": "norm_health", "enabled": False}],
    }


def _arm(activation: str, place: str) -> Arm:
    init = {"kind": "kaiming" if activation == "relu" else "xavier"}
    network = {"activation": activation, "init": init, "placement": f"{place}_activation"}
    where = "behind" if place == "after" else "in front of"
    words = f"batch normalization {where} {'ReLU' if activation == 'relu' else activation}"
    return Arm(f"{activation}-{place}", words, {"network": network})


def _evidence(design: Design, at: Confirmed, activation: str, which: str) -> Evidence:
    place = RECOMMENDED[activation]
    treatment, baseline = (Place(f"{activation}-{each}") for each in (place, _OTHER[place]))
    ours, theirs = matched(at.best, treatment.arm, baseline.arm)["best_versus_best"]
    metric, margin = _QUESTIONS[which]
    guards = (
        baseline_trains(at.runs, theirs, _FINAL),
        winner_inside_grid({arm: at.best[arm] for arm in (ours.arm, theirs.arm)}),
        treatment_trains(at.runs, ours, _FINAL),
    )
    quantity = "mean test accuracy over training" if metric is _MEAN else "test accuracy"
    recommended, other = (design.arm(each.arm).words for each in (ours, theirs))
    asked = "better than" if margin.kind == "superiority" else "as good as"
    words = Words(f"Is {recommended} {asked} {other}, in {quantity}?", quantity, recommended, other, "points", 100.0)
    return Evidence(
        f"{activation}-{which}",
        words,
        Estimand(metric),
        design.margins[f"{activation}-{which}"],
        effects(Estimand(metric), at.runs, ours, theirs, at.seeds),
        guards,
        measured=_beside(design, at, activation),
    )


def _beside(design: Design, at: Confirmed, activation: str) -> dict[str, float]:
    """At every setting that ran: matched ones stand beside best versus best."""
    return {
        f"test accuracy, {design.arm(place.arm).words}, lr {dict(place.setting)['optimizer.lr']:g}": at.runs.mean(
            place, _FINAL
        )
        for place in at.runs.places()
        if place.arm.startswith(f"{activation}-")
    }
