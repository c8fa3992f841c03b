"""C8: other normalizations do not mind small batches; batch normalization does.

The effect is a slope, of each seed by itself: points of test error per halving of the batch (least squares over the
batches), at the same number of examples and with a learning rate in proportion to the batch, as in arXiv 1803.08494,
section 4.1. Group normalization stays the same over all batches, 32 to 2; batch normalization gets worse from 8 to 2.

Beside these stand, without a margin and without a verdict: filter response normalization; batch normalization with
precise statistics; and ghost batch normalization, which takes steps of 32 examples and normalizes fewer together: what
is left of its slope is that of normalization, not of descent.

Guards: group normalization trains in the smallest batches, batch normalization in the largest of its slope. That it
does in the smallest is not asked: that it does not is what is claimed.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bncore.studies.claim import Arm, Batch, Design, Question, Scale, Source, patched
from bncore.studies.claims.batches import ACCURACY, FULL, NORMS, check, in_batches, normalized, template
from bncore.studies.estimand import Effects, Estimand, computed
from bncore.studies.guards import treatment_trains
from bncore.studies.margin import Margin
from bncore.studies.measures import Final
from bncore.studies.results import Metric, Place, Results
from bncore.studies.stages import Confirmed, staged
from bncore.studies.verdict import Evidence, Words

LR, LR_MOMENTUM = 0.05, 0.9
"""The learning rate is that of batches of 32."""
SMALL = (8, 4, 2)
_SIZES: Mapping[Scale, tuple[int, ...]] = {"tiny": SMALL, "cpu": (32, 16, *SMALL)}
_OTHERS: Mapping[Scale, tuple[str, ...]] = {"tiny": (), "cpu": ("frn", "ghost")}
_PRECISE = Metric("evaluation/precise/accuracy", when_diverged=0.1)
_GROUP = {"kind": "group_norm", "num_groups": 10}
"""32 groups, the default, are no divisor of 100 channels; the paper's groups have 8 to 64 channels."""
_SLOPE = Metric("slope of test/accuracy over halvings of the batch")


class SmallBatchAlternatives:
    name = "small-batch-alternatives"
    number = "C8"
    says = (
        "Normalizations without statistics of the batch, such as group normalization, are as good in small batches as "
        "in large ones, where batch normalization gets worse with every halving."
    )
    source = "arXiv 1803.08494, section 4.1"
    literature: tuple[Source, ...] = (
        Source(
            "arXiv 1803.08494, table 2",
            "From 32 to 2 images a worker the error of a ResNet-50 stays at 24.1 % with group normalization, and rises "
            "from 23.6 to 34.7 % with batch normalization.",
            True,
        ),
        Source(
            "arXiv 1911.09737",
            "Filter response normalization is better than batch normalization by 0.7 to 1.0 points in large batches "
            "too, and than group normalization by more than 1 in small ones.",
            True,
        ),
        Source(
            "arXiv 2105.07576, section 3",
            "Part of the loss is of running averages: precise statistics gain 3.5 points in small batches.",
            False,
        ),
    )

    def design(self, scale: Scale, seeds: int | None = None, overrides: Mapping[str, Any] | None = None) -> Design:
        check(self.name, scale)
        shared = patched(template(LR, LR_MOMENTUM), overrides)
        n = seeds or (2 if scale == "tiny" else 10)
        kinds = ("bn", "gn", *_OTHERS[scale])
        return Design(
            claim=self.name,
            scale=scale,
            template=shared,
            # Ghosts as large as the batch are batch normalization.
            arms=tuple(
                _arm(kind, size, scale)
                for kind in kinds
                for size in _sizes(kind, scale)
                if (kind, size) != ("ghost", FULL)
            ),
            measures=(Final("test/accuracy"),),
            margins={
                "group-norm-steady": Margin("equality", 0.003),
                "batch-norm-worse": Margin("superiority", 0.01),
            },
            seeds=n,
            most=2 * n,
            evaluations={"precise": {"data": shared["data"], "checkpoint": "last", "statistics": {"kind": "precise"}}},
        )

    def next_step(self, design: Design, found: Results) -> Batch | tuple[Question, ...]:
        at = staged(design, found)
        if isinstance(at, Batch):
            return at
        sizes = _SIZES[design.scale]
        beside = _beside(design, at)
        return (
            _evidence(
                design,
                at,
                "group-norm-steady",
                "gn",
                sizes,
                f"Is group normalization as good in batches of {sizes[-1]} as in batches of {sizes[0]}?",
                beside,
            ),
            _evidence(
                design,
                at,
                "batch-norm-worse",
                "bn",
                SMALL,
                f"Does batch normalization get worse from batches of {SMALL[0]} to batches of {SMALL[-1]}?",
                beside,
            ),
        )


