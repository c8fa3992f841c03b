"""The diagnostic that every experiment has, unless it says otherwise."""

from typing import Any, ClassVar, Literal

from pydantic import Field

from bncore.spec.diagnostics.affordable import precise_examples
from bncore.spec.diagnostics.cadence import MOST_EXAMPLES, OnBatch

_STEPS, _TIMES = 1000, 100
"""Unless told otherwise: not more often than every so many steps, and not more than so many times."""


class NormHealthSpec(OnBatch):
    """How the normalizations are doing: gap between the statistics of a batch and the running ones, drift of these,
    channels that do not vary, clipped corrections of batch renorm, too few updates for the momentum; at the end the
    accuracy with running, batch and precise statistics. What is wrong is said in words. Runs unless it is switched off;
    of a short run it then leaves out what would take more than some percent of it, and says so.
    """

    usual: ClassVar[dict[str, Any]] = {}

    kind: Literal["norm_health"] = "norm_health"
    enabled: bool = Field(default=True, description="False switches it off.")
    examples: int | None = Field(
        default=None,
        ge=2,
        le=MOST_EXAMPLES,
        description="Of the training data, drawn once by the seed and never augmented; null, as many as are normalized "
        "together in training.",
    )

    full: bool | None = Field(
        default=None,
        description="Measure all of it, however short the run, with accuracies of all test data; false, only what "
        "takes a few percent of the steps done so far. null: true where every_steps or at is given, else false.",
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

    def measured_on(self, train_examples: int, batch_size: int) -> int:
        return super().measured_on(train_examples, self.examples or batch_size)

    def passes(self, weight_layers: int) -> float:  # noqa: ARG002
        return 2.0

    def accuracy_passes(self, total_steps: int, batch_size: int, test_examples: int) -> int:
        """Of an example each, at the end of a run for accuracies by statistics, where it is to measure all of it."""
        at_end = self.is_due_at_end or total_steps in (self.at or ())
        return precise_examples(total_steps * batch_size) + 2 * test_examples if at_end and self.is_full else 0

    @property
    def is_full(self) -> bool:
        """Whether all of it is measured, whatever it takes."""
        return not self._is_left_to_us if self.full is None else self.full

    @property
    def _is_left_to_us(self) -> bool:
        return self.every_steps is None and self.at is None
