"""C14: before training, a deep plain network says the same class of all images, and its gradients point one way.

Two questions of each architecture, since the second does not follow from the first: where outputs shrink with depth,
all images get the same class by a hair, and gradients are those of a uniform guess.
"""

from collections.abc import Mapping
from typing import Any

from bncore.studies.claim import Arm, Batch, Design, Question, Scale, Source, patched
from bncore.studies.estimand import Estimand, effects
from bncore.studies.margin import Margin
from bncore.studies.measures import AtStep
from bncore.studies.results import Metric, Place, Results
from bncore.studies.stages import Confirmed, staged
from bncore.studies.verdict import Evidence, Words

_SEEDS: Mapping[Scale, int] = {"tiny": 6, "cpu": 20, "gpu": 20}
_DEPTHS: Mapping[Scale, tuple[int, ...]] = {"tiny": (5, 10), "cpu": (5, 20, 50), "gpu": (5, 20, 50)}
_RESNET: Mapping[Scale, int] = {"tiny": 8, "cpu": 110, "gpu": 110}
_MARGINS = {"mode": Margin("superiority", 0.15), "colcons": Margin("superiority", 0.1)}
_QUANTITIES = {
    "mode": ("Does one class get more of the images", "share of the images that get the most predicted class"),
    "colcons": ("Do images agree more on the gradient of a class", "agreement of the images on each class's gradient"),
}
_MEASURES = {name: AtStep(f"diagnostics/gradient_heatmap/{name}", 0) for name in (*_MARGINS, "median_ratio")}


class OneClassAtInitialization:
    name = "one-class-at-initialization"
    number = "C14"
    says = (
        "At initialization a deep network without normalization predicts one class for nearly all images, and its "
        "gradients are highly correlated between images; with batch normalization both depend on the image."
    )
    source = "arXiv 1806.02375, section 3.3, figure 4 and table 1"
    literature: tuple[Source, ...] = (
        Source(
            "arXiv 1806.02375, figure 4",
            "The gradient by the outputs of a ResNet of 110 layers has one bright column without normalization.",
            True,
        ),
        Source(
            "arXiv 1806.02375, table 1",
            "Summed over a batch, gradients of plain layers cancel to half of their size; normalized ones to 2 %.",
            True,
        ),
    )

    def design(self, scale: Scale, seeds: int | None = None, overrides: Mapping[str, Any] | None = None) -> Design:
        n = seeds or _SEEDS[scale]
        networks = _networks(scale)
        return Design(
            claim=self.name,
            scale=scale,
            template=patched(_template(scale), overrides),
            arms=tuple(
                Arm(f"{name}-{arm}", f"{norm_words} ({words})", {"network": {**network, "norm": {"kind": norm}}})
                for name, (words, network) in networks.items()
                for arm, norm, norm_words in _NORMS
            ),
            measures=tuple(_MEASURES.values()),
            margins={f"{name}-{asked}": margin for name in networks for asked, margin in _MARGINS.items()},
            seeds=n,
            most=2 * n,
            pairs=tuple((f"{name}-bn", f"{name}-plain") for name in networks),
        )

    def next_step(self, design: Design, found: Results) -> Batch | tuple[Question, ...]:
        """No guards: nothing is trained."""
        at = staged(design, found)
        if isinstance(at, Batch):
            return at
        return tuple(_evidence(design, at, pair, asked) for pair in design.pairs for asked in _MARGINS)


_NORMS = (("plain", "none", "no normalization"), ("bn", "batch_norm", "batch normalization"))


def _template(scale: Scale) -> dict[str, Any]:
    return {
        "data": {"kind": "mnist5k" if scale == "gpu" else "digits"},
        "train": {"steps": 1, "batch_size": 32},
        "diagnostics": [
            {"kind": "gradient_heatmap", "at": [0], "examples": 128},
            {"kind": "norm_health", "enabled": False},
        ],
    }


def _networks(scale: Scale) -> dict[str, tuple[str, dict[str, Any]]]:
    """By name, in words and as a spec without its normalization."""
    networks: dict[str, tuple[str, dict[str, Any]]] = {
        f"mlp{depth}-{name}": (
            f"{depth} layers, {words} initialization",
            {"kind": "mlp", "hidden": [100] * depth, "activation": "relu", "init": {"kind": init}},
        )
        for depth in _DEPTHS[scale]
        for name, words, init in (("he", "He's", "kaiming"), ("glorot", "Glorot's", "xavier"))
    }
    resnet = {"kind": "resnet", "depth": _RESNET[scale], "init": {"kind": "kaiming"}}
    return {**networks, f"resnet{_RESNET[scale]}": (f"{_RESNET[scale]} layers with skips", resnet)}


def _evidence(design: Design, at: Confirmed, pair: tuple[str, str], asked: str) -> Evidence:
    """Lower with batch normalization is what is claimed."""
    bn, plain = pair
    estimand = Estimand(Metric(_MEASURES[asked].name, higher_is_better=False, before_training=True))
    question, quantity = _QUANTITIES[asked]
    name = f"{plain.removesuffix('-plain')}-{asked}"
    words = Words(
        f"{question} with {design.arm(plain).words} than with batch normalization?",
        quantity,
        design.arm(bn).words,
        design.arm(plain).words,
    )
    each = effects(estimand, at.runs, Place(bn), Place(plain), at.seeds)
    return Evidence(name, words, estimand, design.margins[name], each)
