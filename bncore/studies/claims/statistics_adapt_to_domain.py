"""C17: new statistics adapt a network to another domain, without labels and without a change of its weights.

A network that was trained on clean digits is measured on shifted ones: a verdict for each shift, never one average,
since the mean over shifts is a matter of which shifts there are. On clean data new statistics must not lose. Every
effect is of one checkpoint on the same images. Judged are the statistics of all target images (AdaBN); those of 4 to
298 images, each batch by its own, stand beside.

The images that statistics are computed of are those that are classified, as at prediction time; no label is seen.
"""

from collections.abc import Mapping
from typing import Any

from bncore.studies.claim import Arm, Batch, Design, Question, Scale, ScaleMissing, Source, patched
from bncore.studies.claims.batches import ACCURACY, between_numbers
from bncore.studies.estimand import Estimand
from bncore.studies.guards import baseline_trains
from bncore.studies.margin import Margin
from bncore.studies.measures import Final
from bncore.studies.results import Metric, Place, Results
from bncore.studies.stages import Confirmed, staged
from bncore.studies.verdict import Evidence, Words

SEVERITY = 5
"""Of 5: that of the results for CIFAR-10-C which the literature gives."""
SHIFTS: Mapping[Scale, tuple[str, ...]] = {
    "tiny": ("contrast", "rotation"),
    "cpu": ("contrast", "brightness", "noise", "blur", "inversion", "rotation"),
}
SIZES: Mapping[Scale, tuple[int, ...]] = {"tiny": (64,), "cpu": (4, 16, 64, 298)}
FEW = 64
"""From as many target images on nothing may be lost on clean data; and Tent's batches."""
_STEPS: Mapping[Scale, int] = {"tiny": 20, "cpu": 400}
_PLACE = Place("cnn")
_WORDS = {
    "adabn": "statistics of all target images",
    "tent": "Tent",
    "source": "statistics of training",
    **{f"{size}": f"statistics of {size} target images" for size in (4, 16, 64, 298)},
    "one-class": "statistics of up to 64 target images of one class",
}
_IMAGES = {
    "clean": "clean images",
    "contrast": "images of low contrast",
    "brightness": "brighter images",
    "noise": "noisy images",
    "blur": "blurred images",
    "inversion": "inverted images",
    "rotation": "rotated images",
}


class StatisticsAdaptToDomain:
    name = "statistics-adapt-to-domain"
    number = "C17"
    says = (
        "A network adapts to data from elsewhere when its statistics are computed anew from them, without labels and "
        "without training."
    )
    source = "arXiv 1603.04779, sections 3 and 4"
    literature: tuple[Source, ...] = (
        Source(
            "arXiv 1603.04779, section 4",
            "On Office-31 75.5 % become 76.7 % on average; of six pairs of domains three lose 0.2 to 0.5 points.",
            True,
        ),
        Source(
            "arXiv 2006.16971",
            "Mean corruption error of a ResNet-50 falls from 76.7 to 62.2 %; 32 images are enough.",
            True,
        ),
        Source(
            "arXiv 2006.10963",
            "Mean corruption error of 60.3 %; mixed results for natural shifts and after pre-training.",
            False,
        ),
        Source(
            "arXiv 2006.10726",
            "CIFAR-10-C at severity 5: error of 43.5 % with statistics of training, 20.4 % with those of the batch, "
            "18.6 % with Tent.",
            True,
        ),
        Source(
            "arXiv 2105.07576, section 5",
            "ImageNet-C, contrast: error of 40.8 % becomes 33.1 %; statistics of a wrong domain raise that on clean "
            "ImageNet from 23.4 to 39.7 %.",
            True,
        ),
    )

    def design(self, scale: Scale, seeds: int | None = None, overrides: Mapping[str, Any] | None = None) -> Design:
        if scale not in _STEPS:
            raise ScaleMissing(f"{self.name} has no design of scale {scale}: it needs CIFAR-10 or ImageNet")
        n = seeds or (2 if scale == "tiny" else 10)
        shared = patched(_template(_STEPS[scale]), overrides)
        margins = {f"{shift}-adabn": Margin("superiority", 0.03) for shift in SHIFTS[scale]}
        margins |= {f"{shift}-tent": Margin("superiority", 0.005) for shift in SHIFTS[scale]}
        margins |= {f"clean-{which}": Margin("non_inferiority", 0.01) for which in ("adabn", FEW)}
        return Design(
            claim=self.name,
            scale=scale,
            template=shared,
            arms=(Arm(_PLACE.arm, "a CNN with batch normalization"),),
            measures=(Final("test/accuracy"),),
            margins=margins,
            seeds=n,
            most=2 * n,
            evaluations=_evaluations(shared["data"], scale),
        )

    def next_step(self, design: Design, found: Results) -> Batch | tuple[Question, ...]:
        at = staged(design, found)
        if isinstance(at, Batch):
            return at
        return tuple(_evidence(design, at, name) for name in design.margins)


