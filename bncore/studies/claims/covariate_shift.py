"""C15: batch normalization is said to work by reducing internal covariate shift. Three questions, never one.

Does the distribution of activations hold still (drift)? Does a layer's gradient change less when the layers before it
are updated (gradient)? And is it that which helps (cause)? Of the third, the counter-claim is tested: with noise that
makes distributions shift on purpose, batch normalization trains as well as ever, and better than no normalization. That
says something only if the noise is one that matters, so the plain network with the same noise is the control: it has to
fail.
"""

import math
from collections.abc import Mapping
from typing import Any

from bncore.studies.claim import Arm, Batch, Design, Question, Scale, ScaleMissing, Source, patched
from bncore.studies.estimand import Estimand, effects
from bncore.studies.guards import baseline_trains, control_fails, treatment_trains
from bncore.studies.margin import Margin
from bncore.studies.measures import Final, Within
from bncore.studies.results import Metric, Place, Results
from bncore.studies.stages import Confirmed, staged
from bncore.studies.verdict import Evidence, Words

_FINAL = Final("test/accuracy")
_ACCURACY = Metric(_FINAL.name, when_diverged=0.1)
_DRIFT = "diagnostics/covariate_shift/last_drift"
_COSINE = "diagnostics/covariate_shift/mean_cosine"
_LOOKS: Mapping[Scale, tuple[int, int]] = {"tiny": (4, 1), "cpu": (40, 20)}
"""At Ioffe's network, and at all others, evenly over training."""
_STEPS: Mapping[Scale, tuple[int, int]] = {"tiny": (20, 5), "cpu": (4000, 400)}
_DEPTH: Mapping[Scale, tuple[int, int]] = {"tiny": (3, 5), "cpu": (8, 25)}
"""Of networks with activations, and of linear ones."""
_EXAMPLES: Mapping[Scale, int] = {"tiny": 32, "cpu": 256}
_NETWORKS = {"relu": ("ReLU", "kaiming"), "tanh": ("tanh", "xavier")}
_NORMS = {
    "plain": ("no normalization", "none"),
    "bn": ("batch normalization", "batch_norm"),
    "noisy": ("noisy batch normalization", "noisy_batch_norm"),
    "noise": ("no normalization and the same noise", "noise"),
}


class CovariateShift:
    name = "covariate-shift"
    number = "C15"
    says = (
        "Batch normalization works because it reduces internal covariate shift, the change of the distribution of each "
        "layer's inputs while the layers before it learn. Asked are whether distributions hold still, whether "
        "gradients do, and, as a counter-claim, whether training works as well where noise moves distributions on "
        "purpose."
    )
    source = "arXiv 1502.03167, sections 1 and 4.1"
    literature: tuple[Source, ...] = (
        Source(
            "arXiv 1502.03167, figure 1",
            "Percentiles of one input of the last hidden layer are much more stable with batch normalization.",
            True,
            question="drift",
        ),
        Source(
            "arXiv 1805.11604, section 2.2",
            "By the change of gradients, shift is similar or larger with it; most so in deep linear networks.",
            False,
            question="gradient",
        ),
        Source(
            "arXiv 1805.11604, section 2.1",
            "Noise behind each normalization does no harm; the same noise keeps a plain network from training.",
            # The counter-claim is what is asked.
            True,
            question="cause",
        ),
    )

    def design(self, scale: Scale, seeds: int | None = None, overrides: Mapping[str, Any] | None = None) -> Design:
        if scale not in _STEPS:
            raise ScaleMissing(f"{self.name} has no design of scale {scale}: it needs CIFAR-10, for a VGG")
        n = seeds or (6 if scale == "tiny" else 10)
        return Design(
            claim=self.name,
            scale=scale,
            template=patched(_TEMPLATE, overrides),
            arms=(
                *(_ioffe(norm, scale) for norm in ("plain", "bn")),
                *(_deep(network, norm, scale) for network in _NETWORKS for norm in _NORMS),
                *(_linear(norm, scale) for norm in ("plain", "bn")),
            ),
            measures=(_FINAL, _drift(scale), _cosine(scale)),
            margins={
                "drift": Margin("superiority", math.log(1.2)),
                **{f"gradient-{network}": Margin("superiority", 0.05) for network in (*_NETWORKS, "linear")},
                **{f"cause-{network}-no-worse": Margin("equality", 0.01) for network in _NETWORKS},
                **{f"cause-{network}-better": Margin("superiority", 0.01) for network in _NETWORKS},
            },
            seeds=n,
            most=2 * n,
        )

    def next_step(self, design: Design, found: Results) -> Batch | tuple[Question, ...]:
        at = staged(design, found)
        if isinstance(at, Batch):
            return at
        return (
            _drifting(design, at),
            *(_gradient(design, at, network) for network in (*_NETWORKS, "linear")),
            *(_cause(design, at, network, against) for network in _NETWORKS for against in ("bn", "plain")),
        )


_TEMPLATE: dict[str, Any] = {"optimizer": {"kind": "sgd"}, "train": {"batch_size": 60}}


def _ioffe(norm: str, scale: Scale) -> Arm:
    """Figure 1's network on digits, with the learning rate in the middle of C1's grid."""
    steps, _ = _STEPS[scale]
    words, kind = _NORMS[norm]
    patch = {
        "data": {"kind": "digits"},
        "network": {
            "kind": "mlp",
            "hidden": [100] * 3,
            "activation": "sigmoid",
            "init": {"kind": "normal", "std": 0.1},
            "norm": {"kind": kind},
        },
        "optimizer": {"lr": 0.5},
        "train": {"steps": steps},
        **_looked_at(steps, _LOOKS[scale][0], scale),
    }
    return Arm(f"sigmoid-{norm}", f"{words} (sigmoid)", patch)


