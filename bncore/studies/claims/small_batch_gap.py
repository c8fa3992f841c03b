"""C7: networks that were trained in small batches classify worse with running statistics than with those of batches.

Nothing but the statistics differs: each effect is of one checkpoint on the same held-out examples. Of batches of 2 and
4 by themselves, never averaged, and with the statistics of such batches and with precise ones: the former say whether
training and inference differ, the latter whether better averages cure it. Held-out examples and not the test data,
whose number is odd: batches of 2 would leave one over, which has no variance.

Guard: the same network without normalization, and with layer normalization, trains in batches of that size. That the
normalized network does is not asked: that it does not, with running statistics, is what is claimed.
"""

from collections.abc import Mapping
from typing import Any

from bncore.studies.claim import Arm, Batch, Design, Question, Scale, Source, patched
from bncore.studies.claims.batches import (
    ACCURACY,
    NORM_WORDS,
    NORMS,
    between_numbers,
    check,
    in_batches,
    normalized,
    template,
)
from bncore.studies.estimand import Estimand
from bncore.studies.guards import control_trains
from bncore.studies.margin import Margin
from bncore.studies.measures import Final
from bncore.studies.results import Metric, Place, Results
from bncore.studies.stages import Confirmed, staged
from bncore.studies.verdict import Evidence, Words

SIZES = (2, 4)
_HELD_OUT = 300


class SmallBatchGap:
    name = "small-batch-gap"
    number = "C7"
    says = (
        "With small batches the statistics that a network was trained with and those it is used with drift apart: "
        "it classifies worse with running averages than with statistics of batches, or of all training data."
    )
    source = "arXiv 1702.03275, sections 1 and 2"
    literature: tuple[Source, ...] = (
        Source(
            "arXiv 1702.03275, section 4",
            "Inception-v3 normalized by microbatches of 4 has 74.2 % top-1, by 32 it has 78.3 %; trained in uniform "
            "batches, statistics of the batch raise about 67 % to 76.5 %.",
            True,
        ),
        Source(
            "arXiv 2105.07576, section 3",
            "Precise statistics gain 3.5 points in small batches.",
            True,
        ),
        Source(
            "arXiv 1803.08494, table 2",
            "Error of a ResNet-50 rises from 23.6 % at 32 images a worker to 34.7 % at 2; it does not say how much of "
            "that better statistics would cure.",
            True,
        ),
    )

    def design(self, scale: Scale, seeds: int | None = None, overrides: Mapping[str, Any] | None = None) -> Design:
        check(self.name, scale)
        shared = template()
        shared["data"]["validation"] = {"count": _HELD_OUT}
        shared = patched(shared, overrides)
        n = seeds or (2 if scale == "tiny" else 10)
        return Design(
            claim=self.name,
            scale=scale,
            template=shared,
            arms=tuple(_arm(norm, size, scale) for norm in NORMS for size in SIZES),
            measures=(Final("test/accuracy"), Final("validation/accuracy")),
            margins={
                f"{which}-{size}": Margin("superiority", 0.05) for size in SIZES for which in ("batch", "precise")
            },
            seeds=n,
            most=2 * n,
            evaluations=_evaluations(shared["data"]),
        )

    def next_step(self, design: Design, found: Results) -> Batch | tuple[Question, ...]:
        at = staged(design, found)
        if isinstance(at, Batch):
            return at
        return tuple(_evidence(design, at, size, which) for size in SIZES for which in ("batch", "precise"))


def _arm(norm: str, size: int, scale: Scale) -> Arm:
    patch = normalized(NORMS[norm], in_batches(scale, size))
    evaluated = (f"batch-{size}", "precise") if norm == "bn" else ()
    return Arm(f"{norm}-{size}", f"{NORM_WORDS[norm]} in batches of {size}", patch, evaluated=evaluated)


def _evaluations(data: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    on = {"data": dict(data), "checkpoint": "last", "part": "validation"}
    in_batches = {
        f"batch-{size}": {**on, "statistics": {"kind": "prediction_time", "batch_size": size}} for size in SIZES
    }
    return {**in_batches, "precise": {**on, "statistics": {"kind": "precise"}}}


def _evidence(design: Design, at: Confirmed, size: int, which: str) -> Evidence:
    place, name = Place(f"bn-{size}"), f"{which}-{size}"
    evaluation = name if which == "batch" else "precise"
    theirs = Metric(f"evaluation/{evaluation}/before/accuracy", when_diverged=0.1)
    ours = Metric(f"evaluation/{evaluation}/accuracy", when_diverged=0.1)
    better = f"statistics of batches of {size}" if which == "batch" else "precise statistics"
    words = Words(
        f"Does a network trained in batches of {size} classify better with {better} than with running averages?",
        "accuracy",
        better,
        "running averages",
        "points",
        100.0,
    )
    guards = tuple(control_trains(at.runs, Place(f"{norm}-{size}"), ACCURACY) for norm in ("plain", "layer_norm"))
    beside = {
        f"accuracy with {better}": at.runs.mean(place, ours),
        "accuracy with running averages": at.runs.mean(place, theirs),
        **{
            f"test accuracy, {design.arm(arm.name).words}": at.runs.mean(Place(arm.name), ACCURACY)
            for arm in design.arms
            if arm.name.endswith(f"-{size}")
        },
    }
    each = between_numbers(at.runs, place, ours, theirs, at.seeds)
    return Evidence(name, words, Estimand(ours), design.margins[name], each, guards, measured=beside)
