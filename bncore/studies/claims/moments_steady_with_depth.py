"""C13: normalized, the variance of activations stays with depth; without, it grows exponentially.

Asked of each architecture by itself: whether a plain network grows, stays or decays is a matter of how it is built and
how its weights are drawn.
"""

from collections.abc import Mapping
from typing import Any

from bncore.studies.claim import Arm, Batch, Design, Question, Scale, Source, patched
from bncore.studies.estimand import Estimand, effects
from bncore.studies.margin import Margin
from bncore.studies.measures import AtStep
from bncore.studies.results import Metric, Place, Results
from bncore.studies.stages import staged
from bncore.studies.verdict import Evidence, Words

_SLOPE = AtStep("diagnostics/activation_moments/slope", 0)
_SEEDS: Mapping[Scale, int] = {"tiny": 6, "cpu": 10, "gpu": 20}
_DEPTH: Mapping[Scale, int] = {"tiny": 8, "cpu": 20, "gpu": 50}
_RESNET: Mapping[Scale, int] = {"tiny": 14, "cpu": 56, "gpu": 110}


class MomentsSteadyWithDepth:
    name = "moments-steady-with-depth"
    number = "C13"
    says = (
        "At initialization, means and variances of a normalized network's activations are about the same in all "
        "layers; without normalization they grow exponentially with depth."
    )
    source = "arXiv 1806.02375, section 3.2"
    literature: tuple[Source, ...] = (
        Source(
            "arXiv 1806.02375, section 3.2",
            "In a ResNet of 110 layers variances stay with batch normalization, and grow exponentially without.",
            True,
        ),
        Source(
            "arXiv 1502.01852, section 2.2",
            "Weights drawn for ReLU keep the variance of a plain stack of layers as it is; Glorot's let it decay.",
            False,
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
                Arm(f"{name}-{arm}", f"{words} and {norm_words}", {"network": {**network, "norm": {"kind": norm}}})
                for name, (words, network) in networks.items()
                for arm, norm, norm_words in _NORMS
            ),
            measures=(_SLOPE,),
            margins={
                f"{name}-{arm}": Margin("equality", 0.01) if arm == "bn" else Margin("superiority", 0.05)
                for name in networks
                for arm, *_ in _NORMS
            },
            seeds=n,
            most=2 * n,
        )

    def next_step(self, design: Design, found: Results) -> Batch | tuple[Question, ...]:
        """No guards: nothing is trained."""
        at = staged(design, found)
        if isinstance(at, Batch):
            return at
        estimand = Estimand(Metric(_SLOPE.name, before_training=True), "value")
        return tuple(
            Evidence(
                arm.name,
                Words(_question(arm), "change of log10 of the variance per layer", f"a network with {arm.words}"),
                estimand,
                design.margins[arm.name],
                effects(estimand, at.runs, Place(arm.name), planned=at.seeds),
            )
            for arm in design.arms
        )


_NORMS = (("plain", "none", "no normalization"), ("bn", "batch_norm", "batch normalization"))


def _template(scale: Scale) -> dict[str, Any]:
    return {
        "data": {"kind": "mnist5k" if scale == "gpu" else "digits"},
        "train": {"steps": 1, "batch_size": 32},
        "diagnostics": [
            {"kind": "activation_moments", "at": [_SLOPE.step], "examples": 256},
            {"kind": "norm_health", "enabled": False},
        ],
    }


def _networks(scale: Scale) -> dict[str, tuple[str, dict[str, Any]]]:
    """By name, in words and as a spec without its normalization."""
    mlp = {"kind": "mlp", "hidden": [100] * _DEPTH[scale], "activation": "relu"}
    resnet = {"kind": "resnet", "depth": _RESNET[scale], "init": {"kind": "kaiming"}}
    layers = f"{_DEPTH[scale]} layers of ReLU"
    return {
        "mlp-he": (f"{layers}, He's initialization", {**mlp, "init": {"kind": "kaiming"}}),
        "mlp-glorot": (f"{layers}, Glorot's initialization", {**mlp, "init": {"kind": "xavier"}}),
        "resnet": (f"{_RESNET[scale]} layers with skips", resnet),
    }


def _question(arm: Arm) -> str:
    if arm.name.endswith("-bn"):
        return f"Does the variance stay the same with depth, with {arm.words}?"
    return f"Does the variance grow exponentially with depth, with {arm.words}?"