def _template(steps: int) -> dict[str, Any]:
    return {
        "data": {"kind": "digits"},
        "network": {
            "kind": "cnn",
            "channels": [16, 32],
            "activation": "relu",
            "init": {"kind": "kaiming"},
            "norm": {"kind": "batch_norm"},
        },
        "optimizer": {"kind": "sgd", "lr": 0.1, "momentum": 0.9},
        "train": {"steps": steps, "batch_size": 60},
        "evaluation": {"every_steps": max(1, steps // 10)},
        "checkpoint": {"every_steps": steps, "keep_best": False},
        "diagnostics": [{"kind": "norm_health", "enabled": False}],
    }


def _evaluations(data: Mapping[str, Any], scale: Scale) -> dict[str, dict[str, Any]]:
    """By `<shift>-<statistics>`; `before` of each is with the statistics of training."""
    asked: dict[str, Any] = {"adabn": {"kind": "adabn"}}
    asked |= {f"{size}": {"kind": "prediction_time", "batch_size": size} for size in SIZES[scale]}
    tent = {"tent": {"kind": "tent", "batch_size": FEW}}
    one_class = {"one-class": {"kind": "prediction_time", "batch_size": FEW, "order": "one_class"}}
    found = _on(data, "clean", asked | one_class)
    for shift in SHIFTS[scale]:
        found |= _on({**data, "shift": {"kind": shift, "severity": SEVERITY}}, shift, asked | tent)
    return found


def _on(data: Mapping[str, Any], name: str, statistics: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        f"{name}-{which}": {"data": dict(data), "checkpoint": "last", "statistics": each}
        for which, each in statistics.items()
    }


def _evidence(design: Design, at: Confirmed, name: str) -> Evidence:
    domain, which = name.split("-", 1)
    # Tent against AdaBN; all else against the statistics of training.
    against = "adabn" if which == "tent" else "source"
    ours = _accuracy(domain, which)
    theirs = _accuracy(domain, against)
    verb = "no worse" if domain == "clean" else "better"
    words = Words(
        f"Does a network classify {_IMAGES[domain]} {verb} with {_WORDS[which]} than with {_WORDS[against]}?",
        f"accuracy on {_IMAGES[domain]}",
        _WORDS[which],
        _WORDS[against],
        "points",
        100.0,
    )
    each = between_numbers(at.runs, _PLACE, ours, theirs, at.seeds)
    guards = (baseline_trains(at.runs, _PLACE, ACCURACY),)
    beside = _beside(design, at, domain)
    return Evidence(name, words, Estimand(ours), design.margins[name], each, guards, measured=beside)


def _accuracy(domain: str, which: str) -> Metric:
    """With the statistics of training, what was there before those of all images were put in their place."""
    name = f"{domain}-adabn/before" if which == "source" else f"{domain}-{which}"
    return Metric(f"evaluation/{name}/accuracy", when_diverged=ACCURACY.when_diverged)


def _beside(design: Design, at: Confirmed, domain: str) -> dict[str, float]:
    """Accuracy with everything that was measured on those images."""
    known = [name.removeprefix(f"{domain}-") for name in design.evaluations if name.startswith(f"{domain}-")]
    return {
        f"accuracy on {_IMAGES[domain]}, {_WORDS[which]}": at.runs.mean(_PLACE, _accuracy(domain, which))
        for which in ("source", *known)
    }
