"""C4: with batch normalization it matters less how large the initial weights are.

Both at the plain network's best learning rate and at each one's own: a rate chosen for the one may be what makes the
other depend on its initialization. Rates are chosen at He's initialization, the factor 1.
"""

from collections.abc import Mapping
from typing import Any

from bncore.studies.claim import Arm, Batch, Design, Question, Scale, ScaleMissing, Source, patched
from bncore.studies.estimand import Estimand
from bncore.studies.guards import baseline_trains, treatment_trains, winner_inside_grid
from bncore.studies.margin import Margin
from bncore.studies.measures import Final
from bncore.studies.results import Metric, Place, Results, setting
from bncore.studies.stages import Confirmed, confirmed, tuned
from bncore.studies.tuning import Axis, Grid, matched
from bncore.studies.verdict import Evidence, Words
from bncore.studies.working import Extent, accuracies, farther, width

_LR, _FACTOR = "optimizer.lr", "network.init_scale"
_FACTORS: Mapping[Scale, tuple[float, ...]] = {
    "tiny": (0.1, 1.0, 10.0),
    "cpu": (0.03, 0.1, 0.3, 1.0, 2.0, 4.0, 10.0),
}
_RATES: Mapping[Scale, tuple[float, ...]] = {"tiny": (0.03,), "cpu": (0.003, 0.01, 0.03, 0.1, 0.3)}
_STEPS: Mapping[Scale, int] = {"tiny": 20, "cpu": 600}
_CHANCE = 0.1
_ACCURACY = Metric("test/accuracy", when_diverged=_CHANCE)
_CHOSEN = Metric("validation/accuracy", when_diverged=_CHANCE)
_WHICH = {
    "best_versus_best": "each at its best learning rate",
    "at_best_of_baseline": "at the learning rate that is best without it",
}


class InsensitiveToInitialization:
    name = "insensitive-to-initialization"
    number = "C4"
    says = "Normalized networks train from initial weights of scales at which others do not."
    source = "arXiv 1502.03167, abstract"
    literature: tuple[Source, ...] = (
        Source("arXiv 1502.03167, abstract", "One may be less careful about initialization.", True),
        Source(
            "arXiv 1706.05350, section 2",
            "The scale of normalized weights makes the effective learning rate: it does matter, through lr / norm^2.",
            False,
        ),
    )

    def design(self, scale: Scale, seeds: int | None = None, overrides: Mapping[str, Any] | None = None) -> Design:
        if scale not in _STEPS:
            raise ScaleMissing(f"{self.name} has no design of scale {scale}: it needs CIFAR-10")
        n = seeds or (6 if scale == "tiny" else 10)
        return Design(
            claim=self.name,
            scale=scale,
            template=patched(_template(_STEPS[scale]), overrides),
            arms=(
                Arm("plain", "no normalization", {"network": {"norm": {"kind": "none"}}}),
                Arm("bn", "batch normalization", {"network": {"norm": {"kind": "batch_norm"}}}),
            ),
            measures=(Final(_ACCURACY.key), Final(_CHOSEN.key)),
            margins={which: Margin("superiority", 0.5) for which in _WHICH},
            seeds=n,
            most=2 * n,
            pairs=(("bn", "plain"),),
            grid=Grid((Axis(_LR, _RATES[scale]),)),
            tuned_by=_CHOSEN,
            tuning_seeds=1 if scale == "tiny" else 3,
            varied_later=(_FACTOR,),
        )

    def next_step(self, design: Design, found: Results) -> Batch | tuple[Question, ...]:
        best = tuned(design, found)
        if isinstance(best, Batch):
            return best
        compared = [place for which in _WHICH for place in matched(best, "bn", "plain")[which]]
        places = [place for one in dict.fromkeys(compared) for place in _scaled(design, one).values()]
        at = confirmed(design, found, tuple(places), best)
        return at if isinstance(at, Batch) else tuple(_evidence(design, at, which) for which in _WHICH)


def _template(steps: int) -> dict[str, Any]:
    return {
        "data": {"kind": "digits", "validation": {"share": 0.2}},
        "network": {"kind": "mlp", "hidden": [100] * 5, "activation": "relu", "init": {"kind": "kaiming"}},
        "optimizer": {"kind": "sgd", "momentum": 0.9},
        "train": {"steps": steps, "batch_size": 60},
        "evaluation": {"every_steps": steps},
        "checkpoint": {"keep_best": False},
        "diagnostics": [{"kind": "norm_health", "enabled": False}],
    }


def _scaled(design: Design, place: Place) -> dict[float, Place]:
    """By the factor of all initial weights."""
    return {k: Place(place.arm, setting({**dict(place.setting), _FACTOR: k})) for k in _FACTORS[design.scale]}


def _evidence(design: Design, at: Confirmed, which: str) -> Evidence:
    treatment, baseline = (_scaled(design, place) for place in matched(at.best, "bn", "plain")[which])
    ours, theirs = _widths(at, treatment), _widths(at, baseline)
    words = Words(
        f"Does batch normalization train from initial weights of more scales, {_WHICH[which]}?",
        "the width of the band of scales that work",
        design.arm("bn").words,
        design.arm("plain").words,
        "decades",
    )
    guards = (
        baseline_trains(at.runs, baseline[1.0], _ACCURACY),
        winner_inside_grid(at.best),
        treatment_trains(at.runs, treatment[1.0], _ACCURACY),
    )
    means = {arm: [one.decades for one in each if one] for arm, each in (("bn", ours), ("plain", theirs))}
    return Evidence(
        which,
        words,
        Estimand(Metric("decades of initial scales that work")),
        design.margins[which],
        farther(at.seeds, ours, theirs),
        guards,
        measured={
            f"decades that work, {design.arm(arm).words}": sum(widths) / len(widths)
            for arm, widths in means.items()
            if widths
        },
    )


def _widths(at: Confirmed, places: Mapping[float, Place]) -> list[Extent | None]:
    each = accuracies(at.runs, places, _ACCURACY, at.seeds).values()
    return [width(scores) if scores else None for scores in each]
