"""C6: batch normalization regularizes, and dropout can go.

Three questions, since the literature answers them differently: whether the test loss is lower at the same training
loss; whether a normalized network loses by going without dropout; whether it beats a plain one that has it.
"""

from collections.abc import Mapping
from typing import Any

from bncore.studies.claim import Arm, Batch, Design, Question, Scale, ScaleMissing, Source, patched
from bncore.studies.estimand import Estimand, effects
from bncore.studies.guards import baseline_trains, treatment_trains
from bncore.studies.margin import Margin
from bncore.studies.measures import AtLevel, Final
from bncore.studies.results import Metric, Place, Results
from bncore.studies.stages import Confirmed, confirmed, tuned
from bncore.studies.tuning import Axis, Grid
from bncore.studies.verdict import Evidence, Words

_DROPOUT = "network.dropout"
_PROBABILITIES: Mapping[Scale, tuple[float, ...]] = {"tiny": (0.2,), "cpu": (0.1, 0.2, 0.5)}
_STEPS: Mapping[Scale, int] = {"tiny": 120, "cpu": 1500}
_EVERY = 10
"""Steps between evaluations: two epochs of 300 images."""
_LEVEL = 0.05
_CHANCE = 0.1
_LOSS = AtLevel("test/loss", "train/loss", _LEVEL)
_ACCURACY = Metric("test/accuracy", when_diverged=_CHANCE)
_CHOSEN = Metric("validation/accuracy", when_diverged=_CHANCE)
_QUESTIONS = {
    "test_loss": f"Is the test loss lower when the training loss has come down to {_LEVEL}?",
    "without_dropout": "Is a normalized network as good without dropout as with it?",
    "instead_of_dropout": "Is batch normalization better than dropout?",
}


class RegularizesWithoutDropout:
    name = "regularizes-without-dropout"
    number = "C6"
    says = "Batch normalization regularizes a network, so that dropout can be left out."
    source = "arXiv 1502.03167, sections 3.4 and 4.2.1"
    literature: tuple[Source, ...] = (
        Source(
            "arXiv 1502.03167, section 4.2.1",
            "Dropout was removed without more overfitting, among other changes.",
            True,
        ),
        Source("arXiv 1502.03167, section 4.2.3", "The ensemble's networks kept 5 to 10 % of dropout.", False),
        Source(
            "arXiv 1606.02228",
            "CaffeNet with normalization behind ReLU: .513 without dropout, .527 with .2, .499 with .5.",
            False,
        ),
        Source("arXiv 1801.05134", "Dropout in front of a normalization harms: 77.4 % without and 68.6 with .5.", True),
        Source(
            "arXiv 1803.08494, section 4.1",
            "Group norm trains better and validates worse: the batch regularizes.",
            True,
        ),
    )

    def design(self, scale: Scale, seeds: int | None = None, overrides: Mapping[str, Any] | None = None) -> Design:
        if scale not in _STEPS:
            raise ScaleMissing(f"{self.name} has no design of scale {scale}: it needs CIFAR-10")
        n = seeds or (6 if scale == "tiny" else 20)
        return Design(
            claim=self.name,
            scale=scale,
            template=patched(_template(_STEPS[scale]), overrides),
            arms=(
                Arm("plain", "no normalization", {"network": {"norm": {"kind": "none"}}}),
                Arm("bn", "batch normalization", {"network": {"norm": {"kind": "batch_norm"}}}),
            ),
            measures=(_LOSS, Final(_ACCURACY.key), Final(_CHOSEN.key)),
            margins={
                "test_loss": Margin("superiority", 0.05),
                "without_dropout": Margin("non_inferiority", 0.005),
                "instead_of_dropout": Margin("superiority", 0.005),
            },
            seeds=n,
            most=2 * n,
            pairs=(("bn", "plain"),),
            grid=Grid((Axis(_DROPOUT, _PROBABILITIES[scale], scale="choice"),)),
            tuned_by=_CHOSEN,
            tuning_seeds=1 if scale == "tiny" else 3,
        )

    def next_step(self, design: Design, found: Results) -> Batch | tuple[Question, ...]:
        """Both arms without dropout, and each with the probability that is best for it."""
        best = tuned(design, found)
        if isinstance(best, Batch):
            return best
        places = (Place("plain"), Place("bn"), best["plain"].place, best["bn"].place)
        at = confirmed(design, found, places, best)
        return at if isinstance(at, Batch) else tuple(_evidence(design, at, name) for name in _QUESTIONS)


def _template(steps: int) -> dict[str, Any]:
    """300 of the 1,200 training images are trained on; the others choose."""
    return {
        "data": {"kind": "digits", "validation": {"count": 900}},
        "network": {"kind": "mlp", "hidden": [200] * 3, "activation": "relu", "init": {"kind": "kaiming"}},
        "optimizer": {"kind": "sgd", "lr": 0.05, "momentum": 0.9},
        "train": {"steps": steps, "batch_size": 60},
        "evaluation": {"every_steps": _EVERY},
        "checkpoint": {"keep_best": False},
        "diagnostics": [{"kind": "norm_health", "enabled": False}],
    }


def _evidence(design: Design, at: Confirmed, name: str) -> Evidence:
    plain, bn = design.arm("plain").words, design.arm("bn").words
    p = {arm: dict(winner.place.setting)[_DROPOUT] for arm, winner in at.best.items()}
    baseline, its_words = {
        "test_loss": (Place("plain"), plain),
        "without_dropout": (at.best["bn"].place, f"{bn} and dropout of {p['bn']}"),
        "instead_of_dropout": (at.best["plain"].place, f"{plain} and dropout of {p['plain']}"),
    }[name]
    of_loss = name == "test_loss"
    words = Words(
        _QUESTIONS[name],
        f"test loss at a training loss of {_LEVEL}" if of_loss else "test accuracy",
        bn if of_loss else f"{bn} alone",
        its_words,
        "" if of_loss else "points",
        1.0 if of_loss else 100.0,
    )
    estimand = Estimand(Metric(_LOSS.name, higher_is_better=False) if of_loss else _ACCURACY)
    each = effects(estimand, at.runs, Place("bn"), baseline, at.seeds)
    guards = (baseline_trains(at.runs, baseline, _ACCURACY), treatment_trains(at.runs, Place("bn"), _ACCURACY))
    return Evidence(name, words, estimand, design.margins[name], each, guards)
