"""C19: with batch normalization weight decay matters less, and a learning rate can take its place.

Where a normalization follows, decay changes what is learned by the effective learning rate lr / |w|^2 alone (van
Laarhoven, arXiv 1706.05350): so each decay gets the learning rate that is best for it, and the normalized network
without decay gets the rate that gives it the same mean effective rate as the best decay had.
"""

import math
from collections.abc import Mapping
from typing import Any

from bncore.studies.claim import Arm, Batch, Design, Question, Scale, ScaleMissing, Source, patched
from bncore.studies.estimand import Estimand, computed, effects
from bncore.studies.guards import baseline_trains, treatment_trains, winner_inside_grid
from bncore.studies.margin import Margin
from bncore.studies.measures import Greatest, MeanOverSteps
from bncore.studies.results import Metric, Place, Results, setting
from bncore.studies.stages import Confirmed, confirmed, tuned, tuning_runs, tuning_seeds
from bncore.studies.tuning import Axis, Grid, Winner
from bncore.studies.verdict import Evidence, Words

_LR = "optimizer.lr"
_DECAYS: Mapping[Scale, tuple[float, ...]] = {"tiny": (0.0, 1e-2), "cpu": (0.0, 1e-5, 1e-4, 1e-3, 1e-2)}
_RATES: Mapping[Scale, tuple[float, ...]] = {"tiny": (0.03,), "cpu": (0.003, 0.01, 0.03, 0.1, 0.3)}
_STEPS: Mapping[Scale, int] = {"tiny": 20, "cpu": 600}
_CHANCE = 0.1
_NORM = MeanOverSteps("diagnostics/weight_norms/total")
_BEST = Greatest("validation/accuracy")
_ACCURACY = Metric(_BEST.name, when_diverged=_CHANCE)
_WORDS = {"plain": "no normalization", "bn": "batch normalization"}


class WeightDecayCanShrink:
    name = "weight-decay-can-shrink"
    number = "C19"
    says = "Normalized networks need less weight decay."
    source = "arXiv 1502.03167, section 4.2.1"
    literature: tuple[Source, ...] = (
        Source("arXiv 1502.03167, section 4.2.1", "A fifth of the decay validates better, among other changes.", True),
        Source("arXiv 1706.05350, section 2.3", "Decay acts on normalized weights by the effective rate alone.", True),
        Source("arXiv 1803.01814", "A rate corrected by the norm of the weights does what decay does.", True),
    )

    def design(self, scale: Scale, seeds: int | None = None, overrides: Mapping[str, Any] | None = None) -> Design:
        if scale not in _STEPS:
            raise ScaleMissing(f"{self.name} has no design of scale {scale}: it needs CIFAR-10")
        n = seeds or (6 if scale == "tiny" else 10)
        return Design(
            claim=self.name,
            scale=scale,
            template=patched(_template(_STEPS[scale]), overrides),
            arms=tuple(_arm(norm, decay) for norm in _WORDS for decay in _DECAYS[scale]),
            measures=(_BEST, _NORM),
            margins={"spread": Margin("superiority", 0.005), "rate_instead": Margin("equality", 0.005)},
            seeds=n,
            most=2 * n,
            grid=Grid((Axis(_LR, _RATES[scale]),)),
            tuned_by=_ACCURACY,
            tuning_seeds=1 if scale == "tiny" else 3,
        )

    def next_step(self, design: Design, found: Results) -> Batch | tuple[Question, ...]:
        best = tuned(design, found)
        if isinstance(best, Batch):
            return best
        decayed, instead = _rate_instead(design, found, best)
        places = tuple(dict.fromkeys((*(winner.place for winner in best.values()), instead)))
        at = confirmed(design, found, places, best)
        return at if isinstance(at, Batch) else (_spread(design, at), _instead(design, at, decayed, instead))


def _template(steps: int) -> dict[str, Any]:
    """Scales and shifts do not decay: a decayed scale is another way to regularize than the one that is asked about."""
    return {
        "data": {"kind": "digits", "validation": {"share": 0.2}},
        "network": {"kind": "mlp", "hidden": [100] * 3, "activation": "relu", "init": {"kind": "kaiming"}},
        "optimizer": {"kind": "sgd", "momentum": 0.9, "exempt_norms": True},
        "train": {"steps": steps, "batch_size": 60},
        "evaluation": {"every_steps": 20},
        "checkpoint": {"keep_best": False},
        "diagnostics": [{"kind": "norm_health", "enabled": False}, {"kind": "weight_norms", "every_steps": 50}],
    }


def _name(norm: str, decay: float) -> str:
    return f"{norm}-{decay:g}"


