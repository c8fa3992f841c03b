"""C18, the counter-claim: batch normalization itself makes gradients explode with depth, in networks without skips."""

from collections.abc import Mapping
from typing import Any

from bncore.studies.claim import Arm, Batch, Design, Question, Scale, Source, patched
from bncore.studies.estimand import Estimand, effects
from bncore.studies.margin import Margin
from bncore.studies.measures import AtStep
from bncore.studies.results import Metric, Place, Results
from bncore.studies.stages import staged
from bncore.studies.verdict import Evidence, Words

_GROWTH = AtStep("diagnostics/gradient_norms/growth", 0)
_DEPTH: Mapping[Scale, int] = {"tiny": 8, "cpu": 20, "gpu": 50}
_SEEDS: Mapping[Scale, int] = {"tiny": 6, "cpu": 10, "gpu": 20}


class GradientsExplodeWithDepth:
    name = "gradients-explode-with-depth"
    number = "C18"
    says = (
        "Normalized networks pass gradients on without their growing or vanishing. Tested is the counter-claim: in a "
        "plain stack of layers with ReLU, gradients at initialization grow by about 1.2 per layer on the way back."
    )
    source = "arXiv 1502.03167, section 3.3"
    literature: tuple[Source, ...] = (
        Source(
            "arXiv 1902.08129",
            "Without skips the gradient's norm grows by sqrt(pi / (pi - 1)) = 1.21 a layer.",
            True,
            question="explodes",
        ),
        Source(
            "arXiv 1806.02375, section 3.3",
            "Without normalization activations and gradients grow with depth.",
            False,
            question="plain",
        ),
    )

    def design(self, scale: Scale, seeds: int | None = None, overrides: Mapping[str, Any] | None = None) -> Design:
        template = {
            "data": {"kind": "digits"},
            "network": {
                "kind": "mlp",
                "hidden": [100] * _DEPTH[scale],
                "activation": "relu",
                "init": {"kind": "kaiming"},
            },
            "train": {"steps": 1, "batch_size": 256},
            "diagnostics": [{"kind": "gradient_norms", "at": [_GROWTH.step], "examples": 256}],
        }
        n = seeds or _SEEDS[scale]
        return Design(
            claim=self.name,
            scale=scale,
            template=patched(template, overrides),
            arms=(
                Arm("plain", "no normalization", {"network": {"norm": {"kind": "none"}}}),
                Arm("bn", "batch normalization", {"network": {"norm": {"kind": "batch_norm"}}}),
            ),
            measures=(_GROWTH,),
            margins={
                "explodes": Margin("equality", 0.05, around=1.2),
                "plain": Margin("equality", 0.075, around=0.975),
            },
            seeds=n,
            most=2 * n,
        )

    def next_step(self, design: Design, found: Results) -> Batch | tuple[Question, ...]:
        """Both ranges are of claims.md, C18: [1.15, 1.25] with, [.9, 1.05] without."""
        at = staged(design, found)
        if isinstance(at, Batch):
            return at
        estimand = Estimand(Metric(_GROWTH.name, before_training=True), "value")
        asked = (
            (
                "explodes",
                "bn",
                "Does the gradient of a deep normalized network grow by 1.15 to 1.25 a layer?",
            ),
            ("plain", "plain", "Does it stay about the same without normalization?"),
        )
        return tuple(
            Evidence(
                name,
                Words(
                    question, "growth of the gradient per layer, backwards,", f"a network with {design.arm(arm).words}"
                ),
                estimand,
                design.margins[name],
                effects(estimand, at.runs, Place(arm), planned=at.seeds),
            )
            for name, arm, question in asked
        )