def _deep(network: str, norm: str, scale: Scale) -> Arm:
    _, steps = _STEPS[scale]
    activation, init = _NETWORKS[network]
    words, kind = _NORMS[norm]
    patch = {
        "data": {"kind": "digits"},
        "network": {
            "kind": "mlp",
            "hidden": [100] * _DEPTH[scale][0],
            "activation": network,
            "init": {"kind": init},
            "norm": {"kind": kind},
        },
        "optimizer": {"lr": 0.1},
        "train": {"steps": steps},
        # Gradients are asked of in the first two alone, and drawing the noise takes as long as all else.
        **_looked_at(steps, _LOOKS[scale][1] if norm in ("plain", "bn") else 0, scale),
    }
    return Arm(f"{network}-{norm}", f"{words} ({activation})", patch)


def _linear(norm: str, scale: Scale) -> Arm:
    """Matrices of 10 x 10, trained on the whole set at once, slowly: at ten times the rate both networks shift."""
    _, steps = _STEPS[scale]
    words, kind = _NORMS[norm]
    patch = {
        "data": {"kind": "santurkar_linear", "examples": 1000},
        "network": {
            "kind": "deep_linear",
            "depth": 25,
            "width": 10,
            "init": {"kind": "xavier"},
            "norm": {"kind": kind},
        },
        "optimizer": {"lr": 1e-4},
        "train": {"steps": steps, "batch_size": 1000},
        **_looked_at(steps, _LOOKS[scale][1], scale),
    }
    return Arm(f"linear-{norm}", f"{words} (linear)", patch)


def _looked_at(steps: int, looks: int, scale: Scale) -> dict[str, Any]:
    """At so many steps after the first, evenly, and before it; or never."""
    at = list(range(0, steps + 1, max(1, steps // looks))) if looks else []
    shift = [{"kind": "covariate_shift", "at": at, "examples": _EXAMPLES[scale]}] if looks else []
    return {
        "evaluation": {"every_steps": steps},
        "diagnostics": [*shift, {"kind": "norm_health", "enabled": False}],
    }


def _drift(scale: Scale) -> Within:
    """After the first tenth of training, between looks a fortieth of it apart."""
    steps, _ = _STEPS[scale]
    return Within(_DRIFT, steps // 10 + 1, steps)


def _cosine(scale: Scale) -> Within:
    _, steps = _STEPS[scale]
    return Within(_COSINE, 0, steps - 1)


def _drifting(design: Design, at: Confirmed) -> Evidence:
    estimand = Estimand(Metric(_drift(design.scale).name, higher_is_better=False), "log_ratio")
    bn, plain = Place("sigmoid-bn"), Place("sigmoid-plain")
    words = Words(
        "Does the distribution of the last hidden layer's inputs drift less with batch normalization?",
        "drift of the last hidden layer's inputs",
        design.arm(bn.arm).words,
        design.arm(plain.arm).words,
    )
    guards = (baseline_trains(at.runs, plain, _ACCURACY), treatment_trains(at.runs, bn, _ACCURACY))
    each = effects(estimand, at.runs, bn, plain, at.seeds)
    return Evidence("drift", words, estimand, design.margins["drift"], each, guards)


def _gradient(design: Design, at: Confirmed, network: str) -> Evidence:
    name = f"gradient-{network}"
    estimand = Estimand(Metric(_cosine(design.scale).name))
    bn, plain = Place(f"{network}-bn"), Place(f"{network}-plain")
    words = Words(
        "Do gradients change less with batch normalization when the layers before are updated?",
        "cosine of a gradient before and after",
        design.arm(bn.arm).words,
        design.arm(plain.arm).words,
    )
    # A regression has no accuracy, and at this learning rate is not trained to its end.
    guards = (
        ()
        if network == "linear"
        else (baseline_trains(at.runs, plain, _ACCURACY), treatment_trains(at.runs, bn, _ACCURACY))
    )
    each = effects(estimand, at.runs, bn, plain, at.seeds)
    return Evidence(name, words, estimand, design.margins[name], each, guards)


def _cause(design: Design, at: Confirmed, network: str, against: str) -> Evidence:
    """Of noisy batch normalization: as good as without the noise, and better than no normalization."""
    noisy, other, control = (Place(f"{network}-{norm}") for norm in ("noisy", against, "noise"))
    name = f"cause-{network}-{'no-worse' if against == 'bn' else 'better'}"
    estimand = Estimand(_ACCURACY)
    asked = "as well as without it" if against == "bn" else "better than a network without normalization"
    words = Words(
        f"With noise that shifts its distributions on purpose, does batch normalization train {asked}?",
        "test accuracy",
        design.arm(noisy.arm).words,
        design.arm(other.arm).words,
        "points",
        100.0,
    )
    guards = (
        baseline_trains(at.runs, other, _ACCURACY),
        treatment_trains(at.runs, noisy, _ACCURACY),
        control_fails(at.runs, control, _ACCURACY),
    )
    each = effects(estimand, at.runs, noisy, other, at.seeds)
    return Evidence(name, words, estimand, design.margins[name], each, guards)
