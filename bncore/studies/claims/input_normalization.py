"""C10: a batch normalization of the input stands in for standardized data.

By data set, tables whose features differ in scale by up to a million. Three questions each, every arm at its own best
learning rate: what it gains on raw data, whether that is as good as standardizing, and whether it adds anything to
standardized data. That the network trains on raw data without it is not asked: that it does not is what is claimed.
"""

from collections.abc import Mapping
from typing import Any

from bncore.studies.claim import Arm, Batch, Design, Question, Scale, ScaleMissing, Source, patched
from bncore.studies.estimand import Estimand, effects
from bncore.studies.guards import treatment_trains, winner_inside_grid
from bncore.studies.margin import Margin
from bncore.studies.measures import Final
from bncore.studies.results import Metric, Results
from bncore.studies.stages import Confirmed, staged
from bncore.studies.tuning import Axis, Grid, matched
from bncore.studies.verdict import Evidence, Words

_CLASSES = {"wine": 3, "breast_cancer": 2}
_SETS: Mapping[Scale, tuple[str, ...]] = {"tiny": ("wine",), "cpu": tuple(_CLASSES)}
_STEPS: Mapping[Scale, int] = {"tiny": 30, "cpu": 300}
_ARMS = {
    "raw": "raw data",
    "raw-bn": "raw data and a batch normalization of the input",
    "standardized": "standardized data",
    "standardized-bn": "standardized data and a batch normalization of the input",
}
_QUESTIONS = {
    "gain": ("raw-bn", "raw", Margin("superiority", 0.05)),
    "replaces": ("raw-bn", "standardized", Margin("equality", 0.01)),
    "adds-nothing": ("standardized-bn", "standardized", Margin("equality", 0.01)),
}
_ASKED = {
    "gain": "Does a batch normalization of the input make raw data learnable ({})?",
    "replaces": "Is it as good as standardizing the data beforehand ({})?",
    "adds-nothing": "Does it change nothing where data are standardized already ({})?",
}


class InputNormalization:
    name = "input-normalization"
    number = "C10"
    says = "A batch normalization can be the first layer, on the input itself, in the place of standardized data."
    source = "arXiv 1502.03167, section 2"
    literature: tuple[Source, ...] = (
        Source(
            "arXiv 1502.03167, section 2",
            "Training converges faster with inputs of mean 0 and variance 1, as has long been known; each layer is to "
            "have that for its own.",
            True,
        ),
    )

    def design(self, scale: Scale, seeds: int | None = None, overrides: Mapping[str, Any] | None = None) -> Design:
        if scale not in _SETS:
            raise ScaleMissing(f"{self.name} has no design of scale {scale}: small tables settle it on a CPU")
        tiny, sets = scale == "tiny", _SETS[scale]
        n = seeds or (2 if tiny else 10)
        pairs = tuple(
            (f"{name}-{ours}", f"{name}-{theirs}") for name in sets for ours, theirs, _ in _QUESTIONS.values()
        )
        return Design(
            claim=self.name,
            scale=scale,
            template=patched(_template(_STEPS[scale]), overrides),
            arms=tuple(_arm(name, arm) for name in sets for arm in _ARMS),
            measures=(Final("test/accuracy"), Final("validation/accuracy")),
            margins={f"{name}-{which}": margin for name in sets for which, (_, _, margin) in _QUESTIONS.items()},
            seeds=n,
            most=2 * n,
            pairs=() if tiny else pairs,
            grid=Grid((Axis("optimizer.lr", (0.001, 0.01, 0.1), "choice" if tiny else "log"),)),
            # Of the two sets the chance that is the less: what diverged is never better than what was trained.
            tuned_by=Metric("validation/accuracy", when_diverged=min(1 / classes for classes in _CLASSES.values())),
            tuning_seeds=1 if tiny else 3,
        )

    def next_step(self, design: Design, found: Results) -> Batch | tuple[Question, ...]:
        at = staged(design, found)
        if isinstance(at, Batch):
            return at
        return tuple(_evidence(design, at, name, which) for name in _SETS[design.scale] for which in _QUESTIONS)


def _template(steps: int) -> dict[str, Any]:
    return {
        "data": {"kind": "wine", "validation": {"share": 0.2}},
        "network": {"kind": "mlp", "hidden": [32], "activation": "relu", "norm": {"kind": "none"}},
        "optimizer": {"kind": "sgd", "momentum": 0.9},
        "train": {"steps": steps, "batch_size": 60},
        "evaluation": {"every_steps": steps},
        "checkpoint": {"every_steps": steps, "keep_best": False},
        "diagnostics": [{"kind": "norm_health", "enabled": False}],
    }


def _arm(name: str, arm: str) -> Arm:
    standardize, normalize = arm.startswith("standardized"), arm.endswith("-bn")
    patch = {"data": {"kind": name, "standardize": standardize}, "network": {"normalize_input": normalize}}
    return Arm(f"{name}-{arm}", _ARMS[arm], patch)


def _evidence(design: Design, at: Confirmed, name: str, which: str) -> Evidence:
    treatment, baseline, _ = _QUESTIONS[which]
    accuracy = Metric("test/accuracy", when_diverged=1 / _CLASSES[name])
    ours, theirs = matched(at.best, f"{name}-{treatment}", f"{name}-{baseline}")["best_versus_best"]
    words = Words(
        _ASKED[which].format(name.replace("_", " ")),
        "test accuracy",
        _ARMS[treatment],
        _ARMS[baseline],
        "points",
        100.0,
    )
    guards = (
        winner_inside_grid({each.arm: at.best[each.arm] for each in (ours, theirs)}),
        treatment_trains(at.runs, ours, accuracy),
    )
    beside = {
        f"test accuracy, {design.arm(place.arm).words}, lr {dict(place.setting)['optimizer.lr']:g}": at.runs.mean(
            place, accuracy
        )
        for place in at.runs.places()
        if place.arm.startswith(name)
    }
    each = effects(Estimand(accuracy), at.runs, ours, theirs, at.seeds)
    margin = design.margins[f"{name}-{which}"]
    return Evidence(f"{name}-{which}", words, Estimand(accuracy), margin, each, guards, measured=beside)
