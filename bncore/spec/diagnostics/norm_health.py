"""The diagnostic that every experiment has, unless it says otherwise."""

from typing import Any, ClassVar, Literal, get_args

from pydantic import Field

from bncore.spec.budget import Statistics
from bncore.spec.diagnostics.cadence import MOST_EXAMPLES, OnBatch
from bncore.spec.diagnostics.sighted import Sighted

_STEPS, _TIMES = 1000, 100
"""Unless told otherwise: not more often than every so many steps, and not more than so many times."""
_DRIFTS = frozenset({"mean_drift", "variance_drift"})
"""Since the time before."""


class NormHealthSpec(OnBatch):
    """How the normalizations are doing: gap between the statistics of a batch and the running ones, drift of these,
    channels that do not vary, clipped corrections of batch renorm, too few updates for the momentum; at the end the
    accuracy with running, batch and precise statistics. What is wrong is said in words. Runs unless it is switched off.
    """

    usual: ClassVar[dict[str, Any]] = {}

    greatest: ClassVar[tuple[str, ...]] = (
        *("gap", "mean_gap", "variance_gap", "mean_drift", "variance_drift", "dead", "non_finite"),
        *("clipped_r", "clipped_d"),
    )
    """Of what the greatest of all layers is a scalar, `max_<name>`, where any has it."""

    kind: Literal["norm_health"] = "norm_health"
    enabled: bool = Field(default=True, description="False switches it off.")
    examples: int | None = Field(
        default=None,
        ge=2,
        le=MOST_EXAMPLES,
        description="Of the training data, drawn once by the seed and never augmented; null, as many as are normalized "
        "together in training.",
    )

    def is_due(self, step: int, total_steps: int) -> bool:
        if not self.enabled or (step == 0 and self._is_left_to_us):
            # Running statistics are initial values then.
            return False
        return super().is_due(step, total_steps)

    @property
    def is_due_at_end(self) -> bool:
        return self.enabled and super().is_due_at_end

    def interval(self, total_steps: int) -> int:
        if self._is_left_to_us:
            return max(_STEPS, -(-total_steps // _TIMES))
        return super().interval(total_steps)

    def measurements(self, total_steps: int) -> int:
        if not self.enabled:
            return 0
        return super().measurements(total_steps) - self._is_left_to_us

    def found_in(self, sighted: Sighted) -> tuple[str, ...]:
        there = {name for norm in sighted.norms for name in norm.health}
        if len(sighted.moments) < 2:
            there -= _DRIFTS
        greatest = [f"max_{name}" for name in self.greatest if name in there]
        keeps_statistics = any(norm.has_running_statistics for norm in sighted.norms)
        told = sighted.is_at_end and sighted.has_accuracy and keeps_statistics
        accuracies = [f"accuracy_{name}" for name in get_args(Statistics)] if told else []
        return (*greatest, "layers", *accuracies, "warnings")

    def measured_on(self, train_examples: int, batch_size: int) -> int:
        return super().measured_on(train_examples, self.examples or batch_size)

    def passes(self, weight_layers: int) -> float:  # noqa: ARG002
        return 2.0

    @property
    def _is_left_to_us(self) -> bool:
        return self.every_steps is None and self.at is None