def _arm(norm: str, decay: float) -> Arm:
    kind = {"plain": "none", "bn": "batch_norm"}[norm]
    patch = {"network": {"norm": {"kind": kind}}, "optimizer": {"weight_decay": decay}}
    return Arm(_name(norm, decay), f"{_WORDS[norm]} and a weight decay of {decay:g}", patch)


def _rate_instead(design: Design, found: Results, best: Mapping[str, Winner]) -> tuple[Place, Place]:
    """The best of the normalized arms that decay, and the place without decay of the same mean effective rate.

    lr / |w|^2 is that of the best one, where lr' = lr |w_0|^2 / |w|^2, with the norm w_0 of the network without decay
    at the rate lr; norms are means over training and over the tuning seeds. (1803.01814 follows the norm step by step.)
    """
    decayed = max(
        (best[_name("bn", decay)] for decay in _DECAYS[design.scale] if decay), key=lambda one: one.mean
    ).place
    rate = float(dict(decayed.setting)[_LR])
    free = Place(_name("bn", 0.0), decayed.setting)
    norms = [_mean_norm(design, found, place) for place in (free, decayed)]
    ratio = (norms[0] / norms[1]) ** 2 if norms[0] and norms[1] else 1.0
    # Four digits, as people write them; 1e4 is the largest rate there is.
    return decayed, Place(free.arm, setting({_LR: min(1e4, float(f"{rate * ratio:.4g}"))}))


def _mean_norm(design: Design, found: Results, place: Place) -> float | None:
    runs = tuning_runs(found).at(place)
    known = [runs[seed].metrics.get(_NORM.name) for seed in tuning_seeds(design) if seed in runs]
    finite = [norm for norm in known if norm is not None and math.isfinite(norm) and norm > 0]
    return math.fsum(finite) / len(finite) if finite else None


def _spread(design: Design, at: Confirmed) -> Evidence:
    each = {norm: _spreads(design, at, norm) for norm in _WORDS}
    pairs = zip(each["plain"], each["bn"], strict=True)
    values = [None if theirs is None or ours is None else theirs - ours for theirs, ours in pairs]
    words = Words(
        "Does the weight decay matter less, each at its best learning rate?",
        "spread of the best validation accuracy over weight decays",
        _WORDS["bn"],
        _WORDS["plain"],
        "points",
        100.0,
    )
    middle = {norm: at.best[_name(norm, 0.0)].place for norm in _WORDS}
    guards = (
        baseline_trains(at.runs, middle["plain"], _ACCURACY),
        winner_inside_grid(at.best),
        treatment_trains(at.runs, middle["bn"], _ACCURACY),
    )
    known = {norm: [one for one in spreads if one is not None] for norm, spreads in each.items()}
    return Evidence(
        "spread",
        words,
        Estimand(Metric(words.quantity, higher_is_better=False)),
        design.margins["spread"],
        computed(at.seeds, values),
        guards,
        measured={f"spread, {_WORDS[norm]}": math.fsum(of) / len(of) for norm, of in known.items() if of},
    )


def _spreads(design: Design, at: Confirmed, norm: str) -> list[float | None]:
    """By seed, the best of all decays minus the worst; None where one has no number."""
    tables = [at.runs.at(at.best[_name(norm, decay)].place) for decay in _DECAYS[design.scale]]
    found = [[_ACCURACY.of(of[seed]) if seed in of else None for of in tables] for seed in at.seeds]
    known = [[score for score in scores if score is not None] for scores in found]
    return [max(scores) - min(scores) if len(scores) == len(tables) else None for scores in known]


def _instead(design: Design, at: Confirmed, decayed: Place, instead: Place) -> Evidence:
    rates = {place: float(dict(place.setting)[_LR]) for place in (decayed, instead)}
    words = Words(
        "Does a learning rate do what weight decay does?",
        "best validation accuracy",
        f"{design.arm(instead.arm).words} and a learning rate of {rates[instead]:g}",
        f"{design.arm(decayed.arm).words} and one of {rates[decayed]:g}",
        "points",
        100.0,
    )
    guards = (
        baseline_trains(at.runs, decayed, _ACCURACY),
        winner_inside_grid({decayed.arm: at.best[decayed.arm]}),
        treatment_trains(at.runs, instead, _ACCURACY),
    )
    each = effects(Estimand(_ACCURACY), at.runs, instead, decayed, at.seeds)
    beside = {"learning rate with decay": rates[decayed], "learning rate without": rates[instead]}
    return Evidence(
        "rate_instead", words, Estimand(_ACCURACY), design.margins["rate_instead"], each, guards, measured=beside
    )