_WORDS = {
    "bn": "batch normalization",
    "gn": "group normalization",
    "frn": "filter response normalization",
    "ghost": "ghost batch normalization in steps of 32",
}


def _sizes(kind: str, scale: Scale) -> tuple[int, ...]:
    """Every other one of what costs most and is not judged."""
    return _SIZES[scale][:: 2 if kind == "frn" else 1]


def _arm(kind: str, size: int, scale: Scale) -> Arm:
    words = f"{_WORDS[kind]}, {size} together"
    if kind == "ghost":
        return Arm(f"ghost-{size}", words, normalized(_ghost(size), in_batches(scale, FULL)), evaluated=())
    patch = {**in_batches(scale, size), "optimizer": {"lr": LR * size / FULL}}
    if kind == "frn":
        # It comes with its own activation, and in layers of one value per channel learns its eps.
        frn = {"norm": {"kind": "filter_response_norm", "learn_eps": True}, "activation": "identity"}
        return Arm(f"frn-{size}", words, {**patch, "network": frn}, evaluated=())
    norm = NORMS["bn"] if kind == "bn" else _GROUP
    return Arm(f"{kind}-{size}", words, normalized(norm, patch), evaluated=None if kind == "bn" else ())


def _ghost(size: int) -> dict[str, Any]:
    return {"kind": "ghost_batch_norm", "virtual_batch_size": size}


def _evidence(
    design: Design,
    at: Confirmed,
    name: str,
    kind: str,
    sizes: Sequence[int],
    question: str,
    beside: Mapping[str, float],
) -> Evidence:
    each = _slopes(at.runs, [Place(f"{kind}-{size}") for size in sizes], ACCURACY, sizes, at.seeds)
    # Group normalization trains at the smallest, batch normalization at the largest of its slope.
    trains = treatment_trains(at.runs, Place(f"{kind}-{sizes[-1] if kind == 'gn' else sizes[0]}"), ACCURACY)
    words = Words(
        question,
        f"the test error that each halving of the batch from {sizes[0]} to {sizes[-1]} adds",
        _WORDS[kind],
        unit="points",
        factor=100.0,
    )
    return Evidence(name, words, Estimand(_SLOPE, "value"), design.margins[name], each, (trains,), measured=beside)


def _slopes(
    found: Results, places: Sequence[Place], metric: Metric, sizes: Sequence[int], planned: Sequence[int]
) -> Effects:
    """Of each seed, the least-squares slope of the error over log2 of how often the batch was halved."""
    runs = [found.at(place) for place in places]
    seeds = sorted({*planned, *(seed for each in runs for seed in each)})
    halvings = np.array([math.log2(FULL / size) for size in sizes])
    weights = (halvings - halvings.mean()) / np.square(halvings - halvings.mean()).sum()

    def slope(seed: int) -> float | None:
        accuracies = [metric.of(each[seed]) if seed in each else None for each in runs]
        known = [1 - accuracy for accuracy in accuracies if accuracy is not None]
        return float(weights @ np.array(known)) if len(known) == len(sizes) else None

    return computed(seeds, [slope(seed) for seed in seeds])


def _beside(design: Design, at: Confirmed) -> dict[str, float]:
    """Accuracies of all arms, and the slopes that no margin was set for."""
    means = {f"test accuracy, {arm.words}": at.runs.mean(Place(arm.name), ACCURACY) for arm in design.arms}
    slopes = {
        f"error per halving, {_WORDS[kind]}": _slope_beside(design, at, kind, ACCURACY)
        for kind in _OTHERS[design.scale]
    }
    slopes["error per halving, batch normalization with precise statistics"] = _slope_beside(design, at, "bn", _PRECISE)
    return means | slopes


def _slope_beside(design: Design, at: Confirmed, kind: str, metric: Metric) -> float:
    sizes = _sizes(kind, design.scale)
    places = [Place("bn-32" if (kind, size) == ("ghost", FULL) else f"{kind}-{size}") for size in sizes]
    each = _slopes(at.runs, places, metric, sizes, at.seeds)
    return float(np.mean(each.values)) if each.values else math.nan
