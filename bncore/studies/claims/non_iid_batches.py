"""C7: in batches that are not like the data, here of one class each, batch normalization fails and nothing else does.

Guard: the same network without normalization trains on the same batches. That the normalized network trains is not
asked: that it does not is what is claimed. Its accuracy with statistics of uniform batches and with precise ones stands
beside, and decides nothing.
"""

from collections.abc import Mapping
from typing import Any

from bncore.studies.claim import Arm, Batch, Design, Question, Scale, Source, patched
from bncore.studies.claims.batches import (
    ACCURACY,
    FULL,
    NORM_WORDS,
    NORMS,
    check,
    in_batches_of_one_class,
    normalized,
    template,
)
from bncore.studies.estimand import Estimand, effects
from bncore.studies.guards import control_trains
from bncore.studies.margin import Margin
from bncore.studies.measures import Final
from bncore.studies.results import Metric, Place, Results
from bncore.studies.stages import staged
from bncore.studies.verdict import Evidence, Words

_NAME = "one-class"


class NonIidBatches:
    name = "non-iid-batches"
    number = "C7"
    says = (
        "Batch normalization needs batches that are like the data: where those of training are not, the network "
        "learns the batches, and fails on single examples."
    )
    source = "arXiv 1702.03275, sections 1 and 4.3"
    literature: tuple[Source, ...] = (
        Source(
            "arXiv 1702.03275, section 4.3",
            "In batches of 16 classes with 2 images each Inception-v3 falls from 78.3 % to about 67 % top-1; with "
            "statistics of such batches it has 76.5 %.",
            True,
        ),
    )

    def design(self, scale: Scale, seeds: int | None = None, overrides: Mapping[str, Any] | None = None) -> Design:
        check(self.name, scale)
        shared = patched(template(), overrides)
        n = seeds or (2 if scale == "tiny" else 10)
        on = {"data": shared["data"], "checkpoint": "last"}
        return Design(
            claim=self.name,
            scale=scale,
            template=shared,
            arms=tuple(_arm(norm, scale) for norm in NORMS),
            measures=(Final("test/accuracy"),),
            margins={_NAME: Margin("superiority", 0.05)},
            seeds=n,
            most=2 * n,
            evaluations={
                "batch": {**on, "statistics": {"kind": "prediction_time", "batch_size": FULL, "order": "one_class"}},
                "precise": {**on, "statistics": {"kind": "precise"}},
            },
        )

    def next_step(self, design: Design, found: Results) -> Batch | tuple[Question, ...]:
        at = staged(design, found)
        if isinstance(at, Batch):
            return at
        plain, bn = Place("plain"), Place("bn")
        words = Words(
            "Does a network without normalization learn from batches of one class what one with batch normalization "
            "does not?",
            "test accuracy",
            NORM_WORDS["plain"],
            NORM_WORDS["bn"],
            "points",
            100.0,
        )
        beside = {
            **{f"test accuracy, {arm.words}": at.runs.mean(Place(arm.name), ACCURACY) for arm in design.arms},
            **{
                f"test accuracy, batch normalization with {said}": at.runs.mean(
                    bn, Metric(f"evaluation/{which}/accuracy", when_diverged=0.1)
                )
                for which, said in (("batch", "statistics of batches of one class"), ("precise", "precise statistics"))
            },
        }
        each = effects(Estimand(ACCURACY), at.runs, plain, bn, at.seeds)
        guards = (control_trains(at.runs, plain, ACCURACY),)
        return (Evidence(_NAME, words, Estimand(ACCURACY), design.margins[_NAME], each, guards, measured=beside),)


def _arm(norm: str, scale: Scale) -> Arm:
    patch = normalized(NORMS[norm], in_batches_of_one_class(scale))
    return Arm(norm, NORM_WORDS[norm], patch, evaluated=None if norm == "bn" else ())
