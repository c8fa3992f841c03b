"""C11: deep sigmoid networks train with batch normalization and do not without, whatever the learning rate.

Nothing is tuned: the claim is about every setting of the grid, and counts networks instead of averaging accuracies.
"""

from collections.abc import Mapping
from typing import Any

from bncore.studies.claim import Arm, Batch, Design, Question, Scale, ScaleMissing, Source, patched
from bncore.studies.estimand import computed
from bncore.studies.guards import Guard, enough_pairs
from bncore.studies.measures import Final
from bncore.studies.results import Metric, Place, Results, Setting
from bncore.studies.stages import Confirmed, confirmed
from bncore.studies.tuning import Axis, Grid
from bncore.studies.verdict import Fractions, Words

TRAINS = 0.9
"""Final test accuracy from which on a network has trained."""
_FINAL = Final("test/accuracy")
_ACCURACY = Metric(_FINAL.name, when_diverged=0.1)
_STEPS: Mapping[Scale, int] = {"tiny": 60, "cpu": 800}
_SEEDS: Mapping[Scale, int] = {"tiny": 6, "cpu": 10}
_RATES: Mapping[Scale, tuple[float, ...]] = {
    "tiny": (0.1, 1.0, 10.0),
    "cpu": (0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0),
}


class SaturatingActivationsTrain:
    name = "saturating-activations-train"
    number = "C11"
    says = (
        "Deep networks of sigmoids, whose units saturate and pass hardly any gradient on, become trainable with batch "
        "normalization."
    )
    source = "arXiv 1502.03167, section 4.2.2"
    literature: tuple[Source, ...] = (
        Source(
            "arXiv 1502.03167, section 4.2.2",
            "Inception with sigmoids reaches 69.8 % with batch normalization, and without it stays at chance.",
            True,
        ),
    )

    def design(self, scale: Scale, seeds: int | None = None, overrides: Mapping[str, Any] | None = None) -> Design:
        if scale not in _STEPS:
            raise ScaleMissing(f"{self.name} has no design of scale {scale}: it needs CIFAR-10, for a VGG of sigmoids")
        n = seeds or _SEEDS[scale]
        return Design(
            claim=self.name,
            scale=scale,
            template=patched(_template(_STEPS[scale]), overrides),
            arms=(
                Arm("plain", "no normalization", {"network": {"norm": {"kind": "none"}}}),
                Arm("bn", "batch normalization", {"network": {"norm": {"kind": "batch_norm"}}}),
            ),
            measures=(_FINAL,),
            margins={},
            seeds=n,
            most=2 * n,
            grid=Grid((Axis("optimizer.lr", _RATES[scale]),)),
        )

    def next_step(self, design: Design, found: Results) -> Batch | tuple[Question, ...]:
        settings = design.grid.settings()
        at = confirmed(design, found, tuple(Place(arm.name, each) for arm in design.arms for each in settings))
        if isinstance(at, Batch):
            return at
        counts = {arm.name: _counts(at, arm.name, settings) for arm in design.arms}
        words = Words(
            "Do deep sigmoid networks train with batch normalization, and only with it, at any learning rate?",
            f"share of networks with a test accuracy of {TRAINS:.0%}",
            design.arm("bn").words,
            design.arm("plain").words,
        )
        return (Fractions("trains", words, counts["bn"], counts["plain"], (_all_there(design, at, settings),)),)


def _template(steps: int) -> dict[str, Any]:
    return {
        "data": {"kind": "digits"},
        "network": {"kind": "mlp", "hidden": [100] * 5, "activation": "sigmoid", "init": {"kind": "xavier"}},
        "optimizer": {"kind": "sgd"},
        "train": {"steps": steps, "batch_size": 60},
        "evaluation": {"every_steps": steps},
        "diagnostics": [{"kind": "norm_health", "enabled": False}],
    }


def _counts(at: Confirmed, arm: str, settings: tuple[Setting, ...]) -> dict[str, tuple[int, int]]:
    """By setting: how many of the seeds that were asked for have trained; one that diverged has not."""
    return {_said(each): (sum(_trained(at, Place(arm, each)).values()), len(at.seeds)) for each in settings}


def _trained(at: Confirmed, place: Place) -> dict[int, bool]:
    scores = {seed: _ACCURACY.of(run) for seed, run in at.runs.at(place).items()}
    return {seed: score >= TRAINS for seed, score in scores.items() if score is not None}


def _all_there(design: Design, at: Confirmed, settings: tuple[Setting, ...]) -> Guard:
    """A seed counts as a pair where every arm has its number at every setting."""
    each = [_trained(at, Place(arm.name, setting)) for arm in design.arms for setting in settings]
    return enough_pairs(
        computed(at.seeds, [1.0 if all(seed in known for known in each) else None for seed in at.seeds])
    )


def _said(setting: Setting) -> str:
    return ", ".join(f"{path} {value}" for path, value in setting)
