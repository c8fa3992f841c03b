"""C16: batch normalization makes the loss smoother along the gradient.

Looked at early in training only, where it is claimed to be largest, and by what it could differ in: what the loss does
along a step, how far the gradient predicts the next one, and its change per distance. None of the three is comparable
between losses of different size, so that later stretches would favour whoever has trained further.
"""

import math
from collections.abc import Mapping
from typing import Any

from bncore.studies.claim import Arm, Batch, Design, Question, Scale, ScaleMissing, Source, patched
from bncore.studies.estimand import Estimand, effects
from bncore.studies.guards import baseline_trains, treatment_trains
from bncore.studies.margin import Margin
from bncore.studies.measures import Final, Within
from bncore.studies.results import Metric, Place, Results
from bncore.studies.stages import Confirmed, staged
from bncore.studies.verdict import Evidence, Words

_STEPS: Mapping[Scale, int] = {"tiny": 20, "cpu": 800}
_DEPTH: Mapping[Scale, int] = {"tiny": 3, "cpu": 8}
_EVERY: Mapping[Scale, int] = {"tiny": 1, "cpu": 4}
"""Steps between looks, over the first tenth of training."""
_EXAMPLES: Mapping[Scale, int] = {"tiny": 64, "cpu": 256}
_FINAL = Final("test/accuracy")
_QUANTITIES = {
    "range": "range of the loss along the gradient",
    "predictiveness": "largest change of the gradient along itself",
    "effective_smoothness": "largest change of the gradient per distance",
}
_BESIDE = "scale_free_smoothness"
"""Change per distance times the squared norm of the weights, which a normalized network may rescale at will."""
_NETWORKS = {"relu": ("ReLU", "kaiming"), "tanh": ("tanh", "xavier")}


class SmootherLandscape:
    name = "smoother-landscape"
    number = "C16"
    says = (
        "Batch normalization makes the landscape of the loss smoother: along the gradient, the loss and the gradient "
        "itself change less."
    )
    source = "arXiv 1805.11604, section 3.1, figure 4"
    literature: tuple[Source, ...] = (
        Source(
            "arXiv 1805.11604, figure 4",
            "In a VGG all three are smaller with batch normalization, gradients early in training by two decades.",
            True,
        ),
        Source(
            "arXiv 1805.11604, theorem 4.1",
            "The gradient by a layer's outputs shrinks by gain / deviation: smoother only where that is below 1.",
            True,
        ),
        Source(
            "arXiv 1902.08129",
            "In deep networks without skips batch normalization makes gradients grow by 1.21 a layer.",
            False,
        ),
    )

    def design(self, scale: Scale, seeds: int | None = None, overrides: Mapping[str, Any] | None = None) -> Design:
        if scale not in _STEPS:
            raise ScaleMissing(f"{self.name} has no design of scale {scale}: it needs CIFAR-10, for a VGG")
        n = seeds or (6 if scale == "tiny" else 10)
        template = patched(_template(scale), overrides)
        steps = template["train"]["steps"]
        return Design(
            claim=self.name,
            scale=scale,
            template=template,
            arms=tuple(_arm(network, norm) for network in _NETWORKS for norm in ("plain", "bn")),
            measures=(_FINAL, *(_median(name, steps) for name in (*_QUANTITIES, _BESIDE))),
            margins={
                f"{network}-{name}": Margin("superiority", math.log(1.5))
                for network in _NETWORKS
                for name in _QUANTITIES
            },
            seeds=n,
            most=2 * n,
            pairs=tuple((f"{network}-bn", f"{network}-plain") for network in _NETWORKS),
        )

    def next_step(self, design: Design, found: Results) -> Batch | tuple[Question, ...]:
        at = staged(design, found)
        if isinstance(at, Batch):
            return at
        return tuple(_evidence(design, at, pair, name) for pair in design.pairs for name in _QUANTITIES)


def _template(scale: Scale) -> dict[str, Any]:
    steps, examples = _STEPS[scale], _EXAMPLES[scale]
    return {
        "data": {"kind": "digits"},
        "network": {"kind": "mlp", "hidden": [100] * _DEPTH[scale]},
        "optimizer": {"kind": "sgd", "lr": 0.1},
        "train": {"steps": steps, "batch_size": 60},
        "evaluation": {"every_steps": steps},
        "diagnostics": [
            {"kind": "loss_landscape", "at": list(range(0, steps // 10, _EVERY[scale])), "examples": examples},
            {"kind": "norm_health", "enabled": False},
        ],
    }


def _arm(network: str, norm: str) -> Arm:
    words, init = _NETWORKS[network]
    kind = "batch_norm" if norm == "bn" else "none"
    patch = {"activation": network, "init": {"kind": init}, "norm": {"kind": kind}}
    return Arm(f"{network}-{norm}", f"{'batch' if norm == 'bn' else 'no'} normalization ({words})", {"network": patch})


def _median(name: str, steps: int) -> Within:
    return Within(f"diagnostics/loss_landscape/{name}", 0, steps // 10 - 1, "median")


def _evidence(design: Design, at: Confirmed, pair: tuple[str, str], asked: str) -> Evidence:
    bn, plain = pair
    steps = design.template["train"]["steps"]
    estimand = Estimand(Metric(_median(asked, steps).name, higher_is_better=False), "log_ratio")
    accuracy = Metric(_FINAL.name, when_diverged=0.1)
    beside = Metric(_median(_BESIDE, steps).name)
    name = f"{plain.removesuffix('-plain')}-{asked}"
    words = Words(
        f"Is the {_QUANTITIES[asked]} smaller with {design.arm(bn).words}, early in training?",
        f"{_QUANTITIES[asked]}, early in training,",
        design.arm(bn).words,
        design.arm(plain).words,
    )
    return Evidence(
        name,
        words,
        estimand,
        design.margins[name],
        effects(estimand, at.runs, Place(bn), Place(plain), at.seeds),
        (baseline_trains(at.runs, Place(plain), accuracy), treatment_trains(at.runs, Place(bn), accuracy)),
        measured={
            f"change per distance times squared norm of weights, {arm}": at.runs.mean(Place(arm), beside)
            for arm in pair
        },
    )
