"""C3, the counter-claim to "better at any learning rate": what batch normalization gains, it gains by larger ones.

At the largest rate at which the plain network works both should be as good, and normalized ones better at a rate of
their own. Rates are chosen on validation data with other seeds than those that judge.
"""

import math
from collections.abc import Mapping
from typing import Any

from bncore.studies.claim import Arm, Batch, Design, Question, Scale, ScaleMissing, Source, patched
from bncore.studies.estimand import Estimand, effects
from bncore.studies.guards import Guard, baseline_trains, treatment_trains, winner_inside_grid
from bncore.studies.margin import Margin
from bncore.studies.measures import Final
from bncore.studies.results import Metric, Place, Results, Scalar, Setting, setting
from bncore.studies.stages import Confirmed, confirmed, tuned, tuning_runs, tuning_seeds
from bncore.studies.tuning import Axis, Grid
from bncore.studies.verdict import Evidence, Words
from bncore.studies.working import working

_LR = "optimizer.lr"
_RATES: Mapping[Scale, tuple[float, ...]] = {"tiny": (0.01, 0.1), "cpu": (0.001, 0.003, 0.01, 0.03, 0.1, 0.3)}
_STEPS: Mapping[Scale, int] = {"tiny": 20, "cpu": 600}
_CHANCE = 0.1
_ACCURACY = Metric("test/accuracy", when_diverged=_CHANCE)
_CHOSEN = Metric("validation/accuracy", when_diverged=_CHANCE)


class GainIsTheLearningRate:
    name = "gain-is-the-learning-rate"
    number = "C3"
    says = (
        "Normalized networks are better at any learning rate. Tested is the counter-claim: at the largest rate that "
        "works without normalization there is no difference, and the gain comes with larger ones."
    )
    source = "arXiv 1502.03167, sections 3.3 and 4.2"
    literature: tuple[Source, ...] = (
        Source(
            "arXiv 1806.02375, section 3", "At the small rate that the plain ResNet-110 needs, no better than it.", True
        ),
        Source(
            "arXiv 1502.03167, figure 3",
            "With nothing but normalization added, at the same rate, 2.3 times faster.",
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
            ),
            measures=(Final(_ACCURACY.key), Final(_CHOSEN.key)),
            margins={"same_rate": Margin("equality", 0.015), "own_rate": Margin("superiority", 0.005)},
            seeds=n,
            most=2 * n,
            pairs=(("bn", "plain"),),
            grid=Grid((Axis(_LR, _RATES[scale]),)),
            tuned_by=_CHOSEN,
            tuning_seeds=1 if scale == "tiny" else 3,
        )

    def next_step(self, design: Design, found: Results) -> Batch | tuple[Question, ...]:
        best = tuned(design, found)
        if isinstance(best, Batch):
            return best
        limit, is_last = _limit(design, found)
        places = (Place("plain", limit), Place("bn", limit), best["bn"].place)
        at = confirmed(design, found, tuple(dict.fromkeys(places)), best)
        if isinstance(at, Batch):
            return at
        return _same_rate(design, at, limit, is_last), _own_rate(design, at, limit)


def _template(steps: int) -> dict[str, Any]:
    return {
        "data": {"kind": "digits", "validation": {"share": 0.2}},
        "network": {"kind": "mlp", "hidden": [100] * 10, "activation": "relu", "init": {"kind": "kaiming"}},
        "optimizer": {"kind": "sgd", "momentum": 0.9},
        "train": {"steps": steps, "batch_size": 60},
        "evaluation": {"every_steps": steps},
        "checkpoint": {"keep_best": False},
        "diagnostics": [{"kind": "norm_health", "enabled": False}],
    }


def _limit(design: Design, found: Results) -> tuple[Setting, bool]:
    """The largest rate at which the plain network works, and whether none larger was tried.

    By the tuning runs: no seed has diverged, and the mean is near that of its best rate. The smallest, if none works.
    """
    runs, seeds = tuning_runs(found), tuning_seeds(design)
    tried = sorted({float(dict(run.setting)[_LR]) for run in runs.runs if run.arm == "plain"})
    works = working({rate: _mean(runs, Place("plain", setting({_LR: rate})), seeds) for rate in tried})
    rate = works[-1] if works else tried[0]
    return setting({_LR: rate}), rate == tried[-1]


def _mean(runs: Results, place: Place, seeds: tuple[int, ...]) -> float | None:
    there = runs.at(place)
    scores = [_CHOSEN.of(there[seed]) for seed in seeds if seed in there and not there[seed].diverged]
    known = [score for score in scores if score is not None]
    return math.fsum(known) / len(known) if len(known) == len(seeds) else None


def _same_rate(design: Design, at: Confirmed, limit: Setting, is_last: bool) -> Evidence:
    treatment, baseline = Place("bn", limit), Place("plain", limit)
    words = Words(
        "Is batch normalization no better at the largest learning rate that works without it?",
        "test accuracy",
        design.arm("bn").words,
        design.arm("plain").words,
        "points",
        100.0,
    )
    rate = dict(limit)[_LR]
    guards = (
        baseline_trains(at.runs, baseline, _ACCURACY),
        _limit_inside_grid(rate, is_last),
        treatment_trains(at.runs, treatment, _ACCURACY),
    )
    each = effects(Estimand(_ACCURACY), at.runs, treatment, baseline, at.seeds)
    beside = {"largest learning rate that works without": float(rate)}
    return Evidence("same_rate", words, Estimand(_ACCURACY), design.margins["same_rate"], each, guards, measured=beside)


def _own_rate(design: Design, at: Confirmed, limit: Setting) -> Evidence:
    treatment = at.best["bn"].place
    words = Words(
        "Is it better at a learning rate of its own?",
        "test accuracy",
        f"{design.arm('bn').words} at its best learning rate",
        "it at the largest rate that works without",
        "points",
        100.0,
    )
    guards = (winner_inside_grid({"bn": at.best["bn"]}), treatment_trains(at.runs, treatment, _ACCURACY))
    each = effects(Estimand(_ACCURACY), at.runs, treatment, Place("bn", limit), at.seeds)
    beside = {"best learning rate with": float(dict(treatment.setting)[_LR])}
    return Evidence("own_rate", words, Estimand(_ACCURACY), design.margins["own_rate"], each, guards, measured=beside)


def _limit_inside_grid(rate: Scalar, is_last: bool) -> Guard:
    said = f"Without normalization training works up to {rate}, "
    said += "the largest rate that was tried." if is_last else "and not at the next rate."
    return Guard("winner_inside_grid", not is_last, said)
