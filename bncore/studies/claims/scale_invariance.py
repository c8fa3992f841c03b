"""C5: the scale of weights in front of a batch normalization makes no difference.

Exact theory: f(aW, a^2 eps) = f(W, eps), so that outputs and gradients agree to the last digit with eps 0 and with eps
scaled along. That the gradient is orthogonal to the weights follows for eps 0 alone: by Euler's theorem
<W, df/dW> = -2 eps df/d(eps). With eps as trained all errors are of the order of eps / variance, and are measured
without being asked about.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from bncore.studies.claim import Arm, Batch, Design, Question, Scale, Source, patched
from bncore.studies.guards import all_measured
from bncore.studies.measures import AtStep
from bncore.studies.results import Place, Results
from bncore.studies.stages import staged
from bncore.studies.verdict import Exact, Words

LIMIT = 1e-9
_ERRORS = ("output_error", "gradient_error", "input_gradient_error", "orthogonality")
_EPS = ("eps_zero", "eps_scaled", "as_trained")
_EXACT = tuple((error, "eps_zero") for error in _ERRORS) + tuple((error, "eps_scaled") for error in _ERRORS[:3])


def _measure(error: str, eps: str) -> AtStep:
    return AtStep(f"diagnostics/scale_invariance/max_{error}_{eps}", 0)


class ScaleInvariance:
    name = "scale-invariance"
    number = "C5"
    says = (
        "Multiplying the weights in front of a batch normalization by a changes neither its output nor the gradient "
        "that it passes back, and divides the gradient of the weights by a."
    )
    source = "arXiv 1502.03167, section 3.3"
    literature: tuple[Source, ...] = (
        Source(
            "arXiv 1706.05350", "Follows exactly, and makes weight decay a matter of the effective learning rate.", True
        ),
    )

    def design(self, scale: Scale, seeds: int | None = None, overrides: Mapping[str, Any] | None = None) -> Design:
        template = {
            "data": {"kind": "digits"},
            "network": {
                "kind": "mlp",
                "hidden": [100, 100, 100],
                "norm": {"kind": "batch_norm"},
                "init": {"kind": "normal", "std": 0.1},
            },
            "train": {"steps": 1},
            "diagnostics": [
                {"kind": "scale_invariance", "at": [0], "factors": [1e-3, 1e-2, 0.1, 10.0, 100.0, 1e3, 1e4]}
            ],
        }
        n = seeds or 1
        return Design(
            claim=self.name,
            scale=scale,
            template=patched(template, overrides),
            arms=(Arm("bn", "batch normalization"),),
            measures=tuple(_measure(error, eps) for error in _ERRORS for eps in _EPS),
            margins={},
            seeds=n,
            most=n,
        )

    def next_step(self, design: Design, found: Results) -> Batch | tuple[Question, ...]:
        at = staged(design, found)
        if isinstance(at, Batch):
            return at
        runs = at.runs.at(Place("bn"))
        names = {f"{error}, {eps}": _measure(error, eps).name for error, eps in _EXACT}
        guard = all_measured(at.runs, Place("bn"), design.seeds, tuple(names.values()))
        values = (
            {said: [run.metrics[key] for run in runs.values()] for said, key in names.items()} if guard.passed else {}
        )
        words = Words(
            "Is batch normalization invariant to the scale of weights before it?", "error", "batch normalization"
        )
        # NaN is the worst of all, and max would hide it.
        worst = {said: float(np.max(np.abs(np.array(each, dtype=float)))) for said, each in values.items()}
        return (Exact("invariant", words, worst, LIMIT, (guard,)),)
