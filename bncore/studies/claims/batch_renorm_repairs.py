"""C7: batch renormalization repairs what small and what uniform batches do to batch normalization.

A quotient, share repaired of damage done, has no interval where the damage may be near 0. Asked is a contrast without
one: [brn - bn] - 1/2 [bn in mixed batches of 32 - bn], positive where more than half is repaired; and only where there
is a damage of 5 points (`something_to_repair`). Of batches of 2, of 4, and of one class, by themselves.

Mixed batches of 32 show as many examples as the small ones, and take as many steps as those of one class.

Guards besides: batch normalization trains in mixed batches of 32, and the network without normalization trains in the
batches in question. That batch renormalization trains in them is part of what is claimed.
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
    in_as_many_steps,
    in_batches,
    in_batches_of_one_class,
    normalized,
    template,
)
from bncore.studies.estimand import Effects, Estimand, computed, effects
from bncore.studies.guards import baseline_trains, control_trains, something_to_repair
from bncore.studies.margin import Margin
from bncore.studies.measures import Final, Greatest
from bncore.studies.results import Metric, Place, Results
from bncore.studies.stages import Confirmed, staged
from bncore.studies.verdict import Evidence, Words

DAMAGE = 0.05
SHARE = 0.5
R_MAX, D_MAX, MOMENTUM = 3.0, 5.0, 0.01
"""As in arXiv 1702.03275, section 4."""
RAMP = (0.05, 0.3)
"""Shares of training between which the bounds open."""
_IN_WORDS = {"2": "batches of 2", "4": "batches of 4", "one-class": "batches of one class"}
_BATCHES: Mapping[Scale, tuple[str, ...]] = {"tiny": ("4", "one-class"), "cpu": tuple(_IN_WORDS)}
_CLIPPED = {name: Greatest(f"diagnostics/norm_health/max_clipped_{name}") for name in "rd"}


class BatchRenormRepairs:
    name = "batch-renorm-repairs"
    number = "C7"
    says = (
        "Batch renormalization makes good what small batches, and batches unlike the data, do to batch normalization."
    )
    source = "arXiv 1702.03275, sections 4.2 and 4.3"
    literature: tuple[Source, ...] = (
        Source(
            "arXiv 1702.03275, section 4.2",
            "In microbatches of 4, 76.5 % top-1 with it and 74.2 % without; 78.3 % in batches of 32: about half.",
            True,
        ),
        Source(
            "arXiv 1702.03275, section 4.3",
            "In batches of 16 classes with 2 images each as good as in mixed ones: all of it.",
            True,
        ),
        Source(
            "arXiv 1803.08494, section 4.1",
            "A ResNet-50 in batches of 4 errs in 26.3 % with it, 27.3 % without, 24.2 % with group normalization.",
            False,
        ),
    )

    def design(self, scale: Scale, seeds: int | None = None, overrides: Mapping[str, Any] | None = None) -> Design:
        check(self.name, scale)
        batches = _BATCHES[scale]
        n = seeds or (2 if scale == "tiny" else 10)
        small = tuple(_arm(norm, batch, scale) for batch in batches for norm in ("plain", "bn", "brn"))
        return Design(
            claim=self.name,
            scale=scale,
            template=patched(template(), overrides),
            arms=(*_references(scale), *small),
            measures=(Final("test/accuracy"), *_CLIPPED.values()),
            margins={f"repairs-{batch}": Margin("superiority", 0.005) for batch in batches},
            seeds=n,
            most=2 * n,
        )

    def next_step(self, design: Design, found: Results) -> Batch | tuple[Question, ...]:
        at = staged(design, found)
        if isinstance(at, Batch):
            return at
        return tuple(_evidence(design, at, name.removeprefix("repairs-")) for name in design.margins)


def _references(scale: Scale) -> tuple[Arm, Arm]:
    """Batch normalization in mixed batches of 32: for the same number of examples, and of steps."""
    words = f"batch normalization in mixed batches of {FULL}"
    return (
        Arm("bn-32", words, normalized(NORMS["bn"], in_batches(scale, FULL))),
        Arm("bn-mixed", f"{words} (as many steps)", normalized(NORMS["bn"], in_as_many_steps(scale))),
    )


def _arm(norm: str, batch: str, scale: Scale) -> Arm:
    patch = in_batches_of_one_class(scale) if batch == "one-class" else in_batches(scale, int(batch))
    if norm != "brn":
        return Arm(f"{norm}-{batch}", f"{NORM_WORDS[norm]} in {_IN_WORDS[batch]}", normalized(NORMS[norm], patch))
    steps = patch["train"]["steps"]
    patch = {**patch, "diagnostics": [{"kind": "norm_health", "every_steps": max(1, steps // 10)}]}
    return Arm(f"brn-{batch}", f"batch renormalization in {_IN_WORDS[batch]}", normalized(_renorm(steps), patch))


def _renorm(steps: int) -> dict[str, Any]:
    when = {"start_step": round(RAMP[0] * steps), "end_step": round(RAMP[1] * steps)}
    return {
        "kind": "batch_renorm",
        "momentum": MOMENTUM,
        "r_max": {"kind": "linear", "start": 1.0, "end": R_MAX, **when},
        "d_max": {"kind": "linear", "start": 0.0, "end": D_MAX, **when},
    }


def _evidence(design: Design, at: Confirmed, batch: str) -> Evidence:
    name, batches = f"repairs-{batch}", _IN_WORDS[batch]
    whole, plain, bn, brn = (
        Place("bn-mixed" if batch == "one-class" else "bn-32"),
        *(Place(f"{norm}-{batch}") for norm in ("plain", "bn", "brn")),
    )
    words = Words(
        f"Does batch renormalization repair more than half of what {batches} do to batch normalization?",
        "test accuracy",
        f"batch renormalization in {batches}",
        "half of the damage repaired",
        "points",
        100.0,
    )
    estimand = Estimand(ACCURACY)
    damage = effects(estimand, at.runs, whole, bn, at.seeds)
    guards = (
        baseline_trains(at.runs, whole, ACCURACY),
        control_trains(at.runs, plain, ACCURACY),
        something_to_repair(damage, DAMAGE),
    )
    means = {f"test accuracy, {design.arm(of.arm).words}": at.runs.mean(of, ACCURACY) for of in (whole, plain, bn, brn)}
    clipped = {
        f"greatest share of channels clipped, {letter}": at.runs.mean(brn, Metric(measure.name))
        for letter, measure in _CLIPPED.items()
    }
    each = _beyond_half(damage, effects(estimand, at.runs, brn, bn, at.seeds))
    return Evidence(name, words, estimand, design.margins[name], each, guards, measured=means | clipped)


def _beyond_half(damage: Effects, repaired: Effects) -> Effects:
    """Of each seed, [brn - bn] - 1/2 [whole - bn]; a seed that lacks either lacks it."""
    lost, gained = (dict(zip(each.seeds, each.values, strict=True)) for each in (damage, repaired))
    seeds = sorted({*lost, *gained, *damage.missing, *repaired.missing})
    return computed(
        seeds, [gained[seed] - SHARE * lost[seed] if seed in lost and seed in gained else None for seed in seeds]
    )
